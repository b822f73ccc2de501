"""What is refused of PostgreSQL and of Redis, each in its own words."""

from __future__ import annotations

import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

import reperio
from reperio import InvalidInput, OriginNotFound, OriginRefused, OriginUnavailable

from .contents import D, add
from .redis_server import Redis, running_redis
from .servers import Postgres


def test_a_function_that_raises_is_told_without_what_it_says(tmp_path: Path) -> None:
    """That may have the password; it is the cause of the error."""

    def address() -> str:
        raise ValueError("secret")

    with pytest.raises(InvalidInput, match=r"has raised ValueError$") as caught:
        reperio.open(tmp_path / "kb", origin=address)
    assert isinstance(caught.value.__cause__, ValueError)


def test_addresses_that_are_none_are_refused(tmp_path: Path, postgres: Postgres) -> None:
    """With the form that an address has, and never with a password."""
    cases: list[tuple[Any, type[Exception], str]] = [
        ("mysql://user:secret@h/db?collection=a", InvalidInput, "postgresql://user@host"),
        ("kb", InvalidInput, "postgresql://user@host"),
        (7, InvalidInput, "the origin is int"),
        ("postgresql://user:secret@h/db", InvalidInput, r"add \?collection=NAME"),
        ("postgresql://user:se#secret@h/db?collection=x", InvalidInput, "percent-encode user and password"),
        ("postgresql://user:se/secret@h/db?collection=x", InvalidInput, "percent-encode user and password"),
        ("postgresql://user:se?secret@h/db?collection=x", InvalidInput, "percent-encode user and password"),
        ("postgresql://user:se@secret@h/db?collection=x", InvalidInput, "percent-encode user and password"),
        ("postgresql://user:se%secret@h/db?collection=x", OriginRefused, "percent-encode user and password"),
        ("host=db password=secret", InvalidInput, "a text that is no URL"),
        ("postgresql://u@127.0.0.1:99999/db?collection=a", OriginRefused, "check the URL"),
        (postgres.url("x", database="nothere"), OriginRefused, "check the name of the database"),
        (postgres.url("x", user="nobody-here"), OriginRefused, "role"),
        (postgres.url("x", sslmode="silly"), OriginRefused, "sslmode"),
        (postgres.url("x", nonsense="1"), OriginRefused, "check the options|invalid"),
        (postgres.url("x"), OriginNotFound, "reperio origin create"),
        ("postgresql://u:secret@127.0.0.1:1/db?collection=a", OriginUnavailable, "u@127.0.0.1:1"),
    ]
    for address, kind, told in cases:
        with pytest.raises(kind, match=told) as caught:
            reperio.open(tmp_path / "kb", origin=address, lock_timeout=2)
        assert "secret" not in "".join(traceback.format_exception(caught.value))
        assert not (tmp_path / "kb").exists()


def test_a_role_that_may_only_read_can_follow_and_not_write(tmp_path: Path, postgres: Postgres) -> None:
    """Its writes are refused with the cure, and leave both sides as they were."""
    made = postgres.url("read-only")
    with reperio.open(tmp_path / "first", dimension=D) as kb:
        add(kb, list(range(20)))
    reperio.create_origin(made, tmp_path / "first")
    postgres.execute("DROP ROLE IF EXISTS reader")
    postgres.execute("CREATE ROLE reader LOGIN")
    postgres.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
    reading = made.replace("tester@", "reader@")
    with reperio.open(tmp_path / "r", origin=reading, follow=0) as kb:
        assert kb.count() == 20
        with pytest.raises(OriginRefused, match="needs SELECT, INSERT, UPDATE and DELETE"):
            add(kb, [1], version=3)
        assert kb.get("c1").metadata["version"] == 0  # type: ignore[union-attr]
        kb.pull()
        assert kb.check().ok
    postgres.execute("DROP OWNED BY reader")
    postgres.execute("DROP ROLE reader")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (("--appendonly", "no"), "appendonly no"),
        (("--appendonly", "yes", "--appendfsync", "everysec"), "set appendonly yes and appendfsync always"),
        (
            ("--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "allkeys-lru"),
            "set it to noeviction",
        ),
        (("--appendonly", "yes", "--appendfsync", "always", "--requirepass", "secret"), "give user and password"),
    ],
)
def test_a_redis_that_may_lose_something_is_refused(settings: tuple[str, ...], told: str, tmp_path: Path) -> None:
    """By the name of its setting; one with a password is used with it."""
    reperio.open(tmp_path / "kb", dimension=D).close()
    with running_redis(*settings) as server:
        with pytest.raises(OriginRefused, match=told):
            reperio.create_origin(server.url("a"), tmp_path / "kb")
        with pytest.raises(OriginRefused, match="check user and password|" + told):
            reperio.create_origin(server.url("a", password="wrong"), tmp_path / "kb")
        if "secret" in settings:
            assert reperio.create_origin(server.url("a", password="secret"), tmp_path / "kb").commit == 1


def test_addresses_of_no_redis_are_refused(tmp_path: Path, redis: Redis) -> None:
    """With the form that an address has, and never with a password."""
    cases: list[tuple[Any, type[Exception], str]] = [
        ("redis://:secret@127.0.0.1:1?collection=a", OriginUnavailable, "127.0.0.1:1"),
        ("redis://:secret@127.0.0.1:6379/0", InvalidInput, r"add \?collection=NAME"),
        (redis.url("x"), OriginNotFound, "reperio origin create"),
        (redis.url("x", db="999"), OriginRefused, "check the number of the database"),
    ]
    for address, kind, told in cases:
        with pytest.raises(kind, match=told) as caught:
            reperio.open(tmp_path / "kb", origin=address, lock_timeout=2)
        assert "secret" not in str(caught.value)
        assert not (tmp_path / "kb").exists()


@pytest.mark.parametrize(
    ("url", "module"), [("postgresql://h/d?collection=a", "psycopg"), ("redis://h?collection=a", "redis")]
)
def test_a_missing_driver_is_named_with_its_command(url: str, module: str, tmp_path: Path) -> None:
    """And nothing is created."""
    program = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "import reperio\n"
        f"try: reperio.open({str(tmp_path / 'kb')!r}, origin={url!r})\n"
        "except reperio.MissingDependency as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    extra = {"psycopg": "postgres", "redis": "redis"}[module]
    assert f"pip install 'reperio[{extra}]'" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE reperio_chunks SET source = 'no json' WHERE id = 'c3'", "chunk 'c3'"),
        ("UPDATE reperio_chunks SET source = '[1]' WHERE id = 'c3'", "chunk 'c3'"),
        (
            "UPDATE reperio_chunks SET vector = decode(repeat('0000c07f', 8), 'hex') WHERE id = 'c3'",
            "the vector of chunk 'c3'",
        ),
        ("UPDATE reperio_chunks SET vector = '' WHERE id = 'c3'", "do not have 8 values"),
        ("UPDATE reperio_records SET value = 'no json'", "record 'a'"),
        ("UPDATE reperio_records SET put_at = 'NaN'", "record 'a'"),
        ("UPDATE reperio_records SET space = 'space' || chr(1), value = '{'", "record 'a'"),
        ("UPDATE reperio_collections SET settings = '{\"dimension\": 99999999}'", "its settings cannot be read"),
        ("UPDATE reperio_collections SET format = 2", "made by a newer Reperio"),
    ],
)
def test_what_others_have_written_into_the_tables_is_refused_by_name(
    statement: str, told: str, tmp_path: Path, postgres: Postgres
) -> None:
    """And nothing of it is stored."""
    url = postgres.url(f"strange-{abs(hash(statement))}")
    with reperio.open(tmp_path / "first", dimension=D) as kb:
        add(kb, list(range(20)))
        kb.records("space").put(["a"])
    reperio.create_origin(url, tmp_path / "first")
    name = url.partition("collection=")[2]
    ours = "(SELECT collection FROM reperio_collections WHERE name = %s)"
    postgres.execute(f"{statement} {'AND' if 'WHERE' in statement else 'WHERE'} collection = {ours}", name)
    with pytest.raises(OriginRefused, match=told):
        reperio.open(tmp_path / "second", origin=url)
    with pytest.raises((reperio.CollectionDamaged, reperio.CollectionNotFound)):  # it is cloned whole, or not at all
        reperio.open(tmp_path / "second", read_only=True)
    assert reperio.open(tmp_path / "first", read_only=True).check().ok

"""What an origin keeps and tells, whichever server has it, and what only Redis does."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reperio import OriginDiverged, OriginNotFound, OriginRefused, OriginUnavailable, StorageFailed
from reperio.origins import Change, ForgottenRecord, Origin, Position, connect, create, new_token
from reperio.store import Entry, NewChunk, Outdated
from tests.limits import file_size_limit

from .conftest import Server
from .redis_server import Redis, running_redis
from .test_connections import through

DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


def settings(dimension: int = 4, dtype: str = "float32") -> dict[str, Any]:
    """Return what an origin reads of a collection's settings."""
    return {"dimension": dimension, "dtype": dtype}


def made(url: str, dimension: int = 4, dtype: str = "float32") -> tuple[Origin, Position]:
    """Make an empty origin."""
    start = Position(new_token(), 0, new_token())
    return create(url, settings(dimension, dtype), start, timeout=10), start


def change(ids: list[str], value: float = 1.0, **more: Any) -> Change:
    """Return a change that puts chunks of four dimensions."""
    chunks = [NewChunk(one, f"text of {one} {value}", "{}") for one in ids]
    return Change(chunks, np.full((len(ids), 4), value, np.float32), **more)


def put(origin: Origin, at: Position, what: Change) -> Position:
    """Make a commit, and return the position after it."""
    to = at.next()
    origin.append(what, at, to)
    return to


def told(origin: Origin, after: Position) -> dict[str, Any]:
    """Return all that has changed since a position, and require that numbers never fall."""
    with origin.changes(after) as pulled:
        blocks = list(pulled.blocks())
        assert [block.number for block in blocks] == sorted(block.number for block in blocks)
        chunks = {
            chunk.id: (chunk.text, chunk.metadata, vector.tobytes())
            for block in blocks
            for chunk, vector in zip(block.chunks, block.vectors, strict=True)
        }
        assert len(chunks) == pulled.chunks == sum(len(block.chunks) for block in blocks)
        return {
            "state": pulled.state,
            "deleted": sorted(one for ids in pulled.deleted() for one in ids),
            "forgotten": sorted(one for names in pulled.forgotten() for one in names),
            "records": sorted((one for entries in pulled.records() for one in entries), key=repr),
            "chunks": chunks,
        }


# ── whichever server has it ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("dimension", "dtype"), [(4, "float16"), (10_000, "float32"), (1, "float32")])
def test_any_chunk_comes_back_to_the_bit(dimension: int, dtype: str, url: str) -> None:
    """NUL, no text, no metadata, half precision, very many dimensions."""
    origin, start = made(url, dimension, dtype)
    ids = ["\0", "", "a\0b", "{}", "reperio:{x}:", "ü" * 700, "7", "7.0", "\n"]
    chunks = [NewChunk(one, "" if number % 2 else f"\0{one}", "{}") for number, one in enumerate(ids)]
    chunks.append(NewChunk("nested", "x" * 300_000, '{"a\\u0000":[1e16,-0.0,null,{"b":"\\u0000"}]}'))
    vectors = np.random.default_rng(0).standard_normal((len(chunks), dimension)).astype(dtype)
    position = put(origin, start, Change(chunks, vectors))
    found = told(origin, start)
    assert found["state"].position == position
    assert found["state"].chunks == len(chunks)
    expected = {
        chunk.id: (chunk.text, chunk.metadata, row.tobytes()) for chunk, row in zip(chunks, vectors, strict=True)
    }
    assert found["chunks"] == expected
    origin.close()


def test_any_record_comes_back_and_goes(url: str) -> None:
    """Without a value, without a group, before 1970, and many of them."""
    origin, start = made(url)
    entries = [
        Entry("", "space", "a\u2028", None, None, 0.0),
        Entry('{"tenant":1}', "s", "b", '{"x":["\\u0000",null]}', "g", -5.5),
        Entry("", "s", "b", "null", "", 1764380000.123456),
        *(Entry("", "many", f"{number:05}", str(number), None, float(number)) for number in range(3000)),
    ]
    first = put(origin, start, Change(records=entries))
    assert told(origin, start)["records"] == sorted(entries, key=repr)
    gone = [ForgottenRecord(*entry[:3]) for entry in entries[1:2001]]
    second = put(origin, first, Change(forgotten=gone))
    put(origin, second, Change(records=entries[1:2]))
    found = told(origin, first)
    assert found["records"] == entries[1:2]
    assert found["forgotten"] == sorted(gone[1:])
    assert told(origin, start)["forgotten"] == []
    origin.close()


def test_what_is_told_is_what_has_changed_since(url: str) -> None:
    """A chunk that went and came back is put; one that came and went is deleted; both in one commit is put."""
    origin, start = made(url)
    first = put(origin, start, change(["a", "b", "c", "d"]))
    second = put(origin, first, Change(deleted=["a", "b", "c"]))
    third = put(origin, second, change(["b", "d"], 3.0, replaced=["d"]))
    fourth = put(origin, third, change(["d"], 4.0, deleted=["d"]))
    assert sorted(told(origin, start)["chunks"]) == ["b", "d"]
    found = told(origin, first)
    assert {key: one[0] for key, one in found["chunks"].items()} == {"b": "text of b 3.0", "d": "text of d 4.0"}
    assert {"a", "c"} <= {*found["deleted"]}
    assert sorted(told(origin, third)["chunks"]) == ["d"]
    assert told(origin, fourth)["chunks"] == {}
    assert origin.state().chunks == 2
    origin.close()


def test_a_commit_is_made_once_and_only_after_the_state_it_was_made_with(url: str) -> None:
    """The same again changes nothing, also later; another one after the same state is refused."""
    origin, start = made(url)
    to = start.next()
    origin.append(change(["a"]), start, to)
    origin.append(change(["a"]), start, to)
    later = put(origin, to, change(["b"]))
    origin.append(change(["a"]), start, to)
    assert origin.state().position == later
    assert origin.state().chunks == 2
    with pytest.raises(Outdated):
        origin.append(change(["c"]), start, start.next())
    with pytest.raises(OriginDiverged, match="set back to an older state"):
        origin.append(change(["c"]), later.next(), later.next().next())
    with pytest.raises(OriginDiverged, match="another origin"):
        origin.append(change(["c"]), later._replace(origin=new_token()), later.next())
    with pytest.raises(OriginDiverged), origin.changes(later._replace(token=new_token())):
        pass
    assert sorted(told(origin, start)["chunks"]) == ["a", "b"]
    origin.close()


@contextmanager
def writing(url: str, at: Position, *, until: threading.Event) -> Iterator[list[dict[str, float]]]:
    """Commit without a pause in a thread, and yield the states that were made, by their numbers."""
    states: list[dict[str, float]] = [{}]

    def write() -> None:
        origin, position = connect(url, timeout=60), at
        while not until.is_set():
            number = position.number + 1
            ids = [f"c{(number * 7 + k) % 60}" for k in range(3)]
            gone = [key for key in (f"c{number * 11 % 60}",) if key in states[-1] and key not in ids]
            state = {key: value for key, value in states[-1].items() if key not in gone}
            replaced = [key for key in ids if key in state]
            states.append(state | dict.fromkeys(ids, float(number)))
            position = put(origin, position, change(ids, float(number), replaced=replaced, deleted=gone))
        origin.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield states
    finally:
        until.set()
        writer.join()


def test_what_is_told_amid_commits_is_one_state(server: Server, url: str) -> None:
    """Over a slow connection, while another host never stops to commit: no commit is half told, and an end is found."""
    maker, start = made(url)
    over = threading.Event()
    with (
        through(server, url, seed=0, most=None, delay=0.01) as (_, slow),
        writing(url, start, until=over) as states,
    ):
        origin = connect(slow, timeout=5)
        known: dict[str, float] = {}
        position = start
        for _ in range(10):
            before = len(states)
            found = told(origin, position)
            known = {key: value for key, value in known.items() if key not in found["deleted"]}
            known |= {key: float(np.frombuffer(one[2], "<f4")[0]) for key, one in found["chunks"].items()}
            position = found["state"].position
            assert known == states[position.number]
            assert position.number >= before - 2
            assert found["state"].chunks == len(known)
        origin.close()
    assert sorted(told(maker, start)["chunks"]) == sorted(states[maker.state().position.number])
    maker.close()


# ── only Redis ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_server_that_may_lose_something_stays_refused() -> None:
    """Not only the first time, and also where it came back with other settings behind a connection that was kept."""
    with running_redis() as server:
        origin, start = made(server.url("a"))
        first = put(origin, start, change(["a"]))
        server.stop()
        server._settings = ("--appendonly", "yes", "--appendfsync", "everysec")
        server.start()
        for _ in range(3):
            with pytest.raises(OriginRefused, match="appendfsync everysec"):
                origin.append(change(["b"]), first, first.next())
            with pytest.raises(OriginRefused, match="appendfsync everysec"):
                origin.state()
        server.stop()
        server._settings = DURABLE
        server.start()
        assert origin.state().position == first
        put(origin, first, change(["b"]))
        origin.close()


def test_a_user_with_few_rights_is_enough_or_told_what_lacks() -> None:
    """Commands on its keys and its channel, and CONFIG GET; else the message names that."""
    with running_redis() as server:
        made(server.url("a"))[0].close()
        rights = ["on", ">secret", "~reperio:*", "resetchannels", "&reperio:*", "+@all", "-@admin", "-@dangerous"]
        server.client().execute_command("ACL", "SETUSER", "app", *rights)
        with pytest.raises(OriginRefused, match=r"CONFIG GET") as caught:
            connect(server.url("a", username="app", password="secret"), timeout=5).state()
        assert "secret" not in str(caught.value)
        server.client().execute_command("ACL", "SETUSER", "app", "+config|get")
        origin = connect(server.url("a", username="app", password="secret"), timeout=5)
        put(origin, origin.state().position, change(["a"]))
        origin.wait(0.01, None)
        origin.close()
        first = origin.state().position
        for lacking in (["-@write"], ["+@write", "-zadd"], ["+@write", "-zrem"], ["+@write", "resetchannels"]):
            server.client().execute_command("ACL", "SETUSER", "app", *lacking)
            with pytest.raises(OriginRefused, match="needs all commands"):
                put(origin, first, change(["a", "b"], 2.0, replaced=["a"]))
            assert origin.state().position == first
            assert server.client().hlen("reperio:{a}:chunks") == 1
        origin.close()


def test_a_server_without_memory_refuses_and_changes_nothing() -> None:
    """By its name, with the cure; deletions, which need none, go on."""
    with running_redis(*DURABLE, "--maxmemory-policy", "noeviction") as server:
        origin, start = made(server.url("a"))
        first = put(origin, start, change(["a", "b"]))
        server.client().config_set("maxmemory", "100kb")
        with pytest.raises(OriginRefused, match="raise maxmemory"):
            put(origin, first, change(["a", "c"], 2.0, replaced=["a"]))
        assert origin.state().position == first
        assert sorted(told(origin, start)["chunks"]) == ["a", "b"]
        server.client().config_set("maxmemory", "0")
        put(origin, first, Change(deleted=["a"]))
        origin.close()


def test_a_replica_of_redis_is_refused() -> None:
    """Also one that became a replica after the connection was made: nothing is written there."""
    with running_redis() as server:
        origin, start = made(server.url("a"))
        server.client().replicaof("127.0.0.1", "1")
        with pytest.raises(OriginRefused, match="connect to the primary"):
            put(origin, start, change(["a"]))
        origin.close()
        with pytest.raises(OriginRefused, match="connect to the primary"):
            connect(server.url("a"), timeout=5).state()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nonsense": "1"}, "check the options"),
        ({"db": "seven"}, "check the options"),
        ({"protocol": "9"}, "protocol|options"),
    ],
)
def test_options_that_are_none_are_refused(options: dict[str, str], message: str, redis: Redis) -> None:
    """In the URL, by name."""
    with pytest.raises(OriginRefused, match=message):
        connect(redis.url("a", **options), timeout=5).state()


@pytest.mark.parametrize("options", [{"decode_responses": "yes"}, {"protocol": "3"}, {"protocol": "2"}])
def test_options_of_the_driver_change_no_answer(options: dict[str, str], redis: Redis) -> None:
    """Whatever the URL asks the driver for, bytes stay bytes."""
    name = f"options-{'-'.join([*options, *options.values()])}"
    origin, start = made(redis.url(name, **options))
    put(origin, start, change(["a"], records=[Entry("", "s", "k", "1", None, 1.0)]))
    found = told(origin, start)
    assert list(found["chunks"]) == ["a"]
    assert len(found["records"]) == 1
    origin.close()


def test_a_cluster_keeps_a_collection_in_one_place() -> None:
    """Whatever its name; a node that has another part of the keys says so."""
    with running_redis(*DURABLE, "--cluster-enabled", "yes") as server:
        client = server.client()
        with pytest.raises(OriginUnavailable, match="slot not served"):
            connect(server.url("a"), timeout=5).state()
        client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
        until = time.monotonic() + 60
        while client.cluster("info")["cluster_state"] != "ok":
            assert time.monotonic() < until
            time.sleep(0.05)
        for name in ("a", "%7Da", "a%7Db", "%7Ba%7D", "%7B%7D"):
            origin, start = made(server.url(name))
            put(origin, start, change(["a"]))
            assert list(told(origin, start)["chunks"]) == ["a"]
            origin.close()


def test_a_file_of_the_server_that_was_set_back_is_noticed(tmp_path: Path) -> None:
    """Its directory is copied back as it was, as from a snapshot of a disk; also when it has gone on since."""
    with running_redis() as server:
        origin, start = made(server.url("a"))
        first = put(origin, start, change(["a"]))
        saved = tmp_path / "saved"
        shutil.copytree(server.folder, saved, ignore=shutil.ignore_patterns("socket"))
        second = put(origin, first, change(["b"]))
        server.stop()
        for one in server.folder.iterdir():
            shutil.rmtree(one) if one.is_dir() else one.unlink()
        shutil.copytree(saved, server.folder, dirs_exist_ok=True)
        server.start()
        with pytest.raises(OriginDiverged, match="set back to an older state"), origin.changes(second):
            pass
        other = put(origin, first, change(["c"]))
        assert other.number == second.number
        with pytest.raises(OriginDiverged), origin.changes(second):
            pass
        assert sorted(told(origin, first)["chunks"]) == ["c"]
        server.client().flushall()
        with pytest.raises(OriginNotFound):
            origin.append(change(["d"]), other, other.next())
        origin.close()


def test_a_server_that_forgets_its_scripts_is_told_them_again(redis: Redis) -> None:
    """As after a restart."""
    origin, start = made(redis.url("scripts"))
    first = put(origin, start, change(["a"]))
    redis.client().script_flush()
    put(origin, first, change(["b"]))
    redis.client().script_flush()
    assert sorted(told(origin, start)["chunks"]) == ["a", "b"]
    origin.close()


def test_a_commit_may_be_large(redis: Redis) -> None:
    """More arguments than a function of Lua takes, in one commit, in one state."""
    origin, start = made(redis.url("large"))
    ids = [f"c{number}" for number in range(20_000)]
    first = put(origin, start, change(ids))
    second = put(origin, first, Change(deleted=ids[:15_000]))
    assert len(told(origin, start)["chunks"]) == 5_000
    assert len(told(origin, first)["deleted"]) == 15_000
    assert origin.state().position == second
    origin.close()


def test_what_is_read_is_kept_on_a_disk_that_may_be_full(redis: Redis) -> None:
    """Which is no fault of the server."""
    origin, start = made(redis.url("disk"), 1000)
    chunks = [NewChunk(f"c{number}", "x" * 1000, "{}") for number in range(4000)]
    put(origin, start, Change(chunks, np.ones((4000, 1000), np.float32)))
    with file_size_limit(8_000_000), pytest.raises(StorageFailed, match="TMPDIR"), origin.changes(start):
        pass
    assert len(told(origin, start)["chunks"]) == 4000
    origin.close()

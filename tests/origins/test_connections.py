"""Connections to an origin that are cut and delayed at any byte."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import reperio
from reperio import OriginUnavailable

from .conftest import Server
from .proxy import Proxy
from .servers import Postgres
from .test_replicas import D, add, contents


@contextmanager
def through(
    server: Server, url: str, *, seed: int, most: int | None, delay: float = 0.0
) -> Iterator[tuple[Proxy, str]]:
    """Run a proxy before a server, and yield the origin's address through it."""
    folder = Path(tempfile.mkdtemp(prefix="px-"))
    name = ".s.PGSQL.5432" if isinstance(server, Postgres) else "socket"
    proxy = Proxy(server.folder / name, folder, seed=seed, most=most, delay=delay)
    try:
        yield proxy, url.replace(str(server.folder), str(folder))
    finally:
        proxy.close()
        shutil.rmtree(folder)


@pytest.mark.parametrize("seed", range(2))
def test_writes_over_connections_that_are_cut_are_made_once(
    seed: int, server: Server, url: str, tmp_path: Path
) -> None:
    """At any byte, of a question or an answer. What is acknowledged is there; what is refused can be done again."""
    reperio.open(tmp_path / "first", dimension=D).close()
    reperio.create_origin(url, tmp_path / "first")
    model: dict[str, int] = {}
    refused = 0
    with through(server, url, seed=seed, most=None) as (proxy, cut):
        kb = reperio.open(tmp_path / "first", origin=cut, follow=0, auto_optimize=False)
        proxy.cut_after(12_000)
        with kb:
            for step in range(50):
                numbers = [step, step + 1, step + 2]
                for _ in range(20):
                    try:
                        if step % 7 == 6:
                            kb.delete(ids=[f"c{n}" for n in numbers])
                        else:
                            add(kb, numbers, version=step)
                        break
                    except OriginUnavailable:
                        refused += 1
                else:
                    raise AssertionError("not once in twenty attempts")
                gone = step % 7 == 6
                model = {key: one for key, one in model.items() if not gone or key not in {f"c{n}" for n in numbers}}
                model |= {} if gone else {f"c{n}": step for n in numbers}
        assert proxy.cuts > 5
    with (
        reperio.open(tmp_path / "first", origin=url, follow=0) as first,
        reperio.open(tmp_path / "second", origin=url, follow=0) as second,
    ):
        assert {chunk.id: chunk.metadata["version"] for chunk in first} == model
        assert contents(first) == contents(second)
        # A commit that was made twice would have a number more. One that was refused may have been made.
        made = second.pull().commit
        assert 1 + 50 <= made <= 1 + 50 + refused
        assert first.check().ok
        assert second.check().ok


def test_a_clone_over_connections_that_are_cut_goes_on(server: Server, url: str, tmp_path: Path) -> None:
    """Again and again, until it is whole."""
    with reperio.open(tmp_path / "first", dimension=D, auto_optimize=False) as kb:
        for start in range(0, 3000, 500):
            add(kb, list(range(start, start + 500)))
    reperio.create_origin(url, tmp_path / "first")
    with through(server, url, seed=1, most=400_000) as (proxy, cut):
        for _ in range(200):
            try:
                reperio.pull(tmp_path / "second", cut)
                break
            except OriginUnavailable:
                continue
        else:
            raise AssertionError("never whole")
        assert proxy.cuts
    with (
        reperio.open(tmp_path / "first", read_only=True) as first,
        reperio.open(tmp_path / "second", read_only=True) as second,
    ):
        assert contents(first) == contents(second)
        assert second.check().ok


def test_slow_connections_only_take_longer(server: Server, url: str, tmp_path: Path) -> None:
    """Every piece is held up."""
    reperio.open(tmp_path / "first", dimension=D).close()
    reperio.create_origin(url, tmp_path / "first")
    with (
        through(server, url, seed=2, most=None, delay=0.02) as (_, slow),
        reperio.open(tmp_path / "first", origin=slow, follow=0.05) as first,
        reperio.open(tmp_path / "second", origin=slow, follow=0.05) as second,
    ):
        for number in range(5):
            add(first, [number], version=1)
            add(second, [number + 100], version=1)
        until = time.monotonic() + 120
        while first.count() < 10 or second.count() < 10:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert contents(first) == contents(second)

"""Connections to an origin that are cut and delayed at any byte."""

from __future__ import annotations

import gc
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import reperio
from reperio import OriginUnavailable

from .conftest import Server
from .contents import D, add, contents
from .proxy import Proxy
from .servers import Postgres


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


@pytest.mark.parametrize("most", [60, 300, 600, 900, 1500, 3000])
def test_connections_that_stall_are_given_up(most: int, server: Server, url: str, tmp_path: Path) -> None:
    """At any point, also while they are made: nobody is kept out of the directory for longer than lock_timeout."""
    reperio.open(tmp_path / "first", dimension=D).close()
    reperio.create_origin(url, tmp_path / "first")
    with through(server, url, seed=0, most=None) as (proxy, stalling):
        kb = reperio.open(tmp_path / "first", origin=stalling, follow=0, auto_optimize=False, lock_timeout=1)
        with kb:
            proxy.stalls = True
            proxy._draw.randint = lambda _, most: most  # type: ignore[method-assign]  # always there
            proxy.cut_after(most)
            try:
                for number in range(30):
                    add(kb, [number])
            except OriginUnavailable:
                pass
            else:
                assert most >= 1500
            if most < 1500:
                with pytest.raises(OriginUnavailable):
                    reperio.origin_status(stalling, timeout=1)
        proxy.close()
    with reperio.open(tmp_path / "first", origin=url, follow=0, lock_timeout=5) as after:
        add(after, [1000])
        assert after.check().ok


def test_nothing_of_a_closed_handle_is_left(url: str, tmp_path: Path) -> None:
    """Neither threads nor connections, however seldom it asks, and also where nobody has closed it."""
    reperio.open(tmp_path / "first", dimension=D).close()
    reperio.create_origin(url, tmp_path / "first")
    before = threading.active_count()
    for number in range(20):
        kb = reperio.open(tmp_path / "first", origin=url, follow=600)
        if number % 2:
            kb.close()
        del kb
    gc.collect()
    until = time.monotonic() + 60
    while threading.active_count() > before:
        assert time.monotonic() < until, threading.enumerate()
        time.sleep(0.05)


def test_a_forgotten_handle_leaves_no_thread_while_its_server_is_away(
    server: Server, url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The error that its thread has met keeps nothing alive."""
    reperio.open(tmp_path / "first", dimension=D).close()
    reperio.create_origin(url, tmp_path / "first")
    caplog.set_level("INFO", logger="reperio.origin")
    before = threading.active_count()
    kb = reperio.open(tmp_path / "first", origin=url, follow=0.05)
    server.stop("immediate")
    try:
        until = time.monotonic() + 60
        while "nothing is taken over now" not in caplog.text:
            assert time.monotonic() < until
            time.sleep(0.01)
        caplog.clear()  # its records hold the error, and so the handle
        handle = weakref.ref(kb._handle)
        del kb
        gc.collect()
        while threading.active_count() > before or handle() is not None:
            assert time.monotonic() < until, threading.enumerate()
            gc.collect()
            time.sleep(0.05)
    finally:
        server.start()


def test_a_clone_that_has_nothing_yet_is_not_opened_without_its_origin(url: str, tmp_path: Path) -> None:
    """It would look like an empty collection, and take chunks that the origin never hears of."""
    with reperio.open(tmp_path / "first", dimension=D, auto_optimize=False) as kb:
        add(kb, list(range(1000)))
    reperio.create_origin(url, tmp_path / "first")

    class Stop(Exception):
        pass

    def stop(*_: object) -> None:
        raise Stop

    with pytest.raises(Stop):
        reperio.pull(tmp_path / "second", url, progress=stop)
    for read_only in (True, False):
        with pytest.raises(reperio.CollectionDamaged, match="is being cloned from"):
            reperio.open(tmp_path / "second", read_only=read_only)
    reperio.pull(tmp_path / "second", url)
    with reperio.open(tmp_path / "second", read_only=True) as second:
        assert second.count() == 1000


def test_a_replica_whose_origin_is_lost_can_be_made_another(server: Server, url: str, tmp_path: Path) -> None:
    """With all it has; its records of the old origin stay out of the new one."""
    with reperio.open(tmp_path / "first", dimension=D) as kb:
        add(kb, [1, 2, 3])
    reperio.create_origin(url, tmp_path / "first")
    server.drop(url.partition("collection=")[2].partition("&")[0])
    other = url.replace("collection=", "collection=other-")
    with pytest.raises(reperio.InvalidInput, match="reset=True"):
        reperio.create_origin(other, tmp_path / "first")
    reperio.create_origin(other, tmp_path / "first", reset=True)
    with (
        reperio.open(tmp_path / "first", origin=other, follow=0) as first,
        reperio.open(tmp_path / "second", origin=other, follow=0) as second,
    ):
        add(second, [4])
        first.pull()
        assert contents(first) == contents(second)
        assert first.count() == 4


def test_reset_takes_over_other_settings_too(url: str, tmp_path: Path) -> None:
    """Where a directory differs in metric, dtype or words, the origin's are those of its new generation."""
    reperio.open(tmp_path / "first", dimension=D, metric="l2", dtype="float16", lexical="none").close()
    reperio.create_origin(url, tmp_path / "first")
    with reperio.open(tmp_path / "own", dimension=4) as own:
        own.add([reperio.Chunk("x", "y")], vectors=[[1.0, 0.0, 0.0, 0.0]])
    reperio.pull(tmp_path / "own", url, reset=True)
    with reperio.open(tmp_path / "own", origin=url, follow=0) as kb:
        add(kb, [1])
        assert (kb.count(), kb.info().metric.value, kb.info().dtype, kb.info().dimension) == (1, "l2", "float16", D)
        assert kb.check().ok

"""Hosts and servers that end, hang, are set back or do not fit: what is promised holds, or the cure is told."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import apsw
import numpy as np
import pytest

import reperio
from reperio import (
    Chunk,
    CollectionExists,
    InvalidInput,
    OriginDiverged,
    OriginNotFound,
    OriginUnavailable,
)
from tests.limits import file_size_limit

from .conftest import Server
from .contents import D, add, both, contents, vector

KILLS = int(os.environ.get("REPERIO_KILLS", "20"))
ROOT = Path(__file__).resolve().parents[2]


# ── when something is away ───────────────────────────────────────────────────────────────────────────────────────────


def test_without_its_server_a_replica_is_searched_and_not_written(made: str, tmp_path: Path, server: Server) -> None:
    """Writes say so and leave everything as it was; after a restart all goes on through the same handle."""
    first, second = both(made, tmp_path)
    with first, second:
        before = contents(first)
        server.stop("immediate")
        try:
            with pytest.raises(OriginUnavailable, match="searches go on"):
                add(first, [70])
            with pytest.raises(OriginUnavailable):
                first.delete(ids=["c1"])
            with pytest.raises(OriginUnavailable):
                first.search(vector=vector(1), fresh=True)
            assert contents(first) == before
            assert first.search(vector=vector(1), k=1)[0].chunk.id == "c1"
            assert first.info().origin.trouble  # type: ignore[union-attr]
            with reperio.open(tmp_path / "second", origin=made, follow=0) as third:
                assert third.count() == 20
            with pytest.raises(OriginUnavailable):
                reperio.open(tmp_path / "new", origin=made)
        finally:
            server.start()
        add(first, [70])
        assert second.search(vector=vector(70), k=1, fresh=True)[0].chunk.id == "c70"
        assert contents(first) == contents(second)
        assert reperio.open(tmp_path / "new", origin=made).count() == 21


def test_a_server_that_hangs_is_given_up(made: str, tmp_path: Path, server: Server) -> None:
    """After lock_timeout; the write is not half there, and goes through once the server goes on."""
    with reperio.open(tmp_path / "first", origin=made, follow=0, lock_timeout=1) as kb:
        server.freeze()
        try:
            with pytest.raises(OriginUnavailable, match="has not answered within 1 s"):
                add(kb, [80])
        finally:
            server.thaw()
        assert kb.get("c80") is None
        add(kb, [80])
        assert kb.check().ok


def test_a_server_set_back_to_an_older_state_is_refused(made: str, tmp_path: Path, server: Server) -> None:
    """Also after it has gone on and has as many commits; reset gives the lost ones up."""
    first, second = both(made, tmp_path)
    with first, second:
        name = made.partition("collection=")[2]
        saved = server.save(name)
        add(first, [90])
        second.pull()
        server.bring_back(saved)
        with pytest.raises(OriginDiverged, match="set back to an older state"):
            second.pull()
        with pytest.raises(OriginDiverged):
            add(first, [91])
        with pytest.raises(OriginDiverged):
            reperio.open(tmp_path / "second", origin=made)
        assert first.get("c90") is not None
        reperio.pull(tmp_path / "second", made, reset=True)
        assert second.get("c90") is None
        add(second, [92])
        with pytest.raises(OriginDiverged):  # as many commits, and others
            first.pull()
        reperio.pull(tmp_path / "first", made, reset=True)
        assert contents(first) == contents(second)
        assert first.check().ok


def test_another_origin_of_the_same_name_is_refused(made: str, tmp_path: Path, server: Server) -> None:
    """It was dropped and made again: its commits are not those that the directory knows."""
    first, second = both(made, tmp_path)
    second.close()
    with first:
        name = made.partition("collection=")[2]
        server.drop(name)
        with pytest.raises(OriginNotFound, match="reperio origin create"):
            add(first, [1], version=1)
        reperio.open(tmp_path / "other", dimension=D).close()
        reperio.create_origin(made, tmp_path / "other")
        with pytest.raises(OriginDiverged, match="another origin"):
            add(first, [1], version=1)
        assert first.get("c1").metadata["version"] == 0  # type: ignore[union-attr]


# ── kills ────────────────────────────────────────────────────────────────────────────────────────────────────────────

_WRITER = """
import sys
import numpy as np
import reperio
from tests.origins.contents import add
with reperio.open(sys.argv[1], origin=sys.argv[2], follow=0, auto_optimize=False) as kb:
    number = int(sys.argv[3])
    while True:
        add(kb, [number, number + 1, number + 2], version=1)
        print(number, flush=True)
        number += 3
"""


def _kill_writers(made: str, tmp_path: Path, rounds: int, disturb: Callable[[int], None]) -> None:
    """Kill a writer again and again, during its commits, and require all that it has told of on both hosts."""
    acknowledged: set[int] = set()
    start, draw = 1000, random.Random(1)
    for number in range(rounds):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tmp_path / "first"), made, str(start)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout is not None
        for _ in range(draw.randint(1, 8)):
            line = writer.stdout.readline()
            if not line:
                break
            acknowledged.update(range(int(line), int(line) + 3))
        disturb(number)
        time.sleep(draw.random() * 0.01)
        os.kill(writer.pid, signal.SIGKILL)
        rest, _ = writer.communicate()
        for line in rest.split():
            acknowledged.update(range(int(line), int(line) + 3))
        start = max([start, *acknowledged]) + 100
    first, second = both(made, tmp_path)
    with first, second:
        assert {f"c{n}" for n in acknowledged} <= set(first.ids())
        assert contents(first) == contents(second)
        assert {chunk.text for chunk in first if chunk.metadata["n"] >= 1000} == {
            f"text {chunk.metadata['n']} version 1" for chunk in first if chunk.metadata["n"] >= 1000
        }
        counted = sum(int(key[1:]) >= 1000 for key in first.ids())
        assert counted % 3 == 0, "a commit is half there"
        assert first.check().ok
        assert second.check().ok


def test_writers_that_are_killed_lose_nothing_that_was_acknowledged(made: str, tmp_path: Path) -> None:
    """During commits, at any moment."""
    _kill_writers(made, tmp_path, 4, lambda _: None)


@pytest.mark.campaign
def test_many_killed_writers(made: str, tmp_path: Path) -> None:
    """The same, as often as REPERIO_KILLS says."""
    _kill_writers(made, tmp_path, KILLS, lambda _: None)


def test_a_server_that_stops_as_if_without_power_loses_nothing(made: str, tmp_path: Path, server: Server) -> None:
    """During a writer's commits: what was acknowledged is there, on both hosts."""

    def crash(_: int) -> None:
        server.stop("immediate")
        server.start()

    _kill_writers(made, tmp_path, 2, crash)


@pytest.mark.campaign
def test_many_servers_without_power(made: str, tmp_path: Path, server: Server) -> None:
    """The same, as often as REPERIO_KILLS says."""

    def crash(_: int) -> None:
        server.stop("immediate")
        server.start()

    _kill_writers(made, tmp_path, KILLS, crash)


# ── bad input ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_collections_that_do_not_fit_are_refused(made: str, tmp_path: Path, embedder: reperio.Embedder) -> None:
    """Chunks of its own, another dimension, another origin; and a replica is not written without its origin."""
    with reperio.open(tmp_path / "own", dimension=D) as own:
        add(own, [1])
    with pytest.raises(OriginDiverged, match="were not written through"):
        reperio.open(tmp_path / "own", origin=made)
    with pytest.raises(InvalidInput, match="dimension 8"):
        reperio.open(tmp_path / "new", origin=made, dimension=16)
    with pytest.raises(CollectionExists, match="take another name"):
        reperio.create_origin(made, tmp_path / "own")
    with reperio.open(tmp_path / "first") as alone:  # its index is its own, its chunks are not
        alone.optimize(index="SQ8")
        alone.compact()
        with pytest.raises(InvalidInput, match=r"is a replica of (postgresql|unix)://"):
            add(alone, [1], version=1)
        with pytest.raises(InvalidInput, match=r"is a replica of (postgresql|unix)://"):
            alone.reembed(embedder)
        with pytest.raises(InvalidInput, match="opened without an origin"):
            alone.pull()
    with pytest.raises(InvalidInput, match="is a replica of"):
        reperio.create_origin(made + "2", tmp_path / "first")
    with pytest.raises(InvalidInput, match="leave it out"):
        reperio.open(tmp_path / "first", origin=made, read_only=True)
    assert reperio.open(tmp_path / "first", read_only=True).count() == 20
    reperio.pull(tmp_path / "own", made, reset=True)
    assert reperio.open(tmp_path / "own", read_only=True).count() == 20


def test_a_collection_of_an_old_format_is_brought_up_to_date_first(url: str, tmp_path: Path) -> None:
    """By the command that the error names: until then it has no place for records."""
    with reperio.open(tmp_path / "kb", dimension=D) as kb:
        add(kb, [1, 2])
    connection = apsw.Connection(str(next((tmp_path / "kb").glob("gen-*")) / "chunks.db"))
    connection.execute("DROP TABLE records; DROP TABLE spaces; DROP TABLE clock")
    connection.close()
    with pytest.raises(InvalidInput, match="reperio compact"):
        reperio.create_origin(url, tmp_path / "kb")
    with reperio.open(tmp_path / "kb") as kb:
        kb.compact()
    reperio.create_origin(url, tmp_path / "kb")
    with reperio.open(tmp_path / "clone", origin=url) as clone:
        assert clone.count() == 2


@pytest.mark.parametrize(
    "value",
    [
        '[["o",1,"t"],"w",true,1e300]',
        '[["o",-1,"t"],"w",true,0.0]',
        '[["o",1],"w",true,0.0]',
        '["o"]',
        "7",
        '[["o",1,"t"],5,true,0.0]',
        '[[{},1,"t"],"w",true,0.0]',
    ],
)
def test_what_strangers_have_put_in_the_place_of_a_position_is_refused(value: str, tmp_path: Path) -> None:
    """In a directory that was passed on."""
    with reperio.open(tmp_path / "kb", dimension=D) as kb:
        add(kb, [1])
    connection = apsw.Connection(str(next((tmp_path / "kb").glob("gen-*")) / "chunks.db"))
    connection.execute("INSERT INTO spaces(scope, name) VALUES ('', char(0) || 'origin')")
    connection.execute("INSERT INTO records VALUES (last_insert_rowid(), 'position', ?, NULL, 0.0)", (value,))
    connection.close()
    with pytest.raises(reperio.CollectionDamaged, match=r"what chunks.db says of its origin"):
        reperio.open(tmp_path / "kb", read_only=True)


def test_a_handle_that_was_open_before_does_not_write_past_the_origin(url: str, tmp_path: Path) -> None:
    """Another process makes an origin of the collection meanwhile."""
    with reperio.open(tmp_path / "kb", dimension=D) as before:
        add(before, [1])
        reperio.create_origin(url, tmp_path / "kb")
        with pytest.raises(InvalidInput, match="is a replica of"):
            add(before, [2])
        assert before.count() == 1


def test_a_full_disk_here_leaves_the_origin_as_it_was(made: str, tmp_path: Path) -> None:
    """The commit is refused here before it is made there."""
    first, second = both(made, tmp_path)
    with first, second:
        number = first.pull().commit
        chunks = [Chunk(f"big{n}", "word " * 2000, {}) for n in range(50)]
        with file_size_limit(100_000), pytest.raises(reperio.StorageFailed):
            first.add(chunks, vectors=np.stack([vector(n) for n in range(50)]))
        assert second.pull().commit == number
        add(first, [99])
        second.pull()
        assert contents(first) == contents(second)


def test_a_clone_that_is_interrupted_goes_on(url: str, tmp_path: Path) -> None:
    """Nobody reads it before it is complete, and what is there is not asked for again."""
    with reperio.open(tmp_path / "first", dimension=D, auto_optimize=False) as kb:
        for start in range(0, 5000, 1000):
            add(kb, list(range(start, start + 1000)))
    reperio.create_origin(url, tmp_path / "first")

    class Stop(Exception):
        pass

    def stop(_: str, done: int, total: int | None) -> None:
        assert total == 5000
        if done >= 3000:
            raise Stop

    with pytest.raises(Stop):
        reperio.pull(tmp_path / "second", url, progress=stop)
    with pytest.raises(reperio.CollectionDamaged, match="is being cloned from"):
        reperio.open(tmp_path / "second", read_only=True)
    totals = set()
    reperio.pull(tmp_path / "second", url, progress=lambda _, __, total: totals.add(total))
    assert totals == {3000}  # the last commit may not have been whole
    with (
        reperio.open(tmp_path / "second", read_only=True) as second,
        reperio.open(tmp_path / "first", read_only=True) as first,
    ):
        assert contents(first) == contents(second)
        assert second.check().ok


def test_an_origin_that_was_not_completed_is_not_cloned_and_made_again(url: str, tmp_path: Path) -> None:
    """The push was interrupted: the collection is as it was, and the same command completes it."""
    with reperio.open(tmp_path / "kb", dimension=D, auto_optimize=False) as kb:
        for start in range(0, 3000, 1000):
            add(kb, list(range(start, start + 1000)))

    class Stop(Exception):
        pass

    def stop(_: str, done: int, __: int | None) -> None:
        if done >= 2000:
            raise Stop

    with pytest.raises(Stop):
        reperio.create_origin(url, tmp_path / "kb", progress=stop)
    with pytest.raises(OriginNotFound, match="is not complete"):
        reperio.open(tmp_path / "clone", origin=url)
    with reperio.open(tmp_path / "kb") as kb:
        add(kb, [5000])
    reperio.create_origin(url, tmp_path / "kb")
    with reperio.open(tmp_path / "clone", origin=url) as clone:
        assert clone.count() == 3001


def test_a_restored_backup_of_a_replica_catches_up(made: str, tmp_path: Path) -> None:
    """It has an older state of the origin."""
    first, second = both(made, tmp_path)
    with first, second:
        first.backup(tmp_path / "backup")
        add(first, [1, 100], version=4)
        reperio.restore(tmp_path / "backup", tmp_path / "restored")
        second.pull()
        with reperio.open(tmp_path / "restored", origin=made, follow=0) as restored:
            assert contents(restored) == contents(second)


def test_lost_chunks_of_a_replica_come_back_from_its_origin(made: str, tmp_path: Path) -> None:
    """Mending leaves a damaged chunk out, and says so; pull with reset brings it back."""
    first, second = both(made, tmp_path)
    second.close()
    with first:
        path = next((tmp_path / "first").glob("gen-*/vectors.f32"))
        with path.open("r+b") as file:
            file.seek(4 * D * 3)
            file.write(b"\xff" * 4)
        report = first.check(fix=True)
        assert len(report.lost) == 1
        assert first.count() == 19
    with pytest.raises(OriginDiverged, match="--reset"):
        reperio.open(tmp_path / "first", origin=made)
    reperio.pull(tmp_path / "first", made, reset=True)
    assert reperio.open(tmp_path / "first", read_only=True).count() == 20


def test_a_forked_child_uses_the_parents_replica(made: str, tmp_path: Path) -> None:
    """With a connection of its own; the parent's goes on."""
    with reperio.open(tmp_path / "first", origin=made, follow=0.1) as kb:
        if (child := os.fork()) == 0:
            code = 1
            try:
                add(kb, [200], version=1)
                kb.close()
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        add(kb, [201], version=1)
        assert kb.get("c200") is not None
        assert kb.check().ok


def test_the_password_is_kept_nowhere(made: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither in the directory, nor in what is logged, told or shown."""
    address = (
        made.replace("tester@", "tester:hunter2@").replace("?", "?password=hunter2&") if "tester@" in made else made
    )
    caplog.set_level("DEBUG")
    with reperio.open(tmp_path / "secret", origin=lambda: address, follow=0.1) as kb:
        add(kb, [1], version=2)
        kb.pull()
        assert "hunter2" not in repr(kb.info())
        assert "hunter2" not in repr(kb)
    for file in (tmp_path / "secret").rglob("*"):
        if file.is_file():
            assert b"hunter2" not in file.read_bytes()
    assert "hunter2" not in caplog.text

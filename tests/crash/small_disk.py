"""The process that works on a full disk: a tmpfs in its own mount namespace, gone when it ends.

Run as ``unshare -m python -m crash.small_disk MOUNTPOINT CASE [SEED]`` by root. A failed assertion is a traceback on
standard error and the exit status 1. With a seed the space that is left is drawn at random, else it is always the same.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import reperio
from reperio import Chunk, Collection, StorageFailed

from .plan import DIMENSION, Item, State, item
from .processes import ENVIRONMENT
from .verification import check_answers, check_no_creation_left, check_no_leftovers, verify

BATCH = 50


def private_mounts() -> bool:
    """Say whether a file system can be mounted for one process alone."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    command = "mount -t tmpfs -o size=1m tmpfs /mnt"
    return subprocess.run(["unshare", "-m", "sh", "-c", command], capture_output=True, check=False).returncode == 0


def run_on_small_disk(case: str, mountpoint: Path, *seed: str) -> None:
    """Run a case in a process of its own; its failed assertion is one here."""
    command = ["unshare", "-m", sys.executable, "-m", "crash.small_disk", str(mountpoint), case, *seed]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr


def main(mountpoint: str, case: str, seed: str = "") -> None:
    """Mount 3 MiB at *mountpoint* and run a case on it."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", mountpoint], check=True)
    CASES[case](Path(mountpoint), random.Random(seed) if seed else None)


def _rooms(chance: random.Random | None, *usual: int) -> Sequence[int]:
    """Return the bytes to leave: *usual*, or as many at random, none beyond the largest of them."""
    return usual if chance is None else [chance.randrange(max(usual) + 1) for _ in usual]


def adding(disk: Path, chance: random.Random | None) -> None:
    """Fill the disk by adding; what was acknowledged is intact, and the same handle goes on once there is space."""
    ballasts = [_ballast(disk, size, f"ballast {n}") for n, size in enumerate(_rooms(chance, 1 << 18, 1 << 20))]
    spare = _ballast(disk, 1 << 19, "spare")  # a random ballast may be too small for the deletes at the end
    with reperio.open(disk / "kb", dimension=DIMENSION, auto_optimize=False) as kb:
        for ballast in ballasts:
            stored = _fill(kb)
            _refused(lambda: kb.add([_chunk(*item(2, 0, 9))], vectors=[item(2, 0, 9)[1].vector]))
            check_answers(kb, stored)
            assert kb.check().ok
            with reperio.open(disk / "kb", read_only=True) as reader:
                check_answers(reader, stored)
            ballast.unlink()
        spare.unlink()
        kb.delete(ids=list(stored)[::2])
        check_answers(kb, dict(list(stored.items())[1::2]))
    verify(disk / "kb", [dict(list(stored.items())[1::2])])


def deleting(disk: Path, _chance: random.Random | None) -> None:
    """Delete without space: nothing is deleted."""
    with reperio.open(disk / "kb", dimension=DIMENSION, auto_optimize=False) as kb:
        stored = _add(kb, range(600))
        with _full(disk):
            _refused(lambda: kb.delete(ids=list(stored)))
            check_answers(kb, stored)
        assert kb.delete(ids=list(stored)) == len(stored)
        assert kb.count() == 0


def optimizing(disk: Path, chance: random.Random | None) -> None:
    """Optimize without space: the index before stays in use, nothing is left of the new one."""
    with reperio.open(disk / "kb", dimension=DIMENSION, auto_optimize=False) as kb:
        stored = _add(kb, range(400))
        before = kb.optimize(index="IVF1,PQ8x4fs")
        for room in _rooms(chance, 0, 8192, 65536):
            with _full(disk, room=room):
                _refused(lambda: kb.optimize(index="HNSW32,Flat"))
                assert kb.info().index == before
                check_no_leftovers(disk / "kb")
                check_answers(kb, stored)
        with reperio.open(disk / "kb", read_only=True) as reader:
            check_answers(reader, stored)
        after = kb.optimize(index="HNSW32,Flat")
        assert kb.info().index == after != before
        check_no_leftovers(disk / "kb")
    verify(disk / "kb", [stored])


def compacting(disk: Path, chance: random.Random | None) -> None:
    """Compact without space: the collection is as it was, and the same handle goes on."""
    with reperio.open(disk / "kb", dimension=DIMENSION, auto_optimize=False) as kb:
        stored = _add(kb, range(600))
        kb.delete(ids=list(stored)[::3])
        stored = {key: kept for number, (key, kept) in enumerate(stored.items()) if number % 3}
        for room in _rooms(chance, 0, 16384, 131072):
            with _full(disk, room=room):
                _refused(kb.compact)
                check_answers(kb, stored)
                check_no_leftovers(disk / "kb")
        assert kb.compact() == 200
        check_answers(kb, stored)
    verify(disk / "kb", [stored])


def backing_up(disk: Path, chance: random.Random | None) -> None:
    """Back up and restore without space: nothing is left at the destination, nor beside it, and the error names it."""
    with reperio.open(disk / "kb", dimension=DIMENSION, auto_optimize=False) as kb:
        stored = _add(kb, range(600))
        for room in _rooms(chance, 0, 4096, 65536, 196608):
            with _full(disk, room=room):
                _refused(lambda: kb.backup(disk / "copy"), naming=disk / "copy")
                assert not (disk / "copy").exists()
                check_no_creation_left(disk / "copy")
                _refused(lambda: kb.backup(disk / "increments", incremental=True), naming=disk / "increments")
                check_answers(kb, stored)
        kb.backup(disk / "copy")
        kb.backup(disk / "increments", incremental=True)
    verify(disk / "copy", [stored])
    with tempfile.TemporaryDirectory() as elsewhere:  # the disk of what is restored has space
        for name in ("copy", "increments"):
            source = shutil.move(disk / name, elsewhere)
            for room in _rooms(chance, 0, 65536):
                with _full(disk, room=room):
                    _refused(lambda at=source: reperio.restore(at, disk / "restored"), naming=disk / "restored")
                assert not (disk / "restored").exists()
                check_no_creation_left(disk / "restored")
            reperio.restore(source, disk / "restored")
            verify(disk / "restored", [stored])
            shutil.rmtree(disk / "restored")


def creating(disk: Path, chance: random.Random | None) -> None:
    """Create without space: nothing is left at the path, nor beside it."""
    for room in _rooms(chance, 0, 4096, 8192, 32768):
        with _full(disk, room=room):
            _refused(lambda: reperio.open(disk / "kb", dimension=DIMENSION))
            assert not (disk / "kb").exists()
            check_no_creation_left(disk / "kb")
    reperio.open(disk / "kb", dimension=DIMENSION).close()


def _fill(kb: Collection) -> State:
    """Add until the disk is full; return what was acknowledged."""
    stored: dict[str, Item] = {}
    error: StorageFailed | None = None
    start = kb.count()
    stored.update(item(1, number, 0) for number in range(start))
    while error is None:
        batch = [item(1, number, 0) for number in range(start, start + BATCH)]
        acknowledged: list[int] = []
        try:
            kb.add(
                [_chunk(*made) for made in batch],
                vectors=[made.vector for _, made in batch],
                progress=lambda _stage, done, _total, seen=acknowledged: seen.append(done),
                batch_size=10,
            )
        except StorageFailed as full:
            error = full
        stored.update(batch[: max(acknowledged, default=0)])
        start += BATCH
    assert error.errno == errno.ENOSPC
    assert "free some space" in str(error)
    assert str(kb.info().path) in str(error)
    assert kb.count() == len(stored)
    return stored


def _add(kb: Collection, numbers: range) -> State:
    made = [item(1, number, 0) for number in numbers]
    kb.add([_chunk(*each) for each in made], vectors=[each.vector for _, each in made])
    return dict(made)


def _chunk(chunk_id: str, made: Item) -> Chunk:
    return Chunk(chunk_id, made.text, made.metadata)


def _refused(work: object, *, naming: Path | None = None) -> None:
    assert callable(work)
    try:
        work()
    except StorageFailed as error:
        assert error.errno == errno.ENOSPC, error  # noqa: PT017  # this is no test process
        assert "not an error" not in str(error), error  # noqa: PT017  # the error is expected at times, and must then say this
        assert naming is None or str(naming) in str(error), error  # noqa: PT017  # the error is expected at times, and must then say this
        return
    raise AssertionError("it should have found the disk full")


def _ballast(disk: Path, size: int, name: str = "ballast") -> Path:
    path = disk / name
    path.write_bytes(bytes(size))
    return path


@contextmanager
def _full(disk: Path, *, room: int = 0) -> Iterator[None]:
    """Leave *room* bytes on the disk."""
    free = os.statvfs(disk)
    path = _ballast(disk, free.f_bavail * free.f_frsize - room)
    try:
        yield
    finally:
        path.unlink()


CASES = {case.__name__: case for case in (adding, deleting, optimizing, compacting, backing_up, creating)}

if __name__ == "__main__":
    main(*sys.argv[1:])

"""A process is killed while it makes something inside a directory that is there: the next one finds all or nothing."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

import reperio
from reperio import Chunk, CollectionExists, CollectionNotFound, exchange

from .calls import CALLS, Point, killing, require_killed, strace
from .processes import nursery

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed: apt-get install strace"),
]


def _prepared(directory: Path) -> Path:
    """Make a directory with what is restored and exported, and the empty directory that takes it; return that."""
    directory.mkdir()
    with reperio.open(directory / "source", dimension=4, auto_optimize=False) as kb:
        kb.add([Chunk("a", "text")], vectors=[[1, 0, 0, 0]])
    target = directory / "kb"
    target.mkdir()
    target.chmod(0o750)
    (target / "lost+found").mkdir()
    return target


def _points(directory: Path, what: str) -> list[Point]:
    _prepared(directory)
    trace = directory / "trace"
    options = tuple(strace(trace, ",".join(CALLS)))
    worker = nursery().fork("tests.crash.creator", str(directory), what, output=directory / "stderr", strace=options)
    assert worker.wait() == 0, (directory / "stderr").read_text()
    lines = [line for line in trace.read_text().splitlines() if re.match(r"\d+ +\w+\(", line)]
    made = [line.split()[1].split("(")[0] for line in lines]
    points = [Point(call, made[: place + 1].count(call)) for place, call in enumerate(made)]
    return [point for point, line in zip(points, lines, strict=True) if str(directory / "kb") in line]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("what", ["open", pytest.param("restore", marks=pytest.mark.campaign), "export"])
def test_killed_while_it_makes_something_in_an_empty_directory(what: str, tmp_path: Path) -> None:
    """At each call that syncs, renames or removes: what comes next completes it or begins again, and cleans up."""
    found = _points(tmp_path / "traced", what)
    assert {"rename", "mkdir", "rmdir", "fsync"} <= {point.call for point in found}
    completed = 0
    for number, point in enumerate(found):
        target = _prepared(tmp_path / f"{number}")
        trace = target.parent / "trace"
        worker = nursery().fork(
            "tests.crash.creator",
            str(target.parent),
            what,
            output=target.parent / "stderr",
            strace=tuple(killing(trace, point)),
        )
        require_killed(trace, point, worker.wait())
        completed += {"open": _opens, "restore": _restores, "export": _exports}[what](target)
        assert target.stat().st_mode & 0o777 == 0o750
        assert (target / "lost+found").is_dir()
        assert not [entry.name for entry in target.iterdir() if entry.name.startswith(".")]
        shutil.rmtree(target.parent)
    assert completed  # some were killed after all was made


def _opens(target: Path) -> bool:
    there = (target / "CURRENT").exists()
    if not there:
        with pytest.raises(CollectionNotFound):
            reperio.open(target, read_only=True)
    with reperio.open(target, dimension=4, auto_optimize=False) as kb:
        kb.add([Chunk("b", "text")], vectors=[[1, 0, 0, 0]])
        assert kb.check().ok
    return there


def _restores(target: Path) -> bool:
    complete = True
    try:
        reperio.restore(target.parent / "source", target)
        complete = False
    except CollectionExists:
        pass
    with reperio.open(target, auto_optimize=False) as kb:
        assert [chunk.id for chunk in kb] == ["a"]
        assert kb.check().ok
    return complete


def _exports(target: Path) -> bool:
    complete = True
    try:
        exchange.export_collection(target.parent / "source", target, format="jsonl")
        complete = False
    except CollectionExists:
        pass
    shutil.rmtree(target / "lost+found")
    with pytest.raises(CollectionExists):
        exchange.export_collection(target.parent / "source", target, format="jsonl")
    imported = exchange.import_collection(target, target.with_name("imported"))
    (target / "lost+found").mkdir()
    assert imported.chunks == 1
    return complete

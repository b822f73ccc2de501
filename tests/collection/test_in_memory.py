"""Collections in memory: like others, and gone with their process, however it ends."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import reperio
from reperio import Chunk, Collection, InvalidInput
from reperio.layout import temporary

D = 16
VECTORS = np.random.default_rng(0).standard_normal((600, D)).astype(np.float32)
CHUNKS = [Chunk(f"c{n}", f"text {n}", {"n": n}) for n in range(600)]


def home_of(kb: Collection) -> Path:
    """Return where a collection really is."""
    return kb._handle.root.root


def test_it_can_do_what_others_can(tmp_path: Path, embedder: reperio.Embedder) -> None:
    """Filters, an index, words, the ledger, deleting, compacting, embedding again, checking, a backup on disk."""
    with reperio.open(":memory:", dimension=D) as kb:
        kb.add(CHUNKS, vectors=VECTORS)
        kb.optimize(index="SQ8")
        assert [hit.chunk.id for hit in kb.search(vector=VECTORS[7], k=1)] == ["c7"]
        assert len(kb.search(vector=VECTORS[7], k=10, where={"n": {"$lt": 5}})) == 5
        assert kb.search("text 9", mode="lexical", k=1)[0].chunk.id == "c9"
        kb.records("space").put(["a"])
        assert kb.delete(where={"n": {"$lt": 5}}) == 5
        assert kb.compact() == 5
        kb.reembed(embedder)
        assert kb.check().ok
        assert kb.info().path == ":memory:"
        assert ":memory:" in repr(kb)
        kb.backup(tmp_path / "backup")
    assert reperio.restore(tmp_path / "backup", tmp_path / "kb").chunks == 595


def test_each_is_new_private_and_gone_when_it_is_closed() -> None:
    """Two have nothing of each other; only this user may look; closing twice is no error."""
    with reperio.open(":memory:", dimension=D) as first, reperio.open(":memory:", dimension=4) as second:
        first.add(CHUNKS[:2], vectors=VECTORS[:2])
        assert (first.count(), second.count()) == (2, 0)
        places = [home_of(first), home_of(second)]
        assert places[0].parent.stat().st_mode & 0o777 == 0o700
    assert not any(place.exists() for place in places)
    first.close()


def test_one_that_nobody_holds_any_more_is_gone() -> None:
    """Without close."""
    kb = reperio.open(":memory:", dimension=D, auto_optimize=False)
    place = home_of(kb)
    del kb
    gc.collect()
    assert not place.exists()


def test_what_fails_while_it_is_opened_leaves_nothing() -> None:
    """A wrong option, found after the directory was made."""
    kb = reperio.open(":memory:", dimension=D)
    before = sorted(home_of(kb).parent.iterdir())
    with pytest.raises(InvalidInput):
        reperio.open(":memory:", dimension=D, embedder=7)  # type: ignore[arg-type]
    assert sorted(home_of(kb).parent.iterdir()) == before
    kb.close()


def test_reading_alone_makes_no_sense() -> None:
    """It would find nothing."""
    with pytest.raises(InvalidInput, match="read_only=True would find nothing"):
        reperio.open(":memory:", read_only=True)


@pytest.mark.parametrize(
    "path",
    [
        "https://host/kb",
        "postgresql://user:secret@host/db?collection=a",
        "s3://bucket/kb",
        "file:///tmp/kb",
        "sqlite:///a",
    ],
)
def test_what_looks_like_a_url_is_refused_and_never_made_a_folder(path: str, tmp_path: Path) -> None:
    """Everywhere that a path is passed, and without what may be a password."""
    uses: list[Callable[[str], object]] = [
        lambda given: reperio.open(given, dimension=D),
        lambda given: reperio.open(Path(given), dimension=D),
        lambda given: reperio.restore(given, tmp_path / "kb"),
        lambda given: reperio.restore(tmp_path, given),
        reperio.diagnose,
        reperio.backups,
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        for use in uses:
            with pytest.raises(InvalidInput, match="is a URL") as caught:
                use(path)
            assert "secret" not in str(caught.value)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "spelling", [":memory", "memory:", "::memory::", ":MEMORY:", " :memory: ", "file::memory:?cache=shared", ":mem:"]
)
def test_other_spellings_are_told_the_right_one(spelling: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the right one is refused where nothing would be left of it."""
    monkeypatch.chdir(tmp_path)
    for use in (lambda given: reperio.open(given, dimension=D), reperio.diagnose):
        with pytest.raises(InvalidInput, match=r"reperio\.open\(':memory:'\), spelt like that"):
            use(spelling)
    for path in (":memory:", Path(":memory:")):
        with pytest.raises(InvalidInput, match="Everything else takes a path"):
            reperio.diagnose(path)
    assert list(tmp_path.iterdir()) == []


_PROGRAM = """
import os, signal, sys, time
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup has it ignored, here too
import numpy as np
import reperio
from reperio import Chunk
kb = reperio.open(":memory:", dimension=4)
kb.add([Chunk("a", "text")], vectors=np.eye(4, dtype="float32")[:1])
print(kb._handle.root.root, flush=True)
"""


def _run(rest: str) -> tuple[subprocess.Popen[str], Path]:
    program = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM + rest], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert program.stdout is not None
    return program, Path(program.stdout.readline().strip())


def _await_gone(path: Path) -> None:
    until = time.monotonic() + 60
    while path.parent.exists():
        assert time.monotonic() < until, f"{list(path.parent.iterdir())} is left"
        time.sleep(0.01)


@pytest.mark.parametrize("end", ["", "raise SystemExit(3)", "1 / 0", "os._exit(0)", "os.abort()"])
def test_nothing_remains_when_a_program_ends(end: str) -> None:
    """By itself, with an error, without Python's own end, in a crash."""
    program, path = _run(end)
    program.communicate()
    _await_gone(path)


@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGHUP])
def test_nothing_remains_when_a_program_is_ended(which: signal.Signals) -> None:
    """By a signal to it, or to its whole process group, as Ctrl-C and systemd do."""
    program, path = _run("time.sleep(600)")
    assert path.exists()
    os.killpg(program.pid, which)
    program.communicate()
    _await_gone(path)


def test_a_program_has_no_child_that_it_does_not_know() -> None:
    """One that waits for all of its children goes on at once."""
    program, path = _run("try:\n    os.waitpid(-1, 0)\nexcept ChildProcessError:\n    print('none', flush=True)\n")
    assert program.communicate()[0] == "none\n"
    _await_gone(path)


def test_what_a_dead_process_has_left_is_removed_by_the_next() -> None:
    """Its watcher was killed, too. What is in use, and what others have put there, stays."""
    program, path = _run("time.sleep(600)")
    left = path.parent.with_name("reperio-memory-left")
    path.parent.rename(left)
    others = left.with_name("reperio-memory-others")
    others.mkdir()  # without a lock: nobody knows whose
    try:
        code = "import reperio; reperio.open(':memory:', dimension=4)"
        subprocess.run([sys.executable, "-c", code], check=True)
        assert left.exists()
        program.kill()
        program.communicate()
        subprocess.run([sys.executable, "-c", code], check=True)
        assert not left.exists()
        assert others.exists()
    finally:
        others.rmdir()


def test_a_forked_child_shares_it_and_leaves_it_to_the_parent() -> None:
    """The child writes and closes, and ends; the parent goes on, and has what the child has stored."""
    with reperio.open(":memory:", dimension=D) as kb:
        kb.add(CHUNKS[:2], vectors=VECTORS[:2])
        if (child := os.fork()) == 0:
            code = 1
            try:
                kb.add(CHUNKS[2:4], vectors=VECTORS[2:4])
                own = reperio.open(":memory:", dimension=D)
                own.add(CHUNKS[:1], vectors=VECTORS[:1])
                assert home_of(own).parent != home_of(kb).parent
                own.close()
                kb.close()
                temporary._remove_all()
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        assert kb.count() == 4
        assert kb.check().ok


def test_without_memory_to_share_it_is_among_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container with its 64 MiB, or where there is no such file system."""
    monkeypatch.setattr(temporary, "_SHARED_MEMORY", tmp_path / "absent")
    monkeypatch.setattr(temporary.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(temporary, "_homes", [])
    with reperio.open(":memory:", dimension=D) as kb:
        assert home_of(kb).parent.parent == tmp_path
        kb.add(CHUNKS, vectors=VECTORS)
    temporary._remove_all()
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_can_be_made_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the directory and the reason."""
    monkeypatch.setattr(temporary, "_SHARED_MEMORY", tmp_path / "absent")
    monkeypatch.setattr(temporary.tempfile, "tempdir", str(tmp_path / "absent"))
    monkeypatch.setattr(temporary, "_homes", [])
    with pytest.raises(reperio.StorageFailed, match="cannot create"):
        reperio.open(":memory:", dimension=D)

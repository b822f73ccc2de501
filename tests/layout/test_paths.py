"""Paths, atomic replacement, the lock, creation by rename."""

from __future__ import annotations

import errno
import gc
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from reperio import layout
from reperio.errors import CollectionDamaged, CollectionExists, CollectionLocked, NotACollection, StorageFailed
from reperio.layout.lock import _LockedFile


def lock_of(path: Path) -> layout.FileLock:
    return layout.FileLock(path, purpose="which is testing", cure="wait for the test")


def test_a_lock_is_exclusive_and_names_its_holder(tmp_path: Path) -> None:
    """A second one is told the process id, what it is held for and what to do; after release the lock is free."""
    first, second = lock_of(tmp_path / "LOCK"), lock_of(tmp_path / ".." / tmp_path.name / "LOCK")
    first.acquire()
    told = (
        rf"is locked by process {os.getpid()} on .* \(this one, through another handle\), which is testing, since .*; "
        "use or close that handle"
    )
    with pytest.raises(CollectionLocked, match=told):
        second.acquire()
    assert first.held
    assert not second.held
    first.release()
    first.release()
    second.acquire()
    assert second.held
    second.close()
    second.close()


def test_a_refusal_tells_this_process_from_others(tmp_path: Path) -> None:
    """What another process holds is not said to be held by this one, though this one has held it before."""
    lock = lock_of(tmp_path / "LOCK")
    lock.acquire()
    lock.release()
    hold = (
        "import sys, reperio.layout as l, pathlib as p; "
        "x = l.FileLock(p.Path(sys.argv[1]), purpose='elsewhere', cure=''); x.acquire(); print(); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path / "LOCK")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "\n"
        with pytest.raises(CollectionLocked, match=rf"process {other.pid} on [^()]*, elsewhere, since .*; wait for"):
            lock.acquire()
        other.communicate("\n")
    lock.acquire()
    assert lock.unclean  # it ended without a release
    lock.close()


def test_a_note_that_strangers_have_written_is_no_trouble(tmp_path: Path) -> None:
    """Whatever is in the file, it is locked, and a refusal names "another process" where nobody can be named."""
    for content in (
        b"",
        b"no note",
        b"[1]",
        b'{"pid": 1}',
        b'{"pid":1,"host":"h","for":"f","since":1e300}',
        b"\xff" * 900,
    ):
        (tmp_path / "LOCK").write_bytes(content)
        first, second = lock_of(tmp_path / "LOCK"), lock_of(tmp_path / "LOCK")
        first.acquire()
        (tmp_path / "LOCK").write_bytes(content)
        with pytest.raises(CollectionLocked, match="is locked by another process; wait for the test"):
            second.acquire()
        first.close()


def test_a_note_with_control_characters_is_told_without(tmp_path: Path) -> None:
    """What strangers have put into the file neither starts a line in a log nor moves a terminal's cursor."""
    first, second = lock_of(tmp_path / "LOCK"), lock_of(tmp_path / "LOCK")
    first.acquire()
    note = {"pid": 1, "host": "\x1b[2J\n2026 ERROR", "since": 0, "for": "\r\u202e"}
    (tmp_path / "LOCK").write_bytes(json.dumps(note).encode().ljust(600))
    with pytest.raises(CollectionLocked) as refused:
        second.acquire()
    assert str(refused.value).isprintable()
    assert "process 1 on" in str(refused.value)
    first.close()


def test_a_note_that_cannot_be_written_leaves_nothing_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk the error is told, and while somebody keeps it the next one is not locked out."""
    first, second = lock_of(tmp_path / "LOCK"), lock_of(tmp_path / "LOCK")

    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr(os, "pwrite", refuse)
        with pytest.raises(StorageFailed, match="free some space") as kept:
            first.acquire()
    assert not first.held
    second.acquire()
    second.close()
    assert kept.value.errno == errno.ENOSPC


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give a file away")
def test_a_lock_that_root_makes_belongs_to_whom_the_directory_does(tmp_path: Path) -> None:
    """Else a single look by root would lock the owner out for good."""
    folder = tmp_path / "kb"
    folder.mkdir(mode=0o775)
    folder.chmod(0o775)
    os.chown(folder, 65534, 65534)
    lock = lock_of(folder / "LOCK")
    lock.acquire()
    lock.close()
    status = (folder / "LOCK").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (65534, 65534, 0o664)


def test_a_link_in_the_place_of_the_lock_is_refused(tmp_path: Path) -> None:
    """The note of the holder is not written into the file of others that a link called LOCK leads to."""
    (tmp_path / "letter").write_text("dear")
    (tmp_path / "LOCK").symlink_to(tmp_path / "letter")
    with pytest.raises(StorageFailed, match="a link"):
        lock_of(tmp_path / "LOCK").acquire()
    assert (tmp_path / "letter").read_text() == "dear"


def test_a_held_lock_keeps_its_note_when_others_try(tmp_path: Path) -> None:
    """A refused attempt does not wipe the holder's name."""
    lock = lock_of(tmp_path / "LOCK")
    lock.acquire()
    for _ in range(2):
        with pytest.raises(CollectionLocked, match=f"process {os.getpid()}"):
            lock_of(tmp_path / "LOCK").acquire()
    lock.close()


def test_a_lock_that_nobody_refers_to_is_free(tmp_path: Path) -> None:
    """A lock that was forgotten does not keep others out."""
    forgotten = lock_of(tmp_path / "LOCK")
    forgotten.acquire()
    del forgotten
    gc.collect()
    lock = lock_of(tmp_path / "LOCK")
    lock.acquire()
    lock.close()


def test_the_mark_changes_with_each_turn_and_is_nothing_during_one(tmp_path: Path) -> None:
    """Whoever has noted a mark sees that another has had a turn since, is having one, or has broken one off."""
    mine, theirs = lock_of(tmp_path / "LOCK"), lock_of(tmp_path / "LOCK")
    assert mine.mark() == b""  # nothing is open yet
    mine.acquire()
    assert mine.mark() == b""
    noted = mine.release()
    assert mine.mark() == noted != b""
    theirs.acquire()
    assert mine.mark() == b""
    assert theirs.release() == mine.mark() != noted
    for _ in range(3):
        noted = mine.mark()
        theirs.acquire()
        theirs.release(clean=False)
        assert mine.mark() == b""
        mine.acquire()
        assert mine.unclean
        mine.release()
        assert mine.mark() not in (b"", noted)
    theirs.acquire()
    assert not theirs.unclean
    theirs.release()
    (tmp_path / "LOCK").rename(tmp_path / "other")
    shutil.copy(tmp_path / "other", tmp_path / "LOCK")
    mine.look()
    assert mine.mark() == b""
    mine.close()
    assert mine.mark() == b""


def test_a_lasting_lock_is_kept_at_the_end_of_a_turn(tmp_path: Path) -> None:
    """Release ends the turn, and only close lets others in, who then find that the last turn ended well."""
    lasting, other = lock_of(tmp_path / "LOCK"), lock_of(tmp_path / "LOCK")
    lasting.acquire()
    lasting.lasting = True
    marks = [lasting.release() for _ in range(3)]
    assert len(set(marks)) == 3
    assert lasting.mark() == marks[-1]
    with pytest.raises(CollectionLocked):
        other.acquire()
    lasting.close()
    other.acquire()
    assert not other.unclean
    other.close()


def test_a_turn_that_begins_during_a_look_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that finds the file replaced does not undo what another thread has locked meanwhile."""
    lock, path = lock_of(tmp_path / "LOCK"), tmp_path / "LOCK"
    lock.acquire()
    known = lock.release()
    assert lock.mark() == known
    path.unlink()
    real, begun = _LockedFile.is_at, []

    def is_at(self: _LockedFile, name: str) -> bool:
        there = real(self, name)
        if not begun:
            begun.append(name)
            lock.acquire()  # as another thread would
        return there

    monkeypatch.setattr(_LockedFile, "is_at", is_at)
    lock.look()
    assert begun
    assert lock.is_in_place()
    lock.release()
    assert not lock.held
    lock.acquire()
    lock.close()


def test_the_mark_of_a_replaced_file_says_nothing(tmp_path: Path) -> None:
    """Once it was noticed that the file is gone, until the next turn."""
    lock, path = lock_of(tmp_path / "LOCK"), tmp_path / "LOCK"
    lock.acquire()
    assert lock.release() == lock.mark() != b""
    path.rename(tmp_path / "old")
    lock.look()
    assert lock.mark() == b""
    lock.acquire()
    assert lock.release() == lock.mark() != b""
    lock.close()


def test_atomic_writing_replaces_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """The new content takes the name; no temporary file stays."""
    path = tmp_path / "CURRENT"
    layout.write_atomically(path, b"one")
    layout.write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]


def make(path: Path, content: str = "part", *, fail: bool = False) -> None:
    with layout.new_directory(path) as fresh:
        (fresh / content).touch()
        assert not (path / content).exists()
        if fail:
            raise RuntimeError


def test_a_new_directory_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    """An error inside the block leaves neither the directory nor its temporary."""
    with pytest.raises(RuntimeError):
        make(tmp_path / "kb", fail=True)
    assert list(tmp_path.iterdir()) == []
    make(tmp_path / "kb")
    assert [entry.name for entry in (tmp_path / "kb").iterdir()] == ["part"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["kb"]


def test_creation_removes_what_a_killed_creation_left(tmp_path: Path) -> None:
    """A stale temporary directory goes; one whose creator lives stays."""
    stale = tmp_path / ".kb.creating-1-deadbeef"
    stale.mkdir()
    with layout.new_directory(tmp_path / "kb") as slow:
        assert not stale.exists()
        make(tmp_path / "kb")  # another creator, who is faster, leaves our directory alone
        assert slow.exists()
        shutil.rmtree(tmp_path / "kb")
    assert [entry.name for entry in tmp_path.iterdir()] == ["kb"]


def test_an_empty_directory_is_taken_and_another_one_is_not(tmp_path: Path) -> None:
    """An existing empty directory becomes the new one; a full one raises and stays."""
    (tmp_path / "kb").mkdir()
    make(tmp_path / "kb", "x")
    with pytest.raises(CollectionExists, match="already exists"):
        make(tmp_path / "kb", "y")
    assert [entry.name for entry in (tmp_path / "kb").iterdir()] == ["x"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["kb"]


def test_what_is_no_collection_is_named(tmp_path: Path) -> None:
    """A file, and a directory with other things in it, are refused with what they are."""
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(NotACollection, match="is a file"):
        layout.Layout(file).is_collection()
    with pytest.raises(NotACollection, match="it holds file and no CURRENT"):
        layout.Layout(tmp_path).is_collection()


@pytest.mark.parametrize("content", ["", "gen-000002", "../../etc", "gen-1", "\x00\xff"])
def test_a_damaged_current_is_reported(tmp_path: Path, content: str) -> None:
    """CURRENT must name a generation that is there; nothing else is followed."""
    (tmp_path / "gen-000001").mkdir()
    (tmp_path / "CURRENT").write_text(content, encoding="latin-1")
    with pytest.raises(CollectionDamaged, match="which is no generation here; restore from a backup"):
        layout.Layout(tmp_path).read_current()


def test_os_errors_become_typed_errors_with_their_number() -> None:
    """A full disk is a StorageFailed that is an OSError with ENOSPC, naming path and cure."""
    message = r"cannot write here: No space left.*free some space"
    with pytest.raises(StorageFailed, match=message) as caught, layout.storage_errors(Path("here"), "write"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.errno == errno.ENOSPC
    assert isinstance(caught.value, OSError)

"""Paths, atomic replacement, the lock, creation by rename."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from reperio import layout
from reperio.errors import CollectionDamaged, CollectionExists, CollectionLocked, NotACollection, StorageFailed


def test_a_lock_is_exclusive_and_names_its_holder(tmp_path: Path) -> None:
    """A second writer is told the first one's process id; after release the lock is free."""
    lock = layout.WriterLock(tmp_path / "LOCK")
    with pytest.raises(CollectionLocked, match=rf"open for writing in process {os.getpid()} on "):
        layout.WriterLock(tmp_path / "LOCK")
    lock.release()
    lock.release()
    layout.WriterLock(tmp_path / "LOCK").release()


def test_a_refusal_tells_this_process_from_others(tmp_path: Path) -> None:
    """Whoever holds the lock himself is told so; a handle that was closed here long ago is not what is in the way."""
    lock = layout.WriterLock(tmp_path / "LOCK")
    with pytest.raises(CollectionLocked, match="which is this one; use or close that handle, or open with read_only"):
        layout.WriterLock(tmp_path / ".." / tmp_path.name / "LOCK")
    lock.release()
    hold = "import sys, reperio.layout as l, pathlib as p; x = l.WriterLock(p.Path(sys.argv[1])); print(); input()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path / "LOCK")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "\n"
        with pytest.raises(
            CollectionLocked, match=f"in process {other.pid} on .*; close it there, or open with read_only"
        ):
            layout.WriterLock(tmp_path / "LOCK")
        other.communicate("\n")
    layout.WriterLock(tmp_path / "LOCK").release()


def test_a_link_in_the_place_of_the_lock_is_refused(tmp_path: Path) -> None:
    """The note of the holder is not written into the file of others that a link called LOCK leads to."""
    (tmp_path / "letter").write_text("dear")
    (tmp_path / "LOCK").symlink_to(tmp_path / "letter")
    with pytest.raises(StorageFailed, match="a link"):
        layout.WriterLock(tmp_path / "LOCK")
    assert (tmp_path / "letter").read_text() == "dear"


def test_a_held_lock_keeps_its_note_when_others_try(tmp_path: Path) -> None:
    """A refused attempt does not wipe the holder's name."""
    lock = layout.WriterLock(tmp_path / "LOCK")
    for _ in range(2):
        with pytest.raises(CollectionLocked, match=f"process {os.getpid()}"):
            layout.WriterLock(tmp_path / "LOCK")
    lock.release()


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

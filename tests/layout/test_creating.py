"""Making something inside an empty directory that is there: whole, in turn, and past what others have left."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import reperio
from reperio import exchange, layout
from reperio.errors import CollectionDamaged, CollectionExists, CollectionNotFound, NotACollection
from reperio.layout import creating


def names(directory: Path) -> set[str]:
    return {entry.name for entry in directory.iterdir()}


def leave(directory: Path, kind: str, *content: str, number: int = 1) -> Path:
    """Leave what a killed creation leaves: its directory, which nobody has locked."""
    left = directory / f".{kind}-{number}-deadbeef"
    left.mkdir(parents=True)
    for name in content:
        (left / name).write_text(name)
    return left


def test_it_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    """An error leaves the directory empty, and the directory stays the one that it was."""
    inode = tmp_path.stat().st_ino
    with pytest.raises(RuntimeError):
        _fail(tmp_path)
    assert names(tmp_path) == set()
    with layout.new_directory(tmp_path) as fresh:
        (fresh / "part").touch()
        (fresh / "CURRENT").touch()
        assert len(names(tmp_path)) == 1
    assert names(tmp_path) == {"part", "CURRENT"}
    assert tmp_path.stat().st_ino == inode


def _fail(place: Path) -> None:
    with layout.new_directory(place) as fresh:
        (fresh / "part").touch()
        raise RuntimeError


def test_what_comes_in_between_is_not_overwritten(tmp_path: Path) -> None:
    """Who was slower is told, and leaves nothing; a file that somebody has put there stays."""
    for other in ("CURRENT", "notes.txt"):
        place = tmp_path / other
        place.mkdir()
        with pytest.raises(CollectionExists, match="already exists"):
            _make_while(place, other)
        assert names(place) == {other}
        assert (place / other).read_text() == "theirs"


def _make_while(place: Path, other: str) -> None:
    with layout.new_directory(place) as fresh:
        (fresh / "CURRENT").write_text("ours")
        (place / other).write_text("theirs")


def test_many_may_create_at_once(tmp_path: Path) -> None:
    """Handles that open an empty directory at the same moment all get the one collection that comes of it."""
    together = threading.Barrier(8)

    def create(number: int) -> None:
        together.wait()
        with reperio.open(tmp_path, dimension=2) as kb:
            kb.add([reperio.Chunk(f"{number}", "text")], vectors=[[1.0, 0.0]])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(create, range(8)))
    with reperio.open(tmp_path) as kb:
        assert sorted(chunk.id for chunk in kb) == [f"{number}" for number in range(8)]
    assert names(tmp_path) == {"CURRENT", "LOCK", "MAINTENANCE", "gen-000001"}


def test_one_that_is_being_moved_up_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another creation may begin to move up between the look for that and the look whether the directory is free."""
    reperio.open(tmp_path / "theirs", dimension=2).close()
    there = tmp_path / "kb"
    there.mkdir()
    look = creating.finish_creation

    def look_too_early(directory: Path) -> bool:
        found = look(directory)
        left = leave(there, "publishing")
        (tmp_path / "theirs" / "gen-000001").rename(there / "gen-000001")
        (tmp_path / "theirs" / "CURRENT").rename(left / "CURRENT")
        return found

    monkeypatch.setattr(creating, "finish_creation", look_too_early)
    with reperio.open(there, dimension=2) as kb:
        assert kb.info().dimension == 2
    assert names(there) == {"CURRENT", "LOCK", "MAINTENANCE", "gen-000001"}


def test_what_others_remove_meanwhile_is_no_stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A creation may end between the look at the names and the look at what they are."""
    leave(tmp_path, "creating")
    look = creating.is_directory

    def look_too_late(path: Path) -> bool:
        path.rmdir()
        return look(path)

    monkeypatch.setattr(creating, "is_directory", look_too_late)
    assert layout.strangers_in(tmp_path) == []


def test_a_directory_that_another_makes_meanwhile_is_created_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing was, another process may make an empty directory, and begin to create in it."""
    there, take = tmp_path / "kb", creating._take_name

    def take_too_late(fresh: Path, destination: Path) -> None:
        leave(there, "creating")
        take(fresh, destination)

    monkeypatch.setattr(creating, "_take_name", take_too_late)
    with reperio.open(there, dimension=2) as kb:
        assert kb.info().dimension == 2
    assert names(there) == {"CURRENT", "LOCK", "MAINTENANCE", "gen-000001"}
    assert names(tmp_path) == {"kb"}


def test_what_was_complete_is_moved_up_and_what_was_not_goes(tmp_path: Path) -> None:
    """The rest of a complete creation follows, CURRENT last; to a reader there is nothing until then."""
    reperio.open(tmp_path / "made", dimension=2).close()
    there = tmp_path / "kb"
    left = leave(there, "publishing")
    leave(there, "creating", "half", number=2)
    (tmp_path / "made" / "gen-000001").rename(there / "gen-000001")
    (tmp_path / "made" / "CURRENT").rename(left / "CURRENT")
    with pytest.raises(CollectionNotFound):
        reperio.open(there, read_only=True)
    with reperio.open(there) as kb:  # its dimension is known: it is not created again
        assert kb.info().dimension == 2
    assert names(there) == {"CURRENT", "LOCK", "MAINTENANCE", "gen-000001"}


def test_a_collection_that_has_lost_current_is_still_damaged(tmp_path: Path) -> None:
    """A creation that did not get far is no reason to take its generation for unfinished."""
    reperio.open(tmp_path, dimension=2).close()
    (tmp_path / "CURRENT").unlink()
    leave(tmp_path, "creating", "CURRENT")
    with pytest.raises(CollectionDamaged, match="is missing"):
        reperio.open(tmp_path, dimension=2)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("file", ".publishing-1-deadbeef"),
        ("link", ".publishing-1-deadbeef"),
        ("link", ".creating-1-deadbeef"),
        *(("folder", name) for name in (".publishing-x", ".publishing-01-deadbeef", ".creating-1-DEADBEEF")),
    ],
)
def test_what_only_looks_like_ours_is_somebodys(kind: str, name: str, tmp_path: Path) -> None:
    """Files, links and other names keep a directory from being taken for empty, and stay."""
    place, outside = tmp_path / "kb", tmp_path / "outside"
    place.mkdir()
    outside.mkdir()
    (outside / "mine").touch()
    if kind == "file":
        (place / name).touch()
    elif kind == "link":
        (place / name).symlink_to(outside)
    else:
        (place / name).mkdir()
    with pytest.raises(NotACollection):
        reperio.open(place, dimension=2)
    with pytest.raises(CollectionExists):
        exchange.export_collection(_some(tmp_path), place, format="jsonl")
    assert names(place) == {name}
    assert names(outside) == {"mine"}


def _some(tmp_path: Path) -> Path:
    reperio.open(tmp_path / "some", dimension=2).close()
    return tmp_path / "some"


def test_what_is_in_the_way_of_a_complete_creation_is_named(tmp_path: Path) -> None:
    """Nothing is overwritten; once it is moved away, the rest follows."""
    left = leave(tmp_path, "publishing", "CURRENT", "gen-000001")
    (tmp_path / "gen-000001").write_text("mine")
    with pytest.raises(CollectionExists, match="gen-000001 is in the way; move it away"):
        reperio.open(tmp_path, dimension=2)
    assert (tmp_path / "gen-000001").read_text() == "mine"
    assert names(left) == {"CURRENT", "gen-000001"}

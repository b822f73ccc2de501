"""Where a collection may lie: in what somebody has prepared for it, as it was prepared."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

import reperio
from reperio import CollectionExists, CollectionNotFound, NotACollection, StorageFailed, exchange
from reperio.cli.main import app
from tests.collection.places import (
    COLLEAGUE,
    GROUP,
    SOMEBODY,
    as_user,
    fill,
    ids,
    in_mount,
    only_root,
    shared_directory,
    umask,
)


@pytest.fixture
def shared() -> Iterator[Path]:
    yield from shared_directory()


def modes_of(path: Path) -> dict[str, int]:
    """Return the permissions of everything in a directory, and of itself as "."."""
    found = {str(entry.relative_to(path)): stat.S_IMODE(entry.stat().st_mode) for entry in path.rglob("*")}
    return {".": stat.S_IMODE(path.stat().st_mode), **found}


@pytest.mark.parametrize("function", ["live_in", "receive_in"])
def test_the_root_of_a_file_system_takes_a_collection(function: str, tmp_path: Path) -> None:
    """An empty mount point, which no rename replaces, and a fresh volume with lost+found, whatever writes there."""
    in_mount(tmp_path / "mount", function)


def test_a_fresh_volume_is_empty_enough(tmp_path: Path) -> None:
    """A directory lost+found is no obstacle, and stays; a file of that name is somebody's."""
    (tmp_path / "kb" / "lost+found").mkdir(parents=True)
    fill(tmp_path / "kb", "a")
    assert ids(tmp_path / "kb") == {"a"}
    assert (tmp_path / "kb" / "lost+found").is_dir()
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "lost+found").touch()
    with pytest.raises(NotACollection, match="it holds lost"):
        fill(tmp_path / "strange", "a")


def test_a_directory_of_ones_own_is_enough(shared: Path) -> None:
    """Whoever may write to an empty directory, and not to its parent, can create, copy and restore there."""
    for name in ("kb", "backup", "restored", "increments"):
        (shared / name).mkdir()
        if os.getuid() == 0:
            os.chown(shared / name, SOMEBODY, SOMEBODY)
    shared.chmod(0o555)

    def live() -> None:
        fill(shared / "kb", "a", "b")
        with reperio.open(shared / "kb") as kb:
            kb.delete(ids="b")
            kb.compact()
            kb.backup(shared / "backup")
            kb.backup(shared / "increments", incremental=True)
        reperio.restore(shared / "backup", shared / "restored")
        assert ids(shared / "kb") == ids(shared / "restored") == {"a"}
        with pytest.raises(StorageFailed, match="choose a directory of your own"):
            fill(shared / "new", "a")

    try:
        as_user(SOMEBODY, live)
    finally:
        shared.chmod(0o755)


def test_a_link_to_an_empty_directory_is_followed(tmp_path: Path) -> None:
    """A path that a person passes is where it leads, for all that makes a directory; the link stays a link."""
    makers: dict[str, Callable[[Path], object]] = {
        "kb": lambda path: fill(path, "a"),
        "backup": lambda path: reperio.open(tmp_path / "kb").backup(path),
        "restored": lambda path: reperio.restore(tmp_path / "backup", path),
        "export": lambda path: exchange.export_collection(tmp_path / "kb", path, format="jsonl"),
        "imported": lambda path: exchange.import_collection(tmp_path / "export", path),
    }
    for name, make in makers.items():
        (tmp_path / f"real {name}").mkdir()
        (tmp_path / name).symlink_to(f"real {name}")
        make(tmp_path / name)
        assert (tmp_path / name).is_symlink()
        with pytest.raises((CollectionExists, reperio.InvalidInput)):
            reperio.restore(tmp_path / "kb", tmp_path / name)
    for name in ("kb", "backup", "restored", "imported"):
        assert ids(tmp_path / f"real {name}") == ids(tmp_path / name) == {"a"}


def test_a_link_that_leads_nowhere_is_told(tmp_path: Path) -> None:
    """Nothing is made where it leads, and the error says what it is."""
    (tmp_path / "kb").symlink_to("nowhere")
    with pytest.raises(NotACollection, match="a link that leads nowhere; make the directory that it leads to"):
        fill(tmp_path / "kb", "a")
    assert [entry.name for entry in tmp_path.iterdir()] == ["kb"]


@pytest.mark.parametrize("mode", [0o700, 0o2770, 0o2755, 0o3777])
def test_a_prepared_directory_keeps_its_permissions(mode: int, tmp_path: Path) -> None:
    """What was prepared for its owner or a group is not opened to everybody, by a creation, a restore or a rewrite."""
    for name in ("kb", "backup", "restored"):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(mode)
    fill(tmp_path / "kb", "a")
    with reperio.open(tmp_path / "kb") as kb:
        kb.compact()
        kb.backup(tmp_path / "backup")
    reperio.restore(tmp_path / "backup", tmp_path / "restored")
    for name in ("kb", "backup", "restored"):
        found = modes_of(tmp_path / name)
        assert found["."] == mode
        assert all(one & 0o2000 == mode & 0o2000 for path, one in found.items() if (tmp_path / name / path).is_dir())


@pytest.mark.parametrize(
    ("mask", "file", "folder"), [(0o022, 0o644, 0o755), (0o002, 0o664, 0o775), (0o077, 0o600, 0o700)]
)
def test_permissions_follow_the_umask(mask: int, file: int, folder: int, tmp_path: Path) -> None:
    """Of every file that a collection, its backup, a restore or a new generation has."""
    with umask(mask):
        fill(tmp_path / "kb", "a")
        with reperio.open(tmp_path / "kb") as kb:
            kb.add([reperio.Chunk(f"{n}", "text") for n in range(300)], vectors=[[n, 1.0] for n in range(300)])
            kb.compact()
            kb.optimize(index="HNSW8")
            while_open = modes_of(tmp_path / "kb")
            kb.backup(tmp_path / "backup")
            kb.backup(tmp_path / "increments", incremental=True)
        reperio.restore(tmp_path / "increments", tmp_path / "restored")
    assert any(path.endswith(".faiss") for path in while_open)
    assert any(path.endswith("-wal") for path in while_open)
    for found in (while_open, *(modes_of(tmp_path / name) for name in ("kb", "backup", "increments", "restored"))):
        strange = {path: oct(mode) for path, mode in found.items() if mode not in (file, folder)}
        assert not strange


@only_root
def test_colleagues_share_a_directory_of_their_group(shared: Path) -> None:
    """Under umask 002, in a directory with the setgid bit, either goes on with what the other has made."""
    kb = shared / "kb"
    kb.mkdir()
    os.chown(kb, SOMEBODY, GROUP)
    kb.chmod(0o2770)

    def first() -> None:
        fill(kb, "a")

    def second() -> None:
        fill(kb, "b")
        with reperio.open(kb) as opened:
            opened.delete(ids="b")
            opened.compact()

    def third() -> None:
        fill(kb, "c")
        with reperio.open(kb) as opened:
            opened.compact()

    for user, work in ((SOMEBODY, first), (COLLEAGUE, second), (SOMEBODY, third), (COLLEAGUE, lambda: fill(kb, "d"))):
        as_user(user, work, groups=(GROUP,), mask=0o002)
    assert ids(kb) == {"a", "c", "d"}
    assert {entry.stat().st_gid for entry in [kb, *kb.rglob("*")]} == {GROUP}
    with pytest.raises(AssertionError, match="StorageFailed"):
        as_user(COLLEAGUE, lambda: reperio.open(kb, read_only=True))


@only_root
def test_what_root_does_in_a_users_directory_stays_the_users(shared: Path) -> None:
    """A creation, a rewrite or an index build by root does not keep the owner of the directory out."""
    (shared / "kb").mkdir(mode=0o755)
    os.chown(shared / "kb", SOMEBODY, SOMEBODY)
    fill(shared / "kb", "a", "b")
    as_user(SOMEBODY, lambda: fill(shared / "kb", "c"))
    with reperio.open(shared / "kb") as kb:
        kb.delete(ids="b")
        kb.compact()

    def go_on() -> None:
        fill(shared / "kb", "d")
        with reperio.open(shared / "kb") as kb:
            kb.compact()

    as_user(SOMEBODY, go_on)
    assert ids(shared / "kb") == {"a", "c", "d"}
    assert {entry.stat().st_uid for entry in (shared / "kb").rglob("*")} == {SOMEBODY}


def test_the_command_line_knows_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shells leave the tilde of --into=~/kb as it is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    fill(tmp_path / "kb", "a")
    result = CliRunner().invoke(app, ["backup", "~/kb", "~/copy"])
    assert result.exit_code == 0, result.output
    assert ids(tmp_path / "copy") == {"a"}


def test_a_reader_makes_nothing(tmp_path: Path) -> None:
    """Of an empty directory, read_only says that there is none, and leaves it empty."""
    with pytest.raises(CollectionNotFound, match="create it with"):
        reperio.open(tmp_path, read_only=True)
    assert not any(tmp_path.iterdir())

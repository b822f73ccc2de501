"""Only regular files are opened, whatever stands at a path."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reperio.errors import InvalidInput, StorageFailed
from reperio.layout import is_directory, is_regular, open_regular, read_regular
from reperio.layout.writing import remove_tree


def test_a_regular_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    assert read_regular(path, 7) == b"content"
    with pytest.raises(StorageFailed, match="more than 6 bytes"):
        read_regular(path, 6)


def test_what_is_not_regular_is_named_at_once(tmp_path: Path) -> None:
    """Nothing waits for the other end of a pipe, reads a device or follows a link."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    for name, said in [("pipe", "a named pipe"), ("folder", "a directory"), ("device", "link"), ("link", "link")]:
        with pytest.raises(StorageFailed, match=said) as raised:
            open_regular(tmp_path / name)
        assert raised.value.errno
    assert read_regular(tmp_path / "link", 10, follow=True) == b""
    with pytest.raises(StorageFailed, match="a device"):
        open_regular(tmp_path / "device", follow=True)


def test_a_path_with_nul_is_named_and_not_an_error_of_python(tmp_path: Path) -> None:
    """No system call takes one, and Python's ValueError names neither the path nor the cure."""
    for look in (open_regular, is_regular, is_directory):
        with pytest.raises(InvalidInput, match="holds NUL"):
            look(tmp_path / "a\0b")


def test_only_a_directory_is_removed(tmp_path: Path) -> None:
    """With the pipes in it; a pipe, a file or a link in its place is neither waited for nor removed."""
    folder = tmp_path / "folder"
    folder.mkdir()
    os.mkfifo(folder / "pipe")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("folder")
    for name in ("pipe", "link", "nothing"):
        remove_tree(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "link", "pipe"]
    remove_tree(folder)
    assert not folder.exists()

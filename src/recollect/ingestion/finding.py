"""Paths → the files to read, each with the name by which its chunks are known: its *source*."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from recollect.collection.arguments import is_iterable, to_path
from recollect.errors import InvalidInput

SUFFIXES = (".txt", ".md", ".jsonl", ".csv", ".parquet")

Paths: TypeAlias = "str | os.PathLike[str] | Iterable[str | os.PathLike[str]]"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file to read.

    Attributes:
        path: where it is.
        source: the path relative to the ingested folder, after that folder's own name, with slashes
            (``docs/guide/start.md`` for ``ingest ~/docs``); for a file that was named itself, its name. It is
            the same whatever the current directory and wherever the folder was moved.

    """

    path: Path
    source: str

    @property
    def suffix(self) -> str:
        """In lower case, with the dot."""
        return self.path.suffix.lower()


@dataclass(frozen=True, slots=True)
class Skipped:
    """What was passed over, and why."""

    source: str
    reason: str


@dataclass(slots=True)
class Found:
    """What lies beneath the paths.

    Attributes:
        files: to be read, in the order of the paths, and sorted by name within each folder.
        folders: the prefix of every source beneath a folder that was named, e.g. ``docs/``, and that folder.
        skipped: files that are not read.

    """

    files: list[SourceFile] = field(default_factory=list)
    folders: dict[str, Path] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)


def find_files(paths: Paths, *, leave_out: Path | None = None) -> Found:
    """Find the files to ingest; folders are walked, hidden files and folders in them passed over.

    Args:
        paths: files and folders.
        leave_out: a folder not to enter: the collection itself.

    Raises:
        InvalidInput: a path does not exist, a named file has a suffix that is not read, or two files would have the
            same source.

    """
    found, seen = Found(), _Seen()
    for path in _to_paths(paths):
        # The last part of "docs/.." or "." is no name.
        whole = Path(os.path.abspath(path))  # noqa: PTH100  # resolve() would name a link's target, not the link
        if whole.is_dir():
            prefix = f"{whole.name}/"
            if found.folders.setdefault(prefix, whole) != whole:
                raise InvalidInput(
                    f"{found.folders[prefix]} and {whole} have the same name, so their chunks could not be told apart; "
                    "rename one, or ingest the folder above them"
                )
            _walk(whole, prefix, found, seen, leave_out and leave_out.resolve())
        else:
            reason = _unreadable(whole)
            if reason is not None:
                raise InvalidInput(f"{_shown(str(path))} {reason}")
            seen.add(SourceFile(whole, whole.name), found)
    return found


def _to_paths(paths: Paths) -> Sequence[Path]:
    single = isinstance(paths, (str, os.PathLike))
    if isinstance(paths, (bytes, Mapping)) or not (single or is_iterable(paths)):
        raise InvalidInput(f"paths is a {type(paths).__name__}; pass a path, or a list of them")
    several = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    if not several:
        raise InvalidInput("no path to ingest; name files or folders")
    listed = [to_path("a path", path) for path in several]
    for path in listed:
        if not os.path.lexists(path):
            raise InvalidInput(f"{_shown(os.fspath(path))} does not exist; nothing was ingested")
    return listed


def _walk(folder: Path, prefix: str, found: Found, seen: _Seen, leave_out: Path | None) -> None:
    try:
        with os.scandir(folder) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise InvalidInput(f"{folder} cannot be read: {error.strerror}; allow it, or move it elsewhere") from error
    for entry in ordered:
        if entry.name.startswith("."):
            continue
        path, source = Path(entry.path), prefix + entry.name
        if entry.is_dir(follow_symlinks=False):
            if path.resolve() == leave_out:
                found.skipped.append(Skipped(f"{source}/", "is the collection itself"))
            else:
                _walk(path, f"{source}/", found, seen, leave_out)
            continue
        reason = _unreadable(path)
        if reason is not None:
            found.skipped.append(Skipped(_shown(source), reason))
        else:
            seen.add(SourceFile(path, source), found)


def _unreadable(path: Path) -> str | None:
    """Return why a path is not read; None when it is."""
    if not path.exists():
        return "is a link to something that does not exist"
    if path.is_dir():
        return "is a link to a folder; name that folder itself to ingest it"
    if not path.is_file():
        return "is neither a file nor a folder"
    if path.suffix.lower() not in SUFFIXES:
        kind = f"has the suffix {_shown(path.suffix)!r}" if path.suffix else "has no suffix"
        return f"{kind}; what is read is {' '.join(SUFFIXES)}"
    if _shown(path.name) != path.name:
        return "has a name that is no UTF-8; rename it"
    return None


def _shown(name: str) -> str:
    """Make a file name printable: a byte that is no UTF-8 appears by its hexadecimal number."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


class _Seen:
    """Which files were found already, so that none is read twice or under another's name."""

    def __init__(self) -> None:
        self._by_place: dict[Path, str] = {}
        self._by_source: dict[str, Path] = {}

    def add(self, file: SourceFile, found: Found) -> None:
        place = file.path.resolve()
        if place in self._by_place:
            if self._by_place[place] != file.source:
                found.skipped.append(Skipped(file.source, f"is read already as {self._by_place[place]}"))
            return
        if file.source in self._by_source:
            raise InvalidInput(
                f"{self._by_source[file.source]} and {file.path} would both be known as {file.source!r}; rename one, "
                "or ingest the folder above them"
            )
        self._by_place[place] = file.source
        self._by_source[file.source] = file.path
        found.files.append(file)

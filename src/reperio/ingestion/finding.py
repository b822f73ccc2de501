"""Paths → the files to read, each with the name by which its chunks are known: its *source*."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from reperio.arguments import is_iterable, to_path
from reperio.errors import InvalidInput
from reperio.ingestion.suffixes import SUFFIXES, suffix_of

Paths: TypeAlias = "str | os.PathLike[str] | Iterable[str | os.PathLike[str]]"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file to read."""

    path: Path  # where it is
    # The path relative to the ingested folder, after that folder's own name, with slashes (``docs/guide/start.md`` for
    # ``ingest ~/docs``); for a file that was named itself, its name. It is the same whatever the current directory and
    # wherever the folder was moved.
    source: str

    @property
    def suffix(self) -> str:
        """In lower case, with the dot: ``.csv.gz``."""
        return suffix_of(self.path.name)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that was passed over, and why."""

    source: str
    reason: str


@dataclass(slots=True)
class FoundFiles:
    """The files beneath the paths."""

    # To be read, in the order of the paths, and sorted by name within each folder.
    files: list[SourceFile] = field(default_factory=list)
    # The prefix of every source beneath a folder that was named, e.g. ``docs/``, and that folder.
    folders: dict[str, Path] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)  # files that are not read
    _sources: dict[Path, str] = field(default_factory=dict)  # by the file's path without links
    _paths: dict[str, Path] = field(default_factory=dict)  # by source

    def add(self, file: SourceFile, place: Path) -> None:
        """Add a file, so that none is read twice or under another's name; *place* is its path without links."""
        if place in self._sources:
            if self._sources[place] != file.source:
                self.skipped.append(Skipped(file.source, f"is read already as {self._sources[place]}"))
            return
        if file.source in self._paths:
            raise InvalidInput(
                f"{self._paths[file.source]} and {file.path} would both be known as {file.source!r}; rename one, "
                "or ingest the folder above them"
            )
        self._sources[place] = file.source
        self._paths[file.source] = file.path
        self.files.append(file)


def find_files(paths: Paths, *, leave_out: Path | None = None) -> FoundFiles:
    """Find the files to ingest; folders are walked, hidden files and folders in them passed over.

    A link in a folder is followed only to a file in that folder; others are reported as skipped.

    Args:
        paths: files and folders; those named may be links.
        leave_out: a folder not to enter: the collection itself.

    Raises:
        InvalidInput: a path does not exist, a named file has a suffix that is not read, or two files would have the
            same source.
    """
    found = FoundFiles()
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
            _walk(whole, prefix, found, leave_out and leave_out.resolve())
        else:
            reason = _unreadable(whole)
            if reason is not None:
                raise InvalidInput(f"{_shown(str(path))} {reason}")
            found.add(SourceFile(whole, whole.name), whole.resolve())
    return found


def _to_paths(paths: Paths) -> Sequence[Path]:
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    if isinstance(paths, (bytes, Mapping)) or not is_iterable(paths):
        raise InvalidInput(f"paths is a {type(paths).__name__}; pass a path, or a list of them")
    several = list(paths)
    if not several:
        raise InvalidInput("no path to ingest; name files or folders")
    listed = [to_path("a path", path) for path in several]
    for path in listed:
        if not os.path.lexists(path):
            raise InvalidInput(f"{_shown(os.fspath(path))} does not exist; nothing was ingested")
    return listed


def _walk(folder: Path, prefix: str, found: FoundFiles, leave_out: Path | None) -> None:
    root = folder.resolve()
    itself = None if leave_out is None or not leave_out.exists() else leave_out.stat()
    levels = [_listed(folder, prefix)]  # not by recursion: folders may be nested deeper than Python's stack
    while levels:
        entry, source = next(levels[-1], (None, ""))
        if entry is None:
            levels.pop()
            continue
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            if itself is not None and os.path.samestat(entry.stat(follow_symlinks=False), itself):
                found.skipped.append(Skipped(f"{source}/", "is the collection itself"))
            else:
                levels.append(_listed(path, f"{source}/"))
            continue
        reason = _unreadable(path) or (_led_astray(path, root, leave_out) if entry.is_symlink() else None)
        if reason is not None:
            found.skipped.append(Skipped(_shown(source), reason))
        else:
            place = path.resolve() if entry.is_symlink() else root / path.relative_to(folder)
            found.add(SourceFile(path, source), place)


def _listed(folder: Path, prefix: str) -> Iterator[tuple[os.DirEntry[str], str]]:
    """Yield what is not hidden in a folder, by name, each with its source."""
    try:
        with os.scandir(folder) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise InvalidInput(f"{folder} cannot be read: {error.strerror}; allow it, or move it elsewhere") from error
    for entry in ordered:
        if not entry.name.startswith("."):
            yield entry, prefix + entry.name


def _led_astray(link: Path, root: Path, leave_out: Path | None) -> str | None:
    """Return why a link in *root* to a file is not followed; None when it is. The folders are paths without links."""
    # Whoever has made a folder does not choose what of this machine is read: a link leads to what would be read by its
    # own name as well.
    target = link.resolve()
    if not target.is_relative_to(root):
        return "is a link that leads out of the folder; name the file itself to ingest it"
    if target.name.startswith(".") or (leave_out is not None and target.is_relative_to(leave_out)):
        return "is a link to a file that is passed over"
    return _unreadable(target) and f"is a link to a file that {_unreadable(target)}"


def _unreadable(path: Path) -> str | None:
    """Return why a path is not read; None when it is."""
    if not path.exists():
        return "is a link to something that does not exist"
    if path.is_dir():
        return "is a link to a folder; name that folder itself to ingest it"
    if not path.is_file():
        return "is neither a file nor a folder"
    suffix = suffix_of(path.name)
    if suffix not in SUFFIXES:
        kind = f"has the suffix {_shown(suffix)!r}" if suffix else "has no suffix"
        return f"{kind}; what is read is text, Markdown, tables, documents and source code: see docs/ingest.md"
    if _shown(path.name) != path.name:
        return "has a name that is no UTF-8; rename it"
    return None


def _shown(name: str) -> str:
    """Make a file name printable: a byte that is no UTF-8 appears by its hexadecimal number."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")

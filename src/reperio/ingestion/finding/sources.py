"""A file to read, and all that was found: the words that finding, walking and reading share."""

from __future__ import annotations

import errno
import os
import stat
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from reperio.errors import InvalidInput
from reperio.ingestion.finding.suffixes import SUFFIXES, suffix_of
from reperio.ingestion.results import Failed, Skipped

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec


STANDARD_INPUT = "standard input"
"""The place of what has none: it was piped in."""
INPUT_FOLDER = "reperio-standard-input-"
"""How the name of the folder begins in which standard input is kept while it is read."""

_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
"""What the system says where nothing is, or a link that leads nowhere."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file to read."""

    path: Path  # where it is
    # The path relative to the ingested folder, after that folder's name, with slashes (``docs/guide/start.md`` for
    # ``ingest ~/docs``); for a file that was named itself, its name. It is the same whatever the current directory, and
    # however the file system composes letters.
    source: str
    root: str = ""  # the name of the folder, or of the file itself
    inside: str = ""  # the path within that folder, as the file system has it

    @property
    def suffix(self) -> str:
        """In lower case, with the dot: ``.csv.gz``."""
        return suffix_of(self.path.name)


@dataclass(frozen=True, slots=True)
class Walked:
    """A folder that was gone through, or the part of it that a pattern names."""

    place: Path
    only: GitIgnoreSpec | None

    def holds(self, path: Path) -> bool:
        """Say whether a file at that path would have been found, were it there."""
        if not path.is_relative_to(self.place):
            return False
        return self.only is None or self.only.match_file(path.relative_to(self.place).as_posix())


@dataclass(slots=True)
class FoundFiles:
    """The files beneath the paths."""

    # To be read, in the order of the paths, and sorted by name within each folder.
    files: list[SourceFile] = field(default_factory=list)
    # The prefix of every source beneath a folder that was named, e.g. ``docs/``, and that folder.
    folders: dict[str, Path] = field(default_factory=dict)
    roots: dict[str, Path] = field(default_factory=dict)  # what the files are known by, and where that is
    skipped: list[Skipped] = field(default_factory=list)  # files that are not read
    failed: list[Failed] = field(default_factory=list)  # files and folders that cannot be
    walked: list[Walked] = field(default_factory=list)
    present: set[str] = field(default_factory=set)  # sources that are there, and not read
    unread: list[Path] = field(default_factory=list)  # folders of whose content nothing is known
    _sources: dict[Path, str] = field(default_factory=dict)  # by the file's path without links
    _paths: dict[str, Path] = field(default_factory=dict)  # by source

    def add(self, file: SourceFile, place: Path) -> None:
        """Add a file, so that none is read twice or under another's name; *place* is its path without links.

        Raises:
            InvalidInput: another file has its source.
        """
        if place in self._sources:
            if self._sources[place] != file.source:
                self.skip(file.source, f"is read already as {self._sources[place]}")
            return
        if file.source in self._paths:
            raise InvalidInput(
                f"{self._paths[file.source]} and {file.path} would both be known as {file.source!r}; rename one, "
                "ingest the folder above them, or ingest one by itself with name='…' (--name)"
            )
        self._sources[place] = file.source
        self._paths[file.source] = file.path
        self.files.append(file)

    def covers(self, place: Path) -> bool:
        """Say whether all of a folder or file that was named before was looked for, not a part of it."""
        whole = [walked.place for walked in self.walked if walked.only is None]
        # A folder may have been named by a link to it.
        return any(place.is_relative_to(at) or place.is_relative_to(at.resolve()) for at in whole) or not place.is_dir()

    def skip(self, source: str, reason: str) -> None:
        """Pass over a file that is there."""
        self.skipped.append(Skipped(source, reason))
        self.present.add(source)

    def fail(self, source: str, place: Path, reason: str) -> None:
        """List what cannot be read; what is stored of it stays."""
        self.failed.append(Failed(source, shown(str(place)), reason))
        self.present.add(source)


def to_source(root: str, inside: str) -> str:
    """Return the source of a file by the name of its root and its path within it, however its letters are composed."""
    return root if inside == "." else unicodedata.normalize("NFC", f"{root}/{inside}")


def place_of(path: Path) -> Path:
    """Return where a path is: links in the folders above it resolved, its own kept, so that it may lead elsewhere."""
    return path.parent.resolve() / path.name


def recorded_place(path: Path) -> str:
    """Return what is recorded of where a root is: its path, or that it came by standard input."""
    return STANDARD_INPUT if path.parent.name.startswith(INPUT_FOLDER) else str(path)


def is_gone(path: Path) -> bool:
    """Say whether nothing is at a path; of what may not be looked at, that is not known, and False."""
    # Path.exists() raises there, and since Python 3.14 says that nothing is there.
    try:
        path.stat()
    except OSError as error:
        return error.errno in _GONE
    return False


def require_entry(folder: Path) -> None:
    """Refuse a folder whose files may not be reached, even where their names may be listed.

    Raises:
        InvalidInput: naming the folder.
    """
    try:
        os.stat(os.path.join(folder, os.curdir))  # noqa: PTH116, PTH118  # Path would leave the dot out
    except OSError as error:
        raise InvalidInput(f"{folder} cannot be entered: {error.strerror}; allow it, or leave it out") from error


def unreadable(path: Path) -> str | None:
    """Return why a path is not read; None when it is, or when only reading it can tell."""
    if is_gone(path):
        return "is a link to something that does not exist"
    if os.path.isdir(path):  # noqa: PTH112  # Path.is_dir() raises where the path may not be looked at
        return "is a link to a folder; name that folder itself to ingest it"
    if _is_special(path):
        return "is neither a file nor a folder"
    suffix = suffix_of(path.name)
    if suffix not in SUFFIXES:
        kind = f"has the suffix {shown(suffix)!r}" if suffix else "has no suffix"
        return f"{kind}; what is read is text, Markdown, tables, documents and source code: see docs/ingest.md"
    if shown(path.name) != path.name:
        return "has a name that is no UTF-8; rename it"
    return None


def _is_special(path: Path) -> bool:
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False  # reading it tells what is wrong


def shown(name: str) -> str:
    """Make a file name printable: a byte that is no UTF-8 appears by its hexadecimal number."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")

"""Folders are gone through, and what in them is passed over is told."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reperio.errors import InvalidInput
from reperio.ingestion.finding.ignoring import IgnoreFiles, of_ours, of_packages
from reperio.ingestion.finding.sources import (
    FoundFiles,
    SourceFile,
    Walked,
    place_of,
    require_entry,
    shown,
    to_source,
    unreadable,
)
from reperio.ingestion.results import Skipped

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

_PASSED = {
    "hidden": ("hidden file or folder is passed over", "hidden files and folders are passed over"),
    "ignored": (
        "file or folder is passed over, as .gitignore says",
        "files and folders are passed over, as .gitignore says",
    ),
    "excluded": ("file or folder is excluded", "files and folders are excluded"),
}


@dataclass(frozen=True, slots=True)
class _Level:
    """A folder on the way down."""

    entries: Iterator[os.DirEntry[str]]
    root: str
    inside: str  # the path within that root; empty at its top
    ignored: IgnoreFiles


@dataclass(frozen=True, slots=True)
class _Top:
    """The folder at which the way down begins."""

    path: Path
    place: Path  # without links
    only: GitIgnoreSpec | None


class Walk:
    """Goes through folders, and adds what it finds to *found*.

    Args:
        found: where the files go.
        known: names of roots by place: a folder in another that has a name already keeps it.
        leave_out: a folder not to enter.
        exclude: what is passed over.
        gitignore: whether `.gitignore` files hold.
    """

    def __init__(
        self,
        found: FoundFiles,
        known: dict[Path, str],
        leave_out: Path | None,
        exclude: GitIgnoreSpec | None,
        *,
        gitignore: bool,
    ) -> None:
        self._found = found
        self._known = known
        self._leave_out = leave_out and leave_out.resolve()
        self._exclude = exclude
        self._gitignore = gitignore
        self._passed: Counter[tuple[str, str]] = Counter()

    def folder(self, path: Path, root: str, inside: str, only: GitIgnoreSpec | None) -> None:
        """Add the files of a folder that a person has named.

        Raises:
            InvalidInput: it cannot be read.
        """
        prefix = f"{to_source(root, inside)}/"
        self._found.folders[prefix] = path
        top = _Top(path, path.resolve(), only)
        self._found.walked.append(Walked(place_of(path), only))
        require_entry(path)
        ignored = IgnoreFiles.above(path) if self._gitignore else IgnoreFiles()
        levels = [self._listed(path, root, "" if inside == "." else inside, ignored)]
        while levels:  # not by recursion: folders may be nested deeper than Python's stack
            entry = next(levels[-1].entries, None)
            if entry is None:
                levels.pop()
                continue
            below = self._entry(entry, levels[-1], top, prefix)
            if below is not None:
                levels.append(below)

    def finish(self) -> None:
        """Tell how many were passed over, by folder: of each by name there would be no end."""
        for (prefix, why), number in sorted(self._passed.items()):
            self._found.skipped.append(Skipped(prefix, f"{number:,} {_PASSED[why][number > 1]}"))

    def _entry(self, entry: os.DirEntry[str], level: _Level, top: _Top, prefix: str) -> _Level | None:
        """Add a file, or return a folder that is to be entered."""
        path = Path(entry.path)
        is_folder = entry.is_dir(follow_symlinks=False)
        why = self._passed_over(path, level, top, is_folder=is_folder)
        if why is not None:
            self._passed[prefix, why] += 1
            return None
        root, inside = level.root, f"{level.inside}/{entry.name}" if level.inside else entry.name
        at = top.place / path.relative_to(top.path)
        if (name := self._known.get(at)) is not None and at != top.place:  # known by itself since before
            root, inside = name, ""
            self._found.roots.setdefault(name, at)
        source = to_source(root, inside or ".")
        if is_folder:
            return self._inner(path, root, inside, level.ignored)
        reason = unreadable(path)
        if reason is None and shown(source) != source:
            reason = "lies in a folder whose name is no UTF-8; rename that"
        if reason is None and entry.is_symlink():
            reason = _led_astray(path, top.place, self._leave_out)
        if reason is not None:
            if top.only is None or top.only.match_file(path.relative_to(top.path).as_posix()):
                self._found.skip(shown(source), reason)
            return None
        if top.only is not None and not top.only.match_file(path.relative_to(top.path).as_posix()):
            return None
        try:
            self._found.add(SourceFile(path, source, root, inside), path.resolve() if entry.is_symlink() else at)
        except InvalidInput as error:
            self._found.fail(source, path, str(error))
        return None

    def _passed_over(self, path: Path, level: _Level, top: _Top, *, is_folder: bool) -> str | None:
        if path.name.startswith("."):
            return "hidden"
        if self._exclude is not None:
            relative = path.relative_to(top.path).as_posix()
            if self._exclude.match_file(f"{relative}/" if is_folder else relative):
                return "excluded"
        if level.ignored.nearest and level.ignored.ignore(path, folder=is_folder):
            return "ignored"
        return None

    def _inner(self, path: Path, root: str, inside: str, ignored: IgnoreFiles) -> _Level | None:
        source = f"{shown(to_source(root, inside or '.'))}/"
        try:
            require_entry(path)
            if self._leave_out is not None and _same(path, self._leave_out):
                reason: str | None = "is the collection itself"
            else:
                reason = of_packages(path) or of_ours(path)
            if reason is not None:
                self._found.skipped.append(Skipped(source, reason))
                return None
            return self._listed(path, root, inside, ignored)
        except InvalidInput as error:
            self._found.fail(source, path, str(error))
            self._found.unread.append(place_of(path))
            return None

    def _listed(self, folder: Path, root: str, inside: str, ignored: IgnoreFiles) -> _Level:
        """Return what is in a folder, by name."""
        try:
            with os.scandir(folder) as entries:
                ordered = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            raise InvalidInput(f"{folder} cannot be read: {error.strerror}; allow it, or move it elsewhere") from error
        if self._gitignore and any(entry.name == ".gitignore" for entry in ordered):
            ignored = ignored.inside(folder)
        return _Level(iter(ordered), root, inside, ignored)


def _same(path: Path, other: Path) -> bool:
    try:
        return os.path.samestat(path.lstat(), other.stat())
    except OSError:
        return False


def _led_astray(link: Path, root: Path, leave_out: Path | None) -> str | None:
    """Return why a link in *root* to a file is not followed; None when it is. The folders are paths without links."""
    # Whoever has made a folder does not choose what of this machine is read: a link leads to what would be read by its
    # own name as well.
    target = link.resolve()
    if not target.is_relative_to(root):
        return "is a link that leads out of the folder; name the file itself to ingest it"
    if target.name.startswith(".") or (leave_out is not None and target.is_relative_to(leave_out)):
        return "is a link to a file that is passed over"
    return unreadable(target) and f"is a link to a file that {unreadable(target)}"

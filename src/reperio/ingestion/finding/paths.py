"""Paths → the files to read, each with the name by which its chunks are known: its *source*."""

from __future__ import annotations

import glob
import os
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from reperio.arguments import is_iterable, to_path
from reperio.errors import InvalidInput
from reperio.ingestion.finding.ignoring import excluded, to_spec
from reperio.ingestion.finding.sources import (
    FoundFiles,
    SourceFile,
    place_of,
    shown,
    to_source,
    unreadable,
)
from reperio.ingestion.finding.walking import Walk

Paths: TypeAlias = "str | os.PathLike[str] | Iterable[str | os.PathLike[str]]"


def find_files(
    paths: Paths,
    *,
    leave_out: Path | None = None,
    known: Mapping[str, str] | None = None,
    name: str | None = None,
    exclude: Sequence[str] = (),
    gitignore: bool = True,
) -> FoundFiles:
    """Find the files to ingest; folders are walked, hidden files and folders in them passed over.

    A link in a folder is followed only to a file in that folder; others are reported as skipped.

    Args:
        paths: files, folders, and patterns such as ``docs/**/*.md``; those named may be links.
        leave_out: a folder not to enter: the collection itself.
        known: names of the folders and files that were ingested before, by their places: what is in one of them has
            its sources, however it is named.
        name: what to call the one path that is passed, instead of its own name.
        exclude: patterns as in `.gitignore`, of what is passed over in folders.
        gitignore: pass over what `.gitignore` files name, in folders.

    Raises:
        InvalidInput: a path does not exist, the only one cannot be read, or two would have the same source.
        MissingDependency: patterns need pathspec.
    """
    listed = listed_paths(paths)
    if name is not None:
        name = _checked(name, listed)
    naming = _Naming({Path(place): one for place, one in (known or {}).items()}, name)
    for path, _ in listed:  # first: a file in a folder that is named too belongs to the folder
        if _is_folder(path):
            naming.learn(path)
    found = FoundFiles()
    walk = Walk(found, naming.known, leave_out, excluded(exclude), gitignore=gitignore)
    for path, pattern in listed:
        root, place, inside = naming.of(path)
        found.roots.setdefault(root, place)
        if _is_folder(path):
            _require_one(found, root, place)
            only = None if pattern is None else to_spec([f"/{pattern}"], f"{path}/{pattern}")
            walk.folder(path, root, inside, only)
        elif (reason := unreadable(path)) is None:
            _require_one(found, root, place)
            inside_as_is = "" if inside == "." else inside
            found.add(SourceFile(path, to_source(root, inside), root, inside_as_is), path.resolve())
        elif len(listed) == 1:
            raise InvalidInput(f"{shown(str(path))} {reason}")
        else:
            found.fail(shown(to_source(root, inside)), path, reason)
    walk.finish()
    return found


class _Naming:
    """Decides what paths are called.

    Args:
        known: names by place.
        name: for the one path there is; None for its own.
    """

    def __init__(self, known: dict[Path, str], name: str | None) -> None:
        self.known = known
        self._name = name

    def learn(self, path: Path) -> None:
        """Know a folder that is named, so that what is in it is known by it."""
        root, place, inside = self.of(path)
        if inside == ".":
            self.known[place] = root

    def of(self, path: Path) -> tuple[str, Path, str]:
        """Return the name of the root that a path belongs to, where that root is, and the path within it.

        Raises:
            InvalidInput: it has another name already, or none.
        """
        for candidate in (place_of(path), path.resolve()):
            for at in (candidate, *candidate.parents):
                if (root := self.known.get(at)) is None:
                    continue
                inside = candidate.relative_to(at).as_posix()
                if self._name not in (None, root) or (self._name == root and inside != "."):
                    raise InvalidInput(
                        f"{path} is ingested already, as {to_source(root, inside)!r}; leave name= (--name) out, or "
                        "every chunk of it would be stored twice"
                    )
                return root, at, inside
        own = self._name or unicodedata.normalize("NFC", path.name)
        if not own:
            raise InvalidInput(f"{path} has no name of its own; give it one with name='…' (--name)")
        return own, place_of(path), "."


def _require_one(found: FoundFiles, root: str, place: Path) -> None:
    if found.roots[root] != place:
        raise InvalidInput(
            f"{found.roots[root]} and {place} have the same name, so their chunks could not be told apart; ingest one "
            "by itself with another name='…' (--name), or ingest the folder above them"
        )


def listed_paths(paths: Paths) -> list[tuple[Path, str | None]]:
    """Return absolute paths; of a pattern, the folder in which it is looked for, and the rest of it."""
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    if isinstance(paths, (bytes, Mapping)) or not is_iterable(paths):
        raise InvalidInput(f"paths is a {type(paths).__name__}; pass a path, or a list of them")
    several = [to_path("a path", path) for path in paths]
    if not several:
        raise InvalidInput("no path to ingest; name files or folders")
    listed: list[tuple[Path, str | None]] = []
    for path in several:
        base, pattern = path, None
        if not os.path.lexists(path) and glob.has_magic(str(path)):
            base, pattern = _cut(path)
        if not _lies_there(base) or (pattern and not _is_folder(base)):
            raise InvalidInput(f"{shown(os.fspath(path))} does not exist; nothing was ingested")
        # The last part of "docs/.." or "." is no name.
        listed.append((Path(os.path.abspath(base)), pattern))  # noqa: PTH100  # resolve() would name a link's target
    return listed


def _lies_there(path: Path) -> bool:
    """Say whether anything is at a path, be it a link that leads nowhere."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise InvalidInput(f"{shown(str(path))} cannot be looked at: {error.strerror}; allow it") from error
    return True


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112  # Path.is_dir() raises where the path may not be looked at


def _cut(pattern: Path) -> tuple[Path, str]:
    """Cut a pattern into the folder before its first wildcard, and the rest."""
    parts = pattern.parts
    at = next(at for at, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:at]), "/".join(parts[at:])


def _checked(name: Any, listed: Sequence[object]) -> str:
    if not isinstance(name, str) or not name.strip("/ ") or shown(name) != name or "\0" in name:
        raise InvalidInput(f"name is {name!r:.80}; it is a text that is not empty, such as 'handbook'")
    if len(listed) != 1:
        raise InvalidInput(f"name is {name!r:.80}, for {len(listed)} paths; pass the one path that it is the name of")
    return unicodedata.normalize("NFC", name.strip("/ "))

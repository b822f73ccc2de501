"""What is passed over in folders: what `.gitignore` names, what the caller excludes, and what no person has written."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reperio.arguments import is_iterable
from reperio.errors import InvalidInput
from reperio.layout import open_regular, reason
from reperio.optional import OptionalImport

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

_PACKAGES = {"node_modules": "packages", "__pycache__": "compiled code", "__pypackages__": "packages"}

_EXPORT = re.compile(rb'\s*\{\s*"format"\s*:\s*"reperio export"')
_LOOKED_AT = 256  # bytes of a manifest


def to_spec(patterns: Iterable[str], what: str, *, lenient: bool = False) -> GitIgnoreSpec:
    """Compile patterns as `.gitignore` has them.

    Args:
        patterns: one a line.
        what: what they are for, for messages.
        lenient: leave out what is no pattern, as git does.

    Raises:
        InvalidInput: a pattern cannot be one.
        MissingDependency: pathspec is not installed.
    """
    with OptionalImport(what, "pathspec", extra="ingest"):
        from pathspec import GitIgnoreSpec
    lines = list(patterns)
    try:
        return GitIgnoreSpec.from_lines(lines)
    except (ValueError, re.error) as error:
        if lenient:
            return GitIgnoreSpec.from_lines(line for line in lines if _is_pattern(line, GitIgnoreSpec))
        raise InvalidInput(f"{what}: {error}; write patterns as in .gitignore, e.g. 'drafts/' or '*.csv'") from None


def _is_pattern(line: str, kind: type[GitIgnoreSpec]) -> bool:
    try:
        kind.from_lines([line])
    except (ValueError, re.error):
        return False
    return True


def excluded(patterns: Any) -> GitIgnoreSpec | None:
    """Compile what a caller excludes; None where that is nothing."""
    if isinstance(patterns, str):
        patterns = [patterns]
    listed = list(patterns) if is_iterable(patterns) else [patterns]
    if not all(isinstance(one, str) for one in listed):
        raise InvalidInput(f"exclude is {patterns!r:.80}; pass patterns as in .gitignore, e.g. ['drafts/', '*.csv']")
    return to_spec(listed, "exclude") if listed else None


def of_packages(folder: Path) -> str | None:
    """Return what a folder is, if no person has written what is in it; None for others."""
    kind = _PACKAGES.get(folder.name)
    if kind is None and (folder / "pyvenv.cfg").is_file():
        kind = "a virtual environment"
    return kind and f"is a folder of {kind}, which is passed over; name it to ingest it"


def of_ours(folder: Path) -> str | None:
    """Return what a folder is, if Reperio has written it: what is in it was ingested, or comes from elsewhere."""
    kind = None
    if (folder / "reperio-backups").is_file():
        kind = "a folder of backups of Reperio"
    elif any((one / "chunks.db").is_file() for one in folder.glob("gen-*")):
        kind = "a collection of Reperio, or a backup of one"
    elif _begins_an_export(folder / "manifest.json"):
        kind = "an export of Reperio"
    return kind and f"is {kind}, which is passed over; name it to ingest it"


def _begins_an_export(manifest: Path) -> bool:
    try:
        with open(open_regular(manifest, follow=False), "rb") as file:
            return _EXPORT.match(file.read(_LOOKED_AT)) is not None
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class IgnoreFiles:
    """The `.gitignore` files that hold in a folder, the nearest first; each with the folder it is in."""

    nearest: tuple[tuple[Path, GitIgnoreSpec], ...] = ()

    @classmethod
    def above(cls, folder: Path) -> IgnoreFiles:
        """Return those of the folders above that belong to the same repository of git.

        None where they ignore the folder itself: it was named, and would have nothing to read.
        """
        parents = list(folder.parents)
        root = next((at for at, one in enumerate([folder, *parents]) if (one / ".git").exists()), 0)
        found = cls()
        for parent in reversed(parents[:root]):
            found = found.inside(parent)
        return cls() if found.ignore(folder, folder=True) else found

    def inside(self, folder: Path) -> IgnoreFiles:
        """Return what holds in a folder in this one.

        Raises:
            InvalidInput: its file cannot be read.
        """
        path = folder / ".gitignore"
        if not path.is_file():
            return self
        try:
            with open(open_regular(path, follow=True), encoding="utf-8", errors="surrogateescape") as file:
                spec = to_spec(file.read().splitlines(), str(path), lenient=True)
        except OSError as error:
            raise InvalidInput(
                f"{path} cannot be read: {reason(error)}; allow it, or pass gitignore=False (--no-gitignore)"
            ) from error
        return IgnoreFiles(((folder, spec), *self.nearest))

    def ignore(self, path: Path, *, folder: bool) -> bool:
        """Say whether a file or folder is ignored: the nearest file that says anything of it decides."""
        for at, spec in self.nearest:
            answer = spec.check_file(path.relative_to(at).as_posix() + ("/" if folder else "")).include
            if answer is not None:
                return answer
        return False

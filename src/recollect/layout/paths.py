"""Where the files of a collection are, which generation is in use, and what collection.json says of the format."""

from __future__ import annotations

import contextlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import orjson

from recollect.errors import CollectionDamaged, CollectionNotFound, NotACollection, UnsupportedFormat
from recollect.layout.writing import require_path, storage_errors, storage_failure, write_atomically

FORMAT_VERSION = 3
"""2: the database has a lexical index; 3: a ledger. What an older version has written is read as having none."""

Dtype: TypeAlias = Literal["float32", "float16"]
"""How a collection keeps its vectors; fixed when it is created."""

DTYPES: dict[Dtype, str] = {"float32": "f32", "float16": "f16"}
"""What there is to choose from, and the suffix of the file."""

Lexical: TypeAlias = Literal["porter", "unicode61", "trigram", "none"]
"""How texts are cut into words for lexical search; fixed when a collection is created."""

LEXICAL: tuple[Lexical, ...] = ("porter", "unicode61", "trigram", "none")
"""What there is to choose from."""

_GENERATION = re.compile(r"gen-(\d{6,})")
_LEFTOVER = re.compile(r"gen-\d{6,}(\.new|\.old)?")


@dataclass(frozen=True, slots=True)
class Generation:
    """The paths of one generation.

    Attributes:
        root: its directory.
        dtype: of its vectors, which names their file. CURRENT does not tell it, collection.json does.

    """

    root: Path
    dtype: Dtype = "float32"

    @property
    def name(self) -> str:
        """The directory's name, as CURRENT holds it."""
        return self.root.name

    @property
    def settings(self) -> Path:
        """collection.json."""
        return self.root / "collection.json"

    @property
    def database(self) -> Path:
        """chunks.db."""
        return self.root / "chunks.db"

    @property
    def vectors(self) -> Path:
        """vectors.f32, or vectors.f16."""
        return self.root / f"vectors.{DTYPES[self.dtype]}"

    @property
    def index(self) -> Path:
        """The directory of snapshots."""
        return self.root / "index"


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of a collection."""

    root: Path

    @property
    def current(self) -> Path:
        """CURRENT."""
        return self.root / "CURRENT"

    @property
    def lock(self) -> Path:
        """LOCK."""
        return self.root / "LOCK"

    def is_collection(self) -> bool:
        """Say whether this is one; False when there is nothing yet, or an empty directory.

        Raises:
            NotACollection: when the path is something else; nothing is ever created inside it.
            CollectionDamaged: it has generations and no CURRENT.

        """
        require_path(self.root)
        with storage_errors(self.root, "open"):
            if not self.root.exists() and not self.root.is_symlink():
                return False
            if not self.root.is_dir():
                raise NotACollection(f"{self.root} is a file, not a collection; choose another path")
            if self.current.exists():
                return True
            strangers = sorted(entry.name for entry in self._entries())
        if not strangers:
            return False
        if any(_GENERATION.fullmatch(name) for name in strangers):
            raise CollectionDamaged(f"{self.current} is missing; restore from a backup")
        raise NotACollection(
            f"{self.root} is no collection: it holds {', '.join(strangers[:3])}"
            f"{' …' if len(strangers) > 3 else ''} and no CURRENT file; choose an empty or new directory"
        )

    def require(self) -> None:
        """Raise `CollectionNotFound` or `NotACollection` unless a collection is here."""
        if not self.is_collection():
            raise CollectionNotFound(
                f"there is no collection at {self.root}; create it with recollect.open(path), or "
                "recollect ingest … --into path"
            )

    def read_current(self) -> Generation:
        """Return the generation that CURRENT names."""
        with storage_errors(self.current, "read"):
            name = self.current.read_text(encoding="ascii", errors="replace").strip()
            there = _GENERATION.fullmatch(name) is not None and (self.root / name).is_dir()
        if not there:
            raise CollectionDamaged(
                f"{self.current} names {name[:40]!r}, which is no generation here; restore from a backup"
            )
        return Generation(self.root / name)

    def write_current(self, generation: Generation) -> None:
        """Make *generation* the one in use, atomically and durably."""
        write_atomically(self.current, f"{generation.name}\n".encode())

    def next_generation(self) -> Generation:
        """Return the paths of the generation after the current one."""
        match = _GENERATION.fullmatch(self.read_current().name)
        assert match is not None  # read_current has checked it
        return Generation(self.root / f"gen-{int(match[1]) + 1:06d}")

    def retire(self, generation: Generation) -> None:
        """Remove a superseded generation: its name at once, so that nobody opens half of it, then its files."""
        retired = generation.root.with_name(f"{generation.name}.old")
        with contextlib.suppress(OSError):  # what cannot be removed now is left to the next writer
            generation.root.rename(retired)
        shutil.rmtree(retired, ignore_errors=True)

    def _entries(self) -> list[Path]:
        with storage_errors(self.root, "read"):
            return list(self.root.iterdir())

    def superseded(self) -> list[Generation]:
        """Return the whole generations that CURRENT no longer names."""
        current = self.read_current().name
        names = [entry.name for entry in self._entries() if _GENERATION.fullmatch(entry.name)]
        return [Generation(self.root / name) for name in names if name != current]

    def remove_leftovers(self) -> None:
        """Remove what a killed writer left: unfinished and superseded generations. Writers only.

        By the names that writers give: what anybody else has put here stays.
        """
        current = self.read_current()
        for entry in self._entries():
            if entry.name != current.name and _LEFTOVER.fullmatch(entry.name):
                shutil.rmtree(entry, ignore_errors=True)
        with storage_errors(self.root, "clear"):
            for fresh in (self.current.with_name("CURRENT.new"), *current.index.glob("*.new")):
                if fresh.is_symlink() or not fresh.is_dir():
                    fresh.unlink(missing_ok=True)


FIRST_GENERATION = "gen-000001"


def is_generation(name: str) -> bool:
    """Say whether a directory of this name is a generation: neither an unfinished nor a superseded one."""
    return _GENERATION.fullmatch(name) is not None


def write_settings(path: Path, settings: dict[str, Any]) -> None:
    """Write collection.json, durably, with the format version in front."""
    content = {"format_version": FORMAT_VERSION, **settings}
    write_atomically(path, orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n")


def read_settings(path: Path) -> dict[str, Any]:
    """Read collection.json.

    Raises:
        UnsupportedFormat: written by a newer Recollect.
        CollectionDamaged: missing, or not what was written.

    """
    try:
        content = orjson.loads(path.read_bytes())
        version = content["format_version"]
    except FileNotFoundError:
        raise CollectionDamaged(f"{path} is missing; restore from a backup") from None
    except OSError as error:
        raise storage_failure(error, path, "read") from error
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise CollectionDamaged(f"{path} is not a settings file; restore from a backup") from None
    if type(version) is not int or version < 1:
        raise CollectionDamaged(f"{path} has no format version but {version!r}; restore from a backup")
    if version > FORMAT_VERSION:
        raise UnsupportedFormat(
            f"{path.parent.parent} has format version {version}, and this Recollect reads up to "
            f"{FORMAT_VERSION}; upgrade with: pip install --upgrade recollect"
        )
    return dict(content)

"""Name the files of a collection, read which generation is in use, and read and write collection.json."""

from __future__ import annotations

import contextlib
import errno
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from reperio.errors import CollectionDamaged, CollectionNotFound, NotACollection, StorageFailed, UnsupportedFormat
from reperio.layout.creating import is_being_published, remove_unfinished, strangers_in
from reperio.layout.names import BUILDING, generation_number, is_generation, is_leftover, is_unfinished_in_index
from reperio.layout.regular import (
    is_directory,
    is_there,
    read_regular,
    require_absent_or_directory,
    require_absent_or_regular,
)
from reperio.layout.writing import remove_tree, require_path, storage_errors, write_atomically
from reperio.types import Dtype, Lexical

FORMAT_VERSION = 4
"""2: the database has a lexical index; 3: a ledger. What an older version has written is read as having none.

4: a lexical index finds words of languages without spaces. That of an older version does not, until it is compacted.
"""

DTYPES: dict[Dtype, str] = {"float32": "f32", "float16": "f16"}
"""The choices, and the suffix of the file."""

LEXICAL: tuple[Lexical, ...] = ("porter", "unicode61", "trigram", "none")
"""The choices."""

_CURRENT_BYTES = 1000  # more than CURRENT ever has
_SETTINGS_BYTES = 1 << 24  # the canaries of the longest vectors take 6 MB


@dataclass(frozen=True, slots=True)
class Generation:
    """The paths of one generation.

    Attributes:
        root: its directory.
        dtype: dtype of its vectors, which names their file; it is in collection.json.
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

    def require_plain(self) -> None:
        """Raise `StorageFailed` where a link, or another kind of file, is instead of a file or directory.

        A missing file is no error here: it is reported when it is needed.
        """
        require_absent_or_regular(self.settings)
        require_plain_database(self.database)
        require_absent_or_regular(self.vectors)
        require_absent_or_directory(self.index)
        require_absent_or_directory(self.index / BUILDING)


def require_plain_database(database: Path) -> None:
    """Raise `StorageFailed` for links and other kinds of files where SQLite would look for a database and its log.

    SQLite follows links, and waits for the other end of a pipe.
    """
    require_absent_or_directory(database.parent)
    for suffix in ("", "-wal", "-shm"):
        require_absent_or_regular(database.with_name(database.name + suffix))
    journal = database.with_name(f"{database.name}-journal")
    if is_there(journal):
        # Our databases have a log instead. SQLite would write the pages of any journal into the database.
        failure = StorageFailed(
            f"cannot open {database}: next to it is {journal.name}, which is not ours; move it away"
        )
        failure.errno = errno.EEXIST
        raise failure


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

    @property
    def maintenance(self) -> Path:
        """MAINTENANCE."""
        return self.root / "MAINTENANCE"

    def is_collection(self) -> bool:
        """Say whether this is one; False when there is nothing yet, an empty directory, or one that is being made.

        Raises:
            NotACollection: when the path is something else; nothing is ever created inside it.
            CollectionDamaged: it has generations and no CURRENT.
        """
        require_path(self.root)
        with storage_errors(self.root, "open"):
            if not self.root.exists() and not self.root.is_symlink():
                return False
            if not self.root.is_dir():
                raise NotACollection(f"{self.root} is {self._kind()}")
            if is_there(self.current):
                return True
            strangers = strangers_in(self.root)
            # In this order: what is being moved up has CURRENT before it is at an end.
            if not strangers or is_being_published(self.root):
                return is_there(self.current)
        if is_there(self.current):  # a restore has put the directory there between the two looks
            return True
        if any(is_generation(name) for name in strangers):
            raise CollectionDamaged(f"{self.current} is missing; restore from a backup")
        if "shards.json" in strangers:
            raise NotACollection(
                f"{self.root} has shards: search them with reperio.open_shards, write with reperio.ShardWriter, or use "
                "the commands of reperio shards"
            )
        raise NotACollection(
            f"{self.root} is no collection: it holds {', '.join(strangers[:3])}"
            f"{' …' if len(strangers) > 3 else ''} and no CURRENT file; pass the directory of a "
            "collection, or, to create one, an empty or new directory"
        )

    def _kind(self) -> str:
        if self.root.is_symlink() and not self.root.exists():
            return "a link that leads nowhere; make the directory that it leads to, or remove it"
        return "a file, not a collection; choose another path"

    def require(self) -> None:
        """Raise `CollectionNotFound` or `NotACollection` unless a collection is here."""
        if not self.is_collection():
            raise CollectionNotFound(
                f"there is no collection at {self.root}; create it with reperio.open(path), or "
                "reperio ingest … --into path"
            )

    def read_current(self) -> Generation:
        """Return the generation that CURRENT names.

        Raises:
            CollectionDamaged: it names none that is here.
            StorageFailed: it cannot be read; or CURRENT or the generation is a link.
        """
        name = read_regular(self.current, _CURRENT_BYTES).decode("ascii", errors="replace").strip()
        if not is_generation(name) or not is_there(self.root / name):
            raise CollectionDamaged(
                f"{self.current} names {name[:40]!r}, which is no generation here; restore from a backup"
            )
        require_absent_or_directory(self.root / name)
        return Generation(self.root / name)

    def write_current(self, generation: Generation) -> None:
        """Make *generation* the one in use, atomically and durably."""
        write_atomically(self.current, f"{generation.name}\n".encode())

    def next_generation(self) -> Generation:
        """Return the paths of the generation after the current one."""
        number = generation_number(self.read_current().name)
        assert number is not None  # read_current has checked it
        return Generation(self.root / f"gen-{number + 1:06d}")

    def retire(self, generation: Generation) -> None:
        """Remove a superseded generation: its name at once, so that nobody opens half of it, then its files."""
        retired = generation.root.with_name(f"{generation.name}.old")
        with contextlib.suppress(OSError):  # what cannot be removed now is left to the next writer
            generation.root.rename(retired)
        remove_tree(retired)

    def _entries(self) -> list[Path]:
        with storage_errors(self.root, "read"):
            return list(self.root.iterdir())

    def superseded(self) -> list[Generation]:
        """Return the whole generations that CURRENT no longer names; a link to one elsewhere is none of ours."""
        current = self.read_current().name
        found = [entry for entry in self._entries() if is_generation(entry.name) and is_directory(entry)]
        return [Generation(entry) for entry in found if entry.name != current]

    def remove_leftovers(self) -> None:
        """Remove what a killed writer left: unfinished and superseded generations. Writers only.

        By the names that writers give: what anybody else has put here stays.
        """
        current = self.read_current()
        require_absent_or_directory(current.index)
        for entry in self._entries():
            if entry.name != current.name and is_leftover(entry.name):
                remove_tree(entry)
        with storage_errors(self.root, "clear"):
            remove_unfinished(self.root)
            fresh = [self.current.with_name("CURRENT.new")]
            if is_directory(current.index):
                fresh += [entry for entry in current.index.iterdir() if is_unfinished_in_index(entry.name)]
            for path in fresh:
                if not is_directory(path):
                    path.unlink(missing_ok=True)


FIRST_GENERATION = "gen-000001"


def write_settings(path: Path, settings: dict[str, Any]) -> None:
    """Write collection.json, durably, with the format version in front."""
    content = {"format_version": FORMAT_VERSION, **settings}
    write_atomically(path, orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n")


def read_settings(path: Path) -> dict[str, Any]:
    """Read collection.json.

    Raises:
        UnsupportedFormat: written by a newer Reperio.
        CollectionDamaged: missing, or not what was written.
        StorageFailed: it cannot be read, or is no regular file.
    """
    try:
        content = orjson.loads(read_regular(path, _SETTINGS_BYTES))
        version = content["format_version"]
    except StorageFailed as error:
        if error.errno != errno.ENOENT:
            raise
        raise CollectionDamaged(f"{path} is missing; restore from a backup") from None
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise CollectionDamaged(f"{path} is not a settings file; restore from a backup") from None
    if type(version) is not int or version < 1:
        raise CollectionDamaged(f"{path} has no format version but {version!r}; restore from a backup")
    if version > FORMAT_VERSION:
        raise UnsupportedFormat(
            f"{path.parent.parent} has format version {version}, and this Reperio reads up to "
            f"{FORMAT_VERSION}; upgrade with: pip install --upgrade reperio"
        )
    return dict(content)

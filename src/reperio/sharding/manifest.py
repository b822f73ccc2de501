"""Name the shards of a collection that outgrows one host, and say which of them holds an id.

::

    kb-shards/
      building/                only while they are built, or where that was killed
      shards.json              which shards there are: written whole, replaced atomically, so that it is the one truth
      LOCK                     the flock of whoever replaces it
      shards/shard-000001/     each an ordinary collection, which `reperio.open` and every command take
      shards/shard-000002/

An id has a slot, one of `SLOTS`, by a hash of it alone. Each shard has a range of slots. So a shard is split or merged
by writing new directories and exchanging the manifest, and no other shard is touched. The name of a shard is never
given twice, so that nobody who has an old manifest reads or writes another shard under a name that they know.
"""

from __future__ import annotations

import errno
import re
import secrets
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeAlias

import orjson

from reperio.embedding.contract import Settings
from reperio.errors import (
    CollectionDamaged,
    CollectionLocked,
    CollectionNotFound,
    InvalidInput,
    NotACollection,
    StorageFailed,
    UnsupportedFormat,
)
from reperio.layout import (
    FileLock,
    Layout,
    is_there,
    read_regular,
    require_absent_or_directory,
    require_path,
    write_atomically,
)
from reperio.strict_json import encode

MANIFEST, SHARDS = "shards.json", "shards"
VERSION = 1

SLOTS = 65_536
"""Slots that ids are hashed to. It is part of the format: another number would move every id."""

MOST_SHARDS = 4_096
"""Shards of one collection, at most: each keeps files open, and each search asks all of them."""

_NAME = "reperio shards"
_MANIFEST_BYTES = 1 << 25  # its settings hold the canaries, as collection.json does
_SHARD = re.compile(r"shard-([0-9]{6}|[1-9][0-9]{6,18})")  # as `_named` writes it
_IDENTITY = re.compile(r"[0-9a-f]{32}")
_FIELDS = {"format", "version", "identity", "generation", "next", "slots", "settings", "shards"}
_MOST = 1 << 62  # of a number that is counted up


def slot_of(chunk_id: str) -> int:
    """Return the slot of an id, 0 to `SLOTS` − 1: the same in every process, on every machine, in every version."""
    digest = blake2b(chunk_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % SLOTS


@dataclass(frozen=True, slots=True, order=True)
class ShardEntry:
    """One shard as the manifest has it.

    Attributes:
        first_slot, end_slot: it holds the ids whose slot is at least the first, and less than the end.
        name: the name of its directory.
    """

    first_slot: int
    end_slot: int
    name: str

    def holds(self, slot: int) -> bool:
        """Say whether ids of a slot belong here."""
        return self.first_slot <= slot < self.end_slot


Version: TypeAlias = tuple[str, int, tuple[ShardEntry, ...]]
"""Identity, generation, and shards."""


@dataclass(frozen=True, slots=True)
class ShardManifest:
    """The content of shards.json.

    Attributes:
        identity: drawn by chance when the collection is made; a copy or a backup has the same one.
        generation: counted up whenever shards are exchanged.
        settings: of each shard: dimension, metric, dtype, words and embedding contract.
        shards: by their slots; together they have each slot once.
        next_number: the number in the name of the next shard to be made.
    """

    identity: str
    generation: int
    settings: Settings
    shards: tuple[ShardEntry, ...]
    next_number: int

    @classmethod
    def new(cls, settings: Settings, shards: int) -> ShardManifest:
        """Return the manifest of a new collection with so many shards, equal in slots as far as that goes.

        Raises:
            InvalidInput: no shard, or more than `MOST_SHARDS`.
        """
        if not 1 <= shards <= MOST_SHARDS:
            raise InvalidInput(f"shards is {shards}; choose 1 to {MOST_SHARDS:,}")
        return cls(secrets.token_hex(16), 1, settings, _cut(0, SLOTS, shards, 1), shards + 1)

    @property
    def version(self) -> Version:
        """Tell these shards from any others at the path.

        Identity and generation alone are not: after a backup of an older generation was restored, the next exchange
        counts to the same generation, and gives the same names to other slots.
        """
        return self.identity, self.generation, self.shards

    def shard_of(self, chunk_id: str) -> ShardEntry:
        """Return the shard that an id belongs to."""
        return self.shard_at(slot_of(chunk_id))

    def shard_at(self, slot: int) -> ShardEntry:
        """Return the shard that a slot belongs to."""
        return self.shards[bisect_right(self.shards, slot, key=lambda entry: entry.first_slot) - 1]

    def named(self, name: str) -> ShardEntry:
        """Return the shard of a name.

        Raises:
            InvalidInput: there is none.
        """
        found = next((entry for entry in self.shards if entry.name == name), None)
        if found is None:
            names = ", ".join(entry.name for entry in self.shards[:5])
            raise InvalidInput(f"there is no shard {name!r:.60}; there are {names}{', …' if self.shards[5:] else ''}")
        return found

    def exchanged(self, old: Sequence[ShardEntry], parts: int) -> ShardManifest:
        """Return the next generation, in which new shards have the slots of *old* ones.

        Args:
            old: one or several neighbours, in the order of their slots.
            parts: how many new ones share their slots: 1 to merge them, more to split one.

        Raises:
            InvalidInput: the old ones are not neighbours, or have fewer slots than there would be new ones.
        """
        at = self.shards.index(old[0])
        if tuple(old) != self.shards[at : at + len(old)]:
            raise InvalidInput(f"{', '.join(entry.name for entry in old)} are not neighbours; see reperio shards info")
        first, end = old[0].first_slot, old[-1].end_slot
        if not 1 <= parts <= end - first:
            raise InvalidInput(f"{old[0].name} has {end - first} slots, and cannot be cut into {parts}; choose fewer")
        fresh = _cut(first, end, parts, self.next_number)
        shards = self.shards[:at] + fresh + self.shards[at + len(old) :]
        if len(shards) > MOST_SHARDS:
            raise InvalidInput(f"{len(shards):,} shards would be more than {MOST_SHARDS:,}; merge some first")
        return replace(self, generation=self.generation + 1, shards=shards, next_number=self.next_number + parts)

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return {
            "format": _NAME,
            "version": VERSION,
            "identity": self.identity,
            "generation": self.generation,
            "next": self.next_number,
            "slots": SLOTS,
            "shards": [{"name": one.name, "first": one.first_slot, "end": one.end_slot} for one in self.shards],
            "settings": self.settings.to_json(),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any], where: str) -> ShardManifest:
        """Read a manifest whose format and version were compared.

        Raises:
            CollectionDamaged: it is not what was written.
        """
        try:
            if content.keys() != _FIELDS or content["slots"] != SLOTS:
                raise ValueError(f"its fields are {sorted(content)!s:.200}, its slots {content.get('slots')!r:.20}")
            identity = content["identity"]
            if not is_identity(identity):
                raise ValueError(f"identity is {identity!r:.60}")
            generation, number = (_counted(content, name) for name in ("generation", "next"))
            settings = Settings.from_json(content["settings"], where)
            return cls(identity, generation, settings, _to_entries(content["shards"], number), number)
        except (KeyError, ValueError, TypeError) as error:
            raise CollectionDamaged(f"{where} cannot be read ({error!s:.300}); restore from a backup") from None


@dataclass(frozen=True, slots=True)
class ShardLayout:
    """The paths of a sharded collection."""

    root: Path

    @property
    def manifest(self) -> Path:
        """shards.json."""
        return self.root / MANIFEST

    @property
    def shards(self) -> Path:
        """The directory of the shards."""
        return self.root / SHARDS

    @property
    def building(self) -> Path:
        """What a build keeps until its end."""
        return self.root / "building"

    def shard(self, entry: ShardEntry) -> Path:
        """Return the directory of a shard."""
        return self.shards / entry.name

    def lock(self) -> FileLock:
        """Return the lock of whoever exchanges the manifest."""
        return FileLock(
            self.root / "LOCK",
            purpose="exchanging shards",
            cure="wait until it has ended, then try again",
        )


def is_identity(value: object) -> bool:
    """Say whether a value is what tells one collection of shards from others."""
    return type(value) is str and _IDENTITY.fullmatch(value) is not None


def is_shard(name: str) -> bool:
    """Say whether a directory of this name is a shard: neither an unfinished nor a superseded one."""
    return _SHARD.fullmatch(name) is not None


def is_sharded(root: Path) -> bool:
    """Say whether a directory has a manifest, whatever is in it."""
    require_path(root)
    return is_there(root / MANIFEST)


def require_shard(path: Path) -> None:
    """Refuse a shard that is missing, or that a link leads away from: it would be read and mended elsewhere.

    Raises:
        CollectionDamaged: it is missing.
        StorageFailed: it is a link, or no directory, or the directory of the shards is.
    """
    require_absent_or_directory(path.parent)
    require_absent_or_directory(path)
    if not path.is_dir():
        manifest = path.parent.parent / MANIFEST
        raise CollectionDamaged(f"{path} is missing, and {manifest} names it; restore from a backup")


def read_manifest(root: Path) -> ShardManifest:
    """Read the manifest of a directory; of the shards it looks only whether their directory is one.

    Raises:
        CollectionNotFound: there is nothing.
        NotACollection: there is something else than a sharded collection.
        CollectionDamaged: the manifest is not what was written.
        UnsupportedFormat: a newer Reperio wrote it.
        StorageFailed: it cannot be read, or is no regular file.
    """
    require_path(root)
    path = root / MANIFEST
    require_absent_or_directory(root / SHARDS)
    try:
        content = orjson.loads(read_regular(path, _MANIFEST_BYTES))
    except StorageFailed as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise
        raise _absent(root) from None
    except orjson.JSONDecodeError as error:
        raise CollectionDamaged(f"{path} is no JSON ({error}); restore from a backup") from None
    if not isinstance(content, dict) or content.get("format") != _NAME:
        raise CollectionDamaged(f"{path} is no list of shards; restore from a backup")
    version = content.get("version")
    if type(version) is not int or version < 1:
        raise CollectionDamaged(f"{path} has no version but {version!r:.40}; restore from a backup")
    if version > VERSION:
        raise UnsupportedFormat(
            f"{path} has version {version}, and this Reperio reads up to {VERSION}; upgrade with: "
            "pip install --upgrade reperio"
        )
    return ShardManifest.from_json(content, str(path))


def write_manifest(root: Path, manifest: ShardManifest) -> None:
    """Write the manifest, atomically and durably, over whatever is there; see `exchange_manifest`."""
    indented = orjson.dumps(orjson.loads(encode(manifest.to_json())), option=orjson.OPT_INDENT_2)
    write_atomically(root / MANIFEST, indented + b"\n")


def exchange_manifest(root: Path, old: ShardManifest, new: ShardManifest, *, timeout: float = 30.0) -> None:
    """Put a manifest in the place of the one that it was made of.

    Raises:
        CollectionLocked: another process does so, or has done so since *old* was read; nothing was changed.
        StorageFailed: it cannot be written.
    """
    lock = ShardLayout(root).lock()
    lock.acquire(timeout)
    try:
        found = read_manifest(root)
        if found.version != old.version:
            raise CollectionLocked(
                f"{root} has other shards since another process has exchanged them (generation {found.generation}, "
                f"not {old.generation}); nothing was changed, try again"
            )
        write_manifest(root, new)
    finally:
        lock.close()


def _absent(root: Path) -> CollectionNotFound | NotACollection:
    if is_there(root / "CURRENT") and Layout(root).is_collection():
        return NotACollection(
            f"{root} is one collection, without shards; use the commands without shards, or make shards of it with: "
            f"reperio shards build {root} --into DIR"
        )
    if is_there(root):
        return NotACollection(f"{root} has no {MANIFEST}, so it is no sharded collection; name the directory that has")
    return CollectionNotFound(
        f"there is nothing at {root}; make shards with: reperio shards build SOURCE --into {root}"
    )


def _cut(first: int, end: int, parts: int, number: int) -> tuple[ShardEntry, ...]:
    """Cut a range of slots into parts that differ by one at most, named from a number on."""
    bounds = [first + (end - first) * part // parts for part in range(parts + 1)]
    return tuple(ShardEntry(bounds[at], bounds[at + 1], _named(number + at)) for at in range(parts))


def _named(number: int) -> str:
    return f"shard-{number:06d}"


def _counted(content: Mapping[str, Any], name: str) -> int:
    value = content[name]
    if type(value) is not int or not 1 <= value < _MOST:
        raise ValueError(f"{name} is {value!r:.40}")
    return value


def _to_entries(content: Any, number: int) -> tuple[ShardEntry, ...]:
    """Read the shards: names as we write them, each once, and each slot in one of them."""
    if type(content) is not list or not 1 <= len(content) <= MOST_SHARDS:
        raise ValueError("its shards are none, or too many")
    found: list[ShardEntry] = []
    end = 0
    for one in content:
        name, first = one["name"], one["first"]
        match = _SHARD.fullmatch(name) if type(name) is str else None
        if one.keys() != {"name", "first", "end"} or match is None or int(match[1]) >= number:
            raise ValueError(f"{name!r:.60} is the name of no shard")
        if type(first) is not int or type(one["end"]) is not int or first != end or not end < one["end"] <= SLOTS:
            raise ValueError(f"{name} has slots {first!r:.20} to {one['end']!r:.20} after {end}")
        end = one["end"]
        found.append(ShardEntry(first, end, name))
    if end != SLOTS or len({entry.name for entry in found}) != len(found):
        raise ValueError(f"its shards end at slot {end}, or one name comes twice")
    return tuple(found)

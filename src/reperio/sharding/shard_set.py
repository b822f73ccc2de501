"""Open the shards of a collection in one process."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from typing_extensions import Self

from reperio.arguments import to_path
from reperio.collection.facade import Collection, handle_of
from reperio.collection.opening import open as open_collection
from reperio.errors import CollectionClosed, CollectionDamaged, ReperioError
from reperio.forks import ForkSafeLock
from reperio.sharding.manifest import ShardEntry, ShardLayout, ShardManifest, read_manifest, require_shard

_FIXED = ("metric", "dtype", "lexical")


def open_shard(root: Path, manifest: ShardManifest, entry: ShardEntry, **options: Any) -> Collection:
    """Open one shard as a collection, which is never made where it is missing.

    Args:
        root: the directory of the sharded collection.
        manifest: as it was read from there.
        entry: one of its shards.
        options: as for `reperio.open`.

    Raises:
        CollectionDamaged: it is missing, or was made with other settings than the manifest has.
        StorageFailed: it is a link, or no directory.
    """
    layout = ShardLayout(root)
    path = layout.shard(entry)
    require_shard(path)
    if not options.get("read_only", False):
        open_collection(path, read_only=True).close()  # opening to write would create one
    opened = open_collection(path, **options)
    found, expected = handle_of(opened).settings().to_json(), manifest.settings.to_json()
    # Not dimension and embedder: shards may be embedded again, one after the other.
    name = next((key for key in _FIXED if found[key] != expected[key]), None)
    if name is not None:
        opened.close()
        raise CollectionDamaged(
            f"{path} has another {name} than {layout.manifest} says: it is a shard of another collection; restore from "
            "a backup"
        )
    return opened


class ShardSet:
    """The collections of all shards, opened in this process.

    Args:
        root: the directory that has ``shards.json``.
        options: as for `reperio.open`; by default ``read_only=True``. An embedder that is passed as an object is
            shared by all of them.

    Attributes:
        root: the directory.
        manifest: as it was when the shards were opened; `refresh` reads it again.

    Raises:
        CollectionNotFound, NotACollection, CollectionDamaged, UnsupportedFormat, StorageFailed: what is there cannot
            be used.
    """

    def __init__(self, root: str | os.PathLike[str], **options: Any) -> None:
        self.root = to_path("root", root).absolute()
        self._options = {"read_only": True, **options}
        self.manifest = read_manifest(self.root)
        self._open: dict[str, Collection] = {}
        self._lock = ForkSafeLock(threading.RLock)  # re-entered where a signal handler writes
        self._closed = False
        with ExitStack() as undo:
            undo.callback(self.close)
            self._take(self.manifest)
            undo.pop_all()

    def __getitem__(self, name: str) -> Collection:
        """Return the collection of a shard by the name of the shard."""
        return self._open[self.manifest.named(name).name]

    def __iter__(self) -> Iterator[tuple[ShardEntry, Collection]]:
        """Go through the shards, in the order of their slots, each with its collection."""
        return ((entry, self._open[entry.name]) for entry in self.manifest.shards)

    def __len__(self) -> int:
        return len(self.manifest.shards)

    def of(self, chunk_id: str) -> Collection:
        """Return the collection that an id belongs to."""
        return self._open[self.manifest.shard_of(chunk_id).name]

    def state(self) -> tuple[ShardManifest, dict[str, Collection]]:
        """Return the manifest and the collections, by name, that belong together.

        Raises:
            CollectionClosed: it was closed.
        """
        with self._lock:
            self._require_open()
            return self.manifest, dict(self._open)

    def refresh(self) -> bool:
        """Read the manifest again, open the shards that are new, close those that are gone; say whether there were any.

        Raises:
            CollectionDamaged, StorageFailed: as when it was opened; what was open stays so.
            CollectionClosed: it was closed.
        """
        with self._lock:
            self._require_open()
            found = read_manifest(self.root)
            if found.version == self.manifest.version:
                return False
            self._take(found)
            return True

    def reopen(self, **options: Any) -> None:
        """Open all shards again with other options, as of the manifest of now."""
        with self._lock:
            self._require_open()
            self._options.update(options)
            self._drop()
            self._take(read_manifest(self.root))

    def _take(self, found: ShardManifest) -> None:
        """Open the shards of a manifest, and close the others.

        A shard that is opened for writing is made where there is none, as where it was split a moment ago. What is made
        so must not be written to: a shard is removed only after the manifest was exchanged, so that one which is still
        named after it was opened was there.
        """
        failure: ReperioError | None = None
        while True:
            try:
                self._open_missing(found)
                failure = None
            except ReperioError as error:  # it may be gone because it was exchanged a moment ago
                failure = error
            newest = read_manifest(self.root)
            if newest.version == found.version:
                break
            found = newest
        if failure is not None:
            raise failure
        self.manifest = found
        kept = {entry.name for entry in found.shards}
        for name in [name for name in self._open if name not in kept]:
            self._open.pop(name).close()

    def _open_missing(self, manifest: ShardManifest) -> None:
        for entry in manifest.shards:
            if entry.name not in self._open:
                self._open[entry.name] = open_shard(self.root, manifest, entry, **self._options)

    def close(self) -> None:
        """Close all of them; doing so twice is no error."""
        with self._lock:
            self._closed = True
            self._drop()

    def _require_open(self) -> None:
        if self._closed:
            raise CollectionClosed(f"the shards of {self.root} were closed through this handle; open them again")

    def _drop(self) -> None:
        while self._open:
            self._open.popitem()[1].close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

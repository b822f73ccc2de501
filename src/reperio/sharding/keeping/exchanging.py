"""Split a shard, or merge neighbours: new shards are written next to the old ones, and the manifest is exchanged.

Searches and writes go on while the new shards are written and indexed. Then writes to the old ones wait for a moment:
what has changed since is carried over, the manifest is replaced, and the old shards are removed. Killed before that,
nothing has happened; what was written is removed by the next exchange.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from typing_extensions import Never

from reperio.arguments import (
    is_iterable,
    refuse_unknown,
    require_count,
    require_limits,
    require_recall,
    require_seconds,
    to_path,
)
from reperio.collection.facade import Collection, handle_of
from reperio.collection.generation.opened import OpenGeneration
from reperio.collection.opening import open as open_collection
from reperio.collection.write.preparing import check_chunks
from reperio.embedding.contract import Settings
from reperio.errors import CollectionLocked, InvalidInput, ReperioError, StorageFailed
from reperio.exchange.content import Block, content_of, receive
from reperio.layout import is_directory, storage_errors
from reperio.layout.writing import remove_tree
from reperio.printable import logger
from reperio.sharding.manifest import (
    ShardEntry,
    ShardLayout,
    ShardManifest,
    is_shard,
    read_manifest,
    slot_of,
    write_manifest,
)
from reperio.sharding.shard_set import open_shard
from reperio.store import Entry
from reperio.types import Progress

_log = logger("reperio.sharding")
_UNFINISHED = re.compile(r"\.(shard-[0-9]+)\.creating-[1-9][0-9]{0,9}-[0-9a-f]{8}")  # as layout/creating names them
_BLOCK = 2000


@dataclass(frozen=True, slots=True)
class Exchange:
    """The result of a split or a merge.

    Attributes:
        path: directory of the shards.
        removed: names of the shards that are gone.
        made: names of the shards that took their slots, each with its number of chunks.
        generation: of the manifest since.
    """

    path: str
    removed: tuple[str, ...]
    made: dict[str, int]
    generation: int


def split(
    path: str | os.PathLike[str],
    shard: str,
    *,
    parts: int = 2,
    recall: float | None = 0.95,
    lock_timeout: float = 30.0,
    progress: Progress | None = None,
    **unknown: Never,
) -> Exchange:
    """Cut one shard into several, each with a part of its slots.

    Args:
        path: directory that has ``shards.json``.
        shard: name of the shard.
        parts: how many it becomes.
        recall: what the index of each is chosen for; None builds none.
        lock_timeout: seconds to wait for another exchange, and for the writers of the old shard.
        progress: called as ``progress("copy", chunks written, chunks in all)``.

    Raises:
        InvalidInput: there is no such shard, or it has fewer slots.
        CollectionLocked: another process exchanges shards, or writes to the old one, for longer; nothing was changed.
        CollectionDamaged: a chunk is not what was stored; nothing was changed.
        StorageFailed: there is no room for the new shards; nothing was changed.
    """
    refuse_unknown(split, unknown)
    require_count("parts", parts)
    if parts < 2:
        raise InvalidInput(f"parts is {parts}; a shard is split into 2 or more")
    return _exchange(to_path("path", path).absolute(), [shard], parts, recall, lock_timeout, progress)


def merge(
    path: str | os.PathLike[str],
    shards: Sequence[str],
    *,
    recall: float | None = 0.95,
    lock_timeout: float = 30.0,
    progress: Progress | None = None,
    **unknown: Never,
) -> Exchange:
    """Make one shard of several neighbours; see `split`.

    Args:
        path, recall, lock_timeout, progress: as there.
        shards: names of shards, in the order of their slots.

    Raises:
        InvalidInput: as there; they are no neighbours, or were embedded by different models.
    """
    refuse_unknown(merge, unknown)
    if isinstance(shards, str) or not is_iterable(shards) or len(shards) < 2:
        raise InvalidInput("merge takes the names of two shards or more; see reperio shards info")
    return _exchange(to_path("path", path).absolute(), list(shards), 1, recall, lock_timeout, progress)


def _exchange(
    root: Path, names: list[str], parts: int, recall: float | None, timeout: float, progress: Progress | None
) -> Exchange:
    if recall is not None:
        require_recall(recall)
    require_seconds("lock_timeout", timeout)
    with (
        exchanging(root, timeout) as (layout, manifest, require_in_place),
        _undone(layout, manifest, require_in_place),
        ExitStack() as opened,
    ):
        old = [manifest.named(name) for name in names]
        new = manifest.exchanged(old, parts)
        made = [entry for entry in new.shards if entry not in manifest.shards]
        remove_strangers(layout, manifest)
        sources = [
            opened.enter_context(open_shard(root, manifest, entry, auto_optimize=False, lock_timeout=timeout))
            for entry in old
        ]
        settings = _one_settings(sources, names)
        marks = [_mark(source) for source in sources]
        done, total = 0, sum(source.count() for source in sources)
        targets: list[Collection] = []
        for place, entry in enumerate(made):
            path = layout.shard(entry)
            records = _records(sources) if place == 0 else iter(())  # those of programs belong to no id
            clock = max(_clock(source) for source in sources)
            receive(path, settings, _within(sources, entry), records, clock=clock, limits=require_limits(None))
            targets.append(opened.enter_context(open_collection(path, auto_optimize=False)))
            count = targets[-1].count()
            if recall is not None and count:
                targets[-1].optimize(recall)
            done += count
            if progress is not None:
                progress("copy", done, total)
        for source in sources:
            opened.enter_context(source.turn())
        for source, mark in zip(sources, marks, strict=True):
            _carry_over(source, mark, list(zip(made, targets, strict=True)))
        _remove_deleted(sources, targets)
        counts = {entry.name: target.count() for entry, target in zip(made, targets, strict=True)}
        require_in_place()
        write_manifest(root, new)
        for entry in old:
            _retire(layout, entry)
    _log.info("%s: %s became %s", root, ", ".join(names), ", ".join(counts))
    return Exchange(str(root), tuple(names), counts, new.generation)


@contextmanager
def _undone(layout: ShardLayout, manifest: ShardManifest, require_in_place: Callable[[], None]) -> Iterator[None]:
    """Remove what was written where the exchange does not come about: it may be as much as the shards."""
    try:
        yield
    except Exception:  # killed or interrupted, it is left to doctor and to the next exchange
        with suppress(ReperioError):
            require_in_place()  # else others may exchange what is at the path
            if read_manifest(layout.root).version == manifest.version:
                remove_strangers(layout, manifest)
        raise


@contextmanager
def exchanging(root: Path, timeout: float) -> Iterator[tuple[ShardLayout, ShardManifest, Callable[[], None]]]:
    """Keep others from exchanging shards meanwhile, and yield what there is.

    The last is to be called before anything is replaced: it raises `CollectionLocked` where the directory was moved
    away, or restored, so that others may exchange the shards at the path.
    """
    read_manifest(root)  # before a lock file is made in what is no directory of shards
    layout = ShardLayout(root)
    lock = layout.lock()
    lock.acquire(timeout)

    def require_in_place() -> None:
        if not lock.is_in_place():
            raise CollectionLocked(f"{root} was moved or replaced meanwhile; nothing was changed there, try again")

    try:
        yield layout, read_manifest(root), require_in_place
    finally:
        lock.close()


def strangers(layout: ShardLayout, manifest: ShardManifest) -> list[Path]:
    """Return what killed exchanges and builds have left: by our names, and not in the manifest."""
    named = {entry.name for entry in manifest.shards}
    with storage_errors(layout.shards, "read"):
        entries = sorted(layout.shards.iterdir()) if is_directory(layout.shards) else []
    found = [layout.building] if is_directory(layout.building) else []
    for entry in filter(is_directory, entries):  # ours are directories: a link or a pipe is somebody's
        unfinished = _UNFINISHED.fullmatch(entry.name)
        name = unfinished[1] if unfinished else entry.name.removesuffix(".old")
        if is_shard(name) and (unfinished or name not in named or entry.name.endswith(".old")):
            found.append(entry)
    return found


def remove_strangers(layout: ShardLayout, manifest: ShardManifest) -> None:
    """Remove what killed exchanges have left. Under the lock of the exchanges."""
    for path in strangers(layout, manifest):
        remove_tree(path)


def _retire(layout: ShardLayout, entry: ShardEntry) -> None:
    """Remove a shard that the manifest no longer has: its name at once, then its files.

    Where that cannot be, the shards are exchanged all the same: the next exchange or doctor removes it.
    """
    path = layout.shard(entry)
    retired = path.with_name(f"{entry.name}.old")
    try:
        with storage_errors(path, "remove"):
            path.rename(retired)
        remove_tree(retired)
    except StorageFailed as error:
        _log.warning("%s has other shards by now, and %s is left: %s", layout.root, entry.name, error)


@dataclass(frozen=True, slots=True)
class _Mark:
    """Where a shard was when it was copied."""

    generation: OpenGeneration
    rows: int


def _mark(source: Collection) -> _Mark:
    generation, session, _ = handle_of(source).reading()
    with session:
        return _Mark(generation, session.state.rows)


def _clock(source: Collection) -> float:
    with content_of(source) as content:
        return content.clock


def _records(sources: Sequence[Collection]) -> Iterator[Entry]:
    for source in sources:
        with content_of(source) as content:
            yield from content.records()


def _one_settings(sources: Sequence[Collection], names: Sequence[str]) -> Settings:
    found = [handle_of(source).settings() for source in sources]
    for name, settings in zip(names, found, strict=True):
        if settings.to_json() != found[0].to_json():
            raise InvalidInput(
                f"{name} was embedded by another model than {names[0]}; embed one of them again first: reperio reembed"
            )
    return found[0]


def _within(sources: Sequence[Collection], entry: ShardEntry) -> Iterator[Block]:
    """Yield the chunks of a range of slots, in the order in which they were added."""
    for source in sources:
        with content_of(source) as content:
            for block in content.blocks():
                narrowed = _narrowed(block, entry)
                if narrowed.chunks:
                    yield narrowed


def _narrowed(block: Block, entry: ShardEntry) -> Block:
    kept = [at for at, chunk in enumerate(block.chunks) if entry.holds(slot_of(chunk.id))]
    return Block([block.chunks[at] for at in kept], block.vectors[kept])


def _carry_over(source: Collection, mark: _Mark, targets: Sequence[tuple[ShardEntry, Collection]]) -> None:
    """Put what was added since the copy, to the bit. In a turn of *source*."""
    generation, session, matrix = handle_of(source).reading()
    with session:
        if generation is not mark.generation:  # a restored one may have the same name
            raise CollectionLocked(
                f"{generation.paths.root.parent} was compacted, embedded again or restored meanwhile; nothing was "
                "changed, try again"
            )
        after = mark.rows - 1
        while stored := session.scan(after, _BLOCK):
            session.require(stored, matrix)
            after = stored[-1].row
            rows = np.array([one.row for one in stored])
            block = Block([one.to_chunk() for one in stored], matrix.take(rows, axis=0))
            for entry, target in targets:
                _put(target, _narrowed(block, entry))


def _put(target: Collection, block: Block) -> None:
    checked = check_chunks(block.chunks, 0)
    if not checked:
        return

    def attempt(generation: OpenGeneration) -> None:
        store = generation.store
        seen = store.state.seq
        replaced = [one.row for one in store.existing([chunk.id for chunk in checked]).values()]
        store.put(checked, block.vectors, replaced, seen=seen)

    handle_of(target).commit(attempt)


def _remove_deleted(sources: Sequence[Collection], targets: Sequence[Collection]) -> None:
    """Delete what was deleted since the copy. All that there is now is in the targets, so the numbers tell."""
    if sum(one.count() for one in targets) == sum(one.count() for one in sources):
        return
    there = {chunk_id for source in sources for chunk_id in source.ids()}
    for target in targets:
        target.delete(ids=[chunk_id for chunk_id in target.ids() if chunk_id not in there])

"""Make shards by hand, and the one collection that they must answer like."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import reperio
from reperio import Chunk, Collection
from reperio.collection.facade import handle_of
from reperio.sharding.manifest import ShardEntry, ShardLayout, ShardManifest, write_manifest

Vectors = npt.NDArray[np.floating[Any]]


def make_shards(root: Path, shards: int, **options: Any) -> ShardManifest:
    """Create empty shards; *options* are those of `reperio.open`."""
    (root / "shards").mkdir(parents=True)
    with reperio.open(":memory:", **options) as template:
        manifest = ShardManifest.new(handle_of(template).settings(), shards)
    for entry in manifest.shards:
        open_to_write(root, entry, **options).close()
    write_manifest(root, manifest)
    return manifest


def open_to_write(root: Path, entry: ShardEntry, **options: Any) -> Collection:
    """Open one shard as what it is: a collection."""
    return reperio.open(ShardLayout(root).shard(entry), auto_optimize=False, **options)


def fill(root: Path, manifest: ShardManifest, chunks: Sequence[Chunk], vectors: Vectors | None, **options: Any) -> None:
    """Store chunks, each in its shard."""
    places: dict[str, list[int]] = defaultdict(list)
    for place, chunk in enumerate(chunks):
        places[manifest.shard_of(chunk.id).name].append(place)
    for name, own in places.items():
        with open_to_write(root, manifest.named(name), **options) as kb:
            kb.add([chunks[place] for place in own], vectors=None if vectors is None else vectors[own])


def one_like(shards: Collection, path: Path | str, given: Mapping[str, Any] | None, **options: Any) -> Collection:
    """Return one collection with the chunks of all shards, in the order of their rows.

    Args:
        shards: opened.
        path: where to.
        given: the vectors by id as they were given: one that is scaled to length 1 twice differs in its last bits.
        options: as for `reperio.open`.
    """
    kb = reperio.open(path, auto_optimize=False, **options)
    ids = shards.ids()
    if ids:
        kb.add(shards.get(ids), vectors=None if given is None else np.array([given[key] for key in ids]))
    return kb

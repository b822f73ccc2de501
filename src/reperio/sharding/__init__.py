"""Collections that outgrow one host: a manifest that names the shards, each of them an ordinary collection."""

from reperio.sharding.manifest import (
    MANIFEST,
    SLOTS,
    ShardEntry,
    ShardLayout,
    ShardManifest,
    exchange_manifest,
    is_sharded,
    read_manifest,
    slot_of,
    write_manifest,
)
from reperio.sharding.shard_set import ShardSet, open_shard

__all__ = [
    "MANIFEST",
    "SLOTS",
    "ShardEntry",
    "ShardLayout",
    "ShardManifest",
    "ShardSet",
    "exchange_manifest",
    "is_sharded",
    "open_shard",
    "read_manifest",
    "slot_of",
    "write_manifest",
]

"""Collections that outgrow one host: a manifest that names the shards, each of them an ordinary collection."""

from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from reperio.sharding.building.build import BuildReport, build_shards
    from reperio.sharding.building.tasks import FillTask, SpreadTask, fill, spread
    from reperio.sharding.keeping.exchanging import Exchange, merge, split
    from reperio.sharding.keeping.upkeep import (
        backup_shards,
        check_shards,
        diagnose_shards,
        optimize_shards,
        restore_shards,
        shards_info,
    )
    from reperio.sharding.writing import ShardWriter

__all__ = [
    "MANIFEST",
    "SLOTS",
    "BuildReport",
    "Exchange",
    "FillTask",
    "ShardEntry",
    "ShardLayout",
    "ShardManifest",
    "ShardSet",
    "ShardWriter",
    "SpreadTask",
    "backup_shards",
    "build_shards",
    "check_shards",
    "diagnose_shards",
    "exchange_manifest",
    "fill",
    "is_sharded",
    "merge",
    "open_shard",
    "optimize_shards",
    "read_manifest",
    "restore_shards",
    "shards_info",
    "slot_of",
    "split",
    "spread",
    "write_manifest",
]

_LAZY = {
    **dict.fromkeys(("BuildReport", "build_shards"), "reperio.sharding.building.build"),
    **dict.fromkeys(("FillTask", "SpreadTask", "fill", "spread"), "reperio.sharding.building.tasks"),
    **dict.fromkeys(("Exchange", "merge", "split"), "reperio.sharding.keeping.exchanging"),
    **dict.fromkeys(
        ("backup_shards", "check_shards", "diagnose_shards", "optimize_shards", "restore_shards", "shards_info"),
        "reperio.sharding.keeping.upkeep",
    ),
    "ShardWriter": "reperio.sharding.writing",
}


def __getattr__(name: str) -> Any:
    """Import what builds and keeps shards only when it is asked for: who only searches needs none of it."""
    if name not in _LAZY:
        raise AttributeError(f"module 'reperio.sharding' has no attribute {name!r}")
    from importlib import import_module

    found = globals()[name] = getattr(import_module(_LAZY[name]), name)
    return found

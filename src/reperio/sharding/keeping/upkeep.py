"""Do to all shards what is done to one collection: check, mend, back up, restore, optimize, describe.

Each is a pure function of one shard, applied by *map*, in this process by default: a process pool or Ray will do.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from typing_extensions import Never

from reperio import layout
from reperio.arguments import refuse_unknown, require_recall, to_path
from reperio.errors import CollectionExists, CollectionLocked, ReperioError, StorageFailed
from reperio.printable import logger
from reperio.recovery import Diagnosis, diagnose, restore
from reperio.sharding.keeping.exchanging import exchanging, remove_strangers, strangers
from reperio.sharding.manifest import (
    ShardEntry,
    ShardLayout,
    ShardManifest,
    read_manifest,
    require_shard,
    slot_of,
    write_manifest,
)
from reperio.sharding.running import Run, require_map, results
from reperio.sharding.shard_set import open_shard
from reperio.types import CheckReport, CollectionInfo, IndexInfo, Problem, Progress

_log = logger("reperio.sharding")
Result = TypeVar("Result")
_PATIENCE = 30.0  # seconds to wait for an exchange of shards
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


@dataclass(frozen=True, slots=True)
class ShardsInfo:
    """The facts that `shards_info` returns.

    Attributes:
        path: the directory.
        identity, generation: of the manifest.
        count: chunks in all shards.
        disk: bytes in all shards.
        shards: by name: first and end slot, and what `Collection.info` says.
    """

    path: str
    identity: str
    generation: int
    count: int
    disk: int
    shards: Mapping[str, tuple[ShardEntry, CollectionInfo]]


@dataclass(frozen=True, slots=True)
class ShardsCheck:
    """The result of `check_shards`.

    Attributes:
        problems: of the directory, and chunks that are in a shard that their id does not belong to.
        shards: what `Collection.check` says of each, by name.
    """

    problems: tuple[Problem, ...]
    shards: Mapping[str, CheckReport]

    @property
    def ok(self) -> bool:
        """True when nothing is wrong."""
        return not self.problems and all(report.ok for report in self.shards.values())

    @property
    def rows(self) -> int:
        """Number of chunks whose checksum was verified."""
        return sum(report.rows for report in self.shards.values())


@dataclass(frozen=True, slots=True)
class ShardsDiagnosis:
    """The result of `diagnose_shards`.

    Attributes:
        problems: of the directory; what killed exchanges have left is no damage.
        shards: what `diagnose` says of each, by name.
        removed: names of what killed exchanges had left, with *mend*.
    """

    problems: tuple[Problem, ...]
    shards: Mapping[str, Diagnosis]
    removed: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """True when nothing is damaged."""
        damaged = any(problem.kind == "damage" for problem in self.problems)
        return not damaged and all(found.ok for found in self.shards.values())


@dataclass(frozen=True, slots=True)
class _Each:
    """One shard of a directory, as a task."""

    root: Path
    manifest: ShardManifest
    entry: ShardEntry
    options: Mapping[str, Any]


def shards_info(path: str | os.PathLike[str], **unknown: Never) -> ShardsInfo:
    """Describe shards: how many chunks, bytes and slots each has, and its index."""
    refuse_unknown(shards_info, unknown)
    root = to_path("path", path).absolute()
    manifest, infos = _of_all(_described, root, {}, None, None)
    found: dict[str, tuple[ShardEntry, CollectionInfo]] = {
        entry.name: (entry, infos[entry.name][1]) for entry in manifest.shards
    }
    count = sum(info.count for _, info in found.values())
    disk = sum(sum(info.disk.values()) for _, info in found.values())
    return ShardsInfo(str(root), manifest.identity, manifest.generation, count, disk, found)


def check_shards(
    path: str | os.PathLike[str],
    *,
    map: Run | None = None,  # noqa: A002  # what it is called in every pool
    progress: Progress | None = None,
    **unknown: Never,
) -> ShardsCheck:
    """Read everything in all shards and verify it, and that each id is in the shard that it belongs to.

    Never raises for damage to a shard: the report names each problem with its cure.

    Raises:
        CollectionNotFound, NotACollection, CollectionDamaged, UnsupportedFormat, StorageFailed: of the manifest.
    """
    refuse_unknown(check_shards, unknown)
    root = to_path("path", path).absolute()
    _, found = _of_all(_checked, root, {}, map, progress)
    problems = [problem for _, misplaced, _ in found.values() for problem in misplaced]
    return ShardsCheck(tuple(problems), {name: report for name, _, report in found.values()})


def diagnose_shards(
    path: str | os.PathLike[str],
    *,
    mend: bool = False,
    map: Run | None = None,  # noqa: A002  # likewise
    progress: Progress | None = None,
    **unknown: Never,
) -> ShardsDiagnosis:
    """Examine all shards, also those that cannot be opened, and mend them if asked to; see `reperio.diagnose`.

    Args:
        path: directory that has ``shards.json``.
        mend: mend each shard; and remove what killed exchanges of shards have left.
        map, progress: as in `check_shards`.

    Raises:
        CollectionNotFound, NotACollection, CollectionDamaged, UnsupportedFormat: of the manifest.
        CollectionLocked: *mend*, and others write, build or exchange shards for longer than half a minute.
    """
    refuse_unknown(diagnose_shards, unknown)
    root = to_path("path", path).absolute()
    removed: tuple[str, ...] = ()
    if mend:
        with exchanging(root, _PATIENCE) as (places, manifest, _):
            removed = tuple(path.name for path in strangers(places, manifest))
            remove_strangers(places, manifest)
    manifest, found = _of_all(_diagnosed, root, {"mend": mend}, map, progress)
    problems = [problem for _, problem, _ in found.values() if problem is not None]
    left = [
        Problem(
            "waste",
            f"{path} is left of an exchange of shards that was killed, unless one is being made now",
            "reperio shards doctor --mend removes it",
        )
        for path in strangers(ShardLayout(root), manifest)
    ]
    shards = {name: one for name, _, one in found.values() if one is not None}
    return ShardsDiagnosis((*problems, *left), shards, removed)


def backup_shards(
    path: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    map: Run | None = None,  # noqa: A002  # likewise
    progress: Progress | None = None,
    **unknown: Never,
) -> None:
    """Write a copy of all shards to a new directory, there whole or not at all; it is a directory of shards itself.

    Each shard is copied as of one commit, verified. A batch that was spread over shards at that moment may be in the
    copy of one and not of another: there is no moment that all shards share. Shards are not exchanged meanwhile.

    Raises:
        CollectionDamaged: something is not what was stored; nothing was written.
        CollectionExists: something is at the destination.
        InvalidInput: it is inside a collection.
        CollectionLocked: another process exchanges shards, for longer than half a minute; or has done so meanwhile,
            where they may only be read.
        StorageFailed: nothing is left there.
    """
    refuse_unknown(backup_shards, unknown)
    root, target = to_path("path", path).absolute(), to_path("destination", destination).absolute()
    require_map(map)
    layout.require_vacant(target, "for the backup")
    read_manifest(root)  # before a directory is made
    with layout.new_directory(target) as fresh, _unexchanged(root) as manifest:
        copied = ShardLayout(fresh)
        layout.make_directory(copied.shards)
        _over(_backed_up, str, _each(root, manifest, {"into": str(copied.shards)}), map, progress)
        write_manifest(fresh, manifest)


@contextmanager
def _unexchanged(root: Path) -> Iterator[ShardManifest]:
    """Keep others from exchanging shards; where they may only be read, find out at the end whether they have."""
    with ExitStack() as locked:
        try:
            _, manifest, _ = locked.enter_context(exchanging(root, _PATIENCE))
        except StorageFailed as error:
            if error.errno not in _FORBIDDEN:
                raise
            manifest = read_manifest(root)
        failure: ReperioError | None = None
        try:
            yield manifest
        except ReperioError as error:  # of a shard that is gone by now, it may be
            failure = error
        if read_manifest(root).version != manifest.version:
            raise CollectionLocked(f"the shards of {root} were exchanged meanwhile; nothing was written, try again")
        if failure is not None:
            raise failure


def restore_shards(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    trust_index: bool = True,
    mend: bool = False,
    map: Run | None = None,  # noqa: A002  # likewise
    progress: Progress | None = None,
    **unknown: Never,
) -> ShardsInfo:
    """Make shards of a backup at a new path, verified to the last chunk before they are there; see `reperio.restore`.

    Raises:
        CollectionDamaged: the backup is not what was written, and not *mend*, or nothing of a shard is whole.
        CollectionNotFound, NotACollection, UnsupportedFormat: there is no backup of shards at *source*.
        CollectionExists: something is at the destination.
        StorageFailed: no room; nothing is left there.
    """
    refuse_unknown(restore_shards, unknown)
    origin, target = to_path("source", source).absolute(), to_path("destination", destination).absolute()
    require_map(map)
    layout.require_vacant(target, "to restore to")
    manifest = read_manifest(origin)
    with layout.new_directory(target) as fresh:
        copied = ShardLayout(fresh)
        layout.make_directory(copied.shards)
        options = {"into": str(copied.shards), "trust_index": trust_index, "mend": mend}
        _over(_restored, str, _each(origin, manifest, options), map, progress)
        write_manifest(fresh, manifest)
    return shards_info(target)


def optimize_shards(
    path: str | os.PathLike[str],
    recall: float = 0.95,
    *,
    index: str | None = None,
    memory: int | str | None = None,
    prefer: str = "latency",
    map: Run | None = None,  # noqa: A002  # likewise
    progress: Progress | None = None,
    **unknown: Never,
) -> dict[str, IndexInfo | None]:
    """Choose, build and measure an index over each shard; see `Collection.optimize`.

    Returns:
        What is in use since, by name of the shard.
    """
    refuse_unknown(optimize_shards, unknown)
    require_recall(recall)
    root = to_path("path", path).absolute()
    options = {"recall": recall, "index": index, "memory": memory, "prefer": prefer}
    _, found = _of_all(_optimized, root, options, map, progress)
    return dict(found.values())


def _of_all(
    function: Callable[[_Each], tuple[Any, ...]],
    root: Path,
    options: Mapping[str, Any],
    run: Run | None,
    progress: Progress | None,
) -> tuple[ShardManifest, dict[str, tuple[Any, ...]]]:
    """Return what a function returns for each shard, by name, and the manifest that names just these.

    A shard that others split or merge meanwhile is gone, which is no fault of it: those in its place are asked.

    Args:
        function: returns the name of the shard first.
        root, options: of each task.
        run, progress: of the caller.
    """
    found: dict[ShardEntry, tuple[Any, ...]] = {}
    while True:
        manifest = read_manifest(root)
        tasks = [one for one in _each(root, manifest, options) if one.entry not in found]
        try:
            found.update((manifest.named(one[0]), one) for one in _over(function, tuple, tasks, run, progress))
        except ReperioError:
            if read_manifest(root).version == manifest.version:
                raise
            continue
        if read_manifest(root).version == manifest.version:
            return manifest, {entry.name: found[entry] for entry in manifest.shards}


def _each(root: Path, manifest: ShardManifest, options: Mapping[str, Any]) -> list[_Each]:
    return [_Each(root, manifest, entry, options) for entry in manifest.shards]


def _over(
    function: Callable[[_Each], Result],
    kind: type[Result],
    tasks: Sequence[_Each],
    run: Run | None,
    progress: Progress | None,
) -> list[Result]:
    require_map(run)
    found = []
    for result in results(run, function, tasks, kind, _name_of):
        found.append(result)
        if progress is not None:
            progress("shards", len(found), len(tasks))
    return found


def _name_of(result: Any) -> str:
    return result if isinstance(result, str) else str(result[0])


def _described(task: _Each) -> tuple[str, CollectionInfo]:
    with open_shard(task.root, task.manifest, task.entry, read_only=True) as kb:
        return task.entry.name, kb.info()


def _checked(task: _Each) -> tuple[str, list[Problem], CheckReport]:
    name = task.entry.name
    try:
        with open_shard(task.root, task.manifest, task.entry, read_only=True) as kb:
            report = kb.check()
            ids = kb.ids()
    except ReperioError as error:
        return name, [], CheckReport([Problem.of(error)], 0)
    misplaced = [one for one in ids if not task.entry.holds(slot_of(one))]
    return name, [_misplaced(task.manifest, name, misplaced)] if misplaced else [], report


def _misplaced(manifest: ShardManifest, name: str, ids: Sequence[str]) -> Problem:
    first = ids[0]
    more = f" and {len(ids) - 1:,} more" if len(ids) > 1 else ""
    return Problem(
        "damage",
        f"{name} has {first!r:.80}{more}, which belong elsewhere ({manifest.shard_of(first).name})",
        f"they were added to the shard itself: delete them there (reperio delete …/{name} ID), and add them with "
        "ShardWriter",
    )


def _diagnosed(task: _Each) -> tuple[str, Problem | None, Diagnosis | None]:
    path = ShardLayout(task.root).shard(task.entry)
    try:
        require_shard(path)
        return task.entry.name, None, diagnose(path, mend=task.options["mend"])
    except ReperioError as error:
        return task.entry.name, Problem.of(error), None


def _backed_up(task: _Each) -> str:
    # That it exists: the same task, which was thought lost, was quicker.
    with open_shard(task.root, task.manifest, task.entry, read_only=True) as kb, suppress(CollectionExists):
        kb.backup(Path(task.options["into"], task.entry.name))
    return task.entry.name


def _restored(task: _Each) -> str:
    path = ShardLayout(task.root).shard(task.entry)
    require_shard(path)
    into = Path(task.options["into"], task.entry.name)
    with suppress(CollectionExists):  # likewise
        restore(path, into, trust_index=task.options["trust_index"], mend=task.options["mend"])
    return task.entry.name


def _optimized(task: _Each) -> tuple[str, IndexInfo | None]:
    options = dict(task.options)
    recall = options.pop("recall")
    with open_shard(task.root, task.manifest, task.entry, auto_optimize=False) as kb:
        return task.entry.name, kb.optimize(recall, **options) if kb.count() else None

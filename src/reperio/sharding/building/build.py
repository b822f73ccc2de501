"""The verb: make shards of a source."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
from typing_extensions import Never

from reperio.arguments import (
    refuse_unknown,
    require_count,
    require_limits,
    require_recall,
    to_metric,
    to_path,
)
from reperio.collection.handle.embedder import DEFAULT_EMBEDDER
from reperio.embedding.contract import Settings
from reperio.errors import CollectionDamaged, CollectionExists, InvalidInput, StorageFailed
from reperio.ingestion.results import Failed, Skipped
from reperio.layout import (
    is_directory,
    is_there,
    make_directory,
    read_regular,
    require_absent_or_directory,
    require_outside,
    require_vacant,
    storage_errors,
    write_atomically,
)
from reperio.layout.writing import remove_tree
from reperio.printable import logger
from reperio.sharding.building.on_ray import connected, run_on_ray
from reperio.sharding.building.partitions import Source
from reperio.sharding.building.parts import PartReport, is_part
from reperio.sharding.building.sources import cut_source, paths_of, settings_of
from reperio.sharding.building.tasks import FillTask, ShardReport, SpreadTask, fill, spread
from reperio.sharding.manifest import (
    MANIFEST,
    ShardLayout,
    ShardManifest,
    is_identity,
    is_sharded,
    write_manifest,
)
from reperio.sharding.running import Run, require_map, results
from reperio.types import Embedder, Limits, Metric, Progress

_log = logger("reperio.sharding")
_PLAN = "plan.json"
_MORE = 1 << 20  # bytes that another plan may have, to be told from this one by what differs


@dataclass(frozen=True, slots=True)
class BuildReport:
    """The result of one `build_shards`.

    Attributes:
        path: the directory.
        chunks: in all shards.
        embedded: of these, how many texts went through the embedder, in this run and in those before it.
        shards: name and number of chunks of each.
        seconds: of this run, by stage: "plan", "spread", "fill", "finish"; the first and the last are serial.
        skipped, failed: files that were passed over, and that could not be read, as in `IngestResult`.
    """

    path: str
    chunks: int
    embedded: int
    shards: tuple[ShardReport, ...]
    seconds: Mapping[str, float]
    skipped: tuple[Skipped, ...] = ()
    failed: tuple[Failed, ...] = ()

    @property
    def complete(self) -> bool:
        """True when no file failed."""
        return not self.failed


def build_shards(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    into: str | os.PathLike[str],
    *,
    shards: int,
    embedder: Embedder | str | None = None,
    metric: Metric | str | None = None,
    dtype: str | None = None,
    lexical: str | None = None,
    recall: float | None = 0.95,
    id_field: str | None = None,
    text_field: str | None = None,
    vector_field: str | None = None,
    ingestion: Mapping[str, Any] | None = None,
    partition_rows: int = 16_384,
    workers: int | None = None,
    resources: Mapping[str, Any] | None = None,
    map: Run | None = None,  # noqa: A002  # what it is called in every pool
    limits: Limits | None = None,
    progress: Progress | None = None,
    **unknown: Never,
) -> BuildReport:
    """Make shards of a source, in tasks on Ray or wherever *map* runs them; killed, and run again, it goes on.

    A source is cut into partitions. One task per partition reads it, embeds what has no vectors, and writes what each
    shard gets of it; then one task per shard writes the shard and builds its index. The directory is a sharded
    collection when ``shards.json`` is there, which comes last. The same source and options make the same content.

    Args:
        source: files of JSON lines (.jsonl, .ndjson) or Parquet (.parquet), whose lines or rows are chunks; or the
            directory of one collection, taken as it is now, without its records; or files and folders, which are read
            and cut as `ingest` does.
        into: the new directory, absent or empty; on several hosts, at this path on each of them.
        shards: how many; they can be split and merged later.
        embedder: as in `open`; it is recorded. Needed where the source has no vectors, and then by default
            ``sentence-transformers/all-MiniLM-L6-v2``.
        metric, dtype, lexical: as in `open`; of a collection, its own.
        recall: what the index of each shard is chosen for, as in `Collection.optimize`; None builds none.
        id_field, text_field, vector_field: of lines and rows: "id", "text" and "vector", of which text and vector may
            be missing. The other fields are metadata; or "metadata" is an object with all of it.
        ingestion: options of `ingest` for files and folders: text_field, id_field, reading, max_tokens, overlap,
            metadata.
        partition_rows: rows of one partition, of Parquet and collections: what a killed task must do again.
        workers: CPUs of the Ray that is started where there is none; None for all of this host.
        resources: that a task needs of Ray which reads and embeds, ``{"num_cpus": 1}`` by default;
            ``{"num_gpus": 0.5}`` for an embedder that computes on a card.
        map: runs the tasks instead of Ray: called as ``map(function, tasks)``, it returns the results in any order:
            ``ProcessPoolExecutor().map``, or ``lambda f, tasks: sc.parallelize(tasks, len(tasks)).map(f).collect()``.
        limits: of texts and metadata, as in `open`.
        progress: called as ``progress("spread", chunks read, total or None)`` and ``progress("fill", shards, total)``.

    Raises:
        InvalidInput, InvalidChunk, InvalidVectors: something in the source or the options cannot be; what was made is
            kept, and taken up by the next run of the same build.
        CollectionExists: something else is at *into*.
        CollectionLocked: another build is at it.
        ShardBuildFailed: Ray lost a task again and again.
        EmbedderFailed, EmbeddingContractError, MissingDependency, StorageFailed: as for `Collection.add`.
    """
    refuse_unknown(build_shards, unknown)
    began = time.perf_counter()
    require_count("shards", shards)
    require_count("partition_rows", partition_rows)
    if recall is not None:
        require_recall(recall)
    require_map(map)
    _require_ray(map, resources=resources, workers=workers)
    if not isinstance(ingestion, Mapping | None):
        raise InvalidInput(f"ingestion is {ingestion!r:.60}; pass a dictionary, as {{'max_tokens': 200}}")
    paths = paths_of(source)
    root = to_path("into", into).absolute()
    require_outside(root, "for the shards")
    named = {"id_field": id_field, "text_field": text_field, "vector_field": vector_field}
    cut = cut_source(
        paths, {name: value for name, value in named.items() if value}, partition_rows, dict(ingestion or {})
    )
    given = {"metric": metric and to_metric(metric).value, "dtype": dtype, "lexical": lexical}
    settings = settings_of(cut, embedder, given, paths[0])
    build = _Build(root, cut, settings, shards, recall, require_limits(limits), progress)

    def on_ray(function: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterable[Any]:
        return run_on_ray(function, tasks, resources=resources if function is spread else None, workers=workers)

    by = embedder or (DEFAULT_EMBEDDER if cut.dimension is None else None)
    embedding = by if cut.dimension is None else None
    if map is not None:
        return build.run(embedding, map, began)
    build.claim()  # before Ray is started, which takes seconds
    with connected(workers):  # once for both stages, so that workers and their models are there for the second
        return build.run(embedding, on_ray, began)


class _Build:
    """One build, from its plan to its manifest."""

    def __init__(
        self,
        root: Path,
        source: Source,
        settings: Settings,
        shards: int,
        recall: float | None,
        limits: Limits,
        progress: Progress | None,
    ) -> None:
        self._layout = ShardLayout(root)
        self._building = self._layout.building
        self._source = source
        self._settings = settings
        self._recall = recall
        self._limits = limits
        self._progress = progress
        self._manifest = ShardManifest.new(settings, shards)
        self._seconds: dict[str, float] = {}

    def run(self, embedder: Embedder | str | None, run: Run, began: float) -> BuildReport:
        """Do what is still to be done, and return the report."""
        root = self._layout.root
        self.claim()
        lock = self._layout.lock()
        lock.acquire(0.0)
        try:
            self._keep_plan()
            began = self._timed("plan", began)
            parts = self._spread(embedder, run)
            began = self._timed("spread", began)
            shards = self._fill(run)
            began = self._timed("fill", began)
            chunks = sum(part.chunks for part in parts)
            if sum(shard.chunks for shard in shards) != chunks:
                raise CollectionDamaged(f"the shards of {root} have not what was read; remove it, and build it again")
            write_manifest(root, self._manifest)
            # First the plan: with it, the next run takes the parts for whole.
            with storage_errors(self._building, "remove"):
                (self._building / _PLAN).unlink(missing_ok=True)
            remove_tree(self._building)
            self._timed("finish", began)
        finally:
            lock.close()
        _log.info("%s: %d chunks in %d shards", root, chunks, len(shards))
        return BuildReport(
            str(root),
            chunks,
            sum(part.embedded for part in parts),
            tuple(shards),
            dict(self._seconds),
            tuple(one for part in parts for one in part.skipped),
            tuple(one for part in parts for one in part.failed),
        )

    def _timed(self, stage: str, began: float) -> float:
        now = time.perf_counter()
        self._seconds[stage] = now - began
        return now

    def claim(self) -> None:
        """Make the directory, or find the unfinished build in it.

        Raises:
            CollectionExists: something else is there.
        """
        root = self._layout.root
        if is_sharded(root):
            # Also where a build was killed at its very end: by now somebody may have written to the shards, and what is
            # left of the build says nothing of them.
            raise CollectionExists(f"{root} has shards already; choose a new path for the shards")
        if not self._is_claimed():
            require_vacant(root, "for the shards")
            with storage_errors(root, "create"):
                root.mkdir(parents=True, exist_ok=True)
                make_directory(self._building, exist_ok=True)
        require_absent_or_directory(self._building)
        require_absent_or_directory(self._layout.shards)
        with storage_errors(root, "create"):
            make_directory(self._layout.shards, exist_ok=True)

    def _is_claimed(self) -> bool:
        """Say whether a build was begun in the directory, and there is nothing else.

        At the end all that it has kept is removed: others have directories of that name, too.
        """
        root = self._layout.root
        with storage_errors(root, "look at"):
            if not root.is_dir():
                return False
            here = {entry.name for entry in root.iterdir() if entry.name != "lost+found"}
            if not here or not here <= {"LOCK", f"{MANIFEST}.new", self._layout.shards.name, self._building.name}:
                return False
            if self._layout.shards.name in here and self._building.name not in here:
                return False
            kept = [entry.name for entry in self._building.iterdir()] if is_directory(self._building) else []
        return all(name in (_PLAN, f"{_PLAN}.new") or is_part(name) for name in kept) and (
            is_there(self._building / _PLAN) or not any(map(is_part, kept))
        )

    def _keep_plan(self) -> None:
        """Write down what is built; refuse to go on with what was begun for something else."""
        path = self._building / _PLAN
        plan = {
            "settings": self._settings.to_json(),
            "shards": len(self._manifest.shards),
            "recall": self._recall,
            "partitions": [one.to_json() for one in self._source.partitions],
        }
        content = orjson.dumps(plan, default=str)
        wanted = orjson.loads(content)
        if not is_there(path):
            if is_sharded(self._layout.root):
                raise CollectionExists(f"{self._layout.root} has shards already; choose a new path for the shards")
            write_atomically(path, orjson.dumps({**wanted, "identity": self._manifest.identity}))
            return
        try:
            found = orjson.loads(read_regular(path, 4 * len(content) + _MORE))
            identity = found.pop("identity")
            if not is_identity(identity):
                raise ValueError(f"identity is {identity!r:.60}")
        except StorageFailed as error:
            if error.errno == errno.EFBIG:
                raise self._other("partitions") from None
            raise
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise CollectionDamaged(
                f"{path} cannot be read ({error!s:.200}); there are no shards yet: remove {self._layout.root}, and "
                "build again"
            ) from None
        self._manifest = replace(self._manifest, identity=identity)
        if found != wanted:
            name = next((key for key in wanted if found.get(key) != wanted[key]), "plan")
            raise self._other(name)

    def _other(self, name: str) -> CollectionExists:
        root = self._layout.root
        return CollectionExists(
            f"{root} has an unfinished build with other {name}, or its source has changed since; remove {root}, or "
            "choose a new path for the shards"
        )

    def _spread(self, embedder: Embedder | str | None, run: Run) -> list[PartReport]:
        shards, building = self._manifest.shards, str(self._building)
        tasks = [
            SpreadTask(building, number, partition, self._settings, shards, embedder, self._limits)
            for number, partition in enumerate(self._source.partitions, start=1)
        ]
        found: list[PartReport] = []
        done = 0
        for report in results(run, spread, tasks, PartReport, lambda one: one.number):
            found.append(report)
            done += report.chunks
            if self._progress is not None:
                self._progress("spread", done, self._source.chunks)
        return sorted(found, key=lambda report: report.number)

    def _fill(self, run: Run) -> list[ShardReport]:
        tasks = [
            FillTask(
                str(self._building),
                len(self._source.partitions),
                str(self._layout.shard(entry)),
                entry,
                self._settings,
                self._recall,
                self._limits,
            )
            for entry in self._manifest.shards
        ]
        found: list[ShardReport] = []
        for report in results(run, fill, tasks, ShardReport, lambda one: one.name):
            found.append(report)
            if self._progress is not None:
                self._progress("fill", len(found), len(tasks))
        return sorted(found, key=lambda report: report.name)


def _require_ray(run: Run | None, **given: Any) -> None:
    """Refuse what is for Ray where *run* runs the tasks."""
    workers = given["workers"]
    if workers is not None:
        require_count("workers", workers)
    name = next((name for name, value in given.items() if value is not None), None)
    if run is not None and name is not None:
        raise InvalidInput(
            f"{name} is for Ray, and here map runs the tasks; leave one of them out (at the command line --workers and "
            "--gpus, or --processes)"
        )

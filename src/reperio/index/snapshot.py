"""Write an index to disk, describe it with its checksum, and verify the file before FAISS reads a byte of it."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import asdict, astuple, dataclass, field, fields, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import orjson

from reperio.errors import MissingDependency, StorageFailed
from reperio.index.building.resuming import take, take_graph
from reperio.index.engines.choosing import searcher_of
from reperio.index.engines.packing import empty, holds_codes, holds_packed, taken_apart, with_packed
from reperio.index.engines.searcher import Searcher
from reperio.index.library.files import FileUnusable, Written, read_file, share_file, verify_file, write_file
from reperio.index.library.loading import ALLOWED_TYPES, metric_type, type_names
from reperio.index.library.symphony import Graph, Graphs, known_graph, read_graph, remember, write_graph
from reperio.index.recipes.goal import Goal, Recipe, check_goal
from reperio.index.tuning.measuring import Tuned
from reperio.layout import is_directory, is_graph, is_snapshot, snapshot_file
from reperio.printable import logger
from reperio.types import IndexInfo, Metric, OperatingPoint

_log = logger("reperio.index")

# A snapshot is missing or not what was recorded. Internal: an index is disposable, the caller rebuilds.
SnapshotUnusable = FileUnusable


@dataclass(frozen=True, slots=True)
class IndexDescription:
    """Describe a snapshot, for the store to keep; the file is trusted only if it agrees."""

    file: str  # name in the index directory
    sha256: str  # of the file, hexadecimal
    bytes: int  # length of the file
    rows: int  # ntotal; rows [0, rows) of the vector file
    dimension: int
    metric: str
    types: list[str]  # FAISS classes, outermost first
    factory: str
    construction: int  # efConstruction of a graph; 0 for FAISS's own
    reason: str
    requested: bool  # the user named the index
    goal: list[Any]  # what it was chosen for, as [recall, prefer, memory]
    trained_for: int  # rows when it was trained; an extension leaves it
    # Mean squared error of what it stores, relative to the vectors; None where it cannot be had.
    distortion: float | None
    created: str
    points: list[list[float]]  # how it may be searched and what that gives, as the fields of `OperatingPoint`
    gather: float  # µs of exact search per row picked out of the vector file
    queries: str  # what the points were measured with
    revision: int = 0  # how often the points were measured again for the same file
    # Files of the graphs that belong to it, in order of rows, each as [name, sha256, bytes, rows].
    graphs: list[list[Any]] = field(default_factory=list)

    @classmethod
    def of_exact(cls, recipe: Recipe, metric: Metric) -> IndexDescription:
        """Describe that exact search was asked for, so that no index is built later without being asked."""
        goal = [1.0, "latency", None]
        return cls("", "", 0, 0, 0, metric.value, [], "", 0, recipe.reason, True, goal, 0, None, _now(), [], 0.0, "")

    @property
    def exact(self) -> bool:
        """True when there is no file: searches are exact on request."""
        return not self.file

    @property
    def name(self) -> str:
        """Name in the store: that of the file and its revision, "exact" where there is no file."""
        return f"{self.file}#{self.revision}" if self.revision else self.file or "exact"

    def to_json(self) -> str:
        """Return what `from_json` reads."""
        return orjson.dumps(asdict(self)).decode()

    @classmethod
    def from_json(cls, text: str) -> IndexDescription:
        """Read a description.

        Raises:
            SnapshotUnusable: it was written by another version of Reperio, or is not what was written, or names a
                file that is no index's.
        """
        try:
            found = cls(**orjson.loads(text))
            _require_kinds(found)
        except (TypeError, ValueError) as error:
            raise SnapshotUnusable(f"its description cannot be read ({error!s:.200})") from None
        if found.file and snapshot_file(found.file) != found.file:
            raise SnapshotUnusable(f"its description names the file {found.file!r:.80}, which no index has")
        return found

    @property
    def files(self) -> tuple[str, ...]:
        """Names of all its files in the index directory."""
        return (self.file, *(name for name, *_ in self.graphs)) if self.file else ()

    def to_recipe(self) -> Recipe:
        """Return the recipe by which this index was built."""
        return Recipe(
            self.factory, self.reason, training_rows=1 << 18, construction=self.construction, requested=self.requested
        )

    def to_goal(self) -> Goal:
        """Return what the index was chosen for."""
        return Goal(*self.goal)

    def to_searcher(self, index: Any) -> Searcher:
        """Return the loaded index with what was measured of it."""
        return searcher_of(index, self._points(), self.gather)

    def to_info(self) -> IndexInfo:
        """Return what users are shown."""
        size = self.bytes + sum(graph[2] for graph in self.graphs)
        return IndexInfo(
            self.factory, self.rows, size, self.reason, self.created, self.goal[0], self.queries, self._points()
        )

    def retuned(self, tuned: Tuned) -> IndexDescription:
        """Return the description of the same file with other points."""
        return replace(
            self,
            points=[list(astuple(point)) for point in tuned.points],
            gather=tuned.gather,
            queries=tuned.origin,
            revision=self.revision + 1,
        )

    def _points(self) -> tuple[OperatingPoint, ...]:
        return tuple(
            OperatingPoint(int(k), int(effort), int(candidates), *rest) for k, effort, candidates, *rest in self.points
        )


_MOST = 1 << 53  # of any count: beyond it there is no such file, and a float has gaps
_TEXTS = ("file", "sha256", "metric", "factory", "reason", "created", "queries")
_COUNTS = ("bytes", "rows", "dimension", "construction", "trained_for", "revision")


def _require_kinds(description: IndexDescription) -> None:
    """Raise `TypeError` or `ValueError` for a field that `write` would not have given such a value."""
    for name in (*_TEXTS, *_COUNTS):
        value = getattr(description, name)
        if not (isinstance(value, str) if name in _TEXTS else _is_count(value)):
            raise ValueError(f"{name} is {value!r:.60}")
    if not isinstance(description.types, list) or not all(isinstance(name, str) for name in description.types):
        raise ValueError(f"types is {description.types!r:.60}")
    if type(description.requested) is not bool or not _is_number(description.gather):
        raise ValueError(f"requested is {description.requested!r:.60}, gather {description.gather!r:.60}")
    if description.distortion is not None and not _is_number(description.distortion):
        raise ValueError(f"distortion is {description.distortion!r:.60}")
    if not isinstance(description.goal, list) or len(description.goal) != len(fields(Goal)):
        raise ValueError(f"goal is {description.goal!r:.60}")
    check_goal(description.to_goal())
    for point in description.points:
        k, effort, candidates, *rest = point
        if len(rest) != 6 or not all(map(_is_count, (k, effort, candidates))) or not all(map(_is_number, rest)):
            raise ValueError(f"a point is {point!r:.60}")
    _require_graphs(description)


def _require_graphs(description: IndexDescription) -> None:
    names = set()
    for graph in description.graphs:
        name, sha256, size, rows = graph
        sound = isinstance(name, str) and is_graph(name) and isinstance(sha256, str)
        if not sound or not _is_count(size) or not _is_count(rows) or rows == 0:
            raise ValueError(f"a graph is {graph!r:.120}")
        names.add(name)
    if description.graphs and (
        len(names) < len(description.graphs) or sum(graph[3] for graph in description.graphs) != description.rows
    ):
        raise ValueError("its graphs do not cover its rows, or one is named twice")


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= _MOST


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value >= 0  # type: ignore[arg-type,operator]  # a number


def files_of(name: object, description: str) -> tuple[str, ...]:
    """Return the files of the index that the store names and describes so; nothing where it has none.

    Of an index whose description cannot be read, its own file alone.
    """
    file = snapshot_file(name)
    if file is None:
        return ()
    try:
        return (file, *(each for each in IndexDescription.from_json(description).files if each != file))
    except SnapshotUnusable:
        return (file,)


def remove_others(directory: Path, kept: Collection[str] = ()) -> None:
    """Remove the index files of a directory but some; a stranger's files, and directories, stay.

    Args:
        directory: of snapshots.
        kept: names of the files that stay.
    """
    for path in list(directory.iterdir()) if is_directory(directory) else []:
        if path.name not in kept and is_snapshot(path.name) and not is_directory(path):
            path.unlink(missing_ok=True)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


@dataclass(frozen=True, slots=True)
class Provenance:
    """The origin of an index, for its description."""

    recipe: Recipe  # by which it was built
    goal: Goal  # what the recipe was chosen for
    trained_for: int  # rows when it was trained
    distortion: float | None  # of what it stores, when it was trained
    queries: str  # that it was tuned with


def write(
    searcher: Searcher,
    directory: Path,
    number: int,
    *,
    metric: Metric,
    provenance: Provenance,
    scratch: Path | None = None,
) -> IndexDescription:
    """Write an index into *directory*, durably, and return its description. Not in use until the store records it.

    Args:
        searcher: the index, with its points.
        directory: of snapshots.
        number: no other index of the collection has had it.
        metric: of the collection.
        provenance: for the description.
        scratch: where `build` has left the finished index, if it has.

    Raises:
        StorageFailed: the disk is full, say; nothing is left behind.
    """
    path = directory / f"snapshot-{number:06d}.faiss"
    index, graphs = searcher.index, []
    if isinstance(index, Graphs):
        # The graph last: until then a kill leaves it where the next build finds it.
        index, written = _write_codes(index.codes, path, scratch)
        try:
            graphs = _write_graphs(searcher.index, path.with_suffix(".symqg"), scratch)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    else:
        written = (take(scratch, path, searcher.rows) if scratch else None) or write_file(index, path)
    return IndexDescription(
        file=path.name,
        sha256=written.sha256,
        bytes=written.bytes,
        rows=searcher.rows,
        dimension=index.d,
        metric=metric.value,
        types=type_names(index),
        factory=provenance.recipe.factory,
        construction=provenance.recipe.construction,
        reason=provenance.recipe.reason,
        requested=provenance.recipe.requested,
        goal=list(astuple(provenance.goal)),
        trained_for=provenance.trained_for,
        distortion=provenance.distortion,
        created=_now(),
        points=[list(astuple(point)) for point in searcher.points],
        gather=searcher.gather,
        queries=provenance.queries,
        graphs=graphs,
    )


def _write_codes(codes: Any, path: Path, scratch: Path | None) -> tuple[Any, Written]:
    """Write the codes next to a graph to *path*; return the index that is there now."""
    try:
        index = with_packed(codes)
        return index, write_file(index, path)
    except StorageFailed as error:
        taken = take(scratch, path, codes.ntotal) if scratch else None
        if taken is None:
            raise
        _log.warning("%s: its codes are packed when it is opened, which takes longer: %s", path, error)
        return codes, taken


def _write_graphs(index: Graphs, path: Path, scratch: Path | None) -> list[list[Any]]:
    """Write the graph that has no file yet to *path*; return the record of all of them."""
    for graph in index.graphs:
        if graph.file is None:
            written = (take_graph(scratch, path, graph) if scratch else None) or write_graph(graph, path)
            remember(graph, path, written)
    return [[graph.file, *(graph.written or ()), graph.rows] for graph in index.graphs]


def verify_graphs(description: IndexDescription, directory: Path) -> None:
    """Raise `SnapshotUnusable` unless the file of each graph is the one recorded: `read` takes those in memory."""
    for name, sha256, size, _ in description.graphs:
        verify_file(directory / name, Written(sha256, size), faiss=False)


_SOON = 32 << 20  # bytes of graphs that are loaded in 20 ms or so


def read(
    description: IndexDescription,
    directory: Path,
    *,
    dimension: int,
    metric: Metric,
    shared: bool = False,
    soon: bool = False,
) -> Any:
    """Verify and load an index.

    Args:
        description: as recorded.
        directory: of snapshots.
        dimension, metric: of the collection.
        shared: for an index that is searched and never changed: verified once per machine, and mapped. A graph is never
            changed, and one that this process has already serves again in any case.
        soon: leave out graphs that would have to be loaded and are large: the codes next to them serve meanwhile.

    Raises:
        SnapshotUnusable: missing, damaged, or not what the description and the collection say.
    """
    if not description.types or any(name not in ALLOWED_TYPES for name in description.types):
        raise SnapshotUnusable(f"{description.file} is recorded as {description.types}, which is not read here")
    if (description.dimension, description.metric) != (dimension, metric.value):
        raise SnapshotUnusable(f"{description.file} is of another dimension or metric than the collection")
    load = share_file if shared else read_file
    index = load(directory / description.file, Written(description.sha256, description.bytes))
    found = (type_names(index), index.d, index.ntotal, index.metric_type)  # with which its parts agree
    if found != (description.types, description.dimension, description.rows, metric_type(metric)):
        raise SnapshotUnusable(f"{description.file} holds {found}, which is not what was recorded")
    return _with_graphs(*taken_apart(index), description, directory, metric, soon) if description.graphs else index


def _unknown_bytes(description: IndexDescription, directory: Path) -> int:
    """Return the bytes of the graphs that this process has not loaded."""
    first, unknown = 0, 0
    for name, sha256, size, rows in description.graphs:
        unknown += 0 if known_graph(directory / name, Written(sha256, size), first, rows) else size
        first += rows
    return unknown


def _with_graphs(
    codes: Any, packed: Any | None, description: IndexDescription, directory: Path, metric: Metric, soon: bool
) -> Graphs:
    if not holds_codes(codes) or (packed is not None and not holds_packed(packed, codes)):
        raise SnapshotUnusable(f"{description.file} does not hold the codes that lie next to a graph")
    if soon and _unknown_bytes(description, directory) > _SOON:
        return Graphs(codes, [], packed)
    graphs: list[Graph] = []
    first = 0
    try:
        for name, sha256, size, rows in description.graphs:
            path, written = directory / name, Written(sha256, size)
            known = known_graph(path, written, first, rows)
            graphs.append(known or read_graph(path, written, first, rows, description.dimension, metric))
            first += rows
    except (MissingDependency, MemoryError) as error:
        told = error if isinstance(error, MissingDependency) else "the graph takes more memory than there is"
        _log.warning("%s: searches go through the codes next to the graph, which takes longer: %s", directory, told)
        return Graphs(codes, [], packed)
    if packed is not None:
        empty(packed)  # graphs serve without
    return Graphs(codes, graphs)

"""(b) What `search` costs beyond the index itself, and where the time goes: of each library that is installed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import orjson
from measuring import Bench, Figures, Floats, K, interleave, p50, spread

import reperio
from reperio import Chunk, Collection, Hit, Metric
from reperio import index as indexes
from reperio.collection.search.request import DEFAULT_RECALL
from reperio.index import Searcher, Target
from reperio.index.exact.scoring import best as best_of
from reperio.index.exact.scoring import scores_of
from reperio.index.library import symphony
from reperio.index.library.loading import threads
from reperio.index.recipes.ranking import EXACT_ROWS
from reperio.index.searching.planning import Knobs
from reperio.index.searching.search import Plan
from reperio.store.checksums import Verified
from reperio.store.reading.recent import RecentChunks
from reperio.vectors import to_query

TARGET_US = 70
BARE, BEFORE = "bare", "search, chunks found before"
_SELECT = (
    f"WITH wanted(row) AS (VALUES {','.join(['(?)'] * K)}) "
    "SELECT id, text, metadata FROM wanted CROSS JOIN chunks USING (row)"
)


def measure(bench: Bench) -> Figures:
    """Measure the index that is built unasked, and a graph of SymphonyQG where there can be one."""
    factories = [indexes.choose(max(bench.data.rows, EXACT_ROWS + 1), bench.data.dimension).factory]
    if symphony.is_installed() and bench.data.dimension >= symphony.NARROWEST:
        factories.insert(0, symphony.STANDARD.factory)
    return {
        "recall": DEFAULT_RECALL,
        "metric": Metric.COSINE.value,
        "target_us": TARGET_US,
        "indexes": {factory: _measure_index(bench, factory) for factory in factories},
    }


def _measure_index(bench: Bench, factory: str) -> Figures:
    """Measure p50 per block of queries: the index bare, a minimal sketch, and `search`, in interleaved rounds."""
    path, _ = bench.collection(name=factory)
    queries = bench.data.queries[: bench.scale.queries]
    with reperio.open(path) as kb, reperio.open(path, read_only=True) as reader:
        target = _loaded(kb, queries[0])
        _loaded(reader, queries[0])
        bare = Bare(target)
        sketch = Sketch(bare, target.matrix, kb._handle.generation.paths.database)
        try:
            blocks = _blocks(bench.scale.rounds, kb, reader, bare, sketch, queries)
        finally:
            sketch.close()
        stages = [_stages(kb, queries) for _ in range(bench.scale.rounds)]
    return _figures(blocks, stages, bare)


def _loaded(kb: Collection, query: Floats) -> Target:
    """Return what a collection searches, once a large graph is loaded, which happens after the first search."""
    while True:
        kb.search(vector=query, k=K)
        view = kb._handle.generation.latest
        assert view is not None  # the search has just made it
        if view.target.searcher is None or not view.target.searcher.waits:
            return view.target
        time.sleep(0.05)


def _planned(target: Target) -> Plan:
    """Return how the default search asks the index, or, where it asks codes or searches exactly, how it might."""
    planned = target.plan(DEFAULT_RECALL, K)
    planned = planned.instead or planned
    assert target.searcher is not None
    return planned if planned.candidates else target.planned(Knobs(max(1, target.searcher.most_effort // 4), 3 * K))


def _forget(kb: Collection) -> None:
    """Drop the chunks kept in memory: what follows meets them for the first time."""
    pool = kb._handle.generation.store._pool
    pool.recent, pool.verified = RecentChunks(), Verified(pool.database.parent)


class Bare:
    """The collection's own index, searched without Reperio: the same parameters, one thread."""

    def __init__(self, target: Target) -> None:
        assert isinstance(target.searcher, Searcher)
        planned = _planned(target)
        self.count, self.params = planned.candidates, planned.params
        self.searcher = target.searcher
        # Without the codes next to a graph of FAISS, which searches that ask the graph do not touch.
        self.index = getattr(target.searcher, "_walked", target.searcher.index)

    def block(self, queries: Floats) -> float:
        """Return p50 through the library's Python interface, as its user would search."""
        with threads(1):
            return p50(self._search, queries)

    def direct(self, query: Floats) -> Any:
        """Search as Reperio calls the library: FAISS through its C interface, with buffers that are kept."""
        return self.searcher.search_one(query, self.count, self.params)

    def _search(self, query: Floats) -> Any:
        if isinstance(self.index, symphony.Graphs):
            return self.index.graphs[0].native.search(query[None], self.count, self.params, 1)
        return self.index.search(query[None], self.count, params=self.params)


class Sketch:
    """The floor: the index, exact scores from a mapped file, one SELECT of ten rows, JSON; no checks, no types."""

    def __init__(self, bare: Bare, matrix: Floats, database: Path) -> None:
        self._bare = bare
        self._matrix = matrix
        self._connection = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
        self._connection.pragma("mmap_size", 1 << 31)

    def search(self, query: Floats) -> list[tuple[Any, ...]]:
        """Return (id, text, metadata, score) of the ten best."""
        rows = self._bare.direct(query)
        scores = self._matrix.take(rows, axis=0) @ query
        order = np.argsort(-scores)[:K]
        found: list[Any] = self._connection.execute(_SELECT, rows[order].tolist()).fetchall()
        return [
            (chunk_id, text, orjson.loads(metadata), score)
            for (chunk_id, text, metadata), score in zip(found, scores[order].tolist(), strict=True)
        ]

    def close(self) -> None:
        """Close the database."""
        self._connection.close()


def _blocks(
    rounds: int, kb: Collection, reader: Collection, bare: Bare, sketch: Sketch, queries: Floats
) -> dict[str, list[float]]:
    return interleave(
        rounds,
        {
            BARE: lambda: bare.block(queries),
            "bare, as Reperio calls it": lambda: p50(bare.direct, queries),
            "sketch": lambda: p50(sketch.search, queries),
            "search": lambda: _searched(kb, queries, passes=0),
            "search, read_only=True": lambda: _searched(reader, queries, passes=0),
            BEFORE: lambda: _searched(kb, queries, passes=2),
        },
    )


def _searched(kb: Collection, queries: Floats, *, passes: int) -> float:
    """Return p50 of searches whose chunks were found in so many passes before."""
    _forget(kb)
    for _ in range(passes):
        for query in queries:
            kb.search(vector=query, k=K)
    return p50(lambda query: kb.search(vector=query, k=K), queries)


def _stages(kb: Collection, queries: Floats) -> dict[str, float]:
    """Return the median µs of each step of a search, taken one after the other for each query."""
    generation = kb._handle.generation
    view = generation.latest
    assert view is not None
    target, clock = view.target, time.perf_counter_ns
    searcher = target.searcher
    assert searcher is not None
    planned = _planned(target)
    _forget(kb)
    times = []
    for query in queries:
        marks = [clock()]
        checked = to_query(query, dimension=len(query), metric=target.metric)[0]
        marks.append(clock())
        found = searcher.search_one(checked, planned.candidates, planned.params)
        marks.append(clock())
        scores = scores_of(target.matrix, found, checked, target.metric)
        marks.append(clock())
        rows, best = best_of(found, scores, K, target.metric)
        marks.append(clock())
        records = generation.store.fetch_at(view.seq, rows, target.matrix)
        marks.append(clock())
        _hits(records or [], best)
        marks.append(clock())
        times.append(np.diff(marks))
    names = ("query checked", "index", "exact scores", "ten best", "ten rows from SQLite", "hits made, JSON parsed")
    return dict(zip(names, (np.median(np.array(times), axis=0) / 1000).tolist(), strict=True))


def _hits(records: Sequence[tuple[Any, ...]], scores: list[float]) -> list[Hit]:
    return [
        Hit(Chunk(record[0], record[1], orjson.loads(record[2])), score, rank)
        for rank, (record, score) in enumerate(zip(records, scores, strict=True), 1)
    ]


def _figures(blocks: dict[str, list[float]], stages: list[dict[str, float]], bare: Bare) -> Figures:
    def beyond(name: str, to: str) -> Figures:
        return spread([a - b for a, b in zip(blocks[name], blocks[to], strict=True)])

    steps = {name: spread([stage[name] for stage in stages]) for name in stages[0]}
    rest = np.median(blocks["search"]) - sum(step["median"] for step in steps.values())
    return {
        "candidates": bare.count,
        "p50_us": {name: spread(values) for name, values in blocks.items()},
        "beyond_bare_us": {name: beyond(name, BARE) for name in blocks if name != BARE},
        "steps_us": steps,
        "calls_and_checks_us": round(float(rest), 1),
    }

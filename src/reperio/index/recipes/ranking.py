"""Rank indexes for a collection by rule, each with its reason. Pure: FAISS is not needed.

The rule names a few recipes, best first, and says what each will weigh; what one of them gives on the collection's own
data is measured by `tuning`. The figures behind it are in docs/decisions/0005-advice.md.
"""

from __future__ import annotations

import math

from reperio.errors import InvalidInput
from reperio.index.library.symphony import STANDARD
from reperio.index.recipes import families
from reperio.index.recipes.families import GRAPH_ROWS, SINGLE_LIST_ROWS, Data, Spectrum, nlist_for
from reperio.index.recipes.goal import Goal, Recipe, check_goal, to_size
from reperio.index.recipes.times import REFERENCE, Machine
from reperio.types import Metric

# Rows up to which exact search costs no more than 0.05 ms beyond an index: less than building one is worth.
EXACT_ROWS = 1024
# Rows beyond the index whose exact search costs about what the index costs at 50,000 rows (384 dimensions: 0.2 ms).
TAIL_ROWS = 4096
# A graph larger than this is not the first choice unless a memory limit allows it: it takes a machine of its own.
GRAPH_BYTES = 8 << 30
# The same for a graph of SymphonyQG, which takes about four times as much per vector: what a laptop can bear.
SYMPHONY_BYTES = 4 << 30
MOST_RECALL = 0.999  # above, exact search comes first: a thousand queries prove no more of an index
# efConstruction of a graph, and of one over more than `_LARGE` rows. Measured at 100,000 rows and recall 0.95: 85 µs
# instead of 105, for 20 s of building instead of 10.
_CONSTRUCTION, _LARGE_CONSTRUCTION = 200, 100
_LARGE = 4_000_000
_SCAN_BYTES = {0.99: 8 << 20, 0.995: 16 << 20}  # recall → codes that are scanned as quickly as a graph is walked
_GRAPH_GROWTH = 8
_NO_GOAL = Goal()


def choose(
    rows: int, dimension: int, metric: Metric = Metric.COSINE, goal: Goal = _NO_GOAL, spectrum: Spectrum | None = None
) -> Recipe:
    """Return the first of `advise`: exact search up to `EXACT_ROWS` rows, beyond it what best serves the goal."""
    return advise(rows, dimension, metric, goal, spectrum=spectrum)[0]


def advise(
    rows: int,
    dimension: int,
    metric: Metric,
    goal: Goal,
    *,
    spectrum: Spectrum | None = None,
    symphony: bool = False,
    cagra: bool = False,
    machine: Machine = REFERENCE,
) -> list[Recipe]:
    """Rank the indexes that serve so many vectors, best first.

    Candidates of every one are rescored exactly from the vector file. Exact search needs no memory but time. It is
    always in the list: alone up to `EXACT_ROWS` rows and below 4 dimensions, first above recall `MOST_RECALL`, else
    last.

    Args:
        rows: vectors to be indexed.
        dimension: of each.
        metric: how they are compared. Every family serves all three; under the inner product, where norms differ,
            finer codes come first.
        goal: what to be best at, and within which memory.
        spectrum: measured by `judging.spectrum`; None to assume that of sentence embeddings.
        symphony: graphs of SymphonyQG can be built here.
        cagra: a card builds the other graphs here.
        machine: that the times are predicted for.

    Raises:
        InvalidInput: the goal is impossible: a recall beyond 1, or less memory than the smallest index takes; the
            message says what is possible. Exact search would do without memory, and is not put in its place unasked:
            over many rows it is a hundred times slower, no answer to a user who asked for an index.
    """
    check_goal(goal)
    _check_size(rows, dimension)
    data = Data(rows, dimension, metric, spectrum, machine)
    exact = Recipe("", _exact_reason(data), bytes_per_vector=0.0, seconds=0.0)
    if rows <= EXACT_ROWS or dimension < 4:
        return [exact]
    ranked = list({recipe.factory: recipe for recipe in reversed(_ranked(data, goal, symphony, cagra))}.values())[::-1]
    fitting = [recipe for recipe in ranked if goal.memory is None or families.size(recipe, rows) <= goal.memory]
    if goal.recall > MOST_RECALL:
        return [exact, *fitting]
    if not fitting:
        raise InvalidInput(_too_little(data, ranked, goal.memory or 0))
    return [*fitting, exact]


def _ranked(data: Data, goal: Goal, symphony: bool, cagra: bool) -> list[Recipe]:
    """Return every index, whatever its size, in the order of what the goal prefers."""
    graphs = families.graphs(data, _LARGE_CONSTRUCTION if data.rows > _LARGE else _CONSTRUCTION)
    if cagra:
        graphs = [families.on_card(recipe) for recipe in graphs]
    codes, others = families.codes(data, goal.memory), families.others(data)
    quickest = families.symphony(data) if symphony else None
    if quickest is not None and (goal.prefer != "latency" or data.rows < GRAPH_ROWS):
        graphs = [quickest, *graphs]
    if goal.prefer == "memory":
        # Coarser codes come after finer ones: what they save in memory they cost in vectors read per query.
        smallest_first = sorted((*graphs, *others), key=lambda recipe: recipe.bytes_per_vector or 0.0)
        return [*_scan(data, goal, 2 * data.fine), *codes, *smallest_first]
    if goal.prefer == "throughput" or data.rows < GRAPH_ROWS:
        return [*codes, *graphs, *others]
    limit = GRAPH_BYTES if goal.memory is None else goal.memory
    near = [recipe for recipe in graphs if families.size(recipe, data.rows) <= limit]
    far = [recipe for recipe in graphs if recipe not in near]
    if quickest is not None:
        # A scan of all codes is not as quick as this one, whatever the recall.
        if families.size(quickest, data.rows) <= (SYMPHONY_BYTES if goal.memory is None else goal.memory):
            return [quickest, *near[:1], *codes[:1], *near[1:], *codes[1:], *far, *others]
        far = [quickest, *far]
    # Two graphs, then another kind: the first few recipes must differ, because only they are tried.
    return [*_scan(data, goal, data.fine), *near[:2], *codes[:1], *near[2:], *codes[1:], *far, *others]


def _scan(data: Data, goal: Goal, per_code: int) -> list[Recipe]:
    """Return the codes in a single list, where scanning all is no slower than the alternative at the recall wanted."""
    # Without a preference for memory the alternative is a graph; with one, codes of which a part is scanned: at recall
    # 0.99 that is most of them.
    most = max((most for recall, most in _SCAN_BYTES.items() if goal.recall >= recall), default=0)
    if data.dimension < families.NARROW or data.rows * math.ceil(data.dimension / per_code) / 2 > most:
        return []
    alternative = "a part of them" if goal.prefer == "memory" else "a graph"
    return [families.product(data, per_code, 1, f"4-bit codes: at this recall no slower than {alternative}")]


def requested(factory: str) -> Recipe:
    """Wrap a factory string, or the family name "symphonyqg", "hnsw", "cagra" or "exact", that the user named."""
    family = factory.strip().lower()
    if family == "symphonyqg":
        return Recipe(
            STANDARD.factory,
            "a SymphonyQG graph, as requested",
            training_rows=65_536,
            construction=families.SYMPHONY_CONSTRUCTION,
            requested=True,
        )
    if family in ("exact", "flat"):
        return Recipe("", "exact search, as requested", requested=True)
    if family == "hnsw":
        return Recipe(
            "HNSW32,SQ8",
            "HNSW over 8-bit codes, as requested",
            training_rows=65_536,
            construction=_CONSTRUCTION,
            requested=True,
        )
    if family == "cagra":
        return Recipe("CAGRA64,SQ8", "a CAGRA graph over 8-bit codes, as requested", 65_536, requested=True)
    construction = families.SYMPHONY_CONSTRUCTION if family.startswith("symphonyqg") else 0
    return Recipe(factory.strip(), f"{factory.strip()}, as requested", 1 << 18, construction, requested=True)


def extension_is_due(rows: int, covered: int) -> bool:
    """Say whether searching the rows beyond the index exactly costs more than the index does, or would."""
    return rows - covered > (TAIL_ROWS if covered > 0 else EXACT_ROWS)


def training_is_due(rows: int, trained_for: int, factory: str = "") -> bool:
    """Say whether the collection outgrew the index.

    Args:
        rows: of the collection now.
        trained_for: rows when the index was trained.
        factory: of the index. A graph takes new rows as well as a new one would; only its 8-bit ranges and principal
            components age: due at 8 times the rows. Codes are due when they would get twice as many lists, or a first
            partition.
    """
    if is_graph(factory):
        return rows >= _GRAPH_GROWTH * max(1, trained_for)
    if trained_for < SINGLE_LIST_ROWS:
        return rows >= SINGLE_LIST_ROWS
    return nlist_for(rows) > nlist_for(trained_for)


def is_graph(factory: str) -> bool:
    """Say whether a factory string makes an index that walks from row to row (an IVF with HNSW lists does not)."""
    return "IVF" not in factory and any(name in factory for name in ("HNSW", "NSG", "SymphonyQG", "CAGRA"))


def _exact_reason(data: Data) -> str:
    if data.rows <= EXACT_ROWS:
        return f"up to {EXACT_ROWS:,} rows exact search is as fast as an index"
    if data.dimension < 4:
        return "vectors of fewer than 4 dimensions are no larger than their codes"
    return f"every vector compared: about {_milliseconds(data)} per query, recall 1, nothing to build"


def _milliseconds(data: Data) -> str:
    time = data.exact_milliseconds
    return f"{time:,.0f} ms" if time >= 1 else f"{1e3 * time:.0f} µs"


def _too_little(data: Data, ranked: list[Recipe], memory: int) -> str:
    smallest = min(ranked, key=lambda recipe: families.size(recipe, data.rows))
    least = families.size(smallest, data.rows)
    units = (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))
    unit, step = next((unit, step) for unit, step in units if least >= 10 * step or step == 1 << 10)
    amount = math.ceil(least / step)  # rounded up, so that what is proposed is enough
    return (
        f"no index of {data.rows:,} vectors of {data.dimension} dimensions fits in {to_size(memory)}: the smallest, "
        f"{smallest.factory}, needs at least {amount} {unit}; pass memory='{amount}{unit}', or index='exact' to search "
        f"without an index, at about {_milliseconds(data)} per query"
    )


def _check_size(rows: int, dimension: int) -> None:
    if rows < 0:
        raise InvalidInput(f"rows is {rows}; pass 0 or more")
    if dimension < 1:
        raise InvalidInput(f"dimension is {dimension}; vectors have at least 1")

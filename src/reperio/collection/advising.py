"""Recommend an index for a number of vectors, before there are any."""

from __future__ import annotations

from typing import Any

from typing_extensions import Never

from reperio import index
from reperio.arguments import refuse_unknown, require_count, require_recall, to_metric
from reperio.errors import InvalidInput
from reperio.types import Metric


def advise(
    rows: int,
    dimension: int,
    metric: Metric | str = Metric.COSINE,
    *,
    memory: int | str | None = None,
    recall: float = 0.95,
    prefer: str = "latency",
    **unknown: Never,
) -> list[index.Recipe]:
    """Rank the indexes for a collection by rule, best first: what `Collection.optimize` tries, in this order.

    Without vectors to measure, the rules assume that they are like sentence embeddings, and say so.

    Args:
        rows: chunks.
        dimension: of their vectors.
        metric: "cosine", "inner_product" or "l2".
        memory: most that the index may take: bytes, or a string like "8GiB"; None for no limit.
        recall: knn recall@10 to be reached.
        prefer: "latency" of single queries, "throughput" of many at once, or least "memory".

    Returns:
        Recipes, each with its name or FAISS factory string, predicted bytes per vector, time to build and measure on
        this machine (within a factor of two or so), and reason.

    Raises:
        InvalidInput: an impossible goal; the message names the nearest possible one.
    """
    refuse_unknown(advise, unknown)
    require_count("rows", rows)
    require_count("dimension", dimension)
    require_recall(recall)
    goal: Any = to_goal(recall, prefer, memory)
    can, machine = index.symphony_is_installed(), index.this_machine()
    return index.advise(rows, dimension, to_metric(metric), goal, symphony=can, machine=machine)


def to_factory(factory: Any, recall: float) -> str | None:
    """Return the index that the user names, or None for the best; a recall beyond proof asks for exact search."""
    if factory is None:
        return "exact" if recall > index.MOST_RECALL else None
    if not isinstance(factory, str) or not factory.strip():
        raise InvalidInput(
            f'index is {factory!r}; pass "symphonyqg", "hnsw", "cagra", "exact", or a FAISS factory string'
        )
    return factory


def to_goal(recall: float, prefer: Any, memory: Any) -> index.Goal:
    """Return what an index is to be chosen for; what is impossible, `index.advise` refuses."""
    goal = index.Goal(recall, prefer, None if memory is None else index.parse_memory(memory))
    index.check_goal(goal)
    return goal

"""What telemetry tells of a search."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from reperio.collection.handle.telemetry import Telemetry
from reperio.collection.search.request import FUSED_DEPTH, Wanted
from reperio.index import Target


class SearchTrace:
    """What became known of one search on its way.

    Attributes:
        target: what was searched at last; None until then.

    """

    __slots__ = ("target",)

    def __init__(self) -> None:
        self.target: Target | None = None


@contextmanager
def traced(telemetry: Telemetry, name: str, wanted: Wanted, questions: int) -> Iterator[SearchTrace]:
    """Make the block the span of a search, and yield what it fills in."""
    trace = SearchTrace()
    about: dict[str, Any] = {
        "reperio.k": wanted.k,
        "reperio.questions": questions,
        "reperio.filtered": wanted.tree is not None,
    }
    with telemetry.timed(name, about, **{"reperio.mode": wanted.mode}) as labels:
        yield trace
        if trace.target is not None:
            _tell(telemetry, trace.target, wanted, about, labels)


def _tell(telemetry: Telemetry, target: Target, wanted: Wanted, about: dict[str, Any], labels: dict[str, Any]) -> None:
    tail = len(target.matrix) - (target.searcher.rows if target.searcher is not None else 0)
    about |= {"reperio.rows": target.count, "reperio.tail": tail}
    telemetry.tail(tail)
    if wanted.mode == "lexical":
        labels["reperio.plan"] = "lexical"
        return
    depth = wanted.depth if wanted.mode == "dense" else max(wanted.depth, FUSED_DEPTH)
    labels["reperio.plan"], candidates = target.told(wanted.recall, depth)
    about["reperio.candidates"] = candidates
    telemetry.searched(labels["reperio.plan"], candidates)

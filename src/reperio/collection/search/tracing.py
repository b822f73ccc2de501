"""Trace a search for telemetry."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from reperio.collection.handle.telemetry import Telemetry
from reperio.collection.search.request import FUSED_DEPTH, SearchRequest
from reperio.index import Target


class SearchTrace:
    """The target of one search, for telemetry.

    Attributes:
        target: target that was searched last; None until then.
    """

    __slots__ = ("target",)

    def __init__(self) -> None:
        self.target: Target | None = None


@contextmanager
def traced(telemetry: Telemetry, name: str, request: SearchRequest, questions: int) -> Iterator[SearchTrace]:
    """Make the block the span of a search, and yield what it fills in."""
    trace = SearchTrace()
    about: dict[str, Any] = {
        "reperio.k": request.k,
        "reperio.questions": questions,
        "reperio.filtered": request.tree is not None,
    }
    with telemetry.timed(name, about, **{"reperio.mode": request.mode}) as labels:
        yield trace
        if trace.target is not None:
            _tell(telemetry, trace.target, request, about, labels)


def _tell(
    telemetry: Telemetry, target: Target, request: SearchRequest, about: dict[str, Any], labels: dict[str, Any]
) -> None:
    tail = len(target.matrix) - (target.searcher.rows if target.searcher is not None else 0)
    about |= {"reperio.rows": target.count, "reperio.tail": tail}
    telemetry.tail(tail)
    if request.mode == "lexical":
        labels["reperio.plan"] = "lexical"
        return
    depth = request.depth if request.mode == "dense" else max(request.depth, FUSED_DEPTH)
    labels["reperio.plan"], candidates = target.told(request.recall, depth)
    about["reperio.candidates"] = candidates
    telemetry.searched(labels["reperio.plan"], candidates)

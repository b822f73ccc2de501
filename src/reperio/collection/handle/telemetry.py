"""What a handle does, as OpenTelemetry sees it: a span per call, and metrics. Imported only where it is asked for.

Whoever embeds Reperio configures OpenTelemetry, through its SDK, and passes ``telemetry=True`` to `reperio.open`.
No text, id, metadata or vector is ever in a span. What there is to be seen: docs/telemetry.md.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from reperio.collection.search.request import FUSED_DEPTH, Wanted
from reperio.errors import MissingDependency
from reperio.index import Target

_SECONDS = (*(step * 10.0**power for power in range(-5, 1) for step in (1, 2, 5)), 10.0, 100.0, 1000.0)
_ROWS = (0, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 100_000, 1_000_000)


class Seen:
    """What became known of one search on its way.

    Attributes:
        target: what was searched at last; None until then.

    """

    __slots__ = ("target",)

    def __init__(self) -> None:
        self.target: Target | None = None


class Telemetry:
    """The instruments of one handle.

    Args:
        collection: its name, for spans and metrics: that of its directory.

    Raises:
        MissingDependency: opentelemetry-api is not installed.

    """

    def __init__(self, collection: str) -> None:
        try:
            from opentelemetry import metrics, trace
        except ImportError as error:
            raise MissingDependency(
                "telemetry=True needs OpenTelemetry, which is not installed; run: pip install 'reperio[telemetry]' "
                f"[{error}]"
            ) from error
        self._trace, self._tracer = trace, trace.get_tracer("reperio")
        meter = metrics.get_meter("reperio")
        self._name = {"reperio.collection": collection}
        self._duration = meter.create_histogram(
            "reperio.operation.duration", "s", "Time that a call took", explicit_bucket_boundaries_advisory=_SECONDS
        )
        self._candidates = meter.create_histogram(
            "reperio.search.candidates", "{row}", "Rows asked for", explicit_bucket_boundaries_advisory=_ROWS
        )
        self._chunks = meter.create_counter("reperio.chunks", "{chunk}", "Chunks read by searches")
        self._tail = meter.create_gauge("reperio.tail", "{row}", "Rows newer than the index, at the last search")
        self._memory = {**self._name, "reperio.from": "memory"}
        self._database = {**self._name, "reperio.from": "database"}

    @contextmanager
    def operation(self, name: str) -> Iterator[None]:
        """Make the block a span with a duration."""
        with self._timed(name, {}):
            yield

    @contextmanager
    def searching(self, name: str, wanted: Wanted, questions: int) -> Iterator[Seen]:
        """Make the block the span of a search, which tells what it finds out by what is yielded."""
        seen = Seen()
        about: dict[str, Any] = {
            "reperio.k": wanted.k,
            "reperio.questions": questions,
            "reperio.filtered": wanted.tree is not None,
        }
        with self._timed(name, about, **{"reperio.mode": wanted.mode}) as labels:
            yield seen
            if seen.target is not None:
                self._tell(seen.target, wanted, about, labels)

    def read(self, memory: int, database: int) -> None:
        """Count chunks that a search has read."""
        if memory:
            self._chunks.add(memory, self._memory)
        if database:
            self._chunks.add(database, self._database)

    def _tell(self, target: Target, wanted: Wanted, about: dict[str, Any], labels: dict[str, Any]) -> None:
        tail = len(target.matrix) - (target.searcher.rows if target.searcher is not None else 0)
        about |= {"reperio.rows": target.count, "reperio.tail": tail}
        self._tail.set(tail, self._name)
        if wanted.mode == "lexical":
            labels["reperio.plan"] = "lexical"
            return
        depth = wanted.depth if wanted.mode == "dense" else max(wanted.depth, FUSED_DEPTH)
        labels["reperio.plan"], candidates = target.told(wanted.recall, depth)
        about["reperio.candidates"] = candidates
        self._candidates.record(candidates, {**self._name, "reperio.plan": labels["reperio.plan"]})

    @contextmanager
    def _timed(self, name: str, about: dict[str, Any], **more: Any) -> Iterator[dict[str, Any]]:
        """Make the block a span and a duration; *about* is for the span alone, what is yielded for both."""
        labels: dict[str, Any] = {**self._name, "reperio.operation": name, **more}
        started = time.perf_counter()
        # Not by OpenTelemetry's own doing: an error's message may hold an id, or what was asked.
        with self._tracer.start_as_current_span(
            f"reperio.{name}", record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield labels
            except BaseException as error:
                labels["error.type"] = type(error).__name__
                span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, type(error).__name__))
                raise
            finally:
                self._duration.record(time.perf_counter() - started, labels)
                span.set_attributes({**labels, **about})

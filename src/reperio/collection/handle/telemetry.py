"""Report to OpenTelemetry what a handle does: a span per call, and metrics. OpenTelemetry is imported on request only.

A program that embeds Reperio configures the SDK of OpenTelemetry, and passes ``telemetry=True`` to `reperio.open`.
No text, id, metadata or vector is ever in a span. docs/telemetry.md lists what is reported.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from reperio.optional import OptionalImport

_SECONDS = (*(step * 10.0**power for power in range(-5, 1) for step in (1, 2, 5)), 10.0, 100.0, 1000.0)
_ROWS = (0, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 100_000, 1_000_000)


class Telemetry:
    """The instruments of one handle.

    Args:
        collection: its name, for spans and metrics: that of its directory.

    Raises:
        MissingDependency: opentelemetry-api is not installed.
    """

    def __init__(self, collection: str) -> None:
        with OptionalImport("telemetry=True", "OpenTelemetry", extra="telemetry"):
            from opentelemetry import metrics, trace
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
        with self.timed(name, {}):
            yield

    def searched(self, plan: str, candidates: int) -> None:
        """Record how many rows a search asked for, and by which plan."""
        self._candidates.record(candidates, {**self._name, "reperio.plan": plan})

    def tail(self, rows: int) -> None:
        """Record how many rows are newer than the index."""
        self._tail.set(rows, self._name)

    def read(self, memory: int, database: int) -> None:
        """Count chunks that a search has read."""
        if memory:
            self._chunks.add(memory, self._memory)
        if database:
            self._chunks.add(database, self._database)

    @contextmanager
    def timed(self, name: str, about: dict[str, Any], **more: Any) -> Iterator[dict[str, Any]]:
        """Make the block a span with a duration: *about* is for the span alone, what is yielded for both."""
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

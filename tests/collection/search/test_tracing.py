"""What OpenTelemetry is told of a collection, by its real SDK; and that it is told nothing unless it is asked for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import reperio
from reperio import Chunk, Collection, InvalidChunk
from tests.conftest import TrigramEmbedder

D = 16
VECTORS = np.random.default_rng(5).standard_normal((3000, D)).astype(np.float32)


class Seen:
    """What the SDK was told: its providers can be set once in a process, so this is shared."""

    def __init__(self) -> None:
        self.reader, self.exporter = InMemoryMetricReader(), InMemorySpanExporter()
        traces = TracerProvider()
        traces.add_span_processor(SimpleSpanProcessor(self.exporter))
        trace.set_tracer_provider(traces)
        metrics.set_meter_provider(MeterProvider([self.reader]))

    def spans(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == f"reperio.{name}"]

    def points(self, name: str, collection: str) -> list[Any]:
        return self.all_points(collection).get(name, [])

    def all_points(self, collection: str) -> dict[str, list[Any]]:
        """Read the metrics of a collection once, by their names: older SDKs tell a gauge in one reading only."""
        data = self.reader.get_metrics_data()
        found: dict[str, list[Any]] = {}
        for metric in (
            metric
            for resource in (data.resource_metrics if data else [])
            for scope in resource.scope_metrics
            for metric in scope.metrics
        ):
            found[metric.name.removeprefix("reperio.")] = [
                point for point in metric.data.data_points if point.attributes["reperio.collection"] == collection
            ]
        return found


@pytest.fixture(scope="module")
def sdk() -> Iterator[Seen]:
    seen = Seen()
    yield seen
    seen.reader.shutdown()


@pytest.fixture
def seen(sdk: Seen) -> Seen:
    sdk.exporter.clear()
    return sdk


def open_watched(path: Path, **options: Any) -> Collection:
    return reperio.open(path, dimension=D, metric="l2", auto_optimize=False, telemetry=True, **options)


def test_a_search_is_a_span(path: Path, seen: Seen) -> None:
    """It says how the search was done, over how much, and how long it took; a second one finds its chunks in memory."""
    path = path.with_name("spans")
    with open_watched(path) as kb:
        kb.add([Chunk(str(n), f"text {n}", {"n": n}) for n in range(3000)], vectors=VECTORS, batch_size=3000)
        kb.search(vector=VECTORS[7], k=3)
        kb.optimize(index="IVF16,Flat", queries=VECTORS[:50] + 0.01)
        kb.add([Chunk("new", "new")], vectors=VECTORS[:1])
        for _ in range(3):
            kb.search(vector=VECTORS[7], k=3, where={"n": {"$lt": 2500}})
        exact, *_, last = seen.spans("search")
        about = dict(exact.attributes or {})
        assert about.pop("reperio.candidates") == 0
        assert about == {
            "reperio.collection": "spans",
            "reperio.operation": "search",
            "reperio.mode": "dense",
            "reperio.plan": "exact",
            "reperio.k": 3,
            "reperio.questions": 1,
            "reperio.filtered": False,
            "reperio.rows": 3000,
            "reperio.tail": 3000,
        }
        about = dict(last.attributes or {})
        assert (about["reperio.filtered"], about["reperio.rows"], about["reperio.tail"]) == (True, 2500, 1)
        assert [len(seen.spans(name)) for name in ("add", "optimize", "search")] == [2, 1, 4]
        points = seen.all_points("spans")
        read = {point.attributes["reperio.from"]: point.value for point in points["chunks"]}
        assert read == {"database": 6, "memory": 6}  # met first, met again, and twice from memory
        assert [point.value for point in points["tail"]] == [1]
        durations = points["operation.duration"]
        assert sum(point.count for point in durations if point.attributes["reperio.operation"] == "search") == 4


def test_a_lexical_search_asks_no_index(path: Path, seen: Seen) -> None:
    """Its plan says so; a hybrid search is told by its dense part, and many questions are one span."""
    with open_watched(path.with_name("modes")) as kb:
        kb.add([Chunk(str(n), f"text {n}") for n in range(50)], vectors=VECTORS[:50])
        kb.search("text 7", mode="lexical")
        kb.search("text 7", vector=VECTORS[7], mode="hybrid")
        kb.search_many(vectors=VECTORS[:5], k=2)
        lexical, hybrid = (dict(span.attributes or {}) for span in seen.spans("search"))
        assert (lexical["reperio.mode"], lexical["reperio.plan"]) == ("lexical", "lexical")
        assert "reperio.candidates" not in lexical
        assert (hybrid["reperio.mode"], hybrid["reperio.plan"]) == ("hybrid", "exact")
        (many,) = seen.spans("search_many")
        assert (many.attributes or {})["reperio.questions"] == 5


def test_a_failure_is_told_by_its_kind_alone(path: Path, seen: Seen) -> None:
    """Of an error the span has the name; no id, text, metadata or question is in any span."""
    with open_watched(path.with_name("failures"), embedder=None) as kb:
        kb.add([Chunk("secret-id", "secret text", {"k": "secret value"})], vectors=VECTORS[:1])
        kb.search("secret question", mode="lexical", where={"k": "secret value"})
        with pytest.raises(InvalidChunk):
            kb.add([Chunk("secret-id", "\ud800")], vectors=VECTORS[:1])
    failed = seen.spans("add")[-1]
    assert failed.status.description == "InvalidChunk"
    assert (failed.attributes or {})["error.type"] == "InvalidChunk"
    assert "secret" not in "".join(span.to_json() for span in seen.exporter.get_finished_spans())
    points = seen.points("operation.duration", "failures")
    assert [point.count for point in points if "error.type" in point.attributes] == [1]


def test_a_new_generation_is_watched_too(path: Path, seen: Seen) -> None:
    """After compact(), chunks are still counted by where they came from."""
    with open_watched(path.with_name("compacted"), embedder=TrigramEmbedder(D)) as kb:
        kb.add([Chunk(str(n), f"text {n}") for n in range(20)])
        kb.compact()
        for _ in range(3):
            kb.search("text 7", k=4)
        read = {point.attributes["reperio.from"]: point.value for point in seen.points("chunks", "compacted")}
        assert read == {"database": 8, "memory": 4}
        assert len(seen.spans("compact")) == 1


def test_nobody_pays_who_does_not_ask(path: Path) -> None:
    """Without telemetry=True OpenTelemetry is not imported; with it, and none installed, the message has the cure."""
    script = """
import sys
import reperio
with reperio.open(sys.argv[1], dimension=4) as kb:
    kb.add([reperio.Chunk("a")], vectors=[[1.0, 0, 0, 0]])
    kb.search(vector=[1.0, 0, 0, 0])
assert not any(name.startswith("opentelemetry") for name in sys.modules)
sys.modules["opentelemetry"] = None
try:
    reperio.open(sys.argv[1], telemetry=True)
except reperio.MissingDependency as error:
    assert "pip install 'reperio[telemetry]'" in str(error)
else:
    raise AssertionError
reperio.open(sys.argv[1]).close()  # the lock is free
"""
    subprocess.run([sys.executable, "-c", script, str(path)], check=True, timeout=60)

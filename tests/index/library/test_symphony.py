"""Graphs of SymphonyQG as files, as a library that may be missing, and what is refused of both."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import orjson
import pytest

from reperio import IndexBuildFailed, Metric, MissingDependency, StorageFailed, index
from reperio.index import Target, searcher_of
from reperio.index.library import symphony
from tests.index.building.test_graphs import FACTORY, D, N, data, graph_over, recall_of
from tests.index.tuning.test_measuring import settled
from tests.limits import file_size_limit

pytest.importorskip("rabitqlib", reason="rabitqlib has no build for this Python")


def test_the_bytes_predicted_are_those_of_the_files(tmp_path: Path) -> None:
    """Within a hundredth, for graph and codes together."""
    matrix, queries = data(Metric.COSINE, N, 40)
    built = graph_over(matrix)
    provenance = index.Provenance(index.requested(FACTORY), index.Goal(), N, None, "none")
    description = index.write(searcher_of(built), tmp_path, 7, metric=Metric.COSINE, provenance=provenance)
    assert sorted(description.files) == ["snapshot-000007.faiss", "snapshot-000007.symqg"]
    size = sum((tmp_path / name).stat().st_size for name in description.files)
    assert description.to_info().bytes == size
    ranked = index.advise(N, D, Metric.COSINE, index.Goal(), symphony=True)
    predicted = next(each.bytes_per_vector for each in ranked if each.factory == FACTORY)
    assert size == pytest.approx(predicted * N, rel=0.01)
    symphony._loaded.clear()  # as another process
    again = index.read(description, tmp_path, dimension=D, metric=Metric.COSINE)
    both = [searcher_of(each).search(queries, 10, 50).tolist() for each in (built, again)]
    assert both[0] == both[1]


def test_what_cannot_be_built_is_refused_in_our_words() -> None:
    """Too few rows or dimensions, unknown shapes; nothing is left half built."""
    matrix, _ = data(Metric.COSINE, 100, 1)
    for rows, cut, factory, told in (
        (20, D, FACTORY, "more than 32 rows"),
        (100, 63, FACTORY, "at least 64 dimensions"),
        (100, D, "SymphonyQG33,RaBitQ8", "multiple of 32"),
        (100, D, "SymphonyQG32", r"SymphonyQG<links>,RaBitQ<bits>"),
        (100, D, "SymphonyQG32,RaBitQ5", "bits 4 or 8"),
        (100, D, "symphonyqg32", 'pass "symphonyqg"'),
    ):
        with pytest.raises(IndexBuildFailed, match=told):
            index.build(index.requested(factory), matrix[:rows, :cut], Metric.COSINE, workers=1)


def test_without_the_library_the_codes_serve_and_a_build_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A reader without rabitqlib keeps the recall, through what lies next to the graph."""
    matrix, queries = data(Metric.COSINE, N, 200)
    built = graph_over(matrix)
    target = Target(matrix, Metric.COSINE, N, None, searcher_of(built))
    searcher = searcher_of(built, settled(target, queries[:100]), gather=0.1)
    provenance = index.Provenance(index.requested(FACTORY), index.Goal(), N, None, "none")
    description = index.write(searcher, tmp_path, 1, metric=Metric.COSINE, provenance=provenance)

    def missing() -> None:
        raise MissingDependency("a SymphonyQG graph needs rabitqlib; run: pip install 'reperio[graph]'")

    monkeypatch.setattr(symphony, "_load", missing)
    symphony._loaded.clear()  # as another process
    alone = index.read(description, tmp_path, dimension=D, metric=Metric.COSINE)
    assert alone.graphs == ()
    assert "pip install 'reperio[graph]'" in caplog.text
    assert recall_of(description.to_searcher(alone), matrix, queries[100:], Metric.COSINE, 0.95) >= 0.94
    assert Target(matrix, Metric.COSINE, N, None, description.to_searcher(alone)).told(0.95, 10)[0] == "codes"
    with pytest.raises(MissingDependency, match="pip install"):
        graph_over(matrix)


def test_damage_is_found_before_the_library_reads_a_byte(tmp_path: Path) -> None:
    """A bit, a cut, another graph, a link: refused by name, whatever the record says."""
    matrix, _ = data(Metric.COSINE, 2000, 1)
    provenance = index.Provenance(index.requested(FACTORY), index.Goal(), 2000, None, "none")
    description = index.write(searcher_of(graph_over(matrix)), tmp_path, 1, metric=Metric.COSINE, provenance=provenance)
    file = tmp_path / "snapshot-000001.symqg"
    whole = file.read_bytes()
    for damaged in (whole[:-1], whole[:70] + bytes([whole[70] ^ 1]) + whole[71:], b"", whole + b"x"):
        file.write_bytes(damaged)
        with pytest.raises(index.SnapshotUnusable, match=r"snapshot-000001\.symqg"):
            index.read(description, tmp_path, dimension=D, metric=Metric.COSINE)
        with pytest.raises(index.SnapshotUnusable, match=r"snapshot-000001\.symqg"):
            index.verify_graphs(description, tmp_path)
    file.unlink()
    other = tmp_path / "elsewhere"
    other.write_bytes(whole)
    file.symlink_to(other)
    with pytest.raises(index.SnapshotUnusable):
        index.read(description, tmp_path, dimension=D, metric=Metric.COSINE)


@pytest.mark.parametrize(
    "graphs",
    [
        [["../../x.symqg", "0", 1, 2000]],
        [["snapshot-000001.faiss", "0", 1, 2000]],
        [["snapshot-000001.symqg", "0", 1, 1999]],
        [["snapshot-000001.symqg", "0", 1, 1000], ["snapshot-000001.symqg", "0", 1, 1000]],
        [["snapshot-000001.symqg", "0", -1, 2000]],
        [["snapshot-000001.symqg", None, 1, 2000]],
        [["snapshot-000001.symqg"]],
        "snapshot-000001.symqg",
        [1],
    ],
)
def test_a_description_that_names_graphs_that_there_cannot_be_is_refused(graphs: object, tmp_path: Path) -> None:
    """Names are compared with those that we write, lengths with the rows; only the index's own file is told as its."""
    matrix, _ = data(Metric.COSINE, 2000, 1)
    provenance = index.Provenance(index.requested(FACTORY), index.Goal(), 2000, None, "none")
    description = index.write(searcher_of(graph_over(matrix)), tmp_path, 1, metric=Metric.COSINE, provenance=provenance)
    forged = orjson.dumps(orjson.loads(description.to_json()) | {"graphs": graphs}).decode()
    with pytest.raises(index.SnapshotUnusable, match="cannot be read"):
        index.IndexDescription.from_json(forged)
    assert index.files_of("snapshot-000001.faiss", forged) == ("snapshot-000001.faiss",)


def test_a_full_disk_leaves_nothing_and_says_so(tmp_path: Path) -> None:
    """As the library reports it: a typed error, no file, and the graph may be written elsewhere."""
    matrix, _ = data(Metric.COSINE, 2000, 1)
    built = graph_over(matrix)
    with file_size_limit(100_000), pytest.raises(StorageFailed, match=r"snapshot-000001\.symqg"):
        symphony.write_graph(built.graphs[0], tmp_path / "snapshot-000001.symqg")
    assert list(tmp_path.iterdir()) == []
    symphony.write_graph(built.graphs[0], tmp_path / "snapshot-000001.symqg")


@pytest.mark.parametrize("factory", ["HNSW8,Flat", "SQ8", "PQ8x8", "IVF4,PQ16x4fs", "HNSW8,SQ8,Refine(PQ16x4)"])
def test_codes_that_cannot_lie_beside_a_graph_are_refused(factory: str, tmp_path: Path) -> None:
    """Whatever a description says, with whatever checksum: before a search meets them."""
    matrix, _ = data(Metric.COSINE, 2000, 1)
    provenance = index.Provenance(index.requested(FACTORY), index.Goal(), 2000, None, "none")
    description = index.write(searcher_of(graph_over(matrix)), tmp_path, 1, metric=Metric.COSINE, provenance=provenance)
    other = index.build(index.requested(factory), matrix, Metric.COSINE, workers=1)
    forged = index.write(searcher_of(other), tmp_path, 2, metric=Metric.COSINE, provenance=provenance)
    with pytest.raises(index.SnapshotUnusable, match="codes"):
        index.read(replace(forged, graphs=description.graphs), tmp_path, dimension=D, metric=Metric.COSINE)


@pytest.fixture
def not_loaded() -> Iterator[None]:
    """Let rabitqlib be imported again in the test, and again after it."""
    for clear in (symphony._load.cache_clear, symphony.is_installed.cache_clear):
        clear()
    yield
    for clear in (symphony._load.cache_clear, symphony.is_installed.cache_clear):
        clear()


@pytest.mark.usefixtures("not_loaded")
@pytest.mark.parametrize(
    ("version", "fits"), [("0.7.0", False), ("0.7.1", True), ("0.7.9", True), ("0.8.0", False), ("1.0", False)]
)
def test_a_version_that_is_not_known_to_work_counts_as_missing(
    version: str, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`optimize` goes on to the next index; who asks for the graph is told the version and the command."""
    monkeypatch.setattr(metadata, "version", lambda _: version)
    assert index.symphony_is_installed() == fits
    if not fits:
        told = rf"^a SymphonyQG graph needs rabitqlib 0\.7\.1 .* {version} is installed; run: pip install 'reperio\["
        with pytest.raises(MissingDependency, match=told):
            graph_over(np.zeros((100, D), dtype=np.float32))


@pytest.mark.usefixtures("not_loaded")
def test_a_python_without_a_build_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """No command would install it there."""
    monkeypatch.setattr(symphony, "_LEAST_PYTHON", (99, 0))
    assert not index.symphony_is_installed()
    with pytest.raises(MissingDependency, match=r"use Python 3\.11 or later"):
        graph_over(np.zeros((100, D), dtype=np.float32))


@pytest.mark.usefixtures("not_loaded")
def test_a_library_that_cannot_be_imported_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a library of the system is absent."""
    monkeypatch.setitem(sys.modules, "rabitqlib", None)
    assert not index.symphony_is_installed()
    with pytest.raises(MissingDependency, match=r"pip install 'reperio\[graph\]'"):
        graph_over(np.zeros((100, D), dtype=np.float32))


def test_a_failure_of_the_library_is_not_taken_for_too_few_rows() -> None:
    """Only a walk that met fewer rows than were asked for is answered by another search."""

    class Failing:
        num_points = 100

        def search(self, *_: object) -> None:
            raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        symphony.walk(symphony.Graph(Failing(), 0), np.zeros((1, D), dtype=np.float32), 1, 1, 1)

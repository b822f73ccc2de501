"""Codes next to a graph, kept packed in their file: the same answers, whatever the file says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reperio import Metric, StorageFailed, index
from reperio.index import IndexDescription, searcher_of, snapshot
from reperio.index.building.resuming import SavedGraph
from reperio.index.library import symphony
from reperio.index.library.files import write_file
from reperio.index.library.loading import innermost, load_faiss, type_names
from tests.index.building.test_graphs import FACTORY, D, N, data, graph_over
from tests.limits import file_size_limit

pytest.importorskip("rabitqlib", reason="rabitqlib has no build for this Python")

ROWS = 2000


@pytest.mark.parametrize("more", [0, 2])  # dimensions; codes of 66 are padded
def test_until_a_graph_is_loaded_the_codes_answer_as_they_were_packed_when_written(
    more: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from codes that are packed at the first search, which a file without packed codes leads to."""
    monkeypatch.setattr(snapshot, "_SOON", 0)
    matrix, queries = (np.pad(each, ((0, 0), (0, more))) for each in data(Metric.COSINE, N, 40))
    built = graph_over(matrix)
    provenance = index.Provenance(index.requested(FACTORY), index.Goal(), N, None, "none")
    description = index.write(searcher_of(built), tmp_path, 1, metric=Metric.COSINE, provenance=provenance)
    plain = write_file(built.codes, tmp_path / "snapshot-000002.faiss")
    before = replace(description, file="snapshot-000002.faiss", types=type_names(built.codes), **plain._asdict())
    answers = []
    for each, packed in ((description, True), (before, False)):
        symphony._loaded.clear()  # as another process
        opened = index.read(each, tmp_path, dimension=D + more, metric=Metric.COSINE, shared=True, soon=True)
        assert opened.graphs == ()
        assert (opened.packed is not None) == packed
        codes = each.to_searcher(opened).codes
        answers.append([codes.all.search_one(query, 30).tolist() for query in queries])
        whole = index.read(each, tmp_path, dimension=D + more, metric=Metric.COSINE, shared=True)
        found = searcher_of(whole)
        answers.append([found.codes.all.search_one(query, 30).tolist() for query in queries])
        assert len(whole.graphs) == 1
    assert answers[0] == answers[1] == answers[2] == answers[3]


@dataclass
class Made:
    """An index of 2,000 rows, written."""

    matrix: np.ndarray
    index: Any
    description: IndexDescription
    directory: Path

    def forge(self, whole: Any) -> IndexDescription:
        """Put another index in the place of the codes, with whatever a record can say of it."""
        written = write_file(whole, self.directory / "snapshot-000002.faiss")
        return replace(self.description, file="snapshot-000002.faiss", types=type_names(whole), **written._asdict())

    def read(self, description: IndexDescription) -> Any:
        return index.read(description, self.directory, dimension=D, metric=Metric.COSINE)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    directory = tmp_path_factory.mktemp("packed")
    matrix, _ = data(Metric.COSINE, ROWS, 1)
    built = graph_over(matrix)
    provenance = index.Provenance(index.requested(FACTORY), index.Goal(), ROWS, None, "none")
    description = index.write(searcher_of(built), directory, 1, metric=Metric.COSINE, provenance=provenance)
    return Made(matrix, built, description, directory)


def _packed(made: Made, **fields: int) -> Any:
    copies = load_faiss().IndexPQFastScan(made.index.codes, 32)
    for name, value in fields.items():
        setattr(copies, name, value)
    return copies


def _codes(factory: str, matrix: np.ndarray, metric: Metric = Metric.COSINE) -> Any:
    return index.build(index.requested(factory), matrix, metric, workers=1)


def _refined(copies: Any, codes: Any, **fields: int) -> Any:
    whole = load_faiss().IndexRefine(copies, codes)
    for name, value in fields.items():
        setattr(whole, name, value)
    return whole


def _cut(made: Made, size: int) -> Any:
    copies = _packed(made)
    copies.codes.resize(size)
    return copies


def _both(factory: str, matrix: np.ndarray, metric: Metric = Metric.COSINE, **fields: int) -> Any:
    codes = _codes(factory, matrix, metric)
    return _refined(load_faiss().IndexPQFastScan(codes, 32), codes, **fields)


def _outer(made: Made) -> Any:
    """Return transforms, of which there is none, that say they hold more rows than what is behind them."""
    faiss = load_faiss()
    codes = _codes("PQ16x4", made.matrix[:1000])
    before = [faiss.IndexPreTransform(each) for each in (faiss.IndexPQFastScan(codes, 32), codes)]
    for each in before:
        each.ntotal = ROWS
    return _refined(*before)


FORGED: dict[str, Callable[[Made], Any]] = {
    "more rows to scan": lambda made: _refined(_packed(made, ntotal2=1 << 20), made.index.codes),
    "fewer rows to scan": lambda made: _refined(_packed(made, ntotal2=32), made.index.codes),
    "another way to scan": lambda made: _refined(_packed(made, implem=2), made.index.codes),
    "another width": lambda made: _refined(_packed(made, M2=64), made.index.codes),
    "no copies": lambda made: _refined(_cut(made, 0), made.index.codes),
    "a few copies": lambda made: _refined(_cut(made, 64), made.index.codes),
    "wider blocks": lambda made: _refined(load_faiss().IndexPQFastScan(made.index.codes, 64), made.index.codes),
    "codes of another size": lambda made: _refined(_packed(made), _codes("PQ8x4", made.matrix)),
    "copies of another kind": lambda made: _refined(_codes("SQ8", made.matrix), made.index.codes),
    "more rows in both": lambda made: _both("PQ16x4", np.concatenate([made.matrix] * 2), ntotal=ROWS),
    "wider vectors in both": lambda made: _both("PQ32x4", np.tile(made.matrix, 2), d=D),
    "another metric in both": lambda made: _both("PQ16x4", made.matrix, Metric.L2, metric_type=0),
    "transforms that say more": _outer,
    "copies that are refined": lambda made: _refined(_refined(_packed(made), made.index.codes), made.index.codes),
    "codes that are refined": lambda made: _refined(_packed(made), _refined(made.index.codes, made.index.codes)),
}


def test_copies_as_they_are_written_are_read(made: Made) -> None:
    """So that what the other tests forge is refused for what is forged."""
    assert len(made.read(made.forge(_refined(_packed(made), made.index.codes))).graphs) == 1


@pytest.mark.parametrize("forged", FORGED)
def test_a_file_whose_parts_contradict_each_other_is_refused(forged: str, made: Made) -> None:
    """Whatever a description says, with whatever checksum: FAISS would read beyond its memory, or find other rows."""
    description = made.forge(FORGED[forged](made))
    with pytest.raises(index.SnapshotUnusable, match=r"snapshot-000002\.faiss"):
        made.read(description)


def test_a_disk_that_holds_no_packed_copies_costs_time_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Take what the build has saved as it is, the graph too; a warning tells what it costs."""
    matrix, queries = data(Metric.COSINE, N, 20)
    scratch = tmp_path / "building"
    recipe = index.requested(FACTORY)
    built = index.build(recipe, matrix, Metric.COSINE, workers=2, scratch=scratch)
    provenance = index.Provenance(recipe, index.Goal(), N, None, "none")
    least = next(scratch.glob("*.faiss")).stat().st_size
    with file_size_limit(least + 1000):
        description = index.write(
            searcher_of(built), tmp_path, 1, metric=Metric.COSINE, provenance=provenance, scratch=scratch
        )
    assert "takes longer" in caplog.text
    assert description.types == type_names(built.codes)
    symphony._loaded.clear()  # as another process
    again = index.read(description, tmp_path, dimension=D, metric=Metric.COSINE)
    both = [searcher_of(each).search(queries, 10, 50).tolist() for each in (built, again)]
    assert both[0] == both[1]
    assert [each.name for each in scratch.glob("build-*")] == []


def test_packed_copies_are_freed_when_the_graph_is_there(made: Made) -> None:
    """They take as much memory as the codes, which are mapped; masks are packed from the codes."""
    (whole,) = made.read(made.description).codes.referenced_objects
    assert innermost(load_faiss().downcast_index(whole.base_index)).codes.size() == 0


def test_codes_that_cannot_be_written_leave_the_graph_of_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leave it in the state of the build, from which the next one takes it, and no file besides."""
    matrix, _ = data(Metric.COSINE, ROWS, 1)
    recipe, scratch = index.requested(FACTORY), tmp_path / "building"
    built = index.build(recipe, matrix, Metric.COSINE, workers=2, scratch=scratch)
    provenance = index.Provenance(recipe, index.Goal(), ROWS, None, "none")

    def failing(_codes: object) -> None:
        raise MemoryError

    monkeypatch.setattr(snapshot, "with_packed", failing)
    with pytest.raises(MemoryError):
        index.write(searcher_of(built), tmp_path, 1, metric=Metric.COSINE, provenance=provenance, scratch=scratch)
    assert list(tmp_path.iterdir()) == [scratch]
    assert SavedGraph(scratch, recipe, matrix, Metric.COSINE).load() is not None


def test_a_disk_that_holds_no_graph_keeps_no_codes(tmp_path: Path) -> None:
    """Nothing is left where nothing can be recorded."""
    matrix, _ = data(Metric.COSINE, ROWS, 1)
    built = graph_over(matrix)
    provenance = index.Provenance(index.requested(FACTORY), index.Goal(), ROWS, None, "none")
    with file_size_limit(500_000), pytest.raises(StorageFailed, match=r"snapshot-000001\.symqg"):
        index.write(searcher_of(built), tmp_path, 1, metric=Metric.COSINE, provenance=provenance)
    assert list(tmp_path.iterdir()) == []

"""A collection whose index is a graph of SymphonyQG: chosen, grown, copied, damaged, and read by others."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reperio
from reperio import Chunk, Collection, MissingDependency
from reperio.index import snapshot
from reperio.index.library import symphony
from tests.brute_force import scores
from tests.collection.upkeep.test_maintainer import wait_for_index
from tests.index.building.test_graphs import FACTORY, D, data

ROWS, N = 17_000, 18_500
MATRIX, QUERIES = data(reperio.Metric.COSINE, N, 300)


def fill(kb: Collection, first: int, stop: int) -> None:
    kb.add([Chunk(str(i), f"text {i}", {"tenth": i % 10}) for i in range(first, stop)], vectors=MATRIX[first:stop])


def found_share(kb: Collection, rows: int, recall: float = 0.95, gone: int = 0) -> float:
    shares = []
    for query in QUERIES[200:]:
        least = np.partition(scores(MATRIX[gone:rows], query, "cosine"), -10)[-10] - 1e-6
        hits = kb.search(vector=query, recall=recall)
        assert len(hits) == 10
        shares.append(np.mean([hit.score >= least for hit in hits]))
    return float(np.mean(shares))


def searcher_of(kb: Collection) -> Any:
    kb.search(vector=QUERIES[0])
    view = kb._handle.generation.latest
    assert view is not None
    return view.target.searcher


def files(path: Path) -> list[str]:
    return sorted(file.name for file in (path / "gen-000001" / "index").glob("snapshot-*"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a collection of 17,000 chunks with the graph that `optimize` chose."""
    path = tmp_path_factory.mktemp("graph") / "kb"
    with reperio.open(path, dimension=D, auto_optimize=False) as kb:
        fill(kb, 0, ROWS)
        info = kb.optimize(queries=QUERIES[:200])
        assert info is not None
        assert info.factory == FACTORY
    return path


@pytest.fixture
def path(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "kb"))


def test_optimize_takes_the_graph_where_the_library_is_there(path: Path) -> None:
    """It is measured, described with all its bytes, opened again by readers, and clean."""
    assert len(files(path)) == 2
    with reperio.open(path, read_only=True) as kb:
        info = kb.info().index
        assert info is not None
        assert info.factory == FACTORY
        assert info.bytes == sum(file.stat().st_size for file in path.glob("gen-*/index/snapshot-*"))
        assert found_share(kb, ROWS) >= 0.94
        assert kb.check().ok


def test_rows_that_come_later_get_a_graph_in_the_background(path: Path) -> None:
    """Found at once by comparing them, then by a second graph; the first one's file stays, and readers see both."""
    (first,) = path.glob("gen-*/index/*.symqg")
    with reperio.open(path) as kb, reperio.open(path, read_only=True) as reader:
        fill(kb, ROWS, ROWS + 500)
        assert found_share(kb, ROWS + 500) >= 0.94
        fill(kb, ROWS + 500, N)
        kb.add([Chunk(f"again {i}", "again") for i in range(2700)], vectors=MATRIX[:2700])
        wait_for_index(kb, N + 2700)
        deadline = time.monotonic() + 60
        while len(files(path)) != 3:  # the index before is removed a moment after the new one is in use
            assert time.monotonic() < deadline, files(path)
            time.sleep(0.05)
        assert first.name in files(path)
        for each in (kb, reader):
            hits = [each.search(vector=query)[0] for query in MATRIX[ROWS:N:100]]
            assert [hit.chunk.id for hit in hits] == [str(i) for i in range(ROWS, N, 100)]
            assert each.check().ok
        kb.compact()
        assert kb.check().ok


def test_a_mask_and_deletes_are_kept(path: Path) -> None:
    """By metadata, and where a part of the rows is gone."""
    with reperio.open(path, auto_optimize=False) as kb:
        for query in QUERIES[200:230]:
            truth = scores(MATRIX[3:ROWS:10], query, "cosine")
            hits = kb.search(vector=query, where={"tenth": 3})
            least = np.partition(truth, -10)[-10] - 1e-6
            assert np.mean([hit.score >= least for hit in hits]) >= 0.8
        kb.delete(ids=[str(i) for i in range(3000)])
        assert found_share(kb, ROWS, gone=3000) >= 0.94


def test_backups_hold_the_graph(path: Path, tmp_path: Path) -> None:
    """A full copy and an increment: both are searched by the graph, without building anything."""
    with reperio.open(path, read_only=True) as kb:
        kb.backup(tmp_path / "full")
        kb.backup(tmp_path / "increments", incremental=True)
    reperio.restore(tmp_path / "increments", tmp_path / "restored")
    for copy in (tmp_path / "full", tmp_path / "restored"):
        assert len(files(copy)) == 2
        with reperio.open(copy, read_only=True) as kb:
            assert found_share(kb, ROWS) >= 0.94
            assert kb.check().ok
    with reperio.open(path, read_only=True, trust_index=False) as kb:
        kb.backup(tmp_path / "bare")
    assert files(tmp_path / "bare") == []
    reperio.restore(tmp_path / "increments", tmp_path / "distrusted", trust_index=False)
    assert files(tmp_path / "distrusted") == []


def test_a_damaged_graph_costs_time_and_no_answer(path: Path) -> None:
    """It is told, searches are exact, check() names it, and optimize() builds another."""
    graph = next(path.glob("gen-*/index/*.symqg"))
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    with reperio.open(path, auto_optimize=False) as kb:
        with pytest.warns(UserWarning, match="SHA-256"):
            kb.search(vector=QUERIES[0])
        assert found_share(kb, ROWS) == 1.0
        assert [problem.kind for problem in kb.check().problems] == ["index"]
        assert kb.optimize(index="symphonyqg", queries=QUERIES[:50]) is not None
        assert kb.check().ok
    assert len(files(path)) == 2


def test_damage_is_seen_by_check_where_the_graph_is_in_memory(path: Path) -> None:
    """Tell it also to a process that loaded the graph before the file changed."""
    with reperio.open(path, auto_optimize=False) as kb:
        assert found_share(kb, ROWS) >= 0.94
        graph = next(path.glob("gen-*/index/*.symqg"))
        graph.write_bytes(graph.read_bytes()[:-1])
        assert [problem.kind for problem in kb.check().problems] == ["index"]
        assert found_share(kb, ROWS) >= 0.94


def test_two_handles_of_a_process_share_a_graph(path: Path) -> None:
    """It is loaded once: a graph may take gigabytes."""
    with reperio.open(path, read_only=True) as one, reperio.open(path, read_only=True) as other:
        found = [searcher_of(kb) for kb in (one, other)]
        assert found[0] is not found[1]
        assert found[0].index.graphs[0] is found[1].index.graphs[0]


def test_a_large_graph_is_loaded_while_the_codes_answer(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first answers do not wait for it, and have the recall; then the graph takes over."""
    monkeypatch.setattr(snapshot, "_SOON", 0)
    symphony._loaded.clear()  # as another process
    with reperio.open(path, read_only=True) as kb:
        assert searcher_of(kb).waits
        assert found_share(kb, ROWS) >= 0.94
        deadline = time.monotonic() + 60
        while searcher_of(kb).waits:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert found_share(kb, ROWS) >= 0.94


FIRST = """
import sys, numpy as np, reperio
from reperio.index import snapshot
snapshot._SOON = 0
kb = reperio.open(sys.argv[1], read_only=True)
kb.search(vector=np.ones(64, dtype=np.float32))
print("rabitqlib" in sys.modules)
"""


def test_the_first_answer_does_not_wait_for_the_library(path: Path) -> None:
    """Its import takes as long as the answer."""
    done = subprocess.run([sys.executable, "-c", FIRST, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


ENDING = """
import sys, time, numpy as np, reperio
from reperio.index import snapshot
snapshot._SOON = 0
kb = reperio.open(sys.argv[1], read_only=True)
kb.search(vector=np.ones(64, dtype=np.float32))
time.sleep(float(sys.argv[2]))
"""


@pytest.mark.crash
@pytest.mark.parametrize("seconds", [0.0, 0.25, 0.26, 0.27, 0.3])
def test_python_ends_well_while_a_graph_is_loaded(path: Path, seconds: float) -> None:
    """Before, at and after the moment at which the load begins."""
    command = [sys.executable, "-c", ENDING, str(path), str(seconds)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_measuring_again_needs_the_library(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the points of the graph would be lost for those who have it: refused, with the command."""

    def missing() -> None:
        raise MissingDependency("rabitqlib is missing")

    monkeypatch.setattr(symphony, "_load", missing)
    symphony._loaded.clear()
    with reperio.open(path, auto_optimize=False) as kb:
        with pytest.raises(MissingDependency, match=r"pip install 'reperio\[graph\]'"):
            kb.tune(queries=QUERIES[:50])
        assert found_share(kb, ROWS) >= 0.94

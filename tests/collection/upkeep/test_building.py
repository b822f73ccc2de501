"""optimize and tune through the facade: goals, held-out queries, and what is recorded of them."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

import reperio
from reperio import Chunk, Collection, InvalidInput
from tests.brute_force import scores
from tests.conftest import TrigramEmbedder
from tests.index.tuning.test_measuring import D, data

N, ROWS = 12_000, 1500
MATRIX, QUERIES = data(reperio.Metric.COSINE, N, 400)


def fill(kb: Collection, rows: int = N) -> None:
    kb.add((Chunk(str(i), f"text {i}") for i in range(rows)), vectors=MATRIX[:rows])


def found_share(kb: Collection, recall: float, rows: int = N) -> float:
    shares = []
    for query in QUERIES[200:]:
        least = np.partition(scores(MATRIX[:rows], query, "cosine"), -10)[-10] - 1e-6
        shares.append(np.mean([hit.score >= least for hit in kb.search(vector=query, recall=recall)]))
    return float(np.mean(shares))


def test_the_recall_asked_for_is_found_with_given_queries(path: Path) -> None:
    """What is found reaches it on queries that were not tuned with; readers search by the same points."""
    with reperio.open(path, dimension=D, auto_optimize=False) as kb:
        fill(kb)
        info = kb.optimize(recall=0.95, queries=QUERIES[:200])
        assert info is not None
        assert info.queries == "200 queries given"
        assert info.recall == 0.95
        with reperio.open(path, read_only=True) as reader:
            assert reader.info().index == info
            for recall in (0.8, 0.9, 0.95, 0.99):
                assert found_share(reader, recall) >= recall - 0.01


def test_tuning_again_is_seen_by_readers_and_survives(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """tune() replaces the points, not the file: in open readers, after reopening, and in a backup."""
    with reperio.open(path, dimension=D, auto_optimize=False) as kb:
        fill(kb, ROWS)
        with caplog.at_level(logging.WARNING, logger="reperio"):
            before = kb.optimize(index="IVF16,SQ8")
        assert "stored vectors, which flatter" in caplog.text
        assert before is not None
        assert "stored vectors" in before.queries
        with reperio.open(path, read_only=True) as reader:
            reader.search(vector=QUERIES[0])
            after = kb.tune(queries=QUERIES[:150])
            assert after is not None
            assert after.queries == "150 queries given"
            assert (after.factory, after.bytes, after.created) == (before.factory, before.bytes, before.created)
            assert reader.info().index == after
            assert found_share(reader, 0.9, ROWS) >= 0.89
        kb.backup(path.with_name("copy"))
    for place in (path, path.with_name("copy")):
        with reperio.open(place, auto_optimize=False) as kb:
            assert kb.info().index == after
            assert found_share(kb, 0.9, ROWS) >= 0.89
            assert kb.check().ok


def test_kept_queries_serve_the_next_build(path: Path) -> None:
    """Queries given once are used again, also after a compaction."""
    with reperio.open(path, dimension=D, auto_optimize=False) as kb:
        fill(kb, ROWS)
        kb.optimize(queries=QUERIES[:100], index="IVF16,SQ8")
        kb.delete(ids=[str(i) for i in range(100)])
        kb.compact()
        assert kb.info().index.queries == "100 queries given"
        again = kb.optimize(index="IVF32,SQ8")
        assert again is not None
        assert again.queries == "100 queries given"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recall": 1.2}, "at most 1"),
        ({"recall": 0}, "above 0"),
        ({"memory": "1 B"}, "needs at least"),
        ({"memory": 0}, "memory"),
        ({"memory": "8 apples"}, "memory"),
        ({"prefer": "latensy"}, "latency"),
        ({"queries": QUERIES[:10]}, "10 held-out queries say too little"),
        ({"queries": QUERIES[:50, :5]}, "5"),
        ({"queries": "what"}, "a list of texts"),
        ({"querys": QUERIES}, "did you mean 'queries'"),
    ],
)
def test_an_impossible_goal_is_refused_with_what_is_possible(path: Path, options: dict, message: str) -> None:
    """The error names the nearest thing that is possible, and the collection is as it was."""
    with reperio.open(path, dimension=D, auto_optimize=False) as kb:
        fill(kb, 3000)
        before = kb.info()
        with pytest.raises(InvalidInput, match=message):
            kb.optimize(**options)
        assert kb.info() == before


def test_the_memory_limit_is_kept(path: Path) -> None:
    """The index chosen takes no more than it may."""
    with reperio.open(path, dimension=D, auto_optimize=False) as kb:
        fill(kb)
        free = kb.optimize(recall=0.9, queries=QUERIES[:60])
        tight = kb.optimize(recall=0.9, memory="600KiB", queries=QUERIES[:60])
        assert free is not None
        assert tight is not None
        assert tight.bytes <= 600 * 1024 < free.bytes


def test_without_an_index_there_is_nothing_to_tune(path: Path) -> None:
    """tune() of a collection that is searched exactly measures nothing and says so with None."""
    with reperio.open(path, dimension=D, auto_optimize=False) as kb:
        fill(kb, 100)
        assert kb.tune(queries=QUERIES) is None


def test_another_model_forgets_the_queries_of_the_one_before(path: Path) -> None:
    """Vectors of the old model say nothing about the new one's, even where both have the same dimension."""
    with reperio.open(path, embedder=TrigramEmbedder(name="one"), auto_optimize=False) as kb:
        kb.add(Chunk(str(i), f"text number {i} of {i % 7}") for i in range(1500))
        kb.optimize(queries=[f"which text is {i}" for i in range(40)], index="IVF4,SQ8")
        assert kb.info().index.queries == "40 queries given"
        kb.reembed(TrigramEmbedder(name="two", salt="other"))
        assert "stored vectors" in kb.info().index.queries

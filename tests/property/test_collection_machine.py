"""Random histories against a dictionary, brute force, and the table of filters."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import reperio
from reperio import Chunk, Filter, Hit, field
from reperio.filters import EVERYTHING, And, Condition, Not, Operator
from reperio.vectors import to_matrix
from tests.brute_force import assert_top_k, scores
from tests.naive_filters import expected

from . import test_filters

DIMENSION = 8
SCOPE = field("a").exists()
IDS = st.sampled_from(
    [f"id-{i}" for i in range(12)] + ["ключ", "a b", "'; DROP TABLE chunks; --", "%", "\0", "x" * 300]
)
TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
METADATA = st.dictionaries(TEXTS, JSON, max_size=3) | test_filters.METADATA
# Beside random trees, which seldom match, such as part what is stored in two.
HALVES = test_filters.KEYS.map(lambda key: Condition((key,), Operator.EXISTS, True))
TREES: st.SearchStrategy[Filter] = HALVES | HALVES.map(Not) | test_filters.TREES
# Few distinct values: equal vectors and equal scores must occur.
VECTORS = st.lists(st.sampled_from([-1.0, 0.5, 1.0, 3.0]), min_size=DIMENSION, max_size=DIMENSION)
INDEXES = st.sampled_from(
    [None, "exact", "Flat", "SQfp16", "IVF1,PQ4x4fs", "IVF2,Flat", "PQ4x4fs", "OPQ4,IVF1,PQ4x4fs"]
)


class Machine(RuleBasedStateMachine):
    """A collection beside a dictionary: id → (order of adding, text, metadata, vector)."""

    metric = "cosine"

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.model: dict[str, tuple[int, str, dict[str, Any], list[float]]] = {}
        self.added = 0

    @initialize()
    def create(self) -> None:
        self.kb = reperio.open(self.directory / "kb", dimension=DIMENSION, metric=self.metric)
        self.reader = reperio.open(self.directory / "kb", read_only=True)

    @rule(batch=st.lists(st.tuples(IDS, TEXTS, METADATA, VECTORS), max_size=8, unique_by=lambda item: item[0]))
    def add(self, batch: list[tuple[str, str, dict[str, Any], list[float]]]) -> None:
        chunks = [Chunk(key, text, metadata) for key, text, metadata, _ in batch]
        vectors = np.array([vector for *_, vector in batch], dtype=np.float32).reshape(-1, DIMENSION)
        result = self.kb.add(chunks, vectors=vectors, batch_size=3)
        assert result.added + result.updated + result.unchanged == len(batch)
        assert result.added == sum(key not in self.model for key, *_ in batch)
        for key, text, metadata, vector in batch:
            old = self.model.get(key)
            if (
                old is None
                or old[1:3] != (text, metadata)
                or repr(old[2]) != repr(metadata)
                or self.differ(old[3], vector)
            ):
                self.model[key] = (self.added, text, metadata, vector)
            self.added += 1

    def differ(self, old: list[float], new: list[float]) -> bool:
        """Say whether two vectors are stored differently: under cosine (1, 1) and (3, 3) are one."""
        pair = to_matrix(np.array([old, new]), dimension=DIMENSION, metric=reperio.Metric(self.metric), what="vectors")
        return not np.array_equal(pair[0], pair[1])

    @rule(keys=st.lists(IDS, max_size=4))
    def delete(self, keys: list[str]) -> None:
        expected = len(self.model.keys() & set(keys))
        assert self.kb.delete(ids=keys) == expected
        for key in keys:
            self.model.pop(key, None)

    @rule(tree=TREES)
    def delete_where(self, tree: Filter) -> None:
        going = self.matching(tree)
        if tree == EVERYTHING:
            with pytest.raises(reperio.InvalidInput):
                self.kb.delete(where=tree)
            return
        assert self.kb.delete(where=tree) == len(going)
        for key in going:
            del self.model[key]

    @rule(key=IDS, metadata=METADATA)
    def relabel(self, key: str, metadata: dict[str, Any]) -> None:
        if key in self.model:
            _, text, _, vector = self.model[key]
            self.add([(key, text, metadata, vector)])

    @rule(index=INDEXES)
    def optimize(self, index: str | None) -> None:
        try:
            self.kb.optimize(index=index)
        except reperio.IndexBuildFailed:
            assert index is not None  # too few rows to train it; everything else must stay as it was

    @rule()
    def compact(self) -> None:
        self.kb.compact()
        assert self.kb.info().deleted == 0

    @rule()
    def reopen(self) -> None:
        self.kb.close()
        self.kb = reperio.open(self.directory / "kb")

    @rule(number=st.integers(0, 10**6))
    def restore_backup(self, number: int) -> None:
        copy = self.directory / f"backup-{number}"
        if copy.exists():
            return
        self.kb.backup(copy)
        self.kb.close()
        shutil.rmtree(self.directory / "kb")
        copy.rename(self.directory / "kb")
        self.kb = reperio.open(self.directory / "kb")
        self.reader.close()
        self.reader = reperio.open(self.directory / "kb", read_only=True)

    @rule(query=VECTORS, k=st.integers(1, 25), recall=st.sampled_from([1.0, 0.999]), from_reader=st.booleans())
    def search(self, query: list[float], k: int, recall: float, from_reader: bool) -> None:
        handle = self.reader if from_reader else self.kb
        ids = sorted(self.model, key=lambda key: self.model[key][0])
        hits = handle.search(vector=query, k=k, recall=recall)
        many = handle.search_many(vectors=[query, query[::-1]], k=k, recall=recall)[0]
        for answer in (hits, many):
            for rank, hit in enumerate(answer, start=1):
                _, text, metadata, _ = self.model[hit.chunk.id]
                assert (hit.rank, hit.chunk.text, hit.chunk.metadata) == (rank, text, metadata)
            self.assert_best(answer, ids, query, k)

    def assert_best(self, hits: list[Hit], ids: list[str], query: list[float], k: int) -> None:
        truth = scores([self.model[key][3] for key in ids], query, self.metric) if ids else np.empty(0)
        assert_top_k([(ids.index(hit.chunk.id), hit.score) for hit in hits], truth, k)

    def matching(self, tree: Filter) -> list[str]:
        found = [key for key, (_, _, metadata, _) in self.model.items() if expected(tree, metadata)]
        return sorted(found, key=lambda key: self.model[key][0])

    @rule(tree=TREES, query=VECTORS, k=st.integers(1, 25), recall=st.sampled_from([1.0, 0.95]), limit=st.integers(1, 9))
    def filter(self, tree: Filter, query: list[float], k: int, recall: float, limit: int) -> None:
        ids = self.matching(tree)
        inside = self.matching(And((SCOPE, tree)))
        with reperio.open(self.directory / "kb", read_only=True, scope=SCOPE) as scoped:
            for handle, expected_ids in ((self.kb, ids), (self.reader, ids), (scoped, inside)):
                assert handle.count(where=tree) == len(expected_ids)
                assert handle.ids(where=tree) == expected_ids
                page = handle.get(where=tree, limit=limit, offset=1)
                assert [chunk.id for chunk in page] == expected_ids[1 : 1 + limit]
                hits = handle.search(vector=query, k=k, recall=recall, where=tree)
                many = handle.search_many(vectors=[query[::-1], query], k=k, recall=recall, where=tree)[1]
                for answer in (hits, many):
                    for rank, hit in enumerate(answer, start=1):
                        assert (hit.rank, hit.chunk.metadata) == (rank, self.model[hit.chunk.id][2])
                    if recall == 1.0:
                        self.assert_best(answer, expected_ids, query, k)
                    found = {hit.chunk.id for hit in answer}
                    assert found <= set(expected_ids)
                    assert len(found) == len(answer) == min(k, len(expected_ids))

    @invariant()
    @precondition(lambda self: hasattr(self, "kb"))
    def agrees(self) -> None:
        for handle in (self.kb, self.reader):
            assert handle.count() == len(self.model)
            assert {chunk.id: (chunk.text, chunk.metadata) for chunk in handle} == {
                key: (text, metadata) for key, (_, text, metadata, _) in self.model.items()
            }

    def teardown(self) -> None:
        if hasattr(self, "kb"):
            report = self.kb.check()
            assert report.ok, report.problems
            assert report.rows == len(self.model)
            self.kb.close()
            self.reader.close()
        shutil.rmtree(self.directory)


METRICS = ("cosine", "inner_product", "l2")


@pytest.mark.parametrize(
    ("metric", "histories"),
    [(metric, 8) for metric in METRICS] + [pytest.param(each, 30, marks=pytest.mark.campaign) for each in METRICS],
)
def test_any_history_equals_brute_force(metric: str, histories: int) -> None:
    """Adds, upserts, deletes, searches, builds, compactions and restarts in any order give what a dictionary gives."""

    class OfMetric(Machine):
        pass

    OfMetric.metric = metric
    run_state_machine_as_test(
        OfMetric,
        settings=settings(
            max_examples=histories, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )

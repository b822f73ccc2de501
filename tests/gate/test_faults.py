"""The gate, tested by breaking things: real chunks, one fault at a time; eval/gate/detection.py makes the table."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reperio.evaluation import GateLimits
from tests.data import skip_without_data

SCRIPTS = Path(__file__).parents[2] / "eval"
PASSAGES, QUESTIONS, WORDS = 1000, 40, 30
# By fault: the strength that must be red, and the checks of which one has to say so; "open" where it cannot
# even be opened with that embedder.
# What only makes searches slower is left to the bench: a test with a clock fails beside other tests.
RED = {
    "nprobe divided by": (16, {"neighbours"}),
    "lists and codes trained on a wrong sample, share": (1.0, {"neighbours"}),
    "index file of another collection": (1, {"integrity"}),
    "index of another ingestion, share of its rows": (1.0, {"neighbours", "reachable"}),
    "index older than the newest rows, share": (0.1, {"reachable"}),
    "tail dropped, share": (0.1, {"integrity", "reachable", "neighbours"}),
    "another metric (1 l2, 2 inner product)": (1, {"settings"}),
    "vectors scaled in the file, share": (0.001, {"integrity"}),
    "vectors with a bit turned": (1, {"integrity"}),
    "texts with a byte changed": (1, {"integrity"}),
    "not normalised before storing, share": (0.05, {"contract", "regression"}),
    "query prompt missing, of 1 word": (1, {"open"}),
    "needless query prompt outside, words": (12, {"regression"}),
    "another model by the same name, layers of 6": (3, {"open"}),
    "questions by another model outside, layers of 6": (3, {"regression"}),
    "passages by another model (3 layers), share": (0.05, {"contract"}),
    "texts cut before embedding, words": (4, {"contract"}),
    "chunks missing, share": (0.01, {"sources"}),
    "vectors shifted by one row, share": (1.0, {"contract"}),
    "texts swapped, pairs": (20, {"contract"}),
    "duplicates of wrong top hits": (12, {"regression"}),
    "filter ignored, share of questions": (1.0, {"filtered answers"}),
    "filters wrong for a share of the rows": (0.05, {"filters"}),
    "metadata field renamed, share": (1.0, {"filters"}),
    "metadata values of another type, share": (1.0, {"filters"}),
    "words under the next row, share": (1.0, {"reachable"}),
    "words missing, share": (1.0, {"reachable"}),
}
LIMITS = GateLimits(latency_ratio=1000.0, rounds=1)


def _faults() -> list[Any]:
    """Return the faults; those of which no check has to say what none before had to say are campaigns."""
    seen: set[str] = set()
    cases = []
    for name, (_, checks) in RED.items():
        cases.append(pytest.param(name, marks=pytest.mark.campaign if checks <= seen else ()))
        seen |= checks
    return cases


@pytest.fixture(scope="module")
def scripts() -> Iterator[Any]:
    """Let the scripts be imported as they import each other: by their names alone."""
    before, path = set(sys.modules), list(sys.path)
    sys.path[:0] = [str(SCRIPTS / "reranking"), str(SCRIPTS / "gate")]
    yield importlib.import_module("detection")
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if str(SCRIPTS) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]


@pytest.fixture(scope="module")
def ground(scripts: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    healthy = importlib.import_module("healthy")
    healthy.BY_INDEX_ALONE = True
    try:
        texts = healthy.load("scifact")
    except scripts.DataMissing:
        skip_without_data()
    work = tmp_path_factory.mktemp("gate")
    return scripts.Ground(work, healthy.part_of(texts, PASSAGES, QUESTIONS, words=WORDS), [QUESTIONS], LIMITS)


@pytest.mark.model
@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.campaign) for seed in (2, 3, 4))])
def test_a_benign_variation_is_green(ground: Any, scripts: Any, seed: int) -> None:
    """Rebuilt, ingested in another order, compacted, restored from a backup, asked by two threads."""
    found = scripts.vary(ground, seed)
    assert found["red"] == {str(QUESTIONS): []}, found


@pytest.mark.model
@pytest.mark.parametrize("name", _faults())
def test_a_fault_is_red(ground: Any, scripts: Any, name: str) -> None:
    """By a check that names it."""
    strength, checks = RED[name]
    [fault] = [each for each in scripts.FAULTS if each.name == name]
    found = scripts.detect(ground, fault, strength)
    assert checks & set(found["red"][str(QUESTIONS)]), found


def test_every_fault_is_tested(scripts: Any) -> None:
    """A fault of the catalogue that no test puts in would be one that only the bench knows."""
    slow = {"effort and candidates times", "rows fetched and rescored, times"}
    long = {"query prompt missing, of 12 words", "query prompt of 12 words missing outside"}
    assert {fault.name for fault in scripts.FAULTS} - slow - long == set(RED)

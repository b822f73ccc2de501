"""A healthy collection with a golden set, small enough to be built for every test that breaks it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import reperio
from reperio import Chunk, Collection
from reperio.evaluation import GateLimits, GoldenSet, read_golden
from tests.conftest import TrigramEmbedder

pytest.importorskip("ir_measures", reason="ir_measures is not installed")
pytest.importorskip("yaml", reason="PyYAML is not installed")

CHUNKS, QUESTIONS = 300, 24
DIMENSION = 64
LIMITS = GateLimits(sample=32, queries=50, most_queries=100, latency_ratio=50.0)
"""Latency is of other tests: beside other processes, only a fifty-fold one is told from noise."""


def texts() -> list[str]:
    """Return sentences of invented words, each with words of its own."""
    rng = np.random.default_rng(1)
    letters = list("abcdefghijklmnoprstuvw")
    words = ["".join(rng.choice(letters, size=rng.integers(4, 10))) for _ in range(900)]
    return [" ".join(rng.choice(words, size=12)) + f" own{at}" for at in range(CHUNKS)]


def chunks() -> list[Chunk]:
    return [
        Chunk(f"c{at}", text, {"lang": "en" if at % 3 else "de", "year": 2020 + at % 5, "source": f"d{at // 10}"})
        for at, text in enumerate(texts())
    ]


def golden_text(questions: int = QUESTIONS) -> str:
    """Return a golden set: beginnings of every tenth chunk, in two groups; and one that has no answer."""
    lines = ["thresholds: {nDCG@10: 0.8}", "tags:", "  even: {R@10: 0.8}", "document_field: source", "queries:"]
    for number, chunk in enumerate(chunks()[::10][:questions]):
        lines += [f"  - query: {' '.join(chunk.text.split()[:6])}", f"    tags: [{'odd' if number % 2 else 'even'}]"]
        lines += [f"    expect_documents: [d{number}]"] if number % 4 == 3 else [f"    expect: {{{chunk.id}: 1}}"]
        lines += ["    where: {lang: de}"] if number % 3 == 0 else []
    lines += ["  - query: zzzz qqqq xxxx", "    nothing_above: 0.9"]
    return "\n".join(lines) + "\n"


@pytest.fixture
def golden_path(tmp_path: Path) -> Path:
    path = tmp_path / "golden.yaml"
    path.write_text(golden_text(), encoding="utf-8")
    return path


@pytest.fixture
def golden(golden_path: Path) -> GoldenSet:
    return read_golden(golden_path)


def store_vectors(path: Path) -> None:
    """Store a collection of ready vectors, which a command line can open without a model."""
    with reperio.open(path, dimension=DIMENSION) as collection:
        some = chunks()
        collection.add(some, vectors=TrigramEmbedder(DIMENSION).embed_passages([chunk.text for chunk in some]))


def lexical_golden() -> str:
    """Return a golden set that needs no embedder; latency is of other tests."""
    lines = ["defaults: {mode: lexical}", "thresholds: {R@10: 0.9}", "limits: {latency_ratio: 50}", "queries:"]
    lines += [f"- {{query: own{at}, expect: [c{at}]}}" for at in range(0, 300, 30)]
    return "\n".join(lines) + "\n"


@pytest.fixture
def full(path: Path, embedder: TrigramEmbedder) -> Iterator[Collection]:
    """Yield the healthy collection, open for writing."""
    with reperio.open(path, embedder=embedder) as collection:
        collection.add(chunks())
        yield collection


@pytest.fixture
def stored(path: Path) -> Path:
    """Return where a collection of vectors of its own is stored."""
    store_vectors(path)
    return path


@pytest.fixture
def lexical(tmp_path: Path) -> Path:
    """Return a golden set that is asked in words alone."""
    golden = tmp_path / "golden.yaml"
    golden.write_text(lexical_golden())
    return golden

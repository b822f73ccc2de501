"""What many tests need: stores, and documents with vectors that mean something without a model."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from haystack.dataclasses import Document

from haystack_integrations.document_stores.reperio import ReperioDocumentStore

DIMENSION = 64


def embed(text: str) -> list[float]:
    """Count character trigrams into buckets: texts that share words are near each other."""
    vector = np.zeros(DIMENSION)
    padded = f"  {text.lower()} "
    for at in range(len(padded) - 2):
        vector[zlib.crc32(padded[at : at + 3].encode()) % DIMENSION] += 1
    return [float(value) for value in vector]


TEXTS = {
    "apple": ("an apple is a fruit of the orchard", {"topic": "food", "year": 2021, "tags": ["red", "sweet"]}),
    "pear": ("a pear is a fruit of the orchard too", {"topic": "food", "year": 2022, "tags": ["green"]}),
    "train": ("the train to Lyon leaves from platform nine", {"topic": "travel", "year": 2023, "by": {"name": "Ada"}}),
    "tram": ("the tram leaves from the square every nine minutes", {"topic": "travel", "year": 2024}),
    "error": ("error E4711 means that the password has expired", {"topic": "support", "year": 2020}),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kb"


@pytest.fixture
def store(path: Path) -> Iterator[ReperioDocumentStore]:
    with ReperioDocumentStore(path, embedding_dimension=DIMENSION) as opened:
        yield opened


@pytest.fixture
def filled(store: ReperioDocumentStore) -> ReperioDocumentStore:
    """Five documents with embeddings, and one without."""
    store.write_documents(
        [
            *(Document(id=key, content=text, meta=meta, embedding=embed(text)) for key, (text, meta) in TEXTS.items()),
            Document(id="bare", content="a password without an embedding", meta={"topic": "support"}),
        ]
    )
    return store

"""What many tests need: embeddings that mean something without a model, and stores."""

from __future__ import annotations

import os
import signal
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from langchain_core.embeddings import Embeddings

from langchain_reperio import ReperioVectorStore

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Before FAISS and PyTorch are loaded: next to other tests, threads that spin while they wait double the time.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background job
    signal.signal(signal.SIGINT, signal.default_int_handler)


class TrigramEmbeddings(Embeddings):
    """Counts character trigrams into buckets: texts that share words are near each other."""

    def __init__(self, dimension: int = 64, *, salt: str = "", model: str = "trigrams") -> None:
        self.model = model
        self.embedded: list[str] = []
        self._dimension = dimension
        self._salt = salt

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.embedded += texts
        return [self._vector(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self._vector(text)

    def _vector(self, text: str) -> list[float]:
        vector = np.zeros(self._dimension)
        padded = f"  {text.lower()} "
        for at in range(len(padded) - 2):
            vector[zlib.crc32((self._salt + padded[at : at + 3]).encode()) % self._dimension] += 1
        return [float(value) for value in vector]


@pytest.fixture
def embeddings() -> TrigramEmbeddings:
    return TrigramEmbeddings()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kb"


@pytest.fixture
def store(path: Path, embeddings: TrigramEmbeddings) -> Iterator[ReperioVectorStore]:
    with ReperioVectorStore(embeddings, path) as opened:
        yield opened


TEXTS = {
    "apple": "an apple is a fruit of the orchard",
    "pear": "a pear is a fruit of the orchard too",
    "train": "the train to Lyon leaves from platform nine",
    "tram": "the tram leaves from the square every nine minutes",
    "fever": "a fever is treated with rest and water",
    "error": "error E4711 means that the password has expired",
}
METADATA = {
    "apple": {"topic": "food", "year": 2021, "tags": ["red", "sweet"]},
    "pear": {"topic": "food", "year": 2022, "tags": ["green"]},
    "train": {"topic": "travel", "year": 2023, "author": {"name": "Ada"}},
    "tram": {"topic": "travel", "year": 2024},
    "fever": {"topic": "health", "year": 2024, "reviewed": "2024-03-01"},
    "error": {"topic": "support", "year": 2020},
}


@pytest.fixture
def filled(store: ReperioVectorStore) -> ReperioVectorStore:
    """Six documents of four topics."""
    store.add_texts(list(TEXTS.values()), list(METADATA.values()), ids=list(TEXTS))
    return store

"""The load under which LangChain's FAISS store crashes: threads that add, and searches beside them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from langchain_core.embeddings import Embeddings

from langchain_reperio import ReperioVectorStore

DIMENSION, BATCH, WRITERS, TURNS = 256, 500, 4, 6


class Numbered(Embeddings):
    """Random vectors of 256 dimensions, one per text, made of the number that ends it."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        number = int(text.rsplit(" ", 1)[-1]) if text[-1].isdigit() else sum(text.encode())
        vector: list[float] = np.random.default_rng(number).standard_normal(DIMENSION).tolist()
        return vector


def test_four_threads_add_while_others_search(path: Path) -> None:
    """Four threads adding batches of 500 vectors of 256 dimensions, two searching: no crash, no loss, no wrong text."""
    stop = threading.Event()
    with ReperioVectorStore(Numbered(), path) as store:

        def write(writer: int) -> None:
            for turn in range(TURNS):
                numbers = range((writer * TURNS + turn) * BATCH, (writer * TURNS + turn + 1) * BATCH)
                names = [str(number) for number in numbers]
                assert store.add_texts([f"text {number}" for number in numbers], ids=names) == names
                (found,) = store.similarity_search(f"text {numbers[0]}", k=1)
                assert found.id == names[0]  # what was added is found at once

        def search(seed: int) -> int:
            count = 0
            rng = np.random.default_rng(seed)
            while not stop.is_set() or not count:
                for document, score in store.similarity_search_with_score(f"text {rng.integers(12_000)}", k=10):
                    assert document.page_content == f"text {document.id}"
                    assert -1.0001 <= score <= 1.0001
                    count += 1
            return count

        with ThreadPoolExecutor(WRITERS + 2) as pool:
            searches = [pool.submit(search, seed) for seed in range(2)]
            writes = [pool.submit(write, writer) for writer in range(WRITERS)]
            try:
                for each in writes:
                    each.result()
            finally:
                stop.set()
            assert all(each.result() for each in searches)
        everything = WRITERS * TURNS * BATCH
        assert store.collection.count() == everything
        assert store.collection.check().ok
    with ReperioVectorStore(Numbered(), path, read_only=True) as store:
        assert store.collection.count() == everything
        for number in range(0, everything, 601):
            ((found, score),) = store.similarity_search_with_score(f"text {number}", k=1)
            assert found.id == str(number)
            assert abs(score - 1) < 1e-3

"""Write a small Chroma directory with Chroma itself, as test data for the importer.

Run in an environment that has chromadb, once per version: ``python make_chroma.py DESTINATION``. Next to the folder
lies ``expected.json``: what Chroma itself answers. ``--pack`` packs both, as they are kept here.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import shutil
from typing import Any

os.environ["ANONYMIZED_TELEMETRY"] = "False"

import chromadb
import numpy as np

DIMENSION = 8
DOCUMENTS = 60
QUESTIONS = 23
SPACES = ("l2", "cosine", "ip")
EXACT = {"hnsw:search_ef": 200, "hnsw:construction_ef": 200}  # in so few documents, its graph misses none then


def vectors(count: int, seed: int) -> list[list[float]]:
    """Vectors of very different lengths: a metric that is not carried shows at once."""
    made = np.random.default_rng(seed)
    lengths = np.exp(1.5 * made.standard_normal((count, 1)))
    return (made.standard_normal((count, DIMENSION)) * lengths).astype(np.float32).tolist()


def metadata(number: int) -> dict[str, Any]:
    return {"page": number, "score": number / 4, "source": f"file-{number % 3}.txt", "even": number % 2 == 0}


def fill(collection: Any, *, lists: bool) -> None:
    """Add, change and delete; what comes last is in the log alone."""
    made = vectors(DOCUMENTS + 10, 1)
    ids = [f"doc-{number}" for number in range(DOCUMENTS + 10)]
    texts = [f"Text {number}: ünïcödé, 日本語." for number in range(DOCUMENTS + 10)]
    for start in range(0, DOCUMENTS, 10):
        chosen = slice(start, start + 10)
        collection.add(
            ids=ids[chosen],
            embeddings=made[chosen],
            documents=texts[chosen],
            metadatas=[metadata(number) for number in range(start, start + 10)],
        )
    collection.delete(ids=["doc-5", "doc-31"])
    collection.update(ids=["doc-7"], embeddings=vectors(1, 2), documents=["Changed."], metadatas=[{"page": 700}])
    collection.add(ids=ids[DOCUMENTS:-4], embeddings=made[DOCUMENTS:-4], metadatas=[{"late": True}] * 6)
    collection.upsert(
        ids=["doc-8", "new"], embeddings=vectors(2, 3), documents=["Put.", "New."], metadatas=[{"a": 1}] * 2
    )
    collection.delete(ids=["doc-9"])
    collection.add(ids=["bare"], embeddings=vectors(1, 4))
    if lists:
        collection.add(ids=["lists"], embeddings=vectors(1, 5), metadatas=[{"tags": ["a", "b"], "pages": [1, 2]}])


def told(collection: Any) -> dict[str, Any]:
    """Return what Chroma says of a collection: its documents, and its answers."""
    questions = vectors(QUESTIONS, 9)
    held = collection.get(include=["documents", "metadatas", "embeddings"])
    # Chroma 0.4 may return more than it is asked for, after a delete.
    found = collection.query(query_embeddings=questions, n_results=10, include=["distances"])
    return {
        "documents": {
            key: {"text": text, "metadata": data or {}, "vector": [round(float(value), 4) for value in vector]}
            for key, text, data, vector in zip(
                held["ids"], held["documents"], held["metadatas"], held["embeddings"], strict=True
            )
        },
        "near": [row[:10] for row in found["ids"]],
        "distances": [[round(float(value), 6) for value in row[:10]] for row in found["distances"]],
    }


def main() -> None:
    """Write the folder and what is expected of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("destination", type=pathlib.Path)
    parser.add_argument("--pack", action="store_true")
    options = parser.parse_args()
    root = options.destination / f"chromadb-{chromadb.__version__}"
    client = chromadb.PersistentClient(str(root / "chroma"))
    lists = tuple(map(int, chromadb.__version__.split(".")[:2])) >= (1, 5)
    expected: dict[str, Any] = {"questions": vectors(QUESTIONS, 9)}
    for space in SPACES:
        # In files, as far as the last call of `fill` has not come to them.
        settings = {
            "hnsw:space": space,
            "hnsw:batch_size": 10,
            "hnsw:sync_threshold": 20,
            "about": "test data",
            **EXACT,
        }
        collection = client.create_collection(f"kept-{space}", metadata=settings)
        fill(collection, lists=lists)
        expected[f"kept-{space}"] = told(collection)
    collection = client.create_collection("log", metadata={"hnsw:space": "cosine", **EXACT})
    fill(collection, lists=lists)
    expected["log"] = told(collection)
    if lists:
        collection = client.create_collection("configured", configuration={"hnsw": {"space": "cosine"}})
        fill(collection, lists=True)
        expected["configured"] = told(collection)
    (root / "expected.json").write_text(json.dumps(expected, ensure_ascii=False), encoding="utf-8")
    if options.pack:
        shutil.make_archive(str(root), "xztar", root)
        shutil.rmtree(root)


if __name__ == "__main__":
    main()

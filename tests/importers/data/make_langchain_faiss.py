"""Write small folders with LangChain's own FAISS store, as test data for the importer.

Run in an environment that has langchain-community and faiss-cpu, once per version:
``python make_langchain_faiss.py DESTINATION``. Each folder comes with ``expected.json``: what the store itself
says of its documents, and the nearest neighbours of each.
"""

from __future__ import annotations

import datetime
import decimal
import json
import pathlib
import sys
import uuid
from typing import Any

import faiss
import numpy as np
from langchain_community.docstore.in_memory import InMemoryDocstore
from langchain_community.vectorstores import FAISS
from langchain_community.vectorstores.utils import DistanceStrategy
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings

DIMENSION = 8
TEXTS = [
    "River banks flood in spring.",
    "The bank lends money.",
    "Übung macht den Meister: ünïcödé, 日本語.",
    "",
    "A long text. " * 30,
    "Cats sleep.",
]


class Letters(Embeddings):
    """Counts letters into buckets: deterministic, and the same in every version."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        vector = [0.25] * DIMENSION
        for character in text.lower():
            vector[ord(character) % DIMENSION] += 1.0
        return vector


def plain(number: int) -> dict[str, Any]:
    return {"source": f"file-{number % 2}.txt", "page": number, "score": number / 4, "tags": ["a", {"b": None}]}


def strange(number: int) -> dict[str, Any]:
    zone = datetime.timezone(datetime.timedelta(hours=2))
    return {
        "id": f"mine-{number}",
        "when": datetime.datetime(2024, 2, 29, 12, 30, number, 250, tzinfo=zone if number % 2 else None),
        "day": datetime.date(2024, 2, 29),
        "uuid": uuid.UUID(int=number + 1),
        "price": decimal.Decimal("12.50"),
        "path": pathlib.PurePosixPath("/data/x.txt"),
        "pair": (1, "two"),
        "set": {"b", "a"},
        "raw": b"\x00\xff",
        "nan": float("nan"),
        "np": np.float32(0.5),
        "count": np.int64(7),
        7: "seven",
    }


def store(metadatas: list[dict[Any, Any]], **options: Any) -> FAISS:
    ids = [f"doc-{number}" for number in range(len(TEXTS))]
    return FAISS.from_texts(TEXTS, Letters(), metadatas=metadatas, ids=ids, **options)


def save(made: FAISS, folder: pathlib.Path, name: str = "index") -> None:
    """Save a store, and what it says of itself."""
    made.save_local(str(folder), name)
    documents = {}
    for position, key in made.index_to_docstore_id.items():
        document = made.docstore.search(key)
        vector = Letters().embed_query(document.page_content)
        _, near = made.index.search(np.array([vector], dtype=np.float32), 3)
        documents[key] = {
            "text": document.page_content,
            "metadata": {str(k): v for k, v in document.metadata.items()},
            "near": [made.index_to_docstore_id[n] for n in near[0].tolist() if n >= 0],
            "position": position,
        }
    (folder / "expected.json").write_text(
        json.dumps(documents, indent=1, default=lambda value: type(value).__name__, ensure_ascii=False) + "\n"
    )


def main(destination: str) -> None:
    """Write all folders."""
    root = pathlib.Path(destination)
    numbers = range(len(TEXTS))
    save(store([plain(n) for n in numbers]), root / "plain")
    save(store([strange(n) for n in numbers]), root / "strange")
    save(
        store([plain(n) for n in numbers], distance_strategy=DistanceStrategy.MAX_INNER_PRODUCT),
        root / "inner_product",
        "mine",
    )
    save(store([plain(n) for n in numbers], normalize_L2=True), root / "normalized")
    changed = store([plain(n) for n in numbers])
    changed.delete(["doc-1", "doc-3"])
    changed.add_texts(["Added later."], [{"late": True}], ids=["late"])
    save(changed, root / "changed")
    quantized = faiss.index_factory(DIMENSION, "SQ8")
    vectors = np.array(Letters().embed_documents(TEXTS), dtype=np.float32)
    quantized.train(vectors)
    quantized.add(vectors)
    docstore = InMemoryDocstore({f"doc-{n}": Document(page_content=text) for n, text in enumerate(TEXTS)})
    save(FAISS(Letters(), quantized, docstore, {n: f"doc-{n}" for n in numbers}), root / "quantized")


if __name__ == "__main__":
    main(sys.argv[1])

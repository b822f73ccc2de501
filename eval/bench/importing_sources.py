"""Write a large store with a package of others, for `importing.py`: run by a Python that has that package.

``python importing_sources.py chroma|faiss|llama-index FOLDER ROWS DIMENSION``.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

TEXT = 500  # characters
BATCH = 2000


def texts(start: int, stop: int) -> list[str]:
    """Return texts of 500 characters that differ."""
    return [
        f"Document {number}. {'The quick brown fox jumps over the lazy dog. ' * 12}"[:TEXT]
        for number in range(start, stop)
    ]


def metadata(start: int, stop: int) -> list[dict[str, Any]]:
    """Return four fields for each document."""
    return [
        {
            "page": number % 50,
            "lang": "en" if number % 3 else "de",
            "source": f"file-{number // 50}.txt",
            "share": number / 7,
        }
        for number in range(start, stop)
    ]


def chroma(folder: Path, vectors: Any) -> None:
    """Write a Chroma directory."""
    os.environ["ANONYMIZED_TELEMETRY"] = "False"
    import chromadb

    # A quicker and worse graph than by default: the importer does not read it.
    settings = {"hnsw:space": "cosine", "hnsw:construction_ef": 20, "hnsw:M": 8}
    collection = chromadb.PersistentClient(str(folder)).create_collection("documents", metadata=settings)
    for start in range(0, len(vectors), BATCH):
        stop = min(start + BATCH, len(vectors))
        ids = [f"doc-{number}" for number in range(start, stop)]
        collection.add(
            ids=ids, embeddings=vectors[start:stop], documents=texts(start, stop), metadatas=metadata(start, stop)
        )
    collection.query(query_embeddings=vectors[:1], n_results=1)


def faiss(folder: Path, vectors: Any) -> None:
    """Write a FAISS index and a file with texts."""
    import faiss as library

    index = library.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    folder.mkdir()
    library.write_index(index, str(folder / "index.faiss"))
    with open(folder / "texts.jsonl", "w", encoding="utf-8") as file:
        for start in range(0, len(vectors), BATCH):
            stop = min(start + BATCH, len(vectors))
            for number, text, fields in zip(range(start, stop), texts(start, stop), metadata(start, stop), strict=True):
                file.write(json.dumps({"id": f"doc-{number}", "text": text, **fields}) + "\n")


def llama_index(folder: Path, vectors: Any) -> None:
    """Write a folder of LlamaIndex's simple stores."""
    from llama_index.core import StorageContext, VectorStoreIndex
    from llama_index.core.embeddings import MockEmbedding
    from llama_index.core.schema import TextNode

    count = len(vectors)
    nodes = [
        TextNode(id_=f"doc-{number}", text=text, metadata=fields, embedding=[float(value) for value in vector])
        for number, text, fields, vector in zip(range(count), texts(0, count), metadata(0, count), vectors, strict=True)
    ]
    index = VectorStoreIndex(
        nodes, storage_context=StorageContext.from_defaults(), embed_model=MockEmbedding(vectors.shape[1])
    )
    index.storage_context.persist(str(folder))


def main() -> None:
    """Write one store."""
    kind, folder, rows, dimension = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    vectors = np.random.default_rng(0).standard_normal((rows, dimension), dtype=np.float32)
    {"chroma": chroma, "faiss": faiss, "llama-index": llama_index}[kind](folder, vectors)


if __name__ == "__main__":
    main()

# ruff: noqa: D102  # the methods are said once in Subject
"""Databases under the filters of filtered.py: each with its index of the filtered fields, and its own search knob."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import orjson
from measuring import Floats, K

from reperio import Chunk

Filter: TypeAlias = tuple[str, int, int]
"""A field of whole numbers, the least that passes, and the first that does not."""

EF = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
_CONSTRUCTION, _LINKS, _BATCH = 200, 32, 1000


class Subject(Protocol):
    """A database with the chunks, their vectors and the two fields that are filtered by."""

    def ingest(self, folder: Path, chunks: Sequence[Chunk], vectors: Floats) -> None: ...

    def open(self, folder: Path) -> None: ...

    def set(self, ef: int) -> None: ...

    def search(self, vector: Floats, where: Filter | None) -> list[tuple[str, str, Any]]:
        """Return ids, texts and metadata of the ten best."""
        ...


class Zvec:
    """zvec with HNSW, and inverted indexes of both fields, optimized for ranges."""

    def __init__(self) -> None:
        import zvec

        zvec.init(log_level=zvec.LogLevel.ERROR)
        self._zvec = zvec

    def ingest(self, folder: Path, chunks: Sequence[Chunk], vectors: Floats) -> None:
        zvec = self._zvec
        number = [zvec.FieldSchema(name, zvec.DataType.INT64, index_param=zvec.InvertIndexParam(True)) for name in "rp"]
        text = [zvec.FieldSchema(name, zvec.DataType.STRING) for name in ("text", "metadata")]
        graph = zvec.HnswIndexParam(zvec.MetricType.COSINE, m=_LINKS, ef_construction=_CONSTRUCTION)
        vector = zvec.VectorSchema("embedding", zvec.DataType.VECTOR_FP32, vectors.shape[1], index_param=graph)
        schema = zvec.CollectionSchema(name="chunks", fields=[*number, *text], vectors=[vector])
        collection = zvec.create_and_open(str(folder / "zvec"), schema)
        for start in range(0, len(chunks), _BATCH):
            written = collection.insert(
                [
                    zvec.Doc(
                        id=chunk.id,
                        vectors={"embedding": row},
                        fields={
                            "text": chunk.text,
                            "metadata": orjson.dumps(chunk.metadata).decode(),
                            "r": chunk.metadata["r"],
                            "p": chunk.metadata["p"],
                        },
                    )
                    for chunk, row in zip(chunks[start : start + _BATCH], vectors[start : start + _BATCH], strict=True)
                ]
            )
            if not all(status.ok() for status in written):
                raise RuntimeError("zvec refused a row")
        collection.flush()
        collection.optimize()
        collection.flush()
        collection.close()

    def open(self, folder: Path) -> None:
        how = self._zvec.CollectionOption(read_only=True, enable_mmap=True)
        self._collection = self._zvec.open(str(folder / "zvec"), how)

    def set(self, ef: int) -> None:
        self._param = self._zvec.HnswQueryParam(ef=ef)

    def search(self, vector: Floats, where: Filter | None) -> list[tuple[str, str, Any]]:
        query = self._zvec.Query("embedding", vector=vector, param=self._param)
        fields = ["text", "metadata"]
        if where is None:
            found = self._collection.query(query, topk=K, output_fields=fields)
        else:
            name, least, below = where
            text = f"{name} < {below}" if least == 0 else f"{name} >= {least} and {name} < {below}"
            found = self._collection.query(query, topk=K, filter=text, output_fields=fields)
        return [(hit.id, hit.fields["text"], orjson.loads(hit.fields["metadata"])) for hit in found]


class Chroma:
    """Chroma's `PersistentClient`; it keeps all metadata in SQLite and indexes them by itself."""

    def __init__(self) -> None:
        import chromadb
        from chromadb.api.shared_system_client import SharedSystemClient

        self._chromadb, self._shared = chromadb, SharedSystemClient

    def _client(self, folder: Path) -> Any:
        quiet = self._chromadb.Settings(anonymized_telemetry=False)
        return self._chromadb.PersistentClient(path=str(folder), settings=quiet)

    def ingest(self, folder: Path, chunks: Sequence[Chunk], vectors: Floats) -> None:
        graph = {"space": "ip", "ef_construction": _CONSTRUCTION, "max_neighbors": _LINKS, "sync_threshold": 10_000}
        client = self._client(folder)
        collection = client.create_collection("chunks", embedding_function=None, configuration={"hnsw": graph})
        for start in range(0, len(chunks), _BATCH):
            some = chunks[start : start + _BATCH]
            collection.add(
                ids=[chunk.id for chunk in some],
                embeddings=vectors[start : start + _BATCH],
                documents=[chunk.text for chunk in some],
                metadatas=[
                    {name: value for name, value in chunk.metadata.items() if not isinstance(value, list)}
                    for chunk in some
                ],
            )

    def open(self, folder: Path) -> None:
        self._folder = folder
        self._collection = self._client(folder).get_collection("chunks", embedding_function=None)

    def set(self, ef: int) -> None:
        """Change `ef_search`, which a collection takes up only when it is opened."""
        self._collection.modify(configuration={"hnsw": {"ef_search": ef}})
        del self._collection
        self._shared.clear_system_cache()
        self.open(self._folder)

    def search(self, vector: Floats, where: Filter | None) -> list[tuple[str, str, Any]]:
        tree: dict[str, Any] | None = None
        if where is not None:
            name, least, below = where
            tree = {name: {"$lt": below}}
            if least:
                tree = {"$and": [{name: {"$gte": least}}, tree]}
        found = self._collection.query(
            query_embeddings=[vector], n_results=K, where=tree, include=["documents", "metadatas"]
        )
        return list(zip(found["ids"][0], found["documents"][0], found["metadatas"][0], strict=True))


class Lance:
    """LanceDB with one graph over 8-bit vectors, refined from its full ones; B-trees on both fields, filtered first."""

    def __init__(self) -> None:
        import lancedb
        import pyarrow
        from lancedb.index import HnswSq

        self._lancedb, self._arrow, self._index = lancedb, pyarrow, HnswSq

    def ingest(self, folder: Path, chunks: Sequence[Chunk], vectors: Floats) -> None:
        arrow = self._arrow
        columns = {
            "id": arrow.array([chunk.id for chunk in chunks]),
            "text": arrow.array([chunk.text for chunk in chunks]),
            "metadata": arrow.array([orjson.dumps(chunk.metadata).decode() for chunk in chunks]),
            "r": arrow.array([chunk.metadata["r"] for chunk in chunks], arrow.int64()),
            "p": arrow.array([chunk.metadata["p"] for chunk in chunks], arrow.int64()),
            "vector": arrow.FixedSizeListArray.from_arrays(
                arrow.array(np.ascontiguousarray(vectors).ravel()), vectors.shape[1]
            ),
        }
        table = self._lancedb.connect(str(folder)).create_table("chunks", data=arrow.table(columns))
        config = self._index(distance_type="dot", num_partitions=1, m=_LINKS, ef_construction=_CONSTRUCTION)
        table.create_index("vector", config=config)
        for name in "rp":
            table.create_scalar_index(name)

    def open(self, folder: Path) -> None:
        self._table = self._lancedb.connect(str(folder)).open_table("chunks")

    def set(self, ef: int) -> None:
        self._ef = max(ef, 2 * K)

    def search(self, vector: Floats, where: Filter | None) -> list[tuple[str, str, Any]]:
        query = self._table.search(vector).distance_type("dot").limit(K).nprobes(1).ef(self._ef).refine_factor(2)
        if where is not None:
            name, least, below = where
            query = query.where(f"{name} >= {least} AND {name} < {below}", prefilter=True)
        found = query.select(["id", "text", "metadata"]).to_list()
        return [(hit["id"], hit["text"], orjson.loads(hit["metadata"])) for hit in found]


@dataclass(frozen=True)
class Entry:
    """A database as it is named in the tables, the module it needs, and how it is made."""

    name: str
    module: str
    make: Callable[[], Subject]


ENTRIES = (
    Entry("zvec", "zvec", Zvec),
    Entry("Chroma", "chromadb", Chroma),
    Entry("LanceDB", "lancedb", Lance),
)

# ruff: noqa: ARG002, D102  # the methods, said once in catalogue.Subject, get what any of the subjects needs
"""Subjects that keep the chunks themselves."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from corpus import Corpus, Floats, K, Mark, Plain
from libraries import CONSTRUCTION

BATCH = 1000
"""Rows per write, where the library leaves it to the caller."""


def batches(chunks: list[Plain], size: int = BATCH) -> Iterator[tuple[slice, list[Plain]]]:
    """Yield slices of the rows with their chunks."""
    for start in range(0, len(chunks), size):
        part = slice(start, min(start + size, len(chunks)))
        yield part, chunks[part]


class LangChain:
    """LangChain's FAISS with its in-memory docstore: exact search, saved as a whole (in part as a pickle)."""

    def __init__(self) -> None:
        import warnings

        warnings.simplefilter("ignore", DeprecationWarning)  # it is being sunset, and says so at every import
        import faiss
        from langchain_community.vectorstores import FAISS
        from langchain_community.vectorstores.utils import DistanceStrategy
        from langchain_core.embeddings import Embeddings

        class Ready(Embeddings):
            """For vectors that are brought along."""

            def embed_documents(self, texts: list[str]) -> list[list[float]]:
                raise RuntimeError("vectors are brought along")

            def embed_query(self, text: str) -> list[float]:
                raise RuntimeError("vectors are brought along")

        self._faiss, self._class, self._embedding = faiss, FAISS, Ready()
        self._options = {"distance_strategy": DistanceStrategy.MAX_INNER_PRODUCT}

    def ingest(self, folder: Path, corpus: Corpus, chunks: list[Plain], mark: Mark) -> None:
        ids, texts, metadata = map(list, zip(*chunks, strict=True))
        pairs = list(zip(texts, corpus.vectors, strict=True))
        store = self._class.from_embeddings(pairs, self._embedding, metadata, ids, **self._options)
        mark("index and docstore")
        store.save_local(str(folder))

    def open(self, folder: Path, dimension: int) -> None:
        self.enter_thread()
        self._store = self._class.load_local(
            str(folder), self._embedding, allow_dangerous_deserialization=True, **self._options
        )

    def enter_thread(self) -> None:
        self._faiss.omp_set_num_threads(1)

    def set(self) -> None: ...

    def search(self, vector: Floats) -> Any:
        return self._store.similarity_search_with_score_by_vector(vector, k=K)

    def plain(self, found: Any) -> list[Plain]:
        return [(document.id, document.page_content, document.metadata) for document, _ in found]


class Chroma:
    """Chroma's `PersistentClient`."""

    def __init__(self, m: int) -> None:
        import chromadb
        from chromadb.api.shared_system_client import SharedSystemClient

        self._chromadb, self._shared, self._m = chromadb, SharedSystemClient, m
        self._ef: int | None = None

    def _client(self) -> Any:
        quiet = self._chromadb.Settings(anonymized_telemetry=False)
        return self._chromadb.PersistentClient(path=str(self._folder), settings=quiet)

    def ingest(self, folder: Path, corpus: Corpus, chunks: list[Plain], mark: Mark) -> None:
        self._folder = folder
        graph = {
            "space": "ip",
            "ef_construction": CONSTRUCTION,
            "max_neighbors": self._m,
            "sync_threshold": 10 * BATCH,  # its write-ahead log is durable anyway; the default writes the graph oftener
        }
        collection = self._client().create_collection("chunks", embedding_function=None, configuration={"hnsw": graph})
        for part, some in batches(chunks):
            ids, texts, metadata = map(list, zip(*some, strict=True))
            collection.add(ids=ids, embeddings=corpus.vectors[part], documents=texts, metadatas=metadata)
        mark("rows and graph")

    def open(self, folder: Path, dimension: int) -> None:
        self._folder = folder
        self._collection = self._client().get_collection("chunks", embedding_function=None)

    def enter_thread(self) -> None: ...

    def set(self, ef: int) -> None:
        """Change `ef_search`, which a collection takes up only when it is opened."""
        if ef == self._collection.configuration["hnsw"]["ef_search"]:
            return
        self._collection.modify(configuration={"hnsw": {"ef_search": ef}})
        del self._collection
        self._shared.clear_system_cache()
        self.open(self._folder, 0)

    def search(self, vector: Floats) -> Any:
        return self._collection.query(query_embeddings=[vector], n_results=K, include=["documents", "metadatas"])

    def plain(self, found: Any) -> list[Plain]:
        return list(zip(found["ids"][0], found["documents"][0], found["metadatas"][0], strict=True))


class Lance:
    """LanceDB with one graph over 8-bit vectors, refined from its full vectors."""

    def __init__(self, m: int) -> None:
        import lancedb
        import orjson
        import pyarrow
        from lancedb.index import HnswSq

        self._lancedb, self._arrow, self._json, self._index = lancedb, pyarrow, orjson, HnswSq
        self._m = m

    def ingest(self, folder: Path, corpus: Corpus, chunks: list[Plain], mark: Mark) -> None:
        arrow, vectors = self._arrow, corpus.vectors
        dimension = vectors.shape[1]
        schema = arrow.schema(
            {name: arrow.string() for name in ("id", "text", "metadata")}
            | {"vector": arrow.list_(arrow.float32(), dimension)}
        )

        def blocks() -> Iterator[Any]:
            for part, some in batches(chunks, 10 * BATCH):
                ids, texts, metadata = map(list, zip(*some, strict=True))
                flat = arrow.array(np.ascontiguousarray(vectors[part]).ravel())
                columns = [ids, texts, [self._json.dumps(one).decode() for one in metadata]]
                arrays = [arrow.array(column) for column in columns]
                arrays.append(arrow.FixedSizeListArray.from_arrays(flat, dimension))
                yield arrow.record_batch(arrays, schema=schema)

        table = self._lancedb.connect(str(folder)).create_table("chunks", data=blocks(), schema=schema)
        mark("rows")
        config = self._index(distance_type="dot", num_partitions=1, m=self._m, ef_construction=CONSTRUCTION)
        table.create_index("vector", config=config)
        mark("index")

    def open(self, folder: Path, dimension: int) -> None:
        self._table = self._lancedb.connect(str(folder)).open_table("chunks")

    def enter_thread(self) -> None: ...

    def set(self, ef: int, refine: int) -> None:
        self._ef, self._refine = max(ef, refine * K), refine  # less is refused

    def search(self, vector: Floats) -> list[Plain]:
        query = self._table.search(vector).distance_type("dot").limit(K).nprobes(1).ef(self._ef)
        query = query.refine_factor(self._refine).select(["id", "text", "metadata"])
        return [(hit["id"], hit["text"], self._json.loads(hit["metadata"])) for hit in query.to_list()]

    def plain(self, found: list[Plain]) -> list[Plain]:
        return found


class Zvec:
    """zvec, read-only and mapped when it serves; text and JSON metadata in fields of its own."""

    def __init__(self, m: int, quantize: str, metric: str = "COSINE") -> None:
        import orjson
        import zvec

        zvec.init(log_level=zvec.LogLevel.ERROR)
        self._zvec, self._json, self._m, self._quantize, self._metric = zvec, orjson, m, quantize, metric

    def ingest(self, folder: Path, corpus: Corpus, chunks: list[Plain], mark: Mark) -> None:
        zvec, vectors = self._zvec, corpus.vectors
        graph = zvec.HnswIndexParam(
            zvec.MetricType.__members__[self._metric],
            m=self._m,
            ef_construction=CONSTRUCTION,
            quantize_type=zvec.QuantizeType.__members__[self._quantize],
        )
        kind, dimension = zvec.DataType.VECTOR_FP32, vectors.shape[1]
        schema = zvec.CollectionSchema(
            name="chunks",
            fields=[zvec.FieldSchema(name, zvec.DataType.STRING) for name in ("text", "metadata")],
            vectors=[zvec.VectorSchema("embedding", kind, dimension, index_param=graph)],
        )
        collection = zvec.create_and_open(str(folder / "zvec"), schema)
        for part, some in batches(chunks):
            written = collection.insert(
                [
                    zvec.Doc(
                        id=chunk_id,
                        vectors={"embedding": vector},
                        fields={"text": text, "metadata": self._json.dumps(metadata).decode()},
                    )
                    for (chunk_id, text, metadata), vector in zip(some, vectors[part], strict=True)
                ]
            )
            failed = [status for status in written if not status.ok()]
            if failed:
                raise RuntimeError(f"insert: {failed[0]}")
        collection.flush()
        mark("rows")
        collection.optimize()
        mark("optimize")
        collection.flush()
        collection.close()

    def open(self, folder: Path, dimension: int) -> None:
        how = self._zvec.CollectionOption(read_only=True, enable_mmap=True)
        self._collection = self._zvec.open(str(folder / "zvec"), how)

    def enter_thread(self) -> None: ...

    def set(self, ef: int, refine: int = 0) -> None:
        self._param = self._zvec.HnswQueryParam(ef=ef, is_using_refiner=refine > 0, scale_factor=float(refine))

    def search(self, vector: Floats) -> list[Plain]:
        found = self._collection.query(
            self._zvec.Query("embedding", vector=vector, param=self._param), topk=K, output_fields=["text", "metadata"]
        )
        return [(hit.id, hit.fields["text"], self._json.loads(hit.fields["metadata"])) for hit in found]

    def plain(self, found: list[Plain]) -> list[Plain]:
        return found


class SqliteVec:
    """sqlite-vec in WAL mode; exact, or by bits first and rescored, as its documentation shows."""

    def __init__(self, bits: bool) -> None:
        import apsw
        import orjson
        import sqlite_vec

        self._apsw, self._json, self._extension, self._bits = apsw, orjson, sqlite_vec.loadable_path(), bits
        self._own = threading.local()

    def _connect(self) -> Any:
        connection = self._apsw.Connection(str(self._file))
        connection.enable_load_extension(True)
        connection.load_extension(self._extension)
        connection.pragma("mmap_size", 2**36)
        return connection

    def ingest(self, folder: Path, corpus: Corpus, chunks: list[Plain], mark: Mark) -> None:
        self._file, vectors = folder / "chunks.db", corpus.vectors
        dimension = vectors.shape[1]
        connection = self._connect()
        connection.pragma("journal_mode", "wal")
        connection.pragma("synchronous", "full")
        coarse = f", coarse bit[{dimension}]" if self._bits else ""
        connection.execute("CREATE TABLE chunks(row INTEGER PRIMARY KEY, id TEXT, text TEXT, metadata TEXT)")
        connection.execute(
            f"CREATE VIRTUAL TABLE v USING vec0(embedding float[{dimension}] distance_metric=cosine{coarse})"
        )
        for part, some in batches(chunks):
            with connection:
                rows = range(part.start, part.stop)
                connection.executemany(
                    "INSERT INTO chunks VALUES (?,?,?,?)",
                    (
                        (row, *head, self._json.dumps(data).decode())
                        for row, (*head, data) in zip(rows, some, strict=True)
                    ),
                )
                values, names = ("?,?2,vec_quantize_binary(?2)", ", coarse") if self._bits else ("?,?", "")
                connection.executemany(
                    f"INSERT INTO v(rowid, embedding{names}) VALUES ({values})",
                    ((row, vector.tobytes()) for row, vector in zip(rows, vectors[part], strict=True)),
                )
        mark("rows")
        connection.close()

    def open(self, folder: Path, dimension: int) -> None:
        self._file = folder / "chunks.db"
        self.enter_thread()

    def enter_thread(self) -> None:
        self._own.connection = self._connect()

    def set(self, candidates: int = 0) -> None:
        found = f"SELECT rowid, distance FROM v WHERE embedding MATCH ?1 AND k = {K}"
        if self._bits:
            found = (
                "WITH coarse AS MATERIALIZED (SELECT rowid, embedding FROM v WHERE coarse MATCH "
                f"vec_quantize_binary(?1) AND k = {candidates}) SELECT rowid, vec_distance_cosine(embedding, ?1) "
                f"AS distance FROM coarse ORDER BY distance LIMIT {K}"
            )
        self._sql = (
            f"SELECT id, text, metadata FROM ({found}) AS f JOIN chunks ON chunks.row = f.rowid ORDER BY distance"
        )

    def search(self, vector: Floats) -> list[Plain]:
        found = self._own.connection.execute(self._sql, (vector.tobytes(),))
        return [(chunk_id, text, self._json.loads(metadata)) for chunk_id, text, metadata in found]

    def plain(self, found: list[Plain]) -> list[Plain]:
        return found


class Reperio:
    """Ours: a writer's handle or a reader's, the index chosen by `optimize` for a stated recall."""

    def __init__(self, recall: float, read_only: bool) -> None:
        import reperio

        self._reperio, self._recall, self._read_only = reperio, recall, read_only

    def ingest(self, folder: Path, corpus: Corpus, chunks: list[Plain], mark: Mark) -> None:
        vectors = corpus.vectors
        # The index is asked for as soon as everything is there; one built in the background before would be in vain.
        with self._reperio.open(folder / "kb", dimension=vectors.shape[1], auto_optimize=False) as kb:
            for part, some in batches(chunks):
                kb.add([self._reperio.Chunk(*chunk) for chunk in some], vectors=vectors[part])
            mark("add")
            kb.optimize(recall=self._recall, queries=corpus.questions("tuning")[0])
            mark("optimize")

    def open(self, folder: Path, dimension: int) -> None:
        self._kb = self._reperio.open(folder / "kb", read_only=self._read_only)

    def enter_thread(self) -> None: ...

    def set(self, recall: float) -> None:
        self._asked = recall

    def search(self, vector: Floats) -> Any:
        return self._kb.search(vector=vector, k=K, recall=self._asked)

    def plain(self, found: Any) -> list[Plain]:
        return [(hit.chunk.id, hit.chunk.text, dict(hit.chunk.metadata)) for hit in found]

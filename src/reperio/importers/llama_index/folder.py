"""Read a folder of LlamaIndex: nodes from the document store, vectors from the vector store, joined by their ids.

A node becomes the chunk that the adapter for LlamaIndex makes of it: its id, text and metadata, and in the field
``_llama_index`` whatever else it is, so that the adapter gives it back whole.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from reperio import layout
from reperio.errors import InvalidInput
from reperio.importers.conversion import Conversion
from reperio.importers.llama_index.nodes import wrong_field
from reperio.importers.llama_index.vectors import read_json, read_vectors
from reperio.importers.storing import ForeignContent
from reperio.types import Chunk

RESERVED = "_llama_index"
_KINDS = ("TextNode", "ImageNode", "IndexNode", "Node", "Document", "ImageDocument")
_ELSEWHERE = ("class_name", "id_", "metadata", "embedding", "text")  # of a node, kept outside that field
_SOURCE = "1"  # the relationship of a node to its document
_EXPANSION, _EXPANSION_LEAST = 64, 64 << 20  # characters that a byte of the file may come to; and for all of it


def read_folder(folder: Path, namespace: str) -> ForeignContent:
    """Read and check a folder as passed to ``persist``; nothing in it is executed."""
    layout.require_path(folder)
    if not namespace or Path(namespace).name != namespace or "\0" in namespace:
        raise InvalidInput(f"namespace is {namespace!r}; it is the part of a file's name before __vector_store.json")
    documents = folder / "docstore.json"
    path = next(
        (
            each
            for each in (folder / f"{namespace}__vector_store.json", folder / "vector_store.json")
            if layout.is_there(each)
        ),
        None,
    )
    if path is None or not layout.is_there(documents):
        raise InvalidInput(
            f"{folder} has no {namespace}__vector_store.json or no docstore.json: it is not what "
            "storage_context.persist(folder) of LlamaIndex has written, or its vectors are in another store"
        )
    found = read_vectors(path, folder)
    nodes = _nodes(documents)
    conversion = Conversion(_EXPANSION_LEAST + _EXPANSION * documents.stat().st_size, str(documents))
    kept = [key for key in nodes if key in found.places]
    if found.lost is not None:  # what takes the place of its vectors needs a text
        kept = [key for key in kept if _text(nodes[key]).strip()]
    chosen = set(kept)
    at = np.array([found.places[key] for key in kept], dtype=np.int64)
    claimed = np.zeros(len(found.numbers), dtype=bool)
    claimed[at] = True
    return ForeignContent(
        what="the folder",
        kind=found.kind,
        dimension=found.dimension,
        metric=found.metric,
        documents=len(nodes),
        chunks=[_chunk(key, nodes[key], conversion) for key in kept],
        vectors=lambda rows: found.vectors(at[rows]),
        lost=found.lost,
        without_vector=tuple(key for key in nodes if key not in chosen),
        without_document=tuple(found.numbers[~claimed].tolist()) if found.lost is None else (),
        changed=conversion.changed,
    )


def _nodes(path: Path) -> dict[str, dict[str, Any]]:
    """Return the nodes of a document store by their ids."""
    stored = read_json(path).get("docstore/data", {})
    if type(stored) is not dict:
        raise InvalidInput(f"{path} has no docstore/data: it is not what LlamaIndex's SimpleDocumentStore writes")
    nodes: dict[str, dict[str, Any]] = {}
    for key, held in stored.items():
        data = held.get("__data__") if type(held) is dict else None
        if not key or type(data) is not dict or data.get("class_name") not in _KINDS:
            kind = data.get("class_name") if type(data) is dict else None
            known = ", ".join(_KINDS)
            raise InvalidInput(f"{path}: {key!r:.80} is a {kind!s:.60}, none of the nodes that are known here: {known}")
        metadata = data.get("metadata")
        if type(metadata) is not dict or type(_text(data)) is not str:
            raise InvalidInput(f"{path}: node {key!r:.80} has no metadata or a text that is none")
        wrong = wrong_field(data)
        if wrong is not None:
            raise InvalidInput(
                f"{path}: node {key!r:.80} has a wrong {wrong}, which LlamaIndex cannot read ({data[wrong]!r:.80}); "
                "correct it there, or delete the node with LlamaIndex and persist again"
            )
        nodes[key] = data
    return nodes


def _text(data: dict[str, Any]) -> Any:
    """Return the text of a node, which a document keeps one level deeper."""
    if data.get("text") is not None:
        return data["text"]
    resource = data.get("text_resource")
    text = resource.get("text") if type(resource) is dict else None
    return "" if text is None else text


def _chunk(key: str, data: dict[str, Any], conversion: Conversion) -> Chunk:
    metadata = conversion.to_metadata(data["metadata"])
    content = {name: value for name, value in data.items() if name not in _ELSEWHERE and value is not None}
    resource = content.get("text_resource")
    if type(resource) is dict and resource.get("text") is not None:
        content["text_resource"] = {**resource, "text": None}  # the chunk has it
    own: dict[str, Any] = {"type": data["class_name"], **_document(key, data), "node": conversion.to_metadata(content)}
    if RESERVED in metadata:
        own["own"] = metadata.pop(RESERVED)
    return Chunk(
        conversion.to_text(key, "(id)"), conversion.to_text(_text(data), "(text)"), {**metadata, RESERVED: own}
    )


def _document(key: str, data: dict[str, Any]) -> dict[str, str | None]:
    """Return the document that a node belongs to, and that document's hash; a node without source is its own."""
    relations = data.get("relationships")
    source = relations.get(_SOURCE) if type(relations) is dict else None
    if type(source) is not dict or type(source.get("node_id")) is not str:
        return {"doc_id": key, "doc_hash": None}
    known = source.get("hash")
    return {"doc_id": source["node_id"], "doc_hash": known if type(known) is str else None}

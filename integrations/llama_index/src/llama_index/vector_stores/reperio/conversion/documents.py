"""Nodes to chunks and back, whole.

A chunk has the node's id, its text, and its metadata as they are, so that every other way into the collection (the
command line, another framework, the gate) sees plain fields. Whatever else a node is lies in one reserved field:

    {"lang": "en", …, "_llama_index": {"type": "TextNode", "doc_id": …, "doc_hash": …, "node": {…}, "notes": […]}}

A user's key of that very name is moved inside, under "own"; all others (``doc_id``, ``text``, ``embedding``,
``_node_content`` …) collide with nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llama_index.core.schema import (
    BaseNode,
    Document,
    ImageDocument,
    ImageNode,
    IndexNode,
    MetadataMode,
    Node,
    TextNode,
)
from reperio import Chunk, CollectionDamaged, InvalidInput

from llama_index.vector_stores.reperio.conversion.values import from_json, to_json

RESERVED = "_llama_index"
"""The metadata field that holds what LlamaIndex knows of a node besides text and metadata."""

# The nearest one counts: a subclass comes back as the class it extends, and is refused where that would lose a field.
_KINDS: dict[str, type[BaseNode]] = {
    kind.class_name(): kind for kind in (TextNode, ImageNode, IndexNode, Node, Document, ImageDocument)
}
_BY_CLASS: dict[type, type[BaseNode]] = {kind: kind for kind in _KINDS.values()}
_RESOURCES = ("text_resource", "image_resource", "audio_resource", "video_resource")


def to_chunk(node: BaseNode) -> Chunk:
    """Return the chunk that keeps *node*, without its embedding.

    Raises:
        InvalidInput: a node of a class with fields that would be lost, or that cannot be serialised.
    """
    kind = _kind(node)
    metadata, metadata_notes = to_json(node.metadata)
    content, notes = to_json(_content(node))
    own: dict[str, Any] = {"type": kind.class_name(), **_document(node), "node": content}
    if RESERVED in metadata:
        own["own"] = metadata.pop(RESERVED)
    if metadata_notes or notes:
        own["notes"] = [metadata_notes, notes]
    return Chunk(node.node_id, node.get_content(MetadataMode.NONE), {**metadata, RESERVED: own})


def to_chunks(nodes: Sequence[BaseNode]) -> tuple[list[Chunk], list[list[float]]]:
    """Return the chunks and vectors of several nodes; of a node that is there twice, and the same, one.

    Raises:
        InvalidInput: a node without embedding, and as for `to_chunk`.
    """
    chunks: dict[str, Chunk] = {}
    kept: list[Chunk] = []
    vectors: list[list[float]] = []
    for node in nodes:
        if not isinstance(node, BaseNode):
            raise InvalidInput(f"nodes has a {type(node).__name__}; pass a list of nodes, such as TextNode")
        if node.embedding is None:
            raise InvalidInput(f"node {node.node_id!r} has no embedding; embed it first, or insert it by an index")
        chunk = to_chunk(node)
        if chunks.setdefault(chunk.id, chunk) is chunk or chunks[chunk.id] != chunk:
            kept.append(chunk)  # one that differs is for the core to refuse
            vectors.append(node.embedding)
    return kept, vectors


def from_chunk(chunk: Chunk, embedding: list[float] | None = None) -> BaseNode:
    """Return the node that a chunk keeps; of one that was not added through LlamaIndex, a `TextNode`.

    Args:
        chunk: its metadata is taken over, not copied.
        embedding: for the node, if it is wanted.

    Raises:
        CollectionDamaged: the reserved field holds something else than `to_chunk` wrote.
    """
    metadata = dict(chunk.metadata)
    own = metadata.pop(RESERVED, None)
    if own is None:
        return TextNode(id_=chunk.id, text=chunk.text, metadata=metadata, embedding=embedding)
    try:
        if "own" in own:
            metadata[RESERVED] = own["own"]
        metadata_notes, notes = own.get("notes", ((), ()))
        content = from_json(own["node"], notes)
        _put_text(content, chunk.text)
        fields = {"id_": chunk.id, "metadata": from_json(metadata, metadata_notes), "embedding": embedding}
        return _KINDS[own["type"]].from_dict({**content, **fields})
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise CollectionDamaged(
            f"chunk {chunk.id!r}: the metadata field {RESERVED!r} is not what this package writes "
            f"({type(error).__name__}: {error}); another program has changed it: add the node again"
        ) from error


def document_of(chunk: Chunk) -> str:
    """Return the id of the document that the node in *chunk* belongs to; that of the node itself, where it has none."""
    return str(chunk.metadata[RESERVED]["doc_id"])


def _kind(node: BaseNode) -> type[BaseNode]:
    known = next((_BY_CLASS[kind] for kind in type(node).__mro__ if kind in _BY_CLASS), None)
    if known is None:
        raise InvalidInput(
            f"node {node.node_id!r} is a {type(node).__name__}, which is none of {', '.join(_KINDS)}; make one of those"
        )
    lost = sorted(set(type(node).model_fields) - set(known.model_fields))
    if lost:
        raise InvalidInput(
            f"node {node.node_id!r} is a {type(node).__name__}; it would come back as a {known.__name__} without "
            f"{', '.join(lost)}: put that into its metadata"
        )
    return known


def _document(node: BaseNode) -> dict[str, str | None]:
    """Return the document that a node belongs to and that document's hash; a node without source is its own."""
    try:
        source = node.source_node
    except ValueError as error:  # a list of sources
        raise InvalidInput(f"node {node.node_id!r}: {error}") from None
    if source is None:
        return {"doc_id": node.node_id, "doc_hash": node.hash}
    return {"doc_id": source.node_id, "doc_hash": source.hash}


def _content(node: BaseNode) -> dict[str, Any]:
    """Return what a node is besides id, text, metadata and embedding, without what has its default value."""
    try:
        content = node.model_dump(exclude={"id_", "metadata", "embedding", "text"}, exclude_defaults=True)
    except ValueError as error:  # of an IndexNode whose object cannot be written down
        raise InvalidInput(f"node {node.node_id!r} cannot be stored: {error}") from error
    for name in ("class_name", "id_", "metadata", "embedding", "text"):  # IndexNode's own serialiser adds some again
        content.pop(name, None)
    for name in _RESOURCES:
        resource = getattr(node, name, None)
        if resource is not None:
            content[name] = _resource(resource, name)
    return content


def _resource(resource: Any, name: str) -> dict[str, Any]:
    kept: dict[str, Any] = resource.model_dump(exclude_none=True)
    if resource.data is not None:
        kept["data"] = resource.data.decode()  # base64; the framework's own serialiser leaves it out
    if resource.url is not None:
        kept["url"] = str(resource.url)
    if name == "text_resource" and resource.text is not None:
        kept["text"] = None  # the chunk has it: `_put_text`
    return kept


def _put_text(content: dict[str, Any], text: str) -> None:
    resource = content.get("text_resource")
    if resource is None:
        content.setdefault("text", text)
    elif "text" in resource:
        resource["text"] = text

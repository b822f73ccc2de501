"""Reperio's rerankers where LlamaIndex reranks: on nodes that were retrieved already."""

from __future__ import annotations

from typing import Any

from llama_index.core.bridge.pydantic import Field, field_validator
from llama_index.core.callbacks import CBEventType, EventPayload
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle
from reperio import Chunk, Hit, InvalidInput, Reranker
from reperio.ranking import rerank


class ReperioRerank(BaseNodePostprocessor):
    """A node postprocessor that puts nodes into a reranker's order and keeps its scores.

    Works on nodes of any origin; on those of a `ReperioVectorStore`, query mode SEMANTIC_HYBRID does the same in one
    step, with candidates enough to choose from. Asynchronously it runs in a thread.

    Attributes:
        reranker: any `reperio.Reranker`. It reads what the embedding model reads: text and metadata, without the
            node's excluded_embed_metadata_keys.
        top_n: how many to keep.
        keep_retrieval_score: put the score that a node came with into its metadata, as "retrieval_score".
    """

    reranker: Any = Field(exclude=True)
    top_n: int = Field(default=2, ge=1)
    keep_retrieval_score: bool = False

    @field_validator("reranker")
    @classmethod
    def _is_reranker(cls, given: Any) -> Any:
        if not isinstance(given, Reranker):
            raise InvalidInput(
                f"reranker is a {type(given).__name__} without a score method; wrap a function in "
                "reperio.CallableReranker, or pass a reperio.CrossEncoderReranker"
            )
        return given

    @classmethod
    def class_name(cls) -> str:
        """Name it in serialised form."""
        return "ReperioRerank"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        """Return copies of the best nodes, best first, equal scores in the order they came in; the nodes stay as were.

        Raises:
            InvalidInput: there is no query.
            RerankerFailed: the reranker raised, or did not give a finite score for each node.
        """
        if query_bundle is None:
            raise InvalidInput("reranking needs the question; pass query_bundle= or query_str=")
        if not nodes:
            return []
        payload: dict[str, Any] = {
            EventPayload.NODES: nodes,
            EventPayload.MODEL_NAME: type(self.reranker).__name__,
            EventPayload.QUERY_STR: query_bundle.query_str,
            EventPayload.TOP_K: self.top_n,
        }
        with self.callback_manager.event(CBEventType.RERANKING, payload=payload) as event:
            ordered = self._ordered(nodes, query_bundle.query_str)
            event.on_end(payload={EventPayload.NODES: ordered})
        return ordered

    def _ordered(self, nodes: list[NodeWithScore], query: str) -> list[NodeWithScore]:
        # The position stands for the id: of several retrievers' nodes, the same one may be there twice.
        hits = [
            Hit(Chunk(str(at), each.node.get_content(MetadataMode.EMBED)), 0.0, at + 1) for at, each in enumerate(nodes)
        ]
        (ordered,) = rerank(self.reranker, [query], [hits])
        return [self._scored(nodes[int(hit.chunk.id)], hit.score) for hit in ordered[: self.top_n]]

    def _scored(self, given: NodeWithScore, score: float) -> NodeWithScore:
        node = given.node
        if self.keep_retrieval_score:
            node = node.model_copy(update={"metadata": {**node.metadata, "retrieval_score": given.score}})
        return NodeWithScore(node=node, score=score)

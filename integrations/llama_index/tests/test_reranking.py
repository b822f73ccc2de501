"""The node postprocessor."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import reperio
from llama_index.core import VectorStoreIndex
from llama_index.core.llms import MockLLM
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from reperio import CallableReranker

from llama_index.vector_stores.reperio import ReperioEmbedding, ReperioRerank

LENGTH = CallableReranker(lambda _, texts: [float(len(text)) for text in texts])


def scored(*texts: str) -> list[NodeWithScore]:
    return [NodeWithScore(node=TextNode(id_=text, text=text), score=1.0 - at / 10) for at, text in enumerate(texts)]


def test_the_best_come_first_with_the_rerankers_score() -> None:
    """top_n of them; equal scores in the order they came in."""
    found = ReperioRerank(reranker=LENGTH, top_n=3).postprocess_nodes(scored("aa", "b", "cc", "dddd"), query_str="q")
    assert [(each.node_id, each.score) for each in found] == [("dddd", 4.0), ("aa", 2.0), ("cc", 2.0)]
    assert len(ReperioRerank(reranker=LENGTH).postprocess_nodes(scored(*"abcd"), query_str="q")) == 2


def test_inputs_are_not_changed() -> None:
    """Neither the list, nor the nodes, nor their metadata; the retrieval score is kept on request."""
    given = scored("a", "bb")
    before = [each.model_copy(deep=True) for each in given]
    found = ReperioRerank(reranker=LENGTH, keep_retrieval_score=True).postprocess_nodes(given, query_str="q")
    assert given == before
    assert [each.metadata for each in found] == [{"retrieval_score": 0.9}, {"retrieval_score": 1.0}]
    assert ReperioRerank(reranker=LENGTH).postprocess_nodes(given, query_str="q")[0].metadata == {}


def test_it_reads_what_the_embedding_model_reads() -> None:
    """Text and metadata, without the keys excluded from embedding."""
    seen: list[str] = []

    def remember(_: str, texts: Sequence[str]) -> list[float]:
        seen.extend(texts)
        return [0.0] * len(texts)

    node = TextNode(text="text", metadata={"title": "T", "path": "P"}, excluded_embed_metadata_keys=["path"])
    ReperioRerank(reranker=CallableReranker(remember)).postprocess_nodes([NodeWithScore(node=node)], query_str="q")
    assert seen == ["title: T\n\ntext"]


def test_the_same_node_twice_and_no_nodes() -> None:
    """Of two retrievers a node may come twice; of none nothing, and the reranker is not asked."""
    twice = [*scored("a"), *scored("a", "bb")]
    found = ReperioRerank(reranker=LENGTH, top_n=5).postprocess_nodes(twice, query_str="q")
    assert [each.node_id for each in found] == ["bb", "a", "a"]

    def refuse(*_: object) -> list[float]:
        raise AssertionError

    assert ReperioRerank(reranker=CallableReranker(refuse)).postprocess_nodes([], query_str="q") == []


def test_errors_are_named() -> None:
    """No question, no reranker, top_n of 0, scores that are none."""
    with pytest.raises(ValueError, match="needs the question"):
        ReperioRerank(reranker=LENGTH).postprocess_nodes(scored("a"))
    with pytest.raises(ValueError, match="without a score method"):
        ReperioRerank(reranker=len)
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        ReperioRerank(reranker=LENGTH, top_n=0)
    broken = ReperioRerank(reranker=CallableReranker(lambda _, texts: [float("nan")] * len(texts)))
    with pytest.raises(reperio.RerankerFailed, match="finite"):
        broken.postprocess_nodes(scored("a"), query_str="q")


async def test_asynchronously_the_same() -> None:
    """In a thread; class_name for serialised form."""
    made = ReperioRerank(reranker=LENGTH, top_n=1)
    found = await made.apostprocess_nodes(scored("a", "bb"), QueryBundle("q"))
    assert [each.node_id for each in found] == ["bb"]
    assert made.class_name() == made.to_dict()["class_name"] == "ReperioRerank"


def test_in_a_query_engine(embed_model: ReperioEmbedding) -> None:
    """Retrieved by one order, answered from another."""
    nodes = [TextNode(text="short"), TextNode(text="short, but with more words in it")]
    index = VectorStoreIndex(nodes, embed_model=embed_model)
    engine = index.as_query_engine(
        llm=MockLLM(), similarity_top_k=2, node_postprocessors=[ReperioRerank(reranker=LENGTH, top_n=1)]
    )
    assert [each.node.get_content() for each in engine.query("short").source_nodes] == [nodes[1].text]

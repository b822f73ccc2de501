"""Keep a LlamaIndex index up to date: each day only what changed is embedded, in every process.

    pip install 'llama-index-vector-stores-reperio[cpu,minilm]'
    python examples/llama_index_refresh.py

The point is `storage_context=store.storage_context()`: its document store lives in the collection and goes by what is
really stored. With `from_vector_store` the document store would be new and empty, and all documents be inserted again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import Any

from llama_index.core import VectorStoreIndex
from llama_index.core.schema import Document
from llama_index.vector_stores.reperio import ReperioEmbedding, ReperioVectorStore

import reperio
from reperio import DEFAULT_EMBEDDER

MONDAY = {
    "leave": "Employees have 30 days of paid leave a year.",
    "travel": "Train journeys are booked in second class; flights need the approval of the team lead.",
    "password": "Passwords are changed at the self-service portal.",
}
TUESDAY = MONDAY | {"travel": "Flights need the approval of the team lead; trains do not."}


class CountingEmbedder(reperio.SentenceTransformerEmbedder):
    """Counts the texts that it embeds."""

    texts = 0

    def embed_passages(self, texts: Sequence[str]) -> Any:
        """Embed, and count."""
        self.texts += len(texts)
        return super().embed_passages(texts)


def documents(day: dict[str, str]) -> list[Document]:
    """Return what the source holds that day."""
    return [Document(id_=name, text=text) for name, text in day.items()]


def refresh(path: str, embedder: CountingEmbedder, day: dict[str, str], *, deleted: str | None = None) -> str:
    """Open the index as another process would, bring it up to date, and say what that took."""
    with ReperioVectorStore(path) as store:
        model = ReperioEmbedding(embedder)
        index = VectorStoreIndex(nodes=[], storage_context=store.storage_context(), embed_model=model)
        if deleted is not None:
            index.delete_ref_doc(deleted)
        before = embedder.texts
        changed = sum(index.refresh_ref_docs(documents(day)))
        stored = len(index.docstore.get_all_ref_doc_info() or {})
        return f"{changed} new or changed, {embedder.texts - before} texts embedded, {stored} documents"


def main() -> None:
    """Go through four days."""
    embedder = CountingEmbedder(DEFAULT_EMBEDDER)
    without = {name: text for name, text in TUESDAY.items() if name != "travel"}
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/kb"
        print("Monday:", refresh(path, embedder, MONDAY))
        print("Tuesday:", refresh(path, embedder, TUESDAY))
        print("Wednesday, after deleting travel:", refresh(path, embedder, without, deleted="travel"))
        print("Thursday, with travel back:", refresh(path, embedder, TUESDAY))
        with ReperioVectorStore(path, read_only=True) as store:
            index = VectorStoreIndex.from_vector_store(store, embed_model=ReperioEmbedding(embedder))
            question = "What may a flight cost?"
            print(question, index.as_retriever(similarity_top_k=1).retrieve(question)[0].get_content())


if __name__ == "__main__":
    main()

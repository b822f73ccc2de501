"""LlamaIndex on Reperio: a vector store, a document store and a reranker, in one directory.

from llama_index.vector_stores.reperio import ReperioVectorStore

store = ReperioVectorStore(path="kb")
index = VectorStoreIndex.from_documents(documents, storage_context=store.storage_context(), embed_model=…)
index.as_retriever(vector_store_query_mode="hybrid").retrieve("I forgot my password")
"""

from llama_index.vector_stores.reperio.conversion.embedder import LlamaIndexEmbedder, ReperioEmbedding
from llama_index.vector_stores.reperio.docstore import ReperioDocumentStore
from llama_index.vector_stores.reperio.reranking import ReperioRerank
from llama_index.vector_stores.reperio.store import ReperioVectorStore

__version__ = "0.1.0"

__all__ = [
    "LlamaIndexEmbedder",
    "ReperioDocumentStore",
    "ReperioEmbedding",
    "ReperioRerank",
    "ReperioVectorStore",
]

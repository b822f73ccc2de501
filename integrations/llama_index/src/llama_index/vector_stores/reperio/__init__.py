"""LlamaIndex on Recollect: a vector store, a document store and a reranker, in one directory.

from llama_index.vector_stores.recollect import RecollectVectorStore

store = RecollectVectorStore(path="kb")
index = VectorStoreIndex.from_documents(documents, storage_context=store.storage_context(), embed_model=…)
index.as_retriever(vector_store_query_mode="hybrid").retrieve("I forgot my password")
"""

from llama_index.vector_stores.recollect.docstore import RecollectDocumentStore
from llama_index.vector_stores.recollect.embedder import LlamaIndexEmbedder, RecollectEmbedding
from llama_index.vector_stores.recollect.reranking import RecollectRerank
from llama_index.vector_stores.recollect.store import RecollectVectorStore

__version__ = "0.1.0"

__all__ = [
    "LlamaIndexEmbedder",
    "RecollectDocumentStore",
    "RecollectEmbedding",
    "RecollectRerank",
    "RecollectVectorStore",
]

"""LangChain on Recollect: a vector store, retrievers, reranking, and the indexing API's records, in one directory.

from langchain_recollect import RecollectVectorStore

store = RecollectVectorStore(embedding=embeddings, path="kb")
store.add_texts(["To reset your password, follow the link."], [{"lang": "en"}])
store.similarity_search("I forgot my password", k=3, filter={"lang": "en"})
"""

from langchain_recollect.compressor import RecollectRerank
from langchain_recollect.embedder import LangChainEmbedder, RecollectEmbeddings
from langchain_recollect.filters import RecollectTranslator
from langchain_recollect.records import RecollectRecordManager
from langchain_recollect.retriever import RecollectRetriever
from langchain_recollect.search_types import RecollectVectorStoreRetriever
from langchain_recollect.store import RecollectVectorStore

__version__ = "0.1.0"

__all__ = [
    "LangChainEmbedder",
    "RecollectEmbeddings",
    "RecollectRecordManager",
    "RecollectRerank",
    "RecollectRetriever",
    "RecollectTranslator",
    "RecollectVectorStore",
    "RecollectVectorStoreRetriever",
]

"""LangChain on Reperio: a vector store, retrievers, reranking, and the indexing API's records, in one directory.

from langchain_reperio import ReperioVectorStore

store = ReperioVectorStore(embedding=embeddings, path="kb")
store.add_texts(["To reset your password, follow the link."], [{"lang": "en"}])
store.similarity_search("I forgot my password", k=3, filter={"lang": "en"})
"""

from langchain_reperio.conversion.embedder import LangChainEmbedder, ReperioEmbeddings
from langchain_reperio.conversion.filters import ReperioTranslator
from langchain_reperio.ledger import ReperioRecordManager
from langchain_reperio.reranking import ReperioRerank
from langchain_reperio.retriever import ReperioRetriever
from langchain_reperio.search_types import ReperioVectorStoreRetriever
from langchain_reperio.store import ReperioVectorStore

__version__ = "0.1.0"

__all__ = [
    "LangChainEmbedder",
    "ReperioEmbeddings",
    "ReperioRecordManager",
    "ReperioRerank",
    "ReperioRetriever",
    "ReperioTranslator",
    "ReperioVectorStore",
    "ReperioVectorStoreRetriever",
]

"""What is deployed, as a search that the gate can ask: functions, retrievers, HTTP endpoints, runs in files."""

from reperio.evaluation.deployed.choosing import Deployed
from reperio.evaluation.deployed.endpoint import Endpoint
from reperio.evaluation.deployed.functions import load_embedder, load_reranker, load_search
from reperio.evaluation.deployed.retrievers import from_langchain, from_llama_index
from reperio.evaluation.deployed.runs import RunSearch, read_run, write_run

__all__ = [
    "Deployed",
    "Endpoint",
    "RunSearch",
    "from_langchain",
    "from_llama_index",
    "load_embedder",
    "load_reranker",
    "load_search",
    "read_run",
    "write_run",
]

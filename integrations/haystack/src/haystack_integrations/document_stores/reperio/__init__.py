"""A Haystack document store in a Reperio collection: one directory, durable when a call returns."""

from haystack_integrations.document_stores.reperio.documents import HAS_VECTOR
from haystack_integrations.document_stores.reperio.store import ReperioDocumentStore

__version__ = "0.1.0"

__all__ = ["HAS_VECTOR", "ReperioDocumentStore"]

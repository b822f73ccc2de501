"""Keep the questions that a collection is asked, and read them again."""

from reperio.query_log.reading import FIELDS, LoggedQuestion, Queries, read_log, read_queries
from reperio.query_log.recording import QueryLog, QueryRecorder

__all__ = ["FIELDS", "LoggedQuestion", "Queries", "QueryLog", "QueryRecorder", "read_log", "read_queries"]

"""The facade, and what it is made of: the only room that knows both index and store."""

from reperio.collection.advising import advise
from reperio.collection.doctor import Diagnosis, Finding, diagnose
from reperio.collection.facade import Collection
from reperio.collection.incrementing import BackupInfo
from reperio.collection.opening import open
from reperio.collection.recording import QueryLog
from reperio.collection.records import Records
from reperio.collection.restoring import backups, restore

__all__ = [
    "BackupInfo",
    "Collection",
    "Diagnosis",
    "Finding",
    "QueryLog",
    "Records",
    "advise",
    "backups",
    "diagnose",
    "open",
    "restore",
]

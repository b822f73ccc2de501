"""The facade, and what it is made of: the only room that knows both index and store."""

from recollect.collection.advising import advise
from recollect.collection.doctor import Diagnosis, Finding, diagnose
from recollect.collection.facade import Collection
from recollect.collection.incrementing import BackupInfo
from recollect.collection.opening import open
from recollect.collection.recording import QueryLog
from recollect.collection.records import Records
from recollect.collection.restoring import backups, restore

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

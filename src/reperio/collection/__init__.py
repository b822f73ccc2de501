"""The facade, and what it is made of: the only room that knows both index and store."""

from reperio.collection.advising import advise
from reperio.collection.backup.incremental import BackupInfo
from reperio.collection.facade import Collection
from reperio.collection.ledger import Records
from reperio.collection.opening import open

__all__ = ["BackupInfo", "Collection", "Records", "advise", "open"]

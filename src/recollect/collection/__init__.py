"""The facade, and what it is made of: the only room that knows both index and store."""

from recollect.collection.advising import advise
from recollect.collection.facade import Collection
from recollect.collection.opening import open
from recollect.collection.records import Records

__all__ = ["Collection", "Records", "advise", "open"]

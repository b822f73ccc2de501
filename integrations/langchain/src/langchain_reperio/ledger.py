"""The indexing API's memory of what has been indexed, kept in the collection itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from langchain_core.indexing import RecordManager
from langchain_core.runnables.config import run_in_executor
from reperio import Collection
from reperio.errors import InvalidInput

if TYPE_CHECKING:
    from langchain_reperio.store import ReperioVectorStore


class ReperioRecordManager(RecordManager):
    """A ``RecordManager`` in the database of a collection: no second database can be lost, or go astray.

    Its records are durable when a call returns, and are carried along by backups, compaction and re-embedding. Its
    clock never runs backwards, which is what the cleanup modes of `langchain_core.indexing.index` rely on.

    Args:
        namespace: keeps the records of several sources apart, at most 1,024 characters. It does not keep their
            documents apart: LangChain's ids are hashes of text and metadata, without the namespace. So a document that
            two namespaces index is stored once, and a cleanup of either deletes it for both. Where sources may overlap,
            let their metadata differ (the source in it does), give each a store (``collection_name=``), or pass
            *verify*, so that the other namespace indexes again what it misses.
        store: a `ReperioVectorStore`, or a `reperio.Collection`.
        verify: hold a document for indexed only if it is also stored. Without it, as LangChain has it, what was deleted
            from the store by other means than `index` is never indexed again, since its record remains.
    """

    def __init__(self, namespace: str, store: ReperioVectorStore | Collection, *, verify: bool = False) -> None:
        if not isinstance(namespace, str):
            raise InvalidInput(f"namespace is a {type(namespace).__name__}; pass a name for the records")
        collection = store if isinstance(store, Collection) else getattr(store, "collection", None)
        if not isinstance(collection, Collection):
            raise InvalidInput(
                f"store is a {type(store).__name__}; pass a ReperioVectorStore, or a Collection of Reperio"
            )
        super().__init__(namespace)
        self._collection = collection
        self._records = self._collection.records(f"langchain:{namespace}")
        self._verify = verify

    def create_schema(self) -> None:
        """Do nothing: the collection has its schema."""

    async def acreate_schema(self) -> None:
        """Do nothing: the collection has its schema."""

    def get_time(self) -> float:
        """Return the time in seconds since the epoch, by a clock that never runs backwards."""
        return self._records.time()

    async def aget_time(self) -> float:
        """Return the same."""
        return await run_in_executor(None, self.get_time)

    def update(
        self,
        keys: Sequence[str],
        *,
        group_ids: Sequence[str | None] | None = None,
        time_at_least: float | None = None,
    ) -> None:
        """Write down that *keys* are indexed as of now, in one commit.

        Args:
            keys: ids of documents.
            group_ids: what each belongs to, its source; None for nothing.
            time_at_least: refuse if the clock is behind this time.

        Raises:
            InvalidInput: numbers that differ, or a *time_at_least* in the future.
        """
        if group_ids and len(keys) != len(group_ids):
            raise InvalidInput(f"{len(keys)} keys with {len(group_ids)} group_ids; pass one per key, or none")
        if time_at_least is not None and time_at_least > (now := self.get_time()):
            raise InvalidInput(f"time_at_least is {time_at_least!r}, and it is only {now!r}; it must be in the past")
        self._records.put(keys, groups=group_ids or None)

    async def aupdate(
        self,
        keys: Sequence[str],
        *,
        group_ids: Sequence[str | None] | None = None,
        time_at_least: float | None = None,
    ) -> None:
        """Do the same."""
        await run_in_executor(None, self.update, keys, group_ids=group_ids, time_at_least=time_at_least)

    def exists(self, keys: Sequence[str]) -> list[bool]:
        """Say of each key whether it is written down (and stored; see *verify*)."""
        known = [record is not None for record in self._records.get(keys)]
        if not self._verify:
            return known
        stored = {
            chunk.id for chunk in self._collection.get([key for key, there in zip(keys, known, strict=True) if there])
        }
        return [key in stored for key in keys]

    async def aexists(self, keys: Sequence[str]) -> list[bool]:
        """Say the same."""
        return await run_in_executor(None, self.exists, keys)

    def list_keys(
        self,
        *,
        before: float | None = None,
        after: float | None = None,
        group_ids: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> list[str]:
        """Return keys in their order.

        Args:
            before, after: only those written down before, or after, this time; itself excluded.
            group_ids: only those of these sources; as LangChain has it, an empty list means all.
            limit: at most so many.
        """
        found = self._records.list(before=before, after=after, groups=group_ids or None, limit=limit)
        return [record.key for record in found]

    async def alist_keys(
        self,
        *,
        before: float | None = None,
        after: float | None = None,
        group_ids: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> list[str]:
        """Return the same."""
        return await run_in_executor(None, self.list_keys, before=before, after=after, group_ids=group_ids, limit=limit)

    def delete_keys(self, keys: Sequence[str]) -> None:
        """Forget keys; one that is not there is no error."""
        self._records.delete(keys)

    async def adelete_keys(self, keys: Sequence[str]) -> None:
        """Forget the same."""
        await run_in_executor(None, self.delete_keys, keys)

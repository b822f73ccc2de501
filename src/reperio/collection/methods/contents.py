"""Read what is stored, by id or by filter, and tell what is known of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, overload

from typing_extensions import Never

from reperio.arguments import id_list, refuse_unknown, require_count, require_page
from reperio.collection import examining, reading
from reperio.collection.describing import describe
from reperio.collection.handle.handle import Handle
from reperio.collection.handle.scope import Where
from reperio.collection.ledger import Records
from reperio.collection.methods.naming import methods_of_collection
from reperio.collection.methods.twins import twin
from reperio.errors import InvalidInput
from reperio.types import Chunk, CollectionInfo, FloatMatrix


@methods_of_collection
class Contents:
    """The methods that read and describe what a collection holds."""

    _handle: Handle

    @overload
    def get(self, ids: str, *, where: Where = None) -> Chunk | None: ...  # type: ignore[overload-overlap]  # a str is one id, not an iterable of them

    @overload
    def get(self, ids: Iterable[str], *, where: Where = None) -> list[Chunk]: ...

    @overload
    def get(
        self, ids: None = None, *, where: Where = None, limit: int | None = None, offset: int = 0
    ) -> list[Chunk]: ...

    def get(
        self,
        ids: str | Iterable[str] | None = None,
        *,
        where: Where = None,
        limit: int | None = None,
        offset: int = 0,
        **unknown: Never,
    ) -> Chunk | list[Chunk] | None:
        """Return chunks by id, or those that match a filter.

        The overloads tell type checkers what comes back: for one id a `Chunk`, or None where it is absent; for several
        ids, or without ids, a list.

        Args:
            ids: one id: its chunk, or None; several: those that exist, in the order asked for.
            where: only chunks that match, as in `search`; without ids in the order of adding, all without a filter.
            limit, offset: without ids: how many at most, and how many to pass over first.
        """
        refuse_unknown(Contents.get, unknown)
        if ids is None:
            self._handle.require_open()
            require_page(limit, offset)
            return reading.selected(self._handle, self._handle.scope.narrowed(where), limit=limit, offset=offset)
        if limit is not None or offset:
            raise InvalidInput("limit= and offset= are for get without ids; leave them out")
        wanted = id_list(ids)
        found = reading.among(self._handle, wanted, self._handle.scope.narrowed(where))
        if isinstance(ids, str):
            return found.get(ids)
        return [found[key] for key in wanted if key in found]

    def vectors(self, ids: Iterable[str] | str, **unknown: Never) -> FloatMatrix:
        """Return the vectors of chunks as they are compared: float32, shape (number of ids, d), in the order asked for.

        Under cosine they have length 1; those kept as float16 are rounded to that.

        Raises:
            InvalidInput: an id does not exist; the rows would no longer belong to the ids.
        """
        refuse_unknown(Contents.vectors, unknown)
        self._handle.require_open()
        return reading.vectors(self._handle, id_list(ids))

    def ids(self, *, where: Where = None, **unknown: Never) -> list[str]:
        """Return the ids of the chunks that match a filter, or of all, in the order of adding."""
        refuse_unknown(Contents.ids, unknown)
        self._handle.require_open()
        return reading.selected_ids(self._handle, self._handle.scope.narrowed(where))

    def __iter__(self) -> Iterator[Chunk]:
        """Go through all chunks of one committed state, in the order of adding.

        The iteration holds a read transaction, so that neither commits nor a compaction disturb it; meanwhile SQLite
        cannot shorten its write-ahead log.
        """
        return reading.everything(self._handle)

    def __contains__(self, chunk_id: object) -> bool:
        """Say whether a chunk with this id is there (within the scope), without reading it.

        Raises:
            InvalidInput: it is no id, and so could never be there.
        """
        if not isinstance(chunk_id, str):
            raise InvalidInput(
                f"`in` asks for an id, a string, not for a {type(chunk_id).__name__}: write chunk.id in kb"
            )
        self._handle.require_open()
        return reading.holds(self._handle, id_list(chunk_id)[0])

    def __len__(self) -> int:
        """Return the number of chunks, as `count` does."""
        return self.count()

    def __bool__(self) -> bool:
        """Return True, also of an empty collection: ``if kb:`` asks whether there is one."""
        return True

    def count(self, *, where: Where = None, **unknown: Never) -> int:
        """Return the number of chunks, or of those that match a filter."""
        refuse_unknown(Contents.count, unknown)
        self._handle.require_open()
        return reading.count(self._handle, self._handle.scope.narrowed(where))

    def info(self) -> CollectionInfo:
        """Describe the collection. Through a scope, leave out what tells how much others store."""
        return describe(self._handle)

    def fingerprint(self) -> dict[str, Any]:
        """Return the settings that answers depend on: metric, dimension, embedder, prompts, and the like.

        Under "canaries" are the cosines of the contract's canary texts to each other, which tell a model from others.
        """
        self._handle.require_open()
        return examining.fingerprint(self._handle)

    def sample_queries(self, number: int, **unknown: Never) -> FloatMatrix:
        """Return at most *number* held-out queries, float32 (n, d), always the same ones of the same chunks.

        They are those that `optimize` was given, else stored vectors displaced from where they are stored.

        Raises:
            InvalidInput: the collection is empty.
        """
        refuse_unknown(Contents.sample_queries, unknown)
        require_count("number", number)
        self._handle.scope.refuse("sample_queries()")
        return examining.sample_queries(self._handle, int(number))

    def records(self, space: str) -> Records:
        """Return a small ledger that is kept with the collection: keys with a JSON value, a group, and a time.

        For what a program must remember about what it has stored, such as which documents are up to date, so that no
        second database can be lost or go astray.

        Args:
            space: a name of the caller's, of at most 1,024 characters; what is in one space is seen in no other.
        """
        self._handle.require_open()
        return Records(self._handle, space)

    aget, avectors, aids = twin(get), twin(vectors), twin(ids)
    acount, ainfo = twin(count), twin(info)

"""The facade: what a user holds."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any

from typing_extensions import Never, Self

from reperio.collection import reading
from reperio.collection.handle.embedder import LazyEmbedder
from reperio.collection.handle.handle import Handle
from reperio.collection.handle.scope import Where
from reperio.collection.methods.comparing import Comparing
from reperio.collection.methods.contents import Contents
from reperio.collection.methods.maintenance import Maintenance
from reperio.collection.methods.searching import Searching
from reperio.collection.methods.twins import twin
from reperio.collection.methods.writing import Writing
from reperio.collection.search.answering import Asker
from reperio.errors import InvalidInput
from reperio.filters import to_dict
from reperio.layout import IN_MEMORY
from reperio.query_log.recording import QueryRecorder
from reperio.types import Chunk, Embedder, FloatMatrix


class Collection(Searching, Contents, Comparing, Writing, Maintenance):
    """Keep chunks, their vectors and an index in one directory. Use `reperio.open` to make one.

    Any number of threads may use one handle; searches run side by side, writes one after the other. Any number of
    handles, in any number of processes, may write: they take turns. After a fork, the child's copy of a handle opens
    itself again at its first use. Each method has a twin to be awaited: `asearch`, `aadd`, and so on.
    """

    def __init__(self, handle: Handle, embedder: LazyEmbedder, recorder: QueryRecorder | None = None) -> None:
        self._handle = handle
        self._embedder = embedder
        self._recorder = recorder
        self._asker = Asker(handle, recorder)

    def close(self) -> None:
        """Finish a build that is due, and release the files; doing so twice is no error.

        Nothing is lost without it. Where Python ends first, it waits for an index build under way, for at most ten
        seconds, and daemon threads can begin no other. Inside `turn` it is refused.
        """
        self._handle.require_no_turn()
        self._handle.close()
        if self._recorder is not None:
            self._recorder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __reduce__(self) -> Never:
        if self._path == IN_MEMORY:
            raise InvalidInput(
                "a Collection in memory is this process's alone; give it a path to use it in another one"
            )
        raise InvalidInput(
            f"a Collection cannot be pickled, as for another process: pass its path, {self._path!r}, and open it there "
            "with reperio.open(path)"
        )

    def __repr__(self) -> str:
        mode = "closed" if self._handle.closed else "read-only" if self._handle.read_only else "read-write"
        return f"<reperio.Collection {self._path!r} ({mode})>"

    @property
    def scope(self) -> dict[str, Any] | None:
        """The filter that this handle is confined to, as a dictionary that `open` takes; None for the whole."""
        tree = self._handle.scope.tree
        return None if tree is None else to_dict(tree)

    @property
    def read_only(self) -> bool:
        """Whether this handle only searches."""
        return self._handle.read_only

    @property
    def embedder(self) -> Embedder | None:
        """The embedder, loaded and checked against the contract; None where vectors are brought ready-made.

        Raises:
            EmbeddingContractError, EmbedderFailed, MissingDependency: it cannot be had.
        """
        self._handle.require_open()
        return self._embedder.get(self._handle.settings())

    @property
    def _path(self) -> str:
        return self._handle.name

    def _with_vectors(self, ids: Sequence[str] | None, where: Where) -> tuple[list[Chunk], FloatMatrix]:
        return reading.with_vectors(self._handle, ids, self._handle.scope.narrowed(where))

    aclose = twin(close, writes=True)


def with_vectors(
    collection: Collection, *, ids: Sequence[str] | None = None, where: Where = None
) -> tuple[list[Chunk], FloatMatrix]:
    """Return chunks and their vectors, of one committed state: those with these ids that exist, else what matches."""
    return collection._with_vectors(ids, where)


def handle_of(collection: Collection) -> Handle:
    """Return what a collection stands on, for the rooms above that copy or export all of it."""
    return collection._handle

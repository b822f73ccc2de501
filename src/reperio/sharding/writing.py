"""Write to shards: each chunk goes to the shard of its id, and is durable when the call returns.

There is no transaction over shards. Each shard commits its part of a batch by itself; where one cannot, the others
still do, and `ShardWriteFailed` names what is stored. To say the same again completes it: a chunk that is stored is
compared and left, an id that is deleted is no error. docs/decisions/0025-shards.md says why.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

from typing_extensions import Never, Self

from reperio.arguments import id_list, refuse_unknown, require_count, require_limits, require_within
from reperio.collection.facade import Collection, handle_of
from reperio.collection.handle.embedder import resolve
from reperio.collection.handle.scope import Where, to_filter
from reperio.collection.write.batches import batches
from reperio.collection.write.preparing import check_chunks, require_sizes
from reperio.errors import (
    CollectionClosed,
    CollectionLocked,
    InvalidInput,
    ReperioError,
    ShardWriteFailed,
    UnknownOption,
)
from reperio.forks import ForkSafeLock
from reperio.printable import one_line
from reperio.sharding.manifest import ShardManifest
from reperio.sharding.shard_set import ShardSet
from reperio.types import AddResult, Chunk, Embedder, Limits, Progress
from reperio.vectors import to_matrix

Result = TypeVar("Result")
DEFAULT_BATCH = 1000
_THREADS = 8  # shards that commit at a time
_MOVES = 20  # exchanges of the manifest that one batch follows


class ShardWriter:
    """Add, replace and delete chunks of shards. For any number of threads, processes and hosts.

    Args:
        path: directory that has ``shards.json``.
        embedder: as in `open`; by default the recorded one is loaded when a text must first be embedded.
        lock_timeout: seconds that each shard's commit waits for those of others; a split waits for it, too.
        limits: as in `open`.

    Raises:
        CollectionNotFound, NotACollection, CollectionDamaged, UnsupportedFormat, StorageFailed: what is at the path
            cannot be used.
        EmbeddingContractError: the embedder is not the one the vectors were made with.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        embedder: Embedder | str | None = None,
        lock_timeout: float = 30.0,
        limits: Limits | None = None,
        **unknown: Never,
    ) -> None:
        refuse_unknown(ShardWriter, unknown)
        self._limits = require_limits(limits)
        options: dict[str, Any] = {"lock_timeout": lock_timeout, "limits": limits}
        if embedder is not None:
            options["embedder"] = resolve(embedder)  # one model for all shards
        self._shards = ShardSet(path, read_only=False, **options)
        self._given = embedder is not None
        if self._given and self.manifest.settings.contract is None:
            self._shards.close()
            raise InvalidInput(
                f"the vectors of {self._shards.root} were brought ready-made, and no embedder is recorded; leave "
                "embedder= out, and pass vectors="
            )
        self._threads: dict[int, ThreadPoolExecutor] = {}
        self._loading = ForkSafeLock()
        self._closed = False

    @property
    def manifest(self) -> ShardManifest:
        """The shards that are written to, as of the last call."""
        return self._shards.manifest

    def add(
        self,
        chunks: Iterable[Chunk],
        *,
        vectors: Any | None = None,
        batch_size: int = DEFAULT_BATCH,
        progress: Progress | None = None,
        **unknown: Never,
    ) -> AddResult:
        """Store chunks, and replace those whose id is stored already; see `Collection.add`.

        Args:
            chunks, vectors, progress: as there.
            batch_size: chunks that are spread over the shards at a time; each shard makes one commit of its part.

        Raises:
            InvalidChunk, InvalidVectors: nothing of the batch in question is stored, those before it are.
            ShardWriteFailed: of the batch in question, some shards have stored their part, and others have not.
            ReperioError: whatever a shard has raised, where no shard has stored anything of the batch.
        """
        refuse_unknown(ShardWriter.add, unknown)
        require_count("batch_size", batch_size)
        require_within("batch_size", batch_size, self._limits.batch, "batch")
        result, done = AddResult(), 0
        total = len(chunks) if isinstance(chunks, Sequence) else None
        for batch, part in batches(chunks, vectors, batch_size):
            try:
                result += self._add_batch(batch, part, done)
            except ReperioError as error:
                before = f" [the {done} chunks of the batches before are stored]" if done else ""
                error.args = (f"{error}{before}", *error.args[1:])
                raise
            done += len(batch)
            if progress is not None:
                progress("add", done, total)
        return result

    upsert = add
    """The same: `add` replaces what is stored under an id."""

    def delete(
        self, *given: Never, ids: Iterable[str] | str | None = None, where: Where = None, **unknown: Never
    ) -> int:
        """Delete chunks by id, by filter, or by both, and return how many there were; see `Collection.delete`.

        Raises:
            ShardWriteFailed: some shards have deleted their part, and others have not.
        """
        refuse_unknown(ShardWriter.delete, unknown)
        if given:
            raise UnknownOption("delete takes keywords alone: delete(ids=['a', …]), delete(where={…}), or both")
        if ids is None and (where is None or to_filter(where) is None):
            raise InvalidInput("delete takes ids=, where= that does not match everything, or both")
        if ids is not None:
            wanted = {one: one for one in id_list(ids)}
            return sum(self._routed(wanted, lambda kb, part: kb.delete(ids=list(part), where=where)))
        return self._everywhere(lambda kb: kb.delete(where=where))

    def close(self) -> None:
        """Release the files; doing so twice is no error. Nothing is lost without it."""
        self._closed = True
        threads = self._threads.get(os.getpid())
        if threads is not None:
            threads.shutdown()
        self._shards.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _add_batch(self, batch: list[Chunk], vectors: Any | None, first: int) -> AddResult:
        """Check a batch as a whole, before any shard has some of it, and store it."""
        self._require_open()
        self._shards.refresh()
        require_sizes(check_chunks(batch, first), self._limits)
        self._share_embedder(vectors)
        rows: Mapping[str, int] = {chunk.id: at for at, chunk in enumerate(batch)}
        matrix: Any = None
        if vectors is not None:
            settings = self.manifest.settings
            # Checked as a whole here; each shard takes the caller's, so that they are scaled once.
            to_matrix(vectors, dimension=self._dimension(), metric=settings.metric, what="vectors", first=first)
            matrix = vectors

        def store(kb: Collection, part: Mapping[str, int]) -> AddResult:
            own = None if matrix is None else [matrix[at] for at in part.values()]
            return kb.add([batch[at] for at in part.values()], vectors=own, batch_size=max(1, len(part)))

        return sum(self._routed(rows, store, at_once=vectors is not None), AddResult())

    def _dimension(self) -> int:
        _, opened = self._shards.state()
        return handle_of(next(iter(opened.values()))).generation.settings.dimension

    def _share_embedder(self, vectors: Any | None) -> None:
        """Load the recorded model once for all shards, when a text must first be embedded."""
        if vectors is not None or self._given or self.manifest.settings.contract is None:
            return
        with self._loading:
            if not self._given:
                _, opened = self._shards.state()
                self._shards.reopen(embedder=next(iter(opened.values())).embedder)
                self._given = True

    def _routed(
        self, items: Mapping[str, Any], call: Callable[[Collection, Mapping[str, Any]], Result], *, at_once: bool = True
    ) -> list[Result]:
        """Call each shard with its items, and follow the manifest where shards were exchanged meanwhile.

        Where an exchange is killed after it has replaced the manifest, the old shard may be there still, and commit
        what was waiting for its turn. So what a shard has done which is not named any more is done again, in its place:
        what came before the exchange was carried over, and is found unchanged. It counts as it did the first time.

        Args:
            items: by id.
            call: returns what a shard says.
            at_once: in several threads; else one after the other, so that a model is not asked by all of them.
        """
        self._require_open()
        results: list[Result] = []
        left, counted = dict(items), set[str]()
        failures: dict[str, ReperioError] = {}
        for _ in range(_MOVES):
            self._shards.refresh()
            manifest, opened = self._shards.state()
            parts = _parts(manifest, left, counted)
            asked = [(name, opened[name], part) for (name, _), part in parts.items()]
            answers = self._each(asked, call, at_once=at_once)
            moved = self._moved(manifest, opened)
            failures = {}
            for (name, again), part, found in zip(parts, parts.values(), answers, strict=True):
                if isinstance(found, ReperioError):
                    failures[name] = found
                    continue
                if not again:
                    results.append(found)
                    counted.update(part)
                for chunk_id in part:
                    if not moved or self.manifest.shard_of(chunk_id).name == name:
                        del left[chunk_id]
            if not (left and moved):
                break
        if left:
            root, name = self._shards.root, self.manifest.shard_of(next(iter(left))).name
            restless = CollectionLocked(f"the shards of {root} are exchanged again and again; try again later")
            raise _told(failures or {name: restless}, [one for one in items if one not in left], list(left))
        return results

    def _everywhere(self, call: Callable[[Collection], int]) -> int:
        """Call every shard; after an exchange of shards all again, since what is done is done."""
        self._require_open()
        total, failures = 0, dict[str, ReperioError]()
        for _ in range(_MOVES):
            self._shards.refresh()
            manifest, opened = self._shards.state()
            asked: list[tuple[str, Collection, dict[str, Any]]] = [(name, kb, {}) for name, kb in opened.items()]
            failures = {}
            for (name, _, _), found in zip(asked, self._each(asked, lambda kb, _: call(kb)), strict=True):
                if isinstance(found, ReperioError):
                    failures[name] = found
                else:
                    total += found
            if not self._moved(manifest, opened):
                break
        if failures:
            some = f"{total} chunks of the other shards are deleted"
            raise _told(failures, [], [], some=some if len(failures) < len(self._shards) else "")
        return total

    def _moved(self, manifest: ShardManifest, opened: Mapping[str, Collection]) -> bool:
        """Say whether shards were exchanged or opened again since; another thread may have done or seen it first."""
        if self._closed:
            return False
        self._shards.refresh()
        now, found = self._shards.state()
        return now.version != manifest.version or any(found.get(name) is not kb for name, kb in opened.items())

    def _each(
        self,
        asked: Sequence[tuple[str, Collection, Mapping[str, Any]]],
        call: Callable[[Collection, Mapping[str, Any]], Result],
        *,
        at_once: bool = True,
    ) -> list[Result | ReperioError]:
        def one(each: tuple[str, Collection, Mapping[str, Any]]) -> Result | ReperioError:
            try:
                return call(each[1], each[2])
            except ReperioError as error:
                return error

        if not at_once or len(asked) < 2:
            return list(map(one, asked))
        answers = [self._begun(one, each) for each in asked]
        return [answer() for answer in answers]

    def _begun(self, call: Callable[[Any], Result], each: Any) -> Callable[[], Result]:
        """Begin a call in a thread, and return what waits for its result."""
        process = os.getpid()
        try:
            threads = self._threads.get(process)  # a forked child has no threads of its parent
            if threads is None:
                made = ThreadPoolExecutor(_THREADS, thread_name_prefix="reperio-shards")
                threads = self._threads.setdefault(process, made)
            return threads.submit(call, each).result
        except RuntimeError:  # Python is ending, or another thread has closed this
            return partial(call, each)

    def _require_open(self) -> None:
        if self._closed:
            raise CollectionClosed(f"this writer of {self._shards.root} is closed; open another one")


def _parts(
    manifest: ShardManifest, items: Mapping[str, Any], counted: Container[str]
) -> dict[tuple[str, bool], dict[str, Any]]:
    """Return the items of each shard, by its name; those that are counted already are for themselves."""
    parts: dict[tuple[str, bool], dict[str, Any]] = {}
    for chunk_id, item in items.items():
        parts.setdefault((manifest.shard_of(chunk_id).name, chunk_id in counted), {})[chunk_id] = item
    return parts


def _told(
    failures: Mapping[str, ReperioError], stored: Sequence[str], failed: Sequence[str], *, some: str = ""
) -> ReperioError:
    """Return what to raise: the error itself where nothing was done, else which part was."""
    name, first = next(iter(failures.items()))
    if not stored and not some:
        return first
    others = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
    done = some or f"{len(stored)} of {len(stored) + len(failed)} chunks are done, the other {len(failed)} are not"
    error = ShardWriteFailed(
        f"{name}{others} has refused its part: {one_line(str(first))} [{done}; the same call again completes it]",
        failures,
    )
    error.stored_ids, error.failed_ids, error.ids = stored, failed, [*stored, *failed]
    error.__cause__ = first
    return error

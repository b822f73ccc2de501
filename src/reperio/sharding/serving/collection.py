"""The facade of shards: the reading half of a `Collection`, answered by all shards together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from typing_extensions import Never

from reperio.arguments import id_list, refuse_unknown, require_count, require_page
from reperio.collection.facade import Collection
from reperio.collection.handle.handle import Handle
from reperio.collection.handle.scope import Where
from reperio.collection.methods.comparing import Comparing
from reperio.collection.methods.maintenance import Maintenance
from reperio.collection.methods.twins import twin
from reperio.collection.methods.writing import Writing
from reperio.collection.search.answering import Asker
from reperio.errors import InvalidInput
from reperio.filters import Filter
from reperio.query_log.recording import QueryRecorder
from reperio.sharding.serving.asking import FollowingEmbedder, ShardAsker, narrowed
from reperio.sharding.serving.fleet import Fleet
from reperio.sharding.serving.handle import ShardsHandle
from reperio.sharding.serving.messages import Read, ReadIds, Select, Selected
from reperio.types import Chunk, CollectionInfo, FloatMatrix, IndexInfo

_BLOCK = 1000  # chunks read at a time


@dataclass(frozen=True, slots=True)
class ShardStatus:
    """What is known of one shard.

    Attributes:
        name: of the shard.
        replicas: that answer.
        late: of these, those that have not answered a question within the hedging time.
        replaced: replicas that were lost or frozen, and were replaced, since this was opened.
    """

    name: str
    replicas: int
    late: int
    replaced: int


class ShardedCollection(Collection):
    """Search shards as one collection. Use `reperio.open_shards` to make one.

    It has all that reads: `search`, `search_many`, `get`, `ids`, `count`, `vectors`, `embed`, `info`, and their twins.
    Answers are those of one collection with the chunks of all shards; equal scores are in the order of the rows in the
    shards, and of equal rows in that of the shards. What writes, or works on the files, is refused.
    """

    def __init__(
        self,
        handle: ShardsHandle,
        embedder: FollowingEmbedder,
        recorder: QueryRecorder | None = None,
        *,
        allow_partial: bool = False,
    ) -> None:
        super().__init__(cast("Handle", handle), embedder, recorder)  # it has what the methods for reading ask of it
        self._shards = handle
        asker = ShardAsker(handle, embedder, recorder, allow_partial=allow_partial)
        self._asker = cast("Asker", asker)

    def get(
        self,
        ids: str | Iterable[str] | None = None,
        *,
        where: Where = None,
        limit: int | None = None,
        offset: int = 0,
        **unknown: Never,
    ) -> Any:
        """Return chunks by id, or those that match a filter: see `Collection.get`."""
        refuse_unknown(ShardedCollection.get, unknown)
        tree = self._tree(where)
        if ids is None:
            require_page(limit, offset)
            wanted = self._selected(tree, None if limit is None else offset + limit)[offset:]
            found = self._read(wanted, tree).chunks
            return [found[key] for key in wanted if key in found]
        if limit is not None or offset:
            raise InvalidInput("limit= and offset= are for get without ids; leave them out")
        wanted = id_list(ids)
        found = self._read(wanted, tree).chunks
        if isinstance(ids, str):
            return found.get(ids)
        return [found[key] for key in wanted if key in found]

    def vectors(self, ids: Iterable[str] | str, **unknown: Never) -> FloatMatrix:
        """Return the vectors of chunks: see `Collection.vectors`."""
        refuse_unknown(ShardedCollection.vectors, unknown)
        wanted = id_list(ids)
        found = self._read(wanted, self._tree(None), "vectors").vectors
        missing = next((key for key in wanted if key not in found), None)
        if missing is not None:
            raise InvalidInput(f"there is no chunk {missing!r:.200} to return the vector of; ask get() which there are")
        return np.stack([found[key] for key in wanted]) if wanted else self._no_vectors()

    def ids(self, *, where: Where = None, **unknown: Never) -> list[str]:
        """Return the ids of the chunks that match a filter, or of all: see `Collection.ids`."""
        refuse_unknown(ShardedCollection.ids, unknown)
        return self._selected(self._tree(where), None)

    def __iter__(self) -> Iterator[Chunk]:
        """Go through the chunks that are there when it begins; those that are deleted meanwhile are left out."""
        tree, wanted = self._tree(None), self.ids()
        for first in range(0, len(wanted), _BLOCK):
            block = wanted[first : first + _BLOCK]
            found = self._read(block, tree).chunks
            yield from (found[key] for key in block if key in found)

    def __contains__(self, chunk_id: object) -> bool:
        """Say whether a chunk with this id is there (within the scope)."""
        if not isinstance(chunk_id, str):
            raise InvalidInput(
                f"`in` asks for an id, a string, not for a {type(chunk_id).__name__}: write chunk.id in kb"
            )
        return chunk_id in self._read(id_list(chunk_id), self._tree(None), "there").chunks

    def count(self, *, where: Where = None, **unknown: Never) -> int:
        """Return the number of chunks, or of those that match a filter."""
        refuse_unknown(ShardedCollection.count, unknown)
        answers: list[int] = self._ask_all("count", narrowed(self._tree(where), None))
        return sum(answers)

    def info(self) -> CollectionInfo:
        """Describe the shards together; through a scope, leave out what tells how much others store."""
        each: list[CollectionInfo] = self._ask_all("info", None)
        names = self._shards.steadily(lambda fleet, _, __: [group.name for group in fleet.router.groups])
        if len(names) != len(each):
            return self.info()  # they were exchanged in between
        if self._shards.scope.tree is not None:
            return replace(
                each[0],
                path=self._shards.name,
                count=self.count(),
                deleted=None,
                tail=None,
                index=None,
                disk={},
                generation="",
                origin=None,
            )
        return replace(
            each[0],
            path=self._shards.name,
            count=sum(one.count for one in each),
            deleted=sum(one.deleted or 0 for one in each),
            tail=sum(one.tail or 0 for one in each),
            index=_indexes([one.index for one in each if one.index is not None]),
            disk={
                f"{name}/{file}": size for name, one in zip(names, each, strict=True) for file, size in one.disk.items()
            },
            generation=" ".join(f"{name}:{one.generation}" for name, one in zip(names, each, strict=True)),
            format_version=max(one.format_version for one in each),
        )

    def status(self) -> list[ShardStatus]:
        """Say of each shard how many replicas answer, how many are late, and how many were replaced."""

        def told(fleet: Fleet, _: float, __: int) -> list[ShardStatus]:
            hedge = fleet.router.hedge
            return [
                ShardStatus(
                    group.name,
                    sum(not one.lost for one in group.members),
                    sum(not one.lost and one.age() > hedge for one in group.members),
                    group.replaced,
                )
                for group in fleet.router.groups
            ]

        return self._shards.steadily(told)

    def sample_queries(self, number: int, **unknown: Never) -> FloatMatrix:
        """Return at most *number* held-out queries of all shards: see `Collection.sample_queries`."""
        refuse_unknown(ShardedCollection.sample_queries, unknown)
        require_count("number", number)
        self._shards.scope.refuse("sample_queries()")
        parts: list[FloatMatrix] = self._ask_all("sample", int(number))
        if not any(map(len, parts)):
            raise InvalidInput(f"{self._shards.name} is empty; there are no queries to sample")
        turns = np.concatenate([np.arange(len(part)) for part in parts])  # one of each shard, then another one of each
        return np.concatenate(parts)[np.argsort(turns, kind="stable")[:number]]

    def records(self, space: str) -> Never:
        """Refuse: shards have no ledger in common."""
        del space
        raise InvalidInput(f"{self._shards.name} is sharded, and shards keep no ledger together; use one of your own")

    def __reduce__(self) -> Never:
        raise InvalidInput(
            f"shards cannot be pickled, as for another process: pass {self._shards.name!r}, and open it there with "
            "reperio.open_shards"
        )

    def __repr__(self) -> str:
        return f"<reperio.open_shards({self._shards.name!r}){' (closed)' if self._shards.closed else ''}>"

    def _tree(self, where: Where) -> Filter | None:
        self._shards.require_open()
        return self._shards.scope.narrowed(where)

    def _ask_all(self, method: str, request: Any) -> list[Any]:
        """Return what each shard says, in the order of the shards; none may be missing."""

        def asked(fleet: Fleet, until: float, _: int) -> list[Any]:
            answers = fleet.router.ask(method, dict.fromkeys(range(fleet.size), request), until=until)
            return [answers[place] for place in range(fleet.size)]

        return self._shards.steadily(asked)

    def _selected(self, tree: Filter | None, most: int | None) -> list[str]:
        """Return the ids of chunks that match, in the order of the rows of all shards."""
        each: list[Selected] = self._ask_all("select", Select(narrowed(tree, None), most))
        rows = np.concatenate([one.rows * len(each) + place for place, one in enumerate(each)])
        ids = [key for one in each for key in one.ids]
        return [ids[at] for at in np.argsort(rows, kind="stable")[:most].tolist()]

    def _read(self, ids: Sequence[str], tree: Filter | None, what: str = "chunks") -> Read:
        """Read chunks by id, each from its shard."""

        def asked(fleet: Fleet, until: float, _: int) -> Read:
            by_place: dict[int, list[str]] = defaultdict(list)
            for key in dict.fromkeys(ids):
                by_place[fleet.place_of(key)].append(key)
            requests = {
                place: ReadIds(replace(narrowed(tree, None), ids=tuple(own)), what) for place, own in by_place.items()
            }
            found = Read({}, {})
            for answer in fleet.router.ask("read", requests, until=until).values():
                found.chunks.update(answer.chunks)
                found.vectors.update(answer.vectors)
            return found

        found = self._shards.steadily(asked)
        self._shards.scope.require_found(found.chunks.values(), self._shards.name)
        return found

    def _with_vectors(self, ids: Sequence[str] | None, where: Where) -> tuple[list[Chunk], FloatMatrix]:
        tree = self._tree(where)
        wanted = self._selected(tree, None) if ids is None else list(dict.fromkeys(ids))
        found = self._read(wanted, tree if ids is None else self._tree(None), "vectors")
        there = [key for key in wanted if key in found.chunks]
        vectors = np.stack([found.vectors[key] for key in there]) if there else self._no_vectors()
        return [found.chunks[key] for key in there], vectors

    def _no_vectors(self) -> FloatMatrix:
        return np.empty((0, self._shards.settings().dimension), dtype=np.float32)


def _indexes(each: Sequence[IndexInfo]) -> IndexInfo | None:
    """Describe the indexes of the shards together; None where none has one."""
    if not each:
        return None
    return IndexInfo(
        factory=" ".join(sorted({one.factory for one in each})),
        rows=sum(one.rows for one in each),
        bytes=sum(one.bytes for one in each),
        reason=f"of {len(each)} shards, each chosen for itself",
        created=max(one.created for one in each),
        recall=min(one.recall for one in each),
        queries=each[0].queries,
    )


def _refused(name: str, *, writes: bool) -> Callable[..., Any]:
    def refused(self: ShardedCollection, *_: Any, **__: Any) -> Any:
        if writes:
            self._shards.require_writable()
        self._shards.require_open()
        raise InvalidInput(
            f"{name}() works on the files of one collection, and {self._shards.name} is sharded; call it for each shard"
        )

    refused.__name__, refused.__doc__ = name, f"Refuse: `Collection.{name}` is not there for shards."
    refused.__qualname__ = f"ShardedCollection.{name}"
    return refused


for _name in ("get", "vectors", "ids", "count", "info"):
    setattr(ShardedCollection, f"a{_name}", twin(getattr(ShardedCollection, _name)))
for _part, _writes in ((Writing, True), (Maintenance, False), (Comparing, False)):
    for _name in [name for name in vars(_part) if not name.startswith("_")]:
        setattr(ShardedCollection, _name, _refused(_name, writes=_writes))

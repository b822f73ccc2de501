"""Leave out pieces whose text is stored already, and know which of them to have back."""

from __future__ import annotations

from collections.abc import Collection as Several
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

from reperio.collection import Collection
from reperio.ingestion.ledger.records import LeftOut
from reperio.ranking import plain_text
from reperio.strict_json import encode_object
from reperio.types import CONTEXT_FIELD, Chunk

_PLACE = frozenset(("source", "start", "headings", "page", "sheet", "chapter", "table_header", CONTEXT_FIELD))
"""What says where a text stands; two chunks of one text that differ in nothing else say the same to every filter."""

_DIGEST = 16  # bytes: no two texts are known to share one


def key_of(chunk: Chunk) -> str | None:
    """Return what chunks with the same text and metadata share, apart from where they stand; None without a text."""
    plain = plain_text(chunk.text)
    if not plain:
        return None
    # Sorted: the order in which fields were written says nothing.
    rest = encode_object({name: chunk.metadata[name] for name in sorted(chunk.metadata) if name not in _PLACE})
    return blake2b(f"{plain}\0{rest}".encode(), digest_size=_DIGEST).hexdigest()


@dataclass(slots=True)
class LeavingOut:
    """The texts that are stored, and the pieces that a run leaves out for them.

    A chunk for which a piece is left out is stored as long as its own file yields it: two files never leave out a text
    for each other. A file under the roots of the run that was not found keeps nothing: it may be gone, or renamed.

    Args:
        roots: names of the roots whose pieces may be left out.
        walked: names of all roots of the run.
        found: sources of the run.
        recorded: what earlier runs have left out, by source.

    Attributes:
        left: what is left out of the sources of this run.
    """

    roots: Several[str]
    walked: Several[str]
    found: Several[str]
    recorded: Mapping[str, Iterable[LeftOut]]
    left: dict[str, list[LeftOut]] = field(default_factory=dict)
    _keys: dict[str, str] = field(default_factory=dict)  # of what is stored, by id
    _ids: dict[str, list[str]] = field(default_factory=dict)  # the other way round; some may be outdated
    _keepers: dict[str, str] = field(default_factory=dict)  # keys of chunks for which pieces are left out, by id
    _gone: set[str] = field(default_factory=set)  # keepers that no longer have that text

    def __post_init__(self) -> None:
        self._keepers = {piece.keeper: piece.key for pieces in self.recorded.values() for piece in pieces}

    def look(self, collection: Collection) -> None:
        """Look at all chunks that are stored, if any may be left out: no index of texts is kept between runs."""
        if self.roots:
            for chunk in collection:
                if self._may_keep(chunk) and (key := key_of(chunk)) is not None:
                    self._note(chunk.id, key)

    def take(self, chunk: Chunk, root: str) -> LeftOut | None:
        """Return by what a piece of a root is left out; None where it is to be stored, which is noted."""
        kept_for = self._keepers.get(chunk.id)
        if kept_for is None and not self.roots:
            return None
        key = key_of(chunk)
        if kept_for is not None and kept_for != key:  # an item that keeps its id has another text now
            self._lose(chunk.id)
        if key is None:
            return None
        if root in self.roots and kept_for != key:
            for one in self._ids.get(key, ()):
                if one != chunk.id and self._keys.get(one) == key:
                    self._keepers[one] = key
                    return LeftOut(key, one)
        self._note(chunk.id, key)
        return None

    def forget(self, ids: Iterable[str]) -> None:
        """Note that chunks are deleted."""
        for one in ids:
            self._keys.pop(one, None)
            if one in self._keepers:
                self._lose(one)

    def all_there(self, left: Iterable[LeftOut]) -> bool:
        """Say whether a text is stored for each of the pieces that are left out."""
        return not any(map(self._is_missing, left))

    def orphaned(self) -> dict[str, int]:
        """Return how many pieces are left out for texts that are gone, by source."""
        is_orphan = self._is_missing if self.roots else self._is_lost
        counts = {source: sum(map(is_orphan, left)) for source, left in {**self.recorded, **self.left}.items()}
        return {source: count for source, count in counts.items() if count}

    def _is_missing(self, piece: LeftOut) -> bool:
        return not any(self._keys.get(one) == piece.key for one in self._ids.get(piece.key, ()))

    def _is_lost(self, piece: LeftOut) -> bool:
        return piece.keeper in self._gone

    def _note(self, chunk_id: str, key: str) -> None:
        if self._keys.get(chunk_id) != key:
            self._keys[chunk_id] = key
            self._ids.setdefault(key, []).append(chunk_id)

    def _lose(self, chunk_id: str) -> None:
        del self._keepers[chunk_id]
        self._gone.add(chunk_id)

    def _may_keep(self, chunk: Chunk) -> bool:
        source = chunk.metadata.get("source")
        if not isinstance(source, str) or source in self.found:
            return True
        return not any(source == root or source.startswith(f"{root}/") for root in self.walked)

"""Ids of chunks: those of a source are its own, whatever other sources call theirs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any

from reperio.errors import InvalidInput
from reperio.ingestion.cutting.splitting import Piece
from reperio.ingestion.reading.items import Item
from reperio.types import CONTEXT_FIELD, Chunk


def stem_of(prefix: str, source: str) -> str:
    """Return how the ids of all chunks of a source begin, and of no other.

    Args:
        prefix: from the ledger: ids are unique in the whole collection, and two scopes may each have a ``docs/a.md``.
            Empty without a scope.
        source: may hold any character; one ``#`` ends it.
    """
    return (f"{prefix}:" if prefix else "") + source.replace("%", "%25").replace("#", "%23") + "#"


class Namer:
    """Gives the chunks of one file their ids and their metadata.

    Args:
        stem: from `stem_of`.
        metadata: of every chunk, whatever an item says itself: who may see a file is not for the file to say.
        fixed: of the chunks of items that have no such field.
        id_field: name of the field that the items' own ids come from, by which they are kept in the metadata; None
            where they have none.
    """

    def __init__(self, stem: str, metadata: Mapping[str, Any], fixed: Mapping[str, Any], id_field: str | None) -> None:
        self._stem = stem
        self._fixed = fixed
        self._metadata = metadata
        self._id_field = f"record_{id_field}" if id_field in ("source", "start", CONTEXT_FIELD) else id_field
        self.overruled: set[str] = set()  # fields of items whose values were left out for those of *metadata*
        self._repeated: Counter[str] = Counter()
        self._places: dict[str, str] = {}  # an item's own id, or a chunk's → where it comes from

    def chunks(self, item: Item, pieces: Sequence[Piece]) -> Iterator[Chunk]:
        """Yield the chunks of an item; each has the id ``{stem}{own id}`` or ``{stem}{hash of the text}``.

        Raises:
            InvalidInput: two items have one id.
        """
        if not pieces:
            return
        metadata = {**self._fixed, **item.metadata}
        repeated, start = self._repeated, ""
        if item.id is not None:
            if self._id_field is not None:
                metadata[self._id_field] = item.id
            self._claim(item.id, item.place)
            repeated, start = Counter(), f"{item.id}#"
        for name in self._metadata.keys() & metadata.keys():
            if metadata[name] != self._metadata[name]:
                self.overruled.add(name)
        for piece in pieces:
            whole = len(pieces) == 1
            suffix = item.id if whole and item.id is not None else start + _numbered(piece.text, repeated)
            if suffix != item.id:
                self._claim(suffix, item.place)
            place = {} if whole else {"start": piece.start}
            yield Chunk(self._stem + suffix, piece.text, {**metadata, **piece.metadata, **place, **self._metadata})

    def _claim(self, suffix: str, place: str) -> None:
        other = self._places.setdefault(suffix, place)
        if other is not place:
            raise InvalidInput(f"{other} and {place} have the same id {suffix!r}; ids are unique: change one of them")


def _numbered(text: str, repeated: Counter[str]) -> str:
    name = _digest(text, 8)
    repeated[name] += 1
    return name if repeated[name] == 1 else f"{name}-{repeated[name]}"


def made_by_ingest(chunk: Chunk, prefix: str = "") -> str | None:
    """Return the source of a chunk whose id only ingestion can have given it: it holds the hash of its text.

    Args:
        chunk: as it is stored.
        prefix: of the ids of the scope in which it was ingested.
    """
    source = chunk.metadata.get("source")
    if isinstance(source, str) and chunk.id.startswith(stem := stem_of(prefix, source)):
        name, _, number = chunk.id[len(stem) :].partition("-")
        if name == _digest(chunk.text, 8) and (not number or number.isdecimal()):
            return source
    return None


def _digest(text: str, size: int) -> str:
    return blake2b(text.encode(), digest_size=size).hexdigest()

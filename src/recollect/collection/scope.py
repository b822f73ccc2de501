"""A mandatory filter: what a handle may see and write, whatever it is asked."""

from __future__ import annotations

import json
import marshal
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from recollect.errors import CollectionDamaged, InvalidInput
from recollect.filters import EVERYTHING, And, Condition, Filter, Not, Or, all_of, matches, parse, to_dict
from recollect.store import NewChunk, Store, StoredChunk
from recollect.types import Chunk

_PLAIN = 2  # version of the format: every value written out, however often it occurs
_LONGEST_KEY, _MOST_KNOWN = 4096, 256
_UNKNOWN = object()


class Scope:
    """The part of a collection that a handle is confined to.

    Args:
        where: as in `Collection.search`; None or empty for the whole collection.

    Attributes:
        tree: the filter; None for the whole collection.

    """

    def __init__(self, where: Mapping[str, Any] | Filter | None) -> None:
        self.tree = to_filter(where)
        self._known: dict[bytes, Filter | None] = {}

    @property
    def name(self) -> str:
        """The scope as text: equal for equal filters, however they were written; empty for the whole collection."""
        return "" if self.tree is None else _tree_text(self.tree)

    def narrowed(self, where: Mapping[str, Any] | Filter | None) -> Filter | None:
        """Return *where* within the scope; None when neither restricts anything.

        Parsing takes some 30 µs, a fifth of a search. What was parsed is known again by its bytes: `marshal` writes
        plain values alone, tells their types apart, and refuses nearly everything else, which is then parsed each time.
        """
        if where is None:
            return self.tree
        try:
            key = marshal.dumps(where, _PLAIN) if type(where) is dict else b""
        except ValueError:
            key = b""
        known = self._known.get(key, _UNKNOWN)  # looked up once: another thread may empty it at any time
        if known is not _UNKNOWN:
            return known  # type: ignore[return-value]  # what is known is a filter or None
        asked = to_filter(where)
        if self.tree is not None:
            asked = self.tree if asked is None else all_of((self.tree, asked))
        # It writes arrays too, as their bytes: np.bool_(True) would be known again as np.int8(1).
        if 0 < len(key) <= _LONGEST_KEY and _is_plain(where):
            if len(self._known) >= _MOST_KNOWN:
                self._known = {}
            self._known[key] = asked
        return asked

    def holds(self, metadata: Mapping[str, Any]) -> bool:
        """Say whether a chunk with this metadata is inside."""
        return self.tree is None or matches(self.tree, metadata)

    def holds_stored(self, chunk: StoredChunk) -> bool:
        """Say whether a chunk is inside, before its checksum is compared.

        Raises:
            CollectionDamaged: its metadata cannot be what was stored; without its id, which may be another's.

        """
        if self.tree is None:
            return True
        try:
            metadata = orjson.loads(chunk.metadata)
        except orjson.JSONDecodeError:
            metadata = None
        if not isinstance(metadata, dict):
            raise CollectionDamaged(
                f"the metadata of the chunk in row {chunk.row} are not what was stored; mend the collection with "
                "check(fix=True), which lists what is lost, or restore from a backup"
            )
        return self.holds(metadata)

    def require(self, chunks: Iterable[NewChunk]) -> None:
        """Raise `InvalidInput` for a chunk that would be stored outside, and so never be seen again."""
        if self.tree is None:
            return
        for chunk in chunks:
            if not self.holds(orjson.loads(chunk.metadata)):
                raise InvalidInput(
                    f"chunk {chunk.id!r} lies outside the scope of this handle, {to_dict(self.tree)}; give it metadata "
                    "that matches, or open the collection with another scope"
                )

    def require_replaceable(self, chunks: Sequence[NewChunk], store: Store) -> None:
        """Raise `InvalidInput` for a chunk whose id belongs to one outside, which this handle may not replace."""
        if self.tree is None:
            return
        for chunk_id, stored in store.existing([chunk.id for chunk in chunks]).items():
            if not self.holds_stored(stored):
                raise InvalidInput(
                    f"the id {chunk_id!r} is taken by a chunk outside the scope of this handle; ids are unique in the "
                    "whole collection: prefix them, say with the tenant's name"
                )

    def require_found(self, chunks: Iterable[Chunk], where: object) -> None:
        """Check once more what is about to be handed out or deleted: the metadata itself, not the columns made of it.

        Raises:
            CollectionDamaged: a chunk lies outside.

        """
        if self.tree is None:
            return
        for chunk in chunks:
            if not self.holds(chunk.metadata):
                # Without its id, which is nothing that this handle may know.
                raise CollectionDamaged(
                    f"{where}: a chunk outside the scope of this handle was found; run check(), restore from a backup"
                )

    def refuse(self, what: str) -> None:
        """Raise `InvalidInput` where something concerns the whole collection."""
        if self.tree is not None:
            raise InvalidInput(f"{what} concerns the whole collection, and this handle has a scope; open one without")


def to_filter(where: Mapping[str, Any] | Filter | None) -> Filter | None:
    """Parse what users pass as a filter; None where it restricts nothing."""
    if where is None:
        return None
    tree = parse(where)
    return None if tree == EVERYTHING else tree


def _tree_text(tree: Filter) -> str:
    if isinstance(tree, Condition):
        return _key_text((tree.path, tree.operator.value, tree.key))
    if isinstance(tree, Not):
        return f"not({_tree_text(tree.child)})"
    assert isinstance(tree, (And, Or))  # there are no others
    return f"{type(tree).__name__.lower()}({','.join(sorted({_tree_text(child) for child in tree.children}))})"


def _key_text(key: Any) -> str:
    """Write what a condition is recognised by (`operands.to_key`): 1 and 1.0 are one number, sets have no order."""
    if isinstance(key, frozenset):
        return f"{{{','.join(sorted(map(_key_text, key)))}}}"
    if isinstance(key, tuple):
        return f"({','.join(map(_key_text, key))})"
    return json.dumps(int(key) if isinstance(key, float) and key.is_integer() else key)


def _is_plain(value: Any) -> bool:
    if type(value) is dict:
        return all(map(_is_plain, value.values()))
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))
    return value is None or type(value) in (str, int, float, bool)

"""Confine a handle to a mandatory filter, whatever it is asked."""

from __future__ import annotations

import json
import marshal
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import orjson

from reperio.errors import CollectionDamaged, InvalidInput
from reperio.filters import (
    EVERYTHING,
    And,
    Condition,
    Filter,
    Not,
    Or,
    all_of,
    holds_wholly,
    listed_fields,
    matches,
    parse,
    to_dict,
)
from reperio.filters.operands import LargeNumber
from reperio.store import NewChunk
from reperio.types import Chunk

Where: TypeAlias = Mapping[str, Any] | Filter | None
"""A filter as users write it; None or empty for everything."""

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

    def __init__(self, where: Where) -> None:
        self.tree = to_filter(where)
        self._known: dict[bytes, Filter | None] = {}

    @property
    def name(self) -> str:
        """The scope as text: equal for equal filters, however they were written; empty for the whole collection."""
        return "" if self.tree is None else _tree_text(self.tree)

    def narrowed(self, where: Where) -> Filter | None:
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

    def require(self, chunks: Iterable[NewChunk]) -> None:
        """Raise `InvalidInput` for a chunk that would be stored outside, or for others as well.

        One outside would never be seen again. One with a list in a scoped field, of which an element lies outside,
        would be found through another scope: see `filters.holds_wholly`.
        """
        if self.tree is None:
            return
        for chunk in chunks:
            metadata = orjson.loads(chunk.metadata)
            if holds_wholly(self.tree, metadata):
                continue
            if not self.holds(metadata):
                raise InvalidInput(
                    f"chunk {chunk.id!r} lies outside the scope of this handle, {to_dict(self.tree)}; give it metadata "
                    "that matches, or open the collection with another scope"
                )
            raise InvalidInput(
                f"chunk {chunk.id!r} lies outside the scope of this handle, {to_dict(self.tree)}, by an element of "
                f"{_names(self.tree, metadata)}: other scopes would find it; give it elements that match each by "
                "itself, or store it through a handle without a scope"
            )

    def require_own(self, chunks: Iterable[Chunk]) -> None:
        """Raise `InvalidInput` for a stored chunk that other scopes may find too: these need not let it be changed.

        Args:
            chunks: within the scope, to be deleted or replaced.
        """
        if self.tree is None:
            return
        for chunk in chunks:
            if not holds_wholly(self.tree, chunk.metadata):
                raise InvalidInput(
                    f"chunk {chunk.id!r} is shared with other scopes, by an element of "
                    f"{_names(self.tree, chunk.metadata)}, and this handle may only read it; nothing was changed: leave"
                    " it out, or delete or replace it through a handle without a scope"
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


def to_filter(where: Where) -> Filter | None:
    """Parse what users pass as a filter; None where it restricts nothing."""
    if where is None:
        return None
    tree = parse(where)
    return None if tree == EVERYTHING else tree


def _names(tree: Filter, metadata: Mapping[str, Any]) -> str:
    return " and ".join(f"{name!r:.80}" for name in listed_fields(tree, metadata))


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
    if isinstance(key, LargeNumber):
        return str(int(key.digits, 16))
    if isinstance(key, tuple):
        return f"({','.join(map(_key_text, key))})"
    return json.dumps(int(key) if isinstance(key, float) and key.is_integer() else key)


def _is_plain(value: Any) -> bool:
    if type(value) is dict:
        return all(map(_is_plain, value.values()))
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))
    return value is None or type(value) in (str, int, float, bool)

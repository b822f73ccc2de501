"""Keep a small ledger next to the chunks, for what a program must remember about them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from reperio.arguments import is_iterable, require_count
from reperio.errors import InvalidInput
from reperio.origins import Change, ForgottenRecord
from reperio.store import Elsewhere, Entry, Ledger, NewRecord
from reperio.strict_json import NotKept, encode
from reperio.types import Record

if TYPE_CHECKING:
    from reperio.collection.generation.opened import OpenGeneration
    from reperio.collection.handle.handle import Handle

MAX_NAME = 1024
"""Characters of a space, a key or a group."""

_Found: TypeAlias = "list[Record | None]"  # inside the class, `list` is the method
_Listed: TypeAlias = "list[Record]"
_Read = TypeVar("_Read")


class Records:
    """The records of one space of a collection, made by `Collection.records`.

    A record is a key with a JSON value, an optional group, and the time of its put. Records are durable when a put
    returns, are carried along by compaction, re-embedding and backups, and are no chunks: no search finds them, and
    readers of chunks have nothing to load again. Any number of threads may use one object; readers see each put at
    their next call.

    Handles whose scopes are equal filters share their spaces; those with another scope, or none, have their own.
    """

    def __init__(self, handle: Handle, space: str) -> None:
        self._handle = handle
        self._space = _name(space, "the space")

    def put(
        self,
        keys: Sequence[str],
        *,
        values: Sequence[Any] | None = None,
        groups: Sequence[str | None] | None = None,
    ) -> float:
        """Store records, each replacing all of an older one with its key, durably and in one commit.

        Args:
            keys: non-empty strings of at most 1,024 characters; of a key that is given twice, the last counts.
            values: one JSON value per key, None among them; all None by default.
            groups: one string per key, or None for no group; no groups by default.

        Returns:
            The time of the put, which all its records have: later than that of every put before it, and than every
            `time` told by this handle before it.

        Raises:
            InvalidInput: something cannot be stored; nothing was.
            CollectionReadOnly, CollectionClosed, StorageFailed: as their names say.
        """
        self._handle.require_writable()
        records = list(_checked(keys, values, groups))
        if not records:
            return self.time()

        def attempt(generation: OpenGeneration) -> float:
            def elsewhere() -> Elsewhere | None:
                return self._handle.origin.elsewhere(
                    generation, lambda: Change(records=[self._entry(one, time) for one in records])
                )

            with generation.store.recording(self._scope, self._space, elsewhere) as ledger:
                time = self._handle.clock.tick(ledger.time)
                ledger.put(records, time)
            return time

        return self._handle.commit(attempt)

    def get(self, keys: Sequence[str]) -> _Found:
        """Return the record of each key, in their order; None where there is none."""
        wanted = _keys(keys)
        found = self._read(lambda ledger: ledger.get(list(dict.fromkeys(wanted))))
        return [found.get(key) for key in wanted]

    def list(
        self,
        *,
        before: float | None = None,
        after: float | None = None,
        groups: Sequence[str | None] | None = None,
        limit: int | None = None,
    ) -> _Listed:
        """Return records ordered by key; without arguments, all of the space.

        Args:
            before: only records put before this time, in seconds since the epoch; itself excluded.
            after: only records put after it; itself excluded.
            groups: only records of these groups; None among them for those without. No groups, no records.
            limit: at most so many, the first by key.
        """
        if limit is not None:
            require_count("limit", limit)
        before, after = _moment(before, "before"), _moment(after, "after")
        wanted = None if groups is None else [_group(group) for group in _several(groups, "groups")]
        return self._read(lambda ledger: ledger.list(before=before, after=after, groups=wanted, limit=limit))

    def delete(self, keys: Sequence[str]) -> int:
        """Delete records, durably and in one commit, and return how many there were. An absent key is no error."""
        self._handle.require_writable()
        wanted = _keys(keys)
        if not wanted:
            return 0
        names = [ForgottenRecord(self._scope, self._space, key) for key in wanted]

        def attempt(generation: OpenGeneration) -> int:
            def elsewhere() -> Elsewhere | None:
                return self._handle.origin.elsewhere(generation, lambda: Change(forgotten=names)) if deleted else None

            with generation.store.recording(self._scope, self._space, elsewhere) as ledger:
                deleted = ledger.delete(wanted)
            return deleted

        return self._handle.commit(attempt)

    def time(self) -> float:
        """Return the time, in seconds since the epoch, by a clock that never runs backwards.

        It is the system's, unless that was set back: it is always later than every put so far, and earlier than every
        put of this handle to come, so that ``list(before=…)`` and ``list(after=…)`` part what was put before from what
        was put afterwards. Writes nothing: of times that were told, another process knows nothing.
        """
        return self._handle.clock.now(self._read(lambda ledger: ledger.time))

    def __repr__(self) -> str:
        return f"<reperio.Records {self._space!r} of {str(self._handle.root.root)!r}>"

    @property
    def _scope(self) -> str:
        return self._handle.scope.name

    def _entry(self, record: NewRecord, time: float) -> Entry:
        return Entry(self._scope, self._space, *record, time)

    def _read(self, ask: Callable[[Ledger], _Read]) -> _Read:
        _, session = self._handle.session()
        with session:
            return ask(session.ledger(self._scope, self._space))


def require_storable(entry: Entry) -> None:
    """Refuse a record that no `put` would have stored under its names.

    Raises:
        InvalidInput: naming what cannot be.
    """
    _name(entry.space, "the space")
    _name(entry.key, "a key")
    _group(entry.group)


def _checked(
    keys: Sequence[str], values: Sequence[Any] | None, groups: Sequence[str | None] | None
) -> Iterable[NewRecord]:
    """Return the records to be stored, one per key, the last given."""
    wanted = _keys(keys)
    several = [None] * len(wanted) if values is None else _several(values, "values")
    among = [None] * len(wanted) if groups is None else _several(groups, "groups")
    for name, given in (("values", several), ("groups", among)):
        if len(given) != len(wanted):
            raise InvalidInput(f"{len(wanted)} keys, {len(given)} {name}; pass exactly one per key, or none at all")
    rows = zip(wanted, several, among, strict=True)
    return {key: NewRecord(key, _value(value, key), _group(group)) for key, value, group in rows}.values()


def _keys(keys: Any) -> list[str]:
    return [_name(key, "a key") for key in _several(keys, "keys")]


def _several(given: Any, what: str) -> list[Any]:
    if isinstance(given, (str, bytes)) or not is_iterable(given):
        raise InvalidInput(f"{what} is {_short(given)}; pass a list, also for one")
    return list(given)


def _value(value: Any, key: str) -> str | None:
    if value is None:
        return None
    try:
        return encode(value)
    except NotKept as complaint:
        raise InvalidInput(f"the value of key {key!r}{complaint}") from None


def _group(group: Any) -> str | None:
    return None if group is None else _text(group, "a group")


def _name(name: Any, what: str) -> str:
    if isinstance(name, str) and not name:
        raise InvalidInput(f"{what} is empty; it must be a string of 1 to {MAX_NAME:,} characters")
    return _text(name, what)


def _text(text: Any, what: str) -> str:
    if not isinstance(text, str):
        raise InvalidInput(f"{what} is {_short(text)}; it must be a string")
    plain = str.__str__(text)
    if len(plain) > MAX_NAME:
        raise InvalidInput(
            f"{what} has {len(plain):,} characters ({plain[:30]!r} …); at most {MAX_NAME:,} are allowed: take a hash"
        )
    if "\0" in plain or (not plain.isascii() and any("\ud800" <= character <= "\udfff" for character in plain)):
        raise InvalidInput(f"{what} is {plain[:60]!r}, which holds a NUL or a lone surrogate; take them out")
    return plain


def _moment(moment: Any, name: str) -> float | None:
    if moment is None:
        return None
    if isinstance(moment, bool) or not isinstance(moment, (int, float)) or moment != moment:
        raise InvalidInput(f"{name} is {_short(moment)}; it must be a number: seconds since the epoch, as time() tells")
    return float(moment)


def _short(value: Any) -> str:
    return f"{value!r:.60} ({type(value).__name__})"

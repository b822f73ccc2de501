"""Remember in the database of a replica which state of its origin it has."""

from __future__ import annotations

from typing import NamedTuple

import orjson

from reperio.errors import CollectionDamaged
from reperio.origins import Position
from reperio.printable import one_line
from reperio.store import Entry, Session

SPACE = "\0origin"
"""Space of the ledger that programs cannot name: theirs hold no NUL."""

_KEY = "position"
_LATEST = 253_402_300_800.0  # the end of the year 9999, which is as far as a date can tell


class Held(NamedTuple):
    """The state of its origin that a replica has.

    Attributes:
        position: the state that it has.
        where: address of the origin without its password, as of then.
        complete: it has all of that state; else it is being cloned, and is not to be read yet.
        committed: when the last commit of that state was made, in seconds since the epoch, by the server's clock.
    """

    position: Position
    where: str
    complete: bool
    committed: float

    def to_entry(self) -> Entry:
        """Return the record that is stored in the transaction that leads to this state."""
        value = orjson.dumps([[*self.position], *self[1:]]).decode()
        return Entry("", SPACE, _KEY, value, None, 0.0)


def held_by(session: Session) -> Held | None:
    """Return what the replica has, as of the session's commit; None for a collection without an origin."""
    found = session.ledger("", SPACE).get([_KEY]).get(_KEY) if session.has_ledger() else None
    if found is None:
        return None
    try:
        position, where, complete, committed = found.value
        origin, number, token = position
        for value, kind in ((origin, str), (number, int), (token, str), (where, str), (complete, bool)):
            if type(value) is not kind:
                raise TypeError(kind)
        known = Held(Position(origin, number, token), one_line(where), complete, float(committed))
        if not (0 <= known.committed < _LATEST and number >= 0):
            raise ValueError("no time, or no number of a commit")
    except (TypeError, ValueError) as error:
        raise CollectionDamaged(
            f"what chunks.db says of its origin cannot be read ({error!s:.100}); clone it into another place"
        ) from None
    return known

"""Pack what an origin in Redis keeps, and read it again.

Keys of one collection: `meta` (identity, format, settings, number, token, committed, chunks), `commits` (number to
token), `chunks` (id to packed chunk), `by-number` (ids by the numbers of their commits), `gone` (ids that were deleted,
likewise), `records` (names as JSON to value, group and time as JSON; null once deleted), and `records-by-number`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import orjson

from reperio.errors import InvalidInput, OriginRefused
from reperio.origins.protocol import Change, OriginState, Position
from reperio.store import Entry, NewChunk

FORMAT = 1
KEYS = ("meta", "commits", "chunks", "by-number", "gone", "records", "records-by-number")
GONE = b"null"  # value of a record that was deleted

_SIZES = struct.Struct("<QII")  # of a chunk: number of its commit, bytes of text and metadata; its vector is the rest
_MOST = 1_000_000_000  # bytes of a commit: Redis ends a connection that sends more than 1 GB at once


def packed(change: Change, after: Position, to: Position, channel: str) -> list[Any]:
    """Return the arguments of the script that makes a commit."""
    found: list[Any] = [after.origin, str(after.number), after.token, str(to.number), to.token]
    found += ["" if change.settings is None else orjson.dumps(change.settings), channel]
    found += [len(change.deleted), *(one.encode() for one in change.deleted), len(change.chunks)]
    for number, chunk in enumerate(change.chunks):
        assert change.vectors is not None  # one each
        text, metadata = chunk.text.encode(), chunk.metadata.encode()
        sizes = _SIZES.pack(to.number, len(text), len(metadata))
        found += [chunk.id.encode(), sizes + text + metadata + change.vectors[number].tobytes()]
    found.append(len(change.records) + len(change.forgotten))
    for entry in change.records:
        found += [orjson.dumps(entry[:3]), orjson.dumps(entry[3:])]
    for names in change.forgotten:
        found += [orjson.dumps(tuple(names)), GONE]
    return found


def require_size(arguments: list[Any], where: str) -> None:
    """Refuse a commit that Redis would end the connection for."""
    size = sum(len(one) for one in arguments if isinstance(one, bytes))
    if size > _MOST:
        raise InvalidInput(
            f"{where}: a commit of {size:,} bytes is more than Redis takes at once ({_MOST:,}); write fewer chunks at "
            "a time, or take an origin in PostgreSQL"
        )


def read_state(found: Mapping[bytes, bytes], where: str) -> OriginState:
    """Read what the origin says of itself."""
    kind = int(found[b"format"])
    if kind > FORMAT:
        raise OriginRefused(
            f"{where} was made by a newer Reperio (format {kind}; this one knows {FORMAT}); update this one"
        )
    position = Position(found[b"identity"].decode(), int(found[b"number"]), found[b"token"].decode())
    return OriginState(position, float(found[b"committed"]), orjson.loads(found[b"settings"]), int(found[b"chunks"]))


def number_of(value: bytes) -> int:
    """Return the number of the commit that a packed chunk came in."""
    return int(_SIZES.unpack_from(value)[0])


def unpacked(key: bytes, value: bytes) -> tuple[NewChunk, bytes]:
    """Return a chunk, and the bytes of its vector."""
    _, text, metadata = _SIZES.unpack_from(value)
    end = _SIZES.size + text
    chunk = NewChunk(key.decode(), value[_SIZES.size : end].decode(), value[end : end + metadata].decode())
    return chunk, value[end + metadata :]


def entry_of(name: bytes, value: bytes) -> Entry:
    """Return a record that was not deleted."""
    return Entry(*orjson.loads(name), *orjson.loads(value))

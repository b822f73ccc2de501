"""Lay out the tables of origins, and turn chunks into rows and rows into chunks."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import orjson

from reperio.store import NewChunk

FORMAT = 1

# reperio_chunks: the newest version of each chunk. `key` is a hash of the id, which may be longer than an index takes.
# `metadata` is for people: PostgreSQL writes it in its own way. `source` is what was stored, to the letter. `exact` is
# there where a text cannot be kept as text, since it has a NUL.
# reperio_gone: what was deleted, and when. A chunk that came back is in both, with the larger number in the first.
SCHEMA = """
CREATE TABLE IF NOT EXISTS reperio_collections (
    collection bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    identity uuid NOT NULL,
    format integer NOT NULL,
    settings json NOT NULL,
    number bigint NOT NULL,
    token uuid NOT NULL,
    committed timestamptz NOT NULL,
    chunks bigint NOT NULL
);
CREATE TABLE IF NOT EXISTS reperio_commits (
    collection bigint NOT NULL,
    number bigint NOT NULL,
    token uuid NOT NULL,
    committed timestamptz NOT NULL,
    PRIMARY KEY (collection, number)
);
CREATE TABLE IF NOT EXISTS reperio_chunks (
    collection bigint NOT NULL,
    key bytea NOT NULL,
    id text NOT NULL,
    text text NOT NULL,
    metadata jsonb NOT NULL,
    source text NOT NULL,
    exact bytea,
    vector bytea NOT NULL,
    number bigint NOT NULL,
    PRIMARY KEY (collection, key)
);
CREATE INDEX IF NOT EXISTS reperio_chunks_by_number ON reperio_chunks (collection, number);
ALTER TABLE reperio_chunks ALTER vector SET STORAGE EXTERNAL;
CREATE TABLE IF NOT EXISTS reperio_gone (
    collection bigint NOT NULL,
    key bytea NOT NULL,
    id text NOT NULL,
    exact bytea,
    number bigint NOT NULL,
    PRIMARY KEY (collection, key)
);
CREATE INDEX IF NOT EXISTS reperio_gone_by_number ON reperio_gone (collection, number);
CREATE TABLE IF NOT EXISTS reperio_records (
    collection bigint NOT NULL,
    key bytea NOT NULL,
    scope text NOT NULL,
    space text NOT NULL,
    name text NOT NULL,
    value text,
    in_group text,
    put_at double precision,
    number bigint NOT NULL,
    PRIMARY KEY (collection, key)
);
CREATE INDEX IF NOT EXISTS reperio_records_by_number ON reperio_records (collection, number);
"""


def key_of(*names: str) -> bytes:
    """Return a key of 16 bytes for one name, or for several in order."""
    found = blake2b(digest_size=16)
    for name in names:
        data = name.encode()
        found.update(b"%d:" % len(data) + data)
    return found.digest()


def readable(text: str) -> str:
    """Return a text that PostgreSQL can keep: without NUL."""
    return text.replace("\0", "\ufffd") if "\0" in text else text


def readable_json(metadata: str) -> str:
    """Return metadata that PostgreSQL can keep as jsonb."""
    if "\\u0000" not in metadata:
        return metadata
    return orjson.dumps(_without_nul(orjson.loads(metadata))).decode()


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return readable(value)
    if isinstance(value, list):
        return [_without_nul(one) for one in value]
    if isinstance(value, dict):
        return {readable(name): _without_nul(one) for name, one in value.items()}
    return value


def exact_of(*texts: str) -> bytes | None:
    """Return texts as they are, where one of them has a NUL."""
    return orjson.dumps(texts) if any("\0" in text for text in texts) else None


def id_of(told: str, exact: bytes | None) -> str:
    """Return the id that a row is of."""
    return told if exact is None else str(orjson.loads(exact)[0])


def to_chunk(chunk_id: str, text: str, source: str, exact: bytes | None) -> NewChunk:
    """Return the chunk that a row is of."""
    if exact is not None:
        chunk_id, text = orjson.loads(exact)
    return NewChunk(chunk_id, text, source)

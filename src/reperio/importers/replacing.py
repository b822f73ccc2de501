"""Refuse an import that would replace chunks of another source, which have the same ids.

What an import stores is recorded in the collection's ledger: digests of its chunks, by the source they are from. A
chunk may be replaced where it is what an earlier import of the same source has stored.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, cast

import numpy as np
import orjson

from reperio.collection import Collection
from reperio.errors import CollectionDamaged, InvalidInput
from reperio.types import Chunk, FloatMatrix
from reperio.vectors import to_float32, to_matrix, to_stored

_SPACE = "reperio.import"
_DIGEST = 8  # bytes: of a million chunks, one record per 1,000 and 11 MB in all
_BLOCK = 1000
_SHOWN = 5  # ids in a message


class Incoming(NamedTuple):
    """What an import is about to store.

    Attributes:
        origin: key of the source, the same in every import of it; see `origin_key`.
        what: the source in messages, e.g. "the folder".
        chunks: all of them.
        blocks: yields their vectors in blocks, each with the number of its first; None where the texts are embedded.
    """

    origin: str
    what: str
    chunks: Sequence[Chunk]
    blocks: Iterator[tuple[int, FloatMatrix]] | None


def origin_key(*names: str) -> str:
    """Return the key of a source in the ledger, of its kind, its path and what else tells it from others."""
    return hashlib.sha256(orjson.dumps(names)).hexdigest()


def require_own(kb: Collection, incoming: Incoming) -> None:
    """Refuse to replace a chunk that this source did not store.

    Raises:
        InvalidInput: there is one; the ids are named.
    """
    if not kb.count():
        return
    known: set[bytes] | None = None
    foreign: list[str] = []
    for held in _differing(kb, incoming):
        if known is None:
            known = _recorded(kb, incoming.origin)
        if _digest(held) not in known:
            foreign.append(held.id)
    if foreign:
        named = ", ".join(f"{each!r:.80}" for each in foreign[:_SHOWN]) + (", …" if len(foreign) > _SHOWN else "")
        raise InvalidInput(
            f"{kb.info().path} has other chunks under {len(foreign):,} ids of {incoming.what} ({named}). They were not "
            "imported from there, or were changed since, and would be replaced; nothing was imported. Import "
            "into another collection (another directory as kb, --into), or delete these chunks first "
            "(Collection.delete(ids=…))"
        )


def record(kb: Collection, incoming: Incoming) -> None:
    """Record what is about to be stored, so that an import that was interrupted may replace it when it goes on."""
    records = kb.records(_SPACE)
    contents: dict[str, bytes] = {}
    for start in range(0, len(incoming.chunks), _BLOCK):
        content = b"".join(_digest(chunk) for chunk in incoming.chunks[start : start + _BLOCK])
        contents[f"{incoming.origin}/{hashlib.sha256(content).hexdigest()}"] = content
    known = {each.key for each in records.get(list(contents)) if each is not None}
    new = [key for key in contents if key not in known]
    values = [base64.b64encode(contents[key]).decode() for key in new]
    records.put(new, values=values, groups=[incoming.origin] * len(new))  # in one commit


def _differing(kb: Collection, incoming: Incoming) -> Iterator[Chunk]:
    """Yield the chunks that are stored under the ids, and differ from what is to be stored there."""
    info = kb.info()
    dtype = cast("Literal['float32', 'float16']", info.dtype)
    without: Iterator[tuple[int, None]] = ((start, None) for start in range(0, len(incoming.chunks), _BLOCK))
    for start, block in incoming.blocks or without:
        new = incoming.chunks[start : start + (_BLOCK if block is None else len(block))]
        held = {chunk.id: chunk for chunk in _held(kb, [chunk.id for chunk in new])}
        alike = [at for at, chunk in enumerate(new) if chunk.id in held and _digest(chunk) == _digest(held[chunk.id])]
        same = {new[at].id for at in alike}
        if block is not None and alike:
            what = f"{incoming.what}'s vectors"
            matrix = to_matrix(block[alike], dimension=info.dimension, metric=info.metric, what=what, first=start)
            given = to_float32(to_stored(matrix, dtype, what=what, first=start))
            # Not bit by bit: one library normalises in another order than the next.
            equal = np.isclose(given, kb.vectors([new[at].id for at in alike]), rtol=1e-3, atol=1e-5).all(axis=1)
            same -= {new[at].id for at, one in zip(alike, np.asarray(equal).tolist(), strict=True) if not one}
        yield from (chunk for key, chunk in held.items() if key not in same)


def _held(kb: Collection, ids: list[str]) -> list[Chunk]:
    """Return the chunks with these ids, without those that are damaged: an import may mend these."""
    try:
        return kb.get(ids)
    except CollectionDamaged:
        if len(ids) == 1:
            return []
    half = len(ids) // 2
    return [*_held(kb, ids[:half]), *_held(kb, ids[half:])]


def _digest(chunk: Chunk) -> bytes:
    content = orjson.dumps([chunk.id, chunk.text, dict(chunk.metadata)], option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(content, digest_size=_DIGEST).digest()


def _recorded(kb: Collection, origin: str) -> set[bytes]:
    """Return the digests of the chunks that imports of a source have stored."""
    found: set[bytes] = set()
    for each in kb.records(_SPACE).list(groups=[origin]):
        content = base64.b64decode(each.value)
        found.update(content[at : at + _DIGEST] for at in range(0, len(content), _DIGEST))
    return found

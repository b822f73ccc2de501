"""Read what has changed in Redis since a commit, as of one later state.

Redis has no snapshots. What has changed is read in blocks, then what has changed meanwhile, which is less each time.
When it is little, one script reads it together with the state, and no commit comes in between.
"""

from __future__ import annotations

import struct
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from reperio.errors import OriginRefused, OriginUnavailable
from reperio.layout import storage_errors
from reperio.origins.protocol import Block, ForgottenRecord, OriginState, Position, vectors_of
from reperio.origins.redis.packing import GONE, entry_of, number_of, read_state, unpacked
from reperio.origins.server import diverged
from reperio.store import Entry

_BLOCK = 500  # chunks, records or names in an answer
_IN_MEMORY = 16 << 20  # bytes, before a file is used

_NEWS = """
local meta = redis.call('HGETALL', KEYS[1])
local token = redis.call('HGET', KEYS[2], ARGV[1])
local low = '(' .. ARGV[2]
local count = 0
for _, key in ipairs({KEYS[4], KEYS[5], KEYS[7]}) do count = count + redis.call('ZCOUNT', key, low, '+inf') end
if count > tonumber(ARGV[3]) then return {meta, token, 0} end
local function values(key, fields)
  if #fields == 0 then return {} end
  return redis.call('HMGET', key, unpack(fields))
end
local ids = redis.call('ZRANGEBYSCORE', KEYS[4], low, '+inf')
local gone = redis.call('ZRANGEBYSCORE', KEYS[5], low, '+inf', 'WITHSCORES')
local names = redis.call('ZRANGEBYSCORE', KEYS[7], low, '+inf')
return {meta, token, 1, ids, values(KEYS[3], ids), gone, names, values(KEYS[6], names)}
"""

_Place = tuple[int, int, int]  # number of the commit, offset and size in the file


class RedisChanges:
    """The changes since a commit: see `Pulled`. They are kept in a file until they are asked for.

    Args:
        client: of the server.
        keys: of the collection.
        after: the state that the replica has.
        where: the server, for messages.
        errors: turns the driver's errors into ours.
    """

    def __init__(
        self,
        client: Any,
        keys: list[str],
        after: Position,
        where: str,
        errors: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._client, self._keys, self._after, self._where, self._errors = client, keys, after, where, errors
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115  # until `close`
        self._size = 0  # of the file
        self._places: dict[bytes, _Place] = {}  # of chunks, by id
        self._gone: dict[bytes, int] = {}  # ids, and the numbers of the commits that deleted them
        self._records: dict[bytes, _Place | None] = {}  # by their names; None for those that were deleted
        self.state = OriginState(after, 0.0, {}, 0)

    def close(self) -> None:
        """Remove the file."""
        self._file.close()

    def collect(self, until: float) -> bool:
        """Read all that has changed, up to one state; return False where there is no such origin."""
        low = self._after.number
        script = self._client.register_script(_NEWS)
        while True:
            meta, token, few, *news = script(keys=self._keys, args=[self._after.number, low, _BLOCK])
            found = meta if isinstance(meta, dict) else dict(zip(meta[::2], meta[1::2], strict=True))
            if not found:
                return False
            self.state = state = read_state(found, self._where)
            passed = self._after.number == 0 or token == self._after.token.encode()
            if state.position.origin != self._after.origin or not passed:
                raise diverged(self._where, self._after, state.position)
            if few:
                ids, values, gone, names, records = news
                self._keep(ids, values)
                self._forget((key, int(number)) for key, number in zip(gone[::2], gone[1::2], strict=True))
                self._keep_records(names, records)
                return True
            if time.monotonic() > until:
                raise OriginUnavailable(f"{self._where} changes more quickly than it can be read; try again later")
            self._read_since(low)
            low = state.position.number

    def _read_since(self, low: int) -> None:
        """Read what has changed since a commit, in blocks, of which each is of another state."""
        _, _, chunks, by_number, gone, records, records_by_number = self._keys
        for ids in _blocks(self._client.zrangebyscore(by_number, f"({low}", "+inf")):
            self._keep(ids, self._client.hmget(chunks, ids))
        if low:  # a clone has nothing yet that could go
            self._forget(
                (key, int(number))
                for key, number in self._client.zrangebyscore(gone, f"({low}", "+inf", withscores=True)
            )
        for names in _blocks(self._client.zrangebyscore(records_by_number, f"({low}", "+inf")):
            self._keep_records(names, self._client.hmget(records, names))

    def _keep(self, ids: Sequence[bytes], values: Sequence[bytes | None]) -> None:
        for key, value in zip(ids, values, strict=True):
            if value is None:  # deleted meanwhile
                self._places.pop(key, None)
                continue
            with self._damage():
                self._places[key] = self._written(number_of(value), value)

    def _forget(self, gone: Iterable[tuple[bytes, int]]) -> None:
        for key, number in gone:
            self._gone[key] = number
            kept = self._places.get(key)
            if kept is not None and kept[0] < number:  # one of the same commit was put after that
                del self._places[key]

    def _keep_records(self, names: Sequence[bytes], values: Sequence[bytes | None]) -> None:
        for name, value in zip(names, values, strict=True):
            self._records[name] = None if value in (None, GONE) else self._written(0, value or b"")

    def _written(self, number: int, value: bytes) -> _Place:
        with storage_errors(Path(tempfile.gettempdir()), "write what an origin has told to TMPDIR,"):
            self._file.write(value)
        self._size += len(value)
        return number, self._size - len(value), len(value)

    def _read(self, place: _Place) -> bytes:
        self._file.seek(place[1])
        return self._file.read(place[2])

    @contextmanager
    def _damage(self) -> Iterator[None]:
        try:
            yield
        except (struct.error, ValueError) as error:
            raise OriginRefused(
                f"{self._where}: a chunk there cannot be read ({error!s:.100}); Reperio did not write it, mend it there"
            ) from None

    # ── what is told ─────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def chunks(self) -> int:
        """How many chunks `blocks` yields."""
        return len(self._places)

    def deleted(self) -> Iterator[list[str]]:
        """Yield ids of chunks that were deleted."""
        if self._after.number:
            for part in _blocks(list(self._gone)):
                yield [key.decode() for key in part]

    def forgotten(self) -> Iterator[list[ForgottenRecord]]:
        """Yield names of records that were deleted."""
        if self._after.number:
            for part in _blocks([name for name, place in self._records.items() if place is None]):
                yield [ForgottenRecord(*entry_of(name, b"[null,null,0]")[:3]) for name in part]

    def records(self) -> Iterator[list[Entry]]:
        """Yield records that were put."""
        for part in _blocks([(name, place) for name, place in self._records.items() if place is not None]):
            yield [entry_of(name, self._read(place)) for name, place in part]

    def blocks(self) -> Iterator[Block]:
        """Yield the chunks that were put, by the numbers of their commits."""
        dtype, dimension = vectors_of(self.state)
        for part in _blocks(sorted(self._places.items(), key=lambda item: item[1])):
            with self._damage():
                read = [unpacked(key, self._read(place)) for key, place in part]
            data = b"".join(vector for _, vector in read)
            if len(data) != len(part) * dimension * dtype.itemsize:
                raise OriginRefused(f"{self._where}: its vectors do not have {dimension} values; mend them there")
            vectors = np.frombuffer(data, dtype=dtype).reshape(len(part), dimension)
            yield Block([chunk for chunk, _ in read], vectors, part[-1][1][0])

    def token_of(self, number: int) -> str:
        """Return the token of a commit before the state's."""
        with self._errors():
            found: Any = self._client.hget(self._keys[1], str(number))
        return found.decode() if found else ""


def _blocks(whole: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for first in range(0, len(whole), _BLOCK):
        yield whole[first : first + _BLOCK]

"""Keep an origin in Redis, in a handful of keys of one collection.

Each chunk is a field of one hash: its newest version, with the number of the commit it came in. A commit is one script,
which Redis runs without another in between. Redis keeps what it has acknowledged only with ``appendonly yes`` and
``appendfsync always``, or where it can be waited for (WAITAOF): else it is refused.
"""

from __future__ import annotations

import struct
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO, Any, TypeAlias

import numpy as np
import orjson

from reperio.errors import CollectionExists, OriginNotFound, OriginRefused, OriginUnavailable
from reperio.optional import OptionalImport
from reperio.origins.address import Address, Parsed, parse, resolved
from reperio.origins.protocol import Block, Change, ForgottenRecord, OriginState, Position, diverged
from reperio.store import Entry, NewChunk, Outdated

with OptionalImport("an origin in Redis", "redis", extra="redis"):
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

Client: TypeAlias = Any
"""A client of redis-py, whose types promise text and bytes by turns, from version to version."""

FORMAT = 1
_BLOCK = 500  # chunks, records or names in an answer
_PER_SECOND = 1000  # chunks that a slow server takes at least
_ATTEMPTS = 3  # to make one commit, over connections that are cut
_SIZES = struct.Struct("<QII")  # of a chunk: number of its commit, bytes of text and metadata; its vector is the rest

# meta, commits, chunks, chunks by number, gone, records, records by number
_KEYS = ("meta", "commits", "chunks", "by-number", "gone", "records", "records-by-number")

_APPEND = """
local held = redis.call('HMGET', KEYS[1], 'identity', 'number', 'token')
if not held[1] then return {'none'} end
if held[1] ~= ARGV[1] or held[2] ~= ARGV[2] or held[3] ~= ARGV[3] then
  if held[1] == ARGV[1] and redis.call('HGET', KEYS[2], ARGV[4]) == ARGV[5] then return {'done'} end
  return {'other', held[1], held[2], held[3]}
end
local number, at, live = ARGV[4], 7, 0
local function counted() at = at + 1 return tonumber(ARGV[at]) end
local function taken() at = at + 1 return ARGV[at] end
for _ = 1, counted() do
  local id = taken()
  live = live - redis.call('HDEL', KEYS[3], id)
  redis.call('ZREM', KEYS[4], id)
  redis.call('ZADD', KEYS[5], number, id)
end
for _ = 1, counted() do
  local id = taken()
  live = live + redis.call('HSET', KEYS[3], id, taken())
  redis.call('ZADD', KEYS[4], number, id)
end
for _ = 1, counted() do
  local key = taken()
  redis.call('HSET', KEYS[6], key, taken())
  redis.call('ZADD', KEYS[7], number, key)
end
local now = redis.call('TIME')
local seconds = now[1] .. '.' .. string.format('%06d', now[2])
redis.call('HSET', KEYS[1], 'number', number, 'token', ARGV[5], 'committed', seconds)
redis.call('HINCRBY', KEYS[1], 'chunks', live)
if ARGV[6] ~= '' then redis.call('HSET', KEYS[1], 'settings', ARGV[6]) end
redis.call('HSET', KEYS[2], number, ARGV[5])
redis.call('PUBLISH', ARGV[7], number)
return {'done'}
"""
_CREATE = """
local settings = redis.call('HGET', KEYS[1], 'settings')
if settings and not cjson.decode(settings)['filling'] then return 'there' end
redis.call('DEL', unpack(KEYS))
local now = redis.call('TIME')
redis.call('HSET', KEYS[1], 'identity', ARGV[1], 'number', '0', 'token', ARGV[2], 'settings', ARGV[3])
redis.call('HSET', KEYS[1], 'format', ARGV[4], 'chunks', '0', 'committed', now[1])
return 'made'
"""


class RedisOrigin:
    """An origin in Redis: see `Origin`.

    Args:
        address: of the server, with ``?collection=name``.
        timeout: seconds for a connection, and for each answer.
    """

    def __init__(self, address: Address, *, timeout: float) -> None:
        self._address = address
        self._timeout = timeout
        self._parsed = parse(resolved(address))
        self.where = self._parsed.where
        self._client: Client | None = None
        self._waits = False  # for the file of appends, where the server does not sync each of them by itself
        self._dtype = np.dtype("<f4")
        self._dimension = 0

    def state(self) -> OriginState:
        """Ask for the newest state."""
        kept = self._client is not None
        try:
            with self._errors():
                return self._state(self._connected())
        except OriginUnavailable:
            if not kept:
                raise
        with self._errors():
            return self._state(self._connected())  # over a new connection: the one that was kept has ended

    def append(self, change: Change, after: Position, to: Position) -> None:
        """Make a commit: see `Origin.append`."""
        until = time.monotonic() + self._timeout + len(change.chunks) / _PER_SECOND
        arguments = _arguments(change, after, to, self._channel)
        for attempt in range(_ATTEMPTS):
            try:
                with self._errors():
                    client = self._connected()
                    answer: Any = client.register_script(_APPEND)(keys=self._keys, args=arguments)
                    self._require_done(answer, after)
                    self._wait_for_file(client)
                return
            except OriginUnavailable:
                # Whether it was made is told by its token.
                if attempt + 1 == _ATTEMPTS or time.monotonic() > until:
                    raise

    @contextmanager
    def changes(self, after: Position) -> Iterator[RedisChanges]:
        """Yield what has changed since a position: see `Origin.changes`."""
        with tempfile.TemporaryFile() as file:
            changes = RedisChanges(self, after, file)
            with self._errors():
                changes.collect(self._connected(), time.monotonic() + 10 * self._timeout)
            yield changes

    def wait(self, seconds: float) -> bool:
        """Return True when the server tells of a commit, and False when the time is over."""
        with self._errors():
            listening: Any = self._connected().pubsub()
            try:
                listening.subscribe(self._channel)
                until = time.monotonic() + seconds
                while (left := until - time.monotonic()) > 0:
                    told = listening.get_message(timeout=left)
                    if told is not None and told["type"] == "message":
                        return True
                return False
            finally:
                listening.close()

    def close(self) -> None:
        """End the connection."""
        client, self._client = self._client, None
        if client is not None:
            with suppress(redis.RedisError, OSError):
                client.close()

    def abandon(self) -> None:
        """Leave the connection to the parent; the driver itself knows of a fork, and never writes to it here."""
        if self._client is not None:
            _ABANDONED.append(self._client)
            self._client = None

    # ── one answer ───────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _prefix(self) -> str:
        # In braces, so that a cluster keeps all keys of a collection in one place.
        return f"reperio:{{{self._parsed.name}}}:"

    @property
    def _keys(self) -> list[str]:
        return [self._prefix + key for key in _KEYS]

    @property
    def _channel(self) -> str:
        return self._prefix + "news"

    def _connected(self) -> Client:
        if self._client is None:
            self._parsed = parse(resolved(self._address))
            client = redis.Redis.from_url(
                self._parsed.server,
                socket_timeout=self._timeout,
                socket_connect_timeout=self._timeout,
                retry=Retry(NoBackoff(), 0),
                **({} if self._parsed.server.startswith("unix") else {"socket_keepalive": True}),
            )
            self._client = client
            self._waits = _require_durable(client, self.where)
        return self._client

    def _state(self, client: Client) -> OriginState:
        found: Any = client.hgetall(self._keys[0])
        if not found:
            raise self._not_found()
        if int(found[b"format"]) > FORMAT:
            raise OriginRefused(
                f"{self.where} was made by a newer Reperio (format {int(found[b'format'])}; this one knows {FORMAT}); "
                "update this one"
            )
        settings = orjson.loads(found[b"settings"])
        self._dtype = np.dtype("<f2" if settings.get("dtype") == "float16" else "<f4")
        self._dimension = int(settings["dimension"])
        position = Position(found[b"identity"].decode(), int(found[b"number"]), found[b"token"].decode())
        return OriginState(position, float(found[b"committed"]), settings, int(found[b"chunks"]))

    def _require_done(self, answer: list[bytes], after: Position) -> None:
        if answer[0] == b"none":
            raise self._not_found()
        if answer[0] == b"other":
            theirs = Position(answer[1].decode(), int(answer[2]), answer[3].decode())
            if theirs.origin != after.origin or theirs.number < after.number:
                raise diverged(self.where, after, theirs)
            raise Outdated(f"{self.where}: commit {theirs.number} has come after {after.number}; try again")

    def _wait_for_file(self, client: Client) -> None:
        if self._waits:
            synced: Any = client.execute_command("WAITAOF", 1, 0, int(self._timeout * 1000))
            if not synced or synced[0] < 1:
                raise OriginUnavailable(f"{self.where} has not synced its file within {self._timeout:g} s; try again")

    def _not_found(self) -> OriginNotFound:
        return OriginNotFound(
            f"{self.where}: the server has no origin of that name; make one: reperio origin create URL KB"
        )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn the driver's errors into ours; a connection that has failed is not used again."""
        try:
            yield
        except redis.RedisError as error:
            self.close()
            if isinstance(error, redis.TimeoutError):
                raise OriginUnavailable(
                    f"{self.where} has not answered within {self._timeout:g} s; searches go on, try again later"
                ) from None
            raise translated(error, self._parsed) from None  # the driver's text may have the password
        except OSError as error:
            self.close()
            raise OriginUnavailable(
                f"{self.where}: {self._parsed.told(error)}; searches go on, try again later"
            ) from None
        except OriginUnavailable:
            self.close()
            raise
        except Exception:
            raise
        except BaseException:  # Ctrl-C: the rest of an answer would be taken for the next one
            self.close()
            raise


class RedisChanges:
    """What has changed since a commit, as of one later state: see `Pulled`.

    Redis has no snapshots. What has changed is read, and then what has changed meanwhile, until nothing has. It is kept
    in a file until then.
    """

    def __init__(self, origin: RedisOrigin, after: Position, file: IO[bytes]) -> None:
        self._origin, self._after, self._file = origin, after, file
        self._client: Client | None = None
        self._places: dict[bytes, tuple[int, int, int]] = {}  # number, offset and size, by id
        self._gone: list[str] = []
        self._records: list[Entry] = []
        self.state: OriginState = OriginState(after, 0.0, {}, 0)

    def collect(self, client: Client, until: float) -> None:
        """Read all that has changed, up to a state that nothing has changed since."""
        self._client = client
        keys, low, after = self._origin._keys, self._after.number, self._after
        while True:
            self.state = state = self._origin._state(client)
            passed = after.number == 0 or client.hget(keys[1], str(after.number)) == after.token.encode()
            if state.position.origin != after.origin or not passed:
                raise diverged(self._origin.where, after, state.position)
            ids: Any = client.zrange(keys[3], f"({low}", "+inf", byscore=True)
            for first in range(0, len(ids), _BLOCK):
                self._keep(ids[first : first + _BLOCK], client.hmget(keys[2], ids[first : first + _BLOCK]))
            gone: Any = client.zrange(keys[4], f"({low}", "+inf", byscore=True, withscores=True)
            for key, number in gone:
                if self._places.get(key, (int(number) + 1,))[0] <= number:
                    del self._places[key]
            names: Any = client.zrange(keys[6], f"({after.number}", "+inf", byscore=True)
            self._gone = [key.decode() for key in client.zrange(keys[4], f"({after.number}", "+inf", byscore=True)]
            self._records = _records(names, client.hmget(keys[5], names) if names else [])
            if self._origin._state(client).position == state.position:
                return
            if time.monotonic() > until:
                raise OriginUnavailable(
                    f"{self._origin.where} changes more quickly than it can be read; try again later"
                )
            low = state.position.number

    def _keep(self, ids: list[bytes], values: list[bytes | None]) -> None:
        for key, value in zip(ids, values, strict=True):
            if value is None:  # deleted meanwhile
                self._places.pop(key, None)
                continue
            offset = self._file.seek(0, 2)
            self._file.write(value)
            self._places[key] = _SIZES.unpack_from(value)[0], offset, len(value)

    @property
    def chunks(self) -> int:
        """How many chunks `blocks` yields."""
        return len(self._places)

    def deleted(self) -> Iterator[list[str]]:
        """Yield ids of chunks that were deleted."""
        if self._after.number and self._gone:
            yield self._gone

    def forgotten(self) -> Iterator[list[ForgottenRecord]]:
        """Yield names of records that were deleted."""
        names = [ForgottenRecord(*entry[:3]) for entry in self._records if entry.time < 0]
        if self._after.number and names:
            yield names

    def records(self) -> Iterator[list[Entry]]:
        """Yield records that were put."""
        entries = [entry for entry in self._records if entry.time >= 0]
        if entries:
            yield entries

    def blocks(self) -> Iterator[Block]:
        """Yield the chunks that were put, by the numbers of their commits."""
        dtype, dimension = self._origin._dtype, self._origin._dimension
        places = sorted(self._places.items(), key=lambda item: item[1])
        for first in range(0, len(places), _BLOCK):
            chunks, vectors = [], []
            part = places[first : first + _BLOCK]
            for key, (_, offset, size) in part:
                self._file.seek(offset)
                chunk, vector = _unpacked(key, self._file.read(size))
                chunks.append(chunk)
                vectors.append(vector)
            data = b"".join(vectors)
            if len(data) != len(part) * dimension * dtype.itemsize:
                raise OriginRefused(
                    f"{self._origin.where}: its vectors do not have {dimension} values; mend them there"
                )
            yield Block(chunks, np.frombuffer(data, dtype=dtype).reshape(len(part), dimension), part[-1][1][0])

    def token_of(self, number: int) -> str:
        """Return the token of a commit before the state's."""
        assert self._client is not None  # collected
        with self._origin._errors():
            found: Any = self._client.hget(self._origin._keys[1], str(number))
        return found.decode() if found else ""


def create(address: Address, settings: Mapping[str, Any], position: Position, *, timeout: float) -> RedisOrigin:
    """Make an empty origin: see `connecting.create`."""
    origin = RedisOrigin(address, timeout=timeout)
    arguments = [position.origin, position.token, orjson.dumps(settings), FORMAT]
    with origin._errors():
        client = origin._connected()
        answer = client.register_script(_CREATE)(keys=origin._keys, args=arguments)
        if answer != b"made":
            origin.close()
            raise CollectionExists(f"{origin.where} is there already; clone it with reperio pull, or take another name")
        origin._wait_for_file(client)
    return origin


def translated(error: redis.RedisError, parsed: Parsed) -> OriginUnavailable | OriginRefused:
    """Say what an error of the driver means, and the cure; without the password."""
    said = parsed.told(error)
    for words, cure in _MEANINGS:
        if words in f"{type(error).__name__} {said}":
            return OriginRefused(f"{parsed.where}: {said}; {cure}")
    return OriginUnavailable(f"{parsed.where}: {said}; searches go on, try again when the server is there")


_MEANINGS = (
    ("WRONGPASS", "check user and password"),
    ("NOAUTH", "give user and password, e.g. in a function that returns the URL"),
    ("already authenticated", "give user and password, e.g. in a function that returns the URL"),
    ("Authentication", "check user and password"),
    ("NOPERM", "the user needs all commands on keys and channels that begin with reperio:"),
    ("NoPermission", "the user needs all commands on keys and channels that begin with reperio:"),
    ("READONLY", "connect to the primary"),
    ("ReadOnly", "connect to the primary"),
    ("MISCONF", "the server cannot write its file: free some space there"),
    ("OOM", "the server's memory is full: raise maxmemory there"),
    ("OutOfMemory", "the server's memory is full: raise maxmemory there"),
    ("DB index", "check the number of the database"),
    ("unknown command", "take Redis 6 or newer"),
)
_ABANDONED: list[object] = []  # connections of a parent process


def _require_durable(client: Client, where: str) -> bool:
    """Require that the server keeps what it acknowledges; say whether it has to be waited for after each commit."""
    role: Any = client.info("replication")
    if role.get("role") != "master":
        raise OriginRefused(f"{where} is a replica of another Redis; connect to the primary")
    try:
        found: Any = client.config_get("appendonly", "appendfsync", "maxmemory-policy")
    except redis.ResponseError:  # a managed server tells nothing of its settings
        found = {}
    if str(found.get("maxmemory-policy", "noeviction")).startswith("allkeys"):
        raise OriginRefused(
            f"{where} may drop what it holds (maxmemory-policy {found['maxmemory-policy']}); set it to noeviction"
        )
    if (found.get("appendonly"), found.get("appendfsync")) == ("yes", "always"):
        return False
    try:
        client.execute_command("WAITAOF", 1, 0, 1)
    except redis.ResponseError:
        told = ", ".join(f"{name} {found.get(name, 'unknown')}" for name in ("appendonly", "appendfsync"))
        raise OriginRefused(
            f"{where} may lose what it has acknowledged ({told}); set appendonly yes and appendfsync always there"
        ) from None
    return True


def _arguments(change: Change, after: Position, to: Position, channel: str) -> list[Any]:
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
        found += [orjson.dumps(tuple(names)), b"null"]
    return found


def _unpacked(key: bytes, value: bytes) -> tuple[NewChunk, bytes]:
    _, text, metadata = _SIZES.unpack_from(value)
    end = _SIZES.size + text
    chunk = NewChunk(key.decode(), value[_SIZES.size : end].decode(), value[end : end + metadata].decode())
    return chunk, value[end + metadata :]


def _records(names: list[bytes], values: list[bytes | None]) -> list[Entry]:
    """Return records; those that were deleted have a negative time."""
    found = []
    for name, value in zip(names, values, strict=True):
        told = orjson.loads(value or b"null") or [None, None, -1.0]
        found.append(Entry(*orjson.loads(name), *told))
    return found

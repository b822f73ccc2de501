"""Keep an origin in Redis, in a handful of keys of one collection.

Each chunk is a field of one hash: its newest version, with the number of the commit it came in. A commit is one script,
which Redis runs without another in between. Redis keeps what it has acknowledged only with ``appendonly yes`` and
``appendfsync always``, or where it can be waited for (WAITAOF): else it is refused.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from typing import Any, TypeAlias

import orjson

from reperio.errors import OriginRefused, OriginUnavailable, StorageFailed
from reperio.optional import OptionalImport
from reperio.origins.address import Address, Parsed, parse, resolved
from reperio.origins.protocol import Change, OriginState, Position
from reperio.origins.redis.changes import RedisChanges
from reperio.origins.redis.packing import FORMAT, KEYS, packed, read_state, require_size
from reperio.origins.server import ServerOrigin

with OptionalImport("an origin in Redis", "redis", extra="redis"):
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

Client: TypeAlias = Any
"""A client of redis-py, whose types promise text and bytes by turns, from version to version."""

# KEYS are those of packing.py. An error in a script takes back nothing that it has done. So all that may be forbidden
# is tried first. (Redis without memory or disk refuses the first write, and no other.)
# The commit that is there already is written once more: what is waited for (WAITAOF) are the writes of this connection,
# and that commit came over another one, whose answer was lost.
_APPEND = """
local held = redis.call('HMGET', KEYS[1], 'identity', 'number', 'token')
if not held[1] then return {'none'} end
if held[1] ~= ARGV[1] or held[2] ~= ARGV[2] or held[3] ~= ARGV[3] then
  if held[1] == ARGV[1] and redis.call('HGET', KEYS[2], ARGV[4]) == ARGV[5] then
    redis.call('HSET', KEYS[2], ARGV[4], ARGV[5])
    return {'done'}
  end
  return {'other', held[1], held[2], held[3]}
end
for _, command in ipairs(redis.acl_check_cmd and {'HSET', 'HDEL', 'ZADD', 'ZREM', 'HINCRBY'} or {}) do
  if not redis.acl_check_cmd(command, KEYS[1], '1', '1') then return redis.error_reply('NOPERM ' .. command) end
end
redis.call('PUBLISH', ARGV[7], ARGV[4])
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


class RedisOrigin(ServerOrigin):
    """An origin in Redis: see `Origin`.

    Args:
        address: of the server, with ``?collection=name``.
        timeout: seconds for a connection, and for each answer.
    """

    def __init__(self, address: Address, *, timeout: float) -> None:
        super().__init__(address, timeout=timeout)
        self._client: Client | None = None
        self._news: Any = None  # where the server tells of commits
        self._waits = False  # for the file of appends, where the server does not sync each of them by itself
        self._connections = 0  # made so far

    @contextmanager
    def changes(self, after: Position) -> Iterator[RedisChanges]:
        """Yield what has changed since a position: see `Origin.changes`."""
        with self._errors():
            changes = RedisChanges(self._connected(), self._keys, after, self.where, self._errors)
        with closing(changes):
            with self._errors():
                if not changes.collect(time.monotonic() + 10 * self._timeout):
                    raise self._not_found()
            yield changes

    def wait(self, seconds: float, known: Position | None) -> bool:
        """Return when the origin leaves a position: see `Origin.wait`."""
        self.state()
        with self._errors():
            if self._news is None:  # kept: a commit between two waits is told at the next
                self._news = self._connected().pubsub()
                self._news.subscribe(self._channel)
            if self._state(self._connected()).position != known:
                return True
            until = time.monotonic() + seconds
            while (left := until - time.monotonic()) > 0:
                told = self._news.get_message(timeout=left)
                if told is not None and told["type"] == "message":
                    return True
            return False

    # ── one answer ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _ask(self) -> OriginState:
        with self._errors():
            return self._state(self._connected())

    def _append(self, change: Change, after: Position, to: Position, seconds: float) -> None:
        if seconds <= 0:
            raise self._silent()
        arguments = packed(change, after, to, self._channel)
        require_size(arguments, self.where)
        with self._errors():
            client = self._connected()
            answer: Any = client.register_script(_APPEND)(keys=self._keys, args=arguments)
            if answer[0] == b"none":
                raise self._not_found()
            if answer[0] == b"other":
                self._require_at(after, Position(answer[1].decode(), int(answer[2]), answer[3].decode()))
            self._wait_for_file(client)

    @property
    def _prefix(self) -> str:
        # In braces, so that a cluster keeps all keys of a collection in one place. They end at the first that closes.
        name = self._parsed.name.replace("%", "%25").replace("}", "%7D")
        return f"reperio:{{{name}}}:"

    @property
    def _keys(self) -> list[str]:
        return [self._prefix + key for key in KEYS]

    @property
    def _channel(self) -> str:
        return self._prefix + "news"

    def _connected(self) -> Client:
        if self._client is None:
            self._parsed = parse(resolved(self._address))
            try:
                self._client = _client(self._parsed.server, self._timeout, self._check)
            except (TypeError, ValueError) as error:
                raise OriginRefused(
                    f"{self.where}: {self._parsed.told(error)}; check the options in the URL, and its port"
                ) from None
        return self._client

    def _check(self, connection: Any) -> None:
        """Require of each new connection that its server keeps what it acknowledges.

        Of each one, since the driver makes new ones unasked: behind the address may by then be another server.
        """
        try:
            connection.on_connect()
            self._waits = _require_durable(connection, self.where)
            self._connections += 1
        except BaseException:
            connection.disconnect()
            raise

    def _state(self, client: Client) -> OriginState:
        found: Any = client.hgetall(self._keys[0])
        if not found:
            raise self._not_found()
        return read_state(found, self.where)

    def _wait_for_file(self, client: Client) -> None:
        if self._waits:
            made = self._connections
            synced: Any = client.execute_command("WAITAOF", 1, 0, int(self._timeout * 1000))
            if not synced or synced[0] < 1 or self._connections != made:  # a new connection has no writes to wait for
                raise OriginUnavailable(f"{self.where} has not synced its file within {self._timeout:g} s; try again")

    def _connection_held(self) -> object | None:
        return self._client

    def _forget_connection(self) -> None:
        self._client = self._news = None

    def _disconnect(self) -> None:
        held = (self._news, self._client)
        self._forget_connection()
        for one in held:
            if one is not None:
                with suppress(redis.RedisError, OSError):
                    one.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn the driver's errors into ours; a connection that has failed is not used again."""
        try:
            yield
        except StorageFailed:  # of what is read, on this host
            raise
        except redis.RedisError as error:
            self.close()
            if isinstance(error, redis.TimeoutError):
                raise self._silent() from None
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

    def make(self, settings: Mapping[str, Any], position: Position) -> None:
        """Make an empty origin: see `connecting.create`."""
        arguments = [position.origin, position.token, orjson.dumps(settings), FORMAT]
        with self._errors():
            client = self._connected()
            if client.register_script(_CREATE)(keys=self._keys, args=arguments) != b"made":
                raise self._exists()
            self._wait_for_file(client)


def create(address: Address, settings: Mapping[str, Any], position: Position, *, timeout: float) -> RedisOrigin:
    """Make an empty origin, and return it: see `connecting.create`."""
    origin = RedisOrigin(address, timeout=timeout)
    try:
        origin.make(settings, position)
    except BaseException:
        origin.close()
        raise
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
    ("Authentication required", "give user and password, e.g. in a function that returns the URL"),
    ("already authenticated", "give user and password, e.g. in a function that returns the URL"),
    ("Authentication", "check user and password"),
    ("NOPERM", "the user needs all commands on keys and channels that begin with reperio:"),
    ("NoPermission", "the user needs all commands on keys and channels that begin with reperio:"),
    (
        "The user executing the script can't",
        "the user needs all commands on keys and channels that begin with reperio:",
    ),
    ("READONLY", "connect to the primary"),
    ("ReadOnly", "connect to the primary"),
    ("MISCONF", "the server cannot write its file: free some space there"),
    ("OOM", "the server's memory is full: raise maxmemory there"),
    ("OutOfMemory", "the server's memory is full: raise maxmemory there"),
    ("DB index", "check the number of the database"),
    ("Moved", "it is one node of a cluster; connect to the node that is named here"),
    ("protocol must be", "check the options in the URL"),
    ("unknown command", "take Redis 6 or newer"),
)


def _client(server: str, timeout: float, check: Any) -> Client:
    pool = redis.ConnectionPool.from_url(server)
    ours: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": Retry(NoBackoff(), 0),
        "redis_connect_func": check,
        "decode_responses": False,
    }
    if not issubclass(pool.connection_class, redis.UnixDomainSocketConnection):
        ours["socket_keepalive"] = True
    pool.connection_kwargs.update(ours)  # not by from_url, for which the URL's own options come first
    pool.connection_class(**pool.connection_kwargs)  # options that do not exist are refused now
    return redis.Redis(connection_pool=pool)


def _require_durable(connection: Any, where: str) -> bool:
    """Require that a server keeps what it acknowledges; say whether it has to be waited for after each commit."""
    role = _asked(connection, "ROLE")
    if role and role[0] != b"master":
        raise OriginRefused(f"{where} is a replica of another Redis; connect to the primary")
    # By patterns: before Redis 7, CONFIG GET takes one at a time.
    found = _named(_asked(connection, "CONFIG", "GET", "append*"))
    policy = _named(_asked(connection, "CONFIG", "GET", "maxmemory-policy")).get("maxmemory-policy", "noeviction")
    if policy.startswith("allkeys"):
        raise OriginRefused(f"{where} may drop what it holds (maxmemory-policy {policy}); set it to noeviction")
    if (found.get("appendonly"), found.get("appendfsync")) == ("yes", "always"):
        return False
    if _asked(connection, "WAITAOF", "1", "0", "1") is not None:
        return True
    if not found:
        raise OriginRefused(
            f"{where} does not say whether it syncs each write; let this user call CONFIG GET (ACL: +config|get), or "
            "take Redis 7.2 or newer, which can be waited for"
        )
    told = ", ".join(f"{name} {found.get(name, 'unknown')}" for name in ("appendonly", "appendfsync"))
    raise OriginRefused(
        f"{where} may lose what it has acknowledged ({told}); set appendonly yes and appendfsync always there"
    )


def _asked(connection: Any, *command: str) -> Any:
    """Return an answer; None where this server does not know or not allow the command."""
    connection.send_command(*command)
    try:
        return connection.read_response()
    except redis.ResponseError as error:
        if (
            isinstance(error, redis.exceptions.NoPermissionError)
            or "unknown command" in str(error)
            or command[0] == "WAITAOF"
        ):
            return None
        raise


def _named(found: Any) -> dict[str, str]:
    if not found:
        return {}
    pairs = found.items() if isinstance(found, dict) else zip(found[::2], found[1::2], strict=True)
    return {name.decode(): value.decode() for name, value in pairs}

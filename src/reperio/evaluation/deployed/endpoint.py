"""Ask a running HTTP endpoint: JSON in, JSON out, within a stated time."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from reperio.arguments import require_seconds
from reperio.errors import InvalidInput
from reperio.printable import one_line
from reperio.types import Chunk

SECONDS = 30.0
"""Time for one question, from connecting to the last byte."""

_LISTS = ("hits", "results", "matches", "documents", "data", "ids")  # names of the list in an answer, in this order
_IDS = ("id", "chunk_id", "doc_id", "document_id", "_id")
_SCORES = ("score", "_score", "similarity", "relevance")
_TEXTS = ("text", "page_content", "content")
_MOST_BYTES = 64 << 20
_BLOCK = 1 << 16
_SHOWN = 120  # characters of an answer in an error
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a name, as RFC 9110 has it


class Endpoint:
    """A search that POSTs each question to a URL.

    It sends ``{"query": …, "k": …, "where": … or null, "mode": …, "id": …}``, and ``"vector"`` where the question has
    one. It reads a list, or an object with a list under ``hits``, ``results``, ``matches``, ``documents``, ``data`` or
    ``ids``. An item is an id, ``[id, score]``, or an object with ``id`` and, if wanted, ``score`` (higher is better),
    ``text`` and ``metadata``.

    One connection per thread is kept open. Redirects are not followed, and proxies of the environment are not used.

    Args:
        url: http:// or https://.
        headers: sent with each question, e.g. {"Authorization": "Bearer …"}.
        timeout: seconds for one question as a whole, also where an answer comes byte by byte.

    Raises:
        InvalidInput: the URL, a header or the time cannot be.
    """

    def __init__(self, url: str, *, headers: Mapping[str, str] | None = None, timeout: float = SECONDS) -> None:
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError as error:
            raise InvalidInput(f"url is {url!r:.200}: {error}") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidInput(f"url is {url!r:.200}; pass one that begins with http:// or https://")
        if parts.username or parts.password:
            raise InvalidInput("url holds a password, which reports would show; pass it in a header")
        if re.search(r"[\x00-\x20\x7f-\uffff]", url):
            raise InvalidInput(f"url is {url!r:.200}; it holds a character that must be written as %…")
        self.timeout = require_seconds("timeout", timeout)
        if not self.timeout:
            raise InvalidInput("timeout is 0; it must be a number of seconds above 0")
        self._secure, self._host, self._port = parts.scheme == "https", parts.hostname, port
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._headers = {**_require_headers(headers or {}), "Content-Type": "application/json"}
        self._headers.setdefault("Accept", "application/json")
        self._own, self._kept = threading.local(), set[HTTPConnection]()
        self.__qualname__ = self.url = url.partition("?")[0]  # as reports call it: a query may hold a key

    def __call__(
        self,
        text: str,
        *,
        k: int,
        where: Mapping[str, Any] | None,
        mode: str,
        id: str,  # noqa: A002  # as the gate calls it
        vector: Sequence[float] | None,
    ) -> list[Any]:
        """Answer one question."""
        asked = {"query": text, "k": k, "where": where, "mode": mode, "id": id}
        if vector is not None:
            asked["vector"] = list(vector)
        body = json.dumps(asked, default=str).encode()
        status, kind, content = self._answered(body)
        if status != 200:
            hint = "; it redirects: pass the URL that it leads to" if 300 <= status < 400 else ""
            raise InvalidInput(f"{self.url} answered {status}{hint}: {_shown(content)}")
        try:
            answer = json.loads(content)
        except (ValueError, RecursionError):
            raise InvalidInput(f"{self.url} answered no JSON ({kind or 'no type'}): {_shown(content)}") from None
        return to_results(answer, self.url)

    def close(self) -> None:
        """Close the connections that are kept open."""
        while self._kept:
            self._kept.pop().close()
        self._own = threading.local()

    def _answered(self, body: bytes) -> tuple[int, str, bytes]:
        """Return status, type and content of the answer."""
        kept = getattr(self._own, "connection", None)
        deadline = time.monotonic() + self.timeout
        try:
            try:
                return self._exchanged(body, deadline)
            except (ConnectionError, HTTPException):
                # A server may close what was kept open, between two questions: that says nothing of it.
                if kept is None or time.monotonic() >= deadline:
                    raise
                return self._exchanged(body, deadline)
        except (OSError, HTTPException) as error:
            if isinstance(error, TimeoutError) or time.monotonic() >= deadline:
                raise InvalidInput(f"{self.url} did not answer within {self.timeout:g} s") from error
            why = error.strerror if isinstance(error, OSError) and error.strerror else one_line(str(error))
            raise InvalidInput(f"{self.url} cannot be asked: {why or type(error).__name__}") from error

    def _exchanged(self, body: bytes, deadline: float) -> tuple[int, str, bytes]:
        connection = getattr(self._own, "connection", None)
        self._own.connection = None
        self._kept.discard(connection)
        if connection is None:
            maker = HTTPSConnection if self._secure else HTTPConnection
            connection = maker(self._host, self._port, timeout=self.timeout)
        # The socket's own timeout is for each read: a server that sends a byte every second would never exceed it.
        guard = threading.Timer(max(0.0, deadline - time.monotonic()), _cut, [connection])
        guard.daemon = True
        guard.start()
        try:
            connection.request("POST", self._target, body, self._headers)
            response = connection.getresponse()
            content = _read(response, self.url)
            if time.monotonic() >= deadline:
                raise TimeoutError
        except BaseException:
            connection.close()
            raise
        finally:
            guard.cancel()
        if response.will_close:
            connection.close()
        else:
            self._own.connection = connection
            self._kept.add(connection)
        return response.status, response.headers.get_content_type(), content


def to_results(answer: Any, url: str) -> list[Any]:
    """Return the results of an answer as the gate reads them, or refuse it."""
    if isinstance(answer, dict):
        name = next((each for each in _LISTS if isinstance(answer.get(each), list)), None)
        if name is None:
            has = ", ".join(map(repr, list(answer)[:10])) or "nothing"
            raise InvalidInput(f"{url} answered an object with {has}; the list is looked for in {', '.join(_LISTS)}")
        answer = answer[name]
    if not isinstance(answer, list):
        raise InvalidInput(
            f"{url} answered {one_line(str(answer))[:_SHOWN]!r}; it must be a list, or an object with one"
        )
    return [_result(each, url) for each in answer]


def _result(item: Any, url: str) -> Any:
    if isinstance(item, list) and len(item) == 2:
        return _id(item[0], item, url), item[1]
    if not isinstance(item, dict):
        return _id(item, item, url)
    inner = item["chunk"] if isinstance(item.get("chunk"), dict) else item
    identifier = _id(next((inner[name] for name in _IDS if name in inner), None), item, url)
    text = next((inner[name] for name in _TEXTS if isinstance(inner.get(name), str)), "")
    metadata = inner.get("metadata")
    chunk = Chunk(identifier, text, metadata if isinstance(metadata, dict) else {})
    score = next((item[name] for name in _SCORES if name in item), None)
    return chunk if score is None else (chunk, score)


def _id(value: Any, item: Any, url: str) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value:
        shown = one_line(json.dumps(item, default=str))[:_SHOWN]
        raise InvalidInput(f"{url} answered the result {shown} without an id; an id is a text in {', '.join(_IDS)}")
    return value


def _read(response: HTTPResponse, url: str) -> bytes:
    parts, total = [], 0
    while part := response.read1(_BLOCK):
        parts.append(part)
        total += len(part)
        if total > _MOST_BYTES:
            raise InvalidInput(f"{url} answered more than {_MOST_BYTES >> 20} MiB; it must be a list of what was found")
    return b"".join(parts)


def _cut(connection: HTTPConnection) -> None:
    """End what waits on a connection, from another thread."""
    if connection.sock is not None:
        try:
            connection.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it is closed already


def _shown(content: bytes) -> str:
    return one_line(content[: 4 * _SHOWN].decode("utf-8", "replace"))[:_SHOWN] or "nothing"


def _require_headers(headers: Mapping[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER.fullmatch(name):
            raise InvalidInput(f"the header {name!r:.80} has no name that a header can have")
        # Not shown: it may be a key.
        if not isinstance(value, str) or re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value) or not _is_latin(value):
            raise InvalidInput(f"the header {name!r} has a value that a header cannot have")
    return dict(headers)


def _is_latin(value: str) -> bool:
    try:
        value.encode("latin-1")
    except UnicodeEncodeError:
        return False
    return True

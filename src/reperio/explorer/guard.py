"""Let requests through that know the token, and nothing that a page of somebody else sends or shows.

The token is part of the address: no cookie, which every other port of this machine would be sent as well, and nothing
that a page of a stranger could use without knowing it. What changes something also needs a header that no form and no
page of another origin can send.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reperio.serving import loopback

MARK = b"x-reperio-studio"
"""The header of requests that change something."""

MOST_BODY = 65_536  # bytes
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = [
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    (b"cache-control", b"no-store"),
]


class Guard:
    """Stands before the pages.

    Args:
        app: the pages.
        token: first part of each path.
        port: that is listened on, which `Host` and `Origin` name.
    """

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        self._app = app
        self._token = token.encode()
        self._hosts = {host.encode() for host in loopback.hosts(port)}
        self._origins = {origin.encode() for origin in loopback.origins(port)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return

        async def protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *_HEADERS]}
            await send(message)

        headers: Sequence[tuple[bytes, bytes]] = scope["headers"]
        status, why = self._refusal(scope["method"], headers)
        first, _, _ = scope["path"].lstrip("/").partition("/")
        if not status and not loopback.is_token(first.encode("utf-8", "replace"), self._token):
            status, why = 403, "open the address that reperio studio has printed: it holds a token"
        if not status and _length(headers) > MOST_BODY:
            status, why = 413, f"a request has at most {MOST_BODY:,} bytes"
        if status:
            await PlainTextResponse(f"{why}\n", status_code=status)(scope, receive, protected)
            return
        await self._app({**scope, "root_path": f"/{first}"}, _bounded(receive), protected)

    def _refusal(self, method: str, headers: Sequence[tuple[bytes, bytes]]) -> tuple[int, str]:
        """Return the status and the reason by which a request is refused; 0 for one that is not."""

        def given(wanted: bytes) -> list[bytes]:
            return [value for name, value in headers if name == wanted]

        if (host := given(b"host")) and (len(host) != 1 or host[0] not in self._hosts):
            return 421, "this address is for 127.0.0.1 and localhost alone"
        if any(origin not in self._origins for origin in given(b"origin")):
            return 403, "another page may not ask here"
        if method in ("GET", "HEAD"):
            return 0, ""
        if method != "POST":
            return 405, "GET, HEAD and POST are answered"
        if given(MARK) != [b"1"] or given(b"sec-fetch-site") not in ([], [b"same-origin"]):
            return 403, "only a page of the studio itself changes something"
        if any(each.partition(b";")[0].strip() != b"application/json" for each in given(b"content-type") or [b""]):
            return 415, "send JSON"
        return 0, ""


def _length(headers: Sequence[tuple[bytes, bytes]]) -> int:
    return next((int(value[:20]) for name, value in headers if name == b"content-length" and value.isdigit()), 0)


def _bounded(receive: Receive) -> Receive:
    """Return what receives no more than a body may have; what comes in parts tells no length."""
    received = 0

    async def bounded() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        return message if received <= MOST_BODY else {"type": "http.disconnect"}

    return bounded

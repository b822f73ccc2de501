"""Listen on a port of this machine alone, for those who know a token.

A page of a stranger, shown by a browser on this machine, reaches such a port as well: by its address, or by a name of
the stranger's that leads here (DNS rebinding). It knows no token, and its `Host` or `Origin` gives it away.
"""

from __future__ import annotations

import hmac
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from reperio.errors import InvalidInput

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

HOST = "127.0.0.1"
_LEAST_TOKEN = 16  # characters
_WAITING = 128  # connections
_GRACE = 2  # seconds that open requests have when the server ends


def require_port(name: str, port: int) -> None:
    """Refuse what is no port; *name* is the option's."""
    if not 0 <= port <= 65_535:
        raise InvalidInput(f"{name} is {port}; a port is a number from 0 to 65535")


def require_token(token: str) -> None:
    """Refuse a token that is short, or that no header or address can hold."""
    if len(token) < _LEAST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidInput(f"the token must have at least {_LEAST_TOKEN} letters, digits or signs, and no space")


def require_in_address(token: str) -> None:
    """Refuse a token that would not be one part of an address, as written."""
    if quote(token, safe="") != token:
        raise InvalidInput("the token is a part of the address; use letters, digits and - . _ ~ alone")


def is_token(given: bytes, expected: bytes) -> bool:
    """Compare in a time that does not tell how much of a guess is right."""
    return hmac.compare_digest(given, expected)


@contextmanager
def listening(port: int) -> Iterator[tuple[socket.socket, int]]:
    """Open a port of this machine, 0 for any that is free, and yield its socket and number.

    Raises:
        InvalidInput: it cannot be used.
    """
    # The protocol by its number: asyncio sends small parts at once on such sockets alone, others wait 40 ms for a sign.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as found:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((HOST, port))
        except (OSError, OverflowError) as error:
            raise InvalidInput(f"port {port} of {HOST} cannot be used ({error}); pass another one") from error
        found.listen(_WAITING)
        yield found, found.getsockname()[1]


def hosts(port: int) -> list[str]:
    """Return what a `Host` may be for a request to this port."""
    return [f"{name}:{port}" for name in (HOST, "localhost")]


def origins(port: int) -> list[str]:
    """Return what an `Origin` may be for a request to this port."""
    return [f"http://{host}" for host in hosts(port)]


def to_server(app: ASGIApp, **options: Any) -> uvicorn.Server:
    """Return a server for an application, which logs no address and speaks HTTP alone; *options* are uvicorn's."""
    import uvicorn

    quiet: dict[str, Any] = {"log_level": "warning", "access_log": False, "ws": "none"}
    return uvicorn.Server(uvicorn.Config(app, timeout_graceful_shutdown=_GRACE, **quiet, **options))


def serve(app: ASGIApp, at: socket.socket, *, ready: Callable[[], object] = lambda: None, **options: Any) -> None:
    """Serve an application until the process is interrupted.

    Args:
        app: to be served.
        at: a socket that listens.
        ready: called before the first request.
        options: of `uvicorn.Config`.
    """
    import anyio

    server = to_server(app, **options)
    ready()
    with suppress(KeyboardInterrupt):
        anyio.run(lambda: server.serve(sockets=[at]))
    sys.stderr.flush()

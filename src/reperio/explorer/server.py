"""Serve the pages on a port of this machine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from reperio.explorer.desk import Desk
from reperio.optional import OptionalImport
from reperio.serving import loopback

with OptionalImport("the studio", "Starlette, uvicorn and Jinja", extra="studio"):
    import anyio.to_thread
    import jinja2  # noqa: F401  # asked for here, so that it is missed before a page is
    import uvicorn  # noqa: F401  # likewise
    from starlette.applications import Starlette

from reperio.explorer.guard import Guard
from reperio.explorer.pages.base import Site
from reperio.explorer.pages.routes import routes

_THREADS = 16  # pages that are made at the same time
_CONNECTIONS = 100


def to_app(desk: Desk, token: str, port: int) -> Guard:
    """Return the pages behind their guard, as an ASGI application."""
    site = Site(desk)

    @asynccontextmanager
    async def begun(_: Starlette) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = _THREADS
        desk.survey()
        yield
        site.close()

    return Guard(Starlette(routes=routes(site), lifespan=begun, exception_handlers=site.handlers()), token, port)


def serve_studio(desk: Desk, port: int, token: str, *, told: Callable[[str], object]) -> None:
    """Serve the pages until the process is interrupted.

    Args:
        desk: the collections.
        port: 0 for any that is free.
        token: first part of each path.
        told: called with the address once it is known.
    """
    loopback.require_token(token)
    with loopback.listening(port) as (listening, at):
        address = f"http://{loopback.HOST}:{at}/{token}/"
        loopback.serve(
            to_app(desk, token, at),
            listening,
            ready=lambda: told(address),
            lifespan="on",
            limit_concurrency=_CONNECTIONS,
            server_header=False,
        )

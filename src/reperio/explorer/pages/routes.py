"""The addresses of the studio."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from reperio.explorer.pages.ask import AskPages
from reperio.explorer.pages.base import Site
from reperio.explorer.pages.judge import JudgePages
from reperio.explorer.pages.look import LookPages

_STATIC = Path(__file__).parent.parent / "static"


def routes(site: Site) -> Sequence[BaseRoute]:
    """Return all addresses, without the token before them."""
    asking, judging, looking = AskPages(site), JudgePages(site), LookPages(site)

    async def first(request: Request) -> Response:
        return RedirectResponse(f"{request.scope['root_path']}/ask")

    pages = {
        "/ask": ("ask.html", asking.ask),
        "/compare": ("compare.html", asking.compare),
        "/judge": ("judge.html", judging.judge),
        "/look": ("look.html", looking.overview),
        "/look/fields": ("fields.html", looking.fields),
        "/look/sources": ("sources.html", looking.sources),
        "/look/chunks": ("chunks.html", looking.chunks),
        "/look/chunk": ("chunk.html", looking.chunk),
        "/look/duplicates": ("duplicates.html", looking.duplicates),
        "/look/index": ("index.html", looking.index),
        "/look/gate": ("gate.html", looking.gate),
    }
    actions = {
        "/keep": asking.keep,
        "/mark": judging.mark,
        "/undo": judging.undo,
        "/question": judging.question,
        "/duplicates": looking.find_duplicates,
    }
    return [
        Route("/", first),
        *(Route(path, site.page(name, make), methods=["GET"]) for path, (name, make) in pages.items()),
        *(Route(path, site.action(work), methods=["POST"]) for path, work in actions.items()),
        Mount("/static", StaticFiles(directory=_STATIC)),
    ]

"""What every page needs: the templates, the navigation, and errors as text with their cure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jinja2
import orjson
from markupsafe import Markup
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from reperio import ReperioError
from reperio.errors import InvalidInput
from reperio.explorer.comparing import Shelf
from reperio.explorer.desk import Desk
from reperio.explorer.jobs import Job
from reperio.explorer.judging import Judge
from reperio.explorer.parameters import Parameters
from reperio.explorer.showing import value_of
from reperio.printable import harmless, logger, one_line

_log = logger("reperio.explorer")
_HERE = Path(__file__).parent.parent
_LONGEST_ERROR = 2000


class Site:
    """The pages of one desk.

    Attributes:
        desk: the collections.
        judge: the golden set; None where none was named.
        shelf: answers that were kept.
        duplicates: the last search for near-duplicates, with what it was asked; None before the first.
    """

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.judge = None if desk.options.golden is None else Judge(desk, desk.options.golden)
        self.shelf = Shelf()
        self.duplicates: tuple[str, Job[Any]] | None = None
        # Everything that is printed is data of others: harmless first, then escaped.
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            finalize=lambda value: harmless(value) if type(value) is str else value,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {
            "count": lambda value: "–" if value is None else f"{value:,}",
            "score": _score,
            "ms": lambda value: f"{value:.1f} ms" if value < 100 else f"{value:,.0f} ms",
            "bytes": _bytes,
            "value": value_of,
            "one_line": one_line,
        }

    def close(self) -> None:
        """Stop what is under way."""
        if self.duplicates is not None:
            self.duplicates[1].stop(wait=1.0)

    def page(self, name: str, make: Callable[[Parameters], Mapping[str, Any]]) -> Callable[[Request], Any]:
        """Return an endpoint that shows a template with what *make* returns for the parameters."""

        async def endpoint(request: Request) -> Response:
            return await run_in_threadpool(self._page, request, name, make)

        return endpoint

    def action(self, work: Callable[[Parameters], Mapping[str, Any]]) -> Callable[[Request], Any]:
        """Return an endpoint that does what a key or a button stands for, and answers in JSON."""

        async def endpoint(request: Request) -> Response:
            try:
                given = orjson.loads(await request.body())
            except (orjson.JSONDecodeError, ClientDisconnect):
                return JSONResponse({"error": "the request is no JSON, or too long"}, status_code=400)
            if not isinstance(given, dict):
                return JSONResponse({"error": "the request is no object"}, status_code=400)
            return await run_in_threadpool(self._action, Parameters(given), work)

        return endpoint

    def handlers(self) -> dict[Any, Any]:
        """Return what answers where there is no page, or where one fails."""

        async def missing(request: Request, error: HTTPException) -> Response:
            return self._error(request, "There is no such page.", error.status_code)

        async def failed(request: Request, error: Exception) -> Response:
            return self._error(request, f"This should not happen: {type(error).__name__}; the terminal has more.", 500)

        return {HTTPException: missing, Exception: failed}

    def _page(self, request: Request, name: str, make: Callable[[Parameters], Mapping[str, Any]]) -> Response:
        try:
            content = make(Parameters(request.query_params))
            return self._rendered(request, name, content)
        except ReperioError as error:
            return self._error(request, told(error), 400)

    def _action(self, given: Parameters, work: Callable[[Parameters], Mapping[str, Any]]) -> Response:
        try:
            return JSONResponse(work(given))
        except ReperioError as error:
            return JSONResponse({"error": told(error)}, status_code=400)
        except Exception as error:
            _log.exception("an action of the studio failed")
            return JSONResponse({"error": f"this should not happen: {type(error).__name__}"}, status_code=500)

    def _error(self, request: Request, message: str, status: int) -> Response:
        return self._rendered(request, "error.html", {"message": message}, status)

    def _rendered(self, request: Request, name: str, content: Mapping[str, Any], status: int = 200) -> Response:
        root = request.scope["root_path"]
        shared = {
            "root": root,
            "here": request.scope["path"].removeprefix(root),
            "kb": self.desk.names[0],
            "kbs": self.desk.names,
            "golden": None if self.judge is None else str(self.judge.path),
            "scope": self.desk.options.scope,
            "link": lambda path, **given: link(root, path, **given),
        }
        return HTMLResponse(self._templates.get_template(name).render(**shared, **content), status_code=status)


def link(root: str, path: str, **given: Any) -> Markup:
    """Return an address within the studio; what is empty is left out."""
    asked = urlencode(
        {
            key.rstrip("_"): value
            for key, value in given.items()
            if value is not None and value is not False and value != ""
        }
    )
    return Markup.escape(f"{root}{path}{'?' if asked else ''}{asked}")


def told(error: Exception) -> str:
    """Return an error as it is shown: one line, not endless."""
    return one_line(str(error))[:_LONGEST_ERROR]


def no_judge() -> InvalidInput:
    """Return what is said where no golden set was named."""
    return InvalidInput("no golden set was named; start again with: reperio studio KB --golden golden.yaml")


def _score(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:.6g}"


def _bytes(value: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"
        value /= 1024
    return f"{value:,.1f} GiB"

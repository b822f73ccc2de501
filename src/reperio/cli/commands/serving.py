"""``reperio mcp``: collections as tools of agents; ``reperio studio``: a page for a person."""

from __future__ import annotations

import os
import secrets
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from reperio.cli import output
from reperio.cli.arguments import KB, Scope, argument, flag, option, to_filter
from reperio.cli.commands.gate import EMBEDDER
from reperio.serving.loopback import require_in_address, require_port, require_token
from reperio.types import Embedder, Reranker

_TOKEN = "REPERIO_MCP_TOKEN"  # the name of a variable
_STUDIO_TOKEN = "REPERIO_STUDIO_TOKEN"
_OTHER = "Another collection to compare with, as a backup; may be repeated."
_RERANKER = "May be switched on: module:function, file.py:function, or a cross-encoder's name or path."
_HTTP = "Serve any number of clients on this port of 127.0.0.1, 0 for any, instead of standard input and output."
_CHARACTERS = "Most characters of texts and metadata in one answer."


def mcp(
    kbs: Annotated[list[Path], argument("KB…", "The collections' directories; each is known by its name.")],
    http: Annotated[int | None, option("PORT", _HTTP)] = None,
    write: Annotated[bool, flag("--write", "Let agents add and delete chunks, too.")] = False,
    scope: Scope = None,
    characters: Annotated[int, typer.Option(metavar="N", min=1000, help=_CHARACTERS)] = 20_000,
) -> None:
    """Serve collections to agents by the Model Context Protocol."""
    from reperio.mcp.served import open_served
    from reperio.mcp.server import Server, serve_http, serve_stdio

    if http is not None:
        require_port("--http", http)
    served = open_served(kbs, scope=to_filter(scope, "--scope"), write=write, characters=characters)
    with ExitStack() as closing:
        for one in served:
            closing.enter_context(one.collection)
        server = Server(served, write=write)
        if http is None:
            serve_stdio(server)
            return
        token = os.environ.get(_TOKEN)
        made = secrets.token_urlsafe(32) if token is None else token

        def tell(address: str) -> None:
            known = f"the token in {_TOKEN}" if token is not None else f"the token {made}"
            output.print_error(f"{address}, with {known}", label="serving")

        serve_http(server, http, made, told=tell)


def studio(
    kb: KB,
    golden: Annotated[
        Path | None, option("FILE", "The golden set that marks are written to; begun if need be.")
    ] = None,
    from_log: Annotated[Path | None, option("FILE", "Questions to be judged: a query log, or one a line.")] = None,
    other: Annotated[list[Path] | None, option("DIR", _OTHER, "--with")] = None,
    report: Annotated[Path | None, option("FILE", "What reperio gate --json printed, to be shown.")] = None,
    reranker: Annotated[str | None, option("NAME", _RERANKER)] = None,
    embedder: Annotated[str | None, option("NAME", EMBEDDER)] = None,
    scope: Scope = None,
    port: Annotated[int, typer.Option(metavar="PORT", help="Of 127.0.0.1; 0 for any that is free.")] = 0,
    open_browser: Annotated[bool, flag("--open", "Open the page in a browser.")] = False,
) -> None:
    """Ask, judge and look at a collection in a browser; it is read, and changed in nothing."""
    from reperio.explorer.desk import Options, opened
    from reperio.explorer.server import serve_studio

    require_port("--port", port)
    given = os.environ.get(_STUDIO_TOKEN)
    token = secrets.token_urlsafe(24) if given is None else given
    require_token(token)
    require_in_address(token)
    options = Options(
        kb=kb,
        others=other or (),
        golden=golden,
        log=from_log,
        report=report,
        scope=to_filter(scope, "--scope"),
        embedder=None if embedder is None else _embedder(embedder),
        reranker=None if reranker is None else _reranker(reranker),
    )
    if golden is not None:
        from reperio.evaluation.golden.writing import begun

        begun(golden)  # refused now rather than at the first mark

    with opened(options) as desk, ExitStack() as closing:

        def tell(address: str) -> None:
            output.print_error(f"{address}  (Ctrl-C ends it)", label="open")
            if open_browser:
                _show(address, Path(closing.enter_context(TemporaryDirectory(prefix="reperio-studio-"))))

        serve_studio(desk, port, token, told=tell)


def _show(address: str, folder: Path) -> None:
    """Open a browser at a file that only this user reads and that leads on: all see the arguments of a process."""
    import webbrowser

    page = folder / "studio.html"
    page.write_text(f'<!doctype html><meta http-equiv="refresh" content="0; url={address}">', encoding="utf-8")
    webbrowser.open(page.as_uri())


def _embedder(name: str) -> Embedder:
    from reperio.evaluation.deployed import load_embedder

    return load_embedder(name)


def _reranker(name: str) -> Reranker:
    from reperio.evaluation.deployed import load_reranker

    return load_reranker(name)

"""``reperio mcp``: collections as tools of agents."""

from __future__ import annotations

import os
import secrets
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from reperio.cli import output
from reperio.cli.arguments import Scope, argument, flag, option, to_filter
from reperio.serving.loopback import require_port

_TOKEN = "REPERIO_MCP_TOKEN"  # the name of a variable
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

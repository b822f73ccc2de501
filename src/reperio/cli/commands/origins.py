"""``reperio origin`` and ``pull``: one truth for many hosts."""

from __future__ import annotations

from typing import Annotated

import typer

import reperio
from reperio.cli import output
from reperio.cli.arguments import KB, Json, argument, flag, option

app = typer.Typer(help="Share a collection among hosts: the truth in PostgreSQL or Redis.", no_args_is_help=True)

URL = Annotated[
    str,
    argument("URL", "postgresql://user@host/database?collection=name, or redis://host:6379?collection=name."),
]
_LOST = "Give up the origin that the collection has, e.g. because it is lost."
_RESET = "Give up what only the directory has, and take over all that the origin has."


@app.command()
def create(url: URL, kb: KB, reset: Annotated[bool, flag("--reset", _LOST)] = False, json: Json = False) -> None:
    """Copy a collection to a server; the directory is a replica of it from then on."""
    with reperio.progress_bar(disable=json) as progress:
        made = reperio.create_origin(url, kb, reset=reset, progress=progress)
    output.print_done(made, f"{made.where} has all of {kb}; clone it: reperio pull DIRECTORY --origin URL", json=json)


@app.command()
def status(url: URL, json: Json = False) -> None:
    """Say what an origin is at."""
    found = reperio.origin_status(url)
    output.print_json(found) if json else output.print_origin(found)


def pull(
    kb: KB,
    origin: Annotated[str, option("URL", "The origin: postgresql://… or redis://….")],
    reset: Annotated[bool, flag("--reset", _RESET)] = False,
    json: Json = False,
) -> None:
    """Take over what other hosts have written; clone the origin where there is no collection yet."""
    with reperio.progress_bar(disable=json) as progress:
        found = reperio.pull(kb, origin, reset=reset, progress=progress)
    output.print_done(found, f"{kb} is at commit {found.commit:,} of {found.where}", json=json)

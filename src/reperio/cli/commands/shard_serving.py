"""``reperio shards search``, ``serve`` and ``stop``: shards as one collection, here or in a Ray cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import reperio
from reperio.arguments import to_path
from reperio.cli import output, showing
from reperio.cli.arguments import Json, Scope, Where, argument, flag, option, to_filter
from reperio.embedding import for_one_question

_WHERE = "The directory that has shards.json, or ray://NAME, or ray://HOST:PORT/NAME."
_SHARE = "Share of the true nearest chunks to aim at, above 0 and at most 1."
_NAME = "The name to find them by, as in ray://NAME."
_ADDRESS = "HOST:PORT of the cluster; by default the one on this host."


def register(group: typer.Typer) -> None:
    """Add the commands to a group."""
    for command in (search, serve, stop):
        group.command()(command)


def search(
    shards: Annotated[str, argument("SHARDS", _WHERE)],
    query: Annotated[str, typer.Argument(help="The question, in plain words.", show_default=False)],
    k: Annotated[int, typer.Option("-k", help="Hits wanted.")] = 10,
    recall: Annotated[float, typer.Option(help=_SHARE)] = 0.95,
    where: Where = None,
    mode: Annotated[str, typer.Option(help="dense: by meaning; lexical: by words; hybrid: both.")] = "dense",
    partial: Annotated[bool, flag("--partial", "Answer though shards do not; a warning names them.")] = False,
    full: Annotated[bool, flag("--full", "Show the texts to their end.")] = False,
    scope: Scope = None,
    json: Json = False,
) -> None:
    """Find the chunks of all shards that answer a question best."""
    waiting = output.waiting("loading the embedder …", quiet=json)
    with (
        reperio.open_shards(shards, scope=to_filter(scope, "--scope"), allow_partial=partial) as kb,
        waiting,
        for_one_question(),
    ):
        hits = kb.search(query, k=k, recall=recall, where=to_filter(where), mode=mode)  # type: ignore[arg-type]  # checked there
    missing = list(getattr(hits, "missing", ()))
    if json:
        output.print_json({"query": query, "hits": output.to_json(hits), **({"missing": missing} if partial else {})})
    else:
        showing.print_hits(hits, narrowed=where is not None or scope is not None or mode == "lexical", full=full)


def serve(
    shards: Annotated[Path, argument("DIR", "The directory that has shards.json; every host must see it there.")],
    name: Annotated[str, option("NAME", _NAME)],
    replicas: Annotated[int, typer.Option(min=1, help="Actors for each shard, on different hosts.")] = 2,
    address: Annotated[str | None, option("HOST:PORT", _ADDRESS)] = None,
    json: Json = False,
) -> None:
    """Keep shards open in a Ray cluster, until reperio shards stop."""
    from reperio.sharding.serving.cluster import serving

    root = to_path("DIR", shards).absolute()
    names = serving.serve(root, name, address=address, replicas=replicas, limits=reperio.Limits())
    told = f"{len(names)} shards of {root} are served; open them with: reperio.open_shards('ray://{name}')"
    output.print_done({"name": name, "shards": names, "replicas": replicas}, told, json=json)


def stop(
    name: Annotated[str, argument("NAME", "The name under which shards are served.")],
    address: Annotated[str | None, option("HOST:PORT", _ADDRESS)] = None,
    json: Json = False,
) -> None:
    """End what is served under a name; the directory stays as it is."""
    from reperio.sharding.serving.cluster import serving

    serving.stop(name, address=address)
    output.print_done({"name": name}, f"{name} is not served any more", json=json)

"""``reperio list`` and ``show``: what is stored, without a question."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from reperio.cli import output, showing
from reperio.cli.arguments import KB, Origin, Scope, Where, argument, flag, option, reading, to_filter
from reperio.errors import InvalidInput
from reperio.types import Chunk

_SHOWN = 20
_LIMIT = "At most so many; 20 by default for people, all with --json or --ids."


def list_chunks(
    kb: KB,
    where: Where = None,
    limit: Annotated[int | None, option("N", _LIMIT, least=1)] = None,
    offset: Annotated[int, typer.Option(metavar="N", min=0, help="Pass over the first so many.")] = 0,
    ids: Annotated[bool, flag("--ids", "Ids alone, one a line, for other commands.")] = False,
    sources: Annotated[bool, flag("--sources", "The files that were ingested, instead of chunks.")] = False,
    scope: Scope = None,
    origin: Origin = None,
    json: Annotated[bool, flag("--json", "One JSON object a line, and nothing else.")] = False,
) -> None:
    """List chunks in the order of adding, or the files that were ingested."""
    if sources and (where is not None or ids):
        raise InvalidInput("--sources lists files, which have no metadata and no ids of chunks; pass it alone")
    most = limit if limit is not None or json or ids else _SHOWN
    with reading(kb, origin, to_filter(scope, "--scope")) as collection:
        if sources:
            from reperio import ingestion

            found = ingestion.sources(collection)
            some = found[offset:][:most]
            showing.print_sources(some, total=len(found), json=json)
            return
        chosen = to_filter(where)
        if ids:
            for chunk_id in collection.ids(where=chosen)[offset:][:most]:
                output.print_json_line(chunk_id) if json else output.print_line(chunk_id)
            return
        if most is None and chosen is None and not offset:
            for chunk in collection:  # not held all at once
                output.print_json_line(to_object(chunk))
            return
        chunks = collection.get(where=chosen, limit=most, offset=offset)
        if json:
            for chunk in chunks:
                output.print_json_line(to_object(chunk))
        else:
            showing.print_chunks(chunks, offset=offset, total=collection.count(where=chosen))


def show(
    kb: KB,
    ids: Annotated[list[str], argument("ID", "Ids of chunks, as search and list show them.")],
    scope: Scope = None,
    origin: Origin = None,
    json: Annotated[bool, flag("--json", "One JSON object a line, and nothing else.")] = False,
) -> None:
    """Show chunks whole: the text to its end, and all metadata."""
    with reading(kb, origin, to_filter(scope, "--scope")) as collection:
        chunks = collection.get(ids)
    for chunk in chunks:
        output.print_json_line(to_object(chunk)) if json else showing.print_chunk(chunk)
    missing = sorted(set(ids) - {chunk.id for chunk in chunks})
    if missing:
        raise InvalidInput(f"there is no chunk {missing[0]!r}; reperio list {kb} --ids names all there are")


def to_object(chunk: Chunk) -> dict[str, Any]:
    """Return a chunk as a flat object."""
    return {"id": chunk.id, "text": chunk.text, "metadata": chunk.metadata}

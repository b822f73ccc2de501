"""``reperio import``: bring in what other stores have written."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

import reperio
from reperio.cli import output
from reperio.cli.arguments import Json, Lexical, argument, option

app = typer.Typer(help="Bring in what other stores have written.", no_args_is_help=True)

# Longer than a line of a signature has room for.
_METRIC = "cosine, inner_product or l2; by default what the index says."
_MODEL = "The model that made the vectors, to ask with texts: a sentence-transformers name or path."


@app.command("langchain-faiss")
def langchain_faiss(
    folder: Annotated[Path, argument("FOLDER", "What FAISS.save_local has written.")],
    into: Annotated[Path, option("KB", "The collection's directory; created if absent.")],
    index_name: Annotated[str, typer.Option(metavar="NAME", help="As passed to save_local.")] = "index",
    metric: Annotated[str | None, option("METRIC", _METRIC)] = None,
    embedder: Annotated[str | None, option("NAME", _MODEL)] = None,
    lexical: Lexical = None,
    json: Json = False,
) -> None:
    """Bring a folder of LangChain's FAISS store into a collection; its pickle is read, and not executed."""
    from reperio.importers import langchain_faiss

    with reperio.progress_bar(disable=json) as progress:
        report = langchain_faiss.import_langchain_faiss(
            folder, into, index_name=index_name, metric=metric, embedder=embedder, progress=progress,
            lexical=lexical,  # type: ignore[arg-type]  # checked there
        )  # fmt: skip
    if json:
        output.print_json({**asdict(report), "complete": report.complete})
    else:
        output.print_imported(report)


@app.command("export")
def export(
    folder: Annotated[Path, argument("FOLDER", "What reperio export has written.")],
    into: Annotated[Path, option("KB", "The new collection's directory.")],
    json: Json = False,
) -> None:
    """Make a new collection of an export, equal to the exported one in all but its index."""
    from reperio import exchange

    with reperio.progress_bar(disable=json) as progress:
        made = exchange.import_collection(folder, into, progress=progress)
    done = f"{made.chunks:,} chunks and {made.records:,} records of {folder} are in the new {into}"
    output.print_done(made, done, json=json)

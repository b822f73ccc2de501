"""``reperio import``: bring in what other stores have written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import reperio
from reperio.cli import output
from reperio.cli.arguments import Json, Lexical, argument, option
from reperio.types import Limits

if TYPE_CHECKING:
    from reperio.importers.storing import ImportReport

app = typer.Typer(help="Bring in what other stores have written.", no_args_is_help=True)

Into = Annotated[Path, option("KB", "The collection's directory; created if absent.", "--into")]
MetricName = Annotated[str | None, option("METRIC", "cosine, inner_product or l2; by default what the index says.")]
Model = Annotated[
    str | None,
    option("NAME", "The model that made the vectors, to ask with texts: a sentence-transformers name or path."),
]
MaxText = Annotated[
    int | None, option("N", "Characters of the longest text that is let in; by default 16,777,216.", least=1)
]
MaxMetadata = Annotated[
    int | None, option("N", "Characters of the longest metadata, as JSON; by default 1,048,576.", least=1)
]


@app.command("langchain-faiss")
def langchain_faiss(
    folder: Annotated[Path, argument("FOLDER", "What FAISS.save_local has written.")],
    into: Into,
    index_name: Annotated[str, typer.Option(metavar="NAME", help="As passed to save_local.")] = "index",
    metric: MetricName = None,
    embedder: Model = None,
    lexical: Lexical = None,
    max_text: MaxText = None,
    max_metadata: MaxMetadata = None,
    json: Json = False,
) -> None:
    """Bring a folder of LangChain's FAISS store into a collection; its pickle is read, and not executed."""
    from reperio.importers.langchain_faiss import import_langchain_faiss

    common = _common(metric, embedder, lexical, max_text, max_metadata)
    _bring_in(partial(import_langchain_faiss, folder, into, index_name=index_name, **common), json=json)


@app.command("chroma")
def chroma(
    folder: Annotated[Path, argument("FOLDER", "What chromadb.PersistentClient(path) has written.")],
    into: Into,
    collection: Annotated[
        str | None, option("NAME", "Name or id of Chroma's collection, where there are several.")
    ] = None,
    metric: MetricName = None,
    embedder: Model = None,
    lexical: Lexical = None,
    max_text: MaxText = None,
    max_metadata: MaxMetadata = None,
    json: Json = False,
) -> None:
    """Bring a collection of a Chroma directory into a collection; Chroma need not be installed."""
    from reperio.importers.chroma import import_chroma

    common = _common(metric, embedder, lexical, max_text, max_metadata)
    _bring_in(partial(import_chroma, folder, into, collection=collection, **common), json=json)


@app.command("faiss")
def faiss(
    index: Annotated[Path, argument("FILE", "What faiss.write_index has written.")],
    into: Into,
    texts: Annotated[Path, option("FILE", "The texts: .jsonl, .csv or .parquet, one row per vector.")],
    text_field: Annotated[str, typer.Option(metavar="NAME", help="Field with the text.")] = "text",
    id_field: Annotated[str, typer.Option(metavar="NAME", help="Field with the id; else FAISS's number.")] = "id",
    number_field: Annotated[
        str | None, option("NAME", "Field with FAISS's number of the vector; by default the rows are in its order.")
    ] = None,
    metric: MetricName = None,
    embedder: Model = None,
    lexical: Lexical = None,
    max_text: MaxText = None,
    max_metadata: MaxMetadata = None,
    json: Json = False,
) -> None:
    """Bring a FAISS index and the texts of its vectors into a collection."""
    from reperio.importers.raw_faiss import import_faiss

    common = _common(metric, embedder, lexical, max_text, max_metadata)
    _bring_in(
        partial(
            import_faiss,
            index,
            into,
            texts=texts,
            text_field=text_field,
            id_field=id_field,
            number_field=number_field,
            **common,
        ),
        json=json,
    )


@app.command("llama-index")
def llama_index(
    folder: Annotated[Path, argument("FOLDER", "What storage_context.persist(folder) has written.")],
    into: Into,
    namespace: Annotated[str, typer.Option(metavar="NAME", help="Namespace of the vector store.")] = "default",
    metric: MetricName = None,
    embedder: Model = None,
    lexical: Lexical = None,
    max_text: MaxText = None,
    max_metadata: MaxMetadata = None,
    json: Json = False,
) -> None:
    """Bring a folder of LlamaIndex (simple or FAISS vector store) into a collection, its nodes whole."""
    from reperio.importers.llama_index import import_llama_index

    common = _common(metric, embedder, lexical, max_text, max_metadata)
    _bring_in(partial(import_llama_index, folder, into, namespace=namespace, **common), json=json)


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


def _common(
    metric: str | None, embedder: str | None, lexical: str | None, text: int | None, metadata: int | None
) -> dict[str, Any]:
    """Return the options that all importers have; a wrong one is refused by its name where the collection is made."""
    most = {name: value for name, value in (("text", text), ("metadata", metadata)) if value is not None}
    return {"metric": metric, "embedder": embedder, "lexical": lexical, "limits": Limits(**most) if most else None}


def _bring_in(bring: Callable[..., ImportReport], *, json: bool) -> None:
    with reperio.progress_bar(disable=json) as progress:
        report = bring(progress=progress)
    if json:
        output.print_json({**asdict(report), "complete": report.complete})
    else:
        output.print_imported(report)

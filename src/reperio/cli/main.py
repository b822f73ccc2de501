"""The command line: arguments in, calls of the package, results out. Run ``reperio --help``.

Exit codes: 0 done; 1 `check` has found problems, or `duplicates --exit-code` any; 2 an error, told in one line on
standard error, output that cannot be written among them; 3 `ingest` could not read some of the files; 130 interrupted;
141 nobody reads the output any more.
Whatever is slow to import is imported by the command that needs it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

import reperio
from reperio.cli import output, showing
from reperio.cli.arguments import KB, Json, Origin, Scope, Where, argument, flag, option, reading, to_filter
from reperio.cli.commands import comparing as cli_comparing
from reperio.cli.commands import gate as cli_gate
from reperio.cli.commands import golden as cli_golden
from reperio.cli.commands import importing as cli_import
from reperio.cli.commands import ingesting as cli_ingesting
from reperio.cli.commands import keeping as cli_keeping
from reperio.cli.commands import listing as cli_listing
from reperio.cli.commands import origins as cli_origins
from reperio.cli.commands import serving as cli_serving
from reperio.cli.commands import shard_serving as cli_shard_serving
from reperio.cli.commands import shards as cli_shards
from reperio.cli.errors import Commands
from reperio.collection import Collection
from reperio.embedding import for_one_question, load_embedder
from reperio.errors import InvalidInput
from reperio.query_log.reading import Queries, read_queries

Recall = Annotated[float, typer.Option(help="Share of the true nearest chunks to aim at, above 0 and at most 1.")]
Memory = Annotated[str | None, option("SIZE", "Most memory for the index, e.g. 800MiB or 8GiB; no limit by default.")]
Prefer = Annotated[
    str, typer.Option(metavar="WHAT", help="latency of single queries, throughput of many at once, or least memory.")
]
QueryLog = Annotated[
    Path | None,
    option(
        "FILE",
        "Questions to measure with: .txt, .jsonl, or vectors as .npy; a thousand suffice. Else stored vectors.",
    ),
]

# Texts of options that are longer than a line of a signature has room for.
_FACTORY = "symphonyqg, hnsw, cagra, exact, or a FAISS factory string; by default the best one."
_DEVICE = "What to build with: cpu, gpu (a graphics card), or auto: a card if there is one."
_INCREMENTAL = "DEST is a folder of backups; write only what is new since them."
_KEEP = "With --incremental: remove all but so many, the newest."

app = typer.Typer(
    cls=Commands,
    name="reperio",
    help="Keep texts, their vectors and an index in one directory, and search them.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
# Groups come behind the commands, see `Commands.list_commands`.
app.add_typer(cli_import.app, name="import")
app.add_typer(cli_golden.golden_app, name="golden")
app.add_typer(cli_origins.app, name="origin")
cli_shard_serving.register(cli_shards.app)
app.add_typer(cli_shards.app, name="shards")


def main() -> None:
    """Run the command line; the entry point of ``reperio`` and ``python -m reperio``."""
    # The model's own progress bars would cut through ours.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    app(prog_name="reperio")


def _print_version(wanted: bool) -> None:
    if wanted:
        version(json=False)
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _start(
    ctx: typer.Context,
    version: Annotated[  # noqa: ARG001  # handled by its callback
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    # A user who types only the name wants help, where click would tell of an error.
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


app.command()(cli_ingesting.ingest)


@app.command()
def search(
    kb: KB,
    query: Annotated[str, typer.Argument(help="The question, in plain words.", show_default=False)],
    k: Annotated[int, typer.Option("-k", help="Hits wanted.")] = 10,
    recall: Recall = 0.95,
    where: Where = None,
    mode: Annotated[str, typer.Option(help="dense: by meaning; lexical: by words; hybrid: both.")] = "dense",
    full: Annotated[bool, flag("--full", "Show the texts to their end.")] = False,
    scope: Scope = None,
    origin: Origin = None,
    json: Json = False,
) -> None:
    """Find the chunks that answer a question best."""
    waiting = output.waiting("loading the embedder …", quiet=json)
    with reading(kb, origin, to_filter(scope, "--scope")) as collection, waiting, for_one_question():
        hits = collection.search(query, k=k, recall=recall, where=to_filter(where), mode=mode)  # type: ignore[arg-type]  # checked there
    if json:
        output.print_json({"query": query, "hits": output.to_json(hits)})
    else:
        showing.print_hits(hits, narrowed=where is not None or scope is not None or mode == "lexical", full=full)


app.command("list")(cli_listing.list_chunks)
app.command()(cli_listing.show)
app.command()(cli_comparing.duplicates)


@app.command()
def info(kb: KB, origin: Origin = None, json: Json = False) -> None:
    """Describe a collection: chunks, vectors, embedder, index, bytes on disk, origin."""
    with reading(kb, origin) as collection:
        found = collection.info()
    output.print_json(found) if json else output.print_info(found)


@app.command()
def check(kb: KB, json: Json = False) -> None:
    """Read everything and verify it; the exit code is 1 if there are problems, which reperio doctor can mend."""
    with reperio.open(kb, read_only=True) as collection, output.waiting("reading everything …", quiet=json):
        report = collection.check()
    if json:
        output.print_json({"ok": report.ok, "rows": report.rows, "problems": list(report.problems)})
    else:
        output.print_check(report)
    if not report.ok:
        raise typer.Exit(1)


@app.command()
def advise(
    n: Annotated[int, typer.Option("--n", metavar="N", help="Vectors to be indexed.", show_default=False)],
    dim: Annotated[int, typer.Option("--dim", metavar="D", help="Length of each.", show_default=False)],
    metric: Annotated[str, typer.Option(metavar="METRIC", help="cosine, inner_product or l2.")] = "cosine",
    memory: Memory = None,
    recall: Recall = 0.95,
    prefer: Prefer = "latency",
    json: Json = False,
) -> None:
    """Rank the indexes for so many vectors, best first, with memory and time predicted; nothing is built."""
    recipes = reperio.advise(n, dim, metric, memory=memory, recall=recall, prefer=prefer)
    if json:
        output.print_json({"rows": n, "dimension": dim, "recipes": output.to_json_recipes(recipes, n)})
    else:
        output.print_recipes(recipes, n)


@app.command()
def optimize(
    kb: KB,
    recall: Recall = 0.95,
    index: Annotated[str | None, option("FACTORY", _FACTORY)] = None,
    memory: Memory = None,
    prefer: Prefer = "latency",
    queries: QueryLog = None,
    device: Annotated[str, typer.Option(metavar="DEVICE", help=_DEVICE)] = "auto",
    json: Json = False,
) -> None:
    """Choose, build and measure an index over all chunks, and put it in use; interrupted, it goes on next time."""
    asked = None if queries is None else read_queries(queries)
    with _existing(kb, auto_optimize=False) as collection:
        _require_askable(collection, asked, kb, quiet=json)
        with reperio.progress_bar(disable=json) as progress:
            built = collection.optimize(
                recall, index=index, memory=memory, prefer=prefer, queries=asked, device=device, progress=progress
            )
    output.print_json({"index": built}) if json else output.print_index(built)


@app.command()
def tune(
    kb: KB,
    queries: QueryLog = None,
    plot: Annotated[Path | None, option("OUT", "Draw recall against latency: a new .svg or .png.")] = None,
    json: Json = False,
) -> None:
    """Measure the index in use again, with other queries or on another machine, and search by what is found."""
    from reperio.cli import plotting

    asked = None if queries is None else read_queries(queries)
    if plot is not None:
        plotting.require_plottable(plot)  # before minutes are spent on measuring
    with _existing(kb, auto_optimize=False) as collection:
        _require_askable(collection, asked, kb, quiet=json)
        with reperio.progress_bar(disable=json) as progress:
            tuned = collection.tune(queries=asked, progress=progress)
    if plot is not None:
        if tuned is None:
            raise InvalidInput(f"{kb} has no index to draw: every search is exact; reperio optimize builds one")
        title = f"{kb.absolute().name}: {tuned.factory}, {tuned.rows:,} rows\nmeasured with {tuned.queries}"
        knob = output.effort_name(tuned)
        plotting.plot_points(tuned.points, plot, title=title, recall=tuned.recall, knob=knob)
    if json:
        output.print_json({"index": tuned})
    else:
        output.print_index(tuned)
        if plot is not None:
            output.print_line(f"drawn in {plot}")


@app.command()
def backup(
    kb: KB,
    dest: Annotated[Path, argument("DEST", "A new directory.")],
    incremental: Annotated[bool, flag("--incremental", _INCREMENTAL)] = False,
    keep: Annotated[int | None, option(None, _KEEP, least=1)] = None,
    json: Json = False,
) -> None:
    """Write a copy of a collection, as of one moment, to a new directory; reperio restore brings it back."""
    with reperio.open(kb, read_only=True) as collection, output.waiting("copying …", quiet=json):
        collection.backup(dest, incremental=incremental, keep=keep)
    output.print_done({"destination": str(dest)}, f"{kb} is backed up in {dest}", json=json)


app.command()(cli_keeping.backups)
app.command()(cli_keeping.restore)
app.command()(cli_keeping.doctor)
app.command()(cli_keeping.export)
app.command()(cli_origins.pull)
app.command()(cli_gate.gate)
app.command()(cli_serving.mcp)


@app.command()
def compact(kb: KB, json: Json = False) -> None:
    """Write a collection again without deleted and replaced chunks, to free their space."""
    with _existing(kb) as collection, reperio.progress_bar(disable=json) as progress:
        dropped = collection.compact(progress=progress)
    output.print_done({"dropped": dropped}, f"{dropped:,} rows dropped", json=json)


@app.command()
def reembed(
    kb: KB,
    embedder: Annotated[str, option("NAME", "A sentence-transformers name or local path.")],
    json: Json = False,
) -> None:
    """Embed every text again with another model; searches go on with the old one until all are done."""
    with _existing(kb) as collection:
        with output.waiting("loading the embedder …", quiet=json):
            loaded = load_embedder(embedder)  # before anything is written
        with reperio.progress_bar(disable=json) as progress:
            collection.reembed(loaded, progress=progress)
        count = collection.count()
    output.print_done({"embedder": embedder, "chunks": count}, f"{count:,} chunks embedded with {embedder}", json=json)


@app.command()
def delete(
    kb: KB,
    ids: Annotated[list[str] | None, argument("ID", "Ids of chunks.")] = None,
    where: Where = None,
    origin: Origin = None,
    json: Json = False,
) -> None:
    """Delete chunks by id, or by their metadata; an id that is not there is no error."""
    if bool(ids) == (where is not None):
        raise InvalidInput("delete takes ids or --where, one of the two")
    # An id that is named twice is deleted once.
    wanted = list(dict.fromkeys(ids or ()))
    with _existing(kb, origin=origin) as collection:
        if where is not None:
            deleted = collection.delete(where=to_filter(where))
            output.print_done({"deleted": deleted}, f"{deleted:,} deleted", json=json)
        else:
            deleted, asked = collection.delete(ids=wanted), len(wanted)
            output.print_done({"deleted": deleted, "asked": asked}, f"{deleted:,} of {asked:,} deleted", json=json)


@app.command()
def version(json: Json = False) -> None:
    """Print the version."""
    output.print_done({"version": reperio.__version__}, f"reperio {reperio.__version__}", json=json)


@contextmanager
def _existing(kb: Path, *, auto_optimize: bool = True, origin: str | None = None) -> Iterator[Collection]:
    """Open a collection for writing, but create none."""
    # Opening to write would create it where there is none.
    reperio.open(kb, read_only=True).close()
    with reperio.open(kb, auto_optimize=auto_optimize, origin=origin, follow=0) as collection:
        yield collection


def _require_askable(collection: Collection, asked: Queries | None, kb: Path, *, quiet: bool) -> None:
    """Load the embedder that questions need, and refuse questions where there is none."""
    # Vectors need no embedder, nor do the stored ones that are taken without questions.
    if not isinstance(asked, list):
        return
    with output.waiting("loading the embedder …", quiet=quiet):
        if collection.embedder is None:
            raise InvalidInput(f"{kb} has no embedder, so that its queries must be vectors: a .npy of shape (n, d)")

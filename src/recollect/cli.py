"""The command line: arguments in, calls of the package, results out. Run ``recollect --help``.

Exit codes: 0 done; 1 `check` has found problems; 2 an error, told in one line on standard error; 130 interrupted.
Whatever is slow to import is imported by the command that needs it.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer.core import TyperGroup

from recollect import cli_output as output
from recollect.errors import RecollectError, RecollectWarning

if TYPE_CHECKING:
    from recollect.collection import Collection

# Named through a public subclass: typer brings click along or depends on it, according to its version.
_UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__bases__[0])

KB = Annotated[Path, typer.Argument(metavar="KB", help="The collection's directory.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document, and nothing else, on standard output.")]
Recall = Annotated[float, typer.Option(help="Share of the true nearest chunks to aim at, above 0 and at most 1.")]
Embedder = Annotated[
    str | None,
    typer.Option(help="A sentence-transformers name or local path; by default the recorded one.", show_default=False),
]


class _Commands(TyperGroup):
    """Turns errors into one line and an exit code."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        try:
            code = super().main(args, prog_name, complete_var, False, windows_expand_args, **extra)
        except _UsageError as error:
            if not standalone_mode:
                raise
            command = error.ctx.command_path if error.ctx else "recollect"
            message = error.format_message()
            output.print_error(f"{message}{'' if message.endswith(('.', '?')) else '.'} See: {command} --help")
            code = 2
        if not standalone_mode:
            return code
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: Any) -> Any:
        try:
            with _warnings_in_one_line():
                return super().invoke(ctx)
        except RecollectError as error:
            output.print_error(str(error))
            raise typer.Exit(2) from error
        except KeyboardInterrupt:
            output.print_error("interrupted; what was stored before is kept", label="stopped")
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=_Commands,
    name="recollect",
    help="Keep texts, their vectors and an index in one directory, and search them.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line; the entry point of ``recollect`` and ``python -m recollect``."""
    # The model's own progress bars would cut through ours.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    app(prog_name="recollect")


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
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


@app.command()
def ingest(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH", help="Files and folders: .txt .md .jsonl .csv .parquet.", exists=True, show_default=False
        ),
    ],
    into: Annotated[
        Path, typer.Option(metavar="KB", help="The collection's directory; created if absent.", show_default=False)
    ],
    embedder: Embedder = None,
    text_field: Annotated[str, typer.Option(help="Field with the text, in .jsonl, .csv and .parquet.")] = "text",
    id_field: Annotated[str, typer.Option(help="Field with the record's own id; may be missing.")] = "id",
    max_tokens: Annotated[
        int | None, typer.Option(help="Longest chunk; by default what the embedder takes, at most 512.", min=1)
    ] = None,
    overlap: Annotated[
        int | None, typer.Option(help="Most tokens repeated from one chunk to the next; by default a tenth.", min=0)
    ] = None,
    prune: Annotated[bool, typer.Option("--prune", help="Delete the chunks of files that vanished from PATH.")] = False,
    json: Json = False,
) -> None:
    """Read files, split what is long, and store the chunks; a second run embeds only what has changed."""
    import recollect
    from recollect import ingestion

    ingestion.find_files(paths)  # so that a mistyped path creates no collection
    with output.waiting("loading the embedder …", quiet=json):
        collection = recollect.open(into, embedder=embedder)
    with collection:
        with output.waiting("loading the embedder …", quiet=json):
            _ = collection.embedder
        with recollect.progress_bar(disable=json) as progress:
            result = ingestion.ingest(
                collection, paths, text_field=text_field, id_field=id_field, max_tokens=max_tokens, overlap=overlap,
                prune=prune, progress=progress,
            )  # fmt: skip
    output.print_json(result) if json else output.print_ingested(result, str(into))


@app.command()
def search(
    kb: KB,
    query: Annotated[str, typer.Argument(help="The question, in plain words.", show_default=False)],
    k: Annotated[int, typer.Option("-k", help="Hits wanted.")] = 10,
    recall: Recall = 0.95,
    json: Json = False,
) -> None:
    """Find the chunks nearest to a question, best first."""
    import recollect

    with recollect.open(kb, read_only=True) as collection, output.waiting("loading the embedder …", quiet=json):
        hits = collection.search(query, k=k, recall=recall)
    output.print_json({"query": query, "hits": output.to_json(hits)}) if json else output.print_hits(hits)


@app.command()
def info(kb: KB, json: Json = False) -> None:
    """Describe a collection: chunks, vectors, embedder, index, bytes on disk."""
    import recollect

    with recollect.open(kb, read_only=True) as collection:
        found = collection.info()
    output.print_json(found) if json else output.print_info(found)


@app.command()
def check(kb: KB, json: Json = False) -> None:
    """Read everything and verify it; the exit code is 1 if there are problems."""
    import recollect

    with recollect.open(kb, read_only=True) as collection, output.waiting("reading everything …", quiet=json):
        report = collection.check()
    if json:
        output.print_json({"ok": report.ok, "rows": report.rows, "problems": list(report.problems)})
    else:
        output.print_check(report)
    if not report.ok:
        raise typer.Exit(1)


@app.command()
def optimize(
    kb: KB,
    recall: Recall = 0.95,
    index: Annotated[
        str | None,
        typer.Option(metavar="FACTORY", help="hnsw, exact, or a FAISS factory string; by default the recommended one."),
    ] = None,
    json: Json = False,
) -> None:
    """Build the index anew over all chunks and put it in use."""
    import recollect

    with _existing(kb) as collection, recollect.progress_bar(disable=json) as progress:
        built = collection.optimize(recall, index=index, progress=progress)
    output.print_json({"index": built}) if json else output.print_index(built)


@app.command()
def backup(
    kb: KB,
    dest: Annotated[Path, typer.Argument(metavar="DEST", help="A new directory.", show_default=False)],
    json: Json = False,
) -> None:
    """Write a copy of a collection, as of one moment, to a new directory."""
    import recollect

    with recollect.open(kb, read_only=True) as collection, output.waiting("copying …", quiet=json):
        collection.backup(dest)
    output.print_json({"destination": str(dest)}) if json else output.print_line(f"{kb} is backed up in {dest}")


@app.command()
def compact(kb: KB, json: Json = False) -> None:
    """Write a collection anew without deleted and replaced chunks, to free their space."""
    import recollect

    with _existing(kb) as collection, recollect.progress_bar(disable=json) as progress:
        dropped = collection.compact(progress=progress)
    output.print_json({"dropped": dropped}) if json else output.print_line(f"{dropped:,} rows dropped")


@app.command()
def reembed(
    kb: KB,
    embedder: Annotated[
        str, typer.Option(metavar="NAME", help="A sentence-transformers name or local path.", show_default=False)
    ],
    json: Json = False,
) -> None:
    """Embed every text again with another model; searches go on with the old one until all are done."""
    import recollect

    with _existing(kb) as collection:
        with output.waiting("loading the embedder …", quiet=json):
            loaded = recollect.SentenceTransformerEmbedder(embedder)
        with recollect.progress_bar(disable=json) as progress:
            collection.reembed(loaded, progress=progress)
        count = collection.count()
    if json:
        output.print_json({"embedder": embedder, "chunks": count})
    else:
        output.print_line(f"{count:,} chunks embedded with {embedder}")


@app.command()
def delete(
    kb: KB,
    ids: Annotated[list[str], typer.Argument(metavar="ID", help="Ids of chunks.", show_default=False)],
    json: Json = False,
) -> None:
    """Delete chunks by id; an id that is not there is no error."""
    wanted = list(dict.fromkeys(ids))
    with _existing(kb) as collection:
        deleted = collection.delete(ids=wanted)
    if json:
        output.print_json({"deleted": deleted, "asked": len(wanted)})
    else:
        output.print_line(f"{deleted:,} of {len(wanted):,} deleted")


@app.command()
def version(json: Json = False) -> None:
    """Print the version."""
    import recollect

    if json:
        output.print_json({"version": recollect.__version__})
    else:
        output.print_line(f"recollect {recollect.__version__}")


@contextmanager
def _existing(kb: Path) -> Iterator[Collection]:
    """Open a collection for writing, but create none."""
    import recollect

    recollect.open(kb, read_only=True).close()
    with recollect.open(kb) as collection:
        yield collection


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    def show(message: Warning | str, *_: object) -> None:
        output.print_error(str(message), label="warning")

    with warnings.catch_warnings():
        warnings.simplefilter("always", RecollectWarning)
        warnings.showwarning = show  # type: ignore[assignment]  # the file and line of the call are no news to a user
        yield

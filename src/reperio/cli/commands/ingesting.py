"""``reperio ingest``: files into a collection, once or as often as they change."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

import reperio
from reperio.cli import output, showing
from reperio.cli.arguments import Json, Lexical, Origin, Scope, argument, flag, option, to_filter
from reperio.cli.errors import in_words_of
from reperio.errors import InvalidInput
from reperio.layout import Layout

if TYPE_CHECKING:
    from reperio.collection import Collection
    from reperio.ingestion import IngestResult

# Texts of options that are longer than a line of a signature has room for.
_PATHS = "Files, folders, patterns in quotes ('docs/**/*.md'), or - for standard input."
_EMBEDDER = "A sentence-transformers name or local path; by default the recorded one."
_NAME = "What PATH is known by, instead of its own name; for two of one name, or one that moved."
_FORMAT = "Of standard input: md, txt, jsonl, csv, or any other suffix that is read."
_MAX_TOKENS = "Longest chunk; by default as before, at first what the embedder takes, at most 512."
_OVERLAP = "Most tokens repeated from one chunk to the next; by default as before, at first a tenth."
_METADATA = "For all chunks, also of later runs, until it is '': none. Several times for several. JSON keeps its type."
_EXCLUDE = "Pass over what matches, as in .gitignore; several times for several."
_RECHUNK = "Read unchanged files too, and split all as the options say now."
_SKIP = "Leave out pieces whose text is stored already; they come back when it goes. At first they are stored."
_TEXT_FIELD = "Field with the text, in tables; at first text."
_ID_FIELD = "Field with the record's own id, which may be missing; at first id."
_NO_ID = "No record has an id of its own; a field of that name is metadata."
_TITLE = "Field that is embedded before the text, in tables."
_COLUMNS = "Fields to keep as metadata, separated by commas; at first all."
_DROP = "Fields to leave out, separated by commas."
_TYPES = (
    "What columns of .csv and .tsv hold: NAME=text, number or boolean, separated by commas; at first it is found out."
)
_DELIMITER = "Character between the fields of .csv and .tsv, or tab; at first it is found out."
_ENCODING = "Of text files, such as windows-1252; at first UTF-8, or what a byte order mark says."

INCOMPLETE = 3
"""The exit code where some files could not be read."""


def ingest(
    paths: Annotated[list[str], argument("PATH", _PATHS)],
    into: Annotated[Path, option("KB", "The collection's directory; created if absent.")],
    embedder: Annotated[str | None, option(None, _EMBEDDER)] = None,
    name: Annotated[str | None, option("NAME", _NAME)] = None,
    written_as: Annotated[str | None, option("FORMAT", _FORMAT, "--format")] = None,
    text_field: Annotated[str | None, option("FIELD", _TEXT_FIELD)] = None,
    id_field: Annotated[str | None, option("FIELD", _ID_FIELD)] = None,
    no_id: Annotated[bool, flag("--no-id", _NO_ID)] = False,
    title_field: Annotated[str | None, option("FIELD", _TITLE)] = None,
    columns: Annotated[str | None, option("FIELDS", _COLUMNS)] = None,
    drop_columns: Annotated[str | None, option("FIELDS", _DROP)] = None,
    column_types: Annotated[str | None, option("TYPES", _TYPES)] = None,
    delimiter: Annotated[str | None, option("CHAR", _DELIMITER)] = None,
    encoding: Annotated[str | None, option("NAME", _ENCODING)] = None,
    max_tokens: Annotated[int | None, option(None, _MAX_TOKENS, least=1)] = None,
    overlap: Annotated[int | None, option(None, _OVERLAP, least=0)] = None,
    metadata: Annotated[list[str] | None, option("KEY=VALUE", _METADATA)] = None,
    exclude: Annotated[list[str] | None, option("PATTERN", _EXCLUDE)] = None,
    no_gitignore: Annotated[bool, flag("--no-gitignore", "Read what .gitignore files name, too.")] = False,
    prune: Annotated[bool, flag("--prune", "Delete the chunks of files that vanished from PATH.")] = False,
    rechunk: Annotated[bool, flag("--rechunk", _RECHUNK)] = False,
    skip_duplicates: Annotated[
        bool | None, typer.Option("--skip-duplicates/--no-skip-duplicates", help=_SKIP, show_default=False)
    ] = None,
    strict: Annotated[bool, flag("--strict", "Stop at the first file that cannot be read.")] = False,
    dry_run: Annotated[bool, flag("--dry-run", "Write nothing, and say what would be done.")] = False,
    lexical: Lexical = None,
    watch: Annotated[bool, flag("--watch", "Go on, and ingest again whenever a file changes.")] = False,
    scope: Scope = None,
    origin: Origin = None,
    json: Json = False,
) -> None:
    """Read files, split what is long, and store the chunks; a second run embeds only what has changed.

    The exit code is 3 if some of the files could not be read: they are listed, and the others are stored.
    """
    from reperio import ingestion

    if watch and dry_run:
        raise InvalidInput("--watch and --dry-run exclude each other: pass one")
    reading = to_reading(title_field, columns, drop_columns, delimiter, encoding)
    if column_types is not None:
        reading["types"] = to_types(column_types)
    if no_id:
        if id_field is not None:
            raise InvalidInput("--no-id and --id-field exclude each other: pass one")
        reading["id"] = None
    with _input(paths, name, written_as) as wanted:
        if watch and wanted != paths:
            raise InvalidInput("standard input ends, and cannot be watched; pass files or folders")
        patterns, honoured = exclude or (), not no_gitignore
        if not Layout(into).current.exists():  # so that a mistyped path creates no collection
            ingestion.find_files(wanted, name=name, exclude=patterns, gitignore=honoured)
        options: dict[str, Any] = {
            "name": name,
            "text_field": text_field,
            "reading": reading,
            "id_field": id_field,
            "max_tokens": max_tokens,
            "overlap": overlap,
            "metadata": to_metadata(metadata),
            "exclude": patterns,
            "gitignore": honoured,
            "prune": prune,
            "rechunk": rechunk,
            "skip_duplicates": skip_duplicates,
            "strict": strict,
            "dry_run": dry_run,
        }
        with output.waiting("loading the embedder …", quiet=json):
            collection = _opened(into, embedder, lexical, origin, to_filter(scope, "--scope"), dry_run=dry_run)
        with collection:
            with output.waiting("loading the embedder …", quiet=json):
                _ = collection.embedder  # now: the bar below would stand still meanwhile
            run = _runner(collection, options, json=json)
            if watch:
                options["rechunk"] = False  # once is enough
                for result in ingestion.watch(collection, wanted, run, say=_say):
                    _print(result, into, dry_run=False, json=json, watching=True)
                return
            result = run(wanted)
    _print(result, into, dry_run=dry_run, json=json)
    if not result.complete:
        raise typer.Exit(INCOMPLETE)


def _runner(collection: Collection, options: dict[str, Any], *, json: bool) -> Callable[[Sequence[str]], IngestResult]:
    from reperio import ingestion

    def run(paths: Sequence[str]) -> IngestResult:
        with reperio.progress_bar(disable=json) as progress:
            return ingestion.ingest(collection, paths, **options, progress=progress)

    return run


def _say(sentence: str) -> None:
    """Tell what keeps the watching from a run; on standard error, since scripts read the results."""
    output.print_error(in_words_of(None, sentence), label="watching")


def _opened(
    into: Path,
    embedder: str | None,
    lexical: str | None,
    origin: str | None,
    scope: dict[str, Any] | None,
    *,
    dry_run: bool,
) -> Collection:
    """Open the collection; where nothing is to be written, so that nothing can be."""
    if not dry_run:
        return reperio.open(into, embedder=embedder, lexical=lexical, origin=origin, scope=scope)  # type: ignore[arg-type]  # checked there
    try:
        return reperio.open(into, embedder=embedder, lexical=lexical, read_only=True, scope=scope)  # type: ignore[arg-type]  # likewise
    except reperio.CollectionNotFound:
        return reperio.open(":memory:", embedder=embedder, lexical=lexical, scope=scope)  # type: ignore[arg-type]  # likewise


@contextmanager
def _input(paths: list[str], name: str | None, written_as: str | None) -> Iterator[list[str]]:
    """Yield the paths; of standard input, that of a file with all of it."""
    if "-" not in paths:
        if written_as is not None:
            raise InvalidInput("--format is for standard input; pass - as the PATH, or leave it out")
        yield paths
        return
    if len(paths) > 1:
        raise InvalidInput("- is standard input, and must be the only PATH; ingest the files by themselves")
    from reperio.ingestion.finding.sources import INPUT_FOLDER
    from reperio.ingestion.finding.suffixes import suffix_of

    if name is None:
        raise InvalidInput("standard input has no name by which its chunks are known; give it one with --name")
    suffix = f".{written_as.lstrip('.')}" if written_as else suffix_of(name)
    if not suffix:
        raise InvalidInput("standard input has no suffix that tells its format; pass --format md, txt, jsonl or csv")
    with tempfile.TemporaryDirectory(prefix=INPUT_FOLDER) as folder:
        path = Path(folder, f"input{suffix}")
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield [str(path)]


def to_reading(
    title: str | None, columns: str | None, drop: str | None, delimiter: str | None, encoding: str | None
) -> dict[str, Any]:
    """Return the options of reading that were given."""
    given = {
        "title": title,
        "columns": None if columns is None else [one.strip() for one in columns.split(",")],
        "drop": None if drop is None else [one.strip() for one in drop.split(",")],
        "delimiter": "\t" if delimiter in ("tab", "\\t") else delimiter,
        "encoding": encoding,
    }
    return {name: value for name, value in given.items() if value is not None}


def to_types(written: str) -> dict[str, str]:
    """Read ``name=type`` pairs, separated by commas."""
    found: dict[str, str] = {}
    for pair in filter(None, (one.strip() for one in written.split(","))):
        name, equals, kind = pair.rpartition("=")
        if not equals or not name:
            raise InvalidInput(f"--column-types is {written!r:.80}; write it as NAME=TYPE, e.g. zip=text,price=number")
        found[name.strip()] = kind.strip()
    return found


def to_metadata(pairs: list[str] | None) -> dict[str, Any] | None:
    """Read ``key=value`` pairs; a value that is JSON (a number, true, a list) keeps its type, others are texts."""
    if pairs is None:
        return None
    found: dict[str, Any] = {}
    for pair in pairs if pairs != [""] else []:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise InvalidInput(f"--metadata is {pair!r:.80}; write it as KEY=VALUE, e.g. team=sales, or '' for none")
        try:
            found[key] = orjson.loads(value)
        except orjson.JSONDecodeError:
            found[key] = value
    return found


def _print(result: IngestResult, into: Path, *, dry_run: bool, json: bool, watching: bool = False) -> None:
    if not json:
        showing.print_ingested(result, str(into), dry_run=dry_run)
        if watching:
            sys.stdout.flush()  # the next one may be hours away
    elif watching:
        output.print_json_line({**asdict(result), "complete": result.complete})
    else:
        output.print_json({**asdict(result), "complete": result.complete})

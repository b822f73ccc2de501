"""Print what is found and what is stored: chunks, files, and what an ingestion did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from reperio.cli.errors import in_words_of
from reperio.cli.output import console_for, many, print_json_line, print_line, print_rows
from reperio.printable import one_line
from reperio.types import Chunk, Hit

if TYPE_CHECKING:
    from reperio.ingestion import IngestResult, Source

_LINES = 3  # of a hit's text
_LISTED = 20  # of what was passed over; --json has it all
_LEAST = 20  # columns for a text, however narrow the terminal is


def print_hits(hits: Sequence[Hit], *, narrowed: bool = False, full: bool = False) -> None:
    """Print rank, score, id, source and the beginning of the text.

    Args:
        hits: best first.
        narrowed: not all chunks could match, which is told where none did.
        full: print the texts to their end, in their own lines.
    """
    console = console_for()
    if not hits:
        console.print(f"nothing found: {'no chunk matches' if narrowed else 'the collection is empty'}")
        return
    scores = [f"{hit.score:.4f}" if abs(hit.score) < 1000 else f"{hit.score:.6g}" for hit in hits]
    ranks, columns = len(str(len(hits))), max(map(len, scores))
    for hit, score in zip(hits, scores, strict=True):
        if hit.rank > 1:
            console.print()
        line = Text(f"{hit.rank:>{ranks}}  ", style="bold").append(f"{score:>{columns}}  ", style="cyan not bold")
        _print_chunk(line, hit.chunk, indent=ranks + columns + 4, full=full)


def print_chunks(chunks: Sequence[Chunk], *, offset: int, total: int) -> None:
    """Print ids, sources and the beginnings of texts, and how many chunks there are."""
    console = console_for()
    if not chunks:
        console.print("no chunks" if not total else f"no more chunks: there are {total:,}")
        return
    for chunk in chunks:
        _print_chunk(Text(), chunk, indent=4, full=False, lines=1)
    last = offset + len(chunks)
    if offset or last < total:
        print_line(f"{offset + 1:,} to {last:,} of {many(total, 'chunk')}; --offset {last} goes on, --limit shows more")


def print_chunk(chunk: Chunk) -> None:
    """Print a chunk whole."""
    console = console_for()
    console.print(Text(one_line(chunk.id), style="bold"), soft_wrap=True)
    if chunk.metadata:
        print_rows([(one_line(key), _value(value)) for key, value in chunk.metadata.items()])
    console.print()
    _print_text(chunk.text, 0)
    console.print()


def print_sources(sources: Sequence[Source], *, total: int, json: bool) -> None:
    """Print the files that were ingested, with the number of their chunks and where they were."""
    if json:
        for one in sources:
            print_json_line(one)
        return
    for one in sources:
        line = Text(one_line(one.source), style="bold").append(f"  {many(one.chunks, 'chunk')}", style="not bold")
        console_for().print(line.append(f"  {one_line(one.path)}", style="dim not bold"), soft_wrap=True)
    rest = total - len(sources)
    print_line(f"{many(total, 'file')}{f', {rest:,} not shown: --limit and --offset' if rest else ''}")


def print_ingested(result: IngestResult, into: str, *, dry_run: bool = False) -> None:
    """Print what an ingestion did, or would do, what it passed over, and what it could not read."""
    done = "would be " if dry_run else ""
    renamed = f"{many(result.renamed, 'file')} {done}renamed, " if result.renamed else ""
    duplicates = f"{many(result.duplicates, 'duplicate')} left out, " if result.duplicates else ""
    print_line(
        f"{many(result.files, 'file')} {done}read into {into}: {renamed}{duplicates}"
        f"{many(result.added, 'chunk')} added, {result.updated:,} updated, {result.unchanged:,} unchanged, "
        f"{result.removed:,} removed; {many(result.embedded, 'text')} embedded"
    )
    for note in result.notes[:_LISTED]:
        print_line(f"note: {note.source} {in_words_of(None, note.reason)}")
    if len(result.notes) > _LISTED:
        print_line(f"note: {len(result.notes) - _LISTED:,} more, which --json lists")
    for skipped in result.skipped[:_LISTED]:
        print_line(f"skipped: {skipped.source} {in_words_of(None, skipped.reason)}")
    if len(result.skipped) > _LISTED:
        print_line(f"skipped: {len(result.skipped) - _LISTED:,} more, which --json lists")
    for failed in result.failed[:_LISTED]:
        print_line(f"failed: {failed.place}: {in_words_of(None, failed.reason)}")
    if len(result.failed) > _LISTED:
        print_line(f"failed: {len(result.failed) - _LISTED:,} more, which --json lists")
    if result.failed:
        them = "it" if len(result.failed) == 1 else "them"
        print_line(f"{many(len(result.failed), 'file')} could not be read; what is stored of {them} is kept")


def _print_chunk(line: Text, chunk: Chunk, *, indent: int, full: bool, lines: int = _LINES) -> None:
    """Print what a chunk is called, in one line that no console breaks, and some of its text or all."""
    source = chunk.metadata.get("source")
    line.append(one_line(chunk.id), style="bold")
    if isinstance(source, str) and not chunk.id.startswith(source):
        line.append(f"  {one_line(source)}", style="dim not bold")
    console_for().print(line, soft_wrap=True)
    if full:
        _print_text(chunk.text, indent)
        return
    width = max(_LEAST, console_for().width - indent)
    console = console_for()
    # A text of megabytes need not be wrapped to its end.
    wrapped = Text(one_line(chunk.text[: 8 * width * lines])).wrap(console, width)
    for number, part in enumerate(wrapped[:lines], start=1):
        part.rstrip()
        if number == lines < len(wrapped):
            part.truncate(width - 1)
            part.append("…")
        console.print(Text(" " * indent).append(part), soft_wrap=True)


def _print_text(text: str, indent: int) -> None:
    for line in text.expandtabs().split("\n"):
        shown = Text(one_line(line.rstrip("\r"), keep_spaces=True))
        console_for().print(Text(" " * indent).append(shown), soft_wrap=True)


def _value(value: object) -> str:
    return value if isinstance(value, str) else repr(value)

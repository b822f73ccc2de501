"""What the command line prints: tables for people, one JSON document for scripts."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from recollect.ingestion import IngestResult, Skipped
    from recollect.types import CheckReport, CollectionInfo, Hit, IndexInfo

_LINES = 3  # of a hit's text
_SKIPPED = 20  # listed; --json has them all

# Control characters would reach the terminal as commands, and direction overrides would turn text around.
_HARMFUL = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)], "�")


def print_json(value: Any) -> None:
    """Print one document; in ASCII, so that no locale can refuse it."""
    sys.stdout.write(json.dumps(value, indent=2, default=_to_plain) + "\n")


def to_json(hits: Sequence[Hit]) -> list[dict[str, Any]]:
    """Return hits as flat objects."""
    return [
        {
            "rank": hit.rank,
            "score": hit.score,
            "id": hit.chunk.id,
            "text": hit.chunk.text,
            "metadata": hit.chunk.metadata,
        }
        for hit in hits
    ]


def print_error(message: str, *, label: str = "error") -> None:
    """Print one line on standard error."""
    line = Text(f"{label}: ", style="bold red" if label == "error" else "yellow")
    _console(stderr=True).print(line.append(_one_line(message), style="default not bold"), soft_wrap=True)


def print_line(message: str) -> None:
    """Print one line on standard output."""
    _console().print(Text(_one_line(message)), soft_wrap=True)


@contextmanager
def waiting(what: str, *, quiet: bool) -> Iterator[None]:
    """Show that something takes its time, where standard error is a terminal."""
    console = _console(stderr=True)
    if quiet or not console.is_terminal:
        yield
        return
    with console.status(Text(what, style="dim")):
        yield


def print_hits(hits: Sequence[Hit]) -> None:
    """Print rank, score, id, source and the beginning of the text."""
    console = _console()
    if not hits:
        console.print("nothing found: the collection is empty")
        return
    scores = [_score(hit.score) for hit in hits]
    left = len(str(len(hits))) + max(map(len, scores)) + 4
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(justify="right", style="bold")
    table.add_column(justify="right", style="cyan")
    table.add_column(overflow="fold")
    for hit, score in zip(hits, scores, strict=True):
        if hit.rank > 1:
            table.add_row()
        table.add_row(str(hit.rank), score, _described(hit, max(20, console.width - left)))
    console.print(table)


def print_ingested(result: IngestResult, into: str) -> None:
    """Print what an ingestion did, and what it passed over."""
    print_line(
        f"{_many(result.files, 'file')} read into {into}: {_many(result.added, 'chunk')} added, {result.updated:,} "
        f"updated, {result.unchanged:,} unchanged, {result.removed:,} removed; "
        f"{_many(result.embedded, 'text')} embedded"
    )
    _print_skipped(result.skipped)


def print_info(info: CollectionInfo) -> None:
    """Print a collection's figures."""
    rows = [
        ("path", info.path),
        ("chunks", f"{info.count:,}"),
        ("deleted", f"{info.deleted:,} rows" + (", which compact drops" if info.deleted else "")),
        ("vectors", f"{info.dimension:,} dimensions, {info.metric.value}"),
        ("embedder", info.embedder or "none: vectors are brought ready-made"),
        ("index", _index(info.index)),
        ("tail", f"{info.tail:,} rows searched exactly"),
        ("disk", decimal(sum(info.disk.values()))),
        *(("", f"{decimal(size):>10}  {name}") for name, size in info.disk.items()),
        ("generation", f"{info.generation}, format {info.format_version}"),
    ]
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, Text(_one_line(value, keep_spaces=True)))
    _console().print(table)


def print_index(index: IndexInfo | None) -> None:
    """Print the index now in use."""
    print_line(f"index: {_index(index)}")


def print_check(report: CheckReport) -> None:
    """Print the verdict on a collection, one line per problem."""
    if report.ok:
        print_line(f"sound: {_many(report.rows, 'chunk')} verified")
        return
    console = _console()
    console.print(f"{_many(len(report.problems), 'problem')}, {_many(report.rows, 'chunk')} verified", style="bold red")
    for problem in report.problems:
        console.print(Text(f"• {_one_line(problem)}"), soft_wrap=True)


def _many(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _print_skipped(skipped: Sequence[Skipped]) -> None:
    for one in skipped[:_SKIPPED]:
        print_line(f"skipped: {one.source} {one.reason}")
    if len(skipped) > _SKIPPED:
        print_line(f"skipped: {len(skipped) - _SKIPPED:,} more, which --json lists")


def _index(index: IndexInfo | None) -> str:
    if index is None:
        return "none: every search is exact"
    return f"{index.factory}, {index.rows:,} rows, {decimal(index.bytes)} ({index.reason})"


def _described(hit: Hit, width: int) -> Text:
    source = hit.chunk.metadata.get("source")
    heading = Text(_one_line(hit.chunk.id), style="bold")
    if isinstance(source, str) and not hit.chunk.id.startswith(source):
        heading.append(f"  {_one_line(source)}", style="dim not bold")
    body = Text(_one_line(hit.chunk.text))
    body.truncate(width * _LINES - 1, overflow="ellipsis")
    return Text("\n").join([heading, body])


def _score(score: float) -> str:
    return f"{score:.4f}" if abs(score) < 1000 else f"{score:.6g}"


def _one_line(text: str, *, keep_spaces: bool = False) -> str:
    return (text if keep_spaces else " ".join(text.split())).translate(_HARMFUL)


def _to_plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is no JSON")


def _console(*, stderr: bool = False) -> Console:
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)

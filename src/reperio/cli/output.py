"""Print results: tables for people, one JSON document for scripts."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from reperio.collection import BackupInfo
from reperio.index import cheapest, to_size
from reperio.index.recipes.goal import Recipe
from reperio.index.recipes.ranking import is_graph
from reperio.printable import one_line
from reperio.types import CheckReport, CollectionInfo, Hit, IndexInfo, OperatingPoint, OriginInfo

if TYPE_CHECKING:
    from reperio.importers.storing import ImportReport

_LEFT = 10  # likewise, in one line
_RECALLS = (0.80, 0.90, 0.95, 0.97, 0.98, 0.99, 0.999)  # shown; --json has every operating point
_NOTHING = "–"  # an empty cell would look like a mistake


def prepare() -> None:
    """Let no character be refused: what an output cannot show, as with LANG=C, is written as an escape."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by who started this
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  # until Python ends
        if isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def abandon(stream: TextIO) -> None:
    """Send what is still to be written to nowhere: Python would try again at its end, and complain."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def print_json(value: Any) -> None:
    """Print one document; in ASCII, so that no locale can refuse it."""
    sys.stdout.write(json.dumps(value, indent=2, default=_to_plain) + "\n")


def print_json_line(value: Any) -> None:
    """Print one value on a line of its own, in ASCII; for scripts that read line by line."""
    sys.stdout.write(json.dumps(value, default=_to_plain) + "\n")
    sys.stdout.flush()  # whoever reads a pipe line by line has each at once


def to_json(hits: Sequence[Hit]) -> list[dict[str, Any]]:
    """Return hits as flat objects."""
    return [
        {
            "rank": hit.rank,
            "score": hit.score,
            "id": hit.chunk.id,
            "text": hit.chunk.text,
            "metadata": hit.chunk.metadata,
            **({} if hit.scores is None else {"scores": hit.scores}),
        }
        for hit in hits
    ]


def to_json_recipes(recipes: Sequence[Recipe], rows: int) -> list[dict[str, Any]]:
    """Return recipes with what the table shows: rank, bytes in all, and the time to build in a word."""
    return [
        {
            "rank": rank,
            **dataclasses.asdict(recipe),
            "bytes": None if recipe.bytes_per_vector is None else round(recipe.bytes_per_vector * rows),
            "build": recipe.build_class,
        }
        for rank, recipe in enumerate(recipes, start=1)
    ]


def print_error(message: str, *, label: str = "error") -> None:
    """Print one line on standard error."""
    line = Text(f"{label}: ", style="bold red" if label == "error" else "yellow")
    console = console_for(stderr=True)
    try:
        with console.capture() as captured:
            console.print(line.append(one_line(message), style="default not bold"), soft_wrap=True)
        # A progress bar on display replaces sys.stderr by a proxy, so that lines come out above it; the
        # console would look behind the proxy, and write into the bar.
        sys.stderr.write(captured.get())
        sys.stderr.flush()
    except (OSError, SystemExit):  # rich makes an exit of a pipe that nobody reads; the exit code says what there is
        abandon(sys.stderr)


def print_line(message: str) -> None:
    """Print one line on standard output."""
    console_for().print(Text(one_line(message)), soft_wrap=True)


def print_done(value: Any, line: str, *, json: bool) -> None:
    """Print what a command did: a document for scripts, or a line for people."""
    print_json(value) if json else print_line(line)


@contextmanager
def waiting(what: str, *, quiet: bool) -> Iterator[None]:
    """Show that something takes its time, where standard error is a terminal."""
    console = console_for(stderr=True)
    if quiet or not console.is_terminal:
        yield
        return
    with console.status(Text(one_line(what), style="dim")):
        yield


def print_imported(report: ImportReport) -> None:
    """Print what an import did, and all that could not be carried over as it was."""
    new = "the new collection " if report.created else ""
    print_line(
        f"{many(report.documents, 'document')} read into {new}{report.path}: "
        f"{many(report.added, 'chunk')} added, {report.updated:,} updated, {report.unchanged:,} unchanged; "
        f"{many(report.embedded, 'text')} embedded; compared by {report.metric.value}"
    )
    if report.changed:
        table = Table("field", "was", "became", box=None, pad_edge=False)
        table.add_column("times", justify="right")
        for one in report.changed:
            table.add_row(*(Text(one_line(cell)) for cell in (one.field, one.was, one.became, f"{one.count:,}")))
        console_for().print(table)
    _print_left("without a vector, not imported", report.without_vector)
    _print_left("vectors without a document, not imported", report.without_document)
    _print_left("with several vectors, of which the last was imported", report.duplicates)
    for note in report.notes:
        print_line(note)
    if report.unit_length:
        print_line(
            "all vectors have length 1: compared by cosine (--metric cosine, into another collection) they rank the "
            "same, and have scores between -1 and 1"
        )


def _print_left(what: str, which: Sequence[object]) -> None:
    if which:
        more = f", {len(which) - _LEFT:,} more" if len(which) > _LEFT else ""
        print_line(f"{what}: {', '.join(map(repr, which[:_LEFT]))}{more}")


def print_info(info: CollectionInfo) -> None:
    """Print a collection's figures: one screen, which --json completes."""
    deleted, tail = info.deleted or 0, info.tail or 0  # a scope, which the command line has not, tells neither
    rows = [
        ("path", info.path),
        ("chunks", f"{info.count:,}"),
        ("deleted", many(deleted, "row") + (", which compact drops" if deleted else "")),
        ("vectors", f"{info.dimension:,} dimensions, {info.metric.value}, {info.dtype}"),
        ("embedder", info.embedder or "none: vectors are brought ready-made"),
        *_index_rows(info.index),
        *_found_rows(info.index),
        ("tail", f"{many(tail, 'row')} searched exactly"),
        ("disk", to_size(sum(info.disk.values()))),
        *(("", f"{to_size(size):>10}  {name}") for name, size in info.disk.items()),
        ("generation", f"{info.generation}, format {info.format_version}"),
        *(_origin_rows(info.origin) if info.origin is not None else ()),
    ]
    print_rows(rows)


def print_origin(origin: OriginInfo) -> None:
    """Print what is known of an origin."""
    print_rows(_origin_rows(origin))


def _origin_rows(origin: OriginInfo) -> list[tuple[str, str]]:
    when = datetime.fromtimestamp(origin.committed, timezone.utc).isoformat(timespec="seconds")
    behind = origin.newest - origin.commit
    commit = f"{origin.commit:,}" + (f" of {origin.newest:,}" if behind else "")
    rows = [("origin", origin.where), ("commit", f"{commit}, made at {when}" if origin.committed else commit)]
    return [*rows, ("", f"not asked now: {origin.trouble}")] if origin.trouble else rows


def print_index(index: IndexInfo | None) -> None:
    """Print the index now in use, and what it gives for the recalls that users ask for."""
    if index is None:
        print_line(f"index: {_WITHOUT}")
        return
    print_rows(_index_rows(index))
    if not index.points:  # it was not measured: tune does that
        return
    console = console_for()
    console.print()
    console.print(_table_of_points(index))
    console.print()
    note = (
        "recall@10 with its 99% interval; p50 and p95 of single queries on one thread, queries/s of a batch on all "
        "cores; reading the chunks comes on top."
    )
    console.print(Text(note, style="dim"))


def effort_name(index: IndexInfo) -> str:
    """Return what FAISS calls the effort of an index."""
    return "efSearch" if is_graph(index.factory) else "nprobe" if "IVF" in index.factory else "effort"


def print_recipes(recipes: Sequence[Recipe], rows: int) -> None:
    """Print recipes best first, the reason of each on a line of its own."""
    width = max(5, *(len(recipe.factory) for recipe in recipes))  # at least that of "index" and "exact"
    console = console_for()
    console.print(Text(f"    {'index':<{width}}  {'memory':>8}  {'a vector':>9}  build", style="bold"))
    for rank, recipe in enumerate(recipes, start=1):
        each = recipe.bytes_per_vector
        total = "unknown" if each is None else to_size(each * rows) if each else "none"
        line = Text(f"{rank:>2}  ").append(f"{recipe.factory or 'exact':<{width}}", style="bold cyan")
        line.append(f"  {total:>8}  {f'{each:,.0f} B' if each else _NOTHING:>9}  {recipe.build_time}")
        console.print(line, soft_wrap=True)
        console.print(Padding(Text(one_line(recipe.reason), style="dim"), (0, 0, 0, 4)))


def print_check(report: CheckReport) -> None:
    """Print the verdict on a collection, one line per problem."""
    if report.ok:
        print_line(f"sound: {many(report.rows, 'chunk')} verified")
        return
    console = console_for()
    console.print(f"{many(len(report.problems), 'problem')}, {many(report.rows, 'chunk')} verified", style="bold red")
    for problem in report.problems:
        console.print(Text(f"• {one_line(str(problem))}"), soft_wrap=True)


def print_backups(backups: Sequence[BackupInfo], *, verified: bool) -> None:
    """Print backups, oldest first, and what is damaged in them."""
    for backup in backups:
        state = "" if not verified else ", damaged" if backup.problems else ", whole"
        what = f"{backup.time}, {many(backup.chunks, 'chunk')}, {to_size(backup.bytes)}"
        print_line(f"{backup.number}: {what if backup.time else 'unreadable'}{state}")
        for problem in backup.problems:
            print_line(f"– {problem}")


def many(number: int, what: str) -> str:
    """Return a number with the word for what it counts."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


_WITHOUT = "none: every search is exact"


def _index_rows(index: IndexInfo | None) -> list[tuple[str, str]]:
    if index is None:
        return [("index", _WITHOUT)]
    each = index.bytes / max(1, index.rows)
    return [
        ("index", f"{index.factory} over {many(index.rows, 'row')}, built {index.created[:10]}"),
        ("chosen", f"for recall {_share(index.recall)}: {index.reason}"),
        ("memory", f"{to_size(index.bytes)}, {each:,.0f} bytes per vector"),
        ("measured", f"with {index.queries}" if index.points else "not yet; tune does"),
    ]


def _found_rows(index: IndexInfo | None) -> list[tuple[str, str]]:
    """Return recall and latency at the recall that the index was chosen for."""
    point = cheapest(index.points, index.recall, 10) if index else None
    if index is None or point is None:
        return []
    if not point.candidates:
        return [("recall", f"{_share(index.recall)} by exact search alone"), ("latency", _time(point.p50))]
    effort = f"{effort_name(index)} {point.effort}, " if point.effort else ""
    return [
        ("recall", f"{_interval(point)} of the 10 nearest; {effort}{point.candidates} candidates"),
        ("latency", f"{_time(point.p50)}, p95 {_time(point.p95)}; {point.rate:,.0f} queries/s in a batch"),
    ]


def _table_of_points(index: IndexInfo) -> Table:
    """Return one line per recall wanted, with what `Collection.search` does for it."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("recall", effort_name(index), "candidates", "measured", "p50", "p95", "queries/s"):
        table.add_column(name, justify="left" if name == "measured" else "right")
    # The recall that the index was chosen for is among them, whichever it is.
    for recall in sorted({*_RECALLS, index.recall}):
        point = cheapest(index.points, recall, 10)  # the one that a search for this recall takes
        if point is None:
            continue
        # Exact search proposes no candidates, because it compares every vector.
        exact = point.candidates == 0
        table.add_row(
            _share(recall),
            "exact" if exact else str(point.effort or _NOTHING),
            _NOTHING if exact else str(point.candidates),
            "1" if exact else _interval(point),
            _time(point.p50),
            _time(point.p95),
            f"{point.rate:,.0f}",
            style="bold green" if recall == index.recall else None,
        )
    return table


def _interval(point: OperatingPoint) -> str:
    return f"{point.recall:.4f} ({point.low:.3f}–{point.high:.3f})"


def _share(recall: float) -> str:
    return f"{recall:.2f}" if round(recall, 2) == recall else f"{recall:g}"


def _time(microseconds: float) -> str:
    if microseconds < 1000:
        return f"{microseconds:.0f} µs"
    return f"{microseconds / 1000:.{1 if microseconds < 100_000 else 0}f} ms"


def print_rows(rows: Sequence[tuple[str, str]]) -> None:
    """Print names and values; in a pipe each value on one line, however long."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    console = console_for()
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        lines = [one_line(line, keep_spaces=True) for line in value.split("\n")]
        table.add_row(name, Text("\n".join(lines)))
        if not console.is_terminal:
            for at, line in enumerate(lines):
                console.print(Text(f"{'' if at else name:<{width}}  {line}".rstrip()), soft_wrap=True)
    if console.is_terminal:
        console.print(table)


def _to_plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    # Metadata may be any mapping, and json knows only dictionaries.
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is no JSON")


def console_for(*, stderr: bool = False) -> Console:
    """Return a console that shows ids and texts as they are."""
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)

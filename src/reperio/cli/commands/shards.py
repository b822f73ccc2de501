"""``reperio shards``: build, write to and keep shards, in the words and with the exit codes of one collection."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import reperio
from reperio.cli import output
from reperio.cli.arguments import Json, Lexical, Where, argument, flag, option, to_filter
from reperio.cli.commands.ingesting import INCOMPLETE, to_metadata
from reperio.cli.commands.keeping import print_diagnosis
from reperio.errors import InvalidInput

if TYPE_CHECKING:
    from reperio.sharding.building.partitions import Batch
    from reperio.sharding.keeping.exchanging import Exchange
    from reperio.sharding.keeping.upkeep import ShardsCheck, ShardsDiagnosis, ShardsInfo

app = typer.Typer(help="Spread a collection that outgrows one host over shards, with Ray.", no_args_is_help=True)

DIR = Annotated[Path, argument("DIR", "The directory that has shards.json.")]
Recall = Annotated[float, typer.Option(help="Share of the true nearest chunks to aim at, above 0 and at most 1.")]
NoIndex = Annotated[bool, flag("--no-index", "Build no index: reperio shards optimize does so later.")]
Processes = Annotated[int | None, option("N", "Run the tasks in so many processes of this host, without Ray.", least=1)]

_SOURCE = "Files of .jsonl or .parquet, a chunk a line or row; or one collection; or files and folders to ingest."
_INTO = "The new directory; on several hosts, each must see it at this path."
_EMBEDDER = "A sentence-transformers name or local path, for texts without vectors; all-MiniLM-L6-v2 by default."
_WORKERS = "CPUs of the Ray that is started where RAY_ADDRESS names none; all by default."
_GPUS = "Graphics cards that each task needs which embeds, e.g. 0.5."
_METADATA = "Of every chunk that is ingested, e.g. team=sales; may be repeated."
_FILES = "Files of .jsonl or .parquet: a chunk a line or row, with or without its vector."
_UNRESTORED = "For a backup made by others: its indexes are neither read nor restored."
_FACTORY = "symphonyqg, hnsw, exact, or a FAISS factory string; by default the best one."


@app.command()
def build(
    sources: Annotated[list[Path], argument("SOURCE", _SOURCE)],
    into: Annotated[Path, option("DIR", _INTO)],
    shards: Annotated[int, option("N", "How many; they can be split and merged later.", least=1)],
    embedder: Annotated[str | None, option("NAME", _EMBEDDER)] = None,
    metric: Annotated[str | None, option("METRIC", "cosine (by default), inner_product or l2.")] = None,
    dtype: Annotated[str | None, option("DTYPE", "Of stored vectors: float32 (by default) or float16.")] = None,
    lexical: Lexical = None,
    recall: Recall = 0.95,
    no_index: NoIndex = False,
    id_field: Annotated[str | None, option("FIELD", "The field that has the id of a line or row; else id.")] = None,
    text_field: Annotated[str | None, option("FIELD", "The field that has the text; else text.")] = None,
    vector_field: Annotated[str | None, option("FIELD", "The field that has the vector; else vector.")] = None,
    metadata: Annotated[list[str] | None, option("KEY=VALUE", _METADATA)] = None,
    max_tokens: Annotated[int | None, option(None, "Most tokens of a piece of what is ingested.", least=1)] = None,
    overlap: Annotated[int | None, option(None, "Tokens that two neighbouring pieces share.", least=0)] = None,
    workers: Annotated[int | None, option("N", _WORKERS, least=1)] = None,
    processes: Processes = None,
    gpus: Annotated[float | None, typer.Option("--gpus", metavar="X", min=0, help=_GPUS, show_default=False)] = None,
    json: Json = False,
) -> None:
    """Make shards of a source, in tasks on Ray; killed, and run again, it goes on where it was.

    The exit code is 3 if some of the files could not be read: they are listed, and the others are stored.
    """
    from reperio.sharding.building.build import build_shards

    given = {"metadata": to_metadata(metadata), "max_tokens": max_tokens, "overlap": overlap}
    ingestion = {name: value for name, value in given.items() if value is not None}
    with reperio.progress_bar(disable=json) as progress, _pool(processes) as run:
        done = build_shards(
            sources,
            into,
            shards=shards,
            embedder=embedder,
            metric=metric,
            dtype=dtype,
            lexical=lexical,
            recall=None if no_index else recall,
            id_field=id_field,
            text_field=text_field,
            vector_field=vector_field,
            ingestion=ingestion,
            workers=workers,
            resources=None if gpus is None else {"num_cpus": 1, "num_gpus": gpus},
            map=run,
            progress=progress,
        )
    line = (
        f"{output.many(done.chunks, 'chunk')} in {output.many(shards, 'shard')} of {into}, {done.embedded:,} embedded"
    )
    output.print_done({**dataclasses.asdict(done), "complete": done.complete}, line, json=json)
    if not json:
        for failed in done.failed:
            output.print_line(f"failed: {failed.place}: {failed.reason}")
    if not done.complete:
        raise typer.Exit(INCOMPLETE)


@app.command()
def add(shards: DIR, files: Annotated[list[Path], argument("FILE", _FILES)], json: Json = False) -> None:
    """Add chunks, and replace those whose id is there; a second run writes only what has changed."""
    from reperio.sharding.writing import ShardWriter

    done = reperio.AddResult()
    with ShardWriter(shards) as writer, reperio.progress_bar(disable=json) as progress:
        for batch in _read(files, writer):
            done += writer.add(batch.chunks, vectors=batch.vectors)
            progress("add", done.added + done.updated + done.unchanged, None)
    counts = f"{done.added:,} chunks added, {done.updated:,} updated, {done.unchanged:,} unchanged"
    output.print_done(done, f"{counts}; {done.embedded:,} embedded", json=json)


@app.command()
def delete(
    shards: DIR,
    ids: Annotated[list[str] | None, argument("ID", "Ids of chunks.")] = None,
    where: Where = None,
    json: Json = False,
) -> None:
    """Delete chunks by id, or by their metadata; an id that is not there is no error."""
    from reperio.sharding.writing import ShardWriter

    if bool(ids) == (where is not None):
        raise InvalidInput("delete takes ids or --where, one of the two")
    wanted = list(dict.fromkeys(ids or ()))
    with ShardWriter(shards) as writer:
        if where is not None:
            deleted = writer.delete(where=to_filter(where))
            output.print_done({"deleted": deleted}, f"{deleted:,} deleted", json=json)
        else:
            deleted, asked = writer.delete(ids=wanted), len(wanted)
            output.print_done({"deleted": deleted, "asked": asked}, f"{deleted:,} of {asked:,} deleted", json=json)


@app.command()
def split(
    shards: DIR,
    shard: Annotated[str, argument("SHARD", "The name of a shard, as info shows it.")],
    parts: Annotated[int, typer.Option(metavar="N", min=2, help="How many it becomes.")] = 2,
    recall: Recall = 0.95,
    no_index: NoIndex = False,
    json: Json = False,
) -> None:
    """Cut one shard into several, while it is searched and written to."""
    from reperio.sharding.keeping import exchanging

    with reperio.progress_bar(disable=json) as progress:
        done = exchanging.split(shards, shard, parts=parts, recall=None if no_index else recall, progress=progress)
    _print_exchange(done, json=json)


@app.command()
def merge(
    shards: DIR,
    names: Annotated[list[str], argument("SHARD", "Names of neighbours, in the order in which info shows them.")],
    recall: Recall = 0.95,
    no_index: NoIndex = False,
    json: Json = False,
) -> None:
    """Make one shard of several neighbours, while they are searched and written to."""
    from reperio.sharding.keeping import exchanging

    with reperio.progress_bar(disable=json) as progress:
        done = exchanging.merge(shards, names, recall=None if no_index else recall, progress=progress)
    _print_exchange(done, json=json)


@app.command()
def check(shards: DIR, processes: Processes = None, json: Json = False) -> None:
    """Read everything in all shards and verify it; the exit code is 1 if there are problems."""
    from reperio.sharding.keeping import upkeep

    with reperio.progress_bar(disable=json) as progress, _pool(processes) as run:
        report = upkeep.check_shards(shards, map=run, progress=progress)
    if json:
        output.print_json({"ok": report.ok, "rows": report.rows, **dataclasses.asdict(report)})
    else:
        _print_check(report)
    if not report.ok:
        raise typer.Exit(1)


@app.command()
def doctor(
    shards: DIR,
    mend: Annotated[bool, flag("--mend", "Do what can be done; damaged files are kept as damaged-gen-….")] = False,
    processes: Processes = None,
    json: Json = False,
) -> None:
    """Say what is wrong with each shard, and mend on request; the exit code is 1 while anything is damaged."""
    from reperio.sharding.keeping import upkeep

    with reperio.progress_bar(disable=json) as progress, _pool(processes) as run:
        found = upkeep.diagnose_shards(shards, mend=mend, map=run, progress=progress)
    if json:
        output.print_json({"ok": found.ok, **dataclasses.asdict(found)})
    else:
        _print_diagnoses(found)
    if not found.ok:
        raise typer.Exit(1)


@app.command()
def backup(
    shards: DIR,
    dest: Annotated[Path, argument("DEST", "A new directory.")],
    processes: Processes = None,
    json: Json = False,
) -> None:
    """Write a copy of all shards to a new directory; reperio shards restore brings it back."""
    from reperio.sharding.keeping import upkeep

    with reperio.progress_bar(disable=json) as progress, _pool(processes) as run:
        upkeep.backup_shards(shards, dest, map=run, progress=progress)
    output.print_done({"destination": str(dest)}, f"{shards} is backed up in {dest}", json=json)


@app.command()
def restore(
    source: Annotated[Path, argument("BACKUP", "A backup of shards.")],
    shards: Annotated[Path, argument("DIR", "A new directory.")],
    distrust_index: Annotated[bool, flag("--distrust-index", _UNRESTORED)] = False,
    mend: Annotated[bool, flag("--mend", "Of a damaged backup, restore what is whole.")] = False,
    processes: Processes = None,
    json: Json = False,
) -> None:
    """Make shards of a backup; every chunk is verified before it is there."""
    from reperio.sharding.keeping import upkeep

    with reperio.progress_bar(disable=json) as progress, _pool(processes) as run:
        done = upkeep.restore_shards(
            source, shards, trust_index=not distrust_index, mend=mend, map=run, progress=progress
        )
    line = f"{done.count:,} chunks in {len(done.shards)} shards are verified and in {shards}"
    output.print_done(_info_of(done), line, json=json)


@app.command()
def optimize(
    shards: DIR,
    recall: Recall = 0.95,
    index: Annotated[str | None, option("FACTORY", _FACTORY)] = None,
    memory: Annotated[str | None, option("SIZE", "Most memory for the index of a shard, e.g. 8GiB.")] = None,
    prefer: Annotated[str, typer.Option(metavar="WHAT", help="latency, throughput, or least memory.")] = "latency",
    processes: Processes = None,
    json: Json = False,
) -> None:
    """Choose, build and measure an index over each shard, and put it in use."""
    from reperio.sharding.keeping import upkeep

    with reperio.progress_bar(disable=json) as progress, _pool(processes) as run:
        built = upkeep.optimize_shards(
            shards, recall, index=index, memory=memory, prefer=prefer, map=run, progress=progress
        )
    if json:
        output.print_json({"indexes": built})
        return
    output.print_rows(
        [(name, "none: every search is exact" if one is None else one.factory) for name, one in built.items()]
    )


@app.command()
def info(shards: DIR, json: Json = False) -> None:
    """Describe shards: their slots, chunks, indexes and bytes on disk."""
    from reperio.index import to_size
    from reperio.sharding.keeping import upkeep

    found = upkeep.shards_info(shards)
    if json:
        output.print_json(_info_of(found))
        return
    output.print_rows(
        [
            ("path", found.path),
            ("chunks", f"{found.count:,}"),
            ("disk", to_size(found.disk)),
            ("generation", f"{found.generation} of {found.identity}"),
            *(
                (name, f"slots {entry.first_slot:,} to {entry.end_slot - 1:,}: {output.many(one.count, 'chunk')}, "
                 f"{one.index.factory if one.index else 'no index'}, {to_size(sum(one.disk.values()))}")
                for name, (entry, one) in found.shards.items()
            ),
        ]
    )  # fmt: skip


@contextmanager
def _pool(processes: int | None) -> Iterator[Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]] | None]:
    """Yield what runs tasks in processes of this host; None where it was not asked for."""
    if processes is None:
        yield None
        return
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    # Not by fork: this process may have threads by now.
    with ProcessPoolExecutor(processes, mp_context=get_context("forkserver")) as pool:
        yield pool.map


def _read(files: Sequence[Path], writer: reperio.ShardWriter) -> Iterator[Batch]:
    from reperio.sharding.building.sources import read_tables

    yield from read_tables(files, writer.manifest.settings)


def _print_exchange(done: Exchange, *, json: bool) -> None:
    made = ", ".join(f"{name} ({output.many(chunks, 'chunk')})" for name, chunks in done.made.items())
    output.print_done(done, f"{', '.join(done.removed)} became {made}", json=json)


def _print_check(report: ShardsCheck) -> None:
    if report.ok:
        output.print_line(f"sound: {output.many(report.rows, 'chunk')} verified in {len(report.shards)} shards")
        return
    for problem in report.problems:
        output.print_line(f"• {problem}")
    for name, one in report.shards.items():
        if not one.ok:
            output.print_line(f"{name}:")
            output.print_check(one)


def _print_diagnoses(found: ShardsDiagnosis) -> None:
    for name in found.removed:
        output.print_line(f"removed: {name}, which a killed exchange had left")
    for problem in found.problems:
        output.print_line(f"{problem.kind}: {problem}")
    for name, one in found.shards.items():
        if one.findings or one.mended or one.lost:
            output.print_line(f"{name}:")
            print_diagnosis(one)
    if found.ok:
        output.print_line(f"sound: {len(found.shards)} shards")


def _info_of(found: ShardsInfo) -> dict[str, Any]:
    shards = {
        name: {"first_slot": entry.first_slot, "end_slot": entry.end_slot, **dataclasses.asdict(one)}
        for name, (entry, one) in found.shards.items()
    }
    return {**dataclasses.asdict(dataclasses.replace(found, shards={})), "shards": shards}

"""``reperio export``, ``restore`` and ``doctor``: getting everything out, and getting it back."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

import reperio
from reperio.cli import output
from reperio.cli.arguments import KB, Json, argument, flag, option

_FORMAT = "parquet, or jsonl: larger, and needs no pyarrow."
_UNRESTORED = "For a backup made by others: its index is neither read nor restored."
_UNREAD = "For a collection made by others: its index is not read, nor checked."


def export(
    kb: KB,
    dest: Annotated[Path, argument("DEST", "A new directory.")],
    written_as: Annotated[str, typer.Option("--format", metavar="FORMAT", help=_FORMAT)] = "parquet",
    json: Json = False,
) -> None:
    """Write ids, texts, metadata, vectors and records to files that any program reads."""
    from reperio import exchange

    with reperio.progress_bar(disable=json) as progress:
        done = exchange.export_collection(kb, dest, format=written_as, progress=progress)  # type: ignore[arg-type]  # checked there
    line = f"{done.chunks:,} chunks and {done.records:,} records of {kb} are written to {dest}"
    output.print_done(done, line, json=json)


def restore(
    backup: Annotated[Path, argument("BACKUP", "A backup, or a folder of incremental ones.")],
    kb: Annotated[Path, argument("KB", "A new directory.")],
    number: Annotated[int | None, option(None, "Which of the incremental backups; the newest by default.")] = None,
    distrust_index: Annotated[bool, flag("--distrust-index", _UNRESTORED)] = False,
    mend: Annotated[bool, flag("--mend", "Of a damaged backup, restore what is whole and list the rest.")] = False,
    json: Json = False,
) -> None:
    """Make a collection of a backup; every chunk is verified before it is there."""
    with output.waiting("restoring and verifying …", quiet=json):
        done = reperio.restore(backup, kb, number=number, trust_index=not distrust_index, mend=mend)
    line = f"{done.chunks:,} chunks of backup {done.number}, of {done.time}, are verified and in {kb}"
    output.print_done(done, line, json=json)


def backups(
    folder: Annotated[Path, argument("FOLDER", "Of incremental backups.")],
    verify: Annotated[bool, flag("--verify", "Read all that they need and compare it with its checksums.")] = False,
    json: Json = False,
) -> None:
    """List the backups in a folder of incremental ones; with --verify, the exit code is 1 if one is damaged."""
    with output.waiting("reading …", quiet=json):
        found = reperio.backups(folder, verify=verify)
    output.print_json({"backups": found}) if json else output.print_backups(found, verified=verify)
    if any(backup.problems for backup in found):
        raise typer.Exit(1)


def doctor(
    kb: KB,
    mend: Annotated[bool, flag("--mend", "Do what can be done; damaged files are kept as damaged-gen-….")] = False,
    distrust_index: Annotated[bool, flag("--distrust-index", _UNREAD)] = False,
    json: Json = False,
) -> None:
    """Say what is wrong, what mending costs, and mend on request; the exit code is 1 while anything is damaged."""
    with reperio.progress_bar(disable=json) as progress:
        found = reperio.diagnose(kb, mend=mend, trust_index=not distrust_index, progress=progress)
    if json:
        output.print_json({"ok": found.ok, **dataclasses.asdict(found)})
    else:
        print_diagnosis(found)
    if not found.ok:
        raise typer.Exit(1)


def print_diagnosis(found: reperio.Diagnosis) -> None:
    """Print what was mended and lost, and what there is to be done."""
    for finding in found.mended:
        output.print_line(f"mended: {finding.what}")
    for line in found.lost:
        output.print_line(f"lost: {line}")
    for finding in found.findings:
        how = " (--mend does it)" if finding.mends else ""  # other cures are the user's to carry out
        output.print_line(f"{finding.kind}: {finding.what}")
        output.print_line(f"– cost: {finding.cost}")
        output.print_line(f"– cure: {finding.cure}{how}")
    if not found.findings:
        output.print_line("sound: nothing to be done")

"""``reperio gate`` and ``reperio golden``: judge a collection, and make what it is judged by."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

import reperio
from reperio.cli import output
from reperio.cli.arguments import KB, Json, argument, flag, option, to_filter
from reperio.errors import InvalidInput, ReperioError
from reperio.query_log.reading import read_log

if TYPE_CHECKING:
    from reperio.evaluation import Baseline, GateReport

Golden = Annotated[Path, argument("GOLDEN", "A golden set: .yaml or .jsonl.")]

golden_app = typer.Typer(help="Draft a golden set, and add questions to it.", no_args_is_help=True)

_DOCUMENT = "An expected document, by its name; may be repeated."
_FILTER = "The question's filter; {} for none, whatever the set's default."
_GRADE = "One per expected chunk or document, in their order; else every grade is 1."


def gate(
    kb: KB,
    golden: Annotated[Path | None, option("FILE", "The golden set: .yaml or .jsonl.")] = None,
    baseline: Annotated[Path | None, option("FILE", "What was accepted; next to the golden set by default.")] = None,
    accept: Annotated[bool, flag("--accept", "Write the baseline, unless something is unsound.")] = False,
    from_log: Annotated[
        Path | None, option("FILE", "Real questions: replayed, timed, and used for knn recall.")
    ] = None,
    recall: Annotated[float | None, option("R", "knn recall@10 to be reached: 0.95.")] = None,
    effect: Annotated[float | None, option("X", "Drop of a measure that matters: 0.02.")] = None,
    alpha: Annotated[float | None, option("P", "Chance of a false alarm: 0.05.")] = None,
    shrink: Annotated[float | None, option("X", "Share of chunks that may be missing: 0.005.")] = None,
    latency_ratio: Annotated[float | None, option("X", "Most times the baseline's latency: 2.")] = None,
    p50: Annotated[float | None, option("MS", "Median latency allowed, whatever the baseline.")] = None,
    p95: Annotated[float | None, option("MS", "Likewise, 95% quantile.")] = None,
    p99: Annotated[float | None, option("MS", "Likewise, 99% quantile.")] = None,
    rate: Annotated[float | None, option("N", "Least queries per second.")] = None,
    threads: Annotated[int | None, option("N", "That ask at the same time: 1.")] = None,
    only: Annotated[list[str] | None, option("CHECK", "Run this; may be repeated.")] = None,
    skip: Annotated[list[str] | None, option("CHECK", "Leave this out; may be repeated.")] = None,
    json: Json = False,
    junit: Annotated[Path | None, option("FILE", "Write JUnit XML, one test case per check.")] = None,
    markdown: Annotated[Path | None, option("FILE", "Write Markdown, for a pull request.")] = None,
    html: Annotated[Path | None, option("FILE", "Write one self-contained page with plots.")] = None,
) -> None:
    """Say whether a collection may go to production: exit 0 pass, 1 fail, 2 could not run.

    Limits can also stand in the golden set; an option goes before.
    """
    from reperio import evaluation

    asked = evaluation.read_golden(golden) if golden else None
    limits = evaluation.to_limits(
        asked, recall=recall, effect=effect, alpha=alpha, shrink=shrink, latency_ratio=latency_ratio, p50=p50, p95=p95,
        p99=p99, rate=rate, threads=threads,
    )  # fmt: skip
    where = baseline or (evaluation.baseline_path(golden) if golden else None)
    if accept and where is None:
        raise InvalidInput("--accept needs --golden or --baseline, to know where to write the baseline")
    if accept and (only or skip):
        raise InvalidInput("--accept takes what all checks have seen, to compare with it; leave --only and --skip out")
    # Before the collection is opened: a baseline that cannot be read is told in a moment.
    accepted = _accepted(where, named=baseline is not None and not accept, replaced=accept)
    log = read_log(from_log) if from_log else []
    with reperio.open(kb, read_only=True) as collection, reperio.progress_bar(disable=json) as progress:
        subject = evaluation.Subject(collection, asked, baseline=accepted, limits=limits, log=log, progress=progress)
        report = evaluation.judged(subject, only=only or (), skip=skip or ())
        refused = evaluation.acceptable(report) if accept else []
        fresh = evaluation.to_baseline(subject, report) if accept and not refused else None
    told, unwritten = _accept(where, fresh, refused) if accept and where is not None else ({}, [])
    failures = _write(report, told, json, junit, markdown, html) + unwritten
    if where is not None and told:
        _tell_accepted(where, told, quiet=json)
    for failure in failures[:-1]:
        output.print_error(str(failure))
    if failures:  # the last one is told by raising it
        raise failures[-1]
    # What is accepted is right by definition, whatever the old baseline said.
    raise typer.Exit(0 if fresh is not None else report.exit_code)


def _accepted(where: Path | None, *, named: bool, replaced: bool) -> Baseline | None:
    from reperio import evaluation

    if where is None or (not named and not where.exists()):
        return None
    try:
        return evaluation.read_baseline(where)
    except InvalidInput:
        if replaced:  # it will be written again, which is the cure that the error names
            return None
        raise


def _accept(where: Path, fresh: Baseline | None, refused: Sequence[str]) -> tuple[dict[str, Any], list[ReperioError]]:
    """Write the baseline, and return what a script is told of it, and why it could not be written.

    Before any report: one that cannot be written must not undo what was accepted.
    """
    from reperio import evaluation

    told = {"accepted": fresh is not None, "baseline": str(where), "refused": list(refused), "failure": None}
    if fresh is not None:
        try:
            evaluation.write_baseline(fresh, where)
        except ReperioError as error:
            return {**told, "accepted": False, "failure": str(error)}, [error]
    return told, []


def _write(report: GateReport, told: Mapping[str, Any], json: bool, *paths: Path | None) -> list[ReperioError]:
    """Print the report and write it as JUnit, Markdown and HTML; return why some of the files could not be."""
    from reperio.evaluation import reports
    from reperio.layout import storage_errors

    # First what needs no disk: that a report cannot be written must not hide what it says.
    if json:
        output.print_json({**reports.to_json(report), **({"acceptance": told} if told else {})})
    else:
        reports.print_report(report, Console())
    failures: list[ReperioError] = []
    for path, maker in zip(paths, (reports.to_junit, reports.to_markdown, reports.to_html), strict=True):
        if path is not None:
            try:
                with storage_errors(path, "write"):
                    path.write_text(maker(report), encoding="utf-8")
            except ReperioError as error:
                failures.append(error)
    return failures


def _tell_accepted(where: Path, told: Mapping[str, Any], *, quiet: bool) -> None:
    if told["refused"]:
        # Nothing has written to it: what is there is the baseline from before.
        left = f"{where} is as it was" if where.exists() else "no baseline was written"
        output.print_error(f"not accepted: {', '.join(told['refused'])} must pass first; {left}")
    elif told["accepted"] and not quiet:
        output.print_line(f"accepted: {where} is the baseline from now on; commit it")


@golden_app.command("init")
def golden_init(
    kb: KB,
    golden: Golden,
    from_log: Annotated[Path | None, option("FILE", "Draw questions from these.")] = None,
    number: Annotated[int, typer.Option("--number", "-n", help="Questions.", min=1)] = 20,
) -> None:
    """Draft a golden set for a person to correct: questions of a log, or of chunks far from each other."""
    from reperio.evaluation.golden import drafting

    # Drafting takes a while, and would be for nothing.
    drafting.require_new(golden)
    log = read_log(from_log) if from_log else None
    with reperio.open(kb, read_only=True) as collection, output.waiting("drafting …", quiet=False):
        drafts = drafting.draft(collection, number, log=log)
        field = drafting.document_field(collection)
    drafting.write_draft(golden, drafts, document_field=field)
    output.print_line(
        f"{len(drafts)} questions are drafted in {os.fspath(golden)}; correct them, then run reperio gate"
    )


@golden_app.command("add")
def golden_add(
    golden: Golden,
    query: Annotated[str, argument("QUESTION", "As users ask it.")],
    expect: Annotated[list[str] | None, option("ID", "An expected chunk; may be repeated.")] = None,
    expect_document: Annotated[list[str] | None, option("NAME", _DOCUMENT)] = None,
    grade: Annotated[list[int] | None, option("N", _GRADE)] = None,
    nothing_above: Annotated[float | None, option("SCORE", "No hit may score more.")] = None,
    where: Annotated[str | None, option("JSON", _FILTER)] = None,
    mode: Annotated[str | None, option(None, "dense, lexical or hybrid; else the set's default.")] = None,
    tag: Annotated[list[str] | None, option("TAG", "A group; may be repeated.")] = None,
    name: Annotated[str | None, option("ID", "Of the question, where its text is asked twice.", "--id")] = None,
) -> None:
    """Append a question to a golden set, whose comments and order stay as they are; a new file is begun."""
    from reperio.evaluation import GoldenQuery
    from reperio.evaluation.golden import drafting

    is_new, before = not golden.exists(), drafting.begun(golden)
    added = GoldenQuery(
        id=query if name is None else name,
        text=query,
        expect=_graded(expect or [], None if expect_document else grade),
        documents=_graded(expect_document or [], grade if expect_document else None),
        nothing_above=nothing_above,
        where=before.where if where is None else to_filter(where) or None,
        mode=before.mode if mode is None else mode,
        tags=tuple(tag or ()),
    )
    drafting.add_query(golden, added)
    begun = f"{golden} is begun" + (f", with document_field: {before.document_field}" if added.documents else "")
    output.print_line(begun if is_new else f"added to {golden}")


def _graded(names: Sequence[str], grades: Sequence[int] | None) -> dict[str, int]:
    if len(set(names)) < len(names):
        raise InvalidInput(f"{next(each for each in names if names.count(each) > 1)!r} is expected twice")
    if not grades:
        return dict.fromkeys(names, 1)
    if len(grades) != len(names):
        raise InvalidInput(
            f"{len(grades)} grades for {len(names)} expected; pass --grade once for each, in their order"
        )
    return dict(zip(names, grades, strict=True))

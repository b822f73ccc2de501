"""``reperio gate``: judge a collection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

import reperio
from reperio.cli import output
from reperio.cli.arguments import Json, flag, option
from reperio.errors import InvalidInput, ReperioError
from reperio.query_log.reading import read_log

if TYPE_CHECKING:
    from reperio.evaluation import Baseline, GateReport, Subject

# Texts of options that are longer than a line of a signature has room for.
_KB = "The collection's directory; may be left out where --search, --url or --run is judged alone."
_SEARCH = "A search to judge instead: module:function or file.py:function, called as search(text, k=…)."
_URL = "An HTTP endpoint to judge instead: JSON is sent, JSON comes back (docs/gate-from-outside.md)."
_RUN = "Answers to judge instead: a run of TREC, BEIR (.tsv) or ranx (.json)."
EMBEDDER = "The collection's embedder: module:function, file.py:function, or a model's name; else the recorded one."
_ANNOTATIONS = "Write what is red or warned of as GitHub shows it next to a pull request."
_SAVED = "Write what came as a run: TREC; .tsv for BEIR, .json for ranx."


def gate(
    kb: Annotated[Path | None, typer.Argument(metavar="[KB]", help=_KB, show_default=False)] = None,
    golden: Annotated[Path | None, option("FILE", "The golden set: .yaml or .jsonl.")] = None,
    baseline: Annotated[Path | None, option("FILE", "What was accepted; next to the golden set by default.")] = None,
    accept: Annotated[bool, flag("--accept", "Write the baseline, unless something is unsound.")] = False,
    search: Annotated[str | None, option("MODULE:FUNCTION", _SEARCH)] = None,
    url: Annotated[str | None, option("URL", _URL)] = None,
    run: Annotated[Path | None, option("FILE", _RUN)] = None,
    embedder: Annotated[str | None, option("NAME", EMBEDDER)] = None,
    header: Annotated[list[str] | None, option("NAME:VALUE", "Sent with --url; may be repeated.")] = None,
    timeout: Annotated[float | None, option("SECONDS", "For each question to --url: 30.")] = None,
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
    strict: Annotated[bool, flag("--strict", "Exit 1 for warnings as well.")] = False,
    json: Json = False,
    junit: Annotated[Path | None, option("FILE", "Write JUnit XML, one test case per check.")] = None,
    markdown: Annotated[Path | None, option("FILE", "Write Markdown, for a pull request.")] = None,
    html: Annotated[Path | None, option("FILE", "Write one self-contained page with plots.")] = None,
    annotations: Annotated[Path | None, option("FILE", _ANNOTATIONS)] = None,
    save_run: Annotated[Path | None, option("FILE", _SAVED)] = None,
) -> None:
    """Say whether a collection, or any search, may go to production: exit 0 pass, 1 fail, 2 could not run.

    Limits can also stand in the golden set; an option goes before.
    """
    from reperio import evaluation

    deployed = evaluation.Deployed(kb, embedder, search, url, run, header or (), timeout)
    deployed.require(golden)
    if save_run is not None and golden is None:
        raise InvalidInput("--save-run needs --golden, the questions whose answers are saved")
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
    with deployed.opened(asked) as (collection, own), reperio.progress_bar(disable=json) as progress:
        subject = evaluation.Subject(
            collection,
            asked,
            search=own,
            baseline=accepted,
            accepting=accept,
            limits=limits,
            log=log,
            progress=progress,
        )
        report = evaluation.judged(subject, only=only or (), skip=skip or (), strict=strict)
        refused = evaluation.acceptable(report) if accept else []
        fresh = evaluation.to_baseline(subject, report) if accept and not refused else None
        came = _saved(save_run, subject)
    told, unwritten = _accept(where, fresh, refused) if accept and where is not None else ({}, [])
    failures = _write(report, told, json, junit, markdown, html, annotations) + came + unwritten
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
    makers = (reports.to_junit, reports.to_markdown, reports.to_html, reports.to_annotations)
    for path, maker in zip(paths, makers, strict=True):
        if path is not None:
            try:
                with storage_errors(path, "write"):
                    path.write_text(maker(report), encoding="utf-8")
            except ReperioError as error:
                failures.append(error)
    return failures


def _saved(path: Path | None, subject: Subject) -> list[ReperioError]:
    """Write what came as a run; return why it could not be."""
    from reperio import evaluation

    if path is None:
        return []
    try:
        names = {answer.query.id: subject.names(answer) for answer in subject.answers}
        evaluation.write_run(path, subject.by_id, names)
    except ReperioError as error:
        return [error]
    return []


def _tell_accepted(where: Path, told: Mapping[str, Any], *, quiet: bool) -> None:
    if told["refused"]:
        # Nothing has written to it: what is there is the baseline from before.
        left = f"{where} is as it was" if where.exists() else "no baseline was written"
        output.print_error(f"not accepted: {', '.join(told['refused'])} must pass first; {left}")
    elif told["accepted"] and not quiet:
        output.print_line(f"accepted: {where} is the baseline from now on; commit it")

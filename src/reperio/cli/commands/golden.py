"""``reperio golden``: make what a collection is judged by."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reperio.cli import output
from reperio.cli.arguments import KB, Json, argument, flag, option, to_filter
from reperio.cli.commands.gate import EMBEDDER
from reperio.collection import Collection
from reperio.errors import InvalidInput
from reperio.query_log.reading import read_log

if TYPE_CHECKING:
    from reperio.evaluation import GoldenQuery, GoldenSet

Golden = Annotated[Path, argument("GOLDEN", "A golden set: .yaml or .jsonl.")]

golden_app = typer.Typer(
    help="Draft a golden set, let it grow, examine it, exchange it with other tools.", no_args_is_help=True
)

_DOCUMENT = "An expected document, by its name; may be repeated."
_RUNS = "Runs of TREC, BEIR (.tsv) or ranx (.json), as reperio gate --save-run writes them."
_FILTER = "The question's filter; {} for none, whatever the set's default."
_GRADE = "One per expected chunk or document, in their order; else every grade is 1."


@golden_app.command("init")
def golden_init(
    kb: KB,
    golden: Golden,
    from_log: Annotated[Path | None, option("FILE", "Draw questions from these.")] = None,
    number: Annotated[int, typer.Option("--number", "-n", help="Questions.", min=1)] = 20,
    embedder: Annotated[str | None, option("NAME", EMBEDDER)] = None,
) -> None:
    """Draft a golden set for a person to correct: questions of a log, or of chunks far from each other."""
    from reperio.evaluation.golden import drafting, drafts, writing

    # Drafting takes a while, and would be for nothing.
    writing.require_new(golden)
    log = read_log(from_log) if from_log else None
    with _reading(kb, embedder) as collection, output.waiting("drafting …", quiet=False):
        drafted = drafting.draft(collection, number, log=log)
        field = drafts.document_field(collection)
    writing.write_draft(golden, drafted, document_field=field)
    output.print_line(
        f"{len(drafted)} questions are drafted in {os.fspath(golden)}; correct them, then run reperio gate. "
        "Uncorrected drafts mislead: today's search looks perfect by them, and a better one worse"
    )


@golden_app.command("grow")
def golden_grow(
    kb: KB,
    golden: Golden,
    from_log: Annotated[Path | None, option("FILE", "Real questions; the most frequent are proposed.")] = None,
    number: Annotated[int, typer.Option("--number", "-n", help="Questions.", min=1)] = 10,
    dry_run: Annotated[bool, flag("--dry-run", "Show them, and write nothing.")] = False,
    embedder: Annotated[str | None, option("NAME", EMBEDDER)] = None,
    json: Json = False,
) -> None:
    """Append drafts of the questions that a golden set lacks most: by source, by cluster, and by a log's frequency."""
    from reperio.evaluation import baseline_path, read_baseline, read_golden
    from reperio.evaluation.golden import growing, writing
    from reperio.evaluation.statistics.measures import MAIN

    before, accepted = read_golden(golden), baseline_path(golden)
    values = read_baseline(accepted).values.get(MAIN, {}) if accepted.exists() else {}
    log = read_log(from_log) if from_log else []
    with _reading(kb, embedder) as collection, output.waiting("looking for what is missing …", quiet=json):
        drafts = growing.grow(collection, before, number, log=log)
        seen = growing.outlooks(collection, before, values)
    drafts = writing.fitting(golden, before, drafts)
    if drafts and not dry_run:
        writing.append_drafts(golden, drafts)
    if json:
        told = [{"query": each.query.text, "expected": list(each.query.grades), "why": each.why} for each in drafts]
        output.print_json({"proposed": told, "written": not dry_run, "outlook": seen})
        return
    for each in drafts:
        output.print_line(f"{each.query.text}\n  {', '.join(each.query.grades)}: {each.why}")
    for line in seen:
        output.print_line(line)
    done = "would be appended to" if dry_run else "are appended to"
    output.print_line(f"{len(drafts)} drafts {done} {os.fspath(golden)}; correct them, and take the tag draft off")


@golden_app.command("check")
def golden_check(
    kb: KB,
    golden: Golden,
    embedder: Annotated[str | None, option("NAME", EMBEDDER)] = None,
    json: Json = False,
) -> None:
    """Say what is wrong with a golden set and what it cannot see; exit 1 where a verdict would be wrong."""
    from reperio.evaluation import baseline_path, read_baseline, read_golden
    from reperio.evaluation.golden import examining

    asked, accepted = read_golden(golden), baseline_path(golden)
    labels = read_baseline(accepted).labels if accepted.exists() else {}
    with _reading(kb, embedder) as collection, output.waiting("looking …", quiet=json):
        found = examining.examine(collection, asked, labels=labels)
    wrong = sum(each.wrong for each in found)
    if json:
        output.print_json({"ok": not wrong, "findings": found})
    else:
        for each in found:
            output.print_line(f"{'wrong' if each.wrong else 'weak'}: {each.what}; {each.cure}")
        output.print_line(f"{wrong} wrong, {len(found) - wrong} weak" if found else "nothing is wrong or missing")
    raise typer.Exit(1 if wrong else 0)


@golden_app.command("import")
def golden_import(
    questions: Annotated[Path, argument("QUESTIONS", "Texts by id: BEIR's queries.jsonl, or id and text, .tsv.")],
    qrels: Annotated[Path, argument("QRELS", "Judgements: TREC, BEIR (.tsv) or ranx (.json).")],
    golden: Golden,
    document_field: Annotated[str | None, option("FIELD", "The judgements name documents, by this field.")] = None,
) -> None:
    """Write a golden set of the questions and judgements that a benchmark, or another tool, has."""
    from reperio.evaluation.golden import converting, writing

    writing.require_new(golden)
    queries, left = converting.from_qrels(questions, qrels, documents=document_field is not None)
    writing.write_queries(golden, queries, document_field=document_field or "")
    output.print_line(f"{len(queries)} questions are in {os.fspath(golden)}{left}")


@golden_app.command("export")
def golden_export(
    golden: Golden,
    qrels: Annotated[Path, argument("QRELS", "Where to: TREC; .tsv for BEIR, .json for ranx.")],
    questions: Annotated[Path | None, option("FILE", "Write the texts as well: .jsonl for BEIR, .tsv.")] = None,
) -> None:
    """Write a golden set's judgements, and its questions, for other tools."""
    from reperio.evaluation import qrels as formats
    from reperio.evaluation import read_golden

    asked = read_golden(golden)
    judged = {query.id: {**query.grades, **dict.fromkeys(query.wrong, 0)} for query in asked.labelled}
    formats.write_qrels(qrels, judged)
    if questions is not None:
        formats.write_questions(questions, {query.id: query.text for query in asked.labelled})
    left = len(asked.queries) - len(asked.labelled)
    note = f"; {left} questions that expect nothing are left out" if left else ""
    output.print_line(f"{len(asked.labelled)} questions are in {os.fspath(qrels)}{note}")


@golden_app.command("compare")
def golden_compare(
    golden: Golden,
    runs: Annotated[list[Path], argument("RUN", _RUNS)],
    html: Annotated[Path | None, option("FILE", "Write one self-contained page with a plot as well.")] = None,
    json: Json = False,
) -> None:
    """Show several runs in one table, each compared with the first, question by question."""
    from reperio.evaluation import qrels, read_golden
    from reperio.evaluation.deployed.comparing import compare_runs
    from reperio.evaluation.reports.comparison import to_comparison
    from reperio.evaluation.reports.terminal import print_runs
    from reperio.layout import storage_errors

    if len(set(runs)) < len(runs):
        raise InvalidInput(f"{next(each for each in runs if runs.count(each) > 1)} is passed twice")
    short = len({path.name for path in runs}) == len(runs)
    named = {path.name if short else str(path): qrels.ranked(qrels.read_scores(path)) for path in runs}
    asked = read_golden(golden)
    rows = compare_runs(asked, named)
    if html is not None:
        with storage_errors(html, "write"):
            html.write_text(to_comparison(rows, questions=len(asked.labelled)), encoding="utf-8")
    if json:
        output.print_json({"runs": rows})
        return
    print_runs(rows, output.console_for())


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
    kb: Annotated[Path | None, option("KB", "A collection, in which what is expected must exist.")] = None,
) -> None:
    """Append a question to a golden set, whose comments and order stay as they are; a new file is begun."""
    from reperio.evaluation import GoldenQuery
    from reperio.evaluation.golden import writing

    is_new, before = not golden.exists(), writing.begun(golden)
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
    if kb is not None:
        _require_existing(kb, before, added)
    writing.add_query(golden, added)
    begun = f"{golden} is begun" + (f", with document_field: {before.document_field}" if added.documents else "")
    output.print_line(begun if is_new else f"added to {golden}")


def _require_existing(kb: Path, golden: GoldenSet, added: GoldenQuery) -> None:
    from reperio.evaluation.golden import examining

    with _reading(kb, None) as collection:
        missing = examining.missing(collection, golden, [added])
    if missing:
        raise InvalidInput(f"{kb} does not hold {examining.did_you_mean(missing)}; nothing was added")


@contextmanager
def _reading(kb: Path, embedder: str | None) -> Iterator[Collection]:
    from reperio.evaluation.deployed import load_embedder
    from reperio.evaluation.sharded import opened

    with opened(kb, None if embedder is None else load_embedder(embedder)) as collection:
        yield collection


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

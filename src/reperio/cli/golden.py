"""``reperio golden``: make what a collection is judged by."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

import reperio
from reperio.cli import output
from reperio.cli.arguments import KB, argument, option, to_filter
from reperio.errors import InvalidInput
from reperio.query_log.reading import read_log

Golden = Annotated[Path, argument("GOLDEN", "A golden set: .yaml or .jsonl.")]

golden_app = typer.Typer(help="Draft a golden set, and add questions to it.", no_args_is_help=True)

_DOCUMENT = "An expected document, by its name; may be repeated."
_FILTER = "The question's filter; {} for none, whatever the set's default."
_GRADE = "One per expected chunk or document, in their order; else every grade is 1."


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

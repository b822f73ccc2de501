"""Make a golden set's questions of the judgements that a benchmark, or another tool, has."""

from __future__ import annotations

import os

from reperio.errors import InvalidInput
from reperio.evaluation.golden.questions import GoldenQuery
from reperio.evaluation.qrels import read_qrels, read_questions


def from_qrels(
    questions: str | os.PathLike[str], qrels: str | os.PathLike[str], *, documents: bool = False
) -> tuple[list[GoldenQuery], str]:
    """Return the questions that something is expected of, and in words what was left out.

    Args:
        questions: texts by id; see `reperio.evaluation.qrels.read_questions`.
        qrels: judgements; see `reperio.evaluation.qrels.read_qrels`. Grades below 1 say that nothing is expected.
        documents: whether judgements name documents, not chunks.

    Raises:
        InvalidInput: a file cannot be read, or no question has a judgement.
    """
    texts, judged = read_questions(questions), read_qrels(qrels)
    found: list[GoldenQuery] = []
    for name, text in texts.items():
        grades = {key: grade for key, grade in judged.get(name, {}).items() if grade >= 1}
        if grades:
            chunks, named = ({}, grades) if documents else (grades, {})
            found.append(GoldenQuery(name, text, chunks, named))
    if not found:
        ours, theirs = next(iter(texts)), next(iter(judged))
        raise InvalidInput(f"no question has a judgement: {questions} has ids like {ours!r}, {qrels} like {theirs!r}")
    unjudged, unknown = len(texts) - len(found), len(judged.keys() - texts.keys())
    left = [f"{unjudged} questions that nothing is expected of"] if unjudged else []
    left += [f"judgements of {unknown} questions without a text"] if unknown else []
    return found, f"; left out: {' and '.join(left)}" if left else ""

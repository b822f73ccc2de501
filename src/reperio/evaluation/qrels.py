"""Questions, qrels and runs as files, in the formats of TREC, BEIR and ranx.

======  ==================================================  =================================================
format  qrels                                               runs
======  ==================================================  =================================================
TREC    ``question 0 document grade``, any white space      ``question Q0 document rank score tag``
BEIR    ``query-id⇥corpus-id⇥score``, one line of headings  the same
ranx    ``.json``: grades by document by question           the same, with scores
======  ==================================================  =================================================

ir_measures reads TREC's. Questions are BEIR's ``queries.jsonl`` (``_id``, ``text``), or ``id⇥text`` as ``.tsv``.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from reperio.arguments import to_path
from reperio.errors import InvalidInput
from reperio.layout import read_regular, reason, storage_errors, write_atomically

MAX_BYTES = 1 << 30
"""A longer file is not read."""

Scored: TypeAlias = "dict[str, dict[str, float]]"
"""Scores, or grades, by question and document, in the order of the file."""

_ENDING = "\t\r\n"
"""Characters that end a column where tabs do."""

_HEADINGS = ("query-id", "corpus-id", "score")
_FORMS = {
    "qrels": (4, (0, 2, 3), "question 0 document grade"),
    "run": (6, (0, 2, 4), "question Q0 document rank score tag"),
}
"""TREC's columns: how many, where question, document and number are, and their names."""


def read_qrels(path: str | os.PathLike[str]) -> dict[str, dict[str, int]]:
    """Read judgements: grades by question and document, 0 for what was judged irrelevant.

    Raises:
        InvalidInput: the file cannot be read, or a line is no judgement; it is named.
    """
    path = to_path("path", path)
    found: dict[str, dict[str, int]] = {}
    for question, grades in _read(path, "qrels").items():
        for document, grade in grades.items():
            if grade != int(grade):
                raise InvalidInput(f"{path}: {question!r} grades {document!r} as {grade}; grades are whole numbers")
        found[question] = {document: int(grade) for document, grade in grades.items()}
    return found


def read_scores(path: str | os.PathLike[str]) -> Scored:
    """Read a run: scores by question and document, best first; equal scores as they stand in the file.

    Raises:
        InvalidInput: the file cannot be read, or a line is no result; it is named.
    """
    found = _read(to_path("path", path), "run")
    return {question: dict(sorted(scores.items(), key=lambda item: -item[1])) for question, scores in found.items()}


def read_questions(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read texts by id: ``.jsonl`` with ``_id`` and ``text``, else lines of ``id⇥text``.

    Raises:
        InvalidInput: the file cannot be read, or a line is no question; it is named.
    """
    path = to_path("path", path)
    found: dict[str, str] = {}
    for number, line in _lines(path):
        if path.suffix.lower() == ".jsonl":
            name, text = _of_json(path, number, line)
        else:
            name, tab, text = line.partition("\t")
            if not tab:
                raise InvalidInput(f"{path}:{number}: {line[:60]!r} has no tab; a line is id⇥text")
        if not name or not text.strip():
            raise InvalidInput(f"{path}:{number}: the id and the text of a question must not be empty")
        if name in found:
            raise InvalidInput(f"{path}:{number}: the question {name!r} comes twice")
        found[name] = text.strip()
    if not found:
        raise InvalidInput(f"{path} holds no questions")
    return found


def write_qrels(path: str | os.PathLike[str], qrels: Mapping[str, Mapping[str, int]]) -> None:
    """Write judgements: ``.json`` for ranx, ``.tsv`` for BEIR, any other suffix for TREC and ir_measures.

    Raises:
        InvalidInput: an id holds white space, which ends a column.
        StorageFailed: it cannot be written.
    """
    _write(to_path("path", path), qrels, lambda question, document, _, grade: f"{question} 0 {document} {grade}")


def write_scores(path: str | os.PathLike[str], run: Mapping[str, Mapping[str, float]], tag: str = "reperio") -> None:
    """Write a run, best first; formats and errors as for `write_qrels`.

    *tag* names the run in TREC's format.
    """
    _write(
        to_path("path", path),
        run,
        lambda question, document, rank, score: f"{question} Q0 {document} {rank} {score!r} {tag}",
    )


def write_questions(path: str | os.PathLike[str], texts: Mapping[str, str]) -> None:
    """Write texts by id: ``.jsonl`` as BEIR has them, else lines of ``id⇥text``.

    Raises:
        InvalidInput: an id or a text holds a tab or a line break, which ends a column.
        StorageFailed: it cannot be written.
    """
    path = to_path("path", path)
    if path.suffix.lower() == ".jsonl":
        lines = [json.dumps({"_id": name, "text": text}) for name, text in texts.items()]
    else:
        lines = [f"{_column(name, _ENDING)}\t{_column(text, _ENDING)}" for name, text in texts.items()]
    _save(path, "".join(f"{line}\n" for line in lines))


def _read(path: Path, kind: str) -> Scored:
    found: Scored = {}
    rows = _of_ranx(path) if path.suffix.lower() == ".json" else _of_columns(path, kind)
    for place, question, document, number in rows:
        own = found.setdefault(question, {})
        if document in own:
            raise InvalidInput(f"{place}: {document!r} comes twice for the question {question!r}")
        own[document] = number
    if not found:
        raise InvalidInput(f"{path} is empty; {_FORMS[kind][2]} is TREC's form, {' '.join(_HEADINGS)} BEIR's")
    return found


def _of_columns(path: Path, kind: str) -> Iterator[tuple[str, str, str, float]]:
    width, places, form = _FORMS[kind]
    beir = False
    for number, line in _lines(path):
        place = f"{path}:{number}"
        if number == 1 and tuple(line.split("\t")) == _HEADINGS:
            beir = True
            continue
        cells = line.split("\t") if beir else line.split()
        if len(cells) != (len(_HEADINGS) if beir else width):
            wanted = "⇥".join(_HEADINGS) if beir else form
            raise InvalidInput(f"{place}: {line[:60]!r} has {len(cells)} columns; {wanted} is meant")
        question, document, value = cells if beir else (cells[at] for at in places)
        yield place, question, document, _number(value, place)


def _of_ranx(path: Path) -> Iterator[tuple[str, str, str, float]]:
    try:
        content = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{path}: no valid JSON ({error})") from None
    if not isinstance(content, dict) or not all(isinstance(each, dict) for each in content.values()):
        raise InvalidInput(f"{path} must be an object of numbers by document by question, as ranx saves it")
    for question, scores in content.items():
        for document, value in scores.items():
            yield str(path), question, document, _number(value, f"{path}: question {question!r}, {document!r}")


def _number(value: Any, place: str) -> float:
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise InvalidInput(f"{place}: {str(value)[:60]!r} is no finite number")
    return found


def _of_json(path: Path, number: int, line: str) -> tuple[str, str]:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{path}:{number}: no valid JSON ({error}); every line is an object") from None
    name, text = (content.get("_id", content.get("id")), content.get("text")) if isinstance(content, dict) else ("", "")
    if not isinstance(name, str) or not isinstance(text, str):
        raise InvalidInput(f"{path}:{number}: a question is an object with the texts _id and text")
    return name, text


def _write(path: Path, scored: Mapping[str, Mapping[str, float]], line: Any) -> None:
    if path.suffix.lower() == ".json":
        _save(path, json.dumps(scored, indent=1, ensure_ascii=False) + "\n")
        return
    beir = path.suffix.lower() == ".tsv"
    lines = ["\t".join(_HEADINGS)] if beir else []
    for question, scores in scored.items():
        for rank, (document, value) in enumerate(scores.items(), start=1):
            if beir:
                lines.append("\t".join([_column(question, _ENDING), _column(document, _ENDING), repr(value)]))
            else:
                lines.append(line(_column(question), _column(document), rank, value))
    _save(path, "".join(f"{each}\n" for each in lines))


def _column(value: str, ending: str = "") -> str:
    """Return an id, or refuse one that would end its column."""
    wrong = any(each in value for each in ending) if ending else len(value.split()) != 1 or value != value.strip()
    if wrong:
        raise InvalidInput(
            f"{value[:60]!r} holds white space, which ends a column here; write .json instead, or give it an id"
        )
    return value


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if line.strip():
            yield number, line.rstrip("\r")


def _text(path: Path) -> str:
    try:
        return read_regular(path, MAX_BYTES, follow=True).decode("utf-8-sig")
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {reason(error)}") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path}: byte {error.start} is no UTF-8; convert the file") from None


def _save(path: Path, text: str) -> None:
    with storage_errors(path, "write"):
        write_atomically(path, text.encode("utf-8", "replace"))


def ranked(run: Mapping[str, Mapping[str, float]]) -> dict[str, Sequence[str]]:
    """Return the documents of a run by question, best first."""
    return {question: list(scores) for question, scores in run.items()}

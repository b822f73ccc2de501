"""Ask, and compare two answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from reperio import ReperioError
from reperio.errors import InvalidInput
from reperio.explorer.asking import FUSIONS, Answer, Question, Setting, ask, to_question, to_setting
from reperio.explorer.comparing import compare
from reperio.explorer.desk import MODES
from reperio.explorer.filtering import facets, to_text
from reperio.explorer.judging import Judge
from reperio.explorer.pages.base import Site, told
from reperio.explorer.parameters import LONGEST_QUESTION, Parameters
from reperio.explorer.showing import Highlighter, fields_of

_KEPT = "kept "
_SHORT = 220  # characters of a text in one of two columns


class AskPages:
    """The pages that answer a question."""

    def __init__(self, site: Site) -> None:
        self._site, self._desk = site, site.desk

    def ask(self, given: Parameters) -> Mapping[str, Any]:
        """Show the form, and the hits for a question."""
        question, where, error = _asked(given)
        setting, answer = to_setting(given, self._desk), None
        if question.text and not error:
            try:
                answer = ask(self._desk, question, setting)
            except ReperioError as failure:  # shown next to the form, so that it can be mended there
                error = told(failure)
        judge = self._site.judge
        try:
            by_document = judge is not None and answer is not None and judge.by_document()
        except InvalidInput as failure:  # a golden set that cannot be read is no reason to show no answer
            judge, by_document, error = None, False, told(failure)
        survey, looking = self._desk.survey()
        return {
            **self._form(question, where),
            "setting": setting,
            "answer": answer,
            "hits": [] if answer is None else _shown(answer, judge),
            "by_document": by_document,
            "error": error,
            "facets": [] if survey is None else facets(survey, question.where),
            "survey": survey,
            "looking": looking,
            "reload": survey is None and looking and not question.text,
        }

    def compare(self, given: Parameters) -> Mapping[str, Any]:
        """Show two answers next to each other."""
        question, where, error = _asked(given)
        sides: dict[str, tuple[Setting, Answer | None]] = {}
        for prefix in ("a.", "b."):
            own = given.side(prefix)
            try:
                sides[prefix] = self._side(own)
            except InvalidInput as failure:  # told in the form, in which it can be mended
                error = error or told(failure)
                sides[prefix] = Setting(own.choice("mode", MODES, "dense"), kb=own.text("kb")), None
        if not given.text("a.mode") and len(self._desk.modes()) > 1:  # at first: by meaning alone, and with words
            sides["a."] = (Setting("dense"), None)
        found, answers = None, []
        if question.text and not error:
            try:
                answers = [kept or ask(self._desk, question, setting, ranks=False) for setting, kept in sides.values()]
                found = compare(*answers)
            except ReperioError as failure:
                error = told(failure)
        marks = Highlighter(question.text)
        return {
            **self._form(question, where),
            "settings": {prefix: setting for prefix, (setting, _) in sides.items()},
            "other": [each.question.text for each in answers if each.question.text != question.text],
            "kept": self._site.shelf.names(),
            "answers": answers,
            "found": found,
            "columns": [] if found is None else [
                [(moved, marks.excerpt(moved.row.hit.chunk.text, _SHORT, dense=True)) for moved in side]
                for side in (found.left, found.right)
            ],
            "error": error,
        }  # fmt: skip

    def keep(self, given: Parameters) -> Mapping[str, Any]:
        """Keep an answer, to compare a later one with."""
        answer = ask(self._desk, to_question(given), to_setting(given, self._desk))
        return {"name": self._site.shelf.keep(answer).name}

    def _form(self, question: Question, where: str) -> Mapping[str, Any]:
        return {
            "question": question,
            "where": where,
            "modes": self._desk.modes(),
            "fusions": FUSIONS,
            "has_reranker": self._desk.options.reranker is not None,
        }

    def _side(self, given: Parameters) -> tuple[Setting, Answer | None]:
        """Return how one side is asked; and the answer, where one that was kept is chosen."""
        name = given.text("kb")
        if not name.startswith(_KEPT) or name in self._desk.names:
            return to_setting(given, self._desk), None
        kept = self._site.shelf.get(name)
        return replace(kept.setting, kb=name), kept


def _asked(given: Parameters) -> tuple[Question, str, str]:
    """Return the question, its filter as text, and what is wrong with them, which is mended in the form."""
    try:
        question = to_question(given)
    except InvalidInput as error:
        raw = {name: str(given.raw(name))[:LONGEST_QUESTION] for name in ("q", "where")}
        return Question(raw["q"].strip()), raw["where"], told(error)
    return question, to_text(question.where), ""


def _shown(answer: Answer, judge: Judge | None) -> Sequence[Mapping[str, Any]]:
    """Return the hits with what the page shows of each."""
    marks = Highlighter(answer.question.text)
    query = None if judge is None else judge.question(answer.question.text, answer.question.where)
    best = max((row.hit.score for row in answer.rows), default=0.0)
    least = min((row.hit.score for row in answer.rows), default=0.0)
    shown = []
    for row in answer.rows:
        fields, left_out = fields_of(row.hit.chunk)
        shown.append(
            {
                "row": row,
                "chunk": row.hit.chunk,
                "text": marks.excerpt(row.hit.chunk.text),
                "fields": fields,
                "left_out": left_out,
                # A bar of what a score is among these, since scores of modes and metrics have no common scale.
                "bar": 100 if best == least else round(8 + 92 * (row.hit.score - least) / (best - least)),
                "grade": None if judge is None else judge.grade(query, row.hit.chunk),
                "document": "" if judge is None else judge.document(row.hit.chunk),
            }
        )
    return shown

"""Judge what comes for a question: marks, drafts, undo."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from reperio.errors import InvalidInput
from reperio.evaluation import GoldenQuery
from reperio.evaluation.golden.editing import Change
from reperio.explorer.asking import to_question
from reperio.explorer.filtering import to_text
from reperio.explorer.judging import GRADES, Item, Judge, Pooled, state_of
from reperio.explorer.pages.base import Site, no_judge
from reperio.explorer.parameters import LONGEST_QUESTION, MOST_OFFSET, Parameters
from reperio.explorer.showing import Highlighter, fields_of

_LISTED = 200  # questions of one page
_SHOW = ("to do", "all")
_WORDS = {"draft": "draft", "new": "from the log", "open": "no answer known", "judged": "judged"}


class JudgePages:
    """The page of the golden set, and what its keys do."""

    def __init__(self, site: Site) -> None:
        self._site, self._desk = site, site.desk

    def judge(self, given: Parameters) -> Mapping[str, Any]:
        """Show the questions; for one of them, what every mode finds for it."""
        judge = self._site.judge
        show = given.choice("show", _SHOW, "to do")
        if judge is None:
            return {"judge": None, "question": None, "items": [], "log": None, "show": show}
        question, items = to_question(given), judge.items()
        offset = given.number("offset", 0, most=MOST_OFFSET)
        listed = [each for each in items if show == "all" or each.to_do]
        shared = {
            "judge": judge,
            "items": listed[offset : offset + _LISTED],
            "offset": offset,
            "listed": len(listed),
            "per_page": _LISTED,
            "show": show,
            "states": Counter(each.state for each in items),
            "words": _WORDS,
            "log": self._desk.options.log,
            "to_text": to_text,
            "question": None,
        }
        return {**shared, **self._of(judge, question.text, question.where, items)} if question.text else shared

    def _of(self, judge: Judge, text: str, where: Mapping[str, Any] | None, items: Sequence[Item]) -> Mapping[str, Any]:
        query = judge.question(text, where)
        pool, notes = judge.pool(text, where, self._desk.modes())
        place = next((at for at, each in enumerate(items) if (each.text.strip(), each.where) == (text, where)), None)
        todo = [each for at, each in enumerate(items) if each.to_do and at != place]
        return {
            "question": text,
            "where": to_text(where),
            "query": query,
            "mode": query.mode if query is not None else self._mode(items, place),
            "item": None if place is None else items[place],
            "pool": self._shown(pool, text),
            "judged": sum(each.grade is not None for each in pool),
            "notes": notes,
            "grades": GRADES,
            "by_document": judge.by_document(),
            "documents": query is not None and bool(query.documents),
            "before": items[place - 1] if place else None,
            "after": items[place + 1] if place is not None and place + 1 < len(items) else next(iter(todo), None),
        }

    def mark(self, given: Parameters) -> Mapping[str, Any]:
        """Write a mark."""
        judge, question = self._judge(), self._question(given)
        grade = None if given.text("grade") == "" else given.number("grade", 0, most=max(GRADES))
        mode = given.choice("mode", ("dense", "lexical", "hybrid"), "dense")
        undo, query = judge.mark(
            question[0], question[1], mode, given.text("id"), grade, document=given.flag("document")
        )
        return {"undo": undo, **_written(query)}

    def undo(self, given: Parameters) -> Mapping[str, Any]:
        """Take back what was done last."""
        self._judge().undo(given.text("undo"))
        return {}

    def question(self, given: Parameters) -> Mapping[str, Any]:
        """Confirm a draft, reword a question, or remove it."""
        judge, (text, where) = self._judge(), self._question(given)
        what = given.choice("what", ("confirm", "reword", "remove"), "confirm")
        if what == "reword":
            fresh = given.text("text", most=LONGEST_QUESTION).strip()
            if not fresh:
                raise InvalidInput("the question is empty; write what users ask")
            if judge.question(fresh, where) is not None:
                raise InvalidInput("the golden set asks this already; judge it there")
            return {"undo": judge.change(text, where, Change(text=fresh)), "text": fresh}
        return {"undo": judge.change(text, where, Change(confirmed=what == "confirm", removed=what == "remove"))}

    def _shown(self, pool: Sequence[Pooled], text: str) -> Sequence[Mapping[str, Any]]:
        marks = Highlighter(text)
        shown = []
        for each in pool:
            fields, left_out = fields_of(each.chunk)
            shown.append(
                {
                    "pooled": each,
                    "chunk": each.chunk,
                    "text": marks.excerpt(each.chunk.text),
                    "fields": fields,
                    "left_out": left_out,
                    "grade": each.grade,
                    "document": each.document,
                }
            )
        return shown

    def _mode(self, items: Sequence[Item], place: int | None) -> str:
        modes = self._desk.modes()
        asked = items[place].mode if place is not None else ""
        return asked if asked in modes else next(iter(modes), "dense")

    def _judge(self) -> Judge:
        if self._site.judge is None:
            raise no_judge()
        return self._site.judge

    def _question(self, given: Parameters) -> tuple[str, Mapping[str, Any] | None]:
        question = to_question(given)
        if not question.text:
            raise InvalidInput("there is no question; ask one first")
        return question.text, question.where


def _written(query: GoldenQuery | None) -> Mapping[str, Any]:
    """Return the marks of a question as they are in the file now, by chunk or document."""
    if query is None:
        return {"marks": {}, "state": "new", "words": "new"}
    state = state_of(query)
    return {"marks": {**dict.fromkeys(query.wrong, 0), **query.grades}, "state": state, "words": _WORDS[state]}

"""Try every mode with every filter that anybody uses: a filter may be lost in one way of searching alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reperio.evaluation.asking import Answer, ask, drawn, options_of
from reperio.evaluation.golden.questions import GoldenQuery
from reperio.evaluation.subject import Subject
from reperio.evaluation.verdicts import CheckResult, FailedQuery, Verdict
from reperio.filters import matches, parse
from reperio.query_log.reading import MODES, LoggedQuestion

_FILTERS = 24  # drawn where more are known
_TEXTS = 2  # questions that each is tried with: one that has the filter, and one that has not
_K = 10
_SHOWN = 5


def modes(subject: Subject) -> CheckResult:
    """Ask with each mode and filter, and see that what comes matches, and that something comes where something does."""
    known = _known(subject)
    filters = drawn([where for where, _ in known.values()], _FILTERS)
    if not filters:
        return CheckResult("modes", Verdict.SKIP, ("neither golden set nor log has a question with a filter",))
    taken = options_of(subject.search)
    if "where" not in taken:
        return CheckResult("modes", Verdict.SKIP, ("the search has no option for a filter",))
    tried = [mode for mode in _modes(subject) if mode == "dense" or "mode" in taken]
    wrong: list[FailedQuery] = []
    count = 0
    for where in filters:
        for query in _queries(subject, where, known[repr(where)][1], tried):
            count += 1
            wrong += [FailedQuery(query.id, query.text, (), (), why)] if (why := _wrong(subject, query)) else []
    line = f"{len(filters)} filters tried in {', '.join(tried)} by {count} questions; {len(wrong)} are answered wrongly"
    if not wrong:
        return CheckResult("modes", Verdict.PASS, (line,))
    told = (f"{each.id}: {each.why}" for each in wrong[:_SHOWN])
    cause = "the filter is lost on the way in this mode"
    return CheckResult("modes", Verdict.FAIL, (line, *told), cause, tuple(wrong[: 2 * _SHOWN]))


def _known(subject: Subject) -> dict[str, tuple[Mapping[str, Any], str]]:
    """Return every filter with the text of a question that has it."""
    asked: list[GoldenQuery | LoggedQuestion] = [*(subject.golden.queries if subject.golden else ()), *subject.log]
    return {repr(each.where): (each.where, each.text) for each in reversed(asked) if each.where}


def _modes(subject: Subject) -> list[str]:
    """Return the modes that can be asked in."""
    asked = {each.mode for each in (subject.golden.queries if subject.golden else ())}
    asked |= {each.mode for each in subject.log}
    collection = subject.collection
    if collection is None:
        return [mode for mode in MODES if mode in asked]
    lexical, embeds = collection.fingerprint()["lexical"] != "none", collection.embedder is not None
    possible = {"dense": embeds, "lexical": lexical, "hybrid": embeds and lexical}
    return [mode for mode in MODES if possible[mode] or mode in asked]


def _queries(subject: Subject, where: Mapping[str, Any], own: str, tried: list[str]) -> Iterator[GoldenQuery]:
    others = [each.text for each in (subject.golden.queries if subject.golden else ()) if each.where != where]
    for mode in tried:
        for text in dict.fromkeys([own, *others[: _TEXTS - 1]]):
            yield GoldenQuery(f"{mode} with {where}", text, where=where, mode=mode)


def _wrong(subject: Subject, query: GoldenQuery) -> str:
    """Say what is wrong with the answer to a question; nothing where all is well."""
    answer, tree = ask(subject.search, query, _K), parse(query.where or {})
    known = _metadata(subject, answer)
    outside = [key for key in answer.ids if key in known and not matches(tree, known[key])]
    if outside:
        return f"{len(outside)} of {len(answer.ids)} do not match, e.g. {outside[0]!r}"
    collection = subject.collection
    if answer.found or query.mode == "lexical" or collection is None:  # no word of the question need be in a text
        return ""
    return "nothing comes, though chunks match" if collection.count(where=query.where) else ""


def _metadata(subject: Subject, answer: Answer) -> dict[str, Mapping[str, Any]]:
    if subject.collection is not None:
        return {chunk.id: chunk.metadata for chunk in subject.collection.get(answer.ids)}
    return {each.id: each.chunk.metadata for each in answer.found if each.chunk and each.chunk.metadata}

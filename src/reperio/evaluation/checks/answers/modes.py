"""Try every mode with every filter that anybody uses: a filter may be lost in one way of searching alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from reperio.evaluation.asking import Answer, ask, drawn, options_of, to_query
from reperio.evaluation.golden.questions import GoldenQuery
from reperio.evaluation.subject import Subject
from reperio.evaluation.verdicts import CheckResult, FailedQuery, Verdict
from reperio.filters import matches, parse
from reperio.query_log.reading import MODES

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
    if not count:
        return CheckResult("modes", Verdict.SKIP, ("there is no embedder, and no question with a filter has a vector",))
    line = f"{len(filters)} filters tried in {', '.join(tried)} by {count} questions; {len(wrong)} are answered wrongly"
    if not wrong:
        return CheckResult("modes", Verdict.PASS, (line,))
    told = (f"{each.id}: {each.why}" for each in wrong[:_SHOWN])
    cause = "the filter is lost on the way in this mode"
    return CheckResult("modes", Verdict.FAIL, (line, *told), cause, tuple(wrong[: 2 * _SHOWN]))


def _known(subject: Subject) -> dict[str, tuple[Mapping[str, Any], GoldenQuery]]:
    """Return every filter with a question that has it."""
    return {repr(each.where): (each.where, each) for each in reversed(_asked(subject)) if each.where}


def _asked(subject: Subject) -> list[GoldenQuery]:
    return [*(subject.golden.queries if subject.golden else ()), *map(to_query, subject.log)]


def _modes(subject: Subject) -> list[str]:
    """Return the modes that can be asked in."""
    asked = {each.mode for each in _asked(subject)}
    collection = subject.collection
    if collection is None:
        return [mode for mode in MODES if mode in asked]
    lexical = collection.fingerprint()["lexical"] != "none"
    possible = {"dense": True, "lexical": lexical, "hybrid": lexical}
    return [mode for mode in MODES if possible[mode] or mode in asked]


def _queries(subject: Subject, where: Mapping[str, Any], own: GoldenQuery, tried: list[str]) -> Iterator[GoldenQuery]:
    others = [each for each in (subject.golden.queries if subject.golden else ()) if each.where != where]
    some = list({each.text: each for each in [own, *others[: _TEXTS - 1]]}.values())
    embeds = subject.is_deployed or subject.require_collection().embedder is not None
    for mode in tried:
        for each in some:
            # Without an embedder, only what brings its vector can be asked in other ways than by words.
            if mode == "lexical" or embeds or each.vector is not None:
                yield replace(each, id=f"{mode} with {where}", where=where, mode=mode)


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

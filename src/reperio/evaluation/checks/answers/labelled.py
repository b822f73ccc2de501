"""Check what a person expects: ids, thresholds, and questions that have no answer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from reperio.arguments import nearest
from reperio.errors import InvalidInput
from reperio.evaluation.asking import Answer
from reperio.evaluation.contents.hashing import fingerprint
from reperio.evaluation.golden.examining import did_you_mean
from reperio.evaluation.golden.examining import missing as absent
from reperio.evaluation.golden.questions import DRAFT, tags_of
from reperio.evaluation.statistics.measures import MAIN, mean
from reperio.evaluation.subject import Subject
from reperio.evaluation.verdicts import CheckResult, FailedQuery, Verdict
from reperio.filters import matches, parse

SHOWN = 10_000  # questions of a check; reports show the first of them where there is no room for all
_CAME = 5  # ids of what came, likewise
_FIELDS = 10  # names of fields, likewise
_DIGITS = 18  # of a whole number that metadata can hold, all but certainly


def golden_ids(subject: Subject) -> CheckResult:
    """Look every expected id up, and see whether its text is that of the baseline."""
    golden = subject.require_golden()
    documents = _documents(subject)
    drafts = sum(DRAFT in query.tags for query in golden.queries)
    note = (
        (f"{drafts} are drafts, and expect what was found when they were drafted: uncorrected, they mislead",)
        if drafts
        else ()
    )
    near: dict[str, str] = {}
    if len(subject.expected) < len({each for query in golden.queries for each in query.expect}) or any(
        each not in documents for query in golden.queries for each in query.documents
    ):
        near = absent(subject.require_collection(), golden, golden.queries)  # all names are read, which takes a while
    missing = [
        failed(subject, query.id, f"{did_you_mean({each: near.get(each, '') for each in gone})} not in the collection")
        for query in golden.queries
        if (gone := [each for each in query.expect if each not in subject.expected])
        or (gone := [each for each in query.documents if each not in documents])
    ]
    count = sum(len(query.grades) for query in golden.queries)
    line = f"{count:,} expected ids of {len(golden.labelled):,} questions looked up"
    if missing:
        deleted = "chunks were deleted, or ingestion gives other ids now; correct the golden set or bring them back"
        cause = _unknown_field(subject) or deleted
        evidence = (line, f"{len(missing)} questions expect what does not exist", *note)
        return CheckResult("golden ids", Verdict.FAIL, evidence, cause, tuple(missing[:SHOWN]))
    labels = subject.baseline.labels if subject.baseline else {}
    # A label that the baseline lacks has nothing to be compared with.
    changed = [
        each for each, chunk in subject.expected.items() if labels.get(each, "") not in ("", fingerprint(chunk.text))
    ]
    if changed:
        evidence = (line, f"{len(changed)} have another text than in the baseline, e.g. {changed[0]!r}", *note)
        return CheckResult("golden ids", Verdict.WARN, evidence, "look whether they still answer their questions")
    return CheckResult("golden ids", Verdict.PASS, (line, *note))


def thresholds(subject: Subject) -> CheckResult:
    """Compare the means with the thresholds of the golden set, over all questions and by tag."""
    golden = subject.require_golden()
    values = subject.values
    rows = [(name, name, least, values[name]) for name, least in golden.thresholds.items()]
    # By tag as well, because a mean over all questions hides a group that got worse.
    for tag, queries in tags_of(golden.queries):
        for name, least in golden.tags.get(tag, {}).items():
            rows.append((f"{tag}: {name}", name, least, {query.id: values[name][query.id] for query in queries}))
    if not golden.labelled:
        return CheckResult("thresholds", Verdict.SKIP, ("no question of the golden set expects anything",))
    figures = {name: mean(found) for name, found in values.items()}
    if not figures.get(MAIN, 1.0):
        # Accepted, it would be a baseline that nothing can be worse than.
        cause = "no question finds what it expects: the labels are of other ids, or the search answers nothing"
        line = f"{MAIN} is 0 over {len(golden.labelled)} questions"
        return CheckResult(
            "thresholds", Verdict.FAIL, (line,), cause, worst_queries(subject, MAIN, values[MAIN]), figures
        )
    means = ", ".join(f"{name} {value:.4f}" for name, value in figures.items() if name in golden.measures)
    if not rows:
        return CheckResult("thresholds", Verdict.SKIP, (means, "the golden set has no thresholds"), figures=figures)
    missed = [row for row in rows if mean(row[3]) < row[2]]
    if not missed:
        return CheckResult("thresholds", Verdict.PASS, (means, f"{len(rows)} thresholds reached"), figures=figures)
    evidence = [f"{what} {mean(found):.4f} of {least:g} over {len(found)}" for what, _, least, found in missed]
    worst = worst_queries(subject, missed[0][1], missed[0][3])
    cause = "retrieval finds too little of what is expected; see the questions below"
    return CheckResult("thresholds", Verdict.FAIL, (means, *evidence), cause, worst, figures)


def nothing_above(subject: Subject) -> CheckResult:
    """See that questions without an answer get no hit above their score."""
    if all(query.nothing_above is None for query in subject.require_golden().queries):
        return CheckResult("nothing above", Verdict.SKIP, ("the golden set has no such questions",))
    asked = [answer for answer in subject.answers if answer.query.nothing_above is not None]
    wrong = []
    for answer in asked:
        limit = answer.query.nothing_above
        scores = [each.score for each in answer.found if each.score is not None]
        # Without its score a hit could be above the limit, and the question would pass.
        if len(scores) < len(answer.found):
            raise InvalidInput(f"the question {answer.query.id!r} needs scores, and the search gives none")
        best = max(scores, default=-math.inf)
        if limit is not None and best > limit:
            wrong.append(failed(subject, answer.query.id, f"score {best:.3f} is above {limit:g}"))
    line = f"{len(asked) - len(wrong)} of {len(asked)} questions without an answer get none"
    cause = "scores are of another scale than before, or something that answers was added"
    return _judged("nothing above", line, wrong, cause)


def filtered_answers(subject: Subject) -> CheckResult:
    """See that what comes for a question with a filter matches the filter, as its metadata is stored."""
    if not any(query.where for query in subject.require_golden().queries):
        return CheckResult("filtered answers", Verdict.SKIP, ("the golden set has no question with a filter",))
    asked = [answer for answer in subject.answers if answer.query.where]
    known = _metadata(subject, asked)
    wrong, told = [], 0
    for answer in asked:
        tree = parse(answer.query.where or {})
        came = [each for each in answer.ids if each in known]
        told += len(came)
        outside = [each for each in came if not matches(tree, known[each])]
        if outside:
            why = f"{len(outside)} of {len(answer.ids)} do not match {answer.query.where}, e.g. {outside[0]!r}"
            wrong.append(failed(subject, answer.query.id, why))
    line = f"{len(asked) - len(wrong)} of {len(asked)} questions with a filter get only what matches it"
    if not told and any(answer.ids for answer in asked):
        return CheckResult("filtered answers", Verdict.SKIP, ("the search gives ids alone, and no collection is here",))
    cause = "the filter is lost or changed on the way, or the filter columns are out of step with the metadata"
    return _judged("filtered answers", line, wrong, cause)


def _judged(name: str, line: str, wrong: list[FailedQuery], cause: str) -> CheckResult:
    if not wrong:
        return CheckResult(name, Verdict.PASS, (line,))
    return CheckResult(name, Verdict.FAIL, (line,), cause, tuple(wrong[:SHOWN]))


def worst_queries(subject: Subject, name: str, values: Mapping[str, float]) -> tuple[FailedQuery, ...]:
    """Return the questions with the lowest values of a measure, worst first; none that has all it could."""
    low = sorted((value, identifier) for identifier, value in values.items() if value < 1)
    return tuple(failed(subject, identifier, f"{name} {value:.3f}") for value, identifier in low[:SHOWN])


def failed(subject: Subject, identifier: str, why: str) -> FailedQuery:
    """Return a question with what was expected and what came."""
    answer = subject.by_id[identifier]
    grades = answer.query.grades
    expected = tuple(sorted(grades, key=lambda each: -grades[each]))
    return FailedQuery(identifier, answer.query.text, expected, tuple(subject.names(answer)[:_CAME]), why)


def _metadata(subject: Subject, answers: list[Answer]) -> dict[str, Mapping[str, Any]]:
    """Return the metadata of what came: as it is stored, else as it came."""
    found = {each.id: each.chunk.metadata for answer in answers for each in answer.found if each.chunk}
    # A search that gives no metadata says nothing about them.
    found = {key: metadata for key, metadata in found.items() if metadata}
    if subject.collection is None:
        return found
    ids = list(dict.fromkeys(each for answer in answers for each in answer.ids))
    return {**found, **{chunk.id: chunk.metadata for chunk in subject.collection.get(ids)}}


def _documents(subject: Subject) -> set[str]:
    golden = subject.require_golden()
    wanted = {each for query in golden.queries for each in query.documents}
    if not wanted:
        return set()
    collection = subject.require_collection()
    return {each for each in wanted if collection.count(where={golden.document_field: {"$in": _spelled(each)}})}


def _unknown_field(subject: Subject) -> str:
    """Say that no chunk has the field that is to name documents; nothing where one has it."""
    golden = subject.require_golden()
    field, asked = golden.document_field, any(query.documents for query in golden.queries)
    if not asked or subject.require_collection().count(where={field: {"$exists": True}}):
        return ""
    known = list(subject.survey.profile.fields)
    near = nearest(field, known)
    hint = f"did you mean {near!r}" if near else f"there are {', '.join(known[:_FIELDS]) or 'none'}"
    return f"no chunk has the metadata field {field!r}, the golden set's document_field: correct it ({hint})"


def _spelled(name: str) -> list[str | int | float]:
    """Return the values of metadata that are written like this: a field may hold 7, and a golden set has texts."""
    found: list[str | int | float] = [name]
    if len(name) > _DIGITS:
        return found
    for kind in (int, float):
        try:
            value = kind(name)
        except ValueError:
            continue
        if str(value) == name and math.isfinite(value):
            found.append(value)
    return found

"""Look at the questions one by one: what found something and finds nothing, or less, or another first hit."""

from __future__ import annotations

from dataclasses import dataclass, field

from reperio.evaluation.asking import Answer
from reperio.evaluation.baseline import Baseline
from reperio.evaluation.checks.answers.labelled import SHOWN, failed
from reperio.evaluation.checks.answers.rates import harmless_rate, is_unchanged
from reperio.evaluation.contents import marks
from reperio.evaluation.history import STREAK
from reperio.evaluation.statistics import measures
from reperio.evaluation.statistics.power import harmless_p
from reperio.evaluation.subject import Subject
from reperio.evaluation.verdicts import CheckResult, Verdict

_FEWER = 0.2  # share of the hits that came then; the loss of less may be one deleted chunk
_TOP = 3  # ranks within which an answer that was first for long must still be
_DEPTH = 10  # hits of a question that are looked at


@dataclass
class _Found:
    """Sort the questions by what became of them; each list holds a question's id and what is wrong with it."""

    emptied: list[tuple[str, str]] = field(default_factory=list)
    fewer: list[tuple[str, str]] = field(default_factory=list)
    dethroned: list[tuple[str, str]] = field(default_factory=list)
    first: list[tuple[str, str]] = field(default_factory=list)
    lost: list[tuple[str, str]] = field(default_factory=list)
    better: int = 0
    compared: int = 0
    labelled: int = 0


def questions(subject: Subject) -> CheckResult:
    """Compare each answer with that of the baseline; docs/gate.md has the rules."""
    baseline = subject.baseline
    if baseline is None or not baseline.ids:
        return CheckResult("questions", Verdict.SKIP, ("there is no baseline with answers",))
    found = _Found()
    for answer in subject.answers:
        query = answer.query
        if baseline.asked.get(query.id) == subject.asked[query.id] and query.id in baseline.ids:
            _look(subject, baseline, answer, found)
    red = [*found.emptied, *found.fewer, *found.dethroned]
    causes = _causes(found)
    # With a better mean it may be another ranker, which loses some answers for more others: for a person to accept.
    if found.lost and _is_no_better(subject, baseline) and is_unchanged(subject, baseline):
        red += found.lost
        causes.append(
            "answers are gone though chunks, vectors and index are those accepted: it is what stands in front, such as "
            "prompt, model, options, reranker, cache"
        )
    net = len(found.first) - found.better
    if found.labelled and harmless_p(net, found.labelled, harmless_rate(subject, baseline)) <= subject.limits.alpha:
        red += found.first
        causes.append("right first hits gave way to others in more questions than a harmless change explains")
    line = (
        f"{found.compared} questions compared one by one: {len(found.emptied)} find nothing now, {len(found.fewer)} "
        f"find less, {len(found.first)} have another first hit that is not expected, {found.better} a right one instead"
    )
    figures = {"emptied": len(found.emptied), "fewer": len(found.fewer), "first": len(found.first)}
    if not red:
        return CheckResult("questions", Verdict.PASS, (line,), figures=figures)
    named = list(dict.fromkeys(red))
    shown = tuple(failed(subject, *each) for each in named[:SHOWN])
    return CheckResult("questions", Verdict.FAIL, (line,), "; ".join(causes), shown, figures)


def _look(subject: Subject, baseline: Baseline, answer: Answer, found: _Found) -> None:
    query, then, now = answer.query, list(baseline.ids[answer.query.id]), subject.names(answer)
    found.compared += 1
    if query.nothing_above is not None:  # that it finds nothing is what is wanted of it
        return
    if then and not now:
        found.emptied.append((query.id, f"{len(then)} hits in the baseline, none now"))
        return
    lost = len(then) - len(now)
    if lost >= max(2, _FEWER * len(then)) and _are_there(
        subject, answer, [each for each in then if each not in now], lost
    ):
        found.fewer.append(
            (query.id, f"{len(then)} hits in the baseline, {len(now)} now, and the others are still stored")
        )
    if not query.grades or not then:
        return
    found.labelled += 1
    was, is_ = query.grades.get(then[0], 0) > 0, query.grades.get(now[0], 0) > 0
    found.better += is_ and not was
    if any(query.grades.get(each, 0) > 0 for each in then[:_TOP]) and not any(
        query.grades.get(each, 0) > 0 for each in now[:_DEPTH]
    ):
        found.lost.append((query.id, f"what was expected was among the first {_TOP}, and is not in the first {_DEPTH}"))
    if was and not is_:
        streak = baseline.streaks.get(query.id, 0)
        found.first.append((query.id, f"the first hit was right, and is now {now[0]!r}"))
        if streak >= STREAK and not any(query.grades.get(each, 0) > 0 for each in now[:_TOP]):
            found.dethroned.append((query.id, f"the first hit was right in {streak} baselines; none of {_TOP} is now"))


def _is_no_better(subject: Subject, baseline: Baseline) -> bool:
    """Say whether the mean of the main measure is no higher than in the baseline, over the questions of both."""
    before, now = baseline.values.get(measures.MAIN, {}), subject.values.get(measures.MAIN, {})
    return sum(now[key] - before[key] for key in now.keys() & before.keys()) <= 0


def _are_there(subject: Subject, answer: Answer, missing: list[str], lost: int) -> bool:
    """Say whether as many of the missing hits are still stored, and match the question's filter."""
    collection, query = subject.collection, answer.query
    if collection is None or query.documents:
        return 2 * lost >= len(missing) + len(answer.found)  # by their number alone: more than half are gone
    if query.mode == "lexical" and not _same_texts(subject):
        return False  # words that were edited out find nothing, rightly
    return len(collection.get(missing, where=query.where)) >= lost


def _same_texts(subject: Subject) -> bool:
    profile = subject.baseline.profile if subject.baseline else None
    if profile is None or not profile.marks:
        return True
    return not marks.changed(profile.marks, subject.survey.profile.marks, "texts")


def _causes(found: _Found) -> list[str]:
    causes = []
    if found.emptied:
        causes.append("nothing comes where something came: a timeout or error is swallowed, a filter matches nothing")
    if found.fewer:
        causes.append("fewer come though they are stored: a least score (min_score) or a smaller k is in force")
    if found.dethroned:
        causes.append(f"answers that came first in {STREAK} baselines no longer do")
    return causes

"""Worse than what was accepted, question by question, and by more than chance explains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from reperio.evaluation.baseline import Baseline
from reperio.evaluation.checks.answers.labelled import SHOWN, failed
from reperio.evaluation.checks.answers.rates import harmless_rate, is_unchanged
from reperio.evaluation.contents.profile import likeness
from reperio.evaluation.golden.questions import tags_of
from reperio.evaluation.history import decline
from reperio.evaluation.statistics import measures
from reperio.evaluation.statistics.comparing import Comparison, compare, holm
from reperio.evaluation.statistics.measures import PerQuery, mean
from reperio.evaluation.statistics.power import LOST, harmless_p, outlook
from reperio.evaluation.subject import DISTINCT, Subject
from reperio.evaluation.verdicts import CheckResult, FailedQuery, Verdict

_ALL = ""  # no tag has this name
_MAIN = (_ALL, measures.MAIN)  # all questions, by the main measure
_TOP = 10  # hits of a question whose ids are compared
_LIKE = 0.95  # of the chunks; new ones change answers as well


@dataclass(frozen=True, slots=True)
class _Findings:
    """The result of a comparison with a baseline."""

    before: PerQuery  # measures by name and question; likewise those of now
    now: PerQuery
    compared: Mapping[tuple[str, str], Comparison]  # by tag and measure; the main measure of all questions first
    red: Sequence[tuple[str, str]]  # what dropped by more than the effect and chance
    doubted: Sequence[tuple[str, str]]  # of the main measure, what dropped by more than the effect, but maybe by chance
    unexplained: bool  # whether more questions got worse than a harmless change explains
    rate: float  # chance that a harmless change makes one question worse
    kept: float | None  # mean share of the first ten that came then and come now; None where nothing came


def regression(subject: Subject) -> CheckResult:
    """Compare every measure with the baseline's, paired per question, over all questions and by tag."""
    baseline = subject.baseline
    if baseline is None:
        return _without_baseline(subject)
    why = _incomparable(baseline)
    if why:
        return CheckResult("regression", Verdict.ERROR, (f"{why}; accept a new baseline",))
    found = _found(subject, baseline)
    if not found.compared:
        why = "baseline and golden set share no question; accept a new baseline"
        return CheckResult("regression", Verdict.ERROR, (why,))
    verdict, cause = _judged(subject, baseline, found)
    fallen, told = _declined(subject, baseline, found.rate)
    if fallen:
        verdict, cause = Verdict.FAIL, "; ".join(filter(None, [cause, fallen]))
    dropped = [*found.red, *found.doubted]
    queries: tuple[FailedQuery, ...] = ()
    if cause:
        queries = _lost(subject, dropped[0], found) if dropped else _exchanged(subject, baseline, found)
    evidence = (*_evidence(subject, baseline, found), *told, *_could_see(subject, found))
    return CheckResult("regression", verdict, evidence, cause, queries, {**_figures(found), "declined": bool(fallen)})


def _without_baseline(subject: Subject) -> CheckResult:
    """Say that nothing is compared: an error, unless the limits say that this is meant."""
    # A search by itself may be anybody's, and has thresholds or nothing; a collection was accepted once.
    if subject.limits.no_baseline or (subject.collection is None and subject.require_golden().thresholds):
        return CheckResult("regression", Verdict.SKIP, ("there is no baseline: judged by the thresholds alone",))
    if subject.accepting:
        return CheckResult("regression", Verdict.SKIP, ("there is no baseline yet; what is found now becomes it",))
    # Skipped without a word, a gate whose baseline was lost would be green for ever.
    why = (
        "there is no baseline, so nothing is compared with what was accepted; reperio gate --accept writes it. Where "
        "the golden set shall be judged by its thresholds alone, say so in it: limits: {no_baseline: true}"
    )
    return CheckResult("regression", Verdict.ERROR, (why,))


def _declined(subject: Subject, baseline: Baseline, rate: float) -> tuple[str, list[str]]:
    """Return the cause, where small drops that were accepted one by one have become a large one, and its evidence."""
    found, limits = decline(subject, baseline), subject.limits
    if found is None or found.before - found.now <= limits.decline:
        return "", []
    line = (
        f"{measures.MAIN} was {found.before:.4f} in the baseline of {found.made[:10]} and is {found.now:.4f}, over "
        f"{found.questions} questions"
    )
    if min(found.p, harmless_p(found.worse, found.questions, rate)) > limits.alpha:
        return "", [f"{line}, which may be chance"]
    return "it declined in steps that were accepted one by one; accepting this one as well begins the history again", [
        line
    ]


def _could_see(subject: Subject, found: _Findings) -> list[str]:
    """Say how large a drop the golden set could have seen, in all questions and in the smallest tag."""
    lines, limits = [], subject.limits
    tags = [key for key in found.compared if key[0] != _ALL and key[1] == measures.MAIN]
    smallest = min(tags, key=lambda key: found.compared[key].questions, default=None)
    for key in [_MAIN, *([smallest] if smallest else [])]:
        compared = found.compared.get(key)
        if compared is None or compared.before <= 0:
            continue
        if key != _MAIN and compared.questions == found.compared[_MAIN].questions:
            continue  # a tag of all questions, such as that of drafts, says the same again
        alpha = limits.alpha if key == _MAIN else limits.alpha / len(tags)
        figures = {"mean": compared.before, "rate": found.rate, "alpha": alpha, "effect": limits.effect}
        where = f" of {key[0]!r}" if key[0] else ""
        lines.append(outlook(compared.questions, LOST, where, **figures))
    return lines


def _incomparable(baseline: Baseline) -> str:
    """Say why no answer can be compared with a baseline's; nothing where they can."""
    if not baseline.ids:
        return "the baseline holds no answers: it was accepted without a golden set"
    least = measures.depth([measures.MAIN])
    if not any(value for value in baseline.values.get(measures.MAIN, {"": 1.0}).values()):
        return f"{measures.MAIN} of every question is 0 in the baseline: nothing could become worse"
    if baseline.depth < least:
        return f"the baseline holds {baseline.depth} hits per question, and {measures.MAIN} needs {least}"
    return ""


def _found(subject: Subject, baseline: Baseline) -> _Findings:
    before, now, limits = _before(subject, baseline), subject.values, subject.limits
    compared = _comparisons(subject, before, now)
    red = _significant(compared, limits.alpha, limits.effect)
    # Worth a warning by its size alone: in a tag of four questions no drop can be told from chance.
    doubted = [
        key
        for key, each in compared.items()
        if key[1] == measures.MAIN and key not in red and -each.difference > limits.effect
    ]
    shares = _shares(subject, baseline, before)
    rate = harmless_rate(subject, baseline)
    main = compared.get(_MAIN)
    p = harmless_p(main.worse - main.better, main.questions, rate) if main is not None else 1.0
    # Where nothing else changed, other answers are no chance, and only how large the loss is for all questions is open.
    if main is not None and main.difference < 0 and -main.low >= limits.effect and is_unchanged(subject, baseline):
        others = sum(_is_other(subject, baseline, key) for key in before[DISTINCT])
        p = min(p, harmless_p(others, len(before[DISTINCT]), rate))
        unexplained = _MAIN not in red and p <= limits.alpha
    else:
        unexplained = _MAIN in doubted and p <= limits.alpha
    return _Findings(before, now, compared, red, doubted, unexplained, rate, mean(shares) if shares else None)


def _judged(subject: Subject, baseline: Baseline, found: _Findings) -> tuple[Verdict, str]:
    """Return the verdict with the likely cause."""
    if found.red:
        return Verdict.FAIL, _cause(found.red, subject)
    if found.unexplained:
        return Verdict.FAIL, (
            "more questions got worse, or are answered otherwise, than a harmless change explains (one in "
            f"{1 / found.rate:.0f}); " + _cause([_MAIN], subject)
        )
    if _MAIN in found.doubted and _is_unlike(subject, baseline, found.kept):
        return Verdict.FAIL, (
            "the answers are others than those accepted, and worse, though the chunks are the same: too few questions "
            "to tell the drop from chance, but not the change; model, prompt, index or options changed"
        )
    if _is_unlike(subject, baseline, found.kept):
        # Red by itself would forbid every improvement outside the collection, a reranker say.
        return Verdict.WARN, "the answers are others than those accepted, though the chunks are the same; look at them"
    if found.doubted:
        dropped = ", ".join(map(_named, found.doubted))
        return Verdict.WARN, (
            f"{dropped} dropped by more than {subject.limits.effect:g}, which may be chance; more questions would tell"
        )
    compared, labelled = found.compared[_MAIN].questions, len(subject.require_golden().labelled)
    if 2 * compared < labelled:
        # Edited or new, the others are as good as without a baseline, which is an error by itself.
        return Verdict.WARN, (
            f"only {compared} of {labelled} questions ask what they asked when the baseline was accepted, and the "
            "others are compared with nothing: accept a new one"
        )
    return Verdict.PASS, ""


def _evidence(subject: Subject, baseline: Baseline, found: _Findings) -> tuple[str, ...]:
    shown = [key for key in found.compared if key[0] == _ALL or key in (*found.red, *found.doubted)]
    lines = [_line(key, found.compared[key]) for key in shown]
    if found.kept is not None:
        lines.append(f"{found.kept:.1%} of the first {_TOP} that came then come now")
    return (*lines, *_not_compared(subject, baseline, found.before))


def _figures(found: _Findings) -> dict[str, Any]:
    then, now = found.before[measures.MAIN], found.now[measures.MAIN]
    return {
        "deltas": {key: now[key] - value for key, value in then.items()},
        "comparisons": {
            _named(key): {"d" if name == "effect" else name: value for name, value in asdict(each).items()}
            for key, each in found.compared.items()
        },
        "kept": found.kept,
    }


def _before(subject: Subject, baseline: Baseline) -> PerQuery:
    """Judge what came then by the labels of today.

    Comparing with the values of then was rejected: whoever corrects a label would be told that retrieval changed.
    """
    golden = subject.require_golden()
    same = [key for key, value in subject.asked.items() if baseline.asked.get(key) == value and key in baseline.ids]
    names = [name for name in golden.measures if measures.depth([name]) <= baseline.depth]  # others were not seen
    found = subject.judge({key: baseline.ids[key] for key in same}, names)
    distinct = baseline.values.get(DISTINCT, {})
    return {**found, DISTINCT: {key: distinct[key] for key in same if key in distinct}}


def _shares(subject: Subject, baseline: Baseline, before: PerQuery) -> dict[str, float]:
    """Return, by question, the share of the first ten that came then and come now."""
    shares = {}
    for key in before[DISTINCT]:
        then = set(baseline.ids[key][:_TOP])
        if then:
            shares[key] = len(then & set(subject.names(subject.by_id[key])[:_TOP])) / len(then)
    return shares


def _is_other(subject: Subject, baseline: Baseline, key: str) -> bool:
    """Say whether a question's first ten are others than then, or in another order."""
    return list(baseline.ids[key][:_TOP]) != subject.names(subject.by_id[key])[:_TOP]


def _exchanged(subject: Subject, baseline: Baseline, found: _Findings) -> tuple[FailedQuery, ...]:
    """Return the questions whose answers are others, those that kept least first: none of them need be worse."""
    shares = sorted((share, key) for key, share in _shares(subject, baseline, found.before).items() if share < 1)
    return tuple(
        failed(subject, key, f"{share:.0%} of the first {_TOP} that came then come now")
        for share, key in shares[:SHOWN]
    )


def _is_unlike(subject: Subject, baseline: Baseline, kept: float | None) -> bool:
    """Say whether answers changed by more than two indexes of the recall explain, over chunks that did not."""
    if kept is None or baseline.profile is None or subject.collection is None:
        return False
    # Each misses 1 − recall of the true ones, not the same ones at worst; as much again for what recall varies by.
    explained = 1 - 3 * (1 - subject.limits.recall)
    return kept < explained and likeness(baseline.profile, subject.survey.profile) >= _LIKE


def _not_compared(subject: Subject, baseline: Baseline, before: PerQuery) -> list[str]:
    """Say which questions and measures the comparison leaves out."""
    now = subject.asked
    new = sum(key not in baseline.asked for key in now)
    changed = sum(baseline.asked.get(key, value) != value for key, value in now.items())
    dropped = sum(key not in now for key in baseline.asked)
    counts = ((new, "are new"), (changed, "ask something else"), (dropped, "are no longer in the golden set"))
    deeper = [name for name in subject.require_golden().measures if name not in before]
    told = [f"{count} questions {what} since the baseline" for count, what in counts if count]
    if deeper:
        told.append(f"{', '.join(deeper)} need more hits than the baseline has ({baseline.depth}): accept a new one")
    return told


def _comparisons(subject: Subject, before: PerQuery, now: PerQuery) -> dict[tuple[str, str], Comparison]:
    """Compare by tag and measure; all questions and the main measure first."""
    groups: dict[str, set[str] | None] = {_ALL: None}
    groups |= {tag: {query.id for query in queries} for tag, queries in tags_of(subject.require_golden().queries)}
    found = {}
    for tag, own in groups.items():
        for name, values in before.items():
            compared = compare({key: value for key, value in values.items() if own is None or key in own}, now[name])
            if compared is not None:  # a tag may share no question with the baseline
                found[tag, name] = compared
    return found


def _significant(found: Mapping[tuple[str, str], Comparison], alpha: float, effect: float) -> list[tuple[str, str]]:
    """Return what dropped by more than the effect and chance.

    Three families, each at *alpha*: the main measure, the other measures, the main measure by tag. One family of all
    measures of all tags was rejected: with four tags it asks nine questions of a tag to get worse and none better.
    """
    others = [key for key in found if key[0] == _ALL and key != _MAIN]
    tags = [key for key in found if key[0] != _ALL and key[1] == measures.MAIN]
    red = []
    for family in ([_MAIN] if _MAIN in found else [], others, tags):
        rejected = holm([found[key].p for key in family], alpha)
        red += [key for key, sure in zip(family, rejected, strict=True) if sure and -found[key].difference > effect]
    return red


def _named(key: tuple[str, str]) -> str:
    return f"{key[0]}: {key[1]}" if key[0] else key[1]


def _line(key: tuple[str, str], found: Comparison) -> str:
    if not found.worse and not found.better:
        return f"{_named(key)} {found.now:.4f}, unchanged in {found.questions} questions"
    # Where all differ by the same, there is no spread to measure the effect in.
    effect = f", d {found.effect:+.2f}" if found.effect else ""
    return (
        f"{_named(key)} {found.before:.4f} → {found.now:.4f} ({found.difference:+.4f}, 95% interval "
        f"{found.low:+.4f} to {found.high:+.4f}, p {found.p:.4f}{effect}; {found.worse} worse and "
        f"{found.better} better of {found.questions})"
    )


def _lost(subject: Subject, key: tuple[str, str], found: _Findings) -> tuple[FailedQuery, ...]:
    tag, name = key
    before, now = found.before[name], found.now[name]
    changes = sorted(
        (now[identifier] - value, identifier)
        for identifier, value in before.items()
        if tag == _ALL or tag in subject.by_id[identifier].query.tags
    )
    return tuple(
        failed(subject, identifier, f"{name} {before[identifier]:.3f} → {now[identifier]:.3f}")
        for change, identifier in changes[:SHOWN]
        if change < 0  # others of the group may have become better
    )


def _cause(red: Sequence[tuple[str, str]], subject: Subject) -> str:
    if all(name == DISTINCT for _, name in red):
        return "the same text comes several times among the first ten: duplicates were ingested"
    if all(tag != _ALL for tag, _ in red):
        return f"the group {red[0][0]!r} got worse, which the mean over all questions hides"
    if subject.collection is None:
        return "model, prompt, index, chunks or options of the search changed since the baseline"
    return "where the checks of the collection pass, it is what stands in front: prompt, model, options, reranker"

"""Compare how many chunks there are, in all and of each source, with the baseline."""

from __future__ import annotations

from reperio.evaluation.checks.contents import moves
from reperio.evaluation.contents.profile import Profile, reach
from reperio.evaluation.subject import Subject
from reperio.evaluation.verdicts import CheckResult, Verdict

_NEW = 0.05  # share of new chunks worth a line
_FEW = 3  # chunks of a source; the loss of fewer is an edit by hand


def sources(subject: Subject) -> CheckResult:
    """List what went missing, whatever came in its place."""
    baseline = subject.baseline
    if baseline is None or baseline.profile is None:
        return moves.not_compared("sources", subject)
    before, now, limits = baseline.profile, subject.survey.profile, subject.limits
    wrong = _missing(before, now, limits.shrink)
    for name, then in before.sources.items():
        there = now.sources[name].count if name in now.sources else 0
        gone = then.count - there
        if gone >= _FEW and gone > limits.source_shrink * then.count and len(before.sources) > 1:
            what = "all of them gone" if not there else f"{gone / then.count:.1%} fewer"
            wrong.append(f"source {name!r}: {then.count:,} chunks → {there:,}: {what}")
    line = f"{now.count:,} chunks, {before.count:,} in the baseline of {baseline.made[:10]}"
    notes = [*_grown(before, now), *_changed(before, now)]
    if wrong:
        return CheckResult("sources", Verdict.FAIL, (line, *moves.shown(wrong), *notes), moves.ACCEPT)
    return CheckResult("sources", Verdict.PASS, (line, *notes))


def _missing(before: Profile, now: Profile, shrink: float) -> list[str]:
    wrong = []
    lost = 1 - now.count / before.count if before.count else 0.0
    if lost > shrink:
        wrong.append(f"{before.count:,} chunks → {now.count:,}: {lost:.1%} fewer, {shrink:.1%} is allowed")
    followed = {key for key in before.sketch if key <= reach(now)}
    gone, known = followed - set(now.sketch), len(followed)  # that a sketch of now would have to hold
    # The sketch tells missing chunks even where as many others came; two of a thousand are within its rounding.
    if known and len(gone) / known > max(shrink, 2 / known) and lost <= shrink:
        wrong.append(f"{len(gone)} of {known} chunks that are followed by id are gone")
    return wrong


def _grown(before: Profile, now: Profile) -> list[str]:
    notes = [
        f"source {name!r} is new: {now.sources[name].count:,} chunks"
        for name in now.sources.keys() - before.sources.keys()
        if before.sources
    ]
    within = [key for key in now.sketch if key <= reach(before)]
    fresh = sum(key not in before.sketch for key in within) / len(within) if within else 0.0
    return [*sorted(notes)[: moves.SHOWN], *([f"new chunks: {fresh:.1%}"] if fresh > _NEW else [])]


def _changed(before: Profile, now: Profile) -> list[str]:
    shared = set(before.sketch) & set(now.sketch)
    changed = sum(before.sketch[key] != now.sketch[key] for key in shared)
    return [f"texts changed: {changed / len(shared):.1%} of the chunks followed by id"] if changed else []

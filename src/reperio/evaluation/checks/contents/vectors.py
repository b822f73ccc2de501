"""Look at all vectors without the model: equal ones of different texts, zeros, and texts that changed alone."""

from __future__ import annotations

from reperio.evaluation.checks.contents import moves
from reperio.evaluation.contents import marks
from reperio.evaluation.contents.hashing import fingerprint
from reperio.evaluation.contents.profile import Profile, VectorProfile
from reperio.evaluation.subject import Subject
from reperio.evaluation.verdicts import CheckResult, Verdict

_NOTED = 0.1  # relative change of a quantile of the lengths
_REEMBED = "reperio reembed makes all vectors again"


def vectors(subject: Subject) -> CheckResult:
    """Compare what is known of all vectors with the baseline; without one, warn of what can hardly be right."""
    seen = subject.survey
    now = seen.profile.vectors or VectorProfile()
    baseline = subject.baseline.profile if subject.baseline else None
    before = baseline.vectors if baseline is not None else None
    line = f"all {seen.profile.count:,} vectors looked at: {now.shared:,} are those of other texts as well"
    old = before or VectorProfile()
    suspects = seen.suspects
    wrong = [
        f"{new:,} chunks have {what}, {old_count:,} in the baseline{moves.examples(ids)}"
        for new, old_count, what, ids, allowed in (
            (now.shared, old.shared, "the vector of a different text", suspects.shared, subject.limits.shared_vectors),
            (now.zeros, old.zeros, "a vector of zeros", suspects.zeros, 0),
            (now.constant, old.constant, "a vector of one value in all places", suspects.constant, 0),
        )
        if new > old_count + allowed
    ]
    stale = _stale(subject, baseline) if baseline is not None else []
    if before is None:
        doubtful = tuple(each.replace(", 0 in the baseline", "") for each in wrong)
        if doubtful:
            cause = f"texts that differ seldom have one vector: if no model made it, {_REEMBED}"
            return CheckResult("vectors", Verdict.WARN, (line, *doubtful), cause)
        return CheckResult("vectors", Verdict.PASS, (line,))
    notes = _noted(baseline, seen.profile) if baseline is not None else ()
    if wrong or stale:
        cause = f"vectors were not made from their texts; {_REEMBED}"
        return CheckResult("vectors", Verdict.FAIL, (line, *wrong, *stale, *notes), cause)
    return CheckResult("vectors", Verdict.PASS, (line, *notes))


def _stale(subject: Subject, before: Profile) -> list[str]:
    """Say how many chunks have another text and the same vector: only one of the two sums of their bucket changed."""
    now = subject.survey.profile
    if not before.marks:
        return []
    texts, vectors_, ids = (marks.changed(before.marks, now.marks, kind) for kind in ("texts", "vectors", "ids"))
    alone = texts - vectors_ - ids
    followed = []
    for chunk in subject.survey.followed:
        key = fingerprint(chunk.id)
        then, current = before.followed.get(key, ""), now.followed[key]
        if then and then[8:16] != current[8:16] and then[16:24] == current[16:24]:
            followed.append(chunk.id)
    if not alone and not followed:
        return []
    least = max(len(alone), len(followed))
    return [
        f"{least} chunks or more have another text than in the baseline, and the same vector{moves.examples(followed)}"
    ]


def _noted(before: Profile, now: Profile) -> tuple[str, ...]:
    if all(abs(new - old) <= _NOTED * max(abs(old), 1e-9) for old, new in zip(before.norms, now.norms, strict=True)):
        return ()
    old, new = (", ".join(f"{value:.4g}" for value in each.norms) for each in (before, now))
    return (f"norms (5%, median, 95%): {old} → {new}",)

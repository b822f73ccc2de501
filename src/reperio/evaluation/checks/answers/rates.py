"""How often a change that does no harm makes a question worse: what a drop has to be more than."""

from __future__ import annotations

from reperio.collection import Collection
from reperio.evaluation.baseline import Baseline
from reperio.evaluation.contents import marks
from reperio.evaluation.contents.profile import likeness
from reperio.evaluation.statistics.power import FIXED
from reperio.evaluation.subject import Subject


def is_unchanged(subject: Subject, baseline: Baseline) -> bool:
    """Say whether every chunk, text, metadata and vector, and the index, are those of the baseline.

    Other answers then come of what stands in front, and none of them by chance, except where scores are equal.
    """
    profile, collection = baseline.profile, subject.collection
    if profile is None or collection is None or not profile.marks:
        return False
    now = subject.survey.profile.marks
    return _is_same_index(baseline, collection) and not any(
        marks.changed(profile.marks, now, kind) for kind in marks.KINDS
    )


def harmless_rate(subject: Subject, baseline: Baseline) -> float:
    """Return the chance that one question gets worse by a change that does no harm.

    Without any change it is next to nothing. Another index, or vectors made again, may miss what the wanted recall
    allows; new and changed chunks may come before the expected one, as often as there are such.
    """
    missed = 1 - subject.limits.recall
    profile, collection = baseline.profile, subject.collection
    if profile is None or collection is None or not profile.marks:
        return max(missed, FIXED)
    now = subject.survey.profile
    changed = len(marks.changed(profile.marks, now.marks, "vectors"))
    texts = len(marks.changed(profile.marks, now.marks, "texts") | marks.changed(profile.marks, now.marks, "ids"))
    same_vectors = changed <= texts  # others were made again though their texts are the same
    own = FIXED if same_vectors and _is_same_index(baseline, collection) else max(missed, FIXED)
    return min(0.5, own + (1 - likeness(profile, now)))


def _is_same_index(baseline: Baseline, collection: Collection) -> bool:
    index = collection.info().index
    return (baseline.index.get("created") if baseline.index else None) == (index.created if index else None)

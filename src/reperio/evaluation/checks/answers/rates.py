"""How often a change that does no harm makes a question worse: what a drop has to be more than."""

from __future__ import annotations

from reperio.evaluation.baseline import Baseline
from reperio.evaluation.contents import marks
from reperio.evaluation.contents.profile import likeness
from reperio.evaluation.subject import Subject

_FIXED = 0.005  # chance that a question gets worse while chunks, vectors and index are the same: a tie broken otherwise


def harmless_rate(subject: Subject, baseline: Baseline) -> float:
    """Return the chance that one question gets worse by a change that does no harm.

    Without any change it is next to nothing. Another index, or vectors made again, may miss what the wanted recall
    allows; new and changed chunks may come before the expected one, as often as there are such.
    """
    missed = 1 - subject.limits.recall
    profile, collection = baseline.profile, subject.collection
    if profile is None or collection is None or not profile.marks:
        return max(missed, _FIXED)
    now = subject.survey.profile
    index = collection.info().index
    same_index = (baseline.index.get("created") if baseline.index else None) == (index.created if index else None)
    changed = len(marks.changed(profile.marks, now.marks, "vectors"))
    texts = len(marks.changed(profile.marks, now.marks, "texts") | marks.changed(profile.marks, now.marks, "ids"))
    same_vectors = changed <= texts  # others were made again though their texts are the same
    own = _FIXED if same_index and same_vectors else max(missed, _FIXED)
    return min(0.5, own + (1 - likeness(profile, now)))

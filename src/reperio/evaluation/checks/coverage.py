"""Say which rows the index does not cover: they are found, by comparing each of them, which takes longer."""

from __future__ import annotations

from reperio.evaluation.subject import Subject

_SHARE = 0.02  # of the rows that may be newer than the index without a word
_FEW = 2000  # rows that are compared in no time


def uncovered(subject: Subject) -> str:
    """Return what to say of rows that are not in the index, with the cure; nothing where they are few."""
    collection = subject.collection
    if collection is None:
        return ""
    info = collection.info()
    if info.index is None:
        had = subject.baseline.index.get("factory") if subject.baseline else None
        if had and info.count >= _FEW:
            return (
                f"there is no index ({had} in the baseline), all {info.count:,} rows are compared: run reperio optimize"
            )
        return ""
    rows, tail = info.count + (info.deleted or 0), info.tail or 0
    if tail < min(_FEW, 0.1 * rows) or tail <= _SHARE * rows:
        return ""
    return f"{tail:,} of {rows:,} rows are newer than the index, and are compared one by one: run reperio optimize"

"""What earlier baselines accepted: a decline in small steps shows only when it is compared with the best of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from reperio.evaluation.baseline import Baseline
from reperio.evaluation.contents.hashing import fingerprint
from reperio.evaluation.statistics import measures
from reperio.evaluation.statistics.comparing import randomisation_p
from reperio.evaluation.subject import Subject

Entry: TypeAlias = Mapping[str, Any]

_LAST = 5  # entries, in addition to the first and the best
_LEAST = 5  # questions that can be compared
_DIGITS = 4
STREAK = 5
"""Accepted baselines in a row in which a first hit was right, from which on it is expected to be."""


@dataclass(frozen=True, slots=True)
class Decline:
    """A drop since an earlier accepted baseline.

    Attributes:
        made: when that was accepted.
        before, now: means of the main measure over the questions that both have.
        questions: compared.
        p: one-sided p-value of the drop.
        worse: questions that got worse, less those that got better.
    """

    made: str
    before: float
    now: float
    questions: int
    p: float
    worse: int


def to_history(subject: Subject, made: str, *, declined: bool) -> tuple[Entry, ...]:
    """Return the history that belongs into a new baseline; a decline that is accepted begins it again."""
    if subject.golden is None or not subject.golden.labelled:
        return subject.baseline.history if subject.baseline else ()  # type: ignore[return-value]  # a tuple out of files
    values = {key: round(value, _DIGITS) for key, value in subject.values[measures.MAIN].items()}
    entry: Entry = {"made": made, "values": values, "asked": _asked(subject)}
    earlier = list(subject.baseline.history) if subject.baseline is not None and not declined else []
    entries = [*earlier, entry]
    best = max(entries, key=lambda each: measures.mean(each["values"]) if each["values"] else 0.0)
    kept = [entries[0], best, *entries[-_LAST:]]
    return tuple(each for each in entries if any(each is one for one in kept))


def to_streaks(subject: Subject) -> dict[str, int]:
    """Return, for each question whose first hit is right, in how many accepted baselines in a row it was."""
    if subject.golden is None:
        return {}
    before = subject.baseline.streaks if subject.baseline else {}
    found = {}
    for answer in subject.answers:
        names = subject.names(answer)
        if names and answer.query.grades.get(names[0], 0) > 0:
            found[answer.query.id] = before.get(answer.query.id, 0) + 1
    return found


def decline(subject: Subject, baseline: Baseline) -> Decline | None:
    """Compare with the best accepted baseline before the last; None where there is none, or it was not better."""
    now, asked = subject.values[measures.MAIN], _asked(subject)
    found = [each for entry in baseline.history[:-1] if (each := _compared(entry, now, asked)) is not None]
    worst = max(found, key=lambda each: each.before - each.now, default=None)
    return worst if worst is not None and worst.now < worst.before else None


def _compared(entry: Entry, now: Mapping[str, float], asked: Mapping[str, str]) -> Decline | None:
    same: Sequence[str] = [key for key in entry["values"] if key in now and entry["asked"].get(key) == asked.get(key)]
    if len(same) < _LEAST:
        return None
    before, after = (np.array([values[key] for key in same]) for values in (entry["values"], now))
    apart = np.where(np.abs(after - before) < 2 * 10**-_DIGITS, 0.0, after - before)
    worse = int((apart < 0).sum() - (apart > 0).sum())
    return Decline(entry["made"], float(before.mean()), float(after.mean()), len(same), randomisation_p(apart), worse)


def _asked(subject: Subject) -> dict[str, str]:
    """Return the fingerprint of each question with what is expected of it: a corrected label is no decline."""
    golden = subject.require_golden()
    return {
        query.id: fingerprint(json.dumps([subject.asked[query.id], sorted(query.grades.items())]))
        for query in golden.labelled
    }

"""How much a golden set can see: the chance that questions which lose their answer are noticed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache

LOST = 0.05
"""Share of the questions by which reports say what could have been seen."""

FIXED = 0.005
"""Chance that a question gets worse while chunks, vectors and index are the same: a tie that is broken otherwise."""

_ENOUGH = 0.9  # chance of being noticed that more questions are counted up to
_MOST = 2000  # questions


def harmless_p(worse: int, questions: int, rate: float) -> float:
    """Return the chance that so many questions get worse, or more, by a change that does no harm.

    Args:
        worse: questions that got worse, less those that got better.
        questions: compared.
        rate: chance of one to get worse by such a change: see `regression.harmless_rate`.
    """
    if worse <= 0:
        return 1.0
    rate = min(max(rate, 1e-12), 1 - 1e-12)
    return float(min(1.0, sum(_binomial(count, questions, rate) for count in range(worse, questions + 1))))


@lru_cache(maxsize=4096)
def power(questions: int, lost: float, *, mean: float, rate: float, alpha: float, effect: float) -> float:
    """Return the chance that the gate is red where a share of the questions loses its answer, and nothing else changes.

    Args:
        questions: of the golden set.
        lost: share of the questions that lose all that they found.
        mean: mean of the main measure when healthy: what such a question loses.
        rate, alpha, effect: as the gate compares with.
    """
    red = {
        worse
        for worse in range(1, questions + 1)
        if worse * mean / questions > effect and (0.5**worse <= alpha or harmless_p(worse, questions, rate) <= alpha)
    }
    return sum(_binomial(worse, questions, lost) for worse in red)


@lru_cache(maxsize=256)
def more_needed(questions: int, lost: float, **figures: float) -> int | None:
    """Return how many further questions make the chance nine in ten; 0 where it is, None where none do."""
    for further in _steps():
        # The chance has steps in it: as many as are enough must stay enough with a few more.
        if all(power(questions + further + few, lost, **figures) >= _ENOUGH for few in (0, 5)):
            return further
    return None


def outlook(questions: int, lost: float, where: str = "", **figures: float) -> str:
    """Say in words how often a loss would be seen, and how many further questions make that nine times in ten.

    Args:
        questions, lost: as in `power`; *figures* as well.
        where: what the questions are of, with "of" before it; empty for all.
    """
    seen = power(questions, lost, **figures)
    further = more_needed(questions, lost, **figures)
    more = f"; {further} more questions{where} make it 9" if further else ""
    return (
        f"had one in {round(1 / lost)} of the {questions} questions{where} lost its answer, this would have been seen "
        f"{seen * 10:.0f} times in 10{more}"
    )


def _steps() -> Iterator[int]:
    further = 0
    while further <= _MOST:
        yield further
        further += 5 if further < 200 else 50


def _binomial(count: int, of: int, chance: float) -> float:
    if chance <= 0 or chance >= 1:
        return float(count == (of if chance >= 1 else 0))
    log = math.lgamma(of + 1) - math.lgamma(count + 1) - math.lgamma(of - count + 1)
    return math.exp(log + count * math.log(chance) + (of - count) * math.log1p(-chance))

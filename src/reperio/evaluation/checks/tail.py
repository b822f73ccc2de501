"""Look at the slowest questions and calls, which percentiles of the best times do not show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from reperio.evaluation.verdicts import FailedQuery

_QUESTION = 3.0  # a question is slow where it takes so many times its time, and so much more, whenever it is asked
_TIMES, _MORE_MS = 5.0, 100.0  # a call stalls where it takes so many times its question's time, and so much more
_ROUNDS, _SOME = (
    3,
    0.25,
)  # rounds at least, and share of the questions at most, that tell slow questions from a busy machine
_STALLED = 0.03  # share of the calls that may take that long, in addition to those of the baseline
_STALLS = 5  # calls at least
_COLD, _COLD_MS = 3.0, 1000.0  # likewise, of the first call
_DIGITS = 2
_SHOWN = 10

Floats = npt.NDArray[np.float64]


class Tail(NamedTuple):
    """What the slowest took.

    Attributes:
        figures: for the baseline: "cold", "stalled" and "questions".
        slower: what is slower than then, in words.
        queries: the questions that are.
        cause: what such a thing comes from.
        selective: whether the same few questions were slow in every round, which no other process makes them.
    """

    figures: dict[str, Any]
    slower: list[str]
    queries: tuple[FailedQuery, ...]
    cause: str
    selective: bool


def tail(keys: Sequence[str], calls: Floats, cold: float, before: Mapping[str, Any]) -> Tail:
    """Compare with a baseline, or with nothing where *before* is empty.

    Args:
        keys: of the questions, n of them.
        calls: ms of every call, by round and question: (rounds, n).
        cold: ms of the first call of all.
        before: the latency of the baseline.
    """
    best = calls.min(axis=0)
    stalled = int((calls > np.maximum(_TIMES * best, best + _MORE_MS)).sum())
    own = {key: round(float(ms), _DIGITS) for key, ms in zip(keys, best, strict=True)}
    figures = {"cold": round(cold, _DIGITS), "stalled": round(stalled / calls.size, 4), "questions": own}
    slower, causes = [], []
    then: Mapping[str, float] = before.get("questions", {})
    slow = [key for key, ms in own.items() if key in then and ms > max(_QUESTION * then[key], then[key] + _MORE_MS)]
    if slow:
        slower.append(f"{len(slow)} of {len(own)} questions take more than {_QUESTION:g} times as long, every time")
        causes.append("some questions are slow whenever they are asked: see which they have in common")
    if before and stalled >= _STALLS and stalled / calls.size > before.get("stalled", 0.0) + _STALLED:
        slower.append(f"{stalled} of {calls.size} calls take more than {_TIMES:g} times their question's own time")
        causes.append("now and then a call waits: a retry, a timeout, a lock, a connection that is made again")
    if before.get("cold") and cold > max(_COLD * before["cold"], before["cold"] + _COLD_MS):
        slower.append(f"the first call took {cold:,.0f} ms, {before['cold']:,.0f} in the baseline")
        causes.append("something is loaded with the first question that was loaded before, or was smaller")
    queries = tuple(
        FailedQuery(key, key, (), (), f"{then[key]:.1f} → {own[key]:.1f} ms")
        for key in sorted(slow, key=lambda key: -own[key])[:_SHOWN]
    )
    selective = 0 < len(slow) <= _SOME * len(own) and len(calls) >= _ROUNDS
    return Tail(figures, slower, queries, "; ".join(causes), selective)

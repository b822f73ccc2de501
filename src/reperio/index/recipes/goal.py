"""Describe the goal of an index, a recipe for one, and sizes in words."""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from reperio.arguments import nearest
from reperio.errors import InvalidInput
from reperio.index.recipes.times import in_words

Preference: TypeAlias = Literal["latency", "throughput", "memory"]
PREFERENCES: tuple[Preference, ...] = get_args(Preference)


@dataclass(frozen=True, slots=True)
class Goal:
    """The goal that an index is chosen for.

    Attributes:
        recall: knn recall@10 to be reached, in (0, 1].
        prefer: what to be best at among those that reach it: the latency of single queries, the rate of batches,
            or the memory (and time to build).
        memory: most bytes that the index may take, its files too; None for no limit.
    """

    recall: float = 0.95
    prefer: Preference = "latency"
    memory: int | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """An index to build.

    Attributes:
        factory: FAISS factory string; empty for none, i.e. exact search.
        reason: one line for people.
        training_rows: rows to sample for training, as far as there are so many; 0 for an index that needs none.
        construction: efConstruction of a graph; 0 for FAISS's own.
        bytes_per_vector: predicted size of the index; None where only building tells.
        seconds: predicted time to build and measure; None where only doing so tells.
        requested: True when the user named the index; it is then kept when the collection grows.
    """

    factory: str
    reason: str
    training_rows: int = 0
    construction: int = 0
    bytes_per_vector: float | None = None
    seconds: float | None = None
    requested: bool = False

    @property
    def exact(self) -> bool:
        """True when no index is needed."""
        return not self.factory

    @property
    def build_time(self) -> str:
        """The time to build and measure, as people say it: "about 1 h 45 min"; within a factor of two."""
        return in_words(self.seconds) if self.seconds else self.build_class

    @property
    def build_class(self) -> str:
        """The time to build in a word: none, seconds, minutes or hours; unknown where only building tells."""
        if self.seconds is None:
            return "none" if self.exact else "unknown"
        if self.seconds < 60:
            return "seconds" if self.seconds > 0 else "none"
        return "minutes" if self.seconds < 3600 else "hours"


def check_goal(goal: Goal) -> None:
    """Raise `InvalidInput` for a value that means nothing, with the nearest one that does."""
    try:
        sound = 0 < goal.recall <= 1
        percent = 10 <= goal.recall <= 100
    except TypeError:
        raise InvalidInput(f"recall is {goal.recall!r}; pass a share of the true neighbours, like 0.95") from None
    if not sound:
        likely = f"{goal.recall / 100:g}" if percent else "1" if goal.recall > 1 else "0.95"
        raise InvalidInput(f"recall is {goal.recall!r}; it is a share in (0, 1], so pass recall={likely}")
    if goal.prefer not in PREFERENCES:
        near = nearest(str(goal.prefer), PREFERENCES) or PREFERENCES[0]
        raise InvalidInput(f"prefer is {goal.prefer!r}; pass {near!r} (it is one of {', '.join(PREFERENCES)})")
    if goal.memory is not None:
        parse_memory(goal.memory)


_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


def parse_memory(value: int | str) -> int:
    """Convert "8GiB", "1.5 GB" (upper or lower case) or a number of bytes to bytes.

    Raises:
        InvalidInput: no positive amount, or an unknown unit; the message shows the nearest that is known.
    """
    match = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,9})?)\s*([A-Za-z]*)\s*", value) if isinstance(value, str) else None
    try:
        amount = _amount(match[1], match[2]) if match is not None else operator.index(value)  # type: ignore[arg-type]  # or TypeError
    except TypeError:
        amount = 0
    if amount <= 0 or isinstance(value, bool):
        raise InvalidInput(f"memory is {value!r}; pass bytes above 0, or a text like '8GiB'")
    return amount


def _amount(number: str, unit: str) -> int:
    names = {name.lower(): name for name in _UNITS}
    name = names.get(unit.lower() or "b")
    if name is None:
        letter = unit[0].upper()
        near = f"{letter}iB" if f"{letter}iB" in _UNITS else "GiB"
        raise InvalidInput(f"memory is '{number}{unit}'; did you mean '{number}{near}'? Units are {', '.join(_UNITS)}")
    return int(float(number) * _UNITS[name])


def to_size(count: float) -> str:
    """Convert bytes to words: 60_817_408 → "58 MiB"."""
    for unit, size in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            amount = count / size
            return f"{amount:.1f} {unit}" if amount < 9.95 else f"{amount:.0f} {unit}"
    return f"{count:.0f} B"

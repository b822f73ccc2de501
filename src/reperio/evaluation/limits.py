"""From where on something is wrong: one place for all numbers that a verdict depends on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

from reperio.errors import InvalidInput


def is_number(value: object) -> bool:
    """Say whether a value out of a file is a finite number."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False


@dataclass(frozen=True, slots=True)
class GateLimits:
    """The numbers behind the verdicts; docs/gate.md says what each rule is.

    Attributes:
        recall: knn recall@k that `search` is asked for and must reach, above 0 and at most 1.
        k: neighbours, for knn recall.
        queries, most_queries: asked for knn recall at least, and at most while the verdict is open.
        alpha: chance of a false alarm of the regression test on the main measure, on the family of the others, and on
            that of the tags.
        effect: mean drop of a measure that matters, absolute.
        shrink: share of the baseline's chunks that may be missing.
        source_shrink: share of one source's chunks that may be missing.
        access: share of a source's chunks whose value may have moved in a field that decides who finds what.
        moved: likewise in any other metadata field: lost, of another type, written otherwise, another value.
        alike: share of a source's texts that may have become like others, wrongly decoded, markup, or of another
            language.
        lengths: share of a source's texts whose length may have moved.
        surprise: standard errors by which a share must differ before it is no chance, where chunks came or went.
        shared_vectors: chunks that may have the vector of another text, in addition to those in the baseline.
        decline: mean drop of the main measure since the best accepted baseline, absolute.
        no_baseline: a golden set may be judged by its thresholds alone.
        sample: chunks that are looked up by their own vector and words, and embedded again.
        agreement: least cosine of a stored vector to that of its text, embedded again.
        latency_ratio: p50 and p95 may be this many times the baseline's.
        p50, p95, p99: absolute limits in ms; None for none.
        rate: least queries per second; None for none.
        threads: that ask at the same time while latency is measured.
        rounds: over the questions, while latency is measured.

    Raises:
        InvalidInput: a value that cannot be.
    """

    recall: float = 0.95
    k: int = 10
    queries: int = 200
    most_queries: int = 1000
    alpha: float = 0.05
    effect: float = 0.02
    shrink: float = 0.005
    source_shrink: float = 0.05
    access: float = 0.0
    moved: float = 0.02
    alike: float = 0.02
    lengths: float = 0.1
    surprise: float = 4.0
    shared_vectors: int = 0
    decline: float = 0.03
    no_baseline: bool = False
    sample: int = 64
    agreement: float = 0.99
    latency_ratio: float = 2.0
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    rate: float | None = None
    threads: int = 1
    rounds: int = 3

    def __post_init__(self) -> None:
        for name in self.names():
            self.require(name, getattr(self, name))
        if self.most_queries < self.queries:
            raise InvalidInput(f"most_queries is {self.most_queries}; it must be at least queries, {self.queries}")

    @classmethod
    def require(cls, name: str, value: object) -> None:
        """Refuse a value that a limit cannot have."""
        kind, what, holds = _RULES[name]
        if value is None and name in _OPTIONAL:
            return
        if isinstance(value, bool) is not (kind == (bool,)) or not isinstance(value, kind) or not holds(value):
            raise InvalidInput(f"{name} is {value!r}; it must be {what}")

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of all limits."""
        return [field.name for field in fields(cls)]


_Rule: TypeAlias = "tuple[tuple[type, ...], str, Callable[[Any], bool]]"
_SHARE: _Rule = ((int, float), "above 0 and at most 1", lambda value: 0 < value <= 1)
_DROP: _Rule = ((int, float), "at least 0 and below 1", lambda value: 0 <= value < 1)
_COUNT: _Rule = ((int,), "a whole number from 1", lambda value: value >= 1)
_MORE: _Rule = ((int, float), "above 1", lambda value: 1 < value < math.inf)
_SOME: _Rule = ((int, float), "above 0, or None", lambda value: 0 < value < math.inf)
_OPTIONAL = ("p50", "p95", "p99", "rate")
_RULES: dict[str, _Rule] = {
    **dict.fromkeys(("recall", "alpha", "agreement"), _SHARE),
    **dict.fromkeys(("effect", "shrink", "source_shrink", "access", "moved", "alike", "lengths", "decline"), _DROP),
    "surprise": ((int, float), "at least 0", lambda value: 0 <= value < math.inf),
    "shared_vectors": ((int,), "a whole number from 0", lambda value: value >= 0),
    "no_baseline": ((bool,), "true or false", lambda _: True),
    **dict.fromkeys(("k", "queries", "most_queries", "sample", "threads", "rounds"), _COUNT),
    "latency_ratio": _MORE,
    **dict.fromkeys(_OPTIONAL, _SOME),
}

"""Is it worse than before, and could that be chance? Paired statistics over questions; docs/gate.md has the sources."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_EXACT = 16  # 65,536 sign patterns: counted in a millisecond
_DRAWN = 10_000  # sign patterns, and bootstrap samples
_SEED = 20_261_121  # fixed: the same answers have the same p-value
_BLOCK = 1000  # patterns held in memory at once
_ROUNDING = 1e-12  # smaller differences are those of summation


@dataclass(frozen=True, slots=True)
class Comparison:
    """A measure now and before, over the same questions.

    Attributes:
        questions: compared.
        before, now: means.
        low, high: 95% percentile bootstrap interval of the mean difference.
        p: one-sided p-value of a drop by the paired randomisation test.
        effect: Cohen's d of the differences; 0 where they do not vary.
        worse, better: questions.
    """

    questions: int
    before: float
    now: float
    low: float
    high: float
    p: float
    effect: float
    worse: int
    better: int

    @property
    def difference(self) -> float:
        """Now minus before."""
        return self.now - self.before


def compare(before: Mapping[str, float], now: Mapping[str, float]) -> Comparison | None:
    """Compare a measure over the questions that both have; None where they share none."""
    shared = [question for question in before if question in now]
    if not shared:
        return None
    old = np.array([before[question] for question in shared])
    new = np.array([now[question] for question in shared])
    differences = new - old
    low, high = bootstrap_interval(differences)
    return Comparison(
        questions=len(shared),
        before=float(old.mean()),
        now=float(new.mean()),
        low=low,
        high=high,
        p=randomisation_p(differences),
        effect=effect_size(differences),
        worse=int((differences < -_ROUNDING).sum()),
        better=int((differences > _ROUNDING).sum()),
    )


def randomisation_p(differences: Floats) -> float:
    """Return the one-sided p-value of a drop: how often random signs give a mean at least as low.

    Fisher's paired randomisation test (Smucker, Allan and Carterette, CIKM 2007). Differences of 0 are the same under
    every sign and are left out. Up to 16 others, all patterns are counted; beyond, 10,000 are drawn with a fixed seed,
    and the observed one counts among them (Phipson and Smyth 2010).
    """
    moved = differences[np.abs(differences) > _ROUNDING]
    count = len(moved)
    if count == 0:
        return 1.0
    observed = float(moved.sum()) + _ROUNDING * count
    magnitudes = np.abs(moved)
    if count <= _EXACT:
        patterns = np.arange(1 << count)[:, None] >> np.arange(count) & 1
        return float(((patterns * 2 - 1) @ magnitudes <= observed).mean())
    rng = np.random.default_rng(_SEED)
    as_low = 0
    for _ in range(_DRAWN // _BLOCK):
        signs = rng.integers(0, 2, size=(_BLOCK, count), dtype=np.int8) * 2.0 - 1.0
        as_low += int((signs @ magnitudes <= observed).sum())
    return (1 + as_low) / (1 + _DRAWN)


def bootstrap_interval(differences: Floats, *, confidence: float = 0.95) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean, over questions (Sakai, SIGIR 2006)."""
    rng = np.random.default_rng(_SEED)
    count = len(differences)
    # Blocks bound the memory: a log of 100,000 questions would take gigabytes at once.
    step = max(1, min(_DRAWN, 10_000_000 // count))
    means = np.concatenate(
        [
            differences[rng.integers(0, count, size=(min(step, _DRAWN - start), count))].mean(axis=1)
            for start in range(0, _DRAWN, step)
        ]
    )
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, (tail, 1 - tail))
    return float(low), float(high)


def effect_size(differences: Floats) -> float:
    """Return Cohen's d of paired differences: their mean in units of their standard deviation."""
    spread = float(differences.std(ddof=1)) if len(differences) > 1 else 0.0
    return float(differences.mean()) / spread if spread > _ROUNDING else 0.0


def holm(p_values: Sequence[float], alpha: float) -> list[bool]:
    """Say which hypotheses to reject, so that any false rejection has a chance of at most *alpha* (Holm 1979)."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    rejected = [False] * len(p_values)
    for place, at in enumerate(order):
        if p_values[at] > alpha / (len(order) - place):
            break
        rejected[at] = True
    return rejected


def mean_bounds(shares: Floats, *, quantile: float = 2.326) -> tuple[float, float]:
    """Return one-sided bounds of a mean of shares in [0, 1], each at 99% by the normal approximation.

    One more question that missed half is imagined: a sample that happens to hold no miss would otherwise be certain of
    perfection.
    """
    imagined = np.append(shares, min(0.5, float(shares.mean())))
    error = quantile * float(imagined.std(ddof=1)) / math.sqrt(len(imagined))
    return max(0.0, float(shares.mean()) - error), min(1.0, float(shares.mean()) + error)

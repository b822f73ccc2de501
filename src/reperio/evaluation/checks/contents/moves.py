"""Tell what moved between two counts of the same chunks, and whether deleted and new chunks explain it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from reperio.evaluation.contents import marks
from reperio.evaluation.contents.profile import Profile, SourceProfile, reach
from reperio.evaluation.limits import GateLimits
from reperio.evaluation.subject import Subject
from reperio.evaluation.verdicts import CheckResult, Verdict

ACCEPT = "if this is meant, accept it: reperio gate --accept"
SHOWN = 6  # lines of evidence of a check
_LEAST = 3  # chunks; fewer are an edit by hand


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two profiles that are compared, and the limits."""

    before: Profile
    now: Profile
    limits: GateLimits

    @property
    def same_chunks(self) -> bool:
        """Whether both hold chunks with exactly the same ids."""
        return bool(self.before.marks) and not marks.changed(self.before.marks, self.now.marks, "ids")

    def deleted(self) -> float:
        """Return how many chunks were deleted at most, all but certainly, whether or not others came."""
        fewer = self.before.count - self.now.count
        buckets = len(marks.changed(self.before.marks, self.now.marks, "ids")) if self.before.marks else marks.BUCKETS
        most = (marks.most_changes(buckets) + fewer) / 2
        return max(0.0, fewer, min(most, self._by_sketch()))

    def _by_sketch(self) -> float:
        followed = {key for key in self.before.sketch if key <= reach(self.now)}
        if not followed:
            return float(self.before.count)
        gone = len(followed - set(self.now.sketch)) / len(followed)
        error = 3 * math.sqrt(gone * (1 - gone) / len(followed)) + 4 / len(followed)
        return self.before.count * min(1.0, gone + error)

    def sources(self) -> Iterator[tuple[str, SourceProfile, SourceProfile]]:
        """Yield the sources that both have, with their name."""
        for name, before in self.before.sources.items():
            now = self.now.sources.get(name)
            if now is not None:
                yield name, before, now

    def is_surprising(self, before: int, of_before: int, now: int, of_now: int) -> bool:
        """Say whether two shares differ by more than chance, where chunks came or went; else nothing is chance."""
        if self.same_chunks:
            return True
        if not of_before or not of_now:
            return False
        share = (before + now) / (of_before + of_now)
        error = math.sqrt(share * (1 - share) * (1 / of_before + 1 / of_now))
        return abs(now / of_now - before / of_before) > self.limits.surprise * error


def comparison(subject: Subject) -> Comparison | None:
    """Return what is compared; None where the baseline knows nothing of the contents."""
    baseline = subject.baseline
    if baseline is None or baseline.profile is None or not baseline.profile.is_detailed:
        return None
    return Comparison(baseline.profile, subject.survey.profile, subject.limits)


def not_compared(name: str, subject: Subject) -> CheckResult:
    """Return why a check has nothing to compare with."""
    if subject.baseline is None or subject.baseline.profile is None:
        return CheckResult(name, Verdict.SKIP, ("there is no baseline; reperio gate --accept writes it",))
    # Not skipped: green because nothing was looked at is what nobody would notice.
    line = "the baseline is of an earlier version, and knows nothing of this; reperio gate --accept writes a new one"
    return CheckResult(name, Verdict.WARN, (line,), "nothing was compared: accept a new baseline")


def lost(before: Mapping[str, int], now: Mapping[str, int]) -> int:
    """Return how many chunks left the classes they were in: new chunks cannot make a count smaller."""
    return sum(max(0, count - now.get(name, 0)) for name, count in before.items())


def is_moved(count: float, of: int, limit: float) -> bool:
    """Say whether so many chunks of a source are too many to have moved; deleted ones are taken off before."""
    if limit == 0:
        return count >= 1
    return count >= _LEAST and count > limit * of


def named(source: str, compared: Comparison) -> str:
    """Return how a source is called in a sentence; nothing where there is only one."""
    if len(compared.before.sources) < 2 and len(compared.now.sources) < 2:
        return ""
    return f" in {source!r}" if source else " where no source is told"


def examples(ids: Sequence[str]) -> str:
    """Return up to three ids for the end of a sentence."""
    return f", e.g. {', '.join(map(repr, ids[:3]))}" if ids else ""


def shown(lines: Sequence[str]) -> tuple[str, ...]:
    """Return as many lines as a report shows, and how many there are besides."""
    rest = len(lines) - SHOWN
    return (*lines[:SHOWN], *((f"and {rest} more like these",) if rest > 0 else ()))

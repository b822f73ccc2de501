"""Record what a check found, and what all of them together mean."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any


class Verdict(str, enum.Enum):
    """The outcome of a check. A member equals its string."""

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"
    ERROR = "error"


_SEVERITY = (Verdict.FAIL, Verdict.ERROR, Verdict.WARN, Verdict.PASS, Verdict.SKIP)


@dataclass(frozen=True, slots=True)
class FailedQuery:
    """One question of the golden set that is part of the evidence.

    Attributes:
        id: of the question.
        text: the question.
        expected: ids that should have come, best grade first.
        came: ids that came, best first.
        why: what is wrong with that, in a few words.
    """

    id: str
    text: str
    expected: tuple[str, ...]
    came: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check.

    Attributes:
        name: of the check, as in docs/gate.md.
        verdict: how it ended.
        evidence: what was measured, one line each.
        cause: the likely cause and the cure, in words; empty where nothing is wrong.
        queries: the questions that show it, worst first.
        figures: what was measured, for machines.
        seconds: that it took.
    """

    name: str
    verdict: Verdict
    evidence: tuple[str, ...] = ()
    cause: str = ""
    queries: tuple[FailedQuery, ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class GateReport:
    """The result of the gate.

    Attributes:
        collection: its path, or what stands for it.
        checks: in the order in which they ran.
        made: UTC time, ISO 8601.
        facts: chunks, versions, machine: what the figures belong to.
        seconds: that it took.
        texts: beginnings of the texts of chunks that the evidence names, by id, where they are known.
        strict: whether a warning is red as well.
    """

    collection: str
    checks: Sequence[CheckResult]
    made: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    texts: Mapping[str, str] = field(default_factory=dict)
    strict: bool = False

    @property
    def passed(self) -> bool:
        """True when something was checked and nothing is wrong."""
        return self.exit_code == 0

    @property
    def exit_code(self) -> int:
        """0 pass, 1 fail, 2 could not run; never 0 when nothing was checked."""
        found = {check.verdict for check in self.checks}
        # A failure is known for certain, whatever else could not run.
        if Verdict.FAIL in found or (self.strict and Verdict.WARN in found):
            return 1
        # A warning was checked as well: what is warned of does not stop a deployment.
        return 0 if Verdict.ERROR not in found and found & {Verdict.PASS, Verdict.WARN} else 2

    @property
    def failing(self) -> list[FailedQuery]:
        """The questions that show what is wrong, each once, with what every check says of it; failed checks first."""
        found: dict[str, FailedQuery] = {}
        for check in self.by_severity:
            if check.verdict in (Verdict.FAIL, Verdict.ERROR, Verdict.WARN):
                for query in check.queries:
                    known = found.get(query.id)
                    why = f"{check.name}: {query.why}"
                    found[query.id] = replace(known or query, why=f"{known.why}; {why}" if known else why)
        return list(found.values())

    @property
    def summary(self) -> str:
        """One line: the outcome, and which checks are red."""
        red = [check.name for check in self.checks if check.verdict in (Verdict.FAIL, Verdict.ERROR)]
        warned = [check.name for check in self.checks if check.verdict is Verdict.WARN]
        outcome = {0: "pass", 1: "fail", 2: "could not run"}[self.exit_code]
        ran = sum(check.verdict is not Verdict.SKIP for check in self.checks)
        told = [f"{outcome}: {ran} of {len(self.checks)} checks ran"]
        told += [f"red: {', '.join(red)}"] if red else []
        told += [f"warnings{' (red: --strict)' if self.strict else ''}: {', '.join(warned)}"] if warned else []
        return "; ".join(told)

    @property
    def by_severity(self) -> list[CheckResult]:
        """The checks: failed, errors, warnings, then what is well, each in the order of running."""
        return sorted(self.checks, key=lambda check: _SEVERITY.index(check.verdict))

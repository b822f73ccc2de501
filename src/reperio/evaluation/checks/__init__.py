"""The checks, one function each: a `Subject` in, a `CheckResult` out; docs/gate.md says when each is red."""

from reperio.evaluation.checks.drift import drift
from reperio.evaluation.checks.embedding import contract
from reperio.evaluation.checks.integrity import filtering, integrity, reachable
from reperio.evaluation.checks.labelled import filtered_answers, golden_ids, nothing_above, thresholds
from reperio.evaluation.checks.neighbours import neighbours
from reperio.evaluation.checks.regression import regression
from reperio.evaluation.checks.restoring import restoring
from reperio.evaluation.checks.serving import latency, replayed

__all__ = [
    "contract",
    "drift",
    "filtered_answers",
    "filtering",
    "golden_ids",
    "integrity",
    "latency",
    "neighbours",
    "nothing_above",
    "reachable",
    "regression",
    "replayed",
    "restoring",
    "thresholds",
]

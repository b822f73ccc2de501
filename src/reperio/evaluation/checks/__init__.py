"""The checks, one function each: a `Subject` in, a `CheckResult` out; docs/gate.md says when each is red."""

from recollect.evaluation.checks.drift import drift
from recollect.evaluation.checks.embedding import contract
from recollect.evaluation.checks.integrity import filtering, integrity, reachable
from recollect.evaluation.checks.labelled import filtered_answers, golden_ids, nothing_above, thresholds
from recollect.evaluation.checks.neighbours import neighbours
from recollect.evaluation.checks.regression import regression
from recollect.evaluation.checks.restoring import restoring
from recollect.evaluation.checks.serving import latency, replayed

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

"""The gate: may this collection go to production? docs/gate.md is its design.

from reperio.evaluation import gate, read_baseline, read_golden

report = gate(kb, read_golden("golden.yaml"), baseline=read_baseline("golden.baseline.json"))
assert report.passed, report.summary
"""

from reperio.evaluation.asking import Search
from reperio.evaluation.baseline import Baseline, baseline_path, read_baseline, write_baseline
from reperio.evaluation.deployed import Deployed, Endpoint, from_langchain, from_llama_index, read_run, write_run
from reperio.evaluation.gate import NAMES, acceptable, gate, judged, to_baseline
from reperio.evaluation.golden.questions import GoldenQuery, GoldenSet, read_golden, to_limits
from reperio.evaluation.limits import GateLimits
from reperio.evaluation.statistics.comparing import Comparison, compare
from reperio.evaluation.subject import Subject
from reperio.evaluation.verdicts import CheckResult, FailedQuery, GateReport, Verdict

__all__ = [
    "NAMES",
    "Baseline",
    "CheckResult",
    "Comparison",
    "Deployed",
    "Endpoint",
    "FailedQuery",
    "GateLimits",
    "GateReport",
    "GoldenQuery",
    "GoldenSet",
    "Search",
    "Subject",
    "Verdict",
    "acceptable",
    "baseline_path",
    "compare",
    "from_langchain",
    "from_llama_index",
    "gate",
    "judged",
    "read_baseline",
    "read_golden",
    "read_run",
    "to_baseline",
    "to_limits",
    "write_baseline",
    "write_run",
]

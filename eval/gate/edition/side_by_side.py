"""Time the gate on 100,000 chunks with 200 questions, next to that of an earlier commit, in alternating rounds.

    python eval/gate/edition/side_by_side.py --work DIR [--before c21a6cd] [--rounds 5] [--out FILE]

Each run is `reperio gate` on the command line, in a process of its own, against the baseline that the same gate has
accepted: with Python's start, and the loading of the model and the index. Both sides gate one collection. What a
shared machine does to the time on the clock it does less to the processor's, so both are written. It needs what
eval/README.md says of data, and git.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
sys.path.insert(0, str(Path(__file__).parents[2] / "reranking"))

from at_scale import QUESTIONS, ROWS, prepared
from before import checked_out, git
from measuring import machine

ROOT = Path(__file__).resolve().parents[3]
SECOND_EDITION = "c21a6cd"  # the last commit before it
_GREEN_OR_RED = (0, 1)


class Side:
    """A gate of one checkout, with a baseline of its own.

    Args:
        name: what the page calls it.
        checkout: the root of the sources.
        collection, golden: what is gated.
        baseline: where its own is kept.
    """

    def __init__(self, name: str, checkout: Path, collection: Path, golden: Path, baseline: Path) -> None:
        self.name, self._baseline, self._checkout = name, baseline, checkout
        self._command = [sys.executable, "-m", "reperio", "gate", str(collection), "--golden", str(golden)]
        self._command += ["--baseline", str(baseline), "--json"]
        self.runs: list[dict[str, Any]] = []

    def accept(self) -> None:
        """Accept what is there as the baseline."""
        self._baseline.unlink(missing_ok=True)
        self._run("--accept")

    def measure(self) -> None:
        """Gate once, and keep what it took."""
        self.runs.append(self._run())

    def figures(self) -> dict[str, Any]:
        """Return medians over the rounds, with the least and the greatest."""
        found: dict[str, Any] = {
            name: [round(call(run[name] for run in self.runs), 1) for call in (statistics.median, min, max)]
            for name in ("seconds", "processor", "gib")
        }
        checks = {name: [run["checks"][name] for run in self.runs] for name in self.runs[0]["checks"]}
        return found | {"checks": {name: round(statistics.median(times), 1) for name, times in checks.items()}}

    def _run(self, *options: str) -> dict[str, Any]:
        environment = {**os.environ, "PYTHONPATH": str(self._checkout / "src"), "OMP_NUM_THREADS": "1"}
        output = self._baseline.with_suffix(".out")
        started = time.perf_counter()
        with output.open("wb") as file:
            process = subprocess.Popen([*self._command, *options], stdout=file, env=environment)
            _, status, used = os.wait4(process.pid, 0)  # no other call tells what this one process has used
            process.returncode = os.waitstatus_to_exitcode(status)
        taken = time.perf_counter() - started
        if process.returncode not in _GREEN_OR_RED:
            raise SystemExit(f"{' '.join(self._command)} ended with {process.returncode}")
        content = json.loads(output.read_bytes())
        return {
            "seconds": taken,
            "processor": used.ru_utime + used.ru_stime,
            "gib": used.ru_maxrss / 2**20,
            "checks": {check["name"]: check["seconds"] for check in content["checks"]},
        }


def page(found: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    sides = found["sides"]
    names = list(sides)
    lines = [
        "# The gate on 100,000 chunks, next to the one before",
        "",
        f"`python eval/gate/edition/side_by_side.py`: {found['rows']:,} chunks, {found['questions']} questions, "
        f"{found['rounds']} alternating rounds, one thread for FAISS and the model. The machine "
        f"({found['machine']['cpu']}, {found['machine']['cores']} cores) had a load of {found['load']:.1f} before "
        "the first. Medians, with the least and the greatest.",
        "",
        f"| | {' | '.join(names)} |",
        f"|---|{'---:|' * len(names)}",
    ]
    for what, key in (("seconds", "seconds"), ("processor, seconds", "processor"), ("memory at most, GiB", "gib")):
        cells = ("{} ({} to {})".format(*sides[name][key]) for name in names)
        lines.append(f"| {what} | {' | '.join(cells)} |")
    lines += ["", f"| check, seconds | {' | '.join(names)} |", f"|---|{'---:|' * len(names)}"]
    checks = dict.fromkeys(check for name in names for check in sides[name]["checks"])
    for check in checks:
        times = [sides[name]["checks"].get(check) for name in names]
        if any(time is not None and time >= 0.1 for time in times):
            cells = ("–" if time is None else f"{time:.1f}" for time in times)
            lines.append(f"| {check} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="a directory for the collection")
    parser.add_argument("--before", default=SECOND_EDITION, help="commit to compare with (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="a .json, with a .md next to it")
    options = parser.parse_args(arguments)
    options.work.mkdir(parents=True, exist_ok=True)
    collection, golden = prepared(options.work)
    load = os.getloadavg()[0]
    with checked_out(options.before) as earlier:
        sides = [
            Side(name, checkout, collection, golden, options.work / f"{place}.baseline.json")
            for place, (name, checkout) in enumerate(
                ((f"before ({git('rev-parse', '--short', options.before)})", earlier), ("this edition", ROOT))
            )
        ]
        for side in sides:
            side.accept()
        for _ in range(options.rounds):
            for side in sides:
                side.measure()
    found = {
        "rows": ROWS, "questions": QUESTIONS, "rounds": options.rounds, "load": round(load, 1), "machine": machine(),
        "sides": {side.name: side.figures() for side in sides},
    }  # fmt: skip
    text = page(found)
    if options.out is not None:
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        options.out.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

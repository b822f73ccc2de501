"""Fuzzing guided by coverage: libFuzzer changes the bytes from which Hypothesis draws, and keeps what reaches new code.

Run as ``python -m tests.fault.guided TARGET CORPUS [libFuzzer's options]``. Needs ``pip install atheris``.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

from tests.crash.processes import ENVIRONMENT

_LIMITS = ("-max_len=4096", "-len_control=0", "-timeout=60", "-rss_limit_mb=4096")
"""Bytes of input, long ones from the beginning, for a drawing takes many; seconds and memory that one may take."""


def fuzz_guided(target: str, number: int, seconds: int, corpus: Path, directory: Path) -> Counter[str]:
    """Let libFuzzer look for what *target* does not survive, beginning with what earlier trials kept in *corpus*.

    Raises:
        AssertionError: something was found; its input is in the message, in hexadecimal digits.
        ModuleNotFoundError: atheris is not installed.
    """
    if find_spec("atheris") is None:
        raise ModuleNotFoundError("fuzzing guided by coverage needs atheris: pip install atheris")
    corpus.mkdir(exist_ok=True)
    before = len(list(corpus.iterdir()))
    found = directory / "found-"
    options = [f"-max_total_time={seconds}", f"-seed={number + 1}", f"-artifact_prefix={found}", "-print_final_stats=1"]
    ended = subprocess.run(
        [sys.executable, "-m", "tests.fault.guided", target, str(corpus), *options, *_LIMITS],
        env={**ENVIRONMENT, "TMPDIR": str(directory)},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds + 300,
        check=False,
    )
    inputs = re.search(r"number_of_executed_units: *(\d+)", ended.stderr)
    finds = {path.name: path.read_bytes().hex() for path in directory.glob("found-*")}
    assert ended.returncode == 0, f"status {ended.returncode}, input {finds}\n{ended.stdout}\n{ended.stderr[-3000:]}"
    assert inputs, f"libFuzzer tells nothing: {ended.stderr[-3000:]}"
    return Counter({"inputs": int(inputs[1]), "reached something new": len(list(corpus.iterdir())) - before})


def main(target: str, corpus: str, *options: str) -> None:
    """Fuzz until the time is over, which ends the process."""
    import atheris

    with atheris.instrument_imports(include=["reperio"]):
        from hypothesis import HealthCheck, settings

        from tests.fault.fuzzing import TARGETS

    with TARGETS[target]() as test:
        bounded = settings(database=None, deadline=None, suppress_health_check=list(HealthCheck))(test)
        atheris.Setup(["fuzz", corpus, *options], bounded.hypothesis.fuzz_one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A child process with its memory watched from outside, stage by stage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from measuring import Figures

SAMPLE_SECONDS = 0.05
_FIELDS = {"RssAnon:": "anonymous_kib", "RssFile:": "mapped_kib", "VmHWM:": "high_water_kib"}


class StageFailed(Exception):
    """A child process ended without a result."""


@dataclass
class Outcome:
    """What a child did.

    Attributes:
        result: what it reported.
        peaks: the most memory by kind, in KiB, over its whole life.
        stage_peaks: the same by stage.
        segments: (stage, seconds, last count reported), in the order of their beginning; "start" until the first.
    """

    result: Figures = field(default_factory=dict)
    peaks: dict[str, int] = field(default_factory=dict)
    stage_peaks: dict[str, dict[str, int]] = field(default_factory=dict)
    segments: list[tuple[str, float, int]] = field(default_factory=list)


def report(**message: Any) -> None:
    """In a child: tell the parent something; ``stage=`` and ``done=``, or ``result=`` at the end."""
    print(json.dumps(message), flush=True)


def memory(pid: int | str = "self") -> dict[str, int]:
    """Return a process's memory now, in KiB: anonymous, mapped, and the most it ever had; empty once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    parts = (line.split() for line in lines)
    return {_FIELDS[part[0]]: int(part[1]) for part in parts if part and part[0] in _FIELDS}


def run(script: Path, arguments: list[str], environment: Mapping[str, str] | None = None) -> Outcome:
    """Run *script* in a child process and watch it.

    Sampled from outside, because a sampling thread of the child would wait for the interpreter's lock while memory is
    at its highest.

    Raises:
        StageFailed: the child failed, or reported no result.
    """
    outcome = Outcome()
    command, whole = [sys.executable, str(script), *arguments], dict(os.environ) | dict(environment or {})
    stage, ended = ["start"], threading.Event()
    began, done = time.perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=whole) as child:
        watcher = threading.Thread(target=_watch, args=(child.pid, stage, outcome, ended), daemon=True)
        watcher.start()
        try:
            assert child.stdout is not None  # a pipe
            for line in child.stdout:
                message = json.loads(line)
                outcome.result = message.get("result", outcome.result)
                if message.get("stage", stage[0]) != stage[0]:
                    outcome.segments.append((stage[0], time.perf_counter() - began, done))
                    stage[0], began, done = message["stage"], time.perf_counter(), 0
                done = message.get("done", done)
        except BaseException:
            child.kill()
            raise
        finally:
            status = child.wait()
            ended.set()
            watcher.join()
    outcome.segments.append((stage[0], time.perf_counter() - began, done))
    if status != 0 or not outcome.result:
        raise StageFailed(f"{script.name} {arguments[0]} ended with status {status}; its message is above")
    return outcome


def _watch(pid: int, stage: list[str], outcome: Outcome, ended: threading.Event) -> None:
    while not ended.wait(SAMPLE_SECONDS):
        now = memory(pid)
        for peaks in (outcome.peaks, outcome.stage_peaks.setdefault(stage[0], {})):
            for kind, value in now.items():
                peaks[kind] = max(peaks.get(kind, 0), value)

"""What processes hold: open files, memory, and the write-ahead log that they make together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

HANDLES = 400
"""Open files of one process: a connection for each of a dozen threads, to two generations, three files each."""

GROWTH_BYTES = 192 << 20
"""Resident memory that a process may gain between the second quarter of a soak and its end, whatever its length."""


class Sample(NamedTuple):
    """One look: per process, open files and resident bytes; bytes of the largest log."""

    handles: tuple[int, ...]
    memory: tuple[int, ...]
    log: int


@dataclass
class Watched:
    """Processes and the collection that they work on."""

    processes: Sequence[int]
    collection: Path
    samples: list[Sample] = field(default_factory=list)

    def sample(self) -> None:
        """Look once."""
        handles = tuple(_handles(pid) for pid in self.processes)
        memory = tuple(_resident(pid) for pid in self.processes)
        self.samples.append(Sample(handles, memory, _log(self.collection)))


def require_bounded(watched: Watched, *, log_bytes: int) -> None:
    """Require that nothing grew: handles and log by what they may be, memory by what it was in the second quarter."""
    samples = watched.samples
    assert len(samples) >= 8, "too few samples to tell"
    handles = max(max(sample.handles) for sample in samples)
    assert handles <= HANDLES, f"{handles} open files"
    log = max(sample.log for sample in samples)
    assert log <= log_bytes, f"the write-ahead log reached {log:,} bytes"
    quarter = len(samples) // 4
    for process in range(len(watched.processes)):
        early = max(sample.memory[process] for sample in samples[quarter : 2 * quarter])
        late = max(sample.memory[process] for sample in samples[-quarter:])
        assert late <= early + GROWTH_BYTES, f"process {process} grew from {early:,} to {late:,} bytes"


def summary(watched: Watched) -> dict[str, int]:
    """Return the largest figures, for a report."""
    return {
        "open files of a process": max(max(sample.handles) for sample in watched.samples),
        "resident MiB of a process": max(max(sample.memory) for sample in watched.samples) >> 20,
        "KiB of log": max(sample.log for sample in watched.samples) >> 10,
    }


def _handles(pid: int) -> int:
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return 0


def _resident(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:")), 0)


def _log(collection: Path) -> int:
    sizes = [0]
    for path in collection.glob("gen-*/chunks.db-wal"):
        try:
            sizes.append(path.stat().st_size)
        except FileNotFoundError:
            continue  # that generation has just been retired
    return max(sizes)

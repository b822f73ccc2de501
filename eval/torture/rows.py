"""The rows of the campaign: what is done to a collection, how often, and what must hold."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tests.concurrency import forking
from tests.crash.calls import kill_at, points
from tests.crash.kills import PER_COLLECTION, kill_again_and_again
from tests.crash.pair import kill_one_at, pair_points
from tests.crash.small_disk import CASES, run_on_small_disk
from tests.crash.turns import kill_many
from tests.fault.backups import back_up_amid_writes, open_old_format
from tests.fault.damages import DATABASE, SNAPSHOT, VECTORS, damage, examine, make_original
from tests.fault.endings import ENDINGS, end
from tests.fault.fuzzing import TARGETS
from tests.fault.guided import fuzz_guided
from tests.fault.power import fail_power
from tests.fault.recording import record
from tests.fault.refusing import live, refusals, refuse, refuse_then_kill, wal_syncs
from tests.fault.soak import soak

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]
TURN_KILLS = 50
KILLS = 1000
AT_ONCE = 50  # damages per examining process
SOAK_SECONDS = 3600.0
FUZZ_MINUTES = 30
_FORKS = sorted(forking.CASES.keys() - {"another_user_reads"})  # that one wants a directory open to others
WRITES_AFTER = 6  # calls after a refused sync, at each of which the process is killed


def _nothing(_directory: Path) -> Any:
    return None


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        what: is done, for people.
        must: hold.
        size: trials; a function of what `prepare` returned where only that tells.
        trial: does one, in an empty directory, and returns what it met; a failed assertion is a failure of the row.
        prepare: makes what all trials of one process share.
        each: how many cases one trial is.
        unit: what a case is called.
    """

    what: str
    must: str
    size: int | Callable[[Any], int]
    trial: Callable[[Any, int, Path], Counter[str]]
    prepare: Callable[[Path], Any] = _nothing
    each: int = 1
    unit: str = "trials"

    def count(self, prepared: Any) -> int:
        """Return the number of trials."""
        return self.size if isinstance(self.size, int) else self.size(prepared)


def _recorded(directory: Path) -> Any:
    return record(directory / "recorded"), directory / "recorded"


def _shuffled(found: Sequence[T]) -> list[T]:
    """Put them in an order in which the first hundred are a fair sample."""
    return random.Random(0).sample(found, len(found))


def _syncs(directory: Path) -> Any:
    return wal_syncs(refusals(directory / "refusals"), live(directory / "life"))


def _originals(directory: Path) -> Any:
    return [make_original(directory / str(stop), stop) for stop in (5, 6)]


def _damaged(file: str) -> Callable[[Any, int, Path], Counter[str]]:
    def trial(originals: Any, number: int, directory: Path) -> Counter[str]:
        first = number * AT_ONCE
        damages = [damage(originals[0], file, first + offset) for offset in range(AT_ONCE)]
        return examine(damages, originals, directory / "work")

    return trial


def _small_disk(_prepared: Any, number: int, directory: Path) -> Counter[str]:
    case = sorted(CASES)[number % len(CASES)]
    run_on_small_disk(case, directory, str(number + 1))
    return Counter({case: 1})


def _forked(_prepared: Any, number: int, directory: Path) -> Counter[str]:
    case = _FORKS[number % len(_FORKS)]
    command = [sys.executable, "-m", "tests.concurrency.forking", str(directory), case]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return Counter({case.replace("_", " "): 1})


def _hostile(_prepared: Any, _number: int, directory: Path) -> Counter[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/fault/test_hostile.py"]
    done = subprocess.run(
        [*command, "--basetemp", str(directory / "base")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:]
    counts = [part.split() for part in done.stdout.strip().splitlines()[-1].partition(" in ")[0].split(",")]
    return Counter({word: int(number) for number, word in counts})


_DAMAGED_MUST = (
    "whatever touches live data is found by check(); no search and no get returns anything but what was stored; "
    "check(fix=True) keeps only what is whole, and lists the rest"
)

ROWS: dict[str, Row] = {
    "kills": Row(
        "SIGKILL at a random moment, five writers of one collection in turn",
        "opens; nothing acknowledged lost, no batch half visible, no foreign answer, check() clean",
        KILLS // PER_COLLECTION,
        lambda _, number, directory: kill_again_and_again(number, directory),
        each=PER_COLLECTION,
        unit="kills",
    ),
    "turns": Row(
        "SIGKILL at a random moment, one of eight writers and eight readers of one collection, the others going on",
        "what each writer was told is there, whoever was killed; no reader meets anything else meanwhile; check() "
        "clean, no file left, and after compact no more than 1.2 times what the same chunks take in a new collection",
        KILLS // TURN_KILLS,
        lambda _, number, directory: kill_many(number, directory, kills=TURN_KILLS),
        each=TURN_KILLS,
        unit="kills",
    ),
    "turn-calls": Row(
        "SIGKILL at every sync, rename, removal, truncation and write of one of two writers that alternate",
        "the other goes on at once without opening again; what both were told is there, check() clean, no file left",
        len,
        lambda found, number, directory: kill_one_at(found[number], directory / "work"),
        lambda directory: _shuffled(pair_points(directory / "traced")),
    ),
    "calls": Row(
        "SIGKILL at every sync, rename, removal, truncation and write of a scripted life",
        "the same",
        len,
        lambda found, number, directory: kill_at(found[number], directory / "work"),
        lambda directory: _shuffled(points(directory / "traced")),
    ),
    "refused": Row(
        "ENOSPC and EIO, once and from then on, at every write and sync of that life",
        "typed error, old state readable, writable again",
        len,
        lambda found, number, directory: refuse(found[number], directory / "work"),
        lambda directory: _shuffled(refusals(directory / "refusals")),
    ),
    "refused-then-killed": Row(
        "a commit's sync refused, then SIGKILL at one of the writes that follow",
        "no chunk has a foreign vector",
        lambda syncs: len(syncs) * WRITES_AFTER,
        lambda syncs, number, directory: refuse_then_kill(
            syncs[number // WRITES_AFTER], 1 + number % WRITES_AFTER, directory
        ),
        _syncs,
    ),
    "small-disk": Row(
        "a tmpfs of 3 MiB filled up, with random space left",
        "typed error, old state readable, writable again",
        200,
        _small_disk,
    ),
    "power": Row(
        "power lost at a random call: what was not synced is lost, kept, a prefix, reordered, torn or zeros",
        "acknowledged rows present, and acknowledged incremental backups",
        1000,
        lambda recorded, number, directory: fail_power(
            recorded[0], recorded[1], number=number, directory=directory / "work"
        ),
        _recorded,
    ),
    "snapshots": Row(
        "the index file damaged: bits, bytes, blocks, cut, longer, another's, hostile headers",
        "no crash, no wrong answer, refused",
        10_000 // AT_ONCE,
        _damaged(SNAPSHOT),
        _originals,
        each=AT_ONCE,
        unit="damages",
    ),
    "database": Row(
        "chunks.db damaged at a random offset",
        _DAMAGED_MUST,
        2_000 // AT_ONCE,
        _damaged(DATABASE),
        _originals,
        each=AT_ONCE,
        unit="damages",
    ),
    "vectors": Row(
        "vectors damaged at a random offset",
        _DAMAGED_MUST,
        2_000 // AT_ONCE,
        _damaged(VECTORS),
        _originals,
        each=AT_ONCE,
        unit="damages",
    ),
    "soak": Row(
        "one writer, one builder, four reader processes, eight threads, for an hour",
        "no error, read-your-commit, bounded handles, memory and log",
        1,
        lambda _, number, directory: soak(SOAK_SECONDS, directory, seed=number),
    ),
    "endings": Row(
        f"a process that ends: {', '.join(ENDINGS)}; a second writer beside it, the next one after it",
        "the second writer refused by name, the lock of the dead one free, clean recovery, no hang",
        50 * len(ENDINGS),
        lambda _, number, directory: end(ENDINGS[number % len(ENDINGS)], number, directory),
    ),
    "forks": Row(
        "fork after a search, with the lock held, before the parent is killed",
        "clear refusal or clean recovery, no hang",
        50 * len(_FORKS),
        _forked,
    ),
    "backups": Row(
        "three backups amid writes, restored elsewhere, and without their index",
        "equal content digest, answers equal",
        20,
        lambda _, number, directory: back_up_amid_writes(number, directory),
    ),
    "old-formats": Row(
        "a collection as format version 1 or 2 had it, opened, read and written",
        "equal content digest, answers equal",
        20,
        lambda _, number, directory: open_old_format(number, directory),
    ),
    "hostile": Row("the corpus of hostile arguments", "typed error, nothing outside touched", 1, _hostile),
    **{
        f"fuzz-{name}": Row(
            f"random input for the reader of {name}, guided by coverage",
            "no untyped exception, none over a minute or 4 GiB",
            FUZZ_MINUTES,
            lambda corpus, number, directory, name=name: fuzz_guided(name, number, 60, corpus, directory),
            lambda directory: directory,
            unit="minutes",
        )
        for name in TARGETS
    },
}

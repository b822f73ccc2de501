"""The full campaign: hours of kills, refusals, damage and traffic. Writes eval/results/torture.{json,md}.

It goes on where it was interrupted: what is done is in the results file, trial by trial. ``--repeat ROW:N`` makes one
trial again, on its own: its number is its seed. Several may run at once, each with rows of its own (``--only``).
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from functools import cache
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the tests, which the rows are made of
from progress import Outcome, Results
from rows import ROWS
from torture_page import page
from tree import tree_of

import reperio

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "eval" / "results"
_SAVED_EVERY = 10.0  # seconds


def main() -> None:
    """Do what is missing; exit with 1 when anything failed."""
    asked = _arguments()
    if asked.repeat:
        sys.exit(_repeat(*asked.repeat, asked.work))
    results = Results(asked.results / "torture.json", afresh=asked.afresh)
    with tempfile.TemporaryDirectory(prefix="torture-", dir=asked.work) as work:
        for name in asked.only:
            _do_row(name, asked, results, Path(work))
            _write(results, asked.results)
    failed = {name: row.failed for name, row in results.rows.items() if row.failed and name in asked.only}
    print(f"failed: {failed}" if failed else "nothing failed")
    sys.exit(bool(failed))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=_names, default=list(ROWS), help=f"rows, of {', '.join(ROWS)}")
    parser.add_argument("--trials", type=_range, help="FIRST:STOP, instead of all that are missing")
    parser.add_argument("--repeat", type=_trial, help="ROW:NUMBER, that trial alone; nothing is recorded")
    parser.add_argument("--failed", action="store_true", help="also trials that failed: forget that they did")
    parser.add_argument("--again", action="store_true", help="also trials that are done: forget the rows' results")
    parser.add_argument("--seconds", type=float, help="begin no further trial of a row after so long")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--work", type=Path, help="where to work; a disk, for kills are about disks")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where torture.json and torture.md are")
    parser.add_argument("--afresh", action="store_true", help="forget all results")
    return parser.parse_args()


def _names(text: str) -> list[str]:
    names = text.split(",")
    unknown = sorted(set(names) - ROWS.keys())
    if unknown:
        raise argparse.ArgumentTypeError(f"no row {unknown[0]!r}; there are {', '.join(ROWS)}")
    return names


def _range(text: str) -> range:
    first, _, stop = text.partition(":")
    return range(int(first), int(stop))


def _trial(text: str) -> tuple[str, int]:
    name, _, number = text.rpartition(":")
    return _names(name)[0], int(number)


def _repeat(name: str, number: int, folder: Path | None) -> int:
    with tempfile.TemporaryDirectory(prefix="torture-", dir=folder) as work:
        outcome = attempt(name, number, work)
    print(outcome.error or dict(outcome.tally))
    return bool(outcome.error)


def _do_row(name: str, asked: argparse.Namespace, results: Results, work: Path) -> None:
    row, progress = ROWS[name], results.row(name, again=asked.again)
    if asked.failed:
        progress.forget_failed()
    progress.size = row.count(_prepared(name, str(work)))
    wanted = range(progress.size) if asked.trials is None else asked.trials  # an empty range is none
    missing = iter(progress.missing(range(wanted.start, min(wanted.stop, progress.size))))
    begun = saved = time.monotonic()
    with _pool(1 if name == "soak" else asked.jobs) as pool:  # a soak is a dozen processes by itself
        running: set[Future[Outcome]] = set()
        while True:
            if asked.seconds is None or time.monotonic() - begun < asked.seconds:
                running |= {
                    pool.submit(attempt, name, n, str(work)) for n in islice(missing, asked.jobs - len(running))
                }
            if not running:
                break
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                progress.take(_told(name, future.result()))
            if time.monotonic() - saved > _SAVED_EVERY:
                results.save()
                saved = time.monotonic()
    print(f"{name}: {progress.count:,} of {progress.size:,}, {len(progress.failed)} failed, {progress.seconds:,.0f} s")


@contextmanager
def _pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    # Spawned, not forked: the trials fork and count threads themselves.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield pool


def _told(name: str, outcome: Outcome) -> Outcome:
    if outcome.error:
        print(f"{name}: trial {outcome.number} failed: {outcome.error.strip().splitlines()[-1][:200]}", flush=True)
    return outcome


def attempt(name: str, number: int, work: str) -> Outcome:
    """Make one trial, in this process, in a directory of its own."""
    _tree()  # before anything else, while it is what has just been imported
    warnings.simplefilter("error", reperio.ReperioWarning)  # an index that had to be rebuilt is a finding here
    prepared = _prepared(name, work)
    begun, error, tally = time.monotonic(), "", Counter[str]()
    directory = Path(tempfile.mkdtemp(prefix=f"{name}-{number}-", dir=work))
    try:
        tally = ROWS[name].trial(prepared, number, directory)
    except Exception:
        error = _anywhere(traceback.format_exc(), directory)
    shutil.rmtree(directory, ignore_errors=True)
    return Outcome(number, tally, time.monotonic() - begun, _tree(), error)


def _anywhere(text: str, directory: Path) -> str:
    """Take out where this machine has its files."""
    for here in (f"{ROOT}/", f"{directory}/", f"{sys.prefix}/", f"{sys.base_prefix}/"):
        text = text.replace(here, "")
    return text


@cache
def _tree() -> str:
    tested = Path(reperio.__file__).is_relative_to(ROOT / "src")
    return tree_of(ROOT, "src") if tested else f"another: reperio {reperio.__version__}"


@cache
def _prepared(name: str, work: str) -> Any:
    return ROWS[name].prepare(Path(tempfile.mkdtemp(prefix=f"{name}-prepared-", dir=work)))


def _write(results: Results, folder: Path) -> None:
    results.save()
    (folder / "torture.md").write_text(page(results))


if __name__ == "__main__":
    main()

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from .plan import State, random_operation
from .processes import Run, possible
from .verification import check_no_creation_left, verify

KILLS = int(os.environ.get("RECOLLECT_KILLS", "40"))
PER_COLLECTION = 5
LONGEST = 0.5  # seconds from the worker's start of work to its death

pytestmark = pytest.mark.crash


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(-(-KILLS // PER_COLLECTION)))
def test_nothing_acknowledged_is_lost_by_random_kills(seed: int, tmp_path: Path) -> None:
    """A collection whose writers are killed one after another holds what was acknowledged, or one step more."""
    rng = random.Random(seed)
    state: State = {}
    first, amid, opened = 0, 0, False
    for kill in range(PER_COLLECTION):
        run = Run(tmp_path, "random", seed=seed, first=first, auto=bool(seed % 2))
        # The first one dies early, amid the creation more often than not; the others at any time.
        after = rng.uniform(0, 0.02) if kill == 0 else LONGEST * rng.random() ** 2
        _kill(run, after)
        n, steps, begun = run.position()
        amid += run.lines()[-1][0] != "done"
        if not opened and not run.collection.exists():
            continue  # killed amid the creation: the next worker creates it
        opened = True
        try:
            allowed = possible(
                state,
                (random_operation(seed, i) for i in range(first, n)),
                random_operation(seed, n),
                steps,
                begun=begun,
            )
            state = verify(run.collection, allowed)
            check_no_creation_left(run.collection)
        except BaseException as error:
            error.add_note(f"seed {seed}, kill {kill} after {after:.3f} s: in operation {n}\n{run.stderr()}")
            raise
        first = n + begun
    assert amid > PER_COLLECTION // 2, "the kills are to land while the worker is at work"


def _kill(run: Run, after: float) -> None:
    process = run.start()
    while not run.lines() and process.poll() is None:
        time.sleep(0.001)
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, f"seed {run.seed}: the worker failed by itself\n{run.stderr()}"

"""Lives that end by SIGKILL at a random moment, one after another over the same collection."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from pathlib import Path

from .increments import Increments
from .plan import Operation, State, random_operation
from .processes import Run, possible
from .verification import check_no_creation_left, verify

PER_COLLECTION = 5
LINES = 25  # of the journal, at most, that are awaited before a kill: three or four operations
LONGEST = 0.15  # seconds from that line to the worker's death


def kill_again_and_again(seed: int, directory: Path) -> Counter[str]:
    """Kill five writers of one collection, and require after each that it holds what was acknowledged.

    Returns:
        How many kills there were, and in which kind of operation: "amid add", "amid creation", "between operations".
    """
    rng = random.Random(seed)
    state: State = {}
    first, opened = 0, False
    tally: Counter[str] = Counter()
    increments = Increments(directory / "kb.increments")
    for kill in range(PER_COLLECTION):
        run = Run(directory, "random", seed=seed, first=first, auto=bool(seed % 2))
        # The first one dies early, amid the creation more often than not; the others at any time. It awaits lines, not
        # seconds: on a busy machine those would end nearly all lives while they open.
        lines, after = (1, rng.uniform(0, 0.02)) if kill == 0 else (rng.randint(1, LINES), LONGEST * rng.random() ** 3)
        _kill(run, lines, after)
        n, steps, begun = run.position()
        tally.update(["kills", _moment(run, n, begun=begun, opened=opened)])
        if not opened and not run.collection.exists():
            continue  # killed amid the creation: the next worker creates it
        opened = True
        done = [random_operation(seed, i) for i in range(first, n)]
        current = random_operation(seed, n)
        try:
            before = state
            state = verify(run.collection, possible(state, done, current, steps, begun=begun))
            check_no_creation_left(run.collection)
            _verify_increments(increments, before, done, current if begun else None)
        except BaseException as error:
            error.add_note(
                f"seed {seed}, kill {kill}, {after:.3f} s after line {lines}: in operation {n}\n{run.stderr()}"
            )
            raise
        first = n + begun
    return tally


def _verify_increments(increments: Increments, state: State, done: list[Operation], current: Operation | None) -> None:
    """Note the backups that were made in a life that began with *state*, and restore all where one was being made."""
    made = False
    for operation in done:
        if operation.kind == "increment":
            increments.states.append(state)
            made = True
        state = operation.after(state, operation.steps)
    amid = current is not None and current.kind == "increment"
    if made or amid:
        increments.verify(state if amid else None)


def _moment(run: Run, n: int, *, begun: bool, opened: bool) -> str:
    if begun:
        return f"amid {random_operation(run.seed, n).kind}"
    if run.lines()[-1] != ["ready"]:
        return "between operations"
    return "amid opening" if opened else "amid creation"


def _kill(run: Run, lines: int, after: float) -> None:
    process = run.start()
    while len(run.lines()) < lines and process.poll() is None:
        time.sleep(0.001)
    time.sleep(after)
    process.kill()
    assert process.wait() == -signal.SIGKILL, f"seed {run.seed}: the worker failed by itself\n{run.stderr()}"

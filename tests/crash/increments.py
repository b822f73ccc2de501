"""The incremental backups of a collection whose writers are killed: what was acknowledged restores to its state."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import reperio
from reperio import BackupInfo

from .plan import KEPT, Operation, State
from .verification import state_of


@dataclass
class Increments:
    """What a folder of backups must hold.

    Attributes:
        folder: of the backups; absent before the first.
        states: of the collection at each of them.
    """

    folder: Path
    states: list[State] = field(default_factory=list)

    def verify(self, begun: State | None) -> None:
        """Restore each that is listed, and require that they are the last ones that were made.

        Args:
            begun: the state of one that was being made when its process was killed; None for none. It may be there.
        """
        allowed = [self.states] if begun is None else [self.states, [*self.states, begun]]
        found = [self._restored(info, allowed[-1]) for info in self._listed()]
        fitting = [states for states in allowed if _are_kept(found, states)]
        assert fitting, f"the {len(found)} backups are not the last of the {len(self.states)} that were made"
        self.states = fitting[-1]

    def _listed(self) -> Sequence[BackupInfo]:
        try:
            return reperio.backups(self.folder)
        except reperio.CollectionNotFound:
            return []

    def _restored(self, info: BackupInfo, allowed: list[State]) -> State:
        target = self.folder.with_name("restored")
        reperio.restore(self.folder, target, number=info.number)
        with reperio.open(target, read_only=True) as kb:
            state = state_of(kb, allowed)
        shutil.rmtree(target)
        return state


def verify_increments(folder: Path, done: Sequence[Operation], current: Operation | None) -> None:
    """Require that the backups in *folder* are those that a life made which *done* tells from its beginning.

    Args:
        folder: of the backups.
        done: all operations that were completed.
        current: the one that was going on when the life ended; None for none.
    """
    increments = Increments(folder)
    state: State = {}
    for operation in done:
        if operation.kind == "increment":
            increments.states.append(state)
        state = operation.after(state, operation.steps)
    increments.verify(state if current is not None and current.kind == "increment" else None)


def _are_kept(found: Sequence[State], made: Sequence[State]) -> bool:
    """Say whether *found* are the last of what was *made*: all while they are few, and never fewer than are kept.

    Equal ones that follow each other are compared as one.
    """
    whole, end = _without_repetitions(made), _without_repetitions(found)
    enough = len(found) == len(made) if len(made) <= KEPT else len(found) >= KEPT
    return enough and whole[len(whole) - len(end) :] == end


def _without_repetitions(states: Sequence[State]) -> list[State]:
    return [state for number, state in enumerate(states) if number == 0 or states[number - 1] != state]

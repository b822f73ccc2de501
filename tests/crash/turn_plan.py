"""What each of many writers does, and what it has noted of it: from that alone follows what must be there of its own.

Each writer has ids of its own, so nobody else's work matters to them.
"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

OWN = 1000
"""Ids of one writer."""

USED = 150
"""Of these, the ones that it stores: few enough that adding soon means replacing."""

State: TypeAlias = "Mapping[int, int]"
"""Version by number."""


def operation(seed: int, writer: int, number: int) -> tuple[str, State, list[int]]:
    """Return the kind of an operation, what it stores, and what it deletes: the same each time."""
    rng = random.Random(f"{seed} {writer} {number}")
    kind = rng.choices(["add", "delete", "optimize", "compact"], [80, 14, 4, 2])[0]
    ids = rng.sample(range(writer * OWN, writer * OWN + USED), rng.randint(1, 40))
    stored = dict.fromkeys(ids, number) if kind == "add" else {}
    return kind, stored, ids if kind == "delete" else []


def apply(state: State, seed: int, writer: int, number: int) -> State:
    """Return the state after an operation."""
    _, stored, deleted = operation(seed, writer, number)
    if not stored and not deleted:
        return state
    return {one: version for one, version in {**state, **stored}.items() if one not in deleted}


class Journal:
    """What a writer notes, one line each by one ``os.write``, which no SIGKILL takes back; read on by whoever asks.

    ``begin:N`` before operation N, ``done:N`` after it. The life that follows a killed one looks for what that has
    begun, and notes ``was:N`` or ``not:N``.

    Args:
        directory: of the journals.
        seed: of what the writers do.
        writer: its number.

    Attributes:
        state: what was acknowledged.
        begun: the operation that is not settled; None where all are.
        next: the number of the next operation.
    """

    def __init__(self, directory: Path, seed: int, writer: int) -> None:
        self.path = directory / f"journal-{writer}"
        self.state: State = {}
        self.begun: int | None = None
        self.next = 0
        self._seed, self._writer = seed, writer
        self._offset = 0
        self._descriptor: int | None = None

    def note(self, word: str, number: int) -> None:
        """Write a line. Of the writer alone."""
        if self._descriptor is None:
            self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(self._descriptor, f"{word}:{number}\n".encode())

    def possible(self) -> list[State]:
        """Return what may be stored: all that was acknowledged, and all or nothing of what was begun."""
        if self.begun is None:
            return [self.state]
        return [self.state, apply(self.state, self._seed, self._writer, self.begun)]

    def read(self) -> list[State]:
        """Read on, and return what may have been stored since it was read last."""
        passed = self.possible()
        for line in self._lines():
            word, _, number = line.partition(":")
            self._take(word, int(number))
            passed += self.possible()
        return passed

    def _lines(self) -> list[str]:
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self._offset)
            whole = file.read().rpartition(b"\n")[0]
        self._offset += len(whole) + bool(whole)
        return whole.decode().split()

    def _take(self, word: str, number: int) -> None:
        if word == "begin":
            assert self.begun is None, f"writer {self._writer}: {number} after {self.begun}, which was never settled"
            self.begun, self.next = number, number + 1
            return
        assert self.begun == number, f"writer {self._writer}: {word} {number} while {self.begun} was begun"
        self.begun = None
        if word in ("done", "was"):
            self.state = apply(self.state, self._seed, self._writer, number)


def difference(own: State, possible: list[State]) -> str:
    """Return in words what is there and must not be, and the reverse."""
    told = []
    for state in possible[-4:]:
        lost = {one: version for one, version in state.items() if own.get(one) != version}
        more = {one: version for one, version in own.items() if one not in state}
        told.append(f"missing or other {dict(list(lost.items())[:5])}, too many {dict(list(more.items())[:5])}")
    return " | ".join(told)

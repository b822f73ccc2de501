from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import reperio
from reperio import Chunk, Collection
from reperio.store.writing import chunks

from .plan import DIMENSION, Operation, State, item, scripted_operations
from .verification import check_answers, verify

pytestmark = pytest.mark.crash
# Whose lines are interrupted: those that decide what is stored and which files are in use.
WRITING = (
    "reperio/store/writing/chunks.py",
    "reperio/store/writing/commits.py",
    "reperio/store/writing/checkpoints.py",
    "reperio/store/vector_file.py",
    "reperio/layout/lock.py",
    "collection/handle/handle.py",
    "collection/handle/in_use.py",
    "collection/handle/turns.py",
    "collection/methods/contents.py",
    "collection/methods/writing.py",
    "collection/write/adding.py",
    "collection/write/batches.py",
    "collection/reading.py",
)
REWRITING = (
    "collection/generation/creating.py",
    "collection/handle/handle.py",
    "collection/handle/in_use.py",
    "collection/handle/turns.py",
    "reperio/layout/lock.py",
    "collection/upkeep/rewriting.py",
    "layout/paths.py",
    "layout/writing.py",
)


class InterruptAt:
    """Raises KeyboardInterrupt, as Ctrl-C would, when the *number*-th line of one of *files* is about to run."""

    def __init__(self, number: int, files: tuple[str, ...]) -> None:
        self.left = number
        self.files = files

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> Callable[..., Any] | None:
        if not frame.f_code.co_filename.endswith(self.files):
            return None
        if event == "line":
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
        return self

    def run(self, work: Callable[[], object]) -> bool:
        """Run *work*; say whether it was interrupted."""
        before = sys.gettrace()
        sys.settrace(self)
        try:
            work()
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(before)
        return False


def _apply(kb: Collection, operation: Operation) -> None:
    if operation.kind == "delete":
        kb.delete(ids=operation.ids)
    elif operation.kind == "compact":
        kb.compact()
    else:
        held = [Chunk(key, made.text, made.metadata) for key, made in operation.items]
        kb.add(held, vectors=[made.vector for _, made in operation.items], batch_size=operation.batch)


def _operation(kind: str, number: int) -> Operation:
    if kind == "add":
        return Operation("add", tuple(item(7, i, number + 1) for i in range(0, 48, 9)))
    if kind == "delete":
        return Operation("delete", ids=(f"c{number % 48:04d}", f"c{(number + 1) % 48:04d}"))
    return Operation(kind)


# A file object that Ctrl-C caught between open() and its `with` is closed by the garbage collector, which says so.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.campaign)], ids=["every fourth", "every"])
@pytest.mark.parametrize(
    ("kind", "beside"),
    [("add", False), ("add", True), ("delete", False), ("compact", False)],
    ids=["add", "add beside", "delete", "compact"],
)
def test_the_handle_goes_on_after_ctrl_c_at_any_line(
    kind: str, beside: bool, step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C at any line of a write leaves it done or not done, keeps nobody out, and what is added then is kept."""
    if beside:  # as large batches are, the vectors are appended by a thread
        monkeypatch.setattr(chunks, "_SHARED_ROWS", 1)
    first = next(operation for operation in scripted_operations() if operation.kind == "add")
    state: State = first.after({}, first.steps)
    number, interrupted = 1 - step, True
    with (
        reperio.open(tmp_path / "kb", dimension=DIMENSION, auto_optimize=False) as kb,
        reperio.open(tmp_path / "kb", auto_optimize=False, lock_timeout=0) as other,
    ):
        _apply(kb, first)
        while interrupted:
            number += step
            operation = _operation(kind, number)
            interrupted = InterruptAt(number, REWRITING if kind == "compact" else WRITING).run(
                lambda operation=operation: _apply(kb, operation)
            )
            state = _outcome(kb, [state, operation.after(state, 1)])
            for handle, version in ((other, 3), (kb, 5)):
                again = Operation("add", tuple(item(7, i, number + version) for i in (1, 20)))
                _apply(handle, again)
                state = again.after(state, 1)
            with reperio.open(tmp_path / "kb", read_only=True) as reader:
                _outcome(reader, [state])
            check_answers(kb, state, sample=4)
        assert number > 40, "the lines of Reperio were not seen"
        assert kb.check().ok
    verify(tmp_path / "kb", [state])


def _outcome(kb: Collection, allowed: list[State]) -> State:
    stored = {chunk.id: (chunk.text, chunk.metadata) for chunk in kb}
    fitting = [state for state in allowed if stored == {k: (v.text, v.metadata) for k, v in state.items()}]
    assert fitting
    return fitting[-1]

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import reperio
from tests.crash.processes import ENVIRONMENT

from .endings import ENDINGS, end

pytestmark = pytest.mark.crash


@pytest.mark.parametrize("number", range(2))
@pytest.mark.parametrize("case", ENDINGS)
def test_however_a_process_ends_the_next_one_goes_on(case: str, number: int, tmp_path: Path) -> None:
    """Ctrl-C, SIGKILL, SIGTERM, daemon threads, an exit without close, a spawned child: nothing hangs or is lost."""
    assert end(case, number, tmp_path / "work") == {case: 1}


_OPENED = """
import atexit, os, queue, signal, sys, threading, time
kb = None
def earlier(): pass  # called after the callbacks of reperio
atexit.register(lambda: earlier())
import numpy as np
import reperio
def add(first, count):
    vectors = np.random.default_rng(first).standard_normal((count, 16), dtype=np.float32)
    kb.add([reperio.Chunk(str(first + n), "") for n in range(count)], vectors=vectors)
kb = reperio.open(sys.argv[1], dimension=16, auto_optimize=False)
"""

_BUILDING = """
add(0, 200)
begun = threading.Event()
def progress(*_):
    if not begun.is_set():
        begun.set()
        time.sleep(0.5)
def forever():
    while True:
        kb.optimize(index="HNSW8,SQ8", progress=progress)
threading.Thread(target=forever, daemon=True).start()
begun.wait()
"""

_CLOSED_ELSEWHERE = """
ended = threading.Event()
def close():
    ended.wait()
    kb.close()
closing = threading.Thread(target=close, daemon=True)
closing.start()
def earlier():
    ended.set()
    closing.join()
"""

_QUEUE = """
tasks = queue.Queue()
def work():
    while True:
        add(tasks.get(), 300)
        tasks.task_done()
threading.Thread(target=work, daemon=True).start()
for n in range(20):
    tasks.put(300 * n)
def earlier():
    tasks.join()
"""

_AFTER_MAIN = """
def work():
    threading.main_thread().join()
    add(0, 6000)
threading.Thread(target=work).start()
"""

_CLOSED_BY_SIGNAL = """
def close(*_):
    kb.close()
    if sys.argv[2] == "exit":
        sys.exit(0)
signal.signal(signal.SIGALRM, close)
signal.setitimer(signal.ITIMER_REAL, float(sys.argv[3]))
done = 0
try:
    while True:
        add(done, 300)
        done += 300
except reperio.CollectionClosed:
    pass
finally:
    print(done)
"""


def _run(script: str, path: Path, *arguments: str) -> str:
    command = [sys.executable, "-c", _OPENED + script, str(path), *arguments]
    ended = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "Python ends during" not in ended.stderr
    return ended.stdout


@pytest.mark.parametrize("then", ["", "def earlier(): kb.close()"], ids=["open", "closed"])
def test_the_end_of_python_waits_for_a_build(then: str, tmp_path: Path) -> None:
    """An index that a daemon thread builds is put in use, and no other is begun; the handle can be closed then."""
    _run(_BUILDING + then, tmp_path / "kb")
    with reperio.open(tmp_path / "kb", read_only=True) as kb:
        assert kb.info().index is not None


@pytest.mark.parametrize(("script", "count"), [(_CLOSED_ELSEWHERE, 0), (_QUEUE, 6000), (_AFTER_MAIN, 6000)])
def test_threads_may_finish_while_python_ends(script: str, count: int, tmp_path: Path) -> None:
    """Callbacks of `atexit` may wait for threads that write or close, and threads may outlive the main one."""
    _run(script, tmp_path / "kb")
    with reperio.open(tmp_path / "kb") as kb:
        assert kb.count() == count


@pytest.mark.parametrize("moment", range(4))
@pytest.mark.parametrize("then", ["exit", "go on"])
def test_a_signal_handler_may_close_the_collection_amid_a_put(then: str, moment: int, tmp_path: Path) -> None:
    """What was acknowledged is there, at most the batch that was cut besides; the handler's exit is the process's."""
    acknowledged = int(_run(_CLOSED_BY_SIGNAL, tmp_path / "kb", then, str(0.05 + 0.013 * moment)))
    with reperio.open(tmp_path / "kb") as kb:
        assert kb.count() in (acknowledged, acknowledged + 300)
        assert kb.check().ok


def test_a_collection_that_was_forgotten_can_be_opened_again(tmp_path: Path) -> None:
    """The lock goes with the handle, closed or not."""
    kb = reperio.open(tmp_path / "kb", dimension=16)
    kb.add([reperio.Chunk("a", "text")], vectors=np.ones((1, 16)))
    del kb
    gc.collect()
    with reperio.open(tmp_path / "kb") as again:
        assert list(again.ids()) == ["a"]

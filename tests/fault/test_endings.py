from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import recollect
from tests.crash.processes import ENVIRONMENT

from .endings import ENDINGS, end

pytestmark = pytest.mark.crash


@pytest.mark.parametrize("number", range(2))
@pytest.mark.parametrize("case", ENDINGS)
def test_however_a_process_ends_the_next_one_goes_on(case: str, number: int, tmp_path: Path) -> None:
    """Ctrl-C, SIGKILL, SIGTERM, daemon threads, an exit without close, a spawned child: nothing hangs or is lost."""
    assert end(case, number, tmp_path / "work") == {case: 1}


_AMID_A_BUILD = """
import atexit, sys, threading, time
kb = None
atexit.register(lambda: sys.argv[2] == "closing" and kb.close())  # called after those of recollect
import numpy as np
import recollect
kb = recollect.open(sys.argv[1], dimension=16, auto_optimize=False)
vectors = np.random.default_rng(1).standard_normal((200, 16), dtype=np.float32)
kb.add([recollect.Chunk(str(n), "") for n in range(200)], vectors=vectors)
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


@pytest.mark.parametrize("ending", ["open", "closing"])
def test_the_end_of_python_waits_for_a_build(ending: str, tmp_path: Path) -> None:
    """An index that a daemon thread builds is put in use, and no other is begun; the handle can be closed then."""
    command = [sys.executable, "-c", _AMID_A_BUILD, str(tmp_path / "kb"), ending]
    ended = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "Python ends amid" not in ended.stderr
    with recollect.open(tmp_path / "kb", read_only=True) as kb:
        assert kb.info().index is not None

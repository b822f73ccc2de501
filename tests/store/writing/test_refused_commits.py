"""A refused commit may lie whole in the log: a failing sync of SQLite's COMMIT leaves it there.

It is made here without a failing disk: the log's index, by which processes know where the log ends, is set back to
what it was before the commit. The next process to read the log, when no other is left, finds the refused commit. (With
failing system calls: tests/fault/test_refused_calls.py.)
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import reperio
from reperio import Chunk

pytestmark = pytest.mark.crash

D = 16
_OPENED = f"""
import os, signal, sys
import numpy as np
import reperio
from reperio import Chunk
from reperio.store import NewChunk
kb = reperio.open(sys.argv[1], dimension={D}, metric="l2", auto_optimize=False)
def told(word):
    print(word, flush=True)
    sys.stdin.readline()
"""
_REFUSED = """
kb.add([Chunk("base", "b")], vectors=np.full((1, 16), 9.0))
told("ready")
kb.add([Chunk(f"refused-{n}", "g") for n in range(5)], vectors=np.full((5, 16), 1.0))
told("refused")
"""
_NEXT = {
    "a put": "",
    "a failed put, then a put": """
try:
    with kb._handle.turn() as generation:
        generation.store.put([NewChunk("base", "", "{}")], np.full((1, 16), 3.0, dtype=np.float32), [])
except reperio.ReperioError:
    pass
""",
}
_KILLED = """
class Kill:
    def __iter__(self):
        os.kill(os.getpid(), signal.SIGKILL)
new = [NewChunk(f"new-{n}", "n", "{}") for n in range(5)]
with kb._handle.turn() as generation:  # the vectors are written, the commit has not begun
    generation.store.put(new, np.full((5, 16), 2.0, dtype=np.float32), Kill())
"""


def worker(path: Path, code: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _OPENED + code, str(path)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def refuse(path: Path) -> None:
    """Leave a refused commit in the log, by a writer that then dies; another process must have the collection open."""
    shm, kept = path / "gen-000001" / "chunks.db-shm", path.with_suffix(".shm")
    with worker(path, _REFUSED) as writer:
        assert writer.stdout is not None
        assert writer.stdin is not None
        assert writer.stdout.readline() == "ready\n"
        # By other processes: closing a descriptor of this file drops the locks that SQLite has on it in this one.
        subprocess.run(["cp", str(shm), str(kept)], check=True)
        print(file=writer.stdin, flush=True)
        assert writer.stdout.readline() == "refused\n"
        writer.kill()
    subprocess.run(["dd", f"if={kept}", f"of={shm}", "conv=notrunc", "status=none"], check=True)


@pytest.fixture
def collection(path: Path) -> Path:
    """Make an empty collection, in whose log `refuse` then leaves a commit of five chunks."""
    reperio.open(path, dimension=D, metric="l2", auto_optimize=False).close()
    return path


@pytest.mark.skipif(shutil.which("dd") is None, reason="dd is not there")
@pytest.mark.parametrize("before", _NEXT.values(), ids=_NEXT)
def test_a_refused_commit_never_comes_back_with_the_vectors_of_another(before: str, collection: Path) -> None:
    """The writer after the one that was refused is killed with its vectors written: all chunks have their own."""
    with reperio.open(collection, read_only=True) as reader:  # keeps the log's index alive between the writers
        reader.ids()
        refuse(collection)
        assert reader.ids() == ["base"]
        with worker(collection, before + _KILLED) as second:
            second.communicate("\n", timeout=60)
        assert second.returncode == -signal.SIGKILL
    with reperio.open(collection, auto_optimize=False) as kb:
        assert kb.check().ok, kb.check().problems
        assert kb.ids() == ["base"]
        kb.add([Chunk("after", "a")], vectors=[[4.0] * D])
        assert kb.search(vector=[4.0] * D, k=1)[0].chunk.id == "after"


@pytest.mark.skipif(shutil.which("dd") is None, reason="dd is not there")
def test_a_refused_commit_is_whole_where_nobody_has_written_since(collection: Path) -> None:
    """If nothing overwrites it, the next to open finds it with its own vectors: the commits of this file are real."""
    with reperio.open(collection, read_only=True) as reader:
        reader.ids()
        refuse(collection)
        assert reader.ids() == ["base"]
    with reperio.open(collection, auto_optimize=False) as kb:
        assert kb.check().ok
        assert sorted(kb.ids()) == ["base", *(f"refused-{n}" for n in range(5))]
        assert kb.vectors(["refused-3"])[0].tolist() == [1.0] * D

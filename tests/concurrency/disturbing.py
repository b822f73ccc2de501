"""Lead a path to another directory, or to another LOCK, while handles to the directory before are open."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reperio
from reperio import Chunk, Collection

from .step_writer import DIMENSION, vector

ROOT = Path(__file__).resolve().parents[2]


class Steps:
    """A writer in another process, told step by step."""

    def __init__(self, path: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.concurrency.step_writer", str(path)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._line() == "open"

    def add(self, chunk_id: str) -> str:
        """Add a chunk; return "stored", or the error."""
        assert self._process.stdin is not None
        self._process.stdin.write(chunk_id + "\n")
        self._process.stdin.flush()
        return self._line()

    def close(self) -> None:
        """Let it close the collection and end."""
        self._process.communicate(timeout=60)
        assert self._process.returncode == 0

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def chunk(chunk_id: str) -> Chunk:
    return Chunk(chunk_id, f"text of {chunk_id}")


def add(kb: Collection, *ids: str) -> None:
    kb.add([chunk(one) for one in ids], vectors=np.stack([vector(one) for one in ids]))


def make(path: Path, *ids: str) -> None:
    with reperio.open(path, dimension=DIMENSION, metric="l2", auto_optimize=False) as kb:
        add(kb, *ids)


def linked(directory: Path, *more: str) -> Path:
    """Make a collection of 20 chunks and *more* that is reached through a link."""
    make(directory / "blue", *(f"seed-{n}" for n in range(20)), *more)
    (directory / "kb").symlink_to("blue")
    return directory / "kb"


def switch_link(kb: Path) -> Path:
    """Switch a link to a copy that is made beforehand, as in a blue/green deployment."""
    old = kb.resolve()
    shutil.copytree(old, kb.with_name("green"))
    fresh = kb.with_name("kb.tmp")
    fresh.symlink_to("green")
    fresh.rename(kb)
    return old


def move_and_restore(kb: Path) -> Path:
    real, backup, old = kb.resolve(), kb.with_name("backup"), kb.with_name("kb.old")
    with reperio.open(kb, read_only=True) as reader:
        reader.backup(backup)
    real.rename(old)
    reperio.restore(backup, real)
    return old


def remove_lock(kb: Path) -> Path:
    (kb / "LOCK").unlink()
    return kb


def replace_lock(kb: Path) -> Path:
    (kb / "LOCK.new").touch()
    (kb / "LOCK.new").rename(kb / "LOCK")
    return kb


def replace_by_copy(kb: Path) -> Path:
    real, old = kb.resolve(), kb.with_name("kb.old")
    shutil.copytree(real, kb.with_name("copy"))
    real.rename(old)
    kb.with_name("copy").rename(real)
    return old


def switch_link_to_backup(kb: Path) -> Path:
    """Switch a link to a copy that is whole, though others write meanwhile."""
    old, backup = kb.resolve(), kb.with_name("backup")
    with reperio.open(kb, read_only=True) as reader:
        reader.backup(backup)
    reperio.restore(backup, kb.with_name("green"))
    kb.with_name("kb.tmp").symlink_to("green")
    kb.with_name("kb.tmp").rename(kb)
    return old


DISTURBANCES = [switch_link, move_and_restore, remove_lock, replace_lock, replace_by_copy]


disturbed = pytest.mark.parametrize("disturb", DISTURBANCES, ids=lambda one: one.__name__)


def kept(path: Path) -> dict[str, bool]:
    """Return the ids of a collection, and whether each has its own vector; all of it is whole."""
    with reperio.open(path, read_only=True) as reader:
        assert reader.check().ok
        ids = reader.ids()
        return dict(zip(ids, (np.stack([vector(one) for one in ids]) == reader.vectors(ids)).all(axis=1), strict=True))


class Embedder:
    """An embedder during whose first work something else happens."""

    name = "embedder"
    dimension = DIMENSION

    def __init__(self, once: Callable[[], None] = lambda: None) -> None:
        self.once = once

    def embed_passages(self, texts: Any) -> Any:
        do, self.once = self.once, lambda: None
        do()
        return np.stack([vector(text.removeprefix("text of ")) for text in texts])

    embed_queries = embed_passages

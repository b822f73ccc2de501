"""Directories as others have made them: what lies where in a collection, and what may lie there instead."""

from __future__ import annotations

import os
import shutil
import socket
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import apsw

import reperio
from reperio import ReperioWarning

QUERY = [1.0, 0.0, 0.0, 0.0]
SECRET = "-----BEGIN PRIVATE KEY-----"


@contextmanager
def quietly() -> Iterator[None]:
    """Ignore what is said of an index that cannot be used."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ReperioWarning)
        yield


def execute(path: Path, sql: str, *values: object) -> None:
    with closing(apsw.Connection(str(path / "gen-000001" / "chunks.db"))) as connection:
        connection.execute(sql, values)


def name_index(path: Path, name: object) -> None:
    execute(path, "INSERT INTO snapshots(name, rows, record) SELECT ?, rows, record FROM snapshots", name)
    execute(path, "UPDATE state SET snapshot = ?", name)


def plant(path: Path) -> None:
    """Make the snapshot's name lead from the index to a planted file, and from a restored one to the user's."""
    name_index(path, "../../../.bashrc")
    (path.parent / ".bashrc").write_text("planted\n")


# What each place in a collection is, and what a link there may lead to, beside kb.
FILES = ["CURRENT", "gen-000001/collection.json", "gen-000001/chunks.db", "gen-000001/vectors.f32"]
LOGS = ["gen-000001/chunks.db-wal", "gen-000001/chunks.db-shm", "gen-000001/chunks.db-journal"]
FOLDERS = ["gen-000001", "gen-000001/index", "gen-000001/index/building"]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def ways(kb: Path, tmp_path: Path) -> dict[str, Callable[[], object]]:
    return {
        "read": lambda: reperio.open(kb, read_only=True, trust_index=False).close(),
        "write": lambda: reperio.open(kb, auto_optimize=False).close(),
        "doctor": lambda: reperio.diagnose(kb, mend=True),
        "restore": lambda: reperio.restore(kb, tmp_path / "restored", trust_index=False),
        "mend": lambda: reperio.restore(kb, tmp_path / "restored", trust_index=False, mend=True),
    }


def bind(path: Path) -> None:
    before = Path.cwd()
    os.chdir(path.parent)  # a socket's path may have 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    finally:
        os.chdir(before)


KINDS: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "socket": bind,
    "zero": lambda path: path.symlink_to("/dev/zero"),
    "folder": Path.mkdir,
}


def put(path: Path, kind: str) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    KINDS[kind](path)

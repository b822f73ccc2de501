"""Places for collections: file systems of their own, and directories that several people use."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import reperio
from reperio import Chunk, exchange

SOMEBODY, COLLEAGUE, GROUP = 60_001, 60_002, 60_003
"""Two users, and a group of both; that no account has these numbers does not matter to the kernel."""

only_root = pytest.mark.skipif(os.getuid() != 0, reason="only root may become other users")

_MOUNTING = 'mount -t tmpfs reperio "$0" && exec "$@"'


def fill(path: Path | str, *ids: str) -> None:
    """Open or create the collection and add chunks with these ids."""
    with reperio.open(path, dimension=2, lock_timeout=5) as kb:
        kb.add([Chunk(one, f"text {one}") for one in ids], vectors=np.eye(2, dtype=np.float32)[[0] * len(ids)])


def ids(path: Path | str) -> set[str]:
    """Return the ids of all chunks, verified."""
    with reperio.open(path, read_only=True) as kb:
        assert kb.check().ok
        return {chunk.id for chunk in kb}


def shared_directory() -> Iterator[Path]:
    """Yield a directory that everybody may enter: pytest's own are their owner's."""
    with tempfile.TemporaryDirectory(prefix="reperio-places-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


def in_mount(path: Path, function: str) -> None:
    """Call a function of this module in another process, for which *path*, a directory, is the root of a file system.

    Skips where this user may not mount one.
    """
    path.mkdir(exist_ok=True)
    private = ["unshare", "--mount"] if os.getuid() == 0 else ["unshare", "--map-root-user", "--mount"]
    try:
        possible = subprocess.run(
            [*private, "sh", "-c", _MOUNTING, str(path), sys.executable, "-c", ""], capture_output=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("unshare is not installed: apt-get install util-linux")
    if possible.returncode:
        pytest.skip(f"no file system can be mounted here: {possible.stderr.decode().strip()}")
    called = f"from pathlib import Path; from tests.collection import places; places.{function}(Path({str(path)!r}))"
    paths = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [*private, "sh", "-c", _MOUNTING, str(path), sys.executable, "-c", called],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not any(path.iterdir()), "it was not made in what was mounted"


def live_in(mount: Path) -> None:
    """Create a collection in the root of a file system, and do with it what makes files."""
    assert mount.is_mount()
    (mount / "lost+found").mkdir(mode=0o700)
    fill(mount, "a", "b")
    with reperio.open(mount) as kb:
        kb.delete(ids="a")
        kb.compact()
    assert ids(mount) == {"b"}
    assert (mount / "lost+found").is_dir()
    assert {entry.name for entry in mount.iterdir()} >= {"CURRENT", "gen-000002"}


def receive_in(mount: Path) -> None:
    """Back up, restore, export and import to the roots of file systems: each in its turn, in this one."""
    with tempfile.TemporaryDirectory() as made:
        there = Path(made)
        fill(there / "kb", "a")
        with reperio.open(there / "kb") as kb:
            kb.backup(mount)
        _taken_out(mount, there / "backup")
        reperio.restore(there / "backup", mount)
        assert ids(mount) == {"a"}
        _taken_out(mount, there / "restored")
        exchange.export_collection(there / "kb", mount, format="jsonl")
        _taken_out(mount, there / "export")
        exchange.import_collection(there / "export", mount)
        assert ids(mount) == {"a"}
        _taken_out(mount, there / "imported")
        (mount / "lost+found").mkdir(mode=0o700)
        with reperio.open(there / "kb") as kb:
            kb.backup(mount, incremental=True)
        reperio.restore(mount, there / "again")
        assert ids(there / "again") == {"a"}
    for entry in mount.iterdir():
        subprocess.run(["rm", "-rf", str(entry)], check=True)


def _taken_out(mount: Path, target: Path) -> None:
    target.mkdir()
    for entry in mount.iterdir():
        subprocess.run(["mv", str(entry), str(target)], check=True)


@contextmanager
def umask(mask: int) -> Iterator[None]:
    """Set the umask meanwhile."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def as_user(user: int, work: Callable[[], object], *, groups: tuple[int, ...] = (), mask: int = 0o022) -> None:
    """Do *work* in a child process that belongs to another user; as this one where this is not root.

    What it imports must have been imported before: the child may not read the files of this user.
    """
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads in a process that forks
        child = os.fork()
    if not child:
        told = b""
        try:
            if os.getuid() == 0:
                os.setgroups(list(groups))
                os.setgid(user)
                os.setuid(user)
            os.umask(mask)
            work()
        except BaseException:
            told = traceback.format_exc().encode()
        os.write(writing, told[-60_000:])
        os._exit(1 if told else 0)
    os.close(writing)
    with open(reading, "rb") as file:
        told = file.read()
    assert os.waitpid(child, 0)[1] == 0, told.decode()

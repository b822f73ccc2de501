"""Where the output goes: a full disk, a pipe that nobody reads, a terminal that takes ASCII alone, no output at all."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reperio
from reperio import Chunk

FULL = Path("/dev/full")
ASCII = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def started(*args: str | Path, env: Mapping[str, str] | None = None, **options: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "reperio", *map(str, args)]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen(command, env={**os.environ, **(env or {})}, **options)


def finished(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    out, told = process.communicate(timeout=120)
    return process.returncode, (out or b"").decode(), (told or b"").decode()


@pytest.fixture(scope="module")
def kb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a collection one chunk of which is damaged, with an id beyond ASCII."""
    path = tmp_path_factory.mktemp("output") / "kb"
    with reperio.open(path, dimension=4, auto_optimize=False) as opened:
        opened.add([Chunk(f"größe {n}", f"wording {n}") for n in range(4)], vectors=np.eye(4, dtype=np.float32))
    database = path / "gen-000001" / "chunks.db"
    database.write_bytes(database.read_bytes().replace(b"wording 3", b"wordinG 3"))
    return path


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
@pytest.mark.parametrize("command", [["version"], ["--help"], ["check", "KB"], ["info", "KB", "--json"]], ids=" ".join)
def test_a_full_output_is_an_error_in_one_line(command: list[str], kb: Path) -> None:
    """With the exit code of an error, not with that of problems found."""
    with FULL.open("wb") as full:
        code, _, told = finished(started(*(kb if part == "KB" else part for part in command), stdout=full))
    assert code == 2
    assert told == (
        "error: the output cannot be written: No space left on device; what the command did is done, "
        "write it elsewhere\n"
    )


@pytest.mark.parametrize("command", [["version"], ["check", "KB"], ["info", "KB", "--json"]], ids=" ".join)
def test_a_pipe_that_nobody_reads_ends_quietly(command: list[str], kb: Path) -> None:
    """As SIGPIPE ends other programs."""
    reading, writing = os.pipe()
    os.close(reading)
    process = started(*(kb if part == "KB" else part for part in command), stdout=writing)
    os.close(writing)
    assert finished(process) == (141, "", "")


def test_an_output_of_ascii_alone_shows_everything(kb: Path) -> None:
    """What it cannot show is escaped, in tables, lines, errors and help; the exit codes stay."""
    code, out, told = finished(started("check", kb, env=ASCII))
    assert (code, told) == (1, "")
    assert r"gr\xf6\xdfe 3" in out
    code, out, told = finished(started("info", kb / "größe", env=ASCII))
    assert (code, out) == (2, "")
    assert told.startswith("error: there is no collection at ")
    code, out, _ = finished(started("--help", env=ASCII))
    assert (code, out.isascii(), "ingest" in out) == (0, True, True)


def test_errors_that_nobody_can_be_told_have_their_exit_code(kb: Path) -> None:
    """Standard error may be full too, and either may be closed."""
    with FULL.open("wb") as full:
        assert finished(started("info", kb / "nowhere", stderr=full))[0] == 2
    closed = [sys.executable, "-c", "import os, sys; os.close(1); os.close(2); "
              "os.execv(sys.executable, [sys.executable, '-m', 'reperio', *sys.argv[1:]])"]  # fmt: skip
    for command, code in ((["check", str(kb)], 1), (["version"], 0), (["info", str(kb / "nowhere")], 2)):
        assert subprocess.run([*closed, *command], timeout=120, check=False).returncode == code

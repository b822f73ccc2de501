"""Builds and exchanges of shards that are killed at random end in the same content."""

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reperio
from reperio import Chunk
from reperio.sharding import build_shards, check_shards, diagnose_shards, read_manifest
from reperio.sharding.building.on_ray import run_on_ray
from reperio.sharding.manifest import is_sharded
from tests.sharding import killed_child
from tests.sharding.test_building import DIMENSION, content

KILLS = int(os.environ.get("REPERIO_KILLS", "100"))
CHUNKS = 800


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("killed") / "kb"
    vectors = np.random.default_rng(5).standard_normal((CHUNKS, DIMENSION))
    with reperio.open(path, dimension=DIMENSION, auto_optimize=False) as kb:
        kb.add([Chunk(f"chunk-{at}", f"the text of {at}") for at in range(CHUNKS)], vectors=vectors)
    return path


@pytest.fixture(scope="module")
def expected(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    into = tmp_path_factory.mktemp("killed") / "whole"
    build_shards(source, into, shards=killed_child.SHARDS, recall=None, partition_rows=killed_child.ROWS, map=map)
    return content(into)


def _run(kind: str, first: Path, second: Path, seconds: float | None) -> tuple[bool, float]:
    """Run a child, and kill it after so many seconds from its beginning; return whether it was, and how long it ran."""
    command = [sys.executable, "-m", "tests.sharding.killed_child", kind, str(first), str(second)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()  # it has imported everything
        began = time.perf_counter()
        try:
            _, told = child.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            _, told = child.communicate()
        assert child.returncode in (0, -signal.SIGKILL), told.decode()
        return child.returncode != 0, time.perf_counter() - began


def _killed_builds(source: Path, expected: Any, folder: Path, kills: int, seed: int) -> None:
    chance, done = random.Random(seed), 0
    into = folder / "shards"
    _, whole = _run("build", source, into, None)
    while done < kills:
        assert content(into) == expected
        shutil.rmtree(into)
        killed = True
        while killed:
            # Up to the whole time, and for the last ones of a build without an end.
            seconds = chance.uniform(0.0, whole) if done < kills else None
            killed, _ = _run("build", source, into, seconds)
            done += killed
            if killed and is_sharded(into):  # when all was done except for the tidying up
                break
    assert content(into) == expected
    assert diagnose_shards(into, mend=True).ok
    assert sorted(path.name for path in into.iterdir()) == ["LOCK", "shards", "shards.json"]
    assert check_shards(into).ok


def _flat(found: Any) -> Any:
    return {one[0]: one[1:] for part in found.values() for one in part}


def _killed_exchanges(source: Path, expected: Any, folder: Path, kills: int, seed: int) -> None:
    chance, into = random.Random(seed), folder / "exchanged"
    build_shards(source, into, shards=killed_child.SHARDS, recall=None, map=map)
    for _ in range(kills):
        killed, _ = _run("exchange", into, into, chance.uniform(0.0, 0.6))
        assert killed
        assert _flat(content(into)) == _flat(expected)
    found = diagnose_shards(into, mend=True)
    assert found.ok
    assert not diagnose_shards(into).problems
    names = {entry.name for entry in read_manifest(into).shards}
    assert {path.name for path in (into / "shards").iterdir()} == names
    assert check_shards(into).ok


@pytest.mark.crash
def test_a_killed_build_or_exchange_goes_on(source: Path, expected: Any, tmp_path: Path) -> None:
    """Killed a few times at random, and run again: the same content."""
    _killed_builds(source, expected, tmp_path, 2, seed=1)
    _killed_exchanges(source, expected, tmp_path, 1, seed=2)


@pytest.mark.crash
@pytest.mark.campaign
@pytest.mark.timeout(3600)
def test_builds_killed_at_random(source: Path, expected: Any, tmp_path: Path) -> None:
    """The same, as often as REPERIO_KILLS says."""
    _killed_builds(source, expected, tmp_path, KILLS, seed=3)


@pytest.mark.crash
@pytest.mark.campaign
@pytest.mark.timeout(3600)
def test_exchanges_killed_at_random(source: Path, expected: Any, tmp_path: Path) -> None:
    """The same, as often as REPERIO_KILLS says."""
    _killed_exchanges(source, expected, tmp_path, KILLS, seed=4)


class Dying:
    """A task whose worker is killed at random while it runs, up to a number of times."""

    def __init__(self, function: Any, folder: Path, kills: int) -> None:
        self.function, self.folder, self.kills = function, folder, kills

    def __call__(self, task: Any) -> Any:
        with_chance = random.Random(os.getpid() + time.time_ns())
        if len(list(self.folder.iterdir())) < self.kills and with_chance.random() < 0.5:
            (self.folder / str(time.time_ns())).touch()
            threading.Timer(with_chance.uniform(0.0, 0.05), os.kill, (os.getpid(), signal.SIGKILL)).start()
        return self.function(task)


@pytest.mark.crash
@pytest.mark.campaign
@pytest.mark.timeout(3600)
def test_workers_of_ray_killed_at_random(ray_here: Any, source: Path, expected: Any, tmp_path: Path) -> None:  # noqa: ARG001  # started
    """Ray starts the tasks of lost workers again, and the build ends in the same content."""
    (tmp_path / "kills").mkdir()

    def run(function: Any, tasks: Any) -> Any:
        dying = Dying(function, tmp_path / "kills", max(3, KILLS // 5))
        return run_on_ray(dying, tasks, resources={"num_cpus": 1, "max_retries": 100})

    build_shards(source, tmp_path / "shards", shards=3, recall=None, partition_rows=killed_child.ROWS, map=run)
    assert len(list((tmp_path / "kills").iterdir())) >= 3
    assert content(tmp_path / "shards") == expected

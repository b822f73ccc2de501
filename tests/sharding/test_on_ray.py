import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reperio
from reperio import Chunk
from reperio.errors import MissingDependency, ShardBuildFailed
from reperio.sharding.building.build import build_shards
from reperio.sharding.building.on_ray import run_on_ray
from tests.sharding.test_building import DIMENSION, content


@pytest.fixture(scope="module")
def kb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ray") / "kb"
    vectors = np.random.default_rng(3).standard_normal((400, DIMENSION))
    with reperio.open(path, dimension=DIMENSION) as collection:
        collection.add([Chunk(f"chunk-{at}", f"text {at}") for at in range(400)], vectors=vectors)
    return path


def test_ray_builds_what_one_process_builds(ray_here: Any, kb: Path, tmp_path: Path) -> None:  # noqa: ARG001  # started
    """The tasks of a build run in Ray's workers, and end in the same content."""
    build_shards(kb, tmp_path / "one", shards=3, recall=None, partition_rows=64, map=map)
    report = build_shards(kb, tmp_path / "ray", shards=3, recall=None, partition_rows=64)
    assert report.chunks == 400
    assert content(tmp_path / "ray") == content(tmp_path / "one")


def _die_once(task: str) -> int:
    """Kill the worker that runs this, the first time."""
    if not Path(task).exists():
        Path(task).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def _die(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _refuse(number: int) -> None:
    raise reperio.InvalidInput(f"number {number} cannot be")


def test_a_lost_worker_is_replaced(ray_here: Any, tmp_path: Path) -> None:  # noqa: ARG001  # started
    """A task whose worker is killed is run again; one that kills each worker is an error with a cure, at an end."""
    assert len(list(run_on_ray(_die_once, [str(tmp_path / "a")]))) == 1
    with pytest.raises(ShardBuildFailed, match="goes on when it is run again"):
        list(run_on_ray(_die, [1], resources={"num_cpus": 1, "max_retries": 0}))


def test_errors_come_back_as_they_were_raised(ray_here: Any) -> None:  # noqa: ARG001  # started
    """What is wrong with a source is told in the words of the task, not in those of Ray."""
    with pytest.raises(reperio.InvalidInput, match=r"^number 1 cannot be$"):
        list(run_on_ray(_refuse, [1]))


def test_without_ray_the_error_has_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has no Ray learns how to get it, and how to do without."""
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(MissingDependency, match=r"pip install 'reperio\[ray\]', or pass map="):
        list(run_on_ray(_refuse, [1]))

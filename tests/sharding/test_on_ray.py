import json
import os
import shlex
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import reperio
from reperio import Chunk
from reperio.cli.main import app
from reperio.errors import MissingDependency, ShardBuildFailed
from reperio.sharding import check_shards, read_manifest
from reperio.sharding.building.build import build_shards
from reperio.sharding.building.on_ray import run_on_ray
from tests.sharding.test_building import DIMENSION, content
from tests.test_readme import ROOT, blocks, require_extras

# Older ones forget the processes that they have started, which Python tells of.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.timeout(900),  # one Ray waits for the other
]


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


def _same(number: int) -> int:
    return number


def test_every_task_is_run_once(ray_here: Any, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001  # started
    """Also where there are more than are handed to Ray at a time."""
    monkeypatch.setattr("reperio.sharding.building.on_ray._LEAST_AHEAD", 1)  # two for each of the two CPUs
    assert sorted(run_on_ray(_same, range(9))) == list(range(9))


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


def test_every_block_of_the_page_runs(
    ray_here: Any,  # noqa: ARG001  # started
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """docs/shards.md as it stands, in its order: commands and Python build, write, split and merge."""
    monkeypatch.chdir(tmp_path)
    for name, first in (("rows", 0), ("more", 40)):
        rows = [
            {"id": f"c{at}", "text": f"text {at}", "lang": "de" if at % 2 else "en", "vector": [1.0, at, at % 7, 0.5]}
            for at in range(first, first + 50)
        ]
        Path(f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for block in blocks("docs/shards.md"):
        if block.language == "python":
            exec(compile(block.content, "docs/shards.md", "exec"), {"__name__": "__main__"})
        elif block.language == "console":
            for line in block.content.splitlines():
                command, *arguments = shlex.split(line)
                if command == "pip":
                    require_extras(arguments[1])
                else:
                    done = CliRunner().invoke(app, arguments)
                    assert (command, done.exit_code) == ("reperio", 0), f"{line}\n{done.output}"
        else:
            assert block.language in {"mermaid", "text"}
    assert [entry.name for entry in read_manifest(Path("kb-shards")).shards] == ["shard-000005", "shard-000002"]
    assert check_shards("kb-shards").ok
    assert set(content(Path("kb-shards"))) != set(content(Path("kb-again")))


def test_the_demo_runs(ray_here: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001  # started
    """examples/shards.py finds what it has added to what it has built and split."""
    from examples import shards

    monkeypatch.setattr(shards, "ROWS", 300)
    shards.main()
    told = capsys.readouterr().out
    assert "built: 300 chunks, 300 embedded, in 2 shards\nadded: 1 new, 1 replaced\n" in told
    assert "checked: sound, 301 chunks\n" in told
    assert "found: 1.000  faq-77  another answer to question 77\n" in told


def test_the_manifest_for_kubernetes_says_what_kuberay_needs() -> None:
    """It parses, every container mounts the volume that is claimed, and the command is one of ours."""
    yaml = pytest.importorskip("yaml")
    claim, job = yaml.safe_load_all((ROOT / "examples" / "kubernetes" / "shards.yaml").read_text())
    assert (claim["kind"], claim["spec"]["accessModes"]) == ("PersistentVolumeClaim", ["ReadWriteMany"])
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert {"entrypoint", "rayClusterSpec", "shutdownAfterJobFinishes"} <= job["spec"].keys()
    groups = [job["spec"]["rayClusterSpec"]["headGroupSpec"], *job["spec"]["rayClusterSpec"]["workerGroupSpecs"]]
    assert len(groups) == 2
    for group in groups:
        pod = group["template"]["spec"]
        claims = {one["name"]: one["persistentVolumeClaim"]["claimName"] for one in pod["volumes"]}
        assert set(claims.values()) == {claim["metadata"]["name"]}
        for container in pod["containers"]:
            assert {"image", "resources", "name"} <= container.keys()
            assert [mount["name"] for mount in container["volumeMounts"]] == list(claims)
    assert yaml.safe_load(job["spec"]["runtimeEnvYAML"])["env_vars"]["RAY_ADDRESS"] == "auto"
    command, *arguments = shlex.split(job["spec"]["entrypoint"])
    told = CliRunner().invoke(app, arguments)
    assert (command, told.exit_code) == ("reperio", 2)
    assert "/data/rows.parquet" in told.stderr  # the options are understood; there is no such file here

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCH = Path(__file__).parents[2] / "eval" / "bench"
MIB = 1024  # in KiB


@pytest.fixture(scope="module", autouse=True)
def on_path() -> Iterator[None]:
    """Let the benchmark's modules be imported as scripts import each other: by their names alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCH))
        yield


@pytest.fixture
def disk() -> Iterator[Path]:
    """Make a directory on a disk: `make test` keeps others in memory, where no file is mapped or dropped as here."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as made:
        yield Path(made)


def run(script: str, *arguments: str, data: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"REPERIO_DATA": str(data or BENCH / "nowhere")}
    command = [sys.executable, str(BENCH / script), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)


def clustered(dimension: int = 32, seed: int = 1) -> Any:
    return importlib.import_module("clustered").Clustered(dimension, seed)


def together(stream: Any, start: int, stop: int, workers: int = 1) -> Any:
    return np.concatenate(list(stream.rows(start, stop, workers=workers)))


class TestStream:
    def test_any_part_can_be_made_again_on_any_number_of_threads(self) -> None:
        """A row depends on the seed and its number alone."""
        whole = together(clustered(), 0, 20_000)
        assert whole.shape == (20_000, 32)
        for start, stop, workers in ((0, 1, 1), (8191, 8193, 3), (5, 19_000, 2), (16_384, 20_000, 2), (7, 7, 1)):
            parts = list(clustered().rows(start, stop, workers=workers))
            made = np.concatenate(parts) if parts else np.empty((0, 32), dtype=np.float32)
            np.testing.assert_array_equal(made, whole[start:stop])

    def test_rows_are_unit_vectors_of_float32(self) -> None:
        """As a collection under cosine keeps them."""
        rows = together(clustered(48), 0, 1000)
        assert rows.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)

    def test_queries_are_never_rows(self) -> None:
        """They come from the same process, by other random numbers."""
        stream = clustered()
        assert (stream.queries(100) @ together(stream, 0, 20_000).T).max() < 0.999
        np.testing.assert_array_equal(stream.queries(100), clustered().queries(100))

    def test_another_seed_is_another_stream(self) -> None:
        """Nothing of it is shared."""
        assert not np.allclose(together(clustered(seed=1), 0, 10), together(clustered(seed=2), 0, 10), atol=0.01)


class TestTruth:
    def test_neighbours_are_those_of_brute_force_however_they_are_shown(self) -> None:
        """In blocks of any size, and across a state that was written and read."""
        truth = importlib.import_module("truth")
        rows, queries = together(clustered(), 0, 5000), clustered().queries(40)
        nearest = truth.Nearest(queries)
        low = 0
        for size in (1, 7, 992, 2000):
            nearest.show(rows[low : low + size])
            low += size
        nearest = truth.Nearest.restored(queries, nearest.state())
        nearest.show(rows[low:])
        expected = np.argsort(-(queries @ rows.T), axis=1, kind="stable")[:, :10]
        np.testing.assert_array_equal(nearest.rows(), expected)
        assert nearest.seen == 5000

    @pytest.mark.parametrize("sphere", [3, 8])
    def test_dimension_of_a_sphere_is_estimated(self, sphere: int) -> None:
        """Points spread evenly over the unit sphere of s dimensions have s dimensions around each of them."""
        truth = importlib.import_module("truth")
        random = np.random.default_rng(4)
        points = random.standard_normal((60_500, sphere + 1), dtype=np.float32)
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        nearest = truth.Nearest(points[:500])
        nearest.show(points[500:])
        found = nearest.hardness()["local_intrinsic_dimension"]["mean"]
        assert found == pytest.approx(sphere, rel=0.1)

    def test_contrast_is_mean_distance_over_that_of_the_tenth(self) -> None:
        """As its definition says, by the plain formula in double precision."""
        truth = importlib.import_module("truth")
        rows, queries = together(clustered(), 0, 3000), clustered().queries(30)
        nearest = truth.Nearest(queries)
        for low in range(0, 3000, 700):
            nearest.show(rows[low : low + 700])
        distances = np.linalg.norm(queries[:, None].astype(np.float64) - rows[None].astype(np.float64), axis=2)
        expected = distances.mean(axis=1) / np.sort(distances, axis=1)[:, 9]
        found = nearest.hardness()["relative_contrast_at_10"]
        assert found["mean"] == pytest.approx(expected.mean(), abs=0.002)
        assert found["median"] == pytest.approx(np.median(expected), abs=0.002)


class TestWatching:
    CHILD = """
import sys, time
sys.path.insert(0, {bench!r})
import numpy as np
from watching import memory, report
report(stage="fill", done=0)
held = np.ones({size}, dtype=np.uint8); time.sleep(0.4)
report(stage="fill", done=7)
del held
report(stage="map", done=1)
mapped = np.memmap({file!r}, mode="r"); mapped.sum(); time.sleep(0.4)
report(result=memory())
"""

    def test_memory_is_told_apart_by_kind_and_stage(self, disk: Path) -> None:
        """What a stage allocates is its own; mapped files do not count as allocated."""
        watching = importlib.import_module("watching")
        size = 200 << 20
        (disk / "file").write_bytes(bytes(size))
        script = disk / "child.py"
        script.write_text(self.CHILD.format(bench=str(BENCH), size=size, file=str(disk / "file")))
        outcome = watching.run(script, [""])
        fill, mapped = outcome.stage_peaks["fill"], outcome.stage_peaks["map"]
        assert fill["anonymous_kib"] >= 200 * MIB
        assert fill["mapped_kib"] < 150 * MIB
        assert mapped["mapped_kib"] >= 200 * MIB
        assert outcome.result["anonymous_kib"] < 150 * MIB
        assert outcome.peaks["high_water_kib"] >= 200 * MIB
        assert [(name, done) for name, _, done in outcome.segments] == [("start", 0), ("fill", 7), ("map", 1)]

    @pytest.mark.parametrize("code", ["raise SystemExit(3)", "pass"])
    def test_child_without_a_result_is_an_error(self, tmp_path: Path, code: str) -> None:
        """Whether it failed or just said nothing."""
        watching = importlib.import_module("watching")
        (tmp_path / "child.py").write_text(code)
        with pytest.raises(watching.StageFailed, match=r"child\.py add ended with status"):
            watching.run(tmp_path / "child.py", ["add"])


def test_pages_in_memory_are_counted_and_dropped(disk: Path) -> None:
    """A file just written is in memory; after dropping it is not, unless the file system is memory itself."""
    large = importlib.import_module("large")
    size = 300 * 4096 + 1
    (disk / "file").write_bytes(bytes(size))
    with open(disk / "file", "rb") as file:
        assert large._resident(file.fileno()) == (301, 301)
    kind = subprocess.run(["stat", "-f", "-c", "%T", str(disk)], capture_output=True, text=True, check=True).stdout
    if kind.strip() in ("tmpfs", "ramfs"):
        pytest.skip(f"files under {disk} live in memory: nothing can be dropped")
    assert large._drop_cache(disk) < 0.1


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("large")


@pytest.fixture(scope="module")
def results(work: Path) -> dict[str, Any]:
    """Return what two small steps write, the second by a run that goes on with the first."""
    arguments = ("--quick", "--work", str(work), "--out", str(work / "out"))
    first = run("large.py", *arguments, "--rows", "3000")
    assert first.returncode == 0, first.stderr
    refused = run("large.py", *arguments, "--rows", "3000,5000")
    assert refused.returncode == 2
    assert "--resume" in refused.stderr
    second = run("large.py", *arguments, "--rows", "3000,5000", "--resume")
    assert second.returncode == 0, second.stderr
    assert "3,000 rows …" not in second.stderr
    found: dict[str, Any] = json.loads((work / "out" / "large.json").read_text())
    return found


@pytest.mark.campaign
class TestLarge:
    def test_each_step_is_measured_whole(self, results: dict[str, Any]) -> None:
        """Index, memory by stage, recall with its interval, warm and cold, disk; exact answers over all rows."""
        assert [step["rows"] for step in results["steps"]] == [3000, 5000]
        for step in results["steps"]:
            serving, peaks = step["serving"], step["peaks"]
            assert 0 < step["bytes_per_vector"] <= 128
            assert serving["interval_99"][0] <= serving["knn_recall"] <= serving["interval_99"][1]
            assert serving["interval_99"][1] >= results["recall"]
            assert serving["warm_us"]["p50"] <= serving["warm_us"]["p95"]
            assert serving["warm_without_chunks_us"]["p50"] < serving["warm_us"]["p50"]
            assert step["cold"]["search_us"]["p50"] > 0
            assert min(peaks["add"]["anonymous_kib"], peaks["optimize"]["anonymous_kib"]) > 10 * MIB
            assert step["disk_bytes"] > step["rows"] * 64 * 2
            assert step["hardness"]["rows"] == step["rows"]
            assert {stage["name"] for stage in step["stages"]} >= {"add", "train", "index", "tune"}

    def test_vectors_are_kept_in_half_precision(self, results: dict[str, Any], work: Path) -> None:
        """As asked for; the file holds the rows and no more than that."""
        assert results["dtype"] == "float16"
        (file,) = (work / "kb").glob("gen-*/vectors.f16")
        assert file.stat().st_size == 5000 * 64 * 2

    def test_page_and_picture(self, results: dict[str, Any], work: Path) -> None:
        """The page has a line per step in each table, and names what the generated vectors are like."""
        page = (work / "out" / "large.md").read_text()
        assert page.count("\n| 5,000 |") == 3
        assert results["stopped"] in page
        assert "relative contrast" in page
        assert ET.parse(work / "out" / "large.svg").getroot().tag.endswith("svg")

    def test_step_that_would_not_fit_is_not_begun(self, results: dict[str, Any], work: Path) -> None:
        """The page says what stopped it; what was measured stays."""
        arguments = ("--quick", "--work", str(work), "--out", str(work / "out"), "--resume")
        done = run("large.py", *arguments, "--rows", "3000,5000,4000000", "--until-seconds", "30")
        assert done.returncode == 0, done.stderr
        assert "Stopped before 4,000,000 rows: by the growth so far the step would take" in done.stdout
        assert "\n| 5,000 |" in done.stdout
        assert len(results["steps"]) == 2


class TestGrowth:
    def test_power_law_is_recovered(self) -> None:
        """t₀ and α of points that follow one exactly, with the paper's α beside where it gives one."""
        growth = importlib.import_module("growth")
        measured = [
            {"recall": 0.99, "engine": "", "rows": rows, "p50_us": {"median": 3 * rows**0.4}}
            for rows in (10_000, 100_000, 1_000_000)
        ]
        fit = growth._fit(0.99, "", measured)
        assert (fit["alpha"], fit["paper_alpha"]) == (0.4, 0.45)
        assert fit["t0_us"] == pytest.approx(3, rel=0.01)
        assert fit["largest_deviation"] < 0.001
        assert growth._fit(0.95, "", [{**one, "recall": 0.95} for one in measured])["paper_alpha"] is None

    @pytest.mark.campaign
    def test_quick_run_measures_every_size_and_recall(self, tmp_path: Path) -> None:
        """Sizes and recalls, each with its index, a recall near the one asked for, and times; and a fit per recall."""
        stream = clustered(32)
        data = tmp_path / "realq"
        data.mkdir()
        np.save(data / "base.f16.npy", together(stream, 0, 10).astype(np.float16))
        np.save(data / "queries.f16.npy", stream.queries(200).astype(np.float16))
        np.save(data / "gt_ip_top100.npy", np.zeros((200, 100), dtype=np.int32))
        (data / "texts.jsonl.gz").write_bytes(b"")
        np.save(tmp_path / "grown.npy", together(stream, 0, 3000).astype(np.float16))
        done = run(
            "growth.py", "--quick", "--vectors", str(tmp_path / "grown.npy"), "--recalls", "0.75,0.95",
            "--out", str(tmp_path), data=data,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        results = json.loads((tmp_path / "growth.json").read_text())
        assert [(one["recall"], one["rows"]) for one in results["measured"]] == [
            (recall, rows) for recall in (0.75, 0.95) for rows in (1500, 3000)
        ]
        for one in results["measured"]:
            assert one["knn_recall"] >= one["recall"] - 0.06
            assert one["p50_us"]["low"] <= one["p50_us"]["median"] <= one["search_p50_us"]["high"]
            assert one["open_and_first_search_ms"]["low"] > 0
            assert one["first_pass_us"]["p99"]["median"] >= one["first_pass_us"]["p50"]["median"] > 0
        assert [fit["recall"] for fit in results["fits"]] == [0.75, 0.95]
        assert ET.parse(tmp_path / "growth.svg").getroot().tag.endswith("svg")

    def test_too_few_vectors_are_refused(self, tmp_path: Path) -> None:
        """Exit 2, with how many there are and how many are needed."""
        stream = clustered(32)
        for name, rows in (("base.f16", 10), ("queries.f16", 60)):
            np.save(tmp_path / f"{name}.npy", together(stream, 0, rows).astype(np.float16))
        np.save(tmp_path / "gt_ip_top100.npy", np.zeros((60, 100), dtype=np.int32))
        (tmp_path / "texts.jsonl.gz").write_bytes(b"")
        done = run("growth.py", "--quick", "--vectors", str(tmp_path / "base.f16.npy"), data=tmp_path)
        assert done.returncode == 2
        assert "holds 10 vectors; 3,000 are needed" in done.stderr

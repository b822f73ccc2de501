from __future__ import annotations

import gzip
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reperio.index.library import symphony

ROWS, DIMENSION, QUERIES = 3000, 64, 120
RUN = Path(__file__).parents[2] / "eval" / "bench" / "run.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a data folder in the documented format: unit vectors, their true neighbours, some words."""
    made = tmp_path_factory.mktemp("realq")
    random = np.random.default_rng(5)
    base, queries = (_unit(random.normal(size=(n, DIMENSION))).astype(np.float16) for n in (ROWS, QUERIES))
    # The benchmark normalises again, so the truth is that of the normalised float16 values.
    nearest = np.argsort(-(_unit(queries) @ _unit(base).T), axis=1)[:, :100].astype(np.int32)
    for name, array in (("base.f16", base), ("queries.f16", queries), ("gt_ip_top100", nearest)):
        np.save(made / f"{name}.npy", array)
    with gzip.open(made / "texts.jsonl.gz", "wt") as file:
        file.writelines(json.dumps({"id": str(row), "text": f"what is number {row}?"}) + "\n" for row in range(ROWS))
    return made


@pytest.fixture(scope="module")
def results(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what the parts that need no model write, together with where."""
    out = tmp_path_factory.mktemp("results")
    parts = "ingest,overhead,opening,recall,growth,engines,exact"
    done = run(folder, "--quick", "--only", parts, "--out", str(out), "--note", "made by a test")
    assert done.returncode == 0, done.stderr
    return {"out": out, "printed": done.stdout, **json.loads((out / "bench.json").read_text())}


def run(data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"REPERIO_DATA": str(data)}
    return subprocess.run(
        [sys.executable, str(RUN), *arguments], env=environment, capture_output=True, text=True, timeout=240
    )


def _unit(matrix: Any) -> Any:
    plain = np.asarray(matrix, dtype=np.float64)
    return plain / np.linalg.norm(plain, axis=1, keepdims=True)


def figures(results: dict[str, Any], part: str) -> Any:
    return results["parts"][part]["figures"]


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from _leaves(inner)
    else:
        yield value


def test_facts_of_machine_and_run_are_recorded(results: dict[str, Any]) -> None:
    """The file says on what, when, with how many rows and under which load it was measured."""
    assert set(results["machine"]) >= {"cpu", "cores", "python", "numpy", "faiss", "sqlite_of_apsw", "sqlite_of_python"}
    for part in results["parts"].values():
        assert part["quick"] is True
        assert part["rows"] == ROWS
        assert part["note"] == "made by a test"
        assert part["load_before"] >= 0


def test_no_path_of_the_machine_is_recorded(results: dict[str, Any], folder: Path) -> None:
    """Results are committed: neither file names a directory or the host."""
    for name in ("bench.json", "bench.md"):
        text = (results["out"] / name).read_text()
        assert os.uname().nodename not in text
        for path in (folder, results["out"], Path.home(), RUN.parents[2]):
            assert str(path) not in text


def test_temporary_collections_are_removed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left in the temporary directory; a quick run without --out writes no file at all."""
    results = RUN.parents[1] / "results"
    before = {file: file.stat().st_mtime_ns for file in results.glob("*")}
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert run(folder, "--quick", "--only", "exact").returncode == 0
    assert list(tmp_path.iterdir()) == []
    assert {file: file.stat().st_mtime_ns for file in results.glob("*")} == before


def test_ingest_is_compared_with_scripts_that_write_the_same(results: dict[str, Any]) -> None:
    """Each way has a positive ratio to its script: with an index of words to one that keeps one, too."""
    found = figures(results, "ingest")
    ratios, to = found["ratio"], found["ratio_to"]
    assert set(ratios) == set(found["rows_per_second"]) == set(found["processor_ratio"]) == set(to)
    assert (to["add"], to["add, auto_optimize=False"]) == ("bare, apsw, 8 KB pages, words",) * 2
    assert to["add, lexical='none', auto_optimize=False"] == "bare, apsw"
    assert all(0 < ratio["low"] <= ratio["median"] <= ratio["high"] for ratio in ratios.values())
    assert 780 <= found["text_bytes"] <= 820
    assert 150 <= found["metadata_bytes"] <= 250


def test_ingest_split_adds_up(results: dict[str, Any]) -> None:
    """The kinds of work sum up to the whole, and only `add` computes checksums."""
    split = figures(results, "ingest")["split_us_per_row"]
    for kinds in split.values():
        assert sum(kinds.values()) == pytest.approx(2 * kinds["all"], abs=0.1)
    assert split["add, auto_optimize=False"]["checksum"] > 0
    assert split["bare, apsw, 8 KB pages, words"]["checksum"] == 0


def test_overhead_compares_the_same_search(results: dict[str, Any]) -> None:
    """Of a graph, where one can be built, and of lists, at least ten rows are asked for, and all times are positive."""
    found = figures(results, "overhead")["indexes"]
    assert [name.split(",")[0] for name in found] == [*["SymphonyQG32"] * symphony.is_installed(), "IVF1"]
    for one in found.values():
        assert one["candidates"] >= 10
        assert set(one["beyond_bare_us"]) == set(one["p50_us"]) - {"bare"}
        assert all(value > 0 for value in _leaves(one["p50_us"]))
        assert all(value > 0 for value in _leaves(one["steps_us"]))


def test_opening_is_measured_in_both_states_and_both_ways(results: dict[str, Any]) -> None:
    """Writer and reader, cold and warm; a process owns no more than it has resident."""
    ways = figures(results, "opening")["by_way"]
    assert set(ways) == {"writer, warm", "writer, cold", "read_only, warm", "read_only, cold"}
    for way in ways.values():
        assert way["both_s"]["low"] > 0
        for when in ("before_mib", "after_mib", "later_mib"):
            assert 0 < way[when]["anonymous"]["median"] < way[when]["rss"]["median"]


def test_recall_is_perfect_where_the_search_is_exact(results: dict[str, Any]) -> None:
    """Asked for 1.0, all true neighbours are found, and fewer asked for never finds clearly more."""
    indexes = figures(results, "recall")["indexes"]
    assert indexes["recommended"]["by_recall"]["1.0"]["knn_recall"] == 1.0
    assert indexes["recommended"]["bytes_per_vector"] < DIMENSION * 4
    for one in indexes.values():
        by_recall = [found["knn_recall"] for found in one["by_recall"].values()]
        assert all(later >= earlier - 0.01 for earlier, later in itertools.pairwise(by_recall))
        assert all(found["p50_us"]["median"] <= found["p95_us"]["high"] for found in one["by_recall"].values())


def test_growth_and_exact_cover_their_sizes(results: dict[str, Any]) -> None:
    """Each size has its figures, and the default search finds most of the true neighbours at each."""
    growth = figures(results, "growth")["by_rows"]
    assert list(growth) == ["1000", "3000"]
    assert all(0.5 < one["knn_recall"] <= 1 for one in growth.values())
    sizes = figures(results, "exact")["p50_us"]
    assert list(sizes) == ["1000", "2000"]
    assert all(value > 0 for value in _leaves(sizes))


def test_engines_are_compared_in_all_three_respects(results: dict[str, Any]) -> None:
    """Inserts, fetches with and without mapped pages, and opening, for each engine."""
    found = figures(results, "engines")
    assert set(found["inserted_rows_per_second"]) == set(found["open_and_read_state_p50_us"]) == {"apsw", "sqlite3"}
    assert set(found["fetch_ten_rows_p50_us"]) == {"apsw", "apsw, mapped", "sqlite3", "sqlite3, mapped"}
    assert found["inserts_apsw_over_sqlite3"]["low"] > 0


def test_page_shows_every_part_with_its_command(results: dict[str, Any]) -> None:
    """bench.md is what was printed, and each part names the command that makes it."""
    page = (results["out"] / "bench.md").read_text()
    assert page in results["printed"]
    for part in results["parts"]:
        assert f"run.py --only {part}" in page


@pytest.mark.campaign
@pytest.mark.model
def test_parts_run_later_are_merged(results: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    """Running one part keeps the others' figures; the two precisions of the demo's embedder agree."""
    (tmp_path / "bench.json").write_bytes((results["out"] / "bench.json").read_bytes())
    done = run(folder, "--quick", "--only", "embedding", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    merged = json.loads((tmp_path / "bench.json").read_text())["parts"]
    assert {name: part for name, part in merged.items() if name != "embedding"} == results["parts"]
    found = merged["embedding"]["figures"]
    assert found["cosine_between"]["min"] >= 0.999
    assert set(found["texts_per_second"]) == {"float32", "bfloat16"}


def test_missing_data_is_named_in_one_line(tmp_path: Path) -> None:
    """Without the data: exit 2, one line, no traceback, and nothing written."""
    done = run(tmp_path / "nowhere", "--quick", "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "lacks base.f16.npy" in done.stderr
    assert "REPERIO_DATA" in done.stderr
    assert not (tmp_path / "out").exists()


def test_unknown_part_is_refused(folder: Path) -> None:
    """A misspelt part is named, with those there are."""
    done = run(folder, "--quick", "--only", "ingest,opennig")
    assert done.returncode == 2
    assert "'opennig'" in done.stderr
    assert "opening" in done.stderr

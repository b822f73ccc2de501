import json
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reperio
from reperio.sharding import ShardSet
from tests.cli.test_main import own_lines, refused, run, run_json

COMMANDS = ["build", "add", "delete", "split", "merge", "check", "doctor", "backup", "restore", "optimize", "info"]


def _lines(path: Path, first: int, end: int) -> Path:
    vectors = np.random.default_rng(first).standard_normal((end - first, 4))
    rows = [
        {"id": f"c{at}", "text": f"text {at}", "n": at, "vector": vector.tolist()}
        for at, vector in zip(range(first, end), vectors, strict=True)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    reperio.build_shards(_lines(tmp_path / "a.jsonl", 0, 60), tmp_path / "shards", shards=2, recall=None, map=map)
    return tmp_path / "shards"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    """As of one collection: a sentence of what it does, and what each argument and option is for."""
    result = run("shards", command, "--help")
    assert result.exit_code == 0
    assert "--json" in result.stdout
    rows = re.findall(r"│ \*? *(?:--?[\w-]+|[A-Z]+) .*│", result.stdout)
    assert len(rows) >= 2
    assert all(len(row.split()) > 4 for row in rows)


def test_from_lines_to_shards_and_back(tmp_path: Path) -> None:
    """Each command does its part in words and as a document: build, add, delete, split, merge, back up, restore."""
    source, root = _lines(tmp_path / "a.jsonl", 0, 60), tmp_path / "shards"
    # One process, since what is tested is the command; Ray has tests of its own.
    result = run("shards", "build", source, "--into", root, "--shards", "2", "--no-index", "--processes", "1")
    assert (result.exit_code, own_lines(result)) == (0, [])
    assert result.stdout == f"60 chunks in 2 shards of {root}, 0 embedded\n"
    more = _lines(tmp_path / "b.jsonl", 50, 70)
    assert run_json("shards", "add", root, more) == {"added": 10, "updated": 10, "unchanged": 0, "embedded": 0}
    assert run_json("shards", "add", root, more)["unchanged"] == 20
    assert run_json("shards", "delete", root, "c1", "c2", "c1", "absent") == {"deleted": 2, "asked": 3}
    assert run_json("shards", "delete", root, "--where", '{"n": {"$gte": 65}}') == {"deleted": 5}
    done = run_json("shards", "split", root, "shard-000001", "--no-index")
    assert (done["removed"], list(done["made"])) == (["shard-000001"], ["shard-000003", "shard-000004"])
    told = run("shards", "merge", root, "shard-000004", "shard-000002", "--no-index").stdout
    assert re.fullmatch(r"shard-000004, shard-000002 became shard-000005 \(\d+ chunks\)\n", told)
    assert run("shards", "check", root).stdout == "sound: 63 chunks verified in 2 shards\n"
    assert run("shards", "doctor", root).stdout == "sound: 2 shards\n"
    assert run_json("shards", "backup", root, tmp_path / "backup") == {"destination": str(tmp_path / "backup")}
    restored = run_json("shards", "restore", tmp_path / "backup", tmp_path / "again")
    assert (restored["count"], list(restored["shards"])) == (63, ["shard-000003", "shard-000005"])
    built = run_json("shards", "optimize", root, "--index", "Flat")
    assert list(built["indexes"]) == ["shard-000003", "shard-000005"]
    shown = run("shards", "info", root, columns=200).stdout
    assert "63" in shown
    assert "shard-000005  slots" in shown


def test_damage_has_the_exit_code_of_damage(shards: Path) -> None:
    """1 where something is wrong, 2 where a command cannot be done, with the cure in its words."""
    with open(next((shards / "shards" / "shard-000002").glob("gen-*/vectors.f32")), "r+b") as file:
        file.write(b"\x01\x02\x03\x04")
    result = run("shards", "check", shards)
    assert result.exit_code == 1
    assert result.stdout.startswith("shard-000002:\n")
    assert run("shards", "doctor", shards).exit_code == 1
    mended = run("shards", "doctor", shards, "--mend")
    assert mended.exit_code == 0
    assert "lost: " in mended.stdout
    assert "delete takes ids or --where" in refused("shards", "delete", shards)
    assert "no shard 'x'" in refused("shards", "split", shards, "x")
    assert "reperio shards build" in refused("shards", "info", shards / "nothing")
    assert "is no file of .jsonl or .parquet" in refused("shards", "add", shards, shards)


def test_files_that_cannot_be_read_have_the_exit_code_of_ingest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3, with the files listed; the others are stored."""
    pytest.importorskip("pathspec")
    from reperio.sharding.building import build as building
    from tests.conftest import TrigramEmbedder

    embedder: Any = TrigramEmbedder()
    monkeypatch.setattr("reperio.sharding.building.sources.resolve", lambda _: embedder)
    monkeypatch.setattr("reperio.sharding.building.tasks.resolve", lambda _: embedder)
    monkeypatch.setattr(building, "run_on_ray", lambda function, tasks, **_: map(function, tasks))
    monkeypatch.setattr(building, "connected", lambda _: nullcontext())
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# A\n\nA text.\n")
    (tmp_path / "docs" / "b.jsonl").write_text("{")
    result = run(
        "shards",
        "build",
        tmp_path / "docs",
        "--into",
        tmp_path / "s",
        "--shards",
        "1",
        "--metadata",
        "team=a",
        "--no-index",
    )
    assert result.exit_code == 3
    assert "failed: " in result.stdout
    with ShardSet(tmp_path / "s") as shards:
        assert [chunk.metadata["team"] for _, kb in shards for chunk in kb] == ["a"]

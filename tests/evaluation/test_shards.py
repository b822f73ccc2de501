"""The gate over shards: every check that it has over one collection."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

import reperio
from reperio.cli.main import app
from reperio.evaluation import read_golden
from reperio.evaluation.sharded import everything, opened
from reperio.evaluation.verdicts import Verdict
from tests.conftest import TrigramEmbedder

NUMBER = 120


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gate")
    rows = [{"id": f"c{at}", "text": f"the answer to question {at}", "n": at % 3} for at in range(NUMBER)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = folder / "rows.jsonl"
    reperio.build_shards(source, folder / "shards", shards=2, embedder=TrigramEmbedder(), recall=None, map=map)
    return folder / "shards"


def test_the_gate_passes_sound_shards_and_names_the_damaged_one(root: Path, tmp_path: Path) -> None:
    """Integrity, reachability, filters, contract and a restored backup are checked over all shards together."""
    with opened(root, TrigramEmbedder()) as kb:
        report = reperio.gate(kb)
        assert sum(len(chunks) for chunks, _ in everything(kb)) == NUMBER
    verdicts = {check.name: check.verdict for check in report.checks}
    assert Verdict.ERROR not in verdicts.values()
    for name in ("integrity", "reachable", "filters", "contract", "neighbours", "vectors", "backup"):
        assert verdicts[name] is Verdict.PASS, name
    damaged = tmp_path / "damaged"
    shutil.copytree(root, damaged)
    with open(next((damaged / "shards" / "shard-000002").glob("gen-*/vectors.f32")), "r+b") as file:
        file.write(b"\x01\x02\x03\x04")
    with opened(damaged, TrigramEmbedder()) as kb:
        report = reperio.gate(kb, only=["integrity", "backup"])
    assert [check.verdict for check in report.checks] == [Verdict.FAIL, Verdict.FAIL]
    assert report.checks[0].evidence[0].startswith("shard-000002: ")


def test_a_golden_set_is_drafted_grown_and_checked_over_shards(root: Path, tmp_path: Path) -> None:
    """The commands take a directory of shards as they take a collection."""
    golden = tmp_path / "golden.yaml"
    for words in (["init", "--number", "3"], ["grow", "--number", "2"], ["check"]):
        verb, *options = words
        named = ["--embedder", "tests.conftest:TrigramEmbedder"]
        done = CliRunner().invoke(app, ["golden", verb, str(root), str(golden), *options, *named])
        assert done.exit_code == 0, done.output
    assert len(read_golden(golden).queries) >= 5
    added = ["golden", "add", str(golden), "what?", "--expect", "c9999", "--kb", str(root)]
    assert "does not hold" in CliRunner().invoke(app, added).output

"""The golden sets that this repository gates itself by."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reperio.evaluation import read_golden
from tests.data import skip_without_data

ROOT = Path(__file__).parents[2]
GATE = ROOT / "eval" / "gate"


def test_every_answer_is_in_the_documentation_of_this_python() -> None:
    """Whichever Python runs it: the set keeps to what 3.10 to 3.13 document under the same names."""
    golden = read_golden(GATE / "python_docs.yaml")
    assert len(golden.queries) >= 40
    assert golden.thresholds
    # In a process of its own: it imports the whole standard library.
    script = "import json, python_docs; print(json.dumps([chunk.id for chunk in python_docs.collect()]))"
    made = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT / "examples", capture_output=True, text=True, check=True, timeout=120
    )
    documented = set(json.loads(made.stdout.splitlines()[-1]))
    missing = {query.text: set(query.expect) - documented for query in golden.queries}
    assert {text: ids for text, ids in missing.items() if ids} == {}


def test_the_golden_set_of_the_data_is_read_as_it_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made from the data when it is needed, for none of it belongs in the repository."""
    monkeypatch.syspath_prepend(str(GATE))
    healthy: Any = importlib.import_module("healthy")
    try:
        texts = healthy.load("scifact")
    except healthy.DataMissing:
        skip_without_data()
    made = healthy.golden(texts, 50)
    healthy.write_golden(made, tmp_path / "golden.jsonl")
    read = read_golden(tmp_path / "golden.jsonl")
    assert [(each.id, each.text, each.expect, each.where, each.mode, each.tags) for each in read.queries] == [
        (each.id, each.text, each.expect, each.where, each.mode, each.tags) for each in made.queries
    ]

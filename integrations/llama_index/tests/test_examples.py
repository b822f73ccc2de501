"""Each example runs as it stands, as the main program; in this process, so that torch is imported once."""

from __future__ import annotations

import runpy

import pytest

from tests.running import ROOT

pytestmark = pytest.mark.model


def run(name: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Run an example and return the lines printed."""
    runpy.run_path(str(ROOT / "examples" / f"llama_index_{name}.py"), run_name="__main__")
    return capsys.readouterr().out.splitlines()


def test_rag(capsys: pytest.CaptureFixture[str]) -> None:
    """Each question is answered from the document that tells, which is named as its source."""
    lines = run("rag", capsys)
    assert [line for line in lines if line.startswith("  from")] == ["  from leave", "  from vpn", "  from password"]
    assert "30 days of paid leave" in lines[1]


def test_refresh(capsys: pytest.CaptureFixture[str]) -> None:
    """The first day everything is embedded, then what changed, and what is gone is deleted."""
    assert run("refresh", capsys) == [
        "Monday: 3 new or changed, 3 texts embedded, 3 documents",
        "Tuesday: 1 new or changed, 1 texts embedded, 3 documents",
        "Wednesday, after deleting travel: 0 new or changed, 0 texts embedded, 2 documents",
        "Thursday, with travel back: 1 new or changed, 1 texts embedded, 3 documents",
        "What may a flight cost? Flights need the approval of the team lead; trains do not.",
    ]

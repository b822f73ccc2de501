"""Each example runs as it stands, as the main program; in this process, so that torch is imported once."""

from __future__ import annotations

import runpy
from collections.abc import Callable

import pytest

from tests.running import ROOT

pytestmark = pytest.mark.model

Example = Callable[[str], list[str]]


@pytest.fixture
def example(capsys: pytest.CaptureFixture[str]) -> Example:
    """Give a function that runs an example and returns the lines printed."""

    def run(name: str) -> list[str]:
        runpy.run_path(str(ROOT / "examples" / f"langchain_{name}.py"), run_name="__main__")
        return capsys.readouterr().out.splitlines()

    return run


def test_rag(example: Example) -> None:
    """Each question is answered from the passage that tells, which is named as the first source."""
    lines = example("rag")
    assert [line for line in lines if line.startswith("?")] == [
        "? How many days of vacation do I get?",
        "? What does E4711 mean?",
        "? How can I get a new password?",
    ]
    assert [line.split()[1].rstrip(",") for line in lines if line.startswith("  sources:")] == [
        "leave",
        "vpn",
        "password",
    ]
    assert "30 days of paid leave" in lines[1]


def test_indexing(example: Example) -> None:
    """Only what changed is added, what is gone is deleted, and a restart changes nothing."""
    assert example("indexing")[::2] == [
        "Monday: 3 added",
        "Tuesday: 1 added, 2 skipped, 1 deleted",
        "Wednesday: 2 skipped, 1 deleted",
        "after a restart: 2 skipped",
    ]


def test_self_query(example: Example) -> None:
    """Filters select, the question orders, the limit cuts."""
    lines = example("self_query")
    assert [line for line in lines if not line.startswith("?")] == [
        "  1979 Three men walk into the Zone, three men walk out",
        "  1995 Toys come alive and have a blast doing so",
        "  1995 Toys come alive and have a blast doing so",
        "  2004 A family of superheroes is called back to save the world",
    ]


def test_reranking(example: Example) -> None:
    """The reranker's scores order the documents, in the search and in the chain alike."""
    lines = example("reranking")
    titles = [number for number, line in enumerate(lines) if not line.startswith((" ", "?"))]
    inside, chained = lines[titles[1] + 1 : titles[2]], lines[titles[2] + 1 :]
    assert len(inside) == 3
    assert chained == inside[:2]
    scores = [float(line.split()[0]) for line in inside]
    assert scores == sorted(scores, reverse=True)

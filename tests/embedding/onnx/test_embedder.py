"""The real model on ONNX Runtime, next to the same one on sentence-transformers."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import reperio
from reperio import Chunk, EmbedderFailed, OnnxEmbedder, SentenceTransformerEmbedder
from reperio.embedding.contract import AGREEMENT, CANARIES
from reperio.embedding.onnx.embedder import _BATCH

pytestmark = pytest.mark.model

ROOT = Path(__file__).resolve().parents[3]
TEXTS = [
    *CANARIES,
    "",
    " \t\n",
    "x",
    "\u0000\ufeff control \u202e and \U0001f600 emoji",
    "unkno☃wn [MASK] [SEP] words",
    "漢字" * 400,
    "supercalifragilistic" * 300,
    "word " * 10_000,
    "one two three four five six seven eight nine ten " * 40,
]


def cosines(left: npt.NDArray[np.float32], right: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return np.asarray(np.einsum("ij,ij->i", left, right) / lengths, dtype=np.float32)


def test_both_engines_make_the_same_vectors(quick: OnnxEmbedder, minilm: SentenceTransformerEmbedder) -> None:
    """Plain, empty, very long and foreign texts get the vectors that sentence-transformers gives them."""
    made = quick.embed_passages(TEXTS)
    assert made.dtype == np.float32
    assert made.shape == (len(TEXTS), 384) == (len(TEXTS), quick.dimension)
    least = 0.99999 if minilm.precision == "float32" else AGREEMENT
    assert cosines(made, minilm.embed_passages(TEXTS)).min() > least
    assert quick.max_tokens == minilm.max_tokens
    assert (quick.query_prompt, quick.passage_prompt) == (minilm.query_prompt, minilm.passage_prompt)


@pytest.mark.parametrize("first", ["onnx", "torch"])
def test_a_collection_of_one_engine_opens_with_the_other(
    quick: OnnxEmbedder, minilm: SentenceTransformerEmbedder, tmp_path: Path, first: str
) -> None:
    """What was embedded with one engine is found with the other, and added to, without embedding it again."""
    engines = (quick, minilm) if first == "onnx" else (minilm, quick)
    with reperio.open(tmp_path / "kb", embedder=engines[0]) as kb:
        kb.add([Chunk(str(n), text) for n, text in enumerate(CANARIES)])
    with reperio.open(tmp_path / "kb", embedder=engines[1]) as kb:
        hit = kb.search(CANARIES[1], k=1)[0]
        assert (hit.chunk.id, hit.score) == ("1", pytest.approx(1, abs=1e-3))
        assert kb.add([Chunk("new", "Bread is baked of flour."), Chunk("0", CANARIES[0])]).embedded == 1
        assert kb.info().embedder == reperio.DEFAULT_EMBEDDER


def test_neither_the_batch_nor_the_number_of_threads_matters(quick: OnnxEmbedder) -> None:
    """A text has the same vector alone, among shorter and longer ones, and on many threads."""
    texts = [f"{'bread and butter ' * (n % 60)}{n}" for n in range(200)]
    together = quick.embed_passages(texts)
    for at in (0, 1, 59, 120):
        np.testing.assert_allclose(together[at], quick.embed_passages([texts[at]])[0], atol=1e-5)
    for threads in (1, 5):
        other = OnnxEmbedder(reperio.DEFAULT_EMBEDDER, threads=threads)
        np.testing.assert_allclose(other.embed_passages(texts), together, atol=1e-5)


def test_batches_hold_every_text_once_and_little_padding(quick: OnnxEmbedder) -> None:
    """Texts of like lengths are computed together, no run has more tokens than it may."""
    tokens = [[7] * (1 + n % 50) for n in range(500)]
    batches = quick._batches(tokens)
    assert sorted(int(place) for places, _, _ in batches for place in places) == list(range(500))
    assert all(filled.size <= _BATCH for _, filled, _ in batches)
    assert sum(filled.size for _, filled, _ in batches) < 1.2 * sum(map(len, tokens))


def test_tokens_are_embedded_like_those_of_the_other_engine(
    quick: OnnxEmbedder, minilm: SentenceTransformerEmbedder
) -> None:
    """Late interaction gets the same tokens, special ones left out, and what is cut off, too."""
    texts = ["unkno☃wn words [MASK]", "", "word " * 1000]
    left, right = (engine.embed_tokens(texts, query=True) for engine in (quick, minilm))
    assert [each.shape for each in left] == [each.shape for each in right]
    np.testing.assert_allclose(left[0], right[0], atol=5e-2 if minilm.precision == "bfloat16" else 1e-4)
    assert quick.embed_tokens([], query=False) == []


def test_cut_texts_are_counted_and_tokens_can_be(quick: OnnxEmbedder, minilm: SentenceTransformerEmbedder) -> None:
    """A text longer than the model reads is counted, one that just fits is not."""
    before = quick.texts_cut
    quick.embed_passages(["word " * 254, "word " * 255, "word " * 100_000])
    assert quick.texts_cut - before == 2
    assert minilm.tokenizer is not None
    for text in TEXTS:
        assert quick.tokenizer.encode(text).ids == minilm.tokenizer.encode(text).ids


def test_prompts_are_put_in_front(quick: OnnxEmbedder) -> None:
    """A prompt gives the vector of prompt and text together."""
    prompted = OnnxEmbedder(reperio.DEFAULT_EMBEDDER, passage_prompt="passage: ", query_prompt="query: ")
    np.testing.assert_allclose(prompted.embed_passages(["bread"]), quick.embed_passages(["passage: bread"]), atol=1e-5)
    np.testing.assert_allclose(prompted.embed_queries(["bread"]), quick.embed_passages(["query: bread"]), atol=1e-5)


def test_no_texts_give_no_vectors(quick: OnnxEmbedder) -> None:
    """An empty list gives a (0, d) array."""
    assert quick.embed_passages([]).shape == (0, 384)


def test_threads_may_share_an_embedder(quick: OnnxEmbedder) -> None:
    """Eight threads embedding at once get the vectors that one gets."""
    expected = quick.embed_queries(TEXTS)
    made: list[npt.NDArray[np.float32]] = []
    threads = [threading.Thread(target=lambda: made.append(quick.embed_queries(TEXTS))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    for each in made:
        np.testing.assert_allclose(each, expected, atol=1e-6)


_FORKED = """
import os, sys
import numpy as np
import reperio
embedder = reperio.OnnxEmbedder(reperio.DEFAULT_EMBEDDER, threads=4)
texts = [f"{'bread ' * (n % 200)}{n}" for n in range(100)]
expected = embedder.embed_passages(texts)
child = os.fork()
if child == 0:
    same = np.allclose(embedder.embed_passages(texts), expected, atol=1e-6)
    sys.exit(0 if same else 3)  # through Python's end, as a child may
assert "torch" not in sys.modules and os.waitpid(child, 0)[1] == 0
"""


def test_a_forked_child_embeds_and_ends(quick: OnnxEmbedder) -> None:
    """A child of a process that has embedded gets the same vectors and comes to its end; nothing loads PyTorch."""
    assert quick
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", _FORKED], check=True, timeout=100, env=environment, cwd=ROOT)


_QUIET = """
import os, sys
import reperio
assert "onnxruntime" not in sys.modules
before = len(os.listdir("/proc/self/task"))
reperio.OnnxEmbedder(reperio.DEFAULT_EMBEDDER).embed_queries(["a"])
assert len(os.listdir("/proc/self/task")) == before, "a thread of telemetry"
assert "ORT_DISABLE_TELEMETRY" not in os.environ
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc")
def test_the_runtime_sends_nothing(quick: OnnxEmbedder) -> None:
    """ONNX Runtime is imported without its telemetry, and so without a thread of its own."""
    assert quick
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    subprocess.run([sys.executable, "-c", _QUIET], check=True, timeout=100, env=environment, cwd=ROOT)


def test_a_model_that_is_not_there_is_explained(quick: OnnxEmbedder, tmp_path: Path) -> None:
    """A path without a model names what is missing, and the engine that may have it."""
    assert quick
    with pytest.raises(EmbedderFailed, match=r"no modules\.json\. SentenceTransformerEmbedder"):
        OnnxEmbedder(str(tmp_path))


@pytest.mark.parametrize("name", ["", "./nowhere", "no/such-model"])
def test_a_name_that_is_no_model_is_explained(quick: OnnxEmbedder, name: str) -> None:
    """Neither the current folder nor a traceback of the hub's library takes its place."""
    assert quick
    with pytest.raises(EmbedderFailed, match=r"cannot be loaded: .*Give a local path"):
        OnnxEmbedder(name)


def test_a_wrong_number_of_threads_is_refused() -> None:
    """Before anything is loaded."""
    with pytest.raises(reperio.InvalidInput, match="threads"):
        OnnxEmbedder(reperio.DEFAULT_EMBEDDER, threads=0)

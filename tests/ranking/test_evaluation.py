"""The scripts of eval/reranking: measures, folds, batches, and the reference figures of fusion."""

from __future__ import annotations

import gzip
import importlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reperio.ranking import CrossEncoderReranker, Ranked
from tests.data import skip_without_data

SCRIPTS = Path(__file__).parents[2] / "eval" / "reranking"


@pytest.fixture(scope="module", autouse=True)
def on_path() -> Iterator[None]:
    """Let the scripts be imported as they import each other: by their names alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        yield


@pytest.fixture(scope="module")
def text_sets() -> Any:
    return importlib.import_module("text_sets")


@pytest.fixture(scope="module")
def train() -> Any:
    return importlib.import_module("train")


def made(text_sets: Any, *, articles: int = 8) -> Any:
    """Three paragraphs and six questions per article; the vectors of an article's paragraphs lie close together."""
    rng, count = np.random.default_rng(3), articles * 3
    centres = np.repeat(rng.normal(size=(articles, 16)), 3, axis=0)
    vectors = centres + 0.3 * rng.normal(size=(count, 16))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    gold = [at // 2 for at in range(count * 2)]
    return text_sets.TextSet(
        name="made",
        passages=[f"paragraph {row} of article {row // 3}, which says word{row}." for row in range(count)],
        queries=[f"question {at} about paragraph {row}?" for at, row in enumerate(gold)],
        relevant=[{row} for row in gold],
        articles=[f"article {row // 3}" for row in range(count)],
        answers=[[f"Word{row}."] for row in gold],
        passage_vectors=vectors,
        query_vectors=vectors[gold],
    )


def test_measures_equal_their_definitions(text_sets: Any) -> None:
    """By hand: nDCG and recall, with a relevant passage missing, and with more of them than k."""
    relevant = [{1, 2, 3}, {7}, set(range(12))]
    run = [[1, 9, 3], [5, 6], list(range(11))]
    ideal = 1 + 1 / math.log2(3) + 1 / 2
    assert text_sets.ndcg(run, relevant).tolist() == pytest.approx([(1 + 1 / 2) / ideal, 0, 1])
    assert text_sets.recall(run, relevant).tolist() == pytest.approx([2 / 3, 0, 10 / 12])


def test_measures_equal_those_of_ir_measures(text_sets: Any) -> None:
    """Random runs measured by trec_eval's own code."""
    measures = pytest.importorskip("ir_measures", reason="ir_measures is not installed")
    rng = np.random.default_rng(5)
    run = [rng.permutation(40)[:20].tolist() for _ in range(30)]
    relevant = [set(rng.permutation(40)[: rng.integers(1, 15)].tolist()) for _ in run]
    judged = {str(at): {str(row): 1 for row in rows} for at, rows in enumerate(relevant)}
    ranked = {str(at): {str(row): -float(rank) for rank, row in enumerate(rows)} for at, rows in enumerate(run)}
    theirs = measures.calc_aggregate([measures.nDCG @ 10, measures.R @ 10], judged, ranked)
    assert text_sets.ndcg(run, relevant).mean() == pytest.approx(theirs[measures.nDCG @ 10])
    assert text_sets.recall(run, relevant).mean() == pytest.approx(theirs[measures.R @ 10])


def test_no_article_is_in_two_folds(text_sets: Any, train: Any) -> None:
    """Questions of one article share a fold, and every fold has as many articles as the others."""
    texts = made(text_sets)
    folds = train.fold_of(texts)
    of_article = {texts.articles[min(right)]: fold for right, fold in zip(texts.relevant, folds, strict=True)}
    assert [of_article[texts.articles[min(right)]] for right in texts.relevant] == folds
    assert sorted(of_article.values()) == sorted(list(range(train.FOLDS)) * 2)


def test_a_step_of_training_is_a_function_of_its_number(text_sets: Any, train: Any) -> None:
    """The same pairs whenever it is taken; an epoch has each question once; no competitor answers the question."""
    texts = made(text_sets)
    questions = [at for at, fold in enumerate(train.fold_of(texts)) if fold != train.HELD_OUT]
    assert len(questions) == 36
    epoch = [train.batch(texts, questions, step) for step in range(4)]
    assert epoch == [train.batch(texts, questions, step) for step in range(4)]
    asked = [pair[0] for pairs in epoch for pair in pairs[:: 1 + train.OTHERS]]
    assert len(set(asked)) == len(asked) == 32
    assert set(asked) <= {texts.queries[at] for at in questions}
    for pairs in epoch:
        for start in range(0, len(pairs), 1 + train.OTHERS):
            (query, gold), *others = pairs[start : start + 1 + train.OTHERS]
            right = texts.relevant[texts.queries.index(query)]
            assert texts.passages.index(gold) in right
            assert len(others) == train.OTHERS
            assert all(text != gold for _, text in others)


@pytest.mark.campaign  # a minute
@pytest.mark.model
def test_training_in_pieces_is_the_same_training(text_sets: Any, train: Any, tmp_path: Path) -> None:
    """Two steps at once, and one step in each of two runs: the same scores, from a model that can be loaded."""
    data = write(made(text_sets), tmp_path / "squad-dev").parent
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    assert train.main(["--work", str(whole), "--steps", "2", "--data", str(data)]) == 0
    for _ in range(2):
        assert not (pieces / "model").exists()
        assert train.main(["--work", str(pieces), "--steps", "2", "--seconds", "1e-3", "--data", str(data)]) == 0
    asked = (["question 0 about paragraph 0?"], [["paragraph 0", "paragraph 1"]])
    first, second = (CrossEncoderReranker(str(work / "model")).score(*asked) for work in (whole, pieces))
    assert first[0] == pytest.approx(second[0], abs=1e-5)
    assert train.main(["--work", str(whole), "--data", str(tmp_path / "nowhere")]) == 2


def write(texts: Any, folder: Path) -> Path:
    """Write a set as eval/README.md describes it."""
    folder.mkdir()
    for name, lines in (
        (
            "corpus",
            [{"id": f"p{row}", "title": texts.articles[row], "text": text} for row, text in enumerate(texts.passages)],
        ),
        (
            "queries",
            [{"id": f"q{at}", "text": text, "answers": texts.answers[at]} for at, text in enumerate(texts.queries)],
        ),
    ):
        with gzip.open(folder / f"{name}.jsonl.gz", "wt") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
    judged = [f"q{at}\tp{row}\t1\n" for at, rows in enumerate(texts.relevant) for row in rows]
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(judged))
    np.save(folder / "corpus_emb.f16.npy", texts.passage_vectors.astype(np.float16))
    np.save(folder / "queries_emb.f16.npy", texts.query_vectors.astype(np.float16))
    return folder


def test_a_set_is_read_as_it_was_written(text_sets: Any, tmp_path: Path) -> None:
    """Texts, judgements, answers and vectors; of SciFact the title goes in front, as it was embedded."""
    texts = made(text_sets)
    for name in text_sets.NAMES:
        write(texts, tmp_path / name)
        read = text_sets.load(name, tmp_path)
        front = [f"{title}. " if name == "scifact" else "" for title in texts.articles]
        assert read.passages == [each + text for each, text in zip(front, texts.passages, strict=True)]
        assert (read.queries, read.relevant, read.answers) == (texts.queries, texts.relevant, texts.answers)
        assert np.abs(read.passage_vectors - texts.passage_vectors).max() < 1e-3
        assert [np.asarray(each.rows)[0] // 3 for each in read.dense] == [min(own) // 3 for own in texts.relevant]


def test_reordered_and_blended_lists(text_sets: Any) -> None:
    """Reranking keeps the candidates and orders them anew; blending takes the mean of both, each from 0 to 1."""
    ablation = importlib.import_module("ablation")
    before = Ranked([5, 3, 8, 1], [4.0, 3.0, 2.0, 1.0])
    scores = {5: 0.0, 3: 0.9, 8: 1.0}
    assert ablation.reordered(before, scores, 3).rows.tolist() == [8, 3, 5]
    blended = ablation.blended(before, scores, 3)
    assert blended.rows.tolist() == [3, 5, 8]  # 0.7; then 0.5 twice, by row
    assert blended.scores.tolist() == pytest.approx([0.7, 0.5, 0.5])
    texts = made(text_sets)
    found = ablation.figures([Ranked([0], [1.0]), Ranked([7], [1.0])], texts, [0, 1], [Ranked([1], [1.0])] * 2)
    assert (found["ndcg"], found["gain"], found["queries"]) == (0.5, 0.5, 2.0)


def test_scoring_goes_on_where_it_stopped(text_sets: Any, tmp_path: Path) -> None:
    """Stopped by the clock, taken up from the file, in the end as if it had never stopped; nothing is scored twice."""
    ablation = importlib.import_module("ablation")
    texts, asked = made(text_sets), []

    class Lengths:
        def score(self, queries: list[str], its: list[list[str]]) -> list[list[float]]:
            asked.extend(queries)
            return [[float(len(text)) for text in own] for own in its]

    wanted = {query: [query % 7, 20, 3] for query in range(48)}
    ablation.fill(ablation.Scored(tmp_path / "s"), texts, dict(list(wanted.items())[:20]), Lengths(), math.inf)
    assert not ablation.fill(ablation.Scored(tmp_path / "s"), texts, wanted, Lengths(), 0.0)
    assert ablation.fill(ablation.Scored(tmp_path / "s"), texts, wanted, Lengths(), math.inf)
    assert asked == [texts.queries[query] for query in wanted]
    again = ablation.Scored(tmp_path / "s")
    assert again.scores == {q: {row: float(len(texts.passages[row])) for row in its} for q, its in wanted.items()}
    assert len((tmp_path / "s").read_text().splitlines()) == 48


def test_missing_data_is_said(text_sets: Any, tmp_path: Path) -> None:
    """With the folder, the files and where to point instead."""
    with pytest.raises(text_sets.DataMissing, match=r"lacks corpus.jsonl.gz.*REPERIO_DATA"):
        text_sets.load("scifact", tmp_path)


def test_fusion_reaches_the_reference_figures(text_sets: Any) -> None:
    """SciFact: convex .730 and RRF .715, from dense .650 and BM25 .686 (the data's own README)."""
    pytest.importorskip("bm25s", reason="bm25s is not installed")
    pytest.importorskip("Stemmer", reason="PyStemmer is not installed")
    try:
        texts = text_sets.load("scifact")
    except text_sets.DataMissing:
        skip_without_data()

    def ndcg(lists: list[Ranked]) -> float:
        return float(text_sets.ndcg([np.asarray(each.rows).tolist() for each in lists], texts.relevant).mean())

    figures = [ndcg(texts.dense), ndcg(texts.lexical), ndcg(texts.hybrid(by="rrf")), ndcg(texts.hybrid())]
    assert figures == pytest.approx([0.650, 0.686, 0.715, 0.730], abs=0.002)


def test_the_committed_page_holds_the_committed_figures() -> None:
    """reranking.md is what ablation_page.py makes of reranking.json."""
    results = SCRIPTS.parent / "results"
    page = importlib.import_module("ablation_page")
    assert (results / "reranking.md").read_text() == page.text(json.loads((results / "reranking.json").read_text()))

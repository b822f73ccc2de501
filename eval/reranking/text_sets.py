"""The two text sets: what is asked, what should be found, and what retrieval finds before any reranking."""

from __future__ import annotations

import gzip
import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from reperio.ranking import Ranked, convex, reciprocal_rank

Run: TypeAlias = list[list[int]]
"""Rows per query, best first."""

DEPTH = 100
"""Rows of each list that are fused."""

NAMES = ("scifact", "squad-dev")
FILES = ("corpus.jsonl.gz", "corpus_emb.f16.npy", "qrels.tsv", "queries.jsonl.gz", "queries_emb.f16.npy")
_ROOT = Path(__file__).resolve().parents[2]


class DataMissing(Exception):
    """The texts to measure with are not there, or what they are searched with is not installed."""


def data_folder() -> Path:
    """Return where the text sets lie: beside what REPERIO_DATA names, or beside the checkout (eval/README.md)."""
    named = os.environ.get("REPERIO_DATA")
    return Path(named).parent if named else _ROOT.parent / "shared" / "data"


@dataclass(frozen=True)
class TextSet:
    """Passages and queries with their embeddings and judgements.

    Attributes:
        name: of the set.
        passages: texts as they were embedded.
        queries: texts.
        relevant: rows of the passages that answer each query.
        articles: title of each passage's document.
        answers: per query, what an answering passage contains; empty where the set does not say.
        passage_vectors, query_vectors: float32 (n, d), norm 1.
    """

    name: str
    passages: list[str]
    queries: list[str]
    relevant: list[set[int]]
    articles: list[str]
    answers: list[list[str]]
    passage_vectors: npt.NDArray[np.float32]
    query_vectors: npt.NDArray[np.float32]

    @cached_property
    def dense(self) -> list[Ranked]:
        """The DEPTH nearest passages of each query by cosine, exactly."""
        found = []
        for start in range(0, len(self.queries), 1000):
            scores = self.query_vectors[start : start + 1000] @ self.passage_vectors.T
            order = np.argsort(-scores, axis=1, kind="stable")[:, :DEPTH]
            found += [Ranked(rows, own[rows]) for rows, own in zip(order, scores, strict=True)]
        return found

    @cached_property
    def lexical(self) -> list[Ranked]:
        """The DEPTH best passages of each query by BM25: bm25s, Lucene scoring, Snowball stems, English stop words.

        Raises:
            DataMissing: bm25s is not installed.
        """
        try:
            import bm25s
            import Stemmer
        except ImportError as error:
            raise DataMissing(
                f"lexical lists need bm25s; run: pip install -r eval/reranking/requirements.txt [{error}]"
            ) from error
        stems: dict[str, Any] = {"stopwords": "en", "stemmer": Stemmer.Stemmer("english"), "show_progress": False}
        engine = bm25s.BM25(method="lucene")
        engine.index(bm25s.tokenize(self.passages, **stems), show_progress=False)
        depth = min(DEPTH, len(self.passages))
        rows, scores = engine.retrieve(bm25s.tokenize(self.queries, **stems), k=depth, show_progress=False)
        return [Ranked(its[own > 0], own[own > 0]) for its, own in zip(rows, scores, strict=True)]

    def hybrid(self, *, by: str = "convex") -> list[Ranked]:
        """Fuse both lists of each query, by "convex" (weight 0.5) or "rrf" (k = 60)."""
        fuse = convex if by == "convex" else reciprocal_rank
        fused = [fuse(dense, lexical) for dense, lexical in zip(self.dense, self.lexical, strict=True)]
        return [Ranked(each.rows, each.scores) for each in fused]


def load(name: str, folder: Path | None = None) -> TextSet:
    """Read one of NAMES.

    Raises:
        DataMissing: with what is missing and how to point elsewhere.
    """
    home = (folder or data_folder()) / name
    missing = [file for file in FILES if not (home / file).is_file()]
    if missing:
        raise DataMissing(f"{home} lacks {', '.join(missing)}; set REPERIO_DATA to a folder beside it (eval/README.md)")
    passages, queries = _lines(home / "corpus.jsonl.gz"), _lines(home / "queries.jsonl.gz")
    with_title = name == "scifact"  # as each set was embedded
    return TextSet(
        name=name,
        passages=[f"{each['title']}. {each['text']}" if with_title else each["text"] for each in passages],
        queries=[each["text"] for each in queries],
        relevant=_relevant(home / "qrels.tsv", [each["id"] for each in queries], [each["id"] for each in passages]),
        articles=[each["title"] for each in passages],
        answers=[each.get("answers", []) for each in queries],
        passage_vectors=_vectors(home / "corpus_emb.f16.npy"),
        query_vectors=_vectors(home / "queries_emb.f16.npy"),
    )


def ndcg(run: Run, relevant: list[set[int]], k: int = 10) -> npt.NDArray[np.float64]:
    """Return nDCG@k of each query, binary gains, log2(rank + 1) discounts: trec_eval's ndcg_cut."""
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    found = [
        sum(discounts[at] for at, row in enumerate(rows[:k]) if row in right)
        for rows, right in zip(run, relevant, strict=True)
    ]
    return np.array(found) / np.array([discounts[: len(right)].sum() for right in relevant])


def recall(run: Run, relevant: list[set[int]], k: int = 10) -> npt.NDArray[np.float64]:
    """Return recall@k of each query: the part of its relevant passages among the first k."""
    return np.array([len(right & set(rows[:k])) / len(right) for rows, right in zip(run, relevant, strict=True)])


def _lines(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path) as file:
        return [json.loads(line) for line in file]


def _relevant(path: Path, queries: list[str], passages: list[str]) -> list[set[int]]:
    query_at, row_of = ({name: at for at, name in enumerate(names)} for names in (queries, passages))
    relevant: list[set[int]] = [set() for _ in queries]
    for line in path.read_text().splitlines()[1:]:
        query, passage, grade = line.split("\t")
        if int(grade) > 0:
            relevant[query_at[query]].add(row_of[passage])
    return relevant


def _vectors(path: Path) -> npt.NDArray[np.float32]:
    rounded = np.load(path).astype(np.float32)
    return np.asarray(rounded / np.linalg.norm(rounded, axis=1, keepdims=True), dtype=np.float32)

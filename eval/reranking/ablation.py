"""What fusion and reranking add: nDCG@10 of dense, lexical and hybrid lists, each as it is and reranked.

    python eval/reranking/train.py --work DIR                   # first: the cross-encoder (it stops and goes on, too)
    python eval/reranking/ablation.py --work DIR --seconds 200  # again and again; then writes eval/results/reranking.*

Two rerankers: late interaction over the embedding model's own tokens, and the cross-encoder of train.py. SciFact: all
queries. SQuAD-dev: those of the held-out fold, whose articles the cross-encoder has not seen; the candidates come from
all articles. The cross-encoder reads a sample of them; late interaction all.

What has been scored is kept in DIR, so a run in pieces is the same run. Exit 0 written or one piece further, 2 data or
model missing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import ablation_page
import numpy as np
import numpy.typing as npt
from text_sets import NAMES, DataMissing, Run, TextSet, load, ndcg, recall
from train import HELD_OUT, LENGTH, SEED, fold_of

from reperio import DEFAULT_EMBEDDER, SentenceTransformerEmbedder
from reperio.ranking import CrossEncoderReranker, LateInteractionReranker, Ranked, convex
from reperio.types import Reranker

SAMPLE = 300
"""Queries of each set that the cross-encoder reads."""

_RERANKED = ("dense", "lexical", "hybrid")
_COMPARED = 60  # questions
_BLOCK = 20  # queries between two looks at the clock
RESULTS = Path(__file__).resolve().parents[1] / "results"


@dataclass
class Subject:
    """A reranker, and how far down it reads.

    Attributes:
        name: in the tables and of its file.
        depth: candidates of each list.
        sample: queries at most.
        make: loads it.
    """

    name: str
    depth: int
    sample: int
    make: Callable[[], Reranker]


class RememberedTokens:
    """The embedding model's token vectors, each text's made once: many queries share their candidates.

    float16, which rounds a cosine by less than 5e-4, as SciFact's would fill 2 GB otherwise.
    """

    def __init__(self) -> None:
        self._model = SentenceTransformerEmbedder(DEFAULT_EMBEDDER)
        self._kept: dict[tuple[bool, str], npt.NDArray[np.float16]] = {}

    def embed_tokens(self, texts: Sequence[str], *, query: bool) -> list[npt.NDArray[np.float16]]:
        """Return (tokens, d) per text."""
        new = [text for text in texts if (query, text) not in self._kept]
        for text, tokens in zip(new, self._model.embed_tokens(new, query=query), strict=True):
            self._kept[query, text] = np.asarray(tokens, dtype=np.float16)
        return [self._kept[query, text] for text in texts]


@dataclass
class Scored:
    """Scores by query and row, in a file of one line per query."""

    path: Path
    scores: dict[int, dict[int, float]] = field(default_factory=dict)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        for line in self.path.read_text().splitlines() if self.path.exists() else []:
            query, rows, scores, seconds = json.loads(line)
            self.scores[query] = dict(zip(rows, scores, strict=True))
            self.seconds += seconds

    def add(self, queries: list[int], rows: list[list[int]], scores: list[list[float]], seconds: float) -> None:
        """Keep what a block of queries has been scored with."""
        with self.path.open("a") as file:
            for query, its, own in zip(queries, rows, scores, strict=True):
                file.write(json.dumps([query, its, own, seconds / len(queries)]) + "\n")
                self.scores[query] = dict(zip(its, own, strict=True))
        self.seconds += seconds


def fill(scored: Scored, texts: TextSet, wanted: dict[int, list[int]], reranker: Reranker, until: float) -> bool:
    """Score what is not yet scored, until the clock says stop; return whether nothing is left."""
    left = [query for query in wanted if query not in scored.scores]
    for start in range(0, len(left), _BLOCK):
        if time.monotonic() > until:
            return False
        queries = left[start : start + _BLOCK]
        rows = [wanted[query] for query in queries]
        started = time.monotonic()
        found = reranker.score(
            [texts.queries[query] for query in queries], [[texts.passages[row] for row in its] for its in rows]
        )
        scored.add(queries, rows, [list(own) for own in found], time.monotonic() - started)
    return True


def reordered(ranked: Ranked, scores: dict[int, float], depth: int) -> Ranked:
    """Return the first *depth* rows of a list in the order of their new scores; equal ones stay in order."""
    rows = np.asarray(ranked.rows)[:depth]
    own = np.array([scores[row] for row in rows.tolist()])
    order = np.argsort(-own, kind="stable")
    return Ranked(rows[order], own[order])


def blended(ranked: Ranked, scores: dict[int, float], depth: int) -> Ranked:
    """Return the first *depth* rows by the mean of both scores, each stretched to [0, 1]."""
    first = Ranked(np.asarray(ranked.rows)[:depth], np.asarray(ranked.scores)[:depth])
    fused = convex(first, reordered(ranked, scores, depth))
    return Ranked(fused.rows, fused.scores)


def figures(lists: Iterable[Ranked], texts: TextSet, queries: list[int], to: list[Ranked] | None) -> dict[str, Any]:
    """Return the measures over *queries*, and the paired difference to the lists before, with its 95% interval."""
    relevant = [texts.relevant[query] for query in queries]
    own = ndcg(_run(lists), relevant)
    found = {"ndcg": own.mean(), "recall": recall(_run(lists), relevant).mean(), "queries": len(queries)}
    if to is not None:
        gain = own - ndcg(_run(to), relevant)
        found |= {"gain": gain.mean(), "margin": 1.96 * gain.std(ddof=1) / np.sqrt(len(gain))}
    return {name: round(float(value), 4) for name, value in found.items()}


def _run(lists: Iterable[Ranked]) -> Run:
    return [np.asarray(each.rows).tolist() for each in lists]


def table(texts: TextSet, lists: dict[str, list[Ranked]], subject: Subject, scored: Scored) -> list[dict[str, Any]]:
    """Return one line per list and way of reranking, over the queries that were scored."""
    queries, rows = sorted(scored.scores), []
    for name in _RERANKED:
        before = [lists[name][query] for query in queries]
        rows.append({"list": name, "reranked": "", **figures(before, texts, queries, None)})
        for label, way in (("reranked", reordered), ("blended", blended)):
            after = [way(lists[name][query], scored.scores[query], subject.depth) for query in queries]
            rows.append({"list": name, "reranked": label, **figures(after, texts, queries, before)})
    return rows


def measure(texts: TextSet, subjects: list[Subject], work: Path, until: float) -> dict[str, Any] | None:
    """Return the figures of one set; None when time ran out."""
    lists = {"dense": texts.dense, "lexical": texts.lexical, "hybrid": texts.hybrid(), "rrf": texts.hybrid(by="rrf")}
    every = list(range(len(texts.queries)))
    found: dict[str, Any] = {"retrieval": {name: figures(each, texts, every, None) for name, each in lists.items()}}
    asked = every if texts.name == "scifact" else [at for at, fold in enumerate(fold_of(texts)) if fold == HELD_OUT]
    for subject in subjects:
        chosen = np.random.default_rng(SEED).permutation(asked)[: subject.sample].tolist()
        wanted = {query: _union([lists[name][query] for name in _RERANKED], subject.depth) for query in chosen}
        scored = Scored(work / f"{texts.name}-{subject.name.replace(' ', '-')}.jsonl")
        if len(scored.scores) < len(wanted) and not fill(scored, texts, wanted, subject.make(), until):
            print(f"{texts.name}, {subject.name}: {len(scored.scores)} of {len(wanted)} queries; run again")
            return None
        pairs = sum(map(len, scored.scores.values()))
        found[subject.name] = {
            "depth": subject.depth, "rows": table(texts, lists, subject, scored),
            "pairs_per_second": round(pairs / scored.seconds, 1),
        }  # fmt: skip
    return found


def precisions(model: Path, texts: TextSet) -> dict[str, Any]:
    """Return what bfloat16 costs and saves, over the first candidates of some held-out questions."""
    asked = [at for at, fold in enumerate(fold_of(texts)) if fold == HELD_OUT]
    queries = np.random.default_rng(SEED).permutation(asked)[:_COMPARED].tolist()
    lists = [texts.hybrid()[query] for query in queries]
    rows = [_union([each], 20) for each in lists]
    found: dict[str, Any] = {"queries": len(queries)}
    for precision in ("float32", "bfloat16"):
        reranker = CrossEncoderReranker(str(model), max_length=LENGTH, precision=precision)
        started = time.monotonic()
        scores = reranker.score(
            [texts.queries[query] for query in queries], [[texts.passages[row] for row in its] for its in rows]
        )
        rate = sum(map(len, rows)) / (time.monotonic() - started)
        after = [
            reordered(each, dict(zip(its, own, strict=True)), 20)
            for each, its, own in zip(lists, rows, scores, strict=True)
        ]
        found[precision] = {
            "ndcg": figures(after, texts, queries, None)["ndcg"], "pairs_per_second": round(rate, 1),
        }  # fmt: skip
    return found


def _cross_encoder(model: Path) -> Reranker:
    # As one would on a CPU with instructions for it; what that costs, `precisions` measures.
    return CrossEncoderReranker(str(model), max_length=LENGTH, precision="bfloat16")


def _union(lists: list[Ranked], depth: int) -> list[int]:
    return list(dict.fromkeys(row for each in lists for row in np.asarray(each.rows)[:depth].tolist()))


def main(arguments: list[str] | None = None) -> int:
    """Measure for some seconds more; write when all is measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="the folder of train.py; scores are kept there")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after these, to go on later")
    parser.add_argument("--sample", type=int, default=SAMPLE, help=f"queries for the cross-encoder (default {SAMPLE})")
    parser.add_argument("--data", type=Path, help="folder that holds the text sets")
    parser.add_argument("--note", help="put below the tables: what else the figures depend on")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where reranking.md and .json go")
    chosen = parser.parse_args(arguments)
    until = time.monotonic() + chosen.seconds
    model = chosen.work / "model"
    if not model.is_dir():
        print(f"{model} is missing; run eval/reranking/train.py --work {chosen.work} until it is done", file=sys.stderr)
        return 2
    subjects = [
        Subject("late interaction", 20, 10**9, lambda: LateInteractionReranker(RememberedTokens())),
        Subject("cross-encoder", 20, chosen.sample, lambda: _cross_encoder(model)),
    ]
    found = {}
    try:
        for name in NAMES:
            if (figures_of := measure(load(name, chosen.data), subjects, chosen.work, until)) is None:
                return 0
            found[name] = figures_of
        found["squad-dev"]["precision"] = precisions(model, load("squad-dev", chosen.data))
    except DataMissing as missing:
        print(missing, file=sys.stderr)
        return 2
    ablation_page.write({"sets": found, "note": chosen.note}, chosen.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())

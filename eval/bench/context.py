"""Measure whether a title embedded before the text helps: SciFact, abstracts in pieces, nDCG@10 of documents.

    python eval/bench/context.py ../shared/data/scifact [--documents 1000] [--max-tokens 128]

A document's score is that of its best piece. Documents that no question asks for are a sample, in a fixed order.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
from pathlib import Path

import numpy as np

from reperio import OnnxEmbedder
from reperio.ingestion.cutting.splitting import Splitter

MODEL = "sentence-transformers/all-MiniLM-L6-v2"


def main() -> None:
    """Print nDCG@10 and recall@10, without and with titles."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--documents", type=int, default=1000)
    parser.add_argument("--max-tokens", type=int, default=128)
    options = parser.parse_args()
    documents, questions, qrels = _read(options.data, options.documents)
    embedder = OnnxEmbedder(MODEL)
    splitter = Splitter(embedder, max_tokens=options.max_tokens)
    asked = embedder.embed_queries(list(questions.values()))
    for titled in (False, True):
        owners, passages = [], []
        for number, (title, text) in enumerate(documents.values()):
            for piece in splitter.pieces(text, title=title if titled else ""):
                owners.append(number)
                passages.append(f"{piece.context}\n{piece.text}" if piece.context else piece.text)
        vectors = np.concatenate(
            [embedder.embed_passages(passages[at : at + 64]) for at in range(0, len(passages), 64)]
        )
        scores = asked @ vectors.T
        best = np.full((len(asked), len(documents)), -np.inf, dtype=np.float32)
        for column, owner in enumerate(owners):
            np.maximum(best[:, owner], scores[:, column], out=best[:, owner])
        found = [_measures(best[row], list(documents), qrels[question]) for row, question in enumerate(questions)]
        ndcg, recall = np.mean(found, axis=0)
        print(f"titles {titled!s:5}  pieces {len(passages):5}  nDCG@10 {ndcg:.4f}  recall@10 {recall:.4f}", flush=True)


def _read(data: Path, most: int) -> tuple[dict[str, tuple[str, str]], dict[str, str], dict[str, set[str]]]:
    qrels: dict[str, set[str]] = {}
    for line in (data / "qrels.tsv").read_text().splitlines():
        question, *_, document, relevant = line.split("\t")
        if relevant.isdigit() and int(relevant):
            qrels.setdefault(question, set()).add(document)
    with gzip.open(data / "corpus.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    every = {str(row.get("_id", row.get("id"))): (row.get("title", ""), row["text"]) for row in rows}
    wanted = {document for documents in qrels.values() for document in documents}
    rest = sorted(set(every) - wanted)
    random.Random(0).shuffle(rest)
    documents = {key: every[key] for key in [*sorted(wanted), *rest[: max(0, most - len(wanted))]]}
    with gzip.open(data / "queries.jsonl.gz", "rt") as file:
        asked = {str(row.get("_id", row.get("id"))): row["text"] for row in map(json.loads, file)}
    return documents, {key: text for key, text in asked.items() if key in qrels}, qrels


def _measures(scores: np.ndarray, names: list[str], relevant: set[str]) -> tuple[float, float]:
    top = [names[at] for at in np.argsort(-scores)[:10]]
    gains = [1 / np.log2(rank + 1) for rank, name in enumerate(top, start=1) if name in relevant]
    ideal = sum(1 / np.log2(rank + 1) for rank in range(1, min(10, len(relevant)) + 1))
    return sum(gains) / ideal, len(set(top) & relevant) / len(relevant)


if __name__ == "__main__":
    main()

"""The healthy collections that faults are put into: SciFact's 5,183 abstracts, with real vectors and judgements.

    python eval/gate/healthy.py --work DIR [--questions 200]

builds one, writes a golden set from the judgements beside it (neither goes into the repository: docs of the data say
so), and prints the command that gates it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import numpy.typing as npt
import orjson
from models import Kept, minilm, prompt_of

import reperio
from reperio import Chunk, Collection, OperatingPoint
from reperio.evaluation import GoldenQuery, GoldenSet

sys.path.insert(0, str(Path(__file__).parents[1] / "reranking"))
from text_sets import DataMissing, TextSet, load  # scripts import each other by their names alone

RECALL = 0.95
BY_INDEX_ALONE = False
"""Let exact search seem dear: over few chunks it may be the quicker way, and hide what is wrong with an index."""
SEED = 20_261_121
_DEAR = 1e6  # µs
_MODES = ("lexical", "hybrid", "dense", "dense", "dense")


@dataclass(frozen=True)
class Kind:
    """One way for a collection to be healthy.

    Attributes:
        name: of its directory.
        factory: of its index; few lists, so that fewer probes are a fault that shows.
        metric: of its vectors.
        prompt: words put before every question when it is embedded.
    """

    name: str
    factory: str = "IVF64,Flat"
    metric: str = "cosine"
    prompt: int = 0


PLAIN = Kind("plain")
CODES = Kind("codes", factory="IVF64,PQ192x4fs")
INNER_PRODUCT = Kind("inner-product", metric="inner_product")


def prompted(words: int) -> Kind:
    """Return the kind whose questions are embedded behind so many words."""
    return Kind(f"prompted-{words}", prompt=words)


class Recorded:
    """An embedder whose vectors of the set's own texts are at hand, and that computes those of all others.

    Args:
        texts: the set.
        model: what computes.
        queries: vectors of the set's questions; None for those that come with the set.
    """

    def __init__(
        self, texts: TextSet, model: reperio.SentenceTransformerEmbedder, queries: npt.NDArray[Any] | None = None
    ) -> None:
        self.model, self.name, self.dimension = model, model.name, model.dimension
        self.query_prompt, self.passage_prompt = model.query_prompt, model.passage_prompt
        self._passages = dict(zip(texts.passages, texts.passage_vectors, strict=True))
        asked = texts.query_vectors if queries is None else queries
        self._queries = dict(zip(texts.queries, asked, strict=True))

    def embed_passages(self, texts: Sequence[str]) -> npt.NDArray[Any]:
        """Return the vectors of texts to be stored."""
        return _known(self._passages, texts, self.model.embed_passages)

    def embed_queries(self, texts: Sequence[str]) -> npt.NDArray[Any]:
        """Return the vectors of questions."""
        return _known(self._queries, texts, self.model.embed_queries)


def _known(known: dict[str, Any], texts: Sequence[str], embed: Any) -> npt.NDArray[Any]:
    missing = [text for text in dict.fromkeys(texts) if text not in known]
    known.update(zip(missing, embed(missing), strict=True))
    return np.stack([known[text] for text in texts])


def embedder_of(kind: Kind, texts: TextSet, kept: Kept) -> Recorded:
    """Return the embedder of a kind."""
    model = minilm(prompt_of(kind.prompt))
    queries = kept.vectors(f"{kind.name}-queries", texts.queries, model.embed_queries) if kind.prompt else None
    return Recorded(texts, model, queries)


def chunks(texts: TextSet) -> list[Chunk]:
    """Return the set's passages with metadata to filter by."""
    return [
        Chunk(f"s{at}", text, {"part": at % 10, "year": 2000 + at % 20, "title": title})
        for at, (text, title) in enumerate(zip(texts.passages, texts.articles, strict=True))
    ]


def stored(
    path: Path, held: Sequence[Chunk], vectors: Any, *, embedder: Any, kind: Kind, queries: Any
) -> None:  # fmt: skip
    """Make a collection of chunks and vectors, with its index tuned by *queries*."""
    with reperio.open(path, embedder=embedder, metric=kind.metric, auto_optimize=False) as collection:
        collection.add(held, vectors=vectors)
        collection.optimize(RECALL, index=kind.factory, queries=queries)
    if BY_INDEX_ALONE:
        _forbid_exact_search(path)


def _forbid_exact_search(path: Path) -> None:
    [database] = path.glob("gen-*/chunks.db")
    connection = apsw.Connection(str(database))
    try:
        for name, record in connection.execute("SELECT name, record FROM snapshots").fetchall():
            changed = _dear_exact_search(json.loads(record))
            connection.execute("UPDATE snapshots SET record = ? WHERE name = ?", (json.dumps(changed), name))
    finally:
        connection.close()


def _dear_exact_search(record: dict[str, Any]) -> dict[str, Any]:
    """Return the record with both prices of exact search raised.

    The one per picked row, and the times of its own points: on a busy machine those were once shorter than the index's,
    every search then went by the vectors themselves, and faults of the index did no harm.
    """
    points = [OperatingPoint(*point) for point in record["points"]]
    dear = [point if point.candidates else replace(point, p50=_DEAR, p95=_DEAR) for point in points]
    return {**record, "gather": _DEAR, "points": [list(astuple(point)) for point in dear]}


def build(path: Path, texts: TextSet, kind: Kind, embedder: Recorded) -> None:
    """Build a healthy collection of a kind."""
    asked = embedder.embed_queries(texts.queries)
    stored(path, chunks(texts), texts.passage_vectors, embedder=embedder, kind=kind, queries=asked)


def copied(path: Path, to: Path) -> Path:
    """Copy a collection that nobody has open."""
    if to.exists():
        shutil.rmtree(to)
    shutil.copytree(path, to)
    return to


def opened(path: Path, embedder: Any) -> Collection:
    """Open a collection as a deployment does: for reading."""
    return reperio.open(path, embedder=embedder, read_only=True)


def golden(texts: TextSet, number: int | None = None) -> GoldenSet:
    """Return *number* of the set's questions, drawn with a fixed seed; every seventh has a filter."""
    rows = np.random.default_rng(SEED).permutation(len(texts.queries))[:number]
    return GoldenSet([_question(texts, int(row), filtered=place % 7 == 0) for place, row in enumerate(rows)])


def _question(texts: TextSet, row: int, *, filtered: bool) -> GoldenQuery:
    right = sorted(texts.relevant[row])
    parts = sorted({at % 10 for at in right})
    return GoldenQuery(
        f"q{row}",
        texts.queries[row],
        {f"s{at}": 1 for at in right},
        where={"part": {"$in": parts}} if filtered else None,
        mode=_MODES[row % len(_MODES)],
        tags=("filtered",) if filtered else (),
    )


def part_of(texts: TextSet, passages: int, questions: int, *, words: int) -> TextSet:
    """Return a smaller set: the first questions, what answers them, and passages drawn with a fixed seed.

    Of each passage the first *words* are kept, and the vector of the whole: looking for many words is what takes long.
    """
    right = sorted({row for answers in texts.relevant[:questions] for row in answers})
    others = [int(row) for row in np.random.default_rng(SEED).permutation(len(texts.passages)) if row not in set(right)]
    rows = sorted(right + others[: passages - len(right)])
    place = {row: at for at, row in enumerate(rows)}
    return replace(
        texts,
        passages=[" ".join(texts.passages[row].split()[:words]) for row in rows],
        queries=texts.queries[:questions],
        relevant=[{place[row] for row in answers} for answers in texts.relevant[:questions]],
        articles=[texts.articles[row] for row in rows],
        answers=texts.answers[:questions],
        passage_vectors=texts.passage_vectors[rows],
        query_vectors=texts.query_vectors[:questions],
    )


def write_golden(asked: GoldenSet, path: Path) -> None:
    """Write a golden set as JSONL, for the command line."""
    lines: list[dict[str, Any]] = [{"defaults": {"k": asked.k}, "thresholds": {"nDCG@10": 0.6, "R@10": 0.7}}]
    for query in asked.queries:
        line = {"id": query.id, "query": query.text, "expect": dict(query.expect), "mode": query.mode}
        lines.append(line | ({"where": query.where, "tags": list(query.tags)} if query.where else {}))
    path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the collection and its golden set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="a directory for both")
    parser.add_argument("--questions", type=int, default=200, help="of SciFact's 300 (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        texts = load("scifact")
    except DataMissing as missing:
        print(missing, file=sys.stderr)
        return 2
    options.work.mkdir(parents=True, exist_ok=True)
    path, asked = options.work / PLAIN.name, options.work / "scifact.jsonl"
    if not path.exists():
        build(path, texts, PLAIN, embedder_of(PLAIN, texts, Kept(options.work)))
    write_golden(golden(texts, options.questions), asked)
    print(f"reperio gate {path} --golden {asked}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

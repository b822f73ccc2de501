"""Lexical search: how good it is, how quick at a million chunks, and what it costs to add.

    python eval/bench/lexical.py --work DIR     # some ten minutes on two cores; writes eval/results/lexical.*
    python eval/bench/lexical.py --only long    # five minutes, most of them for embedding
    python eval/bench/lexical.py --quick        # few queries, 20,000 chunks, only printed

Quality: SciFact and SQuAD-dev, nDCG@10 over all queries, alone and fused with the dense vectors that lie beside the
texts. Questions of several sentences (long_questions.py): the same beside bm25s as Lucene has it. Latency: a
database of mixed real sentences and questions, kept in DIR and built if it is not there. Beside it,
on the same data, plain FTS5 (every word, its own BM25), and tantivy where it is installed.

The data is no part of the repository: eval/README.md. Exit 0 measured, 2 could not measure.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import math
import random
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import orjson
from lexical_page import write
from long_questions import embedded, lucene, made
from measuring import DataMissing, Figures, machine

from reperio.layout import Generation, Lexical
from reperio.ranking.fusion import Ranked, convex
from reperio.store import NewChunk, Store

ROOT = Path(__file__).resolve().parents[2]
SETS = ("scifact", "squad-dev")
DEPTH = 100
BATCH = 1000
MASKS = (0.5, 0.1, 0.01, 0.001)
_DIMENSION = 4  # the vectors are beside the point


def records(path: Path) -> list[dict[str, Any]]:
    """Read a file of JSON lines."""
    if not path.is_file():
        raise DataMissing(f"{path} is missing (eval/README.md)")
    with gzip.open(path) as lines:
        return [orjson.loads(line) for line in lines]


def ndcg(rows: Sequence[int], relevant: dict[int, int]) -> float:
    """nDCG@10 as trec_eval has it: gain / log2(rank + 1), over that of the best order."""
    gains = [relevant.get(row, 0) for row in rows[:10]]
    best = sorted(relevant.values(), reverse=True)[:10]
    total, ideal = (sum(gain / math.log2(rank + 2) for rank, gain in enumerate(part)) for part in (gains, best))
    return total / ideal


def new_store(directory: Path, words: Lexical) -> Store:
    """Make an empty store."""
    directory.mkdir(parents=True)
    Store.create(Generation(directory), words)
    return Store(Generation(directory), _DIMENSION, read_only=False)


def put(store: Store, texts: Iterator[str]) -> list[float]:
    """Store texts in commits of 1,000; return the seconds of each."""
    seconds, row = [], 0
    while batch := list(itertools.islice(texts, BATCH)):
        chunks = [NewChunk(f"r{row + number:08d}", text, "{}") for number, text in enumerate(batch)]
        started = time.perf_counter()
        store.put(chunks, np.zeros((len(chunks), _DIMENSION), np.float32), [])
        seconds.append(time.perf_counter() - started)
        row += len(chunks)
    return seconds


def quality(data: Path, work: Path, limit: int | None) -> list[Figures]:
    """Measure nDCG@10 of both text sets: dense, lexical, fused. What is measured is kept in *work*, set by set."""
    return [_kept(work / f"quality-{name}.json", Judged(data / name, work), limit) for name in SETS]


def _kept(path: Path, judged: Judged, limit: int | None) -> Figures:
    """Measure block by block, going on where a run that was cut short was."""
    measured: list[list[float]] = orjson.loads(path.read_bytes()) if path.exists() else []
    while block := judged.queries[:limit][len(measured) : len(measured) + BATCH]:
        measured += judged.measure(block, len(measured))
        path.write_bytes(orjson.dumps(measured))
    dense, words, both = np.mean(measured, axis=0).round(4).tolist()
    return {"set": judged.name, "queries": len(measured), "dense": dense, "lexical": words, "convex": both}


class Judged:
    """A set of texts and questions with judgements, its texts in a store of their own."""

    def __init__(self, folder: Path, work: Path) -> None:
        self.name = folder.name
        corpus, self.queries = records(folder / "corpus.jsonl.gz"), records(folder / "queries.jsonl.gz")
        texts = [f"{one['title']}. {one['text']}" if self.name == "scifact" else one["text"] for one in corpus]
        places = {one["id"]: row for row, one in enumerate(corpus)}
        self._qrels: dict[str, dict[int, int]] = {}
        for line in (folder / "qrels.tsv").read_text().splitlines()[1:]:
            query, chunk, gain = line.split("\t")
            self._qrels.setdefault(query, {})[places[chunk]] = int(gain)
        self._passages = np.load(folder / "corpus_emb.f16.npy").astype(np.float32)
        self._questions = np.load(folder / "queries_emb.f16.npy").astype(np.float32)
        self._store = new_store(Path(tempfile.mkdtemp(dir=work)) / self.name, "porter")
        put(self._store, iter(texts))

    def measure(self, queries: Sequence[dict[str, Any]], first: int) -> list[list[float]]:
        """Return nDCG@10 per query, dense, lexical and fused; *first* is the number of the first query."""
        measured = []
        for number, query in enumerate(queries, start=first):
            scores = (self._passages @ self._questions[number]).astype(np.float64)
            near = np.argsort(-scores, kind="stable")[:DEPTH]
            with self._store.session() as session:
                rows, lexical = session.match(query["text"], count=DEPTH)
            fused = convex(Ranked(near, scores[near]), Ranked(rows, lexical)).rows
            relevant = self._qrels[query["id"]]
            measured.append([ndcg(ranked.tolist(), relevant) for ranked in (near, rows, fused)])
        return measured


def long_questions(data: Path, work: Path, limit: int | None) -> list[Figures]:
    """Measure nDCG@10 of questions of some sixty words, each of which asks for one text."""
    texts, questions, wanted = made(records(data / "scifact" / "corpus.jsonl.gz")[:limit])
    store = new_store(Path(tempfile.mkdtemp(dir=work)) / "long", "porter")
    put(store, iter(texts))
    scores = (embedded(questions) @ embedded(texts).T).astype(np.float64)
    found: dict[str, list[list[int]]] = {"dense": [], "lexical": [], "convex": []}
    for question, row in zip(questions, scores, strict=True):
        near = np.argsort(-row, kind="stable")[:DEPTH]
        with store.session() as session:
            ranked = Ranked(*session.match(question, count=DEPTH))
        fused = convex(Ranked(near, row[near]), ranked).rows
        for name, rows in zip(found, (near, ranked.rows, fused), strict=True):
            found[name].append(np.asarray(rows)[:10].tolist())
    found["bm25s, Lucene"] = lucene(texts, questions, stop_words=False)
    found["bm25s, Lucene, its stop words left out"] = lucene(texts, questions, stop_words=True)
    words = round(float(np.mean([len(question.split()) for question in questions])))
    return [
        {
            "way": name,
            "questions": len(rows),
            "words_of_each": words,
            "ndcg@10": round(float(np.mean([ndcg(r, {w: 1}) for r, w in zip(rows, wanted, strict=True)])), 4),
        }
        for name, rows in found.items()
    ]


class Mixture:
    """Chunks of 300 to 900 characters: whole sentences of SciFact and SQuAD, or whole questions of realq, by turns."""

    def __init__(self, data: Path) -> None:
        self._pools: list[list[str]] = [[], [one["text"] for one in records(data / "realq" / "texts.jsonl.gz")]]
        for name in ("squad-dev", "scifact"):
            for one in records(data / name / "corpus.jsonl.gz"):
                self._pools[0] += [part for part in re.split(r"(?<=[.?!])\s+", one["text"]) if part]
        self._questions = [
            [one["text"] for one in records(data / name / "queries.jsonl.gz")] for name in ("realq", "squad-dev")
        ]

    def texts(self, count: int) -> Iterator[str]:
        """Yield *count* texts, the same ones every time."""
        draw = random.Random(0)
        for number in range(count):
            pool, parts, length, least = self._pools[number % 2], list[str](), 0, draw.randint(300, 900)
            while length < least:
                parts.append(pool[draw.randrange(len(pool))])
                length += len(parts[-1]) + 1
            yield " ".join(parts)

    def questions(self, count: int) -> list[str]:
        """Return natural questions, half of them search queries, half about SQuAD's paragraphs."""
        draw = random.Random(1)
        return [text for pool in self._questions for text in draw.sample(pool, count // 2)]


def ingestion(mixture: Mixture, directory: Path, rows: int, rounds: int) -> list[Figures]:
    """Measure durable puts of ready vectors with each tokenizer, in turns; medians."""
    texts = list(mixture.texts(rows))
    seconds: dict[Lexical, list[list[float]]] = {}
    size: dict[Lexical, int] = {}
    for turn in range(rounds):
        for words in ("none", "porter", "unicode61", "trigram"):
            place = directory / f"{words}-{turn}"
            store = new_store(place, words)
            seconds.setdefault(words, []).append(put(store, iter(texts)))
            store.close()
            size[words] = Generation(place).database.stat().st_size
    return [
        {
            "lexical": words,
            "rows_per_second": round(rows / float(np.median([sum(turn) for turn in turns]))),
            "commit_ms_p50": round(float(np.median(turns)) * 1e3, 1),
            "commit_ms_max": round(float(np.max(turns)) * 1e3, 1),
            "bytes_per_row": round(size[words] / rows),
        }
        for words, turns in seconds.items()
    ]


def race(questions: Sequence[str], ways: Mapping[str, Callable[[str], object]]) -> list[Figures]:
    """Time one search per question and way. The ways take turns, twenty questions each: the machine's mood changes."""
    durations: dict[str, list[float]] = {name: [] for name in ways}
    for start in range(0, len(questions), 20):
        for name, search in ways.items():
            durations[name] += [_seconds(search, question) for question in questions[start : start + 20]]
    return [_figures(name, found) for name, found in durations.items()]


def _seconds(search: Callable[[str], object], question: str) -> float:
    started = time.perf_counter()
    search(question)
    return time.perf_counter() - started


def _figures(name: str, durations: Sequence[float]) -> Figures:
    p50, p95, most = (round(float(np.quantile(durations, share)) * 1e3, 2) for share in (0.5, 0.95, 1))
    return {"way": name, "questions": len(durations), "p50_ms": p50, "p95_ms": p95, "max_ms": most}


def latency(mixture: Mixture, work: Path, rows: int, count: int) -> list[Figures]:
    """Time natural questions over *rows* chunks, built in *work* unless they are there."""
    place = work / f"lexical-{rows}"
    if not Generation(place).database.exists():
        store = new_store(place, "porter")
        put(store, mixture.texts(rows))
        store.close()
    store = Store(Generation(place), _DIMENSION, read_only=True)
    questions = mixture.questions(count)

    def ours(question: str, wanted: int = 10, allowed: Any = None) -> None:
        with store.session() as session:
            session.match(question, count=wanted, allowed=allowed)

    ways: dict[str, Callable[[str], object]] = {"Reperio, 10 hits": ours, **_tantivy(mixture, work, rows)}
    ways["Reperio, 100 hits"] = lambda question: ours(question, 100)
    for share in MASKS:
        drawn = np.random.default_rng(0).random(store.state.rows) < share
        bits = np.packbits(drawn, bitorder="little")
        ways[f"Reperio, 10 hits, {share:.1%} allowed"] = lambda question, bits=bits: ours(question, 10, bits)
    found = race(questions, {"Reperio, first sight of each question": ours})
    found += race(questions, ways)
    found += race(questions[:: max(1, count // 40)], {"FTS5 alone, every word": _plain(place)})
    store.close()
    return found


def _plain(place: Path) -> Callable[[str], object]:
    connection = apsw.Connection(str(Generation(place).database), flags=apsw.SQLITE_OPEN_READONLY)
    connection.pragma("mmap_size", 1 << 31)
    sql = "SELECT rowid FROM lexical WHERE lexical MATCH ? ORDER BY bm25(lexical), rowid LIMIT 10"

    def search(question: str) -> object:
        words = re.findall(r"\w+", question)
        return connection.execute(sql, (" OR ".join(f'"{word}"' for word in words),)).fetchall()

    return search


def _tantivy(mixture: Mixture, work: Path, rows: int) -> dict[str, Callable[[str], object]]:
    try:
        import tantivy_engine  # beside this file; it imports tantivy, which is no dependency
    except ImportError:
        return {}
    return {
        "tantivy, every word, 10 hits": tantivy_engine.opened(work / f"tantivy-{rows}", lambda: mixture.texts(rows))
    }


def main() -> int:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of the three sets")
    parser.add_argument(
        "--work",
        type=Path,
        help="keeps the large database and finished blocks, to go on from; default: a temporary directory",
    )
    parser.add_argument("--only", default="quality,long,ingestion,latency", help="parts; the others' figures stay")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, help="folder of lexical.md and lexical.json")
    args = parser.parse_args()
    out = args.out or (None if args.quick else ROOT / "eval" / "results")
    rows, small, count, rounds = (20_000, 4000, 20, 1) if args.quick else (1_000_000, 50_000, 400, 3)
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        try:
            mixture = Mixture(args.data)
            parts: dict[str, Callable[[], list[Figures]]] = {
                "quality": lambda: quality(args.data, args.work or directory, 50 if args.quick else None),
                "long": lambda: long_questions(args.data, args.work or directory, 300 if args.quick else None),
                "ingestion": lambda: ingestion(mixture, directory, small, rounds),
                "latency": lambda: latency(mixture, args.work or directory, rows, count),
            }
            figures = {name: parts[name]() for name in args.only.split(",")}
        except DataMissing as error:
            print(error, file=sys.stderr)
            return 2
    write({"machine": machine(), "rows": {"ingestion": small, "latency": rows}, **figures}, out)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What languages without spaces cost the lexical index, and that they cost other texts nothing.

    python eval/bench/unspaced.py     # a minute on one core; only printed

English: SciFact, all questions, next to an index as it was before: the same rows by the same scores, to the digit.
Chinese: texts of two-character words, of 5,000 characters by Zipf, 400 a text. Times are processor time, of the
quickest of some rounds; decision 0021 quotes them.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from lexical import ROOT, records
from measuring import DataMissing

from reperio.layout import Generation
from reperio.store import NewChunk, Store
from reperio.store.words import tokenizers

ROUNDS = 3
UMLAUTS = str.maketrans({"a": "ä", "s": "ß"})  # not in ASCII: each text has to be looked through


def chinese(count: int) -> list[str]:
    """Make texts of words of two characters, four to a clause."""
    rng = np.random.default_rng(8)
    characters = [chr(0x4E00 + number) for number in rng.permutation(5000)]
    ranks = np.minimum(rng.zipf(1.2, size=(count, 360)) - 1, 4999)
    return ["".join(characters[rank] + "，" * (place % 8 == 7) for place, rank in enumerate(row)) for row in ranks]


def filled(directory: Path, texts: Sequence[str], *, pairs: bool) -> tuple[Store, float]:
    """Store texts in one commit; return the store and the milliseconds of processor time a thousand took."""
    tokenizers.newest = lambda name: tokenizers.Tokenizer(name, pairs)  # type: ignore[assignment]  # as it was before
    directory.mkdir(parents=True)
    Store.create(Generation(directory))
    store = Store(Generation(directory), 4, read_only=False)
    chunks = [NewChunk(f"r{number}", text, "{}") for number, text in enumerate(texts)]
    started = time.process_time()
    store.put(chunks, np.zeros((len(chunks), 4), np.float32), [])
    return store, (time.process_time() - started) * 1e6 / len(chunks)


def index_bytes(store: Store, texts: int) -> float:
    """Return the bytes of the index for each text."""
    with store.session() as session:
        sql = "SELECT sum(length(block)) FROM lexical_data"
        return float(session._cursor.execute(sql).get) / texts


def quickest(work: Callable[[], object]) -> float:
    """Return milliseconds of processor time."""
    spent = []
    for _ in range(ROUNDS):
        started = time.process_time()
        work()
        spent.append(time.process_time() - started)
    return min(spent) * 1e3


def asked(store: Store, questions: Sequence[str]) -> list[list[tuple[int, float]]]:
    """Return rows and scores of each question."""
    found = []
    for question in questions:
        with store.session() as session:
            rows, scores = session.match(question, count=10)
        found.append(list(zip(rows.tolist(), scores.tolist(), strict=True)))
    return found


def compare(name: str, texts: Sequence[str], questions: Sequence[str], work: Path) -> bool:
    """Print a line for each of the two indexes; say whether they answer the same."""
    answers = []
    for pairs in (False, True):
        made = [filled(work / f"{name} {pairs} {n}", texts, pairs=pairs) for n in range(ROUNDS)]
        store = made[0][0]
        answers.append(asked(store, questions))
        each = quickest(lambda store=store: asked(store, questions)) / len(questions)
        seconds = min(took for _, took in made)
        size = index_bytes(store, len(texts))
        figures = f"add {seconds:8.1f} µs a text   {size:7.0f} B   search {each:6.2f} ms"
        print(f"{name:24} {'now' if pairs else 'before':8} {figures}")
        for one, _ in made:
            one.close()
    return answers[0] == answers[1]


def main() -> int:
    """Measure and print."""
    found = (folder / "shared" / "data" / "scifact" for folder in ROOT.parents)
    data = next(filter(Path.is_dir, found), ROOT / "scifact")
    try:
        corpus, queries = (records(data / f"{name}.jsonl.gz") for name in ("corpus", "queries"))
    except DataMissing as missing:
        print(missing, file=sys.stderr)
        return 2
    english = [f"{one.get('title', '')} {one['text']}" for one in corpus]
    questions = [one["text"] for one in queries]
    texts = chinese(3000)
    with tempfile.TemporaryDirectory() as made:
        work = Path(made)
        same = compare("SciFact", english, questions, work)
        accents = compare("SciFact with umlauts", [text.translate(UMLAUTS) for text in english], questions, work)
        compare("Chinese", texts, [text[:2] for text in texts[:200]], work)
        compare("Chinese, ten characters", texts, [text[:11] for text in texts[:200]], work)
    print(f"the same rows and scores: SciFact {same}, with umlauts {accents}")
    return 0 if same and accents else 1


if __name__ == "__main__":
    sys.exit(main())

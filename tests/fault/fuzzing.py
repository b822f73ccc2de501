"""Random input for everything that reads what others wrote; nothing but a typed error may come of it."""

from __future__ import annotations

import contextlib
import json
import pickletools
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import orjson
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

import reperio
from reperio import Chunk, Collection, ReperioError
from reperio.embedding.contract import Settings
from reperio.errors import ReperioWarning
from reperio.evaluation.golden.questions import read_golden
from reperio.filters import Operator, parse
from reperio.importers.pickles import read_pickle
from reperio.index import IndexDescription, SnapshotUnusable
from reperio.layout import Layout, read_settings
from tests.crash.plan import DIMENSION

# What tokenizers, FTS5's query language and SQL know, among letters.
_SYNTAX = st.sampled_from([*"\"'*^:(){}[]+-%\\\0", "AND", "OR", "NOT", "NEAR(", "text:"])
_SURROGATES = st.characters(categories=["Cs"])
QUESTIONS = st.lists(_SYNTAX | st.text(max_size=8) | _SURROGATES, max_size=12).map(" ".join) | st.text(max_size=60)

_NAMES = st.sampled_from([*(operator.value for operator in Operator), "$not", "$and", "$or", "a", "b", "a.b", "\\"])
_KEYS: st.SearchStrategy[Any] = _NAMES | st.text(max_size=4) | st.integers() | st.none() | st.binary(max_size=2)
_LEAVES: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.binary(max_size=3)
    | st.just(object())
    | st.complex_numbers()
    | st.dates()
    | st.characters(categories=["Cs"])
)
FILTERS = st.recursive(
    _LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(_KEYS, inner, max_size=3)
        | st.dictionaries(_NAMES, inner, max_size=3)
        | st.frozensets(st.integers(), max_size=2)
    ),
    max_leaves=12,
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_MEASURES = st.lists(
    st.sampled_from([*"()@=,-05", "nDCG", "P", "MRR", "rel", "cutoff"]) | st.text(max_size=2), max_size=8
).map("".join)


Test: TypeAlias = Callable[[], None]


@contextmanager
def _collection() -> Iterator[Collection]:
    texts = ["ash birch", "cedar fir ash", "oak pine", "yew", "NEAR AND OR", 'a "quoted" word', ""]
    vectors = np.eye(len(texts), DIMENSION, dtype=np.float32)
    with (
        tempfile.TemporaryDirectory() as folder,
        reperio.open(Path(folder) / "kb", dimension=DIMENSION, auto_optimize=False) as kb,
    ):
        kb.add([Chunk(str(n), text, {"a": n, "b": [text]}) for n, text in enumerate(texts)], vectors=vectors)
        yield kb


def _mutated(data: st.DataObject, original: bytes) -> bytes:
    """Return *original* with a few of its values replaced, as JSON, or of its bytes, as bytes."""
    if data.draw(st.booleans()):
        content = json.loads(original)  # may hold Infinity, which orjson does not read
        for key in data.draw(st.lists(st.sampled_from(sorted(content)), max_size=3)):
            content[key] = data.draw(_JSON)
        with contextlib.suppress(TypeError):  # an integer that orjson does not write
            return orjson.dumps(content)
    changed = bytearray(original)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(changed) - 1))
        changed[at : at + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
        changed = changed or bytearray(b"{")
    return bytes(changed)


@contextmanager
def fuzz_filters() -> Iterator[Test]:
    """Pass anything as a filter: it is refused in words, or finds what `Collection.ids` finds by it."""
    with _collection() as kb:

        @given(where=FILTERS)
        def run(where: Any) -> None:
            with contextlib.suppress(ReperioError):
                parse(where)
                found = kb.search(vector=np.ones(DIMENSION), where=where, k=20)
                assert {hit.chunk.id for hit in found} == set(kb.ids(where=where))

        yield run


@contextmanager
def fuzz_questions() -> Iterator[Test]:
    """Ask questions that are only words, whatever FTS5 might read in them."""
    with _collection() as kb:

        @given(question=QUESTIONS)
        def run(question: str) -> None:
            for vector in (None, np.ones(DIMENSION)):
                with contextlib.suppress(ReperioError), warnings.catch_warnings():
                    warnings.simplefilter("ignore", ReperioWarning)  # a question without words says so
                    mode = "lexical" if vector is None else "hybrid"
                    assert len(kb.search(question, vector=vector, mode=mode, k=3)) <= 3

        yield run


@contextmanager
def fuzz_manifests() -> Iterator[Test]:
    """Read collection.json and CURRENT, with anything in them."""
    made = Settings(DIMENSION, reperio.Metric.COSINE, None).to_json()
    manifest = orjson.dumps({"format_version": 3, **made})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "collection.json"

        @given(data=st.data(), current=st.binary(max_size=30) | st.text().map(_utf8))
        def run(data: st.DataObject, current: bytes) -> None:
            path.write_bytes(_mutated(data, manifest))
            path.with_name("CURRENT").write_bytes(current)
            with contextlib.suppress(ReperioError):
                Settings.from_json(read_settings(path), str(path))
            with contextlib.suppress(ReperioError):
                Layout(Path(folder)).read_current()

        yield run


@contextmanager
def fuzz_records() -> Iterator[Test]:
    """Read the record of an index, as it lies in the database, with anything in it."""
    with _collection() as kb:
        kb.optimize(index="HNSW4,SQ8")
        record = kb._handle.generation.description()  # what lies in the database is nobody's to see
        assert record is not None
    made = record.to_json().encode()

    @given(data=st.data())
    def run(data: st.DataObject) -> None:
        with contextlib.suppress(SnapshotUnusable):
            IndexDescription.from_json(_mutated(data, made).decode(errors="replace"))

    yield run


@contextmanager
def fuzz_pickles() -> Iterator[Test]:
    """Read what may be a pickle of documents: its opcodes are followed, nothing is called."""

    @given(data=st.lists(st.sampled_from(_OPCODES) | st.binary(max_size=6), max_size=40).map(b"".join))
    def run(data: bytes) -> None:
        with contextlib.suppress(ReperioError):
            read_pickle(b"\x80\x04" + data, allowed=frozenset(), where="a fuzzed file")

    yield run


@contextmanager
def fuzz_golden() -> Iterator[Test]:
    """Read a golden set, with anything in a question, or in what is said of all of them."""
    question = {"query": "q", "expect": {"a": 1}, "where": {"a": 1}, "tags": ["t"], "mode": "dense"}
    said = {
        "defaults": {"k": 5, "mode": "lexical", "where": {"a": 1}},
        "thresholds": {"nDCG@10": 0.5, "P(rel=2)@5": 0.1},
        "tags": {"t": {"R@10": 0.5}},
        "limits": {"recall": 0.9, "queries": 100, "p95": 50},
    }
    with tempfile.TemporaryDirectory() as folder:

        @given(data=st.data(), suffix=st.sampled_from([".jsonl", ".yaml"]))
        def run(data: st.DataObject, suffix: str) -> None:
            content = question
            if suffix == ".yaml":
                part = data.draw(st.sampled_from(sorted(said)))
                names = _MEASURES | st.sampled_from(sorted(said[part]))
                values = _JSON | st.dictionaries(_MEASURES, _JSON, max_size=2)
                more = data.draw(st.dictionaries(names, values, max_size=3))
                content = {**said, part: {**said[part], **more}, "queries": [question]}
            path = Path(folder) / f"golden{suffix}"
            path.write_bytes(_mutated(data, json.dumps(content).encode()) + b"\n" + data.draw(st.binary(max_size=8)))
            with contextlib.suppress(ReperioError):
                read_golden(path)

        yield run


_OPCODES = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]

TARGETS: dict[str, Callable[[], AbstractContextManager[Test]]] = {
    "filters": fuzz_filters,
    "questions": fuzz_questions,
    "manifests": fuzz_manifests,
    "records": fuzz_records,
    "pickles": fuzz_pickles,
    "golden": fuzz_golden,
}


def fuzz(name: str, number: int, examples: int) -> Counter[str]:
    """Try *examples* random inputs, with *number* as their seed, on a target."""
    bounded = settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    with TARGETS[name]() as test:
        seed(number)(bounded(test))()
    return Counter({name: examples})


def _utf8(text: str) -> bytes:
    return text.encode(errors="replace")

"""Filters on collections large enough for an index: every way to ask, through every kind of handle."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import reperio
from reperio import Chunk, Collection, Filter, field
from reperio.filters import And, Condition, Not, Operator, Or
from tests.concurrency.test_processes import Reader
from tests.property.twin import Twin

from .test_filters import OPERANDS

DIMENSION, ROWS = 16, 500
SCOPE = field("tenant").in_(["a", "b"])
ALWAYS = field("nowhere").exists(False)
NEVER = field("nowhere").exists()


def some_metadata(rng: random.Random) -> dict[str, Any]:
    """Return metadata of every JSON type, with fields that are missing, null, or of mixed types now and then."""
    made: dict[str, Any] = {
        "tenant": rng.choice("aaabbc"),
        "n": rng.choice([rng.randrange(20), rng.random() * 20, 2**53 + rng.randrange(3), -rng.randrange(5)]),
        "tags": rng.sample(["x", "y", "Z", 1, True, None], rng.randrange(4)),
        "author": {"name": rng.choice(["Ada", "ada", "Bob", ""]), "born.in": rng.randrange(1900, 1905)},
        "flag": rng.random() < 0.3,
        "mixed": rng.choice([None, "", "text", 0, 1, 1.0, True, [], {}, [[1]], {"k": [1]}]),
        "rare": rng.randrange(250),
    }
    return {key: value for key, value in made.items() if rng.random() < 0.9}


PATHS = st.sampled_from(
    [(key,) for key in ("tenant", "n", "tags", "author", "flag", "mixed", "rare", "nowhere", "a.b")]
    + [("author", "name"), ("author", "born.in"), ("mixed", "k"), ("tags", "0")]
)
LIKELY = st.sampled_from(
    [
        *"abcxyZ",
        "Ada",
        "ADA",
        "",
        "text",
        0,
        1,
        1.0,
        -1,
        7,
        2**53,
        2**53 + 1,
        True,
        False,
        None,
        1902,
        [],
        {},
        ["x"],
        [1],
    ]
)
LIKELY_OPERANDS: dict[Operator, st.SearchStrategy[Any]] = {
    **OPERANDS,
    **dict.fromkeys((Operator.EQ, Operator.NE, Operator.CONTAINS), LIKELY),
    **dict.fromkeys((Operator.IN, Operator.NIN, Operator.ANY, Operator.ALL), st.lists(LIKELY, max_size=3)),
    **dict.fromkeys(
        (Operator.GT, Operator.GTE, Operator.LT, Operator.LTE), st.sampled_from([0, 5, 10.5, 19, 249, "b"])
    ),
    Operator.BETWEEN: st.sampled_from([(0, 10), (3, 3.5), ("A", "b"), (9, 1), (1901, 1903)]),
    **dict.fromkeys((Operator.LIKE, Operator.ILIKE), st.sampled_from(["%", "_da", "a%", "%B", "t_x%"])),
    **dict.fromkeys((Operator.TEXT_MATCH, Operator.TEXT_MATCH_INSENSITIVE), st.sampled_from(["", "a", "DA", "b"])),
}
CONDITIONS = st.sampled_from(Operator).flatmap(
    lambda operator: st.builds(Condition, PATHS, st.just(operator), LIKELY_OPERANDS[operator])
)
TREES: st.SearchStrategy[Filter] = st.recursive(
    CONDITIONS,
    lambda inner: (
        st.lists(inner, min_size=2, max_size=3).map(lambda children: And(tuple(children)))
        | st.lists(inner, min_size=2, max_size=3).map(lambda children: Or(tuple(children)))
        | inner.map(Not)
    ),
    max_leaves=4,
)
VECTORS = st.integers(0, 10**6).map(lambda seed: some_vectors(np.random.default_rng(seed), 1)[0])


def some_vectors(rng: np.random.Generator, count: int) -> np.typing.NDArray[np.float32]:
    """Return vectors of a few clusters, as embeddings have them; now and then two are equal."""
    centres = np.random.default_rng(7).standard_normal((12, DIMENSION))
    made = centres[rng.integers(0, 12, count)] + 0.4 * rng.standard_normal((count, DIMENSION))
    if count > 10:
        made[5] = made[7]
    return made.astype(np.float32)


def made_of(rng: random.Random, first: int, count: int) -> tuple[list[Chunk], np.typing.NDArray[np.float32]]:
    chunks = [Chunk(f"c{number}", f"chunk {number}", some_metadata(rng)) for number in range(first, first + count)]
    return chunks, some_vectors(np.random.default_rng(first), count)


class Handles:
    """A writer, a reader, one of another process, and one with a scope, over one collection."""

    def __init__(self, path: Path, twin: Twin, remote: Reader, stack: ExitStack) -> None:
        self.path, self.twin, self.remote = path, twin, remote
        self.kb = stack.enter_context(
            reperio.open(path, dimension=DIMENSION, metric=twin.metric, dtype=twin.dtype, auto_optimize=False)
        )
        self.reader = stack.enter_context(reperio.open(path, read_only=True))
        self.scoped = stack.enter_context(reperio.open(path, read_only=True, scope=SCOPE))
        remote.ask("open", str(path))
        stack.callback(lambda: self.kb.close())

    def check(self, tree: Filter, query: np.typing.NDArray[np.float32], k: int, *, recalls: tuple[float, ...]) -> None:
        """Ask all of them."""
        for recall in recalls:
            self.twin.check(self.kb, tree, query, k, recall=recall)
            self.twin.check(self.reader, tree, query, k, recall=recall)
            self.twin.check(self.scoped, tree, query, k, scope=SCOPE, recall=recall)
        self.twin.check_process(self.remote, tree, query, k)

    def reopen(self) -> None:
        self.kb.close()
        self.kb = reperio.open(self.path, auto_optimize=False)


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    with Reader(tmp_path_factory.mktemp("remote") / "reader", words="tests.property.filtered_reader") as reader:
        yield reader


# In these every metric, dtype and kind of index (none, codes, lists, a graph) occurs.
SOME = [
    ("cosine", "float32", "HNSW8,SQ8"),
    ("l2", "float32", "IVF8,Flat"),
    ("l2", "float16", None),
    ("inner_product", "float16", "IVF1,PQ8x4fs"),
]
MORE = [
    *((metric, "float32", None) for metric in ("cosine", "inner_product", "l2")),
    *((metric, "float32", "HNSW8,SQ8") for metric in ("inner_product", "l2")),
    ("cosine", "float32", "IVF1,PQ8x4fs"),
    ("inner_product", "float32", "IVF8,PQ8x4fs"),
    ("cosine", "float16", "IVF8,SQ8"),
]
CASES = [*SOME, *(pytest.param(*case, marks=pytest.mark.campaign) for case in MORE)]


@pytest.mark.parametrize(("metric", "dtype", "index"), CASES)
def test_any_filter_at_any_age_of_a_collection(
    metric: str, dtype: str, index: str | None, tmp_path: Path, remote: Reader
) -> None:
    """Filters select what the table says and search finds the best of it, before and after every kind of change."""
    rng, twin = random.Random(3), Twin(metric, dtype)
    with ExitStack() as stack:
        handles = Handles(tmp_path / "kb", twin, remote, stack)

        def examine(examples: int) -> None:
            @settings(
                max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None,
                derandomize=True,
            )  # fmt: skip
            @given(tree=TREES, query=VECTORS, k=st.sampled_from([1, 3, 10, 40]))
            def agree(tree: Filter, query: np.typing.NDArray[np.float32], k: int) -> None:
                handles.check(tree, query, k, recalls=(1.0, 0.95))

            for tree in (ALWAYS, NEVER, ~SCOPE, field("rare") == 3):  # all, none, outside the scope, a handful
                handles.check(tree, some_vectors(np.random.default_rng(1), 1)[0], 10, recalls=(1.0, 0.95))
            agree()

        examine(2)  # empty
        twin.add(handles.kb, *made_of(rng, 0, ROWS))
        if index is not None:
            handles.kb.optimize(index=index)
        examine(6)
        _change(handles, rng)
        examine(4)
        handles.kb.compact()
        examine(2)
        handles.reopen()
        _change(handles, rng)
        examine(2)
        keep = twin.matching(None)[10]
        twin.delete_where(handles.kb, ~(field("tenant") == "a") | (field("n") < 10))
        twin.add(handles.kb, [Chunk(keep, "kept", {"keep": True})], some_vectors(np.random.default_rng(2), 1))
        twin.delete_where(handles.kb, field("keep").exists(False))
        assert handles.kb.ids() == [keep]
        examine(2)
        assert handles.kb.check().ok


def _change(handles: Handles, rng: random.Random) -> None:
    """Replace chunks, change metadata alone, delete by id and by filter, add new ones: in small commits."""
    twin, kb = handles.twin, handles.kb
    first = 1000 + len(twin.stored)
    for step in range(3):
        replaced = rng.sample(sorted(twin.stored), 15)
        vectors = some_vectors(np.random.default_rng(first + step), 15)
        twin.add(kb, [Chunk(key, f"replaced {first} {step}", some_metadata(rng)) for key in replaced], vectors)
        for key in rng.sample(sorted(twin.stored), 5):
            chunk, vector = twin.relabelled(key, {**some_metadata(rng), "step": first + step})
            twin.add(kb, [chunk], vector[None])
        gone = rng.sample(sorted(twin.stored), 10)
        assert kb.delete(ids=gone) == 10
        for key in gone:
            del twin.stored[key]
        twin.add(kb, *made_of(rng, first + 100 * step, 20))
        handles.check(field("tenant") == "b", some_vectors(np.random.default_rng(step), 1)[0], 10, recalls=(1.0, 0.95))
    twin.delete_where(kb, (field("n") > 18) & (field("flag") == False))  # noqa: E712  # `field` has its own ==


def test_an_older_commit_keeps_its_rows_whatever_was_read_since(tmp_path: Path) -> None:
    """Of sessions begun at three commits, each selects its own rows, though a column was first read at the last."""
    tree = field("t") == "x"
    with reperio.open(tmp_path / "kb", dimension=4) as kb:

        def add(first: int, last: int) -> None:
            vectors = np.random.default_rng(0).standard_normal((last - first, 4), dtype=np.float32)
            kb.add([Chunk(f"c{n}", "", {"t": "x"}) for n in range(first, last)], vectors=vectors)

        def begun() -> tuple[reperio.collection.generation.opened.OpenGeneration, Any]:
            return kb._handle.session()

        add(0, 3)
        generation, oldest = begun()
        add(3, 6)
        _, middle = begun()
        kb.delete(ids=["c1", "c4"])
        _, newest = begun()
        for session, rows in ((newest, [0, 2, 3, 5]), (oldest, [0, 1, 2]), (middle, [0, 1, 2, 3, 4, 5])):
            with session:
                assert generation.matching(tree, session).tolist() == rows


def test_a_view_of_each_commit_has_its_own_masks(tmp_path: Path) -> None:
    """A filter asked before and after each change, of a writer and a reader, is never answered from an older state."""
    with (
        reperio.open(tmp_path / "kb", dimension=4) as kb,
        reperio.open(tmp_path / "kb", read_only=True) as reader,
    ):
        twin, rng = Twin("cosine"), np.random.default_rng(0)
        trees = [field("t") == "x", field("t") != "x", field("t").exists()]

        def agree() -> None:
            for handle in (kb, reader):
                for tree in trees:
                    twin.check(handle, tree, rng.standard_normal(4, dtype=np.float32), 5)

        agree()
        for number in range(30):
            one = Chunk(f"c{number % 7}", f"{number}", {"t": "xy"[number % 2]} if number % 5 else {})
            twin.add(kb, [one], rng.standard_normal((1, 4), dtype=np.float32))
            agree()
            if number % 6 == 4:
                twin.delete_where(kb, field("t") == "y")
                agree()
            if number % 10 == 9:
                kb.compact()
                agree()


def test_deleting_by_filter_matches_through_any_form(tmp_path: Path) -> None:
    """A dictionary and the same filter in Python delete the same chunks, and an empty one is refused in every form."""
    with reperio.open(tmp_path / "kb", dimension=4) as kb:
        vectors = np.eye(4, dtype=np.float32)
        kb.add([Chunk(f"c{n}", "", {"n": n}) for n in range(4)], vectors=vectors)
        forms: list[Any] = [{}, {"$and": [{}]}, {"$or": [{}]}, {"$not": [{"$not": [{}]}]}]
        for form in forms:
            with pytest.raises(reperio.InvalidInput, match=r"^where matches everything; to delete all chunks pass"):
                kb.delete(where=form)
        assert kb.delete(where={"n": {"$gt": 2}}) == 1
        assert kb.delete(where=field("n") > 1) == 1
        assert _ids(kb) == ["c0", "c1"]


def _ids(kb: Collection) -> list[str]:
    return [chunk.id for chunk in kb]

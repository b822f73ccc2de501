"""Random metadata and random filters: columns, the plain evaluation, and the table agree."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reperio.filters import And, Condition, Filter, Not, Operator, Or, matches, parse, to_dict
from reperio.filters.columns.columns import Columns
from reperio.layout import Generation
from reperio.store import NewChunk, Store
from tests.naive_filters import expected

# Few letters, so that values meet: cases, a folding of two to one, the wildcards, what JSON and SQL quote.
TEXT = st.text(alphabet="aAbſsS%_\\\"'.$\0é😀", max_size=4)
KEYS = st.sampled_from(["a", "b", "a.b", 'q"', "", "$x", "\0", "é\\", "[0]"])
NUMBERS = st.sampled_from(
    [0, 1, -1, 1.0, -0.0, 0.5, 2**53, 2**53 + 1, float(2**53), 2**63 - 1, -(2**63), 2**64 - 1, 2.0**64, 1e300, 5e-324]
) | st.integers(-(2**63), 2**64 - 1)
SCALARS = st.none() | st.booleans() | NUMBERS | st.floats(allow_nan=False, allow_infinity=False) | TEXT
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=2), max_leaves=4
)
METADATA = st.dictionaries(KEYS, VALUES, max_size=4)
PATHS = st.lists(KEYS, min_size=1, max_size=2).map(tuple)
ORDERED = NUMBERS | st.sampled_from([2**70, -(2**70), 2**1024 - 1]) | TEXT
PATTERNS = TEXT.filter(lambda text: (len(text) - len(text.rstrip("\\"))) % 2 == 0)
OPERANDS: dict[Operator, st.SearchStrategy[Any]] = {
    **dict.fromkeys((Operator.EQ, Operator.NE, Operator.CONTAINS), VALUES),
    **dict.fromkeys((Operator.IN, Operator.NIN, Operator.ANY, Operator.ALL), st.lists(VALUES, max_size=3)),
    **dict.fromkeys((Operator.GT, Operator.GTE, Operator.LT, Operator.LTE), ORDERED),
    Operator.BETWEEN: st.tuples(NUMBERS, NUMBERS) | st.tuples(TEXT, TEXT),
    **dict.fromkeys((Operator.LIKE, Operator.ILIKE), PATTERNS),
    **dict.fromkeys((Operator.TEXT_MATCH, Operator.TEXT_MATCH_INSENSITIVE), TEXT),
    **dict.fromkeys((Operator.EXISTS, Operator.IS_EMPTY), st.booleans()),
}
CONDITIONS = st.sampled_from(Operator).flatmap(
    lambda operator: st.builds(Condition, PATHS, st.just(operator), OPERANDS[operator])
)
TREES: st.SearchStrategy[Filter] = st.recursive(
    CONDITIONS,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda children: And(tuple(children)))
        | st.lists(inner, min_size=1, max_size=3).map(lambda children: Or(tuple(children)))
        | inner.map(Not)
    ),
    max_leaves=4,
)


def test_every_operator_is_tried() -> None:
    """The strategies know all operators, so that a new one cannot be left out."""
    assert set(OPERANDS) == set(Operator)


@settings(max_examples=200, deadline=None)
@given(trees=st.lists(TREES, min_size=1, max_size=4), metadata=METADATA)
def test_the_plain_evaluation_is_the_table(trees: list[Filter], metadata: dict[str, Any]) -> None:
    """`matches` says what the table says, also of the filter written as a dict and read again."""
    for tree in trees:
        assert matches(tree, metadata) == expected(tree, metadata)
        again = parse(to_dict(tree))
        assert matches(again, metadata) == expected(tree, metadata)
        assert parse(to_dict(again)) == again
        assert hash(parse(to_dict(again))) == hash(again)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    batches=st.lists(st.lists(METADATA, max_size=20), min_size=1, max_size=3),
    trees=st.lists(TREES, min_size=1, max_size=6),
    dead=st.sets(st.integers(0, 40)),
)
def test_columns_select_what_the_table_says(
    batches: list[list[dict[str, Any]]], trees: list[Filter], dead: set[int]
) -> None:
    """Columns that live through appends and deletes, and fresh ones, select the rows that the table does."""
    with tempfile.TemporaryDirectory() as folder:
        paths = Generation(Path(folder), "float32")
        Store.create(paths)
        store, columns = Store(paths, 1, read_only=False), Columns()
        try:
            stored: list[dict[str, Any]] = []
            for number, batch in enumerate(batches):
                chunks = [
                    NewChunk(f"{number}-{i}", "", orjson.dumps(metadata).decode()) for i, metadata in enumerate(batch)
                ]
                if chunks:
                    store.put(chunks, np.zeros((len(batch), 1), dtype=np.float32), [])
                stored += batch
                if number == 1:
                    store.delete(sorted(row for row in dead if row < len(stored)))
                with store.session() as session:
                    living = {chunk.row for block in session.scan_all() for chunk in block}
                    for tree in trees:
                        truth = [row for row in sorted(living) if expected(tree, stored[row])]
                        for one in (columns, columns, Columns()):
                            bits = one.evaluate(tree, session, len(stored))
                            assert len(bits) == -(-len(stored) // 8)
                            selected = np.flatnonzero(np.unpackbits(bits, bitorder="little"))
                            assert [row for row in selected.tolist() if row in living] == truth
                            assert (selected < len(stored)).all()
        finally:
            store.close()

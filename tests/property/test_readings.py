"""Random metadata and random filters: what holds wholly is what holds of each reading, and no other scope sees it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from reperio.filters import And, Condition, Filter, Operator, Or, holds_wholly, matches
from reperio.filters.readings import conditions
from tests.naive_filters import expected
from tests.property.test_filtered_search import LIKELY_OPERANDS

NAMES = ("a", "b", "c")
ELEMENTS = st.sampled_from(["a", "b", "Ada", "", 0, 1, 1.0, 7, True, None, [], ["x"], {"k": [1]}])
METADATA = st.dictionaries(st.sampled_from(NAMES), ELEMENTS | st.lists(ELEMENTS, max_size=3))
PATHS = st.sampled_from([*((name,) for name in NAMES), ("a", "k")])
CONDITIONS = st.sampled_from(Operator).flatmap(
    lambda operator: st.builds(Condition, PATHS, st.just(operator), LIKELY_OPERANDS[operator])
)
TREES: st.SearchStrategy[Filter] = st.recursive(
    CONDITIONS,
    lambda inner: (
        st.lists(inner, min_size=2, max_size=3).map(lambda children: And(tuple(children)))
        | st.lists(inner, min_size=2, max_size=3).map(lambda children: Or(tuple(children)))
        | inner.map(lambda tree: ~tree)
    ),
    max_leaves=4,
)
TENANTS = ("a", "b", "c")


def readings(tree: Filter, metadata: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every reading, by cutting copies: all combinations, whatever the conditions say about them."""
    fields = {each.path for each in conditions(tree)}
    choices = [
        [[one] for one in value] if (name,) in fields and isinstance(value, list) and value else [value]
        for name, value in metadata.items()
    ]
    for chosen in product(*choices):
        yield dict(zip(metadata, chosen, strict=True))


@settings(max_examples=400, deadline=None)
@given(tree=TREES, metadata=METADATA)
def test_wholly_is_every_reading(tree: Filter, metadata: dict[str, Any]) -> None:
    """The quick evaluation agrees with the slow one, by the table of docs/filters.md."""
    slow = expected(tree, metadata) and all(expected(tree, one) for one in readings(tree, metadata))
    assert holds_wholly(tree, metadata) == slow


@settings(max_examples=400, deadline=None)
@given(
    own=st.sets(st.sampled_from(TENANTS), min_size=1, max_size=2),
    narrower=TREES,
    asked=TREES,
    tenant=st.sampled_from(TENANTS) | st.lists(st.sampled_from(TENANTS), max_size=3),
    rest=METADATA,
)
def test_what_a_scope_may_write_no_other_sees(
    own: set[str], narrower: Filter, asked: Filter, tenant: Any, rest: dict[str, Any]
) -> None:
    """Scopes that share no single value of a field share no chunk, whatever else they and their filters ask for."""
    metadata = {**rest, "tenant": tenant}
    scope = Condition(("tenant",), Operator.IN, sorted(own)) & narrower
    if not holds_wholly(scope, metadata):
        return
    others = Condition(("tenant",), Operator.IN, sorted(set(TENANTS) - own))
    assert not matches(others, metadata)
    assert not matches(others & asked, metadata)
    assert all(not matches(Condition(("tenant",), Operator.EQ, one), metadata) for one in set(TENANTS) - own)

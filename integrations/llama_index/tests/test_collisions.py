"""A search for one node never returns another, whatever was deleted and added before (as FaissMapVectorStore's did)."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import VectorStoreQuery

from llama_index.vector_stores.reperio import ReperioVectorStore

NAMES = [f"node {at}" for at in range(24)]


def direction(name: str) -> list[float]:
    """Return the vector of a name: no two have a cosine above 0."""
    made = [0.0] * len(NAMES)
    made[NAMES.index(name)] = 1.0
    return made


class StoreMachine(RuleBasedStateMachine):
    """A store beside a dictionary of names and texts."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.store = ReperioVectorStore(self.folder / "kb")
        self.expected: dict[str, str] = {}

    @rule(names=st.lists(st.sampled_from(NAMES), unique=True, max_size=6), version=st.integers(0, 3))
    def add(self, names: list[str], version: int) -> None:
        texts = {name: f"{name}, version {version}" for name in names}
        self.store.add([TextNode(id_=name, text=text, embedding=direction(name)) for name, text in texts.items()])
        self.expected |= texts

    @rule(names=st.lists(st.sampled_from(NAMES), max_size=4))
    def delete_nodes(self, names: list[str]) -> None:
        self.store.delete_nodes(names)
        for name in names:
            self.expected.pop(name, None)

    @rule(name=st.sampled_from(NAMES))
    def delete(self, name: str) -> None:
        self.store.delete(name)
        self.expected.pop(name, None)

    @rule()
    def clear(self) -> None:
        self.store.clear()
        self.expected.clear()

    @rule()
    def compact(self) -> None:
        if self.store.client is not None:
            self.store.client.compact()

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = ReperioVectorStore(self.folder / "kb")

    @invariant()
    def every_node_is_found_as_itself_and_nothing_else_is(self) -> None:
        found = {each.node_id: each.get_content() for each in self.store.get_nodes()}
        assert found == self.expected
        for name in NAMES[::5]:
            result = self.store.query(VectorStoreQuery(query_embedding=direction(name), similarity_top_k=1))
            if name in self.expected:
                assert result.ids == [name]
                assert result.similarities is not None
                assert result.similarities[0] > 0.999
                assert result.nodes is not None
                assert result.nodes[0].get_content() == self.expected[name]
            else:
                assert name not in (result.ids or [])

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder)


StoreMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
TestStoreMachine = StoreMachine.TestCase

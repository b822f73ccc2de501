from __future__ import annotations

from pathlib import Path

import numpy as np

import reperio
from reperio import Chunk, Collection
from reperio.embedding.passages import passage, stored_passage
from reperio.evaluation.gate import gate
from tests.conftest import TrigramEmbedder

CONTEXT = "embedding_context"


def test_a_context_is_embedded_and_not_shown(kb: Collection, embedder: TrigramEmbedder) -> None:
    """What is embedded is context and text; what is stored and found is the text, with its context as metadata."""
    kb.add([Chunk("a", "Turn it to the left.", {CONTEXT: "Bread slicer > Opening"}), Chunk("b", "Turn it off.")])
    assert embedder.embedded[-2:] == ["Bread slicer > Opening\nTurn it to the left.", "Turn it off."]
    hit = kb.search("bread slicer opening", k=1)[0]
    assert (hit.chunk.id, hit.chunk.text) == ("a", "Turn it to the left.")
    assert hit.chunk.metadata == {CONTEXT: "Bread slicer > Opening"}


def test_another_context_is_embedded_again_and_other_metadata_is_not(kb: Collection, embedder: TrigramEmbedder) -> None:
    """The vector of a chunk is made again when its context changes, comes or goes, and kept when another field does."""
    steps = [({CONTEXT: "x", "n": 1}, 1), ({CONTEXT: "x", "n": 2}, 0), ({CONTEXT: "y", "n": 2}, 1), ({"n": 2}, 1)]
    for metadata, embedded in [*steps, ({CONTEXT: "", "n": 2}, 0), ({CONTEXT: 5, "n": 2}, 0)]:
        assert kb.add([Chunk("a", "words", metadata)]).embedded == embedded
        expected = embedder.embed_passages([passage("words", metadata)])
        np.testing.assert_allclose(kb.vectors(["a"]), expected / np.linalg.norm(expected), atol=1e-6)


def test_equal_texts_of_one_batch_have_the_vectors_of_their_contexts(kb: Collection) -> None:
    """Two chunks with one text under two headings do not share a vector."""
    kb.add([Chunk("a", "words", {CONTEXT: "apples"}), Chunk("b", "words", {CONTEXT: "pears"}), Chunk("c", "words")])
    vectors = kb.vectors(["a", "b", "c"])
    assert len({vector.tobytes() for vector in vectors}) == 3
    assert kb.search("apples words", k=1)[0].chunk.id == "a"


def test_a_reembedded_collection_has_its_contexts(kb: Collection) -> None:
    """Another model embeds what the first one did, context included, and so does compaction keep it."""
    kb.add([Chunk("a", "words", {CONTEXT: "apples"}), Chunk("b", "words")])
    other = TrigramEmbedder(32, name="other", salt="x")
    kb.reembed(other)
    assert sorted(other.embedded[-2:]) == ["apples\nwords", "words"]
    kb.compact()
    assert kb.add([Chunk("a", "words", {CONTEXT: "apples"})]).unchanged == 1


def test_the_gate_compares_vectors_with_contexts(path: Path) -> None:
    """The contract's check passes where contexts were embedded, and fails where one was changed behind its back."""
    with reperio.open(path, embedder=TrigramEmbedder()) as kb:
        kb.add([Chunk(str(i), f"words about {i}", {CONTEXT: f"title {i * i}"}) for i in range(50)])
        assert {check.name: check.verdict.value for check in gate(kb).checks}["contract"] == "pass"
        kb.add([Chunk("0", "words about 0", {CONTEXT: "another title altogether"})], vectors=kb.vectors(["0"]))
        assert {check.name: check.verdict.value for check in gate(kb).checks}["contract"] == "fail"


def test_damaged_metadata_has_no_context() -> None:
    """JSON that cannot be read is left to the checksum of its chunk."""
    for damaged in ('{"embedding_context": ', '["embedding_context"]', '{"a": "embedding_context"}'):
        assert stored_passage("words", damaged) == "words"

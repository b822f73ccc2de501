"""Folders like those of LangChain's FAISS store, with something in them that it would not write."""

from __future__ import annotations

import pickle
import shutil
import warnings
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

import reperio
from reperio import InvalidInput, InvalidVectors
from reperio.errors import UnsafePickle
from reperio.importers.langchain_faiss import Changed, import_langchain_faiss
from reperio.importers.pickles import Name
from reperio.index import VectorsLost
from tests.importers.folders import DOCUMENT, NEWEST, Plain, document, write


@pytest.mark.parametrize(
    "name",
    [
        Name("langchain.docstore.document", "Document"),
        Name("langchain.schema", "Document"),
        Name("langchain.schema.document", "Document"),
        DOCUMENT,
    ],
    ids=str,
)
def test_every_path_that_the_classes_have_had_is_known(name: Name, tmp_path: Path) -> None:
    """The oldest documents had a state of their own, and fields that say nothing."""
    old = Plain(name, {"page_content": "old", "metadata": {"a": 1}, "lookup_str": "", "lookup_index": 0})
    store = Name("langchain.docstore.in_memory", "InMemoryDocstore")
    write(tmp_path / "lc", {"a": old, "b": document("new", name=name)}, store=store)
    report = import_langchain_faiss(tmp_path / "lc", tmp_path / "kb")
    assert (report.added, report.complete) == (2, True)


def test_what_does_not_belong_together_is_told(tmp_path: Path) -> None:
    """Documents without a vector, vectors without a document, ids with two; the rest is imported."""
    vectors = np.arange(24, dtype=np.float32).reshape(6, 4)
    documents = {key: document(f"text {key}") for key in ("a", "b", "c", "lonely", "nowhere")}
    positions = {0: "a", 1: "b", 2: "gone", 4: "c", 5: "b", 9: "nowhere"}
    write(tmp_path / "lc", documents, positions, vectors=vectors)
    report = import_langchain_faiss(tmp_path / "lc", tmp_path / "kb")
    assert (report.documents, report.added) == (5, 3)
    assert report.without_vector == ("lonely", "nowhere")
    assert report.without_document == (2, 3)
    assert report.duplicates == ("b",)
    assert not report.complete
    with reperio.open(tmp_path / "kb", read_only=True) as kb:
        np.testing.assert_array_equal(kb.vectors(["a", "b", "c"]), vectors[[0, 5, 4]])


@pytest.mark.parametrize(
    ("factory", "lost"),
    [
        ("Flat", False),
        ("IDMap,Flat", False),
        ("IDMap2,Flat", False),
        ("HNSW8,Flat", False),
        ("IVF2,Flat", False),
        ("IDMap,HNSW8,Flat", False),
        ("SQfp16", True),
        ("PCA2,Flat", True),
        ("IDMap,SQ8", True),
        ("IVF2,PQ2x4", True),
    ],
)
def test_indexes_give_their_vectors_back_or_say_that_they_cannot(factory: str, lost: bool, tmp_path: Path) -> None:
    """What stores floats gives them back to the bit, by the numbers it knows them by."""
    vectors = np.random.default_rng(0).standard_normal((200, 4), dtype=np.float32)
    index = faiss.index_factory(4, factory)
    with warnings.catch_warnings():
        index.train(vectors)
    numbers = np.arange(200)
    if "IDMap" in factory:
        numbers = numbers * 3 + 5
        index.add_with_ids(vectors, numbers)
    else:
        index.add(vectors)
    positions = {int(number): f"d{place}" for place, number in enumerate(numbers)}
    documents = {f"d{place}": document(f"text {place}") for place in range(200)}
    write(tmp_path / "lc", documents, positions, index=index)
    if lost:
        with pytest.raises(VectorsLost, match="does not hold its vectors as they were added"):
            import_langchain_faiss(tmp_path / "lc", tmp_path / "kb")
        return
    assert import_langchain_faiss(tmp_path / "lc", tmp_path / "kb").added == 200
    with reperio.open(tmp_path / "kb", read_only=True) as kb:
        np.testing.assert_array_equal(kb.vectors([f"d{place}" for place in range(200)]), vectors)


def test_an_ivf_after_a_delete_is_not_believed(tmp_path: Path) -> None:
    """LangChain renumbers its documents, FAISS its lists not: whose a vector is, nobody can tell."""
    vectors = np.random.default_rng(0).standard_normal((100, 4), dtype=np.float32)
    index = faiss.index_factory(4, "IVF2,Flat")
    index.train(vectors)
    index.add(vectors)
    index.remove_ids(np.array([3]))
    documents = {f"d{place}": document(f"text {place}") for place in range(100) if place != 3}
    write(tmp_path / "lc", documents, index=index)
    with pytest.raises(VectorsLost, match="after a delete, the numbers in a FAISS IndexIVFFlat no longer tell"):
        import_langchain_faiss(tmp_path / "lc", tmp_path / "kb")
    index.add(vectors[3:4])
    write(tmp_path / "lc", documents, index=index)
    with pytest.raises(VectorsLost, match="after a delete"):
        import_langchain_faiss(tmp_path / "lc", tmp_path / "kb")


def test_strange_ids_and_documents(tmp_path: Path) -> None:
    """Integer ids become strings and are counted; fields of its own that a document has are told."""
    documents = {1: document("one", id="other"), "b": document("two", id="b", color="red"), 3: document("x\ud800y")}
    write(tmp_path / "lc", documents)
    report = import_langchain_faiss(tmp_path / "lc", tmp_path / "kb")
    assert report.changed == (
        Changed("(document)", "an id of its own, next to that in the store", "left out", 1),
        Changed("(document)", "the field color", "left out", 1),
        Changed("(id)", "int", "string", 2),
        Changed("(text)", "a lone surrogate", "U+FFFD", 1),
    )
    with reperio.open(tmp_path / "kb", read_only=True) as kb:
        assert {chunk.id: chunk.text for chunk in kb} == {"1": "one", "b": "two", "3": "x\ufffdy"}


class Stranger:
    """A class of the user's own."""


def refused_documents() -> dict[str, tuple[dict[Any, Any], dict[Any, Any] | None, str]]:
    return {
        "no id": ({"": document()}, None, "a document with the id ''; an id is a non-empty string"),
        "an id of bytes": ({b"a": document()}, None, "with the id b'a'"),
        "ids that are one": ({1: document(), "1": document()}, None, "the ids 1 and '1'"),
        "no text": ({"a": document(None)}, None, "document 'a' is no Document with a text"),
        "a text of bytes": ({"a": document(b"x")}, None, "document 'a' is no Document with a text"),
        "metadata that is a list": ({"a": document("x", [1])}, None, "and a dictionary of metadata"),
        "a dictionary": ({"a": {"page_content": "x"}}, None, "document 'a' is no Document"),
        "a string as number": ({"a": document()}, {"0": "a"}, "knows a vector by '0', which is no integer"),
    }


@pytest.mark.parametrize("case", refused_documents())
def test_what_is_no_document_is_refused(case: str, tmp_path: Path) -> None:
    """Before anything is created."""
    documents, positions, message = refused_documents()[case]
    write(tmp_path / "lc", documents, positions)
    with pytest.raises(InvalidInput, match=message):
        import_langchain_faiss(tmp_path / "lc", tmp_path / "kb")
    assert not (tmp_path / "kb").exists()


def test_a_class_of_the_users_own_is_refused_by_name(tmp_path: Path) -> None:
    """In the metadata of the last of a thousand documents as well; nothing is imported."""
    documents: dict[Any, Any] = {str(number): document() for number in range(1000)}
    documents["last"] = document("x", {"mine": Stranger()})
    write(tmp_path / "lc", documents)
    with pytest.raises(UnsafePickle, match=r"it holds tests\.importers\.test_own_folders\.Stranger, which is none"):
        import_langchain_faiss(tmp_path / "lc", tmp_path / "kb")
    assert not (tmp_path / "kb").exists()


def nested(depth: int, width: int = 1) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value] * width
    return value


def test_what_is_nested_too_deep_is_left_out_and_counted(tmp_path: Path) -> None:
    """The field is; the document and its other fields are not. A list that holds itself ends somewhere, too."""
    circle: list[Any] = []
    circle += [circle, circle]
    metadata = {"deep": nested(100), "circle": circle, "fine": nested(20), "class": [Plain(DOCUMENT, {})]}
    write(tmp_path / "lc", {"a": document("x", metadata)})
    report = import_langchain_faiss(tmp_path / "lc", tmp_path / "kb")
    assert report.changed == (
        Changed("circle", "nested more than 64 levels deep", "left out", 1),
        Changed("class", "langchain_core.documents.base.Document", "left out", 1),
        Changed("deep", "nested more than 64 levels deep", "left out", 1),
    )
    with reperio.open(tmp_path / "kb", read_only=True) as kb:
        assert kb.get("a").metadata == {"fine": nested(20)}


@pytest.mark.parametrize("bomb", ["doubling", "long text"])
def test_a_small_file_does_not_become_a_large_collection(bomb: str, tmp_path: Path) -> None:
    """Sharing in a pickle can multiply without end; what it comes to has a limit."""
    text = "x" * 1_000_000
    metadata = {"doubling": nested(50, 2), "long text": [text] * 300}[bomb]
    write(tmp_path / "lc", {"a": document("x", {"m": metadata})})
    assert (tmp_path / "lc" / "index.pkl").stat().st_size < 1_100_000
    with pytest.raises(InvalidInput, match="the same long values so often that they come to many times its size"):
        import_langchain_faiss(tmp_path / "lc", tmp_path / "kb")
    assert not (tmp_path / "kb").exists()


def test_a_vector_that_cannot_be_stored_leaves_nothing_behind(tmp_path: Path) -> None:
    """NaN, or zero under cosine: told before the first is stored, also into a collection that is there."""
    vectors = np.ones((3000, 4), dtype=np.float32)
    vectors[2500] = 0
    documents = {str(number): document() for number in range(3000)}
    write(tmp_path / "lc", documents, vectors=vectors)
    with pytest.raises(InvalidVectors, match="2500"):
        import_langchain_faiss(tmp_path / "lc", tmp_path / "kb", metric="cosine")
    assert not (tmp_path / "kb").exists()
    vectors[2500] = np.nan
    write(tmp_path / "lc", documents, vectors=vectors)
    with reperio.open(tmp_path / "kb", dimension=4, metric="l2") as kb:
        with pytest.raises(InvalidVectors, match="2500"):
            import_langchain_faiss(tmp_path / "lc", kb)
        assert kb.count() == 0


def test_an_empty_store_is_an_empty_collection(tmp_path: Path) -> None:
    """Nothing is wrong with it."""
    write(tmp_path / "lc", {}, index=faiss.IndexFlatL2(4))
    report = import_langchain_faiss(tmp_path / "lc", tmp_path / "kb")
    assert (report.added, report.created, report.complete) == (0, True, True)


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    """With what is missing, and what the name could be."""
    with pytest.raises(InvalidInput, match=r"has no index\.faiss and no index\.pkl: it is not what LangChain"):
        import_langchain_faiss(tmp_path, tmp_path / "kb")
    with pytest.raises(InvalidInput, match=r"index_name could be 'mine'"):
        import_langchain_faiss(NEWEST / "inner_product", tmp_path / "kb")
    with pytest.raises(InvalidInput, match=r"index_name is '\.\./index'"):
        import_langchain_faiss(NEWEST / "plain", tmp_path / "kb", index_name="../index")
    shutil.copytree(NEWEST / "plain", tmp_path / "half")
    (tmp_path / "half" / "index.pkl").unlink()
    with pytest.raises(InvalidInput, match=r"half has no index\.pkl"):
        import_langchain_faiss(tmp_path / "half", tmp_path / "kb")
    (tmp_path / "half" / "index.pkl").write_bytes(pickle.dumps(({"a": 1}, {0: "a"})))
    with pytest.raises(InvalidInput, match="holds something else than LangChain's"):
        import_langchain_faiss(tmp_path / "half", tmp_path / "kb")
    assert not (tmp_path / "kb").exists()


@pytest.mark.parametrize("position", [0, 4, 8, 20, 33, 45, 100])
def test_a_damaged_index_is_refused(position: int, tmp_path: Path) -> None:
    """Whatever FAISS makes of the bytes: a typed error, or vectors of the right number and shape."""
    folder = shutil.copytree(NEWEST / "plain", tmp_path / "lc")
    data = bytearray((folder / "index.faiss").read_bytes())
    for value in (b"\xff" * 8, b"\x00" * 8, b"\xff\xff\xff\x7f" * 2):
        data[position : position + 8] = value
        (folder / "index.faiss").write_bytes(data)
        try:
            report = import_langchain_faiss(folder, tmp_path / f"kb-{value[0]}-{value[3]}")
        except InvalidInput:
            continue
        assert report.documents == 6
    (folder / "index.faiss").write_bytes(data[:-5])
    with pytest.raises(InvalidInput, match="is no index that can be read"):
        import_langchain_faiss(folder, tmp_path / "other")


def test_a_comparison_that_is_unknown_is_refused(tmp_path: Path) -> None:
    """FAISS has more metrics than Reperio."""
    index = faiss.IndexFlat(4, faiss.METRIC_L1)
    index.add(np.ones((1, 4), dtype=np.float32))
    write(tmp_path / "lc", {"a": document()}, index=index)
    with pytest.raises(InvalidInput, match="it has a metric unknown here"):
        import_langchain_faiss(tmp_path / "lc", tmp_path / "kb")

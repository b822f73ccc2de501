"""Folders written by LangChain's own FAISS store, in several versions: imported whole, or refused whole.

``data/make_langchain_faiss.py`` has made them; ``expected.json`` is what the store said of itself.
"""

from __future__ import annotations

import json
import pickle
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import pytest

import reperio
from reperio import Chunk, EmbeddingContractError, InvalidInput, InvalidVectors
from reperio.errors import UnsafePickle
from reperio.importers.langchain_faiss import Changed, import_langchain_faiss
from reperio.importers.langchain_faiss.pickles import Name
from reperio.index import VectorsLost
from tests.conftest import TrigramEmbedder

DATA = Path(__file__).parent / "data"
VERSIONS = sorted(path for path in DATA.iterdir() if path.is_dir())
FOLDERS = [folder for version in VERSIONS for folder in sorted(version.iterdir()) if folder.name != "quantized"]
NEWEST = VERSIONS[-1]
DIMENSION = 8


class Letters:
    """The model of the test data, as an `Embedder`."""

    name = "letters"
    dimension = DIMENSION

    def embed_passages(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        made = np.full((len(texts), DIMENSION), 0.25, dtype=np.float32)
        for vector, text in zip(made, texts, strict=True):
            for character in text.lower():
                vector[ord(character) % DIMENSION] += 1
        return made

    embed_queries = embed_passages


def shown(folder: Path) -> str:
    return f"{folder.parent.name.rpartition('-')[2]}-{folder.name}"


def index_name(folder: Path) -> str:
    return next(folder.glob("*.faiss")).stem


def test_the_versions_are_there() -> None:
    """Pydantic 1 and 2, and the class paths that are in use."""
    assert [path.name for path in VERSIONS] == [
        "langchain_community-0.0.38",
        "langchain_community-0.2.19",
        "langchain_community-0.3.31",
        "langchain_community-0.4.2",
    ]


@pytest.mark.parametrize("folder", FOLDERS, ids=shown)
def test_a_folder_becomes_a_collection(folder: Path, path: Path) -> None:
    """Ids, texts, metadata, vectors and neighbours are LangChain's; a second import changes nothing."""
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    report = import_langchain_faiss(folder, path, index_name=index_name(folder))
    assert (report.created, report.added, report.documents) == (True, len(expected), len(expected))
    assert (report.without_vector, report.without_document, report.duplicates) == ((), (), ())
    assert report.metric == ("inner_product" if folder.name == "inner_product" else "l2")
    assert report.index == ("IndexFlatIP" if folder.name == "inner_product" else "IndexFlatL2")
    assert report.unit_length == (folder.name == "normalized")
    assert report.complete == (folder.name != "strange")
    again = import_langchain_faiss(folder, path, index_name=index_name(folder))
    assert (again.created, again.added, again.updated, again.unchanged) == (False, 0, 0, len(expected))
    with reperio.open(path, read_only=True) as kb:
        assert sorted(kb.ids()) == sorted(expected)
        assert kb.info().dimension == DIMENSION
        for key, document in expected.items():
            chunk = kb.get(key)
            assert chunk is not None
            assert chunk.text == document["text"]
            if folder.name != "strange":
                assert chunk.metadata == document["metadata"]
            question = Letters().embed_queries([chunk.text])[0]
            assert [hit.chunk.id for hit in kb.search(vector=question, k=3)] == document["near"]


def test_the_vectors_are_those_of_the_file(path: Path) -> None:
    """To the bit."""
    folder = NEWEST / "plain"
    import_langchain_faiss(folder, path)
    stored = faiss.read_index(str(folder / "index.faiss"))
    with reperio.open(path, read_only=True) as kb:
        ids = [f"doc-{number}" for number in range(6)]
        np.testing.assert_array_equal(kb.vectors(ids), stored.reconstruct_n(0, 6))


@pytest.mark.parametrize("version", VERSIONS, ids=lambda path: path.name)
def test_what_json_cannot_hold_is_converted_and_counted(version: Path, path: Path) -> None:
    """Each kind of value becomes what stands for it, and is reported by field; the rest stays."""
    report = import_langchain_faiss(version / "strange", path)
    assert not report.complete
    assert report.changed == (
        Changed("(key)", "a key of type int", "string", 6),
        Changed("count", "NumPy scalar", "Python's own", 6),
        Changed("day", "date", "ISO 8601 string", 6),
        Changed("nan", "NaN", "null", 6),
        Changed("np", "NumPy scalar", "Python's own", 6),
        Changed("pair", "tuple", "list", 6),
        Changed("path", "path", "string", 6),
        Changed("price", "Decimal", "string", 6),
        Changed("raw", "bytes", "base64 string", 6),
        Changed("set", "set", "sorted list", 6),
        Changed("uuid", "UUID", "string", 6),
        Changed("when", "datetime", "ISO 8601 string", 6),
    )
    with reperio.open(path, read_only=True) as kb:
        assert dict(kb.get("doc-1").metadata) == {
            "id": "mine-1",
            "when": "2024-02-29T12:30:01.000250+02:00",
            "day": "2024-02-29",
            "uuid": "00000000-0000-0000-0000-000000000002",
            "price": "12.50",
            "path": "/data/x.txt",
            "pair": [1, "two"],
            "set": ["a", "b"],
            "raw": "AP8=",
            "nan": None,
            "np": 0.5,
            "count": 7,
            "7": "seven",
        }
        assert kb.get("doc-2").metadata["when"] == "2024-02-29T12:30:02.000250"


def test_a_metric_can_be_stated(path: Path, tmp_path: Path) -> None:
    """Normalised vectors are cosine's; a collection that compares otherwise is refused, with the way out."""
    report = import_langchain_faiss(NEWEST / "normalized", path, metric="cosine")
    assert (report.metric, report.unit_length) == ("cosine", False)
    with pytest.raises(InvalidInput, match=r"are compared by l2, those of .* by cosine; pass metric='cosine'"):
        import_langchain_faiss(NEWEST / "plain", path)
    assert import_langchain_faiss(NEWEST / "plain", path, metric="cosine").added == 0
    with pytest.raises(InvalidInput, match="metric is 'cosin'; choose 'cosine'"):
        import_langchain_faiss(NEWEST / "plain", tmp_path / "other", metric="cosin")
    assert not (tmp_path / "other").exists()


def test_an_open_collection_takes_a_folder(tmp_path: Path) -> None:
    """Beside what it holds already; of another dimension it is refused."""
    with reperio.open(tmp_path / "kb", dimension=DIMENSION, metric="l2") as kb:
        kb.add([Chunk("mine")], vectors=np.ones((1, DIMENSION)))
        report = import_langchain_faiss(NEWEST / "plain", kb)
        assert (report.added, report.created, kb.count()) == (6, False, 7)
        with pytest.raises(InvalidInput, match="embedder belongs to the directory"):
            import_langchain_faiss(NEWEST / "plain", kb, embedder=Letters())
    with (
        reperio.open(tmp_path / "other", dimension=3, metric="l2") as other,
        pytest.raises(InvalidInput, match=r"vectors have 8 dimensions, those of .* 3"),
    ):
        import_langchain_faiss(NEWEST / "plain", other)


def test_the_model_that_made_the_vectors_is_recognised(path: Path) -> None:
    """With it the collection can be asked with texts; another one is refused, and leaves nothing behind."""
    with pytest.raises(EmbeddingContractError, match="'trigrams' did not make the folder's vectors: document 'doc-"):
        import_langchain_faiss(NEWEST / "plain", path, embedder=TrigramEmbedder(DIMENSION))
    with pytest.raises(InvalidInput, match=r"vectors have 8 dimensions, those of .* 64"):
        import_langchain_faiss(NEWEST / "plain", path, embedder=TrigramEmbedder())
    assert not path.exists()
    report = import_langchain_faiss(NEWEST / "plain", path, embedder=Letters())
    assert (report.added, report.embedded) == (6, 0)
    with reperio.open(path, embedder=Letters()) as kb:
        assert kb.search("Cats sleep.", k=1)[0].chunk.id == "doc-5"
        assert kb.info().embedder == "letters"
    with reperio.open(path, embedder=Letters()) as kb:
        assert import_langchain_faiss(NEWEST / "plain", kb).unchanged == 6


def test_codes_are_no_vectors(path: Path) -> None:
    """From a quantized index the texts are embedded anew, where a model is given; one without text stays behind."""
    with pytest.raises(VectorsLost, match=r"a FAISS IndexScalarQuantizer does not hold its vectors .*embedder="):
        import_langchain_faiss(NEWEST / "quantized", path)
    assert not path.exists()
    report = import_langchain_faiss(NEWEST / "quantized", path, embedder=Letters())
    assert (report.added, report.embedded, report.without_vector) == (5, 5, ("doc-3",))
    with reperio.open(path, embedder=Letters()) as kb:
        assert kb.search("Cats sleep.", k=1)[0].chunk.id == "doc-5"


# ── folders of our own ───────────────────────────────────────────────────────────────────────────────────────────────


class Plain:
    """Pickles as an object of a LangChain class: the name, and a state."""

    def __init__(self, name: Name, state: Any) -> None:
        self.name = name
        self.state = state


class Writer(pickle._Pickler):  # type: ignore[misc, name-defined]  # in Python, so that a class can be named that is not there
    """Writes `Plain` as LangChain would be written."""

    def save(self, value: Any, save_persistent_id: bool = True) -> None:
        if not isinstance(value, Plain):
            super().save(value, save_persistent_id)
            return
        self.save(value.name.module)
        self.save(value.name.name)
        self.write(pickle.STACK_GLOBAL + pickle.EMPTY_TUPLE + pickle.NEWOBJ)
        self.save(value.state)
        self.write(pickle.BUILD)


DOCUMENT = Name("langchain_core.documents.base", "Document")
STORE = Name("langchain_community.docstore.in_memory", "InMemoryDocstore")


def document(text: Any = "text", metadata: Any = None, *, name: Name = DOCUMENT, **more: Any) -> Plain:
    return Plain(name, {"__dict__": {"page_content": text, "metadata": metadata or {}, "type": "Document", **more}})


def write(
    folder: Path,
    documents: dict[Any, Any],
    positions: dict[Any, Any] | None = None,
    *,
    vectors: npt.NDArray[np.float32] | None = None,
    index: Any = None,
    store: Name = STORE,
) -> Path:
    """Write a folder as ``save_local`` does."""
    folder.mkdir(exist_ok=True)
    made = index
    if made is None:
        rows = np.eye(len(documents), 4, dtype=np.float32) + 1 if vectors is None else vectors
        made = faiss.IndexFlatL2(rows.shape[1])
        made.add(rows)
    faiss.write_index(made, str(folder / "index.faiss"))
    if positions is None:
        positions = dict(enumerate(documents))
    with open(folder / "index.pkl", "wb") as file:
        Writer(file, 4).dump((Plain(store, {"_dict": documents}), positions))
    return folder


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
    with pytest.raises(UnsafePickle, match=r"it holds tests\.importers\.test_langchain_faiss\.Stranger, which is none"):
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

"""Folders written by LangChain's own FAISS store, in several versions: imported whole, or refused whole.

``data/make_langchain_faiss.py`` has made them; ``expected.json`` is what the store said of itself.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt
import pytest

import reperio
from reperio import Chunk, EmbeddingContractError, InvalidInput
from reperio.importers.langchain_faiss import Changed, import_langchain_faiss
from reperio.index import VectorsLost
from tests.conftest import TrigramEmbedder
from tests.importers.folders import DIMENSION, FOLDERS, NEWEST, VERSIONS


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

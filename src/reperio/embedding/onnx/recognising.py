"""Recognise a model of which every setting is understood; any other one is left to sentence-transformers.

A setting that is not understood might change the vectors. Hence the files are compared with the few forms that are
known, and whatever else they say is a reason to refuse.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from reperio.embedding.onnx.graph import Array, Shape
from reperio.embedding.onnx.weights import BadWeights, read_weights
from reperio.errors import EmbedderFailed, StorageFailed
from reperio.layout import is_there, read_regular

Pooling = Literal["mean", "cls"]

_LONGEST_FILE = 64 << 20  # bytes of a JSON file; tokenizers of 250,000 words have 17 million
_OWN = "sentence_transformers."


class UnknownArchitecture(EmbedderFailed):
    """The model is none that is known here; sentence-transformers may have it."""


@dataclass(frozen=True, slots=True)
class Model:
    """What a folder of a sentence-transformers model says, as far as it is needed.

    Attributes:
        shape: sizes of the encoder.
        weights: its arrays.
        tokenizer: content of tokenizer.json.
        max_tokens: longest text, special tokens included.
        pooling: how a text's vector is made of those of its tokens.
        normalised: True where it gets length 1.
        prompts: put before texts, by their names.
        padding: number of the token that fills up short texts.
    """

    shape: Shape
    weights: Mapping[str, Array]
    tokenizer: str
    max_tokens: int
    pooling: Pooling
    normalised: bool
    prompts: Mapping[str, str]
    padding: int


def read_model(folder: Path) -> Model:
    """Read the model in a folder.

    Raises:
        UnknownArchitecture: a setting is not understood; the message names it.
        StorageFailed, OSError: a file cannot be read.
    """
    modules = _modules(folder)
    pooling = _pooling(folder / modules[1])
    config = _json(folder / "config.json")
    shape = _shape(config)
    words = _json(folder / "tokenizer_config.json")
    text = _text(folder / "tokenizer.json")
    _require_wordpiece(orjson.loads(text), words)
    try:
        arrays = read_weights(folder / "model.safetensors")
    except BadWeights as error:
        raise UnknownArchitecture(f"model.safetensors: {error}") from error
    return Model(
        shape=shape,
        weights=_weights(arrays, shape),
        tokenizer=text,
        max_tokens=_max_tokens(folder, words, shape),
        pooling=pooling,
        normalised=len(modules) == 3,
        prompts=_prompts(folder),
        padding=_count(config.get("pad_token_id", 0), "pad_token_id", least=0),
    )


def _text(path: Path) -> str:
    if not is_there(path):
        raise UnknownArchitecture(f"there is no {path.name}")
    try:
        return read_regular(path, _LONGEST_FILE, follow=True).decode()
    except (UnicodeDecodeError, StorageFailed) as error:
        raise UnknownArchitecture(f"{path.name} cannot be read: {error}") from error


def _json(path: Path) -> dict[str, Any]:
    found = _parsed(path)
    if not isinstance(found, dict):
        raise UnknownArchitecture(f"{path.name} is no JSON object")
    return found


def _parsed(path: Path) -> Any:
    try:
        return orjson.loads(_text(path))
    except orjson.JSONDecodeError as error:
        raise UnknownArchitecture(f"{path.name} is no JSON") from error


def _modules(folder: Path) -> list[str]:
    """Return the folders of the modules: an encoder, a pooling, perhaps a normalisation, and nothing else."""
    modules = _parsed(folder / "modules.json")
    try:
        kinds = [str(each["type"]) for each in modules]
        paths = [str(each["path"]) for each in modules]
    except (TypeError, KeyError) as error:
        raise UnknownArchitecture("modules.json is no list of modules") from error
    names = [kind.rpartition(".")[2] if kind.startswith(_OWN) else kind for kind in kinds]
    if names not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]) or paths[0]:
        raise UnknownArchitecture(f"it has the modules {', '.join(kinds)!s:.300}")
    if any(Path(path).is_absolute() or ".." in Path(path).parts for path in paths):
        raise UnknownArchitecture("modules.json names a folder outside the model's")
    return paths


def _pooling(folder: Path) -> Pooling:
    config = _json(folder / "config.json")
    mode = config.get("pooling_mode")
    if mode is None:
        mode = [
            name.removeprefix("pooling_mode_") for name, on in config.items() if name.startswith("pooling_mode_") and on
        ]
    chosen = {"mean": "mean", "mean_tokens": "mean", "cls": "cls", "cls_token": "cls"}
    modes = [mode] if isinstance(mode, str) else mode
    _require_known("1_Pooling/config.json", config, {"include_prompt": True}, _of_pooling(config))
    if not isinstance(modes, list) or len(modes) != 1 or modes[0] not in chosen:
        raise UnknownArchitecture(f"it pools by {modes!r:.100}")
    return "mean" if chosen[modes[0]] == "mean" else "cls"


def _of_pooling(config: Mapping[str, Any]) -> set[str]:
    named = {"word_embedding_dimension", "embedding_dimension", "pooling_mode"}
    return named | {name for name in config if name.startswith("pooling_mode_")}


def _shape(config: Mapping[str, Any]) -> Shape:
    fixed = {
        "model_type": "bert",
        "hidden_act": "gelu",
        "position_embedding_type": "absolute",
        "is_decoder": False,
        "add_cross_attention": False,
    }
    for name, value in fixed.items():
        if config.get(name, value) != value or (name == "model_type" and name not in config):
            raise UnknownArchitecture(f"config.json has {name} {config.get(name)!r:.60}")
    if "quantization_config" in config or "auto_map" in config:
        raise UnknownArchitecture("config.json has a quantization or code of its own")
    names = {
        "layers": "num_hidden_layers",
        "width": "hidden_size",
        "heads": "num_attention_heads",
        "inner": "intermediate_size",
        "words": "vocab_size",
        "positions": "max_position_embeddings",
        "kinds": "type_vocab_size",
    }
    sizes = {name: _count(config.get(named), named) for name, named in names.items()}
    epsilon = config.get("layer_norm_eps", 1e-12)
    if type(epsilon) is not float or not 0 < epsilon < 1 or sizes["width"] % sizes["heads"]:
        raise UnknownArchitecture(f"config.json has layer_norm_eps {epsilon!r:.60}, {sizes['heads']} heads")
    return Shape(**sizes, epsilon=epsilon)


def _require_wordpiece(tokenizer: Any, config: Mapping[str, Any]) -> None:
    """Refuse a tokenizer that transformers might make differently: it looks at both files, this one at the first."""
    try:
        normalizer = tokenizer["normalizer"]
        same = {
            "do_lower_case": normalizer["lowercase"],
            "strip_accents": normalizer["strip_accents"],
            "tokenize_chinese_chars": normalizer["handle_chinese_chars"],
        }
        kinds = tokenizer["model"]["type"], normalizer["type"], tokenizer["pre_tokenizer"]["type"]
    except (KeyError, TypeError) as error:
        raise UnknownArchitecture("its tokenizer is none of BERT's") from error
    if kinds != ("WordPiece", "BertNormalizer", "BertPreTokenizer"):
        raise UnknownArchitecture(f"its tokenizer is made of {', '.join(map(str, kinds))!s:.100}")
    for name, value in same.items():
        if config.get(name, value) != value:
            raise UnknownArchitecture(f"tokenizer_config.json and tokenizer.json differ in {name}")
    if config.get("padding_side", "right") != "right" or config.get("truncation_side", "right") != "right":
        raise UnknownArchitecture("its tokenizer fills up or cuts at the left")


def _max_tokens(folder: Path, words: Mapping[str, Any], shape: Shape) -> int:
    name = "sentence_bert_config.json"
    config = _json(folder / name) if is_there(folder / name) else {}
    modality = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}
    fixed = {
        "do_lower_case": False,
        "transformer_task": "feature-extraction",
        "modality_config": modality,
        "module_output_name": "token_embeddings",
    }
    _require_known(name, config, fixed, {"max_seq_length"})
    longest = config.get("max_seq_length") or words.get("model_max_length") or shape.positions
    # A number beyond every model stands for "not known".
    return min(int(longest), shape.positions) if isinstance(longest, (int, float)) else shape.positions


def _prompts(folder: Path) -> dict[str, str]:
    name = "config_sentence_transformers.json"
    config = _json(folder / name) if is_there(folder / name) else {}
    fixed = {"default_prompt_name": None, "truncate_dim": None, "model_type": "SentenceTransformer"}
    _require_known(name, config, fixed, {"__version__", "prompts", "similarity_fn_name"})
    prompts = config.get("prompts") or {}
    if not isinstance(prompts, dict) or not all(isinstance(text, str) for text in prompts.values()):
        raise UnknownArchitecture(f"{name} has prompts that are no texts")
    return prompts


def _weights(arrays: Mapping[str, Array], shape: Shape) -> dict[str, Array]:
    """Return the arrays of the encoder, whose names may begin with that of a model around it."""
    prefix = "" if "embeddings.word_embeddings.weight" in arrays else "bert."
    found: dict[str, Array] = {}
    for name, expected in shape.expected().items():
        array = arrays.get(prefix + name)
        if array is None or array.shape != expected or array.dtype.kind != "f":
            raise UnknownArchitecture(f"its weights have {name} as {None if array is None else array.shape}")
        found[name] = array
    return found


def _require_known(file: str, config: Mapping[str, Any], fixed: Mapping[str, Any], free: Collection[str]) -> None:
    for name, value in config.items():
        if name not in free and (name not in fixed or value != fixed[name]):
            raise UnknownArchitecture(f"{file} has {name} {value!r:.60}")


def _count(value: Any, name: str, *, least: int = 1) -> int:
    if type(value) is not int or not least <= value <= 1 << 24:
        raise UnknownArchitecture(f"config.json has {name} {value!r:.60}")
    return value

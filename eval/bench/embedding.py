"""(e) The demo's embedding rate, float32 against bfloat16."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from measuring import Bench, Figures, Floats, interleave, ratios, spread

from reperio import DEFAULT_EMBEDDER, SentenceTransformerEmbedder

_DEMO = Path(__file__).parents[2] / "examples" / "python_docs.py"


def measure(bench: Bench) -> Figures:
    """Embed the same texts of the demo with both precisions in turn; compare the vectors."""
    import torch  # here, so that no other part is measured with its libraries and threads in the process

    texts = demo_texts(bench.scale.texts)
    embedders = {
        "float32": SentenceTransformerEmbedder(DEFAULT_EMBEDDER, precision="float32"),
        "bfloat16": SentenceTransformerEmbedder(DEFAULT_EMBEDDER, precision="bfloat16"),
    }
    made: dict[str, Floats] = {}

    def subject(name: str) -> Callable[[], float]:
        def run() -> float:
            started = time.perf_counter()
            made[name] = embedders[name].embed_passages(texts)
            return len(texts) / (time.perf_counter() - started)

        embedders[name].embed_passages(texts[:8])
        return run

    rates = interleave(max(2, min(3, bench.scale.rounds)), {name: subject(name) for name in embedders})
    return {
        "texts": len(texts),
        "mean_characters": round(float(np.mean([len(text) for text in texts]))),
        "model": DEFAULT_EMBEDDER,
        "threads": torch.get_num_threads(),
        "precision_chosen_by_default": SentenceTransformerEmbedder(DEFAULT_EMBEDDER).precision,
        "texts_per_second": {name: spread(values) for name, values in rates.items()},
        "bfloat16_over_float32": ratios(rates["bfloat16"], rates["float32"]),
        "cosine_between": _cosines(made["float32"], made["bfloat16"]),
    }


def demo_texts(count: int) -> list[str]:
    """Return what the demo embeds: an even sample of its chunks."""
    spec = importlib.util.spec_from_file_location("python_docs", _DEMO)
    assert spec is not None
    assert spec.loader is not None  # the file is part of the repository
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    return [chunk.text for chunk in demo.collect(count)]


def _cosines(left: Floats, right: Floats) -> Figures:
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    cosines = np.einsum("ij,ij->i", left, right) / lengths
    return {"min": round(float(cosines.min()), 6), "median": round(float(np.median(cosines)), 6)}

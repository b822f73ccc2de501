from __future__ import annotations

import pytest

import reperio


@pytest.fixture(scope="session")
def quick() -> reperio.OnnxEmbedder:
    """Load the same model as `minilm`, on the other engine."""
    pytest.importorskip("onnxruntime", reason="pip install 'reperio[onnx]'")
    return reperio.OnnxEmbedder(reperio.DEFAULT_EMBEDDER)

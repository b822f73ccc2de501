"""Small BERT models on ONNX Runtime: their graph is made in memory, of the files that sentence-transformers reads."""

from reperio.embedding.onnx.embedder import OnnxEmbedder
from reperio.embedding.onnx.recognising import UnknownArchitecture

__all__ = ["OnnxEmbedder", "UnknownArchitecture"]

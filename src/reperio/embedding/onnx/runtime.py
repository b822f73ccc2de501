"""Import ONNX Runtime without its telemetry, and load graphs that compute without threads of their own."""

from __future__ import annotations

import importlib
import os
import threading
from typing import Any

from reperio.embedding.onnx.graph import Graph

_SWITCH = "ORT_DISABLE_TELEMETRY"
_importing = threading.Lock()


def import_quietly() -> Any:
    """Import onnxruntime; its telemetry stays off unless the environment says otherwise.

    Releases since 1.30 or so send events to Microsoft from a thread that they start when they are imported. No part of
    Reperio sends anything anywhere, and a forked child waits at its end for that thread, which it does not have.

    Raises:
        ImportError: it is not installed, or cannot be loaded.
    """
    with _importing:
        if _SWITCH in os.environ:
            return importlib.import_module("onnxruntime")
        os.environ[_SWITCH] = "1"
        try:
            return importlib.import_module("onnxruntime")
        finally:
            del os.environ[_SWITCH]  # it is read once; the program's children are not ours


def load(runtime: Any, graph: Graph) -> tuple[Any, Any]:
    """Return a session of *graph*, and what has to be kept as long as it is used.

    A run computes with the thread that calls it. A pool of threads inside the session would be gone in a forked child,
    whose next run would wait for it for ever.
    """
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # A fork may come while another thread has the lock of the arena; that of malloc is in order in the child.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False  # a pattern is kept per shape, and nearly every batch has another one
    options.log_severity_level = 3
    arrays = list(graph.outside.values())
    values = [runtime.OrtValue.ortvalue_from_numpy(array) for array in arrays]
    options.add_external_initializers(list(graph.outside), values)
    session = runtime.InferenceSession(graph.model, options, providers=["CPUExecutionProvider"])
    return session, (arrays, values)

"""What many tests need: real embedders, brute force to compare with."""

from __future__ import annotations

import os
import signal
import tempfile
import zlib
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import reperio
from reperio import Collection
from tests.data import ABSENT

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# What is remembered about the files of tests does not belong in the user's cache.
_CACHE = tempfile.TemporaryDirectory(prefix="reperio-tests-cache-")
os.environ["XDG_CACHE_HOME"] = _CACHE.name
# Before FAISS and PyTorch are loaded: next to other tests, threads that spin while they wait double the time.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background job ignores Ctrl-C, and so would every process that the tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)


class TrigramEmbedder:
    """Counts character trigrams into buckets: a small, deterministic embedder that needs no model."""

    def __init__(self, dimension: int = 64, *, name: str = "trigrams", salt: str = "", scale: float = 1.0) -> None:
        self.name = name
        self.dimension = dimension
        self.embedded: list[str] = []
        self._salt = salt
        self._scale = scale

    def embed_passages(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        self.embedded += texts
        return self._vectors(texts)

    def embed_queries(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        return self._vectors(texts)

    def _vectors(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        out = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for vector, text in zip(out, texts, strict=True):
            padded = f"  {text.lower()} "
            for i in range(len(padded) - 2):
                vector[zlib.crc32((self._salt + padded[i : i + 3]).encode()) % self.dimension] += self._scale
        return out


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave campaigns to `make test-long`, unless ``-m`` says something about them."""
    if "campaign" not in config.option.markexpr:
        campaigns = [item for item in items if item.get_closest_marker("campaign")]
        config.hook.pytest_deselected(items=campaigns)
        items[:] = [item for item in items if item not in campaigns]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Give all tests that lack the data one place, so that the summary counts them in one line."""
    report = yield
    if report.skipped and isinstance(report.longrepr, tuple) and report.longrepr[2].endswith(ABSENT):
        report.longrepr = ("tests/data.py", 1, report.longrepr[2])
    return report


@pytest.fixture
def embedder() -> TrigramEmbedder:
    return TrigramEmbedder()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kb"


@pytest.fixture
def kb(path: Path, embedder: TrigramEmbedder) -> Iterator[Collection]:
    with reperio.open(path, embedder=embedder) as collection:
        yield collection


@pytest.fixture(scope="session")
def minilm() -> reperio.SentenceTransformerEmbedder:
    return reperio.SentenceTransformerEmbedder(reperio.DEFAULT_EMBEDDER)


def named(value: Any) -> str:
    """Say which options a case has; objects by their kind, so that every process collects the same names."""
    if not isinstance(value, dict):
        return str(value)
    plain = (str, int, float, bool, type(None), dict, list)
    return ", ".join(f"{key}={each if isinstance(each, plain) else type(each).__name__}" for key, each in value.items())

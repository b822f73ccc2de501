"""The device that an index is built with: what is refused where there is no card, and what is not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import faiss
import numpy as np
import pytest
from typer.testing import CliRunner

import reperio
from reperio import Chunk, DeviceUnavailable, InvalidInput, MissingDependency
from reperio.cli.main import app
from reperio.index.tuning import measuring

FOR_CARDS = hasattr(faiss, "StandardGpuResources")
without_a_card = pytest.mark.skipif(FOR_CARDS and faiss.get_num_gpus() > 0, reason="a card is here")
REFUSAL = DeviceUnavailable if FOR_CARDS else MissingDependency


@pytest.fixture
def kb(tmp_path: Path) -> Path:
    vectors = np.random.default_rng(0).standard_normal((3000, 32)).astype(np.float32)
    with reperio.open(tmp_path / "kb", dimension=32, auto_optimize=False) as collection:
        collection.add([Chunk(str(row), "") for row in range(len(vectors))], vectors=vectors)
    return tmp_path / "kb"


@without_a_card
def test_gpu_is_refused(kb: Path) -> None:
    """Without a card, "gpu" is an error that names its cure, and the index before stays in use."""
    with reperio.open(kb, auto_optimize=False) as collection:
        before = collection.optimize(index="IVF4,SQ8", device="cpu")
        with pytest.raises(REFUSAL, match="device='cpu'"):
            collection.optimize(device="gpu")
        with pytest.raises(REFUSAL):
            asyncio.run(collection.aoptimize(device="gpu"))
        assert collection.info().index == before


@without_a_card
def test_auto_is_silent(kb: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a card, "auto" builds what "cpu" builds, and tells nobody."""
    # Among so few rows exact search is nearly as quick as the first that is tried, and chance would choose.
    monkeypatch.setattr(measuring, "_prices", lambda *_: (1e6, 0.05))
    made = []
    for device in ("cpu", "auto"):
        with reperio.open(kb, auto_optimize=False) as collection:
            made.append(collection.optimize(device=device, prefer="memory"))
    assert made[0].factory == made[1].factory
    assert "card" not in caplog.text


@pytest.mark.parametrize(("device", "near"), [("cuda", "gpu"), ("GPU", "gpu"), ("cpu0", "cpu"), (None, "auto")])
def test_unknown_device(kb: Path, device: str | None, near: str) -> None:
    """An unknown device is refused with the one that was meant."""
    with reperio.open(kb, auto_optimize=False) as collection, pytest.raises(InvalidInput, match=f"pass '{near}'"):
        collection.optimize(device=device)  # type: ignore[arg-type]  # on purpose


@without_a_card
def test_command(kb: Path) -> None:
    """On the command line a refused device is one line and a failure."""
    done = CliRunner().invoke(app, ["optimize", str(kb), "--device", "gpu"])
    assert done.exit_code != 0
    assert "--device cpu" in done.output
    assert CliRunner().invoke(app, ["optimize", str(kb), "--device", "cpu", "--index", "SQ8"]).exit_code == 0

"""The embedding contract of a collection that was created by its dimension alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reperio
from reperio import Chunk, Collection, EmbeddingContractError
from reperio.collection.write import adding
from reperio.exchange import export_collection, import_collection
from tests.conftest import TrigramEmbedder

ROOT = Path(__file__).resolve().parents[2]
A, B = TrigramEmbedder(name="a"), TrigramEmbedder(name="b", salt="other")


@pytest.fixture
def bare(path: Path) -> Path:
    reperio.open(path, dimension=64).close()
    return path


def test_the_first_embedder_that_adds_is_recorded(bare: Path) -> None:
    """Who embeds the first chunks of a collection is recorded with them; another one is refused from then on."""
    with reperio.open(bare, embedder=A) as kb:
        assert kb.info().embedder is None
        kb.add([Chunk("a", "some text")])
        assert kb.info().embedder == "a"
        assert kb.fingerprint()["canaries"] is not None
        kb.add([Chunk("b", "more text")])
    for read_only in (False, True):
        with pytest.raises(EmbeddingContractError, match="was embedded with 'a'; 'b' differs"):
            reperio.open(bare, embedder=B, read_only=read_only)
    with reperio.open(bare, embedder=A) as kb:
        assert kb.search("more text", k=1)[0].chunk.id == "b"


def test_ready_vectors_and_questions_record_nothing(bare: Path) -> None:
    """Neither vectors brought ready-made nor a question's embedder say who embeds here; nor does an add that fails."""
    with reperio.open(bare, embedder=A) as kb:
        kb.add([Chunk("a", "some text")], vectors=A.embed_passages(["some text"]))
        assert kb.search("some text", k=1)[0].chunk.id == "a"
        kb.add([Chunk("a", "some text")])  # unchanged: its vector is not embedded
        with pytest.raises(reperio.InvalidChunk):
            kb.add([Chunk("b", " ")])
        assert kb.info().embedder is None
    reperio.open(bare, embedder=B).close()


def test_a_reader_that_was_open_before_learns_of_it(bare: Path) -> None:
    """A reader with another embedder answers by text until the first add by text, and is refused after it."""
    with reperio.open(bare, embedder=A) as kb, reperio.open(bare, embedder=B, read_only=True) as reader:
        kb.add([Chunk("a", "some text")], vectors=A.embed_passages(["some text"]))
        assert len(reader.search("some text")) == 1
        kb.add([Chunk("b", "more text")])
        for ask in (lambda: reader.search("some text"), lambda: reader.search_many(["some text"])):
            with pytest.raises(EmbeddingContractError, match="was embedded with 'a'"):
                ask()
        assert reader.info().embedder == "a"
        assert len(reader.search(vector=np.ones(64, np.float32))) == 2


def _backed_up(kb: Collection, folder: Path) -> Path:
    kb.backup(folder / "copy")
    return folder / "copy"


def _backed_up_incrementally(kb: Collection, folder: Path) -> Path:
    kb.backup(folder / "backups", incremental=True)
    reperio.restore(folder / "backups", folder / "copy")
    return folder / "copy"


def _exported(kb: Collection, folder: Path) -> Path:
    export_collection(kb, folder / "export", format="jsonl")
    import_collection(folder / "export", folder / "copy")
    return folder / "copy"


@pytest.mark.parametrize("copied", [_backed_up, _backed_up_incrementally, _exported])
def test_copies_by_an_older_reader_carry_it(
    bare: Path, tmp_path: Path, copied: Callable[[Collection, Path], Path]
) -> None:
    """A reader that was open before the contract was recorded writes backups and exports with it."""
    with reperio.open(bare, read_only=True) as reader, reperio.open(bare, embedder=A) as kb:
        assert reader.count() == 0
        kb.add([Chunk("a", "some text")])
        copy = copied(reader, tmp_path)
    with pytest.raises(EmbeddingContractError, match="was embedded with 'a'"):
        reperio.open(copy, embedder=B)
    with reperio.open(copy, embedder=A) as kb:
        assert kb.search("some text", k=1)[0].chunk.id == "a"


def test_it_outlives_compacting_and_is_replaced_by_reembedding(bare: Path) -> None:
    """A new generation keeps the recorded contract; embedding every text again makes another."""
    with reperio.open(bare, embedder=A) as kb:
        kb.add([Chunk("a", "some text"), Chunk("b", "more text")])
        kb.delete(ids="b")
        kb.compact()
        assert kb.info().embedder == "a"
        kb.reembed(B)
        assert kb.info().embedder == "b"
    with pytest.raises(EmbeddingContractError):
        reperio.open(bare, embedder=A)


def test_threads_that_add_first_draw_up_one_contract(bare: Path) -> None:
    """Threads of one handle that add the first texts at once agree on one contract, drawn up once."""
    embedder = TrigramEmbedder(name="a")
    with reperio.open(bare, embedder=embedder) as kb:
        threads = [threading.Thread(target=kb.add, args=([Chunk(f"{n}", f"text {n}")],)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert kb.count() == 8
    assert len(embedder.embedded) == 8 + 8  # a canary is no chunk


_KILLED = """
import os, signal, sys
import reperio
from reperio.store import Store
from tests.conftest import TrigramEmbedder
Store.put = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
reperio.open(sys.argv[1], embedder=TrigramEmbedder(name="a")).add([reperio.Chunk("a", "some text")])
"""


def test_a_kill_before_the_first_commit_leaves_the_contract_and_no_chunk(bare: Path) -> None:
    """A writer killed between contract and commit leaves a collection that its embedder goes on with."""
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, str(bare)],
        cwd=ROOT, timeout=100, check=False, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    with pytest.raises(EmbeddingContractError):
        reperio.open(bare, embedder=B)
    with reperio.open(bare, embedder=A) as kb:
        assert kb.count() == 0
        kb.add([Chunk("a", "some text")])
        assert kb.check().ok


def test_a_batch_is_embedded_while_its_generation_is_compacted_away(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread may compact between a batch's look at what is stored and its look at the contract."""
    found = adding.require_replaceable
    with reperio.open(bare, embedder=A) as kb:
        kb.add([Chunk("a", "some text")], vectors=A.embed_passages(["some text"]))

        def compacted(*arguments: Any) -> None:
            monkeypatch.setattr(adding, "require_replaceable", found)
            found(*arguments)
            kb.compact()

        monkeypatch.setattr(adding, "require_replaceable", compacted)
        assert kb.add([Chunk("b", "more text")]).added == 1
        assert kb.info().embedder == "a"
        assert "b" in kb

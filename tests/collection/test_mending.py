"""What is whole is kept, what is not is listed, and nothing that may be the only copy is removed."""

from __future__ import annotations

import random
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reperio
from reperio import (
    Chunk,
    CollectionDamaged,
    CollectionLocked,
    CollectionNotFound,
    CollectionReadOnly,
    InvalidInput,
    diagnose,
)
from tests.conftest import TrigramEmbedder

D = 16
NEAR = ("gen-000001/chunks.db", "gen-000001/vectors.f32")


def expected() -> dict[str, tuple[Chunk, Any]]:
    """Return what the collection of `original` holds: chunk and vector by id."""
    vectors = np.random.default_rng(3).standard_normal((900, D)).astype(np.float32)
    chunks = {f"c{i}": (Chunk(f"c{i}", f"text number {i} " * 20, {"i": i}), vectors[i]) for i in range(900)}
    chunks["c5"] = (Chunk("c5", "changed", {"i": 5}), vectors[5])
    return {key: value for key, value in chunks.items() if not key.endswith("7")}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a collection with replaced and deleted chunks, an index and records."""
    path = tmp_path_factory.mktemp("mending") / "kb"
    with reperio.open(path, dimension=D, metric="l2", auto_optimize=False) as kb:
        vectors = np.random.default_rng(3).standard_normal((900, D)).astype(np.float32)
        kb.add([Chunk(f"c{i}", f"text number {i} " * 20, {"i": i}) for i in range(900)], vectors=vectors)
        kb.add([Chunk("c5", "changed", {"i": 5})], vectors=vectors[5:6])
        kb.delete(ids=[f"c{i}" for i in range(900) if str(i).endswith("7")])
        kb.records("docs").put([f"r{i}" for i in range(50)], values=[{"n": i} for i in range(50)])
        kb.optimize(index="SQ8", queries=vectors[:40] + 0.01)
    return path


@pytest.fixture
def damaged(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "kb"))


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", reperio.ReperioWarning)  # a damaged index warns: other tests see to that
        yield


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0x55
    path.write_bytes(content)


def right(path: Path, lost: set[str]) -> None:
    """Compare what a collection holds with what it should, except for what was lost."""
    with reperio.open(path, read_only=True) as kb:
        assert kb.check().ok
        wanted = {key: value for key, value in expected().items() if key not in lost}
        assert {chunk.id: chunk for chunk in kb} == {key: chunk for key, (chunk, _) in wanted.items()}
        ids = kb.ids()
        assert kb.vectors(ids).tobytes() == np.stack([wanted[key][1] for key in ids]).tobytes()
        for key in ids[::97]:
            assert kb.search(vector=wanted[key][1], k=1)[0].chunk.id == key


def test_a_sound_collection_is_left_alone(damaged: Path) -> None:
    """check(fix=True) and diagnose(mend=True) of what is sound change no file of it."""
    before = {path: path.read_bytes() for path in damaged.rglob("*") if path.suffix in (".f32", ".json", ".faiss")}
    with reperio.open(damaged, auto_optimize=False) as kb:
        report = kb.check(fix=True)
        assert report.ok
        assert (report.rows, list(report.mended), list(report.lost)) == (810, [], [])
    found = diagnose(damaged, mend=True)
    assert found.ok
    assert (found.findings, found.mended, found.lost) == ((), (), ())
    assert all(path.read_bytes() == content for path, content in before.items())


def test_a_damaged_vector_costs_its_chunk_alone(damaged: Path) -> None:
    """The chunk of a flipped byte is named as lost, all others are kept with their vectors, the old files too."""
    flip(damaged / NEAR[1], 123 * D * 4 + 9)
    with reperio.open(damaged, auto_optimize=False) as kb:
        assert not kb.check().ok
        report = kb.check(fix=True)
        assert report.ok
        assert list(report.lost) == ["row 123: chunk 'c123'"]
        assert any("'c123'" in problem.what for problem in report.mended)
        assert kb.info().index is not None
        kb.add([Chunk("c123", "again")], vectors=np.ones((1, D)))
        assert len(kb.records("docs").list()) == 50
        kb.delete(ids=["c123"])
    assert list(damaged.glob("gen-000002/index/*.npy"))  # the user's queries
    assert (damaged / "damaged-gen-000001" / "vectors.f32").stat().st_size >= 901 * D * 4
    right(damaged, {"c123"})
    reperio.open(damaged).close()
    assert (damaged / "damaged-gen-000001").exists()  # no writer removes it
    with reperio.open(damaged, read_only=True) as reader, pytest.raises(CollectionReadOnly):
        reader.check(fix=True)
    with reperio.open(damaged, scope={"i": 1}) as scoped, pytest.raises(InvalidInput, match="scope"):
        scoped.check(fix=True)


@pytest.mark.parametrize("seed", range(12))
def test_a_damaged_database_keeps_what_is_whole(seed: int, damaged: Path) -> None:
    """Whatever a flipped block of the database hits, what is left afterwards is right, and every loss is listed."""
    rng = random.Random(seed)
    path = damaged / NEAR[0]
    content = bytearray(path.read_bytes())
    at = rng.randrange(8192, len(content) - 512)  # beyond the first page: without that it is no database
    content[at : at + 512] = rng.randbytes(512)
    path.write_bytes(content)
    found = diagnose(damaged, mend=True)
    if not found.ok:  # the schema itself: nothing can be read, and nothing was changed
        assert found.findings[0].cure == "restore from a backup"
        assert path.read_bytes() == content
        return
    lost = {line.partition("chunk ")[2].strip("'") for line in found.lost if "chunk '" in line}
    nameless = [line for line in found.lost if "id is lost" in line]
    with reperio.open(damaged, read_only=True) as kb:
        missing = set(expected()) - set(kb.ids())
    assert lost <= missing
    assert len(missing) <= len(lost) + len(nameless)
    right(damaged, missing)


def test_a_cut_vector_file_keeps_what_is_before_the_cut(damaged: Path) -> None:
    """A collection that cannot be opened any more is mended by the doctor; the chunks beyond the cut are listed."""
    path = damaged / NEAR[1]
    path.write_bytes(path.read_bytes()[: 890 * D * 4 + 3])
    with pytest.raises(reperio.CollectionDamaged):
        reperio.open(damaged, read_only=True)
    before = diagnose(damaged)
    assert not before.ok
    (finding,) = before.findings
    assert finding.mends
    assert "10 chunks (row 890: chunk 'c890'" in finding.cost
    assert not (damaged / "damaged-gen-000001").exists()  # asking changes nothing
    after = diagnose(damaged, mend=True)
    assert after.ok
    lost = {"c5", *(f"c{i}" for i in range(890, 900) if i != 897)}
    assert len(after.lost) == len(lost)
    right(damaged, lost)


@pytest.mark.parametrize("content", [None, b"", b"gen-000009\n", b"\xff\x00"])
def test_current_is_written_again(content: bytes | None, damaged: Path) -> None:
    """A missing or garbled CURRENT costs nothing: the newest generation is named."""
    path = damaged / "CURRENT"
    path.unlink() if content is None else path.write_bytes(content)
    (finding,) = diagnose(damaged).findings
    assert (finding.kind, finding.mends, finding.cost) == ("damage", True, "nothing: one line is written")
    found = diagnose(damaged, mend=True)
    assert found.ok
    assert len(found.mended) == 1
    right(damaged, set())


def test_of_two_generations_neither_is_lost(damaged: Path, tmp_path: Path) -> None:
    """CURRENT is lost, and a rewriting had left a whole generation before more was added to the one in use."""
    shutil.copytree(damaged / "gen-000001", tmp_path / "left")
    with reperio.open(damaged, auto_optimize=False) as kb:
        kb.add([Chunk("late", "added later")], vectors=np.ones((1, D)))
    (tmp_path / "left").rename(damaged / "gen-000002")
    (damaged / "CURRENT").unlink()
    assert diagnose(damaged, mend=True).ok
    reperio.open(damaged, auto_optimize=False).close()  # removes what CURRENT does not name
    right(damaged, set())
    other = tmp_path / "other"
    shutil.copytree(damaged / "damaged-gen-000001", other / "gen-000001")
    (other / "CURRENT").write_text("gen-000001\n")
    with reperio.open(other, read_only=True) as kb:
        assert kb.get("late") == Chunk("late", "added later")
        assert [problem for problem in kb.check().problems if problem.kind != "index"] == []


def test_what_a_rewriting_has_left_is_in_nobodys_way(damaged: Path) -> None:
    """A generation that CURRENT does not name has the name that the mended one is to have: it is put aside."""
    flip(damaged / NEAR[1], 9)
    with reperio.open(damaged, auto_optimize=False) as kb:
        shutil.copytree(damaged / "gen-000001", damaged / "gen-000002")
        assert len(kb.check(fix=True).lost) == 1
    assert (damaged / "damaged-gen-000002" / "chunks.db").exists()


def test_a_damaged_chunk_is_never_copied_as_if_it_were_whole(damaged: Path) -> None:
    """compact() gives each chunk a new checksum: one that is not whole is refused; added again, it is whole."""
    flip(damaged / NEAR[1], 9)  # of c0
    with reperio.open(damaged, auto_optimize=False) as kb:
        for call in (kb.compact, lambda: list(kb), lambda: kb.get("c0"), kb.get, lambda: kb.vectors("c0")):
            with pytest.raises(CollectionDamaged, match=r"chunk 'c0' \(row 0\) is not what was stored"):
                call()
        chunk, vector = expected()["c0"]
        # Nothing of the chunk has changed but what is damaged, and that is not carried over.
        assert kb.add([chunk], vectors=[vector]).updated == 1
        assert kb.check().ok
        kb.compact()
    right(damaged, set())


def test_a_damaged_vector_is_embedded_again(tmp_path: Path) -> None:
    """The same text is added again: its vector is not taken over from the damaged row, but made anew."""
    embedder = TrigramEmbedder(D)
    with reperio.open(tmp_path / "kb", embedder=embedder) as kb:
        kb.add([Chunk("a", "one text"), Chunk("b", "another")])
        flip(tmp_path / "kb" / NEAR[1], 9)
        before = len(embedder.embedded)
        result = kb.add([Chunk("a", "one text"), Chunk("b", "another")])
        assert (result.updated, result.unchanged, result.embedded) == (1, 1, 1)
        assert embedder.embedded[before:] == ["one text"]
        assert kb.check().ok


def test_a_damaged_index_is_rebuilt(damaged: Path) -> None:
    """No chunk is affected, and no second copy is kept of what can be made again."""
    (snapshot,) = damaged.glob("gen-*/index/snapshot-*")
    flip(snapshot, 700)
    (finding,) = diagnose(damaged).findings
    assert finding.kind == "index"
    assert diagnose(damaged, mend=True).ok
    assert not list(damaged.glob("damaged-*"))
    with reperio.open(damaged, read_only=True) as kb:
        assert kb.info().index is not None
        assert kb.info().index.factory == "SQ8"
    right(damaged, set())


def test_what_cannot_be_mended_is_left_as_it_is(damaged: Path) -> None:
    """Without settings or database the doctor names the cure, and changes nothing."""
    for name in ("collection.json", "chunks.db"):
        path = damaged / "gen-000001" / name
        content = path.read_bytes()
        path.write_bytes(b"x" * len(content))
        found = diagnose(damaged, mend=True)
        assert not found.ok
        assert "backup" in found.findings[0].cure
        assert path.read_bytes() == b"x" * len(content)
        path.write_bytes(content)
    right(damaged, set())


def test_the_doctor_mends_while_a_writer_is_idle(damaged: Path) -> None:
    """It takes a turn as every writer does: whoever has the collection open goes on in what is mended."""
    flip(damaged / NEAR[1], 9)
    with reperio.open(damaged, auto_optimize=False) as writer:
        assert not diagnose(damaged).ok
        assert diagnose(damaged, mend=True).ok
        assert diagnose(damaged).ok
        writer.add([Chunk("after")], vectors=np.ones((1, D)))
        assert writer.get("after") is not None
        assert writer.check().ok
        found = set(writer.ids())
    assert "after" in found
    assert len(set(expected()) - found) == 1  # the chunk whose vector was damaged


def test_the_doctor_mends_nothing_next_to_an_exclusive_writer(
    damaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It examines, and is refused when it would mend; where nothing is, it says so."""
    monkeypatch.setattr("reperio.recovery.doctor._PATIENCE", 0.0)
    flip(damaged / NEAR[1], 9)
    with reperio.open(damaged, auto_optimize=False, exclusive=True):
        assert not diagnose(damaged).ok
        with pytest.raises(CollectionLocked, match="exclusive=True"):
            diagnose(damaged, mend=True)
        assert not diagnose(damaged).ok
    with pytest.raises(CollectionNotFound):
        diagnose(tmp_path / "absent")
    assert not (tmp_path / "absent").exists()


def test_waste_is_told(tmp_path: Path) -> None:
    """Rows without chunks are no damage: what would free them is named, with its cost."""
    with reperio.open(tmp_path / "kb", dimension=2) as kb:
        kb.add([Chunk(str(i)) for i in range(10)], vectors=np.ones((10, 2)))
        kb.delete(ids=[str(i) for i in range(8)])
    found = diagnose(tmp_path / "kb", mend=True)
    assert found.ok
    assert [(finding.kind, finding.mends) for finding in found.findings] == [("waste", False)]
    assert "compact()" in found.findings[0].cure


def test_an_index_that_is_not_trusted_is_not_read(damaged: Path) -> None:
    """With trust_index=False a reader searches exactly beside it, and a writer forgets it; answers are the same."""
    (snapshot,) = damaged.glob("gen-*/index/snapshot-*")
    scratch = snapshot.parent / "building"
    scratch.mkdir()
    (scratch / "state.faiss").write_bytes(b"planted")
    key, (_, vector) = next(iter(expected().items()))
    with reperio.open(damaged, read_only=True, trust_index=False) as reader, warnings.catch_warnings():
        warnings.simplefilter("error")
        snapshot.write_bytes(b"planted, too")  # would be refused with a warning, if it was looked at
        assert reader.search(vector=vector, k=1)[0].chunk.id == key
        assert reader.check().ok
    with reperio.open(damaged, trust_index=False, auto_optimize=False) as writer:
        assert writer.info().index is None
        assert not snapshot.exists()
        assert not scratch.exists()
        assert writer.search(vector=vector, k=1)[0].chunk.id == key
        assert writer.optimize(index="SQ8") is not None
        assert writer.search(vector=vector, k=1)[0].chunk.id == key
    with reperio.open(damaged, read_only=True) as again:
        assert again.info().index is not None
    right(damaged, set())

"""Directories written by Chroma itself, in several versions: imported whole, with its answers, or refused whole.

``data/make_chroma.py`` has made them; ``expected.json`` is what Chroma answered.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reperio
from reperio import Chunk, InvalidInput
from reperio.errors import InvalidVectors, UnsupportedFormat
from reperio.importers.chroma import Changed, import_chroma
from reperio.index import VectorsLost
from tests.conftest import TrigramEmbedder
from tests.importers.chroma_folders import PACKED, changing, files_of
from tests.importers.folders import DATA, unpacked

NAMES = ("kept-l2", "kept-cosine", "kept-ip", "log")
METRICS = {"kept-l2": "l2", "kept-cosine": "cosine", "kept-ip": "inner_product", "log": "cosine"}
DIMENSION = 8


@pytest.fixture(scope="session", params=PACKED, ids=lambda path: path.name.split("-")[1].removesuffix(".tar.xz"))
def packed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpacked(request.param, tmp_path_factory.mktemp("chroma"))


def expected_of(packed: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((packed / "expected.json").read_text(encoding="utf-8"))
    return found


def to_score(distance: float, metric: str) -> float:
    return -distance if metric == "l2" else 1 - distance


def require_the_same(path: Path, expected: dict[str, Any], questions: list[list[float]], metric: str) -> None:
    """Documents, vectors, and the top 5 and 10 of each question with their scores."""
    with reperio.open(path, read_only=True) as kb:
        assert sorted(kb.ids()) == sorted(expected["documents"])
        for key, document in expected["documents"].items():
            chunk = kb.get(key)
            assert chunk is not None
            assert (chunk.text, chunk.metadata) == (document["text"] or "", document["metadata"])
            vector, original = kb.vectors([key])[0], np.array(document["vector"])
            scale = np.linalg.norm(original) if metric == "cosine" else 1
            np.testing.assert_allclose(vector * scale, original, atol=2e-4 * max(1, np.abs(original).max()))
        for question, near, distances in zip(questions, expected["near"], expected["distances"], strict=True):
            hits = kb.search(vector=np.array(question, dtype=np.float32), k=10)
            assert [hit.chunk.id for hit in hits[:5]] == near[:5]
            assert [hit.chunk.id for hit in hits] == near
            scores = [to_score(distance, metric) for distance in distances]
            np.testing.assert_allclose([hit.score for hit in hits], scores, rtol=1e-4, atol=1e-5)


def test_the_versions_are_there() -> None:
    """A class in the pickle, a dictionary in it, numbers as bytes and as integers, a schema and none."""
    assert [path.name for path in PACKED] == [f"chromadb-{v}.tar.xz" for v in ("0.4.24", "0.5.23", "1.5.9")]


@pytest.mark.parametrize("name", NAMES)
def test_a_collection_has_chromas_documents_and_answers(packed: Path, name: str, path: Path) -> None:
    """Of all 23 questions, though vectors have any length; a second import changes nothing."""
    expected = expected_of(packed)
    report = import_chroma(packed / "chroma", path, collection=name)
    count = len(expected[name]["documents"])
    assert (report.created, report.added, report.documents) == (True, count, count)
    assert (report.without_vector, report.without_document, report.duplicates) == ((), (), ())
    assert (report.metric, report.dimension) == (METRICS[name], DIMENSION)
    without = sum(document["text"] is None for document in expected[name]["documents"].values())
    assert report.changed == (Changed("(text)", "no document", "an empty text", without),)
    require_the_same(path, expected[name], expected["questions"], METRICS[name])
    again = import_chroma(packed / "chroma", path, collection=name)
    assert (again.created, again.added, again.updated, again.unchanged) == (False, 0, 0, count)


def test_a_configuration_is_believed(folder: Path, path: Path) -> None:
    """Of Chroma 1, which has the metric there and not in the metadata; with its 23 answers."""
    expected = expected_of(folder.parent)
    assert import_chroma(folder, path, collection="configured").metric == "cosine"
    require_the_same(path, expected["configured"], expected["questions"], "cosine")


def test_the_folder_is_not_changed(packed: Path, path: Path) -> None:
    """Neither its files nor their names."""
    before = {file: file.read_bytes() for file in packed.rglob("*") if file.is_file()}
    import_chroma(packed / "chroma", path, collection="kept-l2")
    assert {file: file.read_bytes() for file in packed.rglob("*") if file.is_file()} == before


def test_what_the_collection_says_of_itself_is_told(folder: Path, tmp_path: Path) -> None:
    """Its own metadata, and the model that Chroma asks with."""
    report = import_chroma(folder, tmp_path / "kept", collection="kept-l2")
    assert any("'about'" in note for note in report.notes)
    report = import_chroma(folder, tmp_path / "configured", collection="configured")
    assert any("Chroma embeds with 'default'" in note for note in report.notes)


def test_a_collection_is_named(folder: Path, tmp_path: Path) -> None:
    """By its name or its id; which there are is told; the only one needs no name."""
    kb = tmp_path / "kb"
    with pytest.raises(InvalidInput, match=r"pass collection= \(--collection\) with .*'kept-cosine' \("):
        import_chroma(folder, kb)
    with pytest.raises(InvalidInput, match="does not say which collection 'none' is"):
        import_chroma(folder, kb, collection="none")
    assert not kb.exists()
    with changing(folder) as database:
        [key] = database.execute("SELECT id FROM collections WHERE name = 'log'").fetchone()
        assert import_chroma(folder, kb, collection=key).added > 0
        database.execute("DELETE FROM collections WHERE name <> 'log'")
    assert import_chroma(folder, kb).unchanged > 0


def test_an_interrupted_import_goes_on(folder: Path, tmp_path: Path) -> None:
    """What is stored is not stored again, and the rest is added."""
    kb = tmp_path / "kb"
    complete = import_chroma(folder, tmp_path / "whole", collection="kept-ip")
    stop = RuntimeError("stopped")

    def stopping(_: str, done: int, __: int | None) -> None:
        if done:
            raise stop

    with pytest.raises(RuntimeError, match="stopped"):
        import_chroma(folder, kb, collection="kept-ip", progress=stopping)
    report = import_chroma(folder, kb, collection="kept-ip")
    assert report.added + report.unchanged == complete.added
    with reperio.open(kb, read_only=True) as one, reperio.open(tmp_path / "whole", read_only=True) as other:
        assert {chunk.id: chunk for chunk in one} == {chunk.id: chunk for chunk in other}


def test_a_chunk_that_something_else_added_is_not_replaced(folder: Path, tmp_path: Path) -> None:
    """The import is refused with its id before anything is written; deleted, as the message says, it goes on."""
    with reperio.open(tmp_path / "kb", dimension=DIMENSION, metric="inner_product") as kb:
        kb.add([Chunk("doc-1", "mine")], vectors=np.ones((1, DIMENSION)))
        with pytest.raises(InvalidInput, match=r"other chunks under 1 ids of the folder \('doc-1'\)"):
            import_chroma(folder, kb, collection="kept-ip")
        assert [chunk.text for chunk in kb] == ["mine"]
        kb.delete(ids=["doc-1"])
        assert import_chroma(folder, kb, collection="kept-ip").added > 1


def test_a_log_of_sqlite_is_read(folder: Path, tmp_path: Path) -> None:
    """What a killed program left in it counts, and the folder stays as it was."""
    with changing(folder) as database:
        database.pragma("journal_mode", "wal")
        database.pragma("wal_checkpoint(TRUNCATE)")
        database.execute(
            "UPDATE embedding_metadata SET string_value = 'From the log.' WHERE key = 'chroma:document' AND id = 1"
        )
        shutil.copytree(folder, tmp_path / "left")
    assert (tmp_path / "left" / "chroma.sqlite3-wal").stat().st_size > 0
    import_chroma(tmp_path / "left", tmp_path / "kb", collection="kept-l2")
    with reperio.open(tmp_path / "kb", read_only=True) as kb:
        assert kb.get("doc-0").text == "From the log."  # type: ignore[union-attr]  # it is there
    assert (tmp_path / "left" / "chroma.sqlite3-wal").stat().st_size > 0


def test_an_unfinished_change_is_refused(folder: Path, tmp_path: Path) -> None:
    """With the cure: only a program that may write the folder can finish it."""
    (folder / "chroma.sqlite3-journal").write_bytes(b"x" * 600)
    with pytest.raises(InvalidInput, match=r"in the middle of a change .* open the folder once with the Chroma"):
        import_chroma(folder, tmp_path / "kb", collection="log")


def test_another_version_is_refused(folder: Path, tmp_path: Path) -> None:
    """One whose tables are not known, and one that has none; with the way out."""
    with changing(folder) as database:
        database.execute("INSERT INTO migrations SELECT dir, 11, filename, sql, hash FROM migrations LIMIT 1")
    with pytest.raises(UnsupportedFormat, match=r"version of Chroma that is not known here \(sysdb 11; 3 to 10 are"):
        import_chroma(folder, tmp_path / "kb", collection="log")
    with pytest.raises(InvalidInput, match=r"has no chroma\.sqlite3: it is not what chromadb"):
        import_chroma(tmp_path, tmp_path / "kb")
    assert not (tmp_path / "kb").exists()


def test_vectors_that_are_gone_are_told(folder: Path, tmp_path: Path) -> None:
    """Without a model nothing is imported; with one, all texts are embedded again."""
    shutil.rmtree(files_of(folder, "kept-l2"))
    with pytest.raises(VectorsLost, match=r"has no index_metadata\.pickle: its vectors are gone; pass the model"):
        import_chroma(folder, tmp_path / "kb", collection="kept-l2")
    assert not (tmp_path / "kb").exists()


def test_where_vectors_are_gone_records_without_a_text_are_left_out(folder: Path, tmp_path: Path) -> None:
    """With the model that the error asks for; the report names them, and the rest is embedded again."""
    shutil.rmtree(files_of(folder, "kept-l2"))
    with changing(folder) as database:
        database.execute(
            "DELETE FROM embedding_metadata WHERE key = 'chroma:document' AND id IN (SELECT id FROM embeddings "
            "WHERE embedding_id = 'doc-2')"
        )
    report = import_chroma(folder, tmp_path / "kb", collection="kept-l2", embedder=TrigramEmbedder())
    assert "doc-2" in report.without_vector
    assert report.embedded == report.added == report.documents - len(report.without_vector) > 0
    assert not report.complete


def test_documents_and_vectors_that_lack_the_other_are_told(folder: Path, tmp_path: Path) -> None:
    """The rest is imported."""
    with changing(folder) as database:
        database.execute("UPDATE embeddings SET embedding_id = 'stray' WHERE embedding_id = 'doc-2'")
    report = import_chroma(folder, tmp_path / "kb", collection="kept-l2")
    assert report.without_vector == ("stray",)
    assert not report.complete


def test_a_vector_without_direction_is_refused_under_cosine(folder: Path, tmp_path: Path) -> None:
    """Before anything is stored; by its length in files, and in the log."""
    with changing(folder) as database:
        database.execute("UPDATE embeddings_queue SET vector = zeroblob(32) WHERE vector IS NOT NULL")
    with pytest.raises(InvalidVectors, match="the folder's vector of document 'doc-0': row 0"):
        import_chroma(folder, tmp_path / "kb", collection="log")
    assert not (tmp_path / "kb").exists()
    assert import_chroma(folder, tmp_path / "kb", collection="log", metric="l2").added > 0


@pytest.mark.parametrize("number", range(3))
def test_a_directory_made_now(number: int, tmp_path: Path) -> None:
    """Where an environment with Chroma is at hand: the same, with what it writes today."""
    pythons = [each for each in os.environ.get("REPERIO_TEST_CHROMA", "").split(os.pathsep) if each]
    if number >= len(pythons):
        pytest.skip("REPERIO_TEST_CHROMA names no further Python that has chromadb")
    script = DATA / "make_chroma.py"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run([pythons[number], script, tmp_path], check=True, env=environment, capture_output=True)
    [made] = tmp_path.iterdir()
    expected = expected_of(made)
    for name in NAMES:
        import_chroma(made / "chroma", tmp_path / name, collection=name)
        require_the_same(tmp_path / name, expected[name], expected["questions"], METRICS[name])

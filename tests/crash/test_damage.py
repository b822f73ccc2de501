from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

import reperio
from reperio import CollectionDamaged, NotACollection, ReperioWarning, UnsupportedFormat
from reperio.layout import FORMAT_VERSION

from .examiner import damaged_state, inflict
from .plan import DIMENSION
from .processes import ENVIRONMENT, Run
from .verification import check_answers, verify

DATABASE, VECTORS = "gen-*/chunks.db", "gen-*/vectors.f32"
SETTINGS, SNAPSHOT, CURRENT = "gen-*/collection.json", "gen-*/index/snapshot-*", "CURRENT"

pytestmark = pytest.mark.crash


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a collection with an index, a tail, replaced and deleted chunks."""
    run = Run(tmp_path_factory.mktemp("original"), "scripted", stop=5)
    assert run.start().wait() == 0, run.stderr()
    return run.collection


def _examined(original: Path, scratch: Path, damages: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], Any]]:
    """Yield each damage with the examiner's verdicts: as a reader, then as a writer."""
    journal = scratch / "journal"
    done = subprocess.run(
        [sys.executable, "-m", "crash.examiner", str(journal), str(original), str(scratch / "kb")],
        input="".join(json.dumps(damage) + "\n" for damage in damages),
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    assert done.returncode == 0, f"{done.returncode} at {lines[-1]}\n{done.stderr}"
    assert len(lines) == 2 * len(damages)
    for damage, found in zip(lines[::2], lines[1::2], strict=True):
        yield damage, found["verdicts"]


def _flips(original: Path, file: str, count: int) -> list[dict[str, Any]]:
    (path,) = original.glob(file)
    rng = random.Random(f"{file}/{count}")
    places = [rng.randrange(path.stat().st_size) for _ in range(count)]
    return [{"file": file, "kind": "flip", "at": at, "value": rng.randrange(1, 256)} for at in places]


def _cuts(original: Path, file: str, count: int) -> list[dict[str, Any]]:
    (path,) = original.glob(file)
    size = path.stat().st_size
    places = sorted({0, 1, size // 2, size - 1, *(size * i // count for i in range(count))})
    return [{"file": file, "kind": "truncate", "at": at, "value": 0} for at in places] + [
        {"file": file, "kind": "remove", "at": 0, "value": 0}
    ]


@pytest.mark.parametrize(
    ("file", "count"),
    [
        *((DATABASE, 40), (VECTORS, 10), (SETTINGS, 20), (CURRENT, 11)),
        *(pytest.param(*case, marks=pytest.mark.campaign) for case in ((DATABASE, 150), (VECTORS, 40), (SETTINGS, 60))),
    ],
)
def test_a_flipped_byte_is_refused_or_reported_or_harmless(
    file: str, count: int, original: Path, tmp_path: Path
) -> None:
    """A flipped byte is told at opening or by check(), or changes nothing; it never gives a wrong answer unnoticed."""
    noticed = 0
    for damage, verdicts in _examined(original, tmp_path, _flips(original, file, count)):
        for found in verdicts:
            if found["verdict"] != "intact":
                noticed += 1
                assert _names(found["message"], file), damage
    assert noticed > count // 8  # most bytes of so small a database are in use for nothing: a page is 8 KiB


@pytest.mark.parametrize(("file", "count"), [(DATABASE, 12), (VECTORS, 6), (SETTINGS, 6), (CURRENT, 4)])
def test_a_cut_or_missing_file_is_refused_or_reported(file: str, count: int, original: Path, tmp_path: Path) -> None:
    """A file cut short or missing is told by name, at opening or by check()."""
    for damage, verdicts in _examined(original, tmp_path, _cuts(original, file, count)):
        for found in verdicts:
            harmless = file in (CURRENT, SETTINGS) and damage["kind"] == "truncate" and found["verdict"] == "intact"
            (path,) = original.glob(file)
            assert harmless <= (damage["at"] == path.stat().st_size - 1), damage  # the newline at its end
            assert harmless or (found["verdict"] != "intact" and _names(found["message"], file)), damage


@pytest.mark.parametrize("flips", [6, pytest.param(30, marks=pytest.mark.campaign)])
def test_a_damaged_index_costs_no_answer(flips: int, original: Path, tmp_path: Path) -> None:
    """Whatever happens to the snapshot, searches are right, a warning is given, and check() reports it."""
    damages = _flips(original, SNAPSHOT, flips) + _cuts(original, SNAPSHOT, 5)
    for damage, verdicts in _examined(original, tmp_path, damages):
        for found in verdicts:
            assert found["verdict"] == "reported", damage
            assert found["warned"], damage
            assert "index: " in found["message"], damage


@pytest.mark.parametrize("kind", ["flip", "truncate", "remove"])
def test_a_writer_rebuilds_a_damaged_index(kind: str, original: Path, tmp_path: Path) -> None:
    """A writer that met a damaged index uses the one that optimize() builds, without being opened again."""
    root = _copy(original, tmp_path)
    inflict(root, file=SNAPSHOT, kind=kind, at=40, value=255)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with reperio.open(root, auto_optimize=False) as kb:
            check_answers(kb, damaged_state())
            before = kb.info().index
            kb.optimize(index="IVF1,PQ8x4fs")
            assert kb.check().ok
            assert before is not None
            check_answers(kb, damaged_state())
            view = kb._handle.generation.latest  # no public name tells by which index a search was answered
            assert view is not None
            assert view.target.searcher is not None
    assert any(issubclass(warning.category, ReperioWarning) for warning in caught)
    verify(root, [damaged_state()])  # warnings are errors here: the index on disk is sound again


@pytest.mark.parametrize("kind", ["flip", "truncate", "remove"])
def test_closing_is_enough_to_rebuild_a_damaged_index(kind: str, original: Path, tmp_path: Path) -> None:
    """The rebuild needs no call: it is done in the background, at the latest when the writer closes."""
    root = _copy(original, tmp_path)
    inflict(root, file=SNAPSHOT, kind=kind, at=40, value=255)
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        with reperio.open(root) as kb:
            kb.search(vector=damaged_state()["c0001"].vector)
    verify(root, [damaged_state()])


def test_a_newer_format_is_refused(original: Path, tmp_path: Path) -> None:
    """A collection written by a newer Reperio is refused with the cure, not misread."""
    root = _copy(original, tmp_path)
    (settings,) = root.glob(SETTINGS)
    recorded = orjson.loads(settings.read_bytes())
    settings.write_bytes(orjson.dumps(recorded | {"format_version": FORMAT_VERSION + 1}))
    for read_only in (True, False):
        with pytest.raises(UnsupportedFormat, match="upgrade") as refused:
            reperio.open(root, read_only=read_only)
        assert str(root) in str(refused.value)


def test_a_missing_current_is_damage_and_not_an_invitation(original: Path, tmp_path: Path) -> None:
    """A collection without CURRENT is told apart from a stranger's directory; neither is written into."""
    root = _copy(original, tmp_path)
    (root / "CURRENT").unlink()
    before = sorted(path for path in root.rglob("*"))
    with pytest.raises(CollectionDamaged, match="CURRENT is missing"):
        reperio.open(root, dimension=DIMENSION)
    assert sorted(path for path in root.rglob("*")) == before
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    (stranger / "letter.txt").write_text("dear")
    with pytest.raises(NotACollection, match=r"letter\.txt"):
        reperio.open(stranger, dimension=DIMENSION)
    assert [entry.name for entry in stranger.iterdir()] == ["letter.txt"]


def test_metadata_that_cannot_be_read_is_damage(original: Path, tmp_path: Path) -> None:
    """A search that meets metadata which is no JSON any more says that the collection is damaged."""
    root = _copy(original, tmp_path)
    (database,) = root.glob(DATABASE)
    content = database.read_bytes()
    database.write_bytes(content.replace(b'{"version":2', b'}"version":2'))
    with reperio.open(root, read_only=True) as kb:
        kb.count()
        for _ in range(2):  # the first search begins a session, the second takes the quick path
            with pytest.raises(CollectionDamaged, match=r"chunk 'c00\d\d'"):
                kb.search(vector=next(iter(damaged_state().values())).vector, k=60)


@pytest.mark.parametrize("read_only", [True, False])
def test_a_schema_that_is_no_utf8_is_damage(read_only: bool, original: Path, tmp_path: Path) -> None:
    """A byte of SQLite's own schema that is no UTF-8 is told as damage, to readers and writers, wherever it lies."""
    root = _copy(original, tmp_path)
    (database,) = root.glob(DATABASE)
    content = database.read_bytes()
    for word in (b"CREATE VIRTUAL TABLE lexical", b"'porter unicode61", b"CREATE TABLE state", b"CREATE TABLE records"):
        at = content.index(word) + len(word) // 2
        database.write_bytes(content[:at] + b"\xff" + content[at + 1 :])
        with pytest.raises(CollectionDamaged, match=re.escape(str(database.name))):
            reperio.open(root, read_only=read_only).close()
        assert not reperio.diagnose(root).ok


def _names(message: str, file: str) -> bool:
    """Say whether the message names the file that was damaged, the chunk, or the index whose record lies in it."""
    return Path(file).name in message or "chunk 'c" in message or (file == DATABASE and "index: " in message)


def _copy(original: Path, directory: Path) -> Path:
    return Path(shutil.copytree(original, directory / "kb"))

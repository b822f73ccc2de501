"""FAISS indexes and files of texts: joined as they belong together, with FAISS's answers, or refused whole."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import pyarrow
import pytest
from pyarrow import parquet

import reperio
from reperio import Chunk, InvalidInput, Limits, ReperioError
from reperio.errors import InvalidChunk
from reperio.importers.raw_faiss import Changed, import_faiss
from reperio.index import VectorsLost
from tests.conftest import TrigramEmbedder

DIMENSION = 8
COUNT = 300


def vectors(count: int = COUNT, seed: int = 1) -> npt.NDArray[np.float32]:
    made = np.random.default_rng(seed)
    lengths = np.exp(made.standard_normal((count, 1)))
    return (made.standard_normal((count, DIMENSION)) * lengths).astype(np.float32)


def write_texts(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write the same rows in the format that the name asks for."""
    if path.suffix == ".jsonl":
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".csv":
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    else:
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def make(folder: Path, factory: str, metric: int = faiss.METRIC_L2, *, numbers: Any = None) -> Path:
    made = faiss.index_factory(DIMENSION, factory, metric)
    with warnings.catch_warnings():
        made.train(vectors())
    if numbers is None:
        made.add(vectors())
    else:
        made.add_with_ids(vectors(), numbers)
    faiss.write_index(made, str(folder / "index.faiss"))
    return folder / "index.faiss"


def rows() -> list[dict[str, Any]]:
    return [{"id": f"d{n}", "text": f"Text {n}, with a comma.", "source": f"file-{n % 3}"} for n in range(COUNT)]


def require_the_same(path: Path, index: Path, keys: list[str]) -> None:
    """Compare the first ten of each of 23 questions with those of FAISS's exact search, and the scores."""
    stored = faiss.read_index(str(index))
    flat = faiss.IndexFlat(DIMENSION, stored.metric_type)
    flat.add(vectors())
    distances, near = flat.search(vectors(23, seed=9), 10)
    sign = -1 if stored.metric_type == faiss.METRIC_L2 else 1
    with reperio.open(path, read_only=True) as kb:
        np.testing.assert_array_equal(kb.vectors(keys), vectors())
        for question, row, scores in zip(vectors(23, seed=9), near, distances, strict=True):
            hits = kb.search(vector=question, k=10, recall=1.0)
            assert [hit.chunk.id for hit in hits] == [keys[place] for place in row]
            np.testing.assert_allclose([hit.score for hit in hits], sign * scores, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("format", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("metric", [faiss.METRIC_L2, faiss.METRIC_INNER_PRODUCT])
def test_rows_belong_to_vectors_in_their_order(format: str, metric: int, tmp_path: Path) -> None:  # noqa: A002  # pytest's name
    """Of each format and metric; a second import changes nothing."""
    index, texts = make(tmp_path, "Flat", metric), write_texts(tmp_path / f"texts.{format}", rows())
    report = import_faiss(index, tmp_path / "kb", texts=texts)
    assert (report.added, report.complete, report.index) == (
        COUNT,
        True,
        "IndexFlatL2" if metric == faiss.METRIC_L2 else "IndexFlatIP",
    )
    require_the_same(tmp_path / "kb", index, [f"d{n}" for n in range(COUNT)])
    with reperio.open(tmp_path / "kb", read_only=True) as kb:
        assert kb.get("d7") == reperio.Chunk("d7", "Text 7, with a comma.", {"source": "file-1"})
    again = import_faiss(index, tmp_path / "kb", texts=texts)
    assert (again.added, again.updated, again.unchanged) == (0, 0, COUNT)


@pytest.mark.parametrize(
    "factory",
    ["Flat", "HNSW8,Flat", "NSG8,Flat", "IVF4,Flat", "IDMap,Flat", "IDMap2,Flat", "SQ8,RFlat", "IDMap,HNSW8,Flat"],
)
def test_indexes_that_hold_their_vectors(factory: str, tmp_path: Path) -> None:
    """To the bit; without an id, a vector's number is the id of its chunk."""
    numbers = np.arange(COUNT) * 3 + 5 if "IDMap" in factory else None
    index = make(tmp_path, factory, numbers=numbers)
    texts = write_texts(tmp_path / "texts.jsonl", [{"text": row["text"]} for row in rows()])
    report = import_faiss(index, tmp_path / "kb", texts=texts)
    assert (report.added, report.complete) == (COUNT, True)
    require_the_same(tmp_path / "kb", index, [str(number) for number in (range(COUNT) if numbers is None else numbers)])


@pytest.mark.parametrize("factory", ["IDMap,Flat", "IVF4,Flat"])
@pytest.mark.parametrize("format", ["jsonl", "csv", "parquet"])
def test_rows_are_joined_by_number(factory: str, format: str, tmp_path: Path) -> None:  # noqa: A002  # pytest's name
    """In whatever order they are, also with an IVF that has numbers of its own; what lacks the other is told."""
    numbers = np.arange(COUNT) * 3 + 5
    index = make(tmp_path, factory, numbers=numbers)
    numbered = [{**row, "number": int(number)} for row, number in zip(rows(), numbers, strict=True)]
    texts = write_texts(tmp_path / f"texts.{format}", numbered[::-1])
    report = import_faiss(index, tmp_path / "kb", texts=texts, number_field="number")
    assert (report.added, report.complete) == (COUNT, True)
    require_the_same(tmp_path / "kb", index, [f"d{n}" for n in range(COUNT)])
    with reperio.open(tmp_path / "kb", read_only=True) as kb:
        assert "number" not in kb.get("d1").metadata  # type: ignore[union-attr]  # it is there
    numbered[0]["number"] = 1
    texts = write_texts(tmp_path / f"other.{format}", numbered)
    report = import_faiss(index, tmp_path / "other", texts=texts, number_field="number")
    assert (report.without_vector, report.without_document) == (("d0",), (5,))


@pytest.mark.parametrize("factory", ["SQ8", "PQ4x4", "PCA4,Flat", "IVF4,SQ8"])
def test_codes_are_no_vectors(factory: str, tmp_path: Path) -> None:
    """Refused with the cure: the model, which embeds the texts again."""
    index, texts = make(tmp_path, factory), write_texts(tmp_path / "texts.jsonl", rows())
    with pytest.raises(VectorsLost, match=r"does not hold its vectors .* \(embedder=, --embedder\)"):
        import_faiss(index, tmp_path / "kb", texts=texts)
    assert not (tmp_path / "kb").exists()
    report = import_faiss(index, tmp_path / "kb", texts=texts, embedder=TrigramEmbedder())
    assert (report.added, report.embedded) == (COUNT, COUNT)


def test_an_ivf_with_numbers_of_its_own_needs_them(tmp_path: Path) -> None:
    """Its vectors are in no order."""
    index = make(tmp_path, "IVF4,Flat", numbers=np.arange(COUNT) + 7)
    texts = write_texts(tmp_path / "texts.jsonl", rows())
    with pytest.raises(VectorsLost, match="after a delete"):
        import_faiss(index, tmp_path / "kb", texts=texts)


def test_an_id_that_is_there_twice_is_told(tmp_path: Path) -> None:
    """The last one is imported."""
    twice = rows()
    twice[4]["id"] = "d3"
    index, texts = make(tmp_path, "Flat"), write_texts(tmp_path / "texts.jsonl", twice)
    report = import_faiss(index, tmp_path / "kb", texts=texts)
    assert (report.added, report.duplicates) == (COUNT - 1, ("d3",))
    with reperio.open(tmp_path / "kb", read_only=True) as kb:
        np.testing.assert_array_equal(kb.vectors("d3")[0], vectors()[4])


def test_other_names_of_fields(tmp_path: Path) -> None:
    """A text and an id may be called otherwise; what JSON changes is told."""
    named = [{"body": row["text"], "key": row["id"], "big": 1 << 70} for row in rows()]
    index, texts = make(tmp_path, "Flat"), write_texts(tmp_path / "texts.jsonl", named)
    report = import_faiss(index, tmp_path / "kb", texts=texts, text_field="body", id_field="key")
    assert report.changed == (Changed("big", "an integer of more than 64 bits", "string", COUNT),)
    with reperio.open(tmp_path / "kb", read_only=True) as kb:
        assert kb.get("d5").text == "Text 5, with a comma."  # type: ignore[union-attr]  # it is there


REFUSED: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "fewer rows": ("texts.jsonl", '{"text": "a"}\n', {}, r"has 1 rows, .* 300 vectors.*\(--number-field\)"),
    "another suffix": ("texts.txt", "a\n", {}, r"the suffix '\.txt'; texts are read from \.jsonl"),
    "no text": ("texts.jsonl", '{"body": "a"}\n', {}, r"no field 'text'; name one .*--text-field"),
    "no number": ("texts.jsonl", '{"text": "a"}\n', {"number_field": "n"}, "the field 'n' is None, no integer"),
    "a long number": ("texts.csv", f"text,n\na,{'9' * 5000}\n", {"number_field": "n"}, "no integer of 64 bits"),
    "no JSON": ("texts.jsonl", "{\n", {}, "no valid JSON"),
    "an empty header": ("texts.csv", "", {}, "texts.csv"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused(case: str, tmp_path: Path) -> None:
    """With what is wrong and the way out, before anything is created."""
    name, content, options, message = REFUSED[case]
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(ReperioError, match=message):
        import_faiss(make(tmp_path, "Flat"), tmp_path / "kb", texts=tmp_path / name, **options)
    assert not (tmp_path / "kb").exists()


def test_a_damaged_index_is_refused(tmp_path: Path) -> None:
    """Whatever FAISS makes of the bytes."""
    index, texts = make(tmp_path, "Flat"), write_texts(tmp_path / "texts.jsonl", rows())
    index.write_bytes(index.read_bytes()[:-5])
    with pytest.raises(InvalidInput, match="is no index that can be read"):
        import_faiss(index, tmp_path / "kb", texts=texts)


KILLED = """
import os, sys
from reperio.importers.raw_faiss import import_faiss

index, kb, texts = sys.argv[1:]
import_faiss(index, kb, texts=texts, progress=lambda what, done, total: os._exit(9) if done >= 1000 else None)
"""


def test_a_second_index_does_not_replace_the_first(tmp_path: Path) -> None:
    """Both number their rows from 0; what differs, the text or only the vector, does not matter."""
    index = make(tmp_path, "Flat")
    for name, text in (("one", "Text"), ("two", "Other")):
        write_texts(tmp_path / f"{name}.jsonl", [{"text": f"{text} {number}."} for number in range(COUNT)])
    import_faiss(index, tmp_path / "kb", texts=tmp_path / "one.jsonl")
    with pytest.raises(InvalidInput, match=r"other chunks under 300 ids of the index \('0', '1'.*another collection"):
        import_faiss(index, tmp_path / "kb", texts=tmp_path / "two.jsonl")
    other = faiss.IndexFlatL2(DIMENSION)
    other.add(vectors(seed=2))
    faiss.write_index(other, str(tmp_path / "other.faiss"))
    with pytest.raises(InvalidInput, match="other chunks under 300 ids"):
        import_faiss(tmp_path / "other.faiss", tmp_path / "kb", texts=tmp_path / "one.jsonl")
    moved = index.rename(tmp_path / "moved.faiss")
    assert import_faiss(moved, tmp_path / "kb", texts=tmp_path / "one.jsonl").unchanged == COUNT
    with reperio.open(tmp_path / "kb") as kb:
        np.testing.assert_array_equal(kb.vectors(kb.ids()), vectors())
        kb.add([Chunk("7", "Changed by hand.")], vectors=vectors(1))
        with pytest.raises(InvalidInput, match=r"under 1 ids of the index \('7'\)"):
            import_faiss(moved, kb, texts=tmp_path / "one.jsonl")


def test_sizes_are_checked_before_anything_is_written(tmp_path: Path) -> None:
    """Of all rows; with limits that let the last one in, the same call succeeds, in batches that they allow."""
    index = make(tmp_path, "Flat")
    long = {"text": "last", "long": "x" * 2_000_000}
    texts = write_texts(tmp_path / "texts.jsonl", [*({"text": str(n)} for n in range(COUNT - 1)), long])
    with pytest.raises(InvalidChunk, match=r"'299': metadata has .* limits=Limits\(metadata=.*nothing was imported"):
        import_faiss(index, tmp_path / "kb", texts=texts)
    assert not (tmp_path / "kb").exists()
    limits = Limits(metadata=1 << 22, batch=100)
    assert import_faiss(index, tmp_path / "kb", texts=texts, limits=limits).added == COUNT
    with (
        reperio.open(tmp_path / "open", dimension=DIMENSION, metric="l2") as kb,
        pytest.raises(InvalidInput, match="limits belongs to the directory"),
    ):
        import_faiss(index, kb, texts=texts, limits=limits)


def test_a_killed_import_goes_on(tmp_path: Path) -> None:
    """What was acknowledged is not stored again, the rest is added, and a vector that has changed is replaced."""
    made = vectors(2500)
    index = faiss.IndexFlatL2(DIMENSION)
    index.add(made)
    faiss.write_index(index, str(tmp_path / "index.faiss"))
    texts = write_texts(tmp_path / "texts.jsonl", [{"text": f"Text {number}."} for number in range(2500)])
    arguments = [tmp_path / "index.faiss", tmp_path / "kb", texts]
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False)
    assert done.returncode == 9
    report = import_faiss(arguments[0], arguments[1], texts=texts)
    assert (report.added, report.unchanged, report.created) == (1500, 1000, False)
    made[7] *= 2
    index.reset()
    index.add(made)
    faiss.write_index(index, str(tmp_path / "index.faiss"))
    report = import_faiss(arguments[0], arguments[1], texts=texts)
    assert (report.updated, report.unchanged) == (1, 2499)
    with reperio.open(tmp_path / "kb", read_only=True) as kb:
        np.testing.assert_array_equal(kb.vectors(kb.ids()[:7]), made[:7])
        np.testing.assert_array_equal(kb.vectors("7"), made[7:8])

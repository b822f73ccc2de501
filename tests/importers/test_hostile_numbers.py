"""Numbers in foreign files that no program would write become typed errors, never a crash and never another number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

import reperio
from reperio.errors import InvalidInput
from reperio.importers.llama_index import import_llama_index
from reperio.importers.raw_faiss import import_faiss
from reperio.importers.reading import read_file, to_integer

HOSTILE: tuple[Any, ...] = (
    *("+-5", "--5", "- 5", "5.0", "1e3", "0x5", "٣", "", " 5", "5\n", "-", "9" * 30, "9" * 5000, str(1 << 63)),
    *(5.0, float("nan"), float("inf"), True, None, 1 << 63, -(1 << 63) - 1, 10**400, [5], {"5": 5}),
)


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: f"{value!r:.20}")
def test_what_is_no_integer_of_64_bits_is_none(value: Any) -> None:
    """Neither rounded nor cut."""
    assert to_integer(value) is None


@pytest.mark.parametrize("value", [0, -1, (1 << 63) - 1, -(1 << 63)])
def test_integers_of_64_bits_are_read_from_numbers_and_texts(value: int) -> None:
    """Both ends of the range included."""
    assert to_integer(value) == to_integer(str(value)) == value


@pytest.mark.parametrize(
    "number", ["+-5", "--5", "-", "9" * 5000, 1e300, -1.5, None], ids=lambda value: f"{value!r:.9}"
)
def test_numbers_of_vectors_next_to_an_index(number: Any, tmp_path: Path) -> None:
    """The row is named, and nothing is made."""
    index = faiss.IndexIDMap(faiss.IndexFlatL2(2))
    index.add_with_ids(np.ones((1, 2), np.float32), np.array([5]))
    faiss.write_index(index, str(tmp_path / "a.faiss"))
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "a", "n": number}))
    with pytest.raises(InvalidInput, match=r"a\.jsonl.*the field 'n' is .*, no integer of 64 bits"):
        import_faiss(tmp_path / "a.faiss", tmp_path / "kb", texts=tmp_path / "a.jsonl", number_field="n")
    assert not (tmp_path / "kb").exists()


@pytest.mark.parametrize("number", ["1" + "0" * 400, "NaN, 1" + "0" * 400, "-1" + "0" * 4999])
def test_numbers_of_vectors_in_json(number: str, tmp_path: Path) -> None:
    """Of hundreds of digits, in a file that only Python's own parser reads to its end."""
    for name in ("docstore.json", "index_store.json"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "default__vector_store.json").write_text(f'{{"a": NaN, "embedding_dict": {{"n": [{number}]}}}}')
    with pytest.raises(reperio.ReperioError, match=r"default__vector_store\.json"):
        import_llama_index(tmp_path, tmp_path / "kb")


def test_a_file_is_read_within_bounds(tmp_path: Path) -> None:
    """One byte more is refused, whoever asks; a link is, too."""
    (tmp_path / "a").write_bytes(b"12345")
    assert read_file(tmp_path / "a", 5) == b"12345"
    with pytest.raises(InvalidInput, match="has more than 4 bytes; so many are read at most"):
        read_file(tmp_path / "a", 4)
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(reperio.ReperioError):
        read_file(tmp_path / "b", 5)

"""Parquet files and exports that are small and come to much."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

import reperio
from reperio import Chunk, InvalidInput
from reperio.exchange import export_collection, import_collection
from reperio.ingestion.reading.items import Fields
from reperio.ingestion.reading.parquet import read_parquet
from reperio.parquet_limits import rows_at_once

_WORDS = pa.large_string()
_NAMES = ["id", "text", "metadata", "vector"]


def _same(rows: int, text: str) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([text], _WORDS))


def _table(rows: int, text: str) -> pa.Table:
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.tile(np.float32([1, 0]), rows)), 2)
    ids = pa.array([str(number) for number in range(rows)], _WORDS)
    return pa.table({"id": ids, "text": _same(rows, text), "metadata": _same(rows, "{}"), "vector": vectors})


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """Make an export whose files may be changed."""
    with reperio.open(tmp_path / "kb", dimension=2, auto_optimize=False) as kb:
        kb.add([Chunk("a", "text")], vectors=np.eye(2, dtype=np.float32)[:1])
        export_collection(kb, tmp_path / "export")
    manifest = tmp_path / "export" / "manifest.json"
    content = json.loads(manifest.read_text())
    del content["files"]
    manifest.write_text(json.dumps(content))
    return tmp_path / "export"


_CHILD = """
import sys, tracemalloc
from pathlib import Path
import pyarrow
from reperio.exchange import import_collection
from reperio.ingestion.reading.parquet import read_parquet
from reperio.ingestion.reading.items import Fields
tracemalloc.start()
for _ in read_parquet(Path(sys.argv[1]) / "chunks.parquet", Fields()):
    pass
import_collection(sys.argv[1], sys.argv[2])
print(pyarrow.default_memory_pool().max_memory() + tracemalloc.get_traced_memory()[1])
"""


def test_equal_long_texts_are_read_a_few_at_a_time(export: Path, tmp_path: Path) -> None:
    """A thousand rows of one text of a million characters, 3 KB in all, never lie in memory together."""
    path = export / "chunks.parquet"
    parquet.write_table(_table(1000, "A" * 1_000_000), path, compression="zstd")
    assert path.stat().st_size < 10_000
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(export), str(tmp_path / "copy")],
        capture_output=True, text=True, timeout=250, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 900 << 20
    with reperio.open(tmp_path / "copy", read_only=True) as kb:
        assert kb.count() == 1000


def test_a_column_of_many_times_its_size_is_refused(export: Path, tmp_path: Path) -> None:
    """One text of 300 MB that takes 10 KB in the file is refused before it is unpacked."""
    path = export / "chunks.parquet"
    parquet.write_table(_table(1, "A" * (300 << 20)), path, compression="zstd", use_dictionary=False)
    for work in (lambda: import_collection(export, tmp_path / "copy"), lambda: list(read_parquet(path, Fields()))):
        with pytest.raises(InvalidInput, match=r"the column 'text' has 1 values and comes to 314,\d+,\d+ bytes"):
            work()
    assert not (tmp_path / "copy").exists()


def test_a_list_of_many_equal_texts_is_read_row_by_row(tmp_path: Path) -> None:
    """Lists in a column count with all their values: the more a row has, the fewer rows are read at once."""
    lists = pa.ListArray.from_arrays(
        pa.array(np.arange(21) * 50, pa.int32()), _same(1000, "A" * 1_000_000).cast(_WORDS)
    )
    path = tmp_path / "lists.parquet"
    parquet.write_table(pa.table({"text": _same(20, "t"), "tags": lists.slice(0, 20)}), path, compression="zstd")
    with parquet.ParquetFile(path) as file:
        assert 1 <= rows_at_once(file, path, ["text", "tags"], 1000) <= 6


def test_what_an_export_writes_is_read_in_whole_batches(export: Path) -> None:
    """The limits cost nothing where values are written out, as an export writes them."""
    with parquet.ParquetFile(export / "chunks.parquet") as file:
        assert rows_at_once(file, export, _NAMES, 1000) == 1000


def test_a_line_without_end_is_refused(export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of JSON that is longer than any chunk is read no further than that."""
    monkeypatch.setattr("reperio.exchange.importing._LONGEST_LINE", 1 << 20)
    (export / "records.jsonl").write_bytes(b'{"scope":"' + b"x" * (64 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(InvalidInput, match=r"records.jsonl:1 is longer than 1,048,576 bytes"):
            import_collection(export, tmp_path / "copy")
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()

from __future__ import annotations

import csv
import datetime as dt
import decimal
import json
import re
import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reperio import InvalidInput
from reperio.ingestion.finding.sources import SourceFile
from reperio.ingestion.reading.items import Fields, Item
from reperio.ingestion.reading.readers import read

MARK = b"\xef\xbb\xbf"


def items(path: Path, content: bytes | str | None = None, fields: Fields | None = None) -> list[Item]:
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read(SourceFile(path, path.name), fields or Fields()))


def parquet(path: Path, table: pa.Table) -> Path:
    pq.write_table(table, path)
    return path


@pytest.mark.parametrize("suffix", [".txt", ".md"])
@pytest.mark.parametrize("mark", [b"", MARK])
def test_a_text_file_is_one_item(tmp_path: Path, suffix: str, mark: bytes) -> None:
    """A .txt or .md is read as it is; a byte order mark is no part of it."""
    text = "First line.\r\n\tSecond: Größe 漢字 🙂\n\n"
    (item,) = items(tmp_path / f"a{suffix}", mark + text.encode())
    assert (item.text, item.id, item.metadata) == (text, None, {})


@pytest.mark.parametrize("mark", [b"", MARK])
def test_a_line_of_jsonl_is_an_item(tmp_path: Path, mark: bytes) -> None:
    """Text and id are taken out, every other field is metadata, blank lines are no items."""
    lines = '{"id": 7, "text": "sea", "year": 2024, "tags": ["a", null], "deep": {"x": 1.5}}\n\n{"text": "sky"}'
    first, second = items(tmp_path / "a.jsonl", mark + lines.encode())
    assert first.metadata == {"year": 2024, "tags": ["a", None], "deep": {"x": 1.5}}
    assert (first.id, first.text, first.place) == ("7", "sea", f"{tmp_path}/a.jsonl:1")
    assert (second.id, second.metadata, second.place) == (None, {}, f"{tmp_path}/a.jsonl:3")


@pytest.mark.parametrize("mark", [b"", MARK])
def test_a_row_of_csv_is_an_item(tmp_path: Path, mark: bytes) -> None:
    """Quotes, commas and line breaks within fields are understood, values are strings, places are real lines."""
    rows = 'id,text,lang\r\n1,"one, ""two""\nthree",en\r\n,plain,de\r\n'
    first, second = items(tmp_path / "a.csv", mark + rows.encode())
    assert (first.id, first.text, first.metadata) == ("1", 'one, "two"\nthree', {"lang": "en"})
    assert (second.id, second.text, second.metadata) == (None, "plain", {"lang": "de"})
    assert second.place.endswith("a.csv:4")


def test_a_field_of_csv_may_be_long(tmp_path: Path) -> None:
    """Texts beyond the csv module's 128 KiB are read, and its limit is put back."""
    before = csv.field_size_limit()
    (item,) = items(tmp_path / "a.csv", "text\n" + "word " * 100_000)
    assert len(item.text) == 500_000
    assert csv.field_size_limit() == before


def test_a_row_of_parquet_is_an_item(tmp_path: Path) -> None:
    """What JSON cannot keep becomes a string in ISO form or in digits; the rest stays what it is."""
    moment = dt.datetime(2026, 5, 4, 3, 2, 1, tzinfo=dt.timezone.utc)
    table = pa.table(
        {
            "id": pa.array([1, 2], pa.int64()),
            "text": ["sea", None],
            "when": pa.array([moment, None], pa.timestamp("us", "UTC")),
            "day": pa.array([dt.date(2026, 5, 4)] * 2),
            "price": pa.array([decimal.Decimal("1.50")] * 2),
            "took": pa.array([dt.timedelta(minutes=90)] * 2),
            "tags": [[{"at": dt.time(3, 2)}], []],
            "pairs": pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int64())),
            "score": [0.25, None],
        }
    )
    first, second = items(parquet(tmp_path / "a.parquet", table))
    assert (first.id, first.text) == ("1", "sea")
    assert first.metadata == {
        "when": "2026-05-04T03:02:01+00:00",
        "day": "2026-05-04",
        "price": "1.50",
        "took": "1:30:00",
        "tags": [{"at": "03:02:00"}],
        "pairs": [["k", 1]],
        "score": 0.25,
    }
    json.dumps(first.metadata, allow_nan=False)
    assert (second.text, second.metadata["when"], second.metadata["score"]) == ("", None, None)


@pytest.mark.skipif(not hasattr(pa, "uuid"), reason="this pyarrow knows no UUID type")
def test_a_uuid_of_parquet_is_a_string(tmp_path: Path) -> None:
    """The UUID type, where pyarrow has it, is kept by its usual spelling."""
    value = uuid.UUID(int=7)
    table = pa.table({"text": ["a"], "key": pa.array([value.bytes], pa.uuid())})
    (item,) = items(parquet(tmp_path / "a.parquet", table))
    assert item.metadata == {"key": str(value)}


def test_parquet_is_read_in_batches(tmp_path: Path) -> None:
    """Rows come in order across batches and row groups, each with its number."""
    table = pa.table({"text": [f"text {i}" for i in range(5000)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=700)
    found = items(tmp_path / "a.parquet")
    assert [item.text for item in found] == [f"text {i}" for i in range(5000)]
    assert found[4999].place.endswith("a.parquet:5000")


@pytest.mark.parametrize(
    ("value", "kind"),
    [(float("nan"), "is nan"), (float("inf"), "is inf"), ([{"x": b"1"}], "holds bytes")],
)
def test_values_of_parquet_without_a_json_form_are_refused(tmp_path: Path, value: Any, kind: str) -> None:
    """Bytes within lists, NaN and infinity are an error that names row and column."""
    path = parquet(tmp_path / "a.parquet", pa.table({"text": ["a", "b"], "extra": [None, value]}))
    with pytest.raises(InvalidInput, match=rf"a\.parquet:2: 'extra' {kind}"):
        items(path)


@pytest.mark.parametrize(
    ("name", "values", "found"),
    [
        ("price", ["1.50", "2.25", "3"], [1.5, 2.25, 3]),
        ("n", ["3", "3.5", "-0.25"], [3, 3.5, -0.25]),
        ("n", ["1.0", "2.5", ""], [1.0, 2.5, None]),
        ("n", ["1e5", "2"], ["1e5", "2"]),  # a code as likely as a number
        ("python", ["3.9", "3.10"], ["3.9", "3.10"]),
        ("version", ["3.10", "3.11"], ["3.10", "3.11"]),
        ("release", ["3", "4"], [3, 4]),
        ("zip", ["01234", "99999"], ["01234", "99999"]),
        ("long", ["0.1234567890123456", "1.5"], ["0.1234567890123456", "1.5"]),
        ("big", ["1234567890123456789", "1"], ["1234567890123456789", "1"]),
        ("huge", ["1.5e999", "1.5"], ["1.5e999", "1.5"]),
        ("on", ["true", "FALSE"], [True, False]),
        ("text", ["0", "1"], None),
    ],
)
def test_numbers_stay_numbers_unless_their_writing_matters(
    tmp_path: Path, name: str, values: list[str], found: list[Any] | None
) -> None:
    """By its values, a column is of numbers, each as it is written: no 3 becomes 3.0, and no version loses a zero."""
    rows = "".join(f"{value},x\n" for value in values)
    if found is None:
        assert [item.text for item in items(tmp_path / "a.csv", f"{name},other\n{rows}")] == values
        return
    read_values = [item.metadata[name] for item in items(tmp_path / "a.csv", f"{name},text\n{rows}")]
    assert [(type(value), value) for value in read_values] == [(type(value), value) for value in found]


def test_what_columns_hold_is_told_and_may_be_said(tmp_path: Path) -> None:
    """The notes name numbers and what only looks like them; what is said counts, and what does not fit is told."""
    path = tmp_path / "a.csv"
    path.write_text("text,zip,price,build,on\nx,0123,1.50,3.9,true\ny,4567,2.00,3.10,false\n")
    notes: list[str] = []
    list(read(SourceFile(path, "a.csv"), Fields(), notes.append))
    assert notes == [
        "has columns of numbers: 'price'; of booleans: 'on'; keeps as text: 'zip' (leading zeros), "
        "'build' (3.10 may be a version); to change that, pass types= (--column-types)"
    ]
    said = Fields(types={"zip": "number", "price": "text", "build": "number"})
    assert items(path, None, said)[0].metadata == {"zip": 123, "price": "1.50", "build": 3.9, "on": True}
    with pytest.raises(InvalidInput, match=r"a\.csv:2: 'on' is 'true', no number; mend it.*--column-types"):
        items(path, None, Fields(types={"on": "number"}))
    with pytest.raises(InvalidInput, match=r"a\.csv:1: no field 'zap'"):
        items(path, None, Fields(types={"zap": "number"}))
    for types in ({"zip": "float"}, {"text": "number"}):
        with pytest.raises(InvalidInput, match="types has"):
            Fields(types=types)


def test_columns_of_bytes_and_the_index_of_a_frame_are_left_out(tmp_path: Path) -> None:
    """What JSON cannot keep does not end the run: it is left out, and said; pandas's row numbers are nobody's data."""
    table = pa.table(
        {
            "text": ["a"],
            "picture": pa.array([b"raw"], pa.binary()),
            "hash": pa.array([b"1234"], pa.binary(4)),
            "a.b": [5],
            "n": [1],
            "__index_level_0__": [17],
        }
    )
    path, notes = parquet(tmp_path / "a.parquet", table), list[str]()
    found = list(read(SourceFile(path, "a.parquet"), Fields(drop=("n",)), notes.append))
    assert [(item.text, item.metadata) for item in found] == [("a", {"a.b": 5})]
    assert notes == ["columns of bytes are left out: 'picture', 'hash'"]


@pytest.mark.parametrize(
    "content", [b"", b"PAR1 but not really PAR1", b"plain words"], ids=["empty", "damaged", "no parquet"]
)
def test_a_damaged_parquet_is_refused(tmp_path: Path, content: bytes) -> None:
    """A file that is no Parquet is a typed error naming it."""
    with pytest.raises(InvalidInput, match=r"a\.parquet cannot be read"):
        items(tmp_path / "a.parquet", content)


def test_a_parquet_cut_short_within_a_page_is_refused(tmp_path: Path) -> None:
    """Damage that shows only while reading is a typed error too."""
    path = parquet(tmp_path / "a.parquet", pa.table({"text": [f"{i} {i * i}" for i in range(20_000)]}))
    content = bytearray(path.read_bytes())
    content[100:4000] = bytes(3900)
    with pytest.raises(InvalidInput, match=r"a\.parquet cannot be read"):
        items(path, bytes(content))


@pytest.mark.parametrize(
    ("name", "content", "offset"),
    [
        ("a.txt", b"caf\xe9", 3),
        ("a.txt", MARK + b"caf\xe9", 6),
        ("a.md", "Ω".encode() + b"\xff", 2),
        ("a.jsonl", b'{"text": "fine"}\n{"text": "caf\xe9"}\n', 30),
        ("a.csv", MARK + b"text\nfine\ncaf\xe9\n", 16),
    ],
)
def test_bytes_that_are_no_utf8_are_told_by_offset(tmp_path: Path, name: str, content: bytes, offset: int) -> None:
    """The error names file, byte and its offset in the file, and the command that converts it."""
    with pytest.raises(
        InvalidInput, match=rf"{re.escape(name)}: byte 0x.. at offset {offset} is no UTF-8.*windows-1252"
    ):
        items(tmp_path / name, content)
    assert content[offset] >= 0x80


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{oops}", "no valid JSON"),
        ("[1, 2]", "a JSON list"),
        ('"words"', "a JSON str"),
        ('{"text": "a", "x": NaN}', "NaN is no JSON"),
        ('{"text": "a", "text": "b"}', "the key 'text' occurs twice"),
        ('{"text": "a", "m": {"k": 1, "k": 2}}', "the key 'k' occurs twice"),
        ('{"text": 5}', "the field 'text' is 5 (int), not text"),
        ('{"text": "a", "id": 1.5}', "the field 'id' is 1.5 (float)"),
        ('{"text": "a", "id": true}', "the field 'id' is True (bool)"),
        ('{"text": "a\\ud800"}', "a lone surrogate at position 1"),
        ('{"body": "a", "title": "b"}', "no field 'text'; name one of these with text_field (--text-field): "),
        ("{}", "no field 'text'"),
        ("[" * 100_000, "no valid JSON"),
    ],
)
def test_a_bad_line_of_jsonl_is_told_by_file_and_line(tmp_path: Path, line: str, reason: str) -> None:
    """Each way in which a line can be wrong is an error with its place and the reason."""
    with pytest.raises(InvalidInput, match=rf"a\.jsonl:2: .*{re.escape(reason)}"):
        items(tmp_path / "a.jsonl", '{"text": "fine"}\n' + line + "\n")


def test_the_fields_that_exist_are_named(tmp_path: Path) -> None:
    """A missing field is answered with those one can choose from, in every format with fields."""
    content = {"a.jsonl": '{"body": "a", "title": "b"}', "a.csv": "body,title\na,b\n"}
    pq.write_table(pa.table({"body": ["a"], "title": ["b"]}), tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.csv", "a.parquet"):
        with pytest.raises(InvalidInput, match=rf"{re.escape(name)}.*no field 'text'.*'body', 'title'"):
            items(tmp_path / name, content.get(name))
        assert items(tmp_path / name, None, Fields(text="body"))[0].text == "a"


def test_an_id_field_that_was_named_must_be_there(tmp_path: Path) -> None:
    """Only the default id field may be missing: a mistyped one is not ignored."""
    with pytest.raises(InvalidInput, match=r"no field 'key'; name one of these with id_field \(--id-field\): 'text'"):
        items(tmp_path / "a.jsonl", '{"text": "a"}', Fields(id="key"))


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ("text,a\nx\n", r"a\.csv:2: 1 fields, the header has 2"),
        ("text,a\nx,1\n\nx,1,2\n", r"a\.csv:4: 3 fields, the header has 2"),
        ("text,a,a\nx,1,2\n", r"a\.csv:1: two columns are named 'a'"),
        ('text,a\nx,1\n"never closed,1\nmore\n', r"a\.csv:3: no valid CSV"),
        ("body;a\nx;1\n", r"a\.csv:1: no field 'text'.*'body', 'a'"),
    ],
)
def test_a_bad_csv_is_told_by_file_and_line(tmp_path: Path, rows: str, reason: str) -> None:
    """Rows that do not fit the header, and quotes that do not close, are errors rather than shifted columns."""
    with pytest.raises(InvalidInput, match=reason):
        items(tmp_path / "a.csv", rows)


def test_fields_that_ingestion_needs_are_kept_under_another_name(tmp_path: Path) -> None:
    """An item's own `source` and `start` are not lost, and two fields are never merged into one."""
    (item,) = items(tmp_path / "a.jsonl", '{"text": "a", "source": "wiki", "start": 5}')
    assert item.metadata == {"record_source": "wiki", "record_start": 5}
    with pytest.raises(InvalidInput, match=r"both the fields 'source'.* and 'record_source'"):
        items(tmp_path / "a.jsonl", '{"text": "a", "source": 1, "record_source": 2}')


def test_a_file_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    """A file that vanished after it was listed is a typed error."""
    for suffix in (".txt", ".jsonl", ".csv", ".parquet"):
        with pytest.raises(InvalidInput, match=rf"gone{re.escape(suffix)} cannot be read: "):
            items(tmp_path / f"gone{suffix}")


def test_an_empty_csv_or_jsonl_has_no_items(tmp_path: Path) -> None:
    """Nothing, or a header alone, is no error."""
    assert items(tmp_path / "a.csv", "") == []
    assert items(tmp_path / "a.csv", "id,text\n") == []
    assert items(tmp_path / "a.jsonl", "\n \n") == []

"""The query log: complete while it is bounded, readable, and private where that is asked."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pytest

import reperio
from reperio import Chunk
from reperio.errors import InvalidInput, ReperioWarning, StorageFailed
from reperio.filters import field
from reperio.query_log.reading import LoggedQuestion, read_log, read_queries
from reperio.query_log.recording import QueryLog, QueryRecorder
from tests.conftest import TrigramEmbedder


def record(recorder: QueryRecorder, text: str) -> None:
    recorder.record(text, k=2, mode="dense", where={"a": 1}, ms=1.23456, ids=["x", "y"])


def test_what_was_asked_can_be_read_back(tmp_path: Path) -> None:
    """Texts of any kind, filters of both kinds; only the owner may read the file."""
    path = tmp_path / "log.jsonl"
    recorder = QueryRecorder(QueryLog(path))
    texts = ["plain", "two\nlines", "ü \u2028 \ud800"]
    for text in texts:
        record(recorder, text)
    recorder.record("typed", k=1, mode="hybrid", where=field("a") > 1, ms=0.5, ids=[])
    recorder.close()
    recorder.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["query"] for line in lines] == [*texts, "typed"]
    assert {key: lines[0][key] for key in ("k", "mode", "where", "ms", "ids")} == {
        "k": 2, "mode": "dense", "where": {"a": 1}, "ms": 1.235, "ids": ["x", "y"]
    }  # fmt: skip
    assert lines[-1]["where"] == {"a": {"$gt": 1}}
    assert path.stat().st_mode & 0o077 == 0
    assert read_queries(path)[0] == "plain"


def test_hashed_texts_are_not_in_the_file(tmp_path: Path) -> None:
    """Equal questions have equal hashes."""
    path = tmp_path / "log.jsonl"
    recorder = QueryRecorder(QueryLog(path, hash_texts=True))
    for text in ("secret", "secret", "other"):
        record(recorder, text)
    written = path.read_text()
    assert "secret" not in written
    assert len({json.loads(line)["query_sha256"] for line in written.splitlines()}) == 2


def test_a_rotated_log_is_read_as_it_was_asked(tmp_path: Path) -> None:
    """Of all its files, oldest first, with filter, mode, k and what came."""
    path = tmp_path / "log.jsonl"
    recorder = QueryRecorder(QueryLog(path, max_bytes=1000, files=20))
    for number in range(40):
        record(recorder, f"question {number}")
    assert len(list(tmp_path.iterdir())) > 3
    found = read_log(path)
    assert [each.text for each in found] == [f"question {number}" for number in range(40)]
    assert found[0] == LoggedQuestion("question 0", 2, "dense", {"a": 1}, ("x", "y"))


def test_a_plain_list_of_questions_is_a_log(tmp_path: Path) -> None:
    """Asked with the defaults; what a line cannot mean is named with it."""
    (tmp_path / "log.txt").write_text("one\n\ntwo\n")
    assert read_log(tmp_path / "log.txt") == [LoggedQuestion("one"), LoggedQuestion("two")]
    path = tmp_path / "log.jsonl"
    for line, complaint in (
        ('{"query": "a", "k": 0}', ":2: k is 0"),
        ('{"query": "a", "mode": "sparse"}', ":2: mode is 'sparse'"),
        ('{"query": "a", "where": [1]}', ":2: where is "),
        ('{"query": "a", "ids": [1]}', ":2: ids is "),
        ('{"query_sha256": "00"}', ":2: the question was logged as a hash, and cannot be asked again"),
    ):
        path.write_text('"plain"\n' + line)
        with pytest.raises(InvalidInput, match=complaint):
            read_log(path)
    path.write_text("\n")
    with pytest.raises(InvalidInput, match="holds no questions"):
        read_log(path)
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_log(tmp_path / "absent.jsonl")
    with pytest.raises(InvalidInput, match=r"suffix '\.npy'"):
        read_log(tmp_path / "log.npy")


def test_a_question_larger_than_the_log_is_warned_of(tmp_path: Path) -> None:
    """It is left out, rather than the bound or the question broken; those after it are kept."""
    path = tmp_path / "log.jsonl"
    recorder = QueryRecorder(QueryLog(path, max_bytes=1000))
    record(recorder, "before")
    with pytest.warns(ReperioWarning, match="more than max_bytes"):
        record(recorder, "x" * 2000)
    record(recorder, "after")
    assert [each.text for each in read_log(path)] == ["before", "after"]


@pytest.mark.parametrize("files", [1, 3])
def test_the_log_is_bounded(tmp_path: Path, files: int) -> None:
    """No more files than said, none larger than said, and the newest question last in the first."""
    path = tmp_path / "log.jsonl"
    recorder = QueryRecorder(QueryLog(path, max_bytes=1000, files=files))
    for number in range(100):
        record(recorder, f"question {number}")
    found = sorted(tmp_path.iterdir())
    assert len(found) == files
    assert all(each.stat().st_size <= 1000 for each in found)
    assert read_queries(path)[-1] == "question 99"
    if files > 1:
        first, before = read_queries(path)[0], read_queries(tmp_path / "log.1.jsonl")[-1]
        assert int(first.split()[1]) == int(before.split()[1]) + 1


def test_several_writers_lose_nothing(tmp_path: Path) -> None:
    """Two handles with two threads each, over many rotations: every line whole, and all there."""
    path = tmp_path / "log.jsonl"
    recorders = [QueryRecorder(QueryLog(path, max_bytes=5000, files=100)) for _ in range(2)]

    def write(recorder: QueryRecorder, name: int) -> None:
        for number in range(100):
            record(recorder, f"{name}-{number}")

    threads = [threading.Thread(target=write, args=(recorders[at % 2], at)) for at in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    texts = [text for each in tmp_path.iterdir() for text in read_queries(each)]
    assert sorted(texts) == sorted(f"{name}-{number}" for name in range(4) for number in range(100))


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    """Another suffix, no room, and a directory that is not there."""
    with pytest.raises(InvalidInput, match=r"suffix '\.txt'"):
        QueryLog(tmp_path / "log.txt")
    with pytest.raises(InvalidInput, match=r"at least 1,000 and 1"):
        QueryLog(tmp_path / "log.jsonl", max_bytes=10)
    with pytest.raises(StorageFailed):
        QueryRecorder(QueryLog(tmp_path / "absent" / "log.jsonl"))


def test_a_collection_logs_what_it_is_asked_by_text(tmp_path: Path) -> None:
    """Single questions and many at once, with what came; not vectors, and nothing unless it is asked for."""
    log = tmp_path / "log.jsonl"
    with reperio.open(tmp_path / "kb", embedder=TrigramEmbedder(), query_log=log) as collection:
        collection.add([Chunk("a", "one"), Chunk("b", "two")])
        collection.search("one", k=1, where={"x": {"$exists": False}})
        collection.search_many(["one", "two"], k=2, mode="hybrid")
        collection.search(vector=collection.vectors("a")[0])
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["query"], line["ids"], line["mode"]) for line in lines] == [
        ("one", ["a"], "dense"),
        ("one", ["a", "b"], "hybrid"),
        ("two", ["b", "a"], "hybrid"),
    ]
    assert lines[0]["where"] == {"x": {"$exists": False}}
    with reperio.open(tmp_path / "kb", embedder=TrigramEmbedder()) as collection:
        collection.search("one")
    assert len(log.read_text().splitlines()) == 3


def test_a_log_that_cannot_be_written_stops_no_search(tmp_path: Path) -> None:
    """It is warned of, once."""
    folder = tmp_path / "logs"
    folder.mkdir()
    recorder = QueryRecorder(QueryLog(folder / "log.jsonl"))
    shutil.rmtree(folder)
    with pytest.warns(ReperioWarning, match="questions are not logged"):
        record(recorder, "one")
    record(recorder, "two")  # a second warning would be an error here

"""A run that people can rely on: bad files, rate limits, trials, scopes, several at once."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import reperio
from reperio import Collection, CollectionReadOnly, EmbedderFailed, InvalidInput, RetryLater
from reperio.ingestion import ingest, sources
from tests.conftest import TrigramEmbedder
from tests.ingestion.folders import contents, require_ledger, table, texts, write, write_jsonl


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    return tmp_path / "docs"


# ── bad files ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_bad_files_are_listed_and_the_rest_goes_on(kb: Collection, docs: Path) -> None:
    """Each with its source, its place with the line, and the reason with its cure."""
    write(docs / "a.md", "rivers")
    write(docs / "b.txt", b"caf\xe9")
    write(docs / "c.csv", "id,text\n1,x\n2,x,y\n")
    write(docs / "d.jsonl", '{"text": "fine"}\nnothing\n')
    write(docs / "e.parquet", "no table")
    write(docs / "z.md", "lakes")
    done = ingest(kb, docs)
    assert (done.files, done.added, done.complete) == (2, 2, False)
    assert texts(kb) == {"docs/a.md": ["rivers"], "docs/z.md": ["lakes"]}
    failed = {one.source: one for one in done.failed}
    assert failed["docs/b.txt"].place == str(docs / "b.txt")
    assert failed["docs/b.txt"].reason.startswith("byte 0xe9 at offset 3 is no UTF-8; name its encoding")
    assert failed["docs/c.csv"].place == f"{docs}/c.csv:3"
    assert failed["docs/c.csv"].reason.startswith("3 fields, the header has 2; put quotes")
    assert failed["docs/d.jsonl"].place == f"{docs}/d.jsonl:2"
    assert "cannot be read" in failed["docs/e.parquet"].reason
    require_ledger(kb)


def test_a_bad_file_keeps_what_is_stored_of_it(kb: Collection, docs: Path) -> None:
    """Broken since the last run, it loses nothing, and once it is mended the run is complete."""
    path = table(docs / "t.csv", a="rivers", b="lakes")
    ingest(kb, docs)
    before = contents(kb)
    write(path, "id,text\na,streams\nb,ponds,and more\n")
    assert not ingest(kb, docs).complete
    assert contents(kb) == before
    table(path, a="streams", b="ponds")
    assert ingest(kb, docs).complete
    assert texts(kb) == {"docs/t.csv": ["ponds", "streams"]}
    require_ledger(kb)


def test_a_long_bad_file_is_stored_up_to_its_fault(kb: Collection, docs: Path) -> None:
    """Of one that is too long to be held, what came before stays, nothing is deleted, and the next run knows of it."""
    rows = [json.dumps({"id": i, "text": f"row {i}"}) for i in range(5000)]
    path = write(docs / "t.jsonl", "\n".join([*rows, "broken"]))
    assert not ingest(kb, docs).complete
    assert 2000 <= kb.count() < 5000
    write(path, rows[1])
    ingest(kb, docs)
    assert texts(kb) == {"docs/t.jsonl": ["row 1"]}
    require_ledger(kb)


def test_strict_stops_at_the_first_bad_file(kb: Collection, docs: Path) -> None:
    """As an error, which names it."""
    write(docs / "a.md", b"caf\xe9")
    write(docs / "b.md", "lakes")
    with pytest.raises(InvalidInput, match=r"a\.md: byte 0xe9"):
        ingest(kb, docs, strict=True)
    assert kb.count() == 0


def test_a_named_file_that_is_not_read_is_listed_among_others(kb: Collection, docs: Path) -> None:
    """As a shell's docs/* names them; alone it is an error, and so it is with `strict`."""
    paths = [write(docs / "a.md", "rivers"), write(docs / "b.xyz", "x")]
    done = ingest(kb, paths)
    assert done.added == 1
    assert done.failed[0].source == "b.xyz"
    with pytest.raises(InvalidInput, match="has the suffix"):
        ingest(kb, paths, strict=True)
    with pytest.raises(InvalidInput, match="has the suffix"):
        ingest(kb, paths[1])


def test_a_folder_that_may_not_be_read_is_listed(kb: Collection, docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing in it is pruned."""
    import os

    write(docs / "a.md", "rivers")
    write(docs / "closed/b.md", "lakes")
    ingest(kb, docs)
    real = os.scandir

    def scandir(path: Any) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)  # the tests may run as root, who may read everything
    done = ingest(kb, docs, prune=True)
    assert [(one.source, one.place) for one in done.failed] == [("docs/closed/", str(docs / "closed"))]
    assert sorted(texts(kb)) == ["docs/a.md", "docs/closed/b.md"]


# ── embedders that fail ──────────────────────────────────────────────────────────────────────────────────────────────


class Limited(TrigramEmbedder):
    """Takes so many calls, then raises what it is given, so many times."""

    def __init__(self, calls: int, error: Exception, times: int) -> None:
        super().__init__()
        self.calls, self.error, self.times = calls, error, times

    def embed_passages(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        if "The cat sat on the mat." in texts:  # the contract's own texts
            return super().embed_passages(texts)
        self.calls -= 1
        if self.calls < 0 < self.times:
            self.times -= 1
            raise self.error
        return super().embed_passages(texts)


class Busy(Exception):
    """What a client of a web service raises."""

    status_code = 429

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.response = SimpleNamespace(headers={"retry-after": "0"})


@pytest.mark.parametrize("error", [RetryLater("slow down", after=0.0), Busy("slow down")], ids=["ours", "http"])
def test_an_embedder_that_asks_for_it_is_called_again(
    path: Path, docs: Path, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """After the time that it names, and the log says so; the run ends as if nothing had been."""
    write_jsonl(docs / "a.jsonl", *({"text": f"text {i}"} for i in range(20)))
    with reperio.open(path, embedder=Limited(3, error, 3)) as kb:
        assert ingest(kb, docs, batch_size=5).added == 20
        require_ledger(kb)
    assert [record.message for record in caplog.records if "asked again in 0 s" in record.message]


def test_one_that_fails_for_good_leaves_what_is_stored(path: Path, docs: Path) -> None:
    """The error says how much that is, and the next run embeds the rest only."""
    for name in "abcd":
        write_jsonl(docs / f"{name}.jsonl", *({"text": f"{name} {i}"} for i in range(5)))
    embedder = Limited(2, ValueError("no more"), 10**6)
    with reperio.open(path, embedder=embedder) as kb:
        with pytest.raises(
            EmbedderFailed, match=r"no more \[stored by this run: 10 chunks, 1 file to the end; the next run goes"
        ):
            ingest(kb, docs, batch_size=5)
        assert kb.count() == 10
        embedder.times = 0
        embedder.embedded.clear()
        done = ingest(kb, docs, batch_size=5)
        assert (done.added, done.unchanged, len(embedder.embedded)) == (10, 10, 10)
        require_ledger(kb)


def test_one_that_never_has_time_is_an_error_at_last(path: Path, docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked a number of times, and its error is told with what is stored."""
    from reperio.ingestion.run import retrying

    monkeypatch.setattr(retrying, "ATTEMPTS", 3)
    write(docs / "a.md", "rivers")
    embedder = Limited(0, RetryLater("slow down", after=0.0), 10**6)
    with (
        reperio.open(path, embedder=embedder) as kb,
        pytest.raises(RetryLater, match=r"slow down \[nothing of this run is stored\]"),
    ):
        ingest(kb, docs)
    assert embedder.times == 10**6 - 3


# ── trials ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_dry_run_says_what_a_run_would_do(kb: Collection, path: Path, docs: Path) -> None:
    """In the same figures, of new, edited, renamed and vanished files; it writes nothing, and needs no right to."""
    for name in "abcde":
        table(docs / f"{name}.csv", x=f"{name} x", y=f"{name} y", z=f"{name} z")
    ingest(kb, docs)
    table(docs / "a.csv", x="a x", y="new", w="a w")
    (docs / "b.csv").rename(docs / "renamed.csv")
    (docs / "c.csv").unlink()
    write(docs / "f.md", "new")
    write(docs / "g.md", b"caf\xe9")
    before, records = contents(kb), [kb.records(f"reperio.ingest.{one}").list() for one in ("roots", "files", "chunks")]
    with reperio.open(path, embedder=TrigramEmbedder(), read_only=True) as reader:
        told = ingest(reader, docs, prune=True, dry_run=True)
    assert contents(kb) == before
    assert [kb.records(f"reperio.ingest.{one}").list() for one in ("roots", "files", "chunks")] == records
    assert told == ingest(kb, docs, prune=True)
    assert (told.added, told.updated, told.removed, told.renamed, len(told.failed)) == (5, 1, 7, 1, 1)


# ── scopes, handles, places ──────────────────────────────────────────────────────────────────────────────────────────


def test_each_scope_has_its_own_sources(path: Path, docs: Path) -> None:
    """Two tenants ingest a folder of one name: each gets the scope's field, and replaces nothing of the other."""
    for tenant in ("a", "b"):
        write(docs / tenant / "docs/x.md", f"words of {tenant}")
        with reperio.open(path, embedder=TrigramEmbedder(), scope={"tenant": tenant, "lang": {"$eq": "en"}}) as kb:
            assert ingest(kb, docs / tenant / "docs").added == 1
            assert ingest(kb, docs / tenant / "docs", prune=True).unchanged == 1
            assert [one.source for one in sources(kb)] == ["docs/x.md"]
    with reperio.open(path, embedder=TrigramEmbedder()) as kb:
        assert [dict(chunk.metadata) for chunk in kb] == [
            {"source": "docs/x.md", "tenant": tenant, "lang": "en"} for tenant in "ab"
        ]
        assert len(kb.search("words", k=5, where={"source": "docs/x.md"})) == 2


def test_an_item_of_another_scope_is_a_bad_file(path: Path, docs: Path) -> None:
    """Its own field says that it belongs elsewhere: it is not relabelled."""
    write_jsonl(docs / "a.jsonl", {"text": "mine"}, {"text": "theirs", "tenant": "b"})
    with reperio.open(path, embedder=TrigramEmbedder(), scope={"tenant": "a"}) as kb:
        (failed,) = ingest(kb, docs).failed
        assert failed.place.endswith("a.jsonl:2")
        assert "outside the scope" in failed.reason
        assert kb.count() == 0


def test_a_reader_is_refused_before_anything_is_read(path: Path, docs: Path) -> None:
    """A read-only handle cannot ingest, though it can try."""
    write(docs / "a.md", "rivers")
    reperio.open(path, embedder=TrigramEmbedder()).close()
    with reperio.open(path, embedder=TrigramEmbedder(), read_only=True) as reader:
        with pytest.raises(CollectionReadOnly):
            ingest(reader, docs)
        assert ingest(reader, docs, dry_run=True).added == 1


def test_a_collection_in_memory_is_ingested_into(docs: Path) -> None:
    """It has a ledger, too."""
    write(docs / "a.md", "rivers")
    with reperio.open(":memory:", embedder=TrigramEmbedder()) as kb:
        assert ingest(kb, docs).added == 1
        assert ingest(kb, docs).unchanged == 1


def test_a_backup_and_a_compaction_keep_the_ledger(path: Path, docs: Path, tmp_path: Path) -> None:
    """What is restored, compacted or embedded again is known as it was."""
    write(docs / "a.md", "rivers")
    with reperio.open(path, embedder=TrigramEmbedder()) as kb:
        ingest(kb, docs)
        kb.compact()
        kb.backup(tmp_path / "backup")
        kb.reembed(TrigramEmbedder(32, name="other"))
        assert ingest(kb, docs).unchanged == 1
    with reperio.open(tmp_path / "backup", embedder=TrigramEmbedder()) as kb:
        write(docs / "a.md", "lakes")
        assert ingest(kb, docs).removed == 1
        require_ledger(kb)


# ── several at once ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_two_runs_at_once_agree(path: Path, docs: Path) -> None:
    """Two handles ingest one folder at the same time: afterwards each chunk is there once, and the ledger is right."""
    for number in range(30):
        write_jsonl(docs / f"{number}.jsonl", *({"text": f"{number} text {i}"} for i in range(10)))
    errors: list[BaseException] = []

    def run() -> None:
        try:
            with reperio.open(path, embedder=TrigramEmbedder()) as kb:
                ingest(kb, docs, batch_size=16)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    with reperio.open(path, embedder=TrigramEmbedder()) as kb:
        done = ingest(kb, docs)
        assert (kb.count(), done.added, done.removed) == (300, 0, 0)
        require_ledger(kb)


def test_files_are_read_while_others_are_embedded(path: Path, docs: Path) -> None:
    """The first batch is not stored before the reading is some files ahead."""
    for number in range(20):
        write(docs / f"{number:02}.md", f"text {number}")
    reached = threading.Event()

    class Waiting(TrigramEmbedder):
        def embed_passages(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
            if any(text == "text 0" for text in texts):
                assert reached.wait(60)  # set by the reading of the last file
            return super().embed_passages(texts)

    import reperio.ingestion.run.steps as steps

    real = steps.read

    def read(file: Any, *rest: Any) -> Any:
        if file.source.endswith("19.md"):
            reached.set()
        return real(file, *rest)

    steps.read = read
    try:
        with reperio.open(path, embedder=Waiting()) as kb:
            assert ingest(kb, docs, batch_size=1).added == 20
    finally:
        steps.read = real


def test_what_a_library_makes_of_a_file_is_that_files_fault(
    kb: Collection, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of any kind is listed, with its kind, and the rest goes on."""
    import reperio.ingestion.run.steps as steps

    write(docs / "a.md", "rivers")
    write(docs / "b.md", "lakes")
    real = steps.read

    def read(file: Any, *rest: Any) -> Any:
        if file.source == "docs/a.md":
            raise ZeroDivisionError("by nought")
        return real(file, *rest)

    monkeypatch.setattr(steps, "read", read)
    done = ingest(kb, docs)
    assert [one.reason for one in done.failed] == ["ZeroDivisionError: by nought; mend the file, or exclude it"]
    assert done.added == 1


def test_what_is_empty_is_told_by_each_run(kb: Collection, docs: Path) -> None:
    """Also by one that does not read it again."""
    write(docs / "a.md", " \n")
    write_jsonl(docs / "b.jsonl", {"text": ""}, {"text": "words"})
    for _ in range(2):
        assert {one.source: one.reason for one in ingest(kb, docs).skipped} == {
            "docs/a.md": "is empty",
            "docs/b.jsonl": "has no text in 1 of its records (1)",
        }


def test_a_new_file_that_broke_off_and_vanished_leaves_nothing(path: Path, docs: Path) -> None:
    """What a failed run stored of it is found by the pruning of the next one."""
    write(docs / "first.md", "first")
    embedder = Limited(10**6, ValueError("no more"), 10**6)
    with reperio.open(path, embedder=embedder) as kb:
        ingest(kb, docs)
        new = write_jsonl(docs / "new.jsonl", *({"text": f"text {i}"} for i in range(6)))
        embedder.calls = 2
        with pytest.raises(EmbedderFailed):
            ingest(kb, docs, batch_size=2)
        assert kb.count() == 5
        new.unlink()
        embedder.times = 0
        assert ingest(kb, docs, prune=True).removed == 4
        assert texts(kb) == {"docs/first.md": ["first"]}
        require_ledger(kb)


def test_a_damaged_chunk_is_stored_again(path: Path, docs: Path) -> None:
    """A chunk that is not whole by its checksum makes its file be read again, unchanged as it is."""
    write(docs / "a.md", "rivers and lakes")
    write(docs / "b.md", "seas")
    with reperio.open(path, embedder=TrigramEmbedder(), auto_optimize=False) as kb:
        ingest(kb, docs)
    (database,) = path.rglob("chunks.db")
    database.write_bytes(database.read_bytes().replace(b"rivers and lakes", b"rivers and lakeS"))
    with reperio.open(path, embedder=TrigramEmbedder(), auto_optimize=False) as kb:
        done = ingest(kb, docs)
        assert (done.updated, done.unchanged) == (1, 1)
        assert texts(kb) == {"docs/a.md": ["rivers and lakes"], "docs/b.md": ["seas"]}

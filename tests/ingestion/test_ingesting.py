from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import reperio
from reperio import (
    Chunk,
    Collection,
    CollectionReadOnly,
    EmbedderFailed,
    InvalidChunk,
    InvalidInput,
    MissingDependency,
    SentenceTransformerEmbedder,
)
from reperio.ingestion import IngestResult, ingest
from tests.conftest import TrigramEmbedder

PARAGRAPHS = [f"Paragraph {i} is about the number {i * i}. " + f"It has digits {i}. " * 8 for i in range(6)]


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    return folder


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def write_jsonl(path: Path, *values: dict[str, Any]) -> Path:
    return write(path, "".join(json.dumps(value) + "\n" for value in values))


def paragraphs(*texts: str) -> str:
    return "\n\n".join(texts)


def ingest_paragraphs(kb: Collection, path: Path) -> IngestResult:
    """Ingest so that each of `PARAGRAPHS` is a chunk of its own."""
    return ingest(kb, path, max_tokens=220, overlap=0)


def changes(result: IngestResult) -> tuple[int, int, int, int, int]:
    return result.added, result.updated, result.unchanged, result.embedded, result.removed


def stored(kb: Collection) -> dict[str, Chunk]:
    return {chunk.id: chunk for chunk in kb}


def by_source(kb: Collection) -> dict[str, list[str]]:
    texts: dict[str, list[str]] = {}
    for chunk in kb:
        texts.setdefault(chunk.metadata["source"], []).append(chunk.text)
    return texts


# ── what is stored ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_format_is_stored_and_found(kb: Collection, docs: Path) -> None:
    """One folder with all five formats: each text is there with its source and fields, and a search finds it."""
    write(docs / "plain.txt", "Ships sail on the salty sea.")
    write(docs / "sub/page.md", "# Bread\n\nBakers knead dough.")
    write_jsonl(docs / "lines.jsonl", {"id": "j1", "text": "Volcanoes spit lava.", "year": 2024})
    write(docs / "table.csv", "id,text,lang\nc1,Violins have four strings.,en\n")
    pq.write_table(pa.table({"id": [9], "text": ["Glaciers move slowly."], "x": [1.5]}), docs / "rows.parquet")
    result = ingest(kb, docs)
    assert (result.files, *changes(result), len(result.skipped)) == (5, 5, 0, 0, 5, 0, 0)
    chunks = stored(kb)
    lines, table, rows = "docs/lines.jsonl", "docs/table.csv", "docs/rows.parquet"
    assert chunks[f"{lines}#j1"] == Chunk(
        f"{lines}#j1", "Volcanoes spit lava.", {"source": lines, "year": 2024, "id": "j1"}
    )
    assert chunks[f"{table}#c1"].metadata == {"source": table, "lang": "en", "id": "c1"}
    assert chunks[f"{rows}#9"].metadata == {"source": rows, "x": 1.5, "id": "9"}
    assert kb.search("salty sea ships", k=1)[0].chunk.metadata == {"source": "docs/plain.txt"}
    assert kb.search("knead bread dough", k=1)[0].chunk.metadata == {
        "source": "docs/sub/page.md",
        "headings": ["Bread"],
    }


def test_a_long_text_is_stored_in_pieces_with_their_places(kb: Collection, docs: Path) -> None:
    """Pieces have ids of their source and text, and say where they begin."""
    text = paragraphs(*PARAGRAPHS)
    ingest_paragraphs(kb, write(docs / "a.txt", text))
    chunks = list(kb)
    assert [chunk.text for chunk in chunks] == [part.strip() for part in PARAGRAPHS]
    assert all(re.fullmatch(r"a\.txt#[0-9a-f]{16}", chunk.id) for chunk in chunks)
    assert [chunk.metadata["start"] for chunk in chunks] == [text.index(part) for part in PARAGRAPHS]


def test_a_record_keeps_its_own_id(kb: Collection, docs: Path) -> None:
    """A record that fits has its id, behind its source; the pieces of a longer one begin with it."""
    long = {"id": "long", "text": paragraphs(*PARAGRAPHS[:2]), "lang": "en"}
    ingest_paragraphs(kb, write_jsonl(docs / "a.jsonl", {"id": "short", "text": "Few words."}, long))
    ids = list(stored(kb))
    assert ids[0] == "a.jsonl#short"
    assert all(re.fullmatch("a.jsonl#long#[0-9a-f]{16}", chunk_id) for chunk_id in ids[1:])
    assert len(ids) == 3
    assert all(stored(kb)[chunk_id].metadata["lang"] == "en" for chunk_id in ids[1:])


def test_a_text_that_occurs_again_is_stored_again(kb: Collection, docs: Path) -> None:
    """Equal texts of one source are numbered, those of another source have another id anyway."""
    write_jsonl(docs / "a.jsonl", {"text": "Same."}, {"text": "Other."}, {"text": "Same."}, {"text": " Same."})
    write(docs / "b.txt", "Same.")
    ingest(kb, docs)
    same = [chunk.id for chunk in kb if chunk.text == "Same."]
    stem = same[0]
    assert same[1:3] == [f"{stem}-2", f"{stem}-3"]
    assert same[3] == stem.replace("docs/a.jsonl", "docs/b.txt")


def test_ids_do_not_depend_on_the_place_of_the_folder(docs: Path, tmp_path: Path) -> None:
    """A moved folder yields the same chunks, so nothing is embedded again."""
    write(docs / "a.txt", paragraphs(*PARAGRAPHS))
    with reperio.open(tmp_path / "kb", embedder=TrigramEmbedder()) as kb:
        ingest(kb, docs)
        moved = docs.rename(write(tmp_path / "elsewhere/x.txt", "").parent / "docs")
        again = ingest(kb, moved)
    assert changes(again)[3:] == (0, 0)
    assert again.unchanged > 0


def test_what_has_no_text_is_reported(kb: Collection, docs: Path) -> None:
    """Empty files and records give no chunk; each file is named with the lines in question."""
    write(docs / "blank.txt", " \n\t\n")
    write(docs / "empty.md", "")
    write_jsonl(docs / "a.jsonl", *({"text": text} for text in ["one", "", None, " ", "five", "", "", "", ""]))
    result = ingest(kb, docs)
    assert result.added == 2
    assert {one.source: one.reason for one in result.skipped} == {
        "docs/a.jsonl": "has no text in 7 of its records (2, 3, 4, 6, 7, …)",
        "docs/blank.txt": "is empty",
        "docs/empty.md": "is empty",
    }


def test_progress_counts_what_is_durable(kb: Collection, docs: Path) -> None:
    """The callback hears of each batch after its commit, and of how many bytes that was, up to all of them."""
    write_jsonl(docs / "a.jsonl", *({"text": f"text {i}"} for i in range(25)))
    heard: list[tuple[str, int, int | None, int]] = []
    ingest(kb, docs, batch_size=10, progress=lambda *args: heard.append((*args, kb.count())))
    assert [one for one in heard if one[0] == "add"] == [
        ("add", 10, None, 10), ("add", 20, None, 20), ("add", 25, None, 25),
    ]  # fmt: skip
    size = (docs / "a.jsonl").stat().st_size
    bytes_read = [done for stage, done, total, _ in heard if stage == "ingest" and total == size]
    assert bytes_read == sorted(bytes_read)
    assert bytes_read[-1] == size


# ── again ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_second_run_does_nothing(kb: Collection, embedder: TrigramEmbedder, docs: Path) -> None:
    """Unchanged files are neither embedded nor written."""
    write(docs / "a.txt", paragraphs(*PARAGRAPHS))
    write_jsonl(docs / "b.jsonl", {"id": 1, "text": "one", "m": [1, {"x": None}]}, {"text": "two"}, {"text": "two"})
    first = ingest_paragraphs(kb, docs)
    before, rows = stored(kb), kb.info().deleted
    embedder.embedded.clear()
    assert changes(ingest_paragraphs(kb, docs)) == (0, 0, first.added, 0, 0)
    assert embedder.embedded == []
    assert (stored(kb), kb.info().deleted) == (before, rows)


def test_an_edited_paragraph_alone_is_embedded(kb: Collection, embedder: TrigramEmbedder, docs: Path) -> None:
    """One paragraph rewritten at the same length: one text embedded, its old chunk gone, the others untouched."""
    path = write(docs / "a.txt", paragraphs(*PARAGRAPHS))
    ingest_paragraphs(kb, docs)
    edited = PARAGRAPHS.copy()
    edited[2] = edited[2].replace("digits", "cyphre")
    path.write_text(paragraphs(*edited))
    embedder.embedded.clear()
    assert changes(ingest_paragraphs(kb, docs)) == (1, 0, 5, 1, 1)
    assert embedder.embedded == [edited[2].strip()]
    assert sorted(chunk.text for chunk in kb) == sorted(part.strip() for part in edited)


def test_a_removed_paragraph_is_deleted(kb: Collection, docs: Path) -> None:
    """A paragraph cut out goes; those behind it keep their vectors and only learn their new place."""
    path = write(docs / "a.txt", paragraphs(*PARAGRAPHS))
    ingest_paragraphs(kb, docs)
    rest = PARAGRAPHS[:1] + PARAGRAPHS[2:]
    path.write_text(paragraphs(*rest))
    assert changes(ingest_paragraphs(kb, docs)) == (0, 4, 1, 0, 1)
    found = sorted(kb, key=lambda chunk: int(chunk.metadata["start"]))
    assert [chunk.text for chunk in found] == [part.strip() for part in rest]
    assert [chunk.metadata["start"] for chunk in found] == [paragraphs(*rest).index(part) for part in rest]


def test_a_file_emptied_loses_its_chunks(kb: Collection, docs: Path) -> None:
    """A file that is still there but holds nothing any more leaves nothing behind."""
    path = write(docs / "a.txt", "words")
    write(docs / "b.txt", "more words")
    ingest(kb, docs)
    path.write_text("")
    assert ingest(kb, docs).removed == 1
    assert by_source(kb) == {"docs/b.txt": ["more words"]}


def test_a_vanished_file_stays_until_pruned(kb: Collection, docs: Path) -> None:
    """Chunks of a deleted file are kept, and deleted with `prune`; other folders' are never touched."""
    write(docs / "a.txt", "words")
    gone = write(docs / "sub/b.txt", "more words")
    other = write(docs.parent / "docs2/c.txt", "other words").parent
    ingest(kb, [docs, other])
    kb.add([Chunk("mine", "by hand"), Chunk("odd", "odd source", {"source": ["docs/"]})])
    gone.unlink()
    assert ingest(kb, docs).removed == 0
    assert kb.count() == 5
    assert ingest(kb, docs, prune=True).removed == 1
    assert sorted(stored(kb), key=len)[:2] == ["odd", "mine"]
    assert {chunk.text for chunk in kb} == {"words", "other words", "by hand", "odd source"}


def test_a_record_that_grows_or_moves_is_there_once(kb: Collection, docs: Path) -> None:
    """A record split since, and one moved to another file, leave no older chunk and lose none."""
    write_jsonl(docs / "a.jsonl", {"id": "grows", "text": "small"}, {"id": "moves", "text": "moving"})
    write_jsonl(docs / "b.jsonl", {"id": "stays", "text": "staying"})
    ingest_paragraphs(kb, docs)
    write_jsonl(docs / "a.jsonl", {"id": "grows", "text": paragraphs(*PARAGRAPHS[:2])})
    write_jsonl(docs / "b.jsonl", {"id": "stays", "text": "staying"}, {"id": "moves", "text": "moving"})
    assert ingest_paragraphs(kb, docs).removed == 2
    ids = sorted(stored(kb))
    assert [chunk_id.split("#")[1] for chunk_id in ids] == ["grows", "grows", "moves", "stays"]
    assert stored(kb)["docs/b.jsonl#moves"].metadata["source"] == "docs/b.jsonl"


def test_many_stale_chunks_are_deleted(kb: Collection, docs: Path) -> None:
    """More than one block of deletions: all of them go."""
    path = write_jsonl(docs / "a.jsonl", *({"text": f"text {i}"} for i in range(2500)))
    ingest(kb, docs)
    write_jsonl(path, {"text": "text 7"})
    assert ingest(kb, docs).removed == 2499
    assert [chunk.text for chunk in kb] == ["text 7"]


class FailingEmbedder(TrigramEmbedder):
    """Fails at a text with the word "poison", as a model does on a machine that runs out of memory."""

    def embed_passages(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        if any("poison" in text for text in texts):
            raise EmbedderFailed("out of memory")
        return super().embed_passages(texts)


def test_a_broken_run_loses_no_document_and_the_next_completes_it(path: Path, docs: Path) -> None:
    """A run that fails half way leaves each document old or new; once the cause is gone, the rest is done."""
    write(docs / "a.txt", "old a")
    write(docs / "b.txt", "old b")
    with reperio.open(path, embedder=FailingEmbedder()) as kb:
        ingest(kb, docs)
        write(docs / "a.txt", "new a")
        write(docs / "b.txt", "poison")
        with pytest.raises(EmbedderFailed, match=r"out of memory \[stored by this run: 1 chunk, . file"):
            ingest(kb, docs, batch_size=1)
        assert {chunk.text for chunk in kb} >= {"old b", "new a"}
        write(docs / "b.txt", "new b")
        ingest(kb, docs)
        assert {chunk.text for chunk in kb} == {"new a", "new b"}


# ── refused ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("long", [False, True])
def test_two_records_of_one_file_and_id_are_refused(kb: Collection, docs: Path, long: bool) -> None:
    """The error names both places, whether the records are whole or one of them is split."""
    text = paragraphs(*PARAGRAPHS) if long else "second"
    write(docs / "b.csv", f'id,text\nx,fine\nx,"{text}"\n')
    with pytest.raises(InvalidInput, match=r"/b\.csv:2 and .*/b\.csv:3 have the same id 'x'"):
        ingest(kb, docs, max_tokens=220, overlap=0, strict=True)
    assert kb.count() == 0


def test_a_bad_file_leaves_what_was_there(kb: Collection, docs: Path) -> None:
    """With `strict`, an undecodable file stops the run with its name; the chunks of all files are still there."""
    write(docs / "a.txt", "old")
    ingest(kb, docs)
    write(docs / "a.txt", "new")
    (docs / "b.txt").write_bytes(b"caf\xe9")
    with pytest.raises(InvalidInput, match=r"docs/b\.txt: byte 0xe9 at offset 3"):
        ingest(kb, docs, prune=True, strict=True)
    assert [chunk.text for chunk in kb] == ["old"]


def test_metadata_that_json_cannot_keep_is_refused(kb: Collection, docs: Path) -> None:
    """A number beyond 64 bits would come back as another one: its line is named, and its chunk."""
    write_jsonl(docs / "a.jsonl", {"id": "x", "text": "a", "n": 2**80})
    with pytest.raises(InvalidChunk, match=r"a\.jsonl:1: .*#x'"):
        ingest(kb, docs, strict=True)


@pytest.mark.parametrize("prune", [False, True])
def test_a_missing_folder_is_refused_before_anything_happens(kb: Collection, docs: Path, prune: bool) -> None:
    """A mistyped folder is an error, not an empty one whose chunks could be pruned."""
    write(docs / "a.txt", "words")
    ingest(kb, docs)
    write(docs / "a.txt", "new words")
    with pytest.raises(InvalidInput, match="does not exist"):
        ingest(kb, [docs, docs.parent / "dosc"], prune=prune)
    assert [chunk.text for chunk in kb] == ["words"]


def test_pruning_by_an_empty_folder_is_refused(kb: Collection, docs: Path) -> None:
    """A folder without any file, such as a disk that is not mounted, does not wipe what came from it."""
    path = write(docs / "a.txt", "words")
    ingest(kb, docs)
    path.unlink()
    with pytest.raises(InvalidInput, match="prune would delete everything"):
        ingest(kb, docs, prune=True)
    assert ingest(kb, docs).files == 0
    assert kb.count() == 1


def test_a_collection_without_embedder_is_refused(tmp_path: Path, docs: Path) -> None:
    """A collection of ready vectors cannot take texts, and says what to do."""
    write(docs / "a.txt", "words")
    with (
        reperio.open(tmp_path / "vectors", dimension=8) as kb,
        pytest.raises(InvalidInput, match="has no embedder, so texts cannot be ingested"),
    ):
        ingest(kb, docs)


def test_a_read_only_collection_is_refused(kb: Collection, path: Path, embedder: TrigramEmbedder, docs: Path) -> None:
    """Through a read-only handle nothing is ingested."""
    write(docs / "a.txt", "words")
    with reperio.open(path, embedder=embedder, read_only=True) as reader, pytest.raises(CollectionReadOnly):
        ingest(reader, docs)
    assert kb.count() == 0


def test_one_field_cannot_be_text_and_id(kb: Collection, docs: Path) -> None:
    """Naming the same field twice is an error before anything is read."""
    with pytest.raises(InvalidInput, match="both 'body'"):
        ingest(kb, docs, text_field="body", id_field="body")


def test_a_missing_library_is_told_with_the_command(
    kb: Collection, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the library of a format, the error holds the pip command; nothing is stored."""
    path = docs / "a.parquet"
    pq.write_table(pa.table({"text": ["words"]}), path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependency, match=r"pip install 'reperio\[ingest\]'"):
        ingest(kb, path, strict=True)
    assert kb.count() == 0
    monkeypatch.undo()
    assert ingest(kb, path).added == 1


# ── with the real model ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.model
def test_documents_are_found_by_meaning(tmp_path: Path, docs: Path, minilm: SentenceTransformerEmbedder) -> None:
    """With MiniLM, a question in other words finds the right piece of a long document, no piece being cut off."""
    filler = [f"Clause {i} of the terms of delivery concerns invoices, customs and freight rates." for i in range(80)]
    reset = "If you no longer know your secret word, open the account page and have a new one sent by mail."
    write(docs / "terms.md", "# Terms\n\n" + "\n\n".join([*filler[:40], reset, *filler[40:]]))
    with reperio.open(tmp_path / "kb", embedder=minilm) as kb:
        result = ingest(kb, docs)
        assert result.added > 3
        hit = kb.search("how do I reset my password", k=1)[0]
        assert reset in hit.chunk.text
        assert minilm.tokenizer is not None
        assert all(len(minilm.tokenizer.encode(chunk.text).ids) <= minilm.max_tokens for chunk in kb)
        assert changes(ingest(kb, docs)) == (0, 0, result.added, 0, 0)

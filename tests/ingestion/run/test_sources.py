"""Whose chunk is it: names of sources, clashes, renames, and what is not ingestion's."""

from __future__ import annotations

import shutil
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest

import reperio
from reperio import Chunk, Collection, InvalidInput
from reperio.ingestion import ReadingOptions, Skipped, ingest, sources
from reperio.ingestion.ledger.records import Ledger
from tests.conftest import TrigramEmbedder
from tests.ingestion.folders import contents, require_ledger, table, texts, write

WORDS = "One sentence about rivers. " * 12


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return tmp_path / "here"


# ── two sources ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_two_tables_with_the_same_ids_are_kept_apart(kb: Collection, here: Path) -> None:
    """Ids are a table's own: neither replaces the other's rows, and each row has its id in its metadata."""
    ingest(kb, table(here / "orders.csv", **{"1": "a red bicycle", "2": "a lamp"}))
    done = ingest(kb, table(here / "people.csv", **{"1": "Ada", "2": "Grace"}))
    assert (done.added, done.updated) == (2, 0)
    assert texts(kb) == {"orders.csv": ["a lamp", "a red bicycle"], "people.csv": ["Ada", "Grace"]}
    (ada,) = kb.get(where={"id": "1", "source": "people.csv"})
    assert (ada.id, ada.text) == ("people.csv#1", "Ada")
    require_ledger(kb)


def test_a_name_with_the_sign_that_ends_it_is_no_other_source(kb: Collection, here: Path) -> None:
    """Ids of `a` never look like those of a file `a#b`, whatever the items call themselves."""
    table(here / "a", **{"b.csv#x": "first"}).rename(here / "a.csv")
    table(here / "a.csv#b.csv", x="second")
    ingest(kb, [here / "a.csv", here / "a.csv#b.csv"])
    assert sorted(texts(kb)) == ["a.csv", "a.csv#b.csv"]
    assert kb.count() == 2


@pytest.mark.parametrize("kind", ["docs/a.md", "README.md"])
def test_another_thing_of_the_same_name_is_refused_with_the_cure(kb: Collection, here: Path, kind: str) -> None:
    """Two folders `docs`, two files `README.md`: the second is refused, and its own name lets both stay."""
    for project, words in (("one", "rivers"), ("two", "mountains")):
        write(here / project / kind, words)
    first, second = (here / project / Path(kind).parts[0] for project in ("one", "two"))
    ingest(kb, first)
    before = contents(kb)
    with pytest.raises(InvalidInput, match=r"would replace them.*name='…' \(--name\)"):
        ingest(kb, second)
    assert contents(kb) == before
    ingest(kb, second, name="other")
    assert sorted(text for several in texts(kb).values() for text in several) == ["mountains", "rivers"]
    assert {source.partition("/")[0] for source in texts(kb)} == {Path(kind).parts[0], "other"}
    ingest(kb, second)  # it is known by the name that it was given
    assert kb.count() == 2


def test_a_name_may_be_the_one_it_had(kb: Collection, embedder: TrigramEmbedder, here: Path) -> None:
    """A copy elsewhere is the same folder if its name is said again; nothing is embedded again."""
    write(here / "docs/a.md", WORDS)
    ingest(kb, here / "docs")
    shutil.copytree(here / "docs", here / "clone/docs")
    with pytest.raises(InvalidInput, match="moved or copied, pass name='docs'"):
        ingest(kb, here / "clone/docs")
    embedder.embedded.clear()
    done = ingest(kb, here / "clone/docs", name="docs")
    assert (done.added, done.removed, embedder.embedded) == (0, 0, [])
    assert done.notes == (Skipped("docs", f"was at {here}/docs, and is at {here}/clone/docs now"),)
    assert ingest(kb, here / "clone/docs").notes == ()


def test_a_folder_moved_is_known_again(kb: Collection, embedder: TrigramEmbedder, here: Path) -> None:
    """Where the old place is gone and the content is mostly the same, nothing need be said."""
    for name in "abc":
        write(here / f"docs/{name}.md", f"{name} {WORDS}")
    ingest(kb, here / "docs")
    (here / "else").mkdir()
    (here / "docs").rename(here / "else/docs")
    write(here / "else/docs/a.md", "something new")
    embedder.embedded.clear()
    done = ingest(kb, here / "else/docs")
    assert embedder.embedded == ["something new"]
    assert done.notes
    require_ledger(kb)


def test_another_folder_in_place_of_a_vanished_one_is_refused(kb: Collection, here: Path) -> None:
    """That the old one is gone does not make another folder the same."""
    write(here / "docs/a.md", "rivers")
    ingest(kb, here / "docs")
    shutil.rmtree(here / "docs")
    write(here / "else/docs/a.md", "mountains")
    with pytest.raises(InvalidInput, match="would replace them"):
        ingest(kb, here / "else/docs")


@pytest.mark.parametrize("name", ["", " / ", "a\0b", 5])
def test_a_name_is_a_text(kb: Collection, here: Path, name: object) -> None:
    """An empty name, or none, is refused before anything is stored."""
    write(here / "docs/a.md", "rivers")
    with pytest.raises(InvalidInput, match="name is"):
        ingest(kb, here / "docs", name=name)  # type: ignore[arg-type]  # that is the test
    with pytest.raises(InvalidInput, match="for 2 paths"):
        ingest(kb, [here / "docs", here], name="both")


# ── one source, by several ways ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("order", [["docs", "docs/a.md"], ["docs/a.md", "docs"], ["docs/sub", "docs", "."]])
def test_a_file_that_is_reached_in_several_ways_is_stored_once(kb: Collection, here: Path, order: list[str]) -> None:
    """By itself, by its folder, by the folder above: the name it had first holds, and there are no duplicates."""
    for name in ("docs/a.md", "docs/sub/b.md", "c.md"):
        write(here / name, f"About {name}.")
    for path in [*order, *order]:
        ingest(kb, here / path)
    everything = sorted(text for several in texts(kb).values() for text in several)
    assert everything == sorted(set(everything))
    assert len(everything) == (3 if "." in order else 2)
    require_ledger(kb)


def test_a_part_of_a_known_folder_is_no_source_of_its_own(kb: Collection, here: Path) -> None:
    """Giving it another name would store every chunk twice."""
    write(here / "docs/sub/a.md", "rivers")
    ingest(kb, here / "docs")
    for path in ("docs", "docs/sub", "docs/sub/a.md"):
        with pytest.raises(InvalidInput, match="is ingested already, as 'docs"):
            ingest(kb, here / path, name="other")


def test_a_link_is_the_folder_it_leads_to(kb: Collection, here: Path) -> None:
    """A folder is known again through a link to it; a link that was ingested may lead elsewhere later."""
    write(here / "docs/a.md", "rivers")
    write(here / "v2/a.md", "mountains")
    ingest(kb, here / "docs")
    (here / "link").symlink_to(here / "docs")
    assert ingest(kb, here / "link").added == 0
    (here / "current").symlink_to(here / "v2")
    ingest(kb, here / "current")
    (here / "current").unlink()
    write(here / "v3/a.md", "seas")
    (here / "current").symlink_to(here / "v3")
    assert ingest(kb, here / "current").added == 1
    assert texts(kb) == {"docs/a.md": ["rivers"], "current/a.md": ["seas"]}


@pytest.mark.parametrize("suffix", [".md", ".txt", ".csv", ".jsonl"])
def test_line_ends_and_composed_letters_make_no_other_file(
    kb: Collection, embedder: TrigramEmbedder, here: Path, suffix: str
) -> None:
    """A file as another system writes it, CRLF for LF, NFD for NFC, is the same: nothing is written."""
    lines = {".csv": "id,text\n1,rivers and\n2,seas\n", ".jsonl": '{"text": "rivers"}\n{"text": "seas"}\n'}
    text = lines.get(suffix, "# Rivers\n\nThey flow\nto the sea.\n")
    write(here / f"docs/caf{unicodedata.normalize('NFC', 'é')}{suffix}", text)
    ingest(kb, here / "docs")
    before = contents(kb)
    shutil.rmtree(here / "docs")
    write(here / f"docs/caf{unicodedata.normalize('NFD', 'é')}{suffix}", text.replace("\n", "\r\n"))
    embedder.embedded.clear()
    done = ingest(kb, here / "docs", prune=True)
    assert (done.added, done.updated, done.removed, embedder.embedded) == (0, 0, 0, [])
    assert contents(kb) == before
    again = ingest(kb, here / "docs", rechunk=True)  # nor when it is read
    assert (again.added, again.updated, contents(kb)) == (0, 0, before)


# ── what is ingestion's ──────────────────────────────────────────────────────────────────────────────────────────────


def test_what_a_program_added_is_left_alone(kb: Collection, here: Path) -> None:
    """A chunk with the source of a file is no chunk of the file: no run deletes it, not even one that prunes."""
    path = write(here / "docs/a.md", "rivers")
    write(here / "docs/b.md", "lakes")
    ingest(kb, here / "docs")
    kb.add([Chunk("mine", "a note", {"source": "docs/a.md"}), Chunk("docs/a.md#mine", "another", {})])
    path.write_text("streams")
    ingest(kb, here / "docs", prune=True)
    path.unlink()
    ingest(kb, here / "docs", prune=True)
    assert {chunk.text for chunk in kb} == {"a note", "another", "lakes"}


def test_chunks_that_a_program_deleted_come_back(kb: Collection, here: Path) -> None:
    """A file whose chunks are not all there is read again, though it is unchanged."""
    write(here / "docs/a.md", "rivers")
    write(here / "docs/b.md", "lakes")
    ingest(kb, here / "docs")
    kb.delete(where={"source": "docs/a.md"})
    assert ingest(kb, here / "docs").added == 1
    require_ledger(kb)


def test_an_unchanged_file_is_not_read(kb: Collection, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither split nor decoded: only its content is compared, and not even that where the file system vouches."""
    import reperio.ingestion.run.steps as steps

    write(here / "docs/a.md", WORDS)
    first = ingest(kb, here / "docs")
    monkeypatch.setattr(steps, "read", lambda *_: pytest.fail("read"))
    again = ingest(kb, here / "docs")
    assert (again.files, again.unchanged) == (1, first.added)


def test_what_the_version_before_stored_is_taken_over(kb: Collection, embedder: TrigramEmbedder, here: Path) -> None:
    """Chunks whose ids hold the hash of their text are ingestion's, without a ledger, and not embedded again."""
    for name in ("a.md", "b.md"):
        write(here / "docs" / name, f"about {name}")
    ingest(kb, here / "docs")
    for space in ("roots", "files", "chunks"):
        records = kb.records(f"reperio.ingest.{space}")
        records.delete([record.key for record in records.list()])
    kb.add([Chunk("mine", "a note", {"source": "docs/a.md"})])
    (here / "docs/b.md").unlink()
    embedder.embedded.clear()
    done = ingest(kb, here / "docs", prune=True)
    assert (done.unchanged, done.removed, embedder.embedded) == (1, 1, [])
    assert {chunk.text for chunk in kb} == {"about a.md", "a note"}


def test_sources_are_listed(kb: Collection, here: Path) -> None:
    """Each file with where it was, and the number of its chunks."""
    write(here / "docs/sub/a.md", "rivers")
    table(here / "t.csv", a="x", b="y")
    ingest(kb, [here / "docs", here / "t.csv"])
    assert [(one.source, one.path, one.chunks) for one in sources(kb)] == [
        ("docs/sub/a.md", str(here / "docs/sub/a.md"), 1),
        ("t.csv", str(here / "t.csv"), 2),
    ]


# ── renamed ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_renamed_file_takes_its_chunks_along(kb: Collection, embedder: TrigramEmbedder, here: Path) -> None:
    """Under its new name it has the vectors it had; the old name is gone, without `prune`."""
    path = write(here / "docs/old.md", WORDS)
    ingest(kb, here / "docs", max_tokens=120)
    vectors = {chunk.text: kb.vectors([chunk.id]).tobytes() for chunk in kb}
    path.rename(here / "docs/new.md")
    embedder.embedded.clear()
    done = ingest(kb, here / "docs")
    assert (done.renamed, done.embedded, embedder.embedded) == (1, 0, [])
    assert list(texts(kb)) == ["docs/new.md"]
    assert {chunk.text: kb.vectors([chunk.id]).tobytes() for chunk in kb} == vectors
    require_ledger(kb)


@pytest.mark.parametrize("way", ["folder", "file", "into"])
def test_what_is_renamed_may_be_a_part_of_a_folder_or_a_file(
    kb: Collection, embedder: TrigramEmbedder, here: Path, way: str
) -> None:
    """A folder in another, a file that was named itself, a file that moved into a folder: none is embedded."""
    names = {"folder": ("docs/old/a.md", "docs/new/a.md"), "file": ("a.md", "b.md"), "into": ("a.md", "docs/sub/a.md")}[
        way
    ]
    write(here / names[0], "rivers")
    ingest(kb, here / Path(names[0]).parts[0])
    (here / names[1]).parent.mkdir(parents=True, exist_ok=True)
    (here / names[0]).rename(here / names[1])
    embedder.embedded.clear()
    done = ingest(kb, here / Path(names[1]).parts[0])
    assert (done.renamed, embedder.embedded, list(texts(kb))) == (1, [], [names[1]])
    require_ledger(kb)


def test_a_copy_is_not_embedded_and_takes_nothing_away(kb: Collection, embedder: TrigramEmbedder, here: Path) -> None:
    """A second file of the same content has chunks of its own, with the vectors of the first."""
    shutil.copy(write(here / "docs/a.md", "rivers"), here / "docs/b.md")
    ingest(kb, here / "docs/a.md")
    embedder.embedded.clear()
    done = ingest(kb, here / "docs")
    assert (done.added, done.renamed, embedder.embedded) == (1, 0, [])
    assert kb.count() == 2


def test_files_that_change_names_are_not_mixed_up(kb: Collection, here: Path) -> None:
    """Two files that swap their names, and two of one content of which one is gone."""
    a, b = write(here / "docs/a.md", "rivers"), write(here / "docs/b.md", "lakes")
    ingest(kb, here / "docs")
    a.rename(here / "c")
    b.rename(a)
    (here / "c").rename(b)
    ingest(kb, here / "docs")
    assert texts(kb) == {"docs/a.md": ["lakes"], "docs/b.md": ["rivers"]}
    for name in ("x.md", "y.md"):
        write(here / "docs" / name, "same")
    ingest(kb, here / "docs")
    for name in ("x.md", "y.md"):
        (here / "docs" / name).rename(here / "docs" / f"new-{name}")
    assert ingest(kb, here / "docs").renamed == 2
    assert sorted(texts(kb)) == ["docs/a.md", "docs/b.md", "docs/new-x.md", "docs/new-y.md"]
    require_ledger(kb)


def test_a_file_on_a_disk_that_is_not_there_is_not_renamed(kb: Collection, here: Path, tmp_path: Path) -> None:
    """Where the folder above a root is gone too, its files may be on another disk or machine: they stay."""
    write(here / "mount/docs/a.md", "rivers")
    ingest(kb, here / "mount/docs")
    (here / "mount").rename(tmp_path / "unmounted")
    write(here / "other/b.md", "rivers")
    assert ingest(kb, here / "other").renamed == 0
    assert sorted(texts(kb)) == ["docs/a.md", "other/b.md"]


# ── options ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_options_hold_until_they_are_changed_on_purpose(kb: Collection, here: Path) -> None:
    """Left out, they are as before; another value is refused with both cures; `rechunk` splits all files again."""
    write(here / "docs/a.md", WORDS)
    write(here / "docs/b.md", WORDS.replace("rivers", "lakes"))
    first = ingest(kb, here / "docs", max_tokens=120, overlap=0)
    assert ingest(kb, here / "docs").unchanged == first.added
    write(here / "docs/c.md", WORDS.replace("rivers", "seas"))
    assert ingest(kb, here / "docs").added * 2 == first.added  # split as the others were
    before = contents(kb)
    with pytest.raises(InvalidInput, match=r"with max-tokens 120, and 60 is.*leave max_tokens.*rechunk=True"):
        ingest(kb, here / "docs", max_tokens=60)
    assert contents(kb) == before
    ingest(kb, here / "docs", max_tokens=60, rechunk=True)
    assert max(len(chunk.text) for chunk in kb) <= 60
    require_ledger(kb)


def test_options_are_those_of_a_source(kb: Collection, here: Path) -> None:
    """Each root has its own, also where another is ingested with it, or lies in it."""
    write(here / "docs/a.md", WORDS)
    write(here / "t.csv", "key,body\n1,rivers\n")
    ingest(kb, here / "docs", max_tokens=60, overlap=0)
    ingest(kb, here / "t.csv", text_field="body", id_field="key")
    before = contents(kb)
    done = ingest(kb, [here / "docs", here / "t.csv"], rechunk=True)
    assert (done.added, done.removed) == (0, 0)
    assert contents(kb) == before
    ingest(kb, here, rechunk=True)
    assert contents(kb) == before


def test_metadata_is_kept_and_may_be_changed(kb: Collection, embedder: TrigramEmbedder, here: Path) -> None:
    """Given once it holds; given again it replaces what was given, on all chunks, without embedding."""
    table(here / "t.csv", a="x")
    ingest(kb, here / "t.csv", metadata={"team": "sales", "id": "hidden"})
    assert kb.get("t.csv#a").metadata == {"source": "t.csv", "team": "sales", "id": "hidden"}
    table(here / "t.csv", a="x", b="y")
    ingest(kb, here / "t.csv")
    assert kb.count(where={"team": "sales"}) == 2
    embedder.embedded.clear()
    done = ingest(kb, here / "t.csv", metadata={"team": "support"})
    assert (done.updated, embedder.embedded, kb.count(where={"team": "support"})) == (2, [], 2)
    with pytest.raises(InvalidInput, match="metadata has 'source'"):
        ingest(kb, here / "t.csv", metadata={"source": "x"})


def test_no_file_overrules_what_is_given_for_all(kb: Collection, here: Path) -> None:
    """Who may read a file is not for the file to say: the metadata that was given holds, and the notes say so."""
    write(here / "docs/a.md", "---\nteam: board\npage: 7\n---\nrivers")
    table(here / "docs/t.csv", a="x")
    done = ingest(kb, here / "docs", metadata={"team": "sales", "page": 1})
    assert {(chunk.metadata["team"], chunk.metadata["page"]) for chunk in kb} == {("sales", 1)}
    (note,) = done.notes
    assert (note.source, note.reason[:24]) == ("docs/a.md", "has 'page', 'team' itsel")
    with pytest.raises(InvalidInput, match="metadata has 'headings'"):
        ingest(kb, here / "docs", metadata={"headings": ["x"]})


def test_metadata_outside_the_scope_is_not_recorded(path: Path, embedder: TrigramEmbedder, here: Path) -> None:
    """It is refused before anything is stored, and the next run goes on; what an older run has recorded yields."""
    write(here / "docs/a.md", "rivers")
    with reperio.open(path, embedder=embedder, scope={"tenant": "acme"}) as kb:
        with pytest.raises(InvalidInput, match="'tenant' as 'other', and the scope of this handle demands 'acme'"):
            ingest(kb, here / "docs", metadata={"tenant": "other"})
        assert ingest(kb, here / "docs", metadata={"team": "x"}).added == 1
        ledger = Ledger(kb)
        ledger.put_roots([replace(one, metadata={"tenant": "other"}) for one in ledger.roots().values()])
        write(here / "docs/b.md", "lakes")
        assert ingest(kb, here / "docs").complete
        assert ingest(kb, here / "docs", metadata={}).complete
    with reperio.open(path, embedder=embedder, scope={"tenant": {"$in": ["a", "b"]}}) as kb:
        with pytest.raises(InvalidInput, match="outside the scope"):
            ingest(kb, here / "docs", metadata={"tenant": "c"})
        assert ingest(kb, here / "docs", metadata={"tenant": "a"}).added == 2


def test_options_of_a_pattern_are_not_those_of_its_folder(kb: Collection, here: Path) -> None:
    """They hold for patterns until the whole folder is ingested, which has its own, and the notes say which ended."""
    write(here / "docs/a.md", WORDS)
    some = ingest(kb, here / "docs/*.md", max_tokens=60, overlap=0, metadata={"team": "x"})
    assert ingest(kb, here / "docs/*.md").unchanged == some.added
    write(here / "docs/b.txt", "lakes")
    done = ingest(kb, here / "docs")
    assert "--max-tokens, --overlap, --metadata" in done.notes[0].reason
    assert max(len(chunk.text) for chunk in kb) > 60
    assert kb.count(where={"team": "x"}) == 0
    with pytest.raises(InvalidInput, match="for a part of docs"):
        ingest(kb, here / "docs/*.md", max_tokens=60)
    assert ingest(kb, here / "docs").notes == ()
    require_ledger(kb)


def test_another_embedder_with_another_capacity_is_told(path: Path, here: Path) -> None:
    """Chunks that fit the embedder before are not silently mixed with others."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]  # as its documentation does
    embedder = TrigramEmbedder()
    embedder.tokenizer, embedder.max_tokens = tokenizer, 64  # type: ignore[attr-defined]  # what embedders may have
    write(here / "docs/a.md", WORDS)
    with reperio.open(path, embedder=embedder) as kb:
        ingest(kb, here / "docs")
    embedder.max_tokens = 32  # type: ignore[attr-defined]  # likewise
    with reperio.open(path, embedder=embedder) as kb:
        with pytest.raises(InvalidInput, match=r"pieces of 64 for another embedder.*32.*--rechunk"):
            ingest(kb, here / "docs")
        ingest(kb, here / "docs", rechunk=True)
        require_ledger(kb)


def test_options_of_reading_hold_too(kb: Collection, here: Path) -> None:
    """Given as `ReadingOptions`, what differs from the defaults counts; given as a dictionary, all of it."""
    path = write(here / "t.csv", "key|body|x\n1|rivers|a\n")
    options = ReadingOptions(text="body", id="key", delimiter="|", drop=("x",))
    ingest(kb, path, reading=options)
    assert kb.get("t.csv#1").metadata == {"source": "t.csv", "key": "1"}
    write(path, "key|body|x\n1|rivers|a\n2|lakes|b\n")
    assert ingest(kb, path).added == 1
    assert ingest(kb, path, reading=options).unchanged == 2
    with pytest.raises(InvalidInput, match=r"drop-columns 'x', and nothing is.*leave drop= \(--drop-columns\)"):
        ingest(kb, path, reading={"drop": ()})
    done = ingest(kb, path, reading={"drop": (), "id": None}, rechunk=True)
    assert (done.added, done.removed) == (2, 2)
    assert {chunk.metadata["x"] for chunk in kb} == {"a", "b"}
    with pytest.raises(InvalidInput, match="no option 'delimeter'; did you mean 'delimiter'"):
        ingest(kb, path, reading={"delimeter": ";"})
    with pytest.raises(InvalidInput, match="both 'body'"):
        ingest(kb, path, id_field="body", rechunk=True)


def test_a_copy_under_another_heading_is_embedded_with_it(
    kb: Collection, embedder: TrigramEmbedder, here: Path
) -> None:
    """The vector of a renamed file is taken only where what was embedded is the same, context and all."""
    write(here / "docs/a.md", "---\ntitle: Rivers\n---\nThey flow.")
    ingest(kb, here / "docs")
    (here / "docs/a.md").rename(here / "docs/b.md")
    embedder.embedded.clear()
    assert ingest(kb, here / "docs").renamed == 1
    assert embedder.embedded == []
    write(here / "docs/b.md", "---\ntitle: Lakes\n---\nThey flow.")
    ingest(kb, here / "docs")
    assert embedder.embedded == ["Lakes\nThey flow."]

"""What a run must not take over, replace or delete."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

import pytest

import reperio
from reperio import Chunk, Collection, InvalidInput
from reperio.ingestion import ingest
from tests.conftest import TrigramEmbedder
from tests.ingestion.folders import contents, require_ledger, table, texts, write


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return tmp_path / "here"


# ── another machine ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_same_path_on_another_machine_is_another_folder(
    kb: Collection, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another project at the same path is refused, and its own name lets both stay, each with its own prune."""
    for name in ("README", "a", "b"):
        write(here / f"docs/{name}.md", f"project one, {name}")
    ingest(kb, here / "docs")
    before = contents(kb)
    monkeypatch.setattr(platform, "node", lambda: "another")
    shutil.rmtree(here / "docs")
    write(here / "docs/README.md", "project two")
    for path in ("docs", "."):
        with pytest.raises(InvalidInput, match=r"would replace them.*name='…' \(--name\)"):
            ingest(kb, here / path, prune=True)
    assert contents(kb) == before
    ingest(kb, here / "docs", name="two", prune=True)
    assert (ingest(kb, here / "docs", prune=True).unchanged, kb.count()) == (1, 4)
    assert ingest(kb, here, prune=True).unchanged == 1
    monkeypatch.undo()
    assert sorted(texts(kb)) == ["docs/README.md", "docs/a.md", "docs/b.md", "two/README.md"]
    require_ledger(kb)


def test_the_same_folder_on_another_machine_is_known_again(
    kb: Collection, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files say so, or its name does; the note names the machine before."""
    write(here / "docs/a.md", "rivers")
    ingest(kb, here / "docs")
    before = platform.node()
    monkeypatch.setattr(platform, "node", lambda: "another")
    (note,) = ingest(kb, here / "docs").notes
    assert f"was at {here}/docs on {before}" in note.reason
    monkeypatch.undo()
    write(here / "docs/a.md", "lakes")
    assert ingest(kb, here / "docs", name="docs").removed == 1
    assert texts(kb) == {"docs/a.md": ["lakes"]}


def test_one_common_file_makes_no_folder_the_same(kb: Collection, here: Path) -> None:
    """Half of the files that are recorded have to be there: a licence is in many projects."""
    for name in "abc":
        write(here / f"docs/{name}.md", f"about {name}")
    write(here / "docs/LICENSE.txt", "as is")
    ingest(kb, here / "docs")
    (here / "docs").rename(here / "unmounted")
    write(here / "else/docs/LICENSE.txt", "as is")
    with pytest.raises(InvalidInput, match="would replace them"):
        ingest(kb, here / "else/docs", prune=True)
    for name in ("a", "other"):
        write(here / f"else/docs/{name}.md", f"about {name}")
    assert ingest(kb, [here / "else/docs"], prune=True).removed == 2


# ── a folder that is not there ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("way", ["moved", "empty"])
def test_a_folder_that_is_missing_or_empty_loses_nothing(
    kb: Collection, embedder: TrigramEmbedder, here: Path, way: str
) -> None:
    """Its disk may be elsewhere, so what is found in another folder is a copy; its name said, it is the same."""
    write(here / "docs/a.md", "rivers")
    ingest(kb, here / "docs")
    (here / "docs").rename(here / "manual")
    if way == "empty":
        (here / "docs").mkdir()
    embedder.embedded.clear()
    done = ingest(kb, here / "manual")
    assert (done.added, done.removed, done.renamed, embedder.embedded) == (1, 0, 0, [])
    assert sorted(texts(kb)) == ["docs/a.md", "manual/a.md"]
    require_ledger(kb)


def test_a_folder_that_got_another_name_keeps_the_one_it_had(kb: Collection, here: Path) -> None:
    """Said with its name, nothing of it is stored twice."""
    write(here / "docs/a.md", "rivers")
    ingest(kb, here / "docs")
    (here / "docs").rename(here / "manual")
    done = ingest(kb, here / "manual", name="docs")
    assert (done.added, done.unchanged, list(texts(kb))) == (0, 1, ["docs/a.md"])


# ── names ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("thing", "name"),
    [
        ("other", "docs/sub"),  # a folder that lies in another's sources
        ("other/x.md", "docs/sub/a.md"),  # a file that has one of them
        ("other/x.md", "docs"),  # a file that has the name of a folder
        ("other", "notes.md"),  # a folder that has the name of a file
        ("other", "team"),  # above what was given a name with a slash
    ],
)
def test_a_name_that_takes_sources_of_another_is_refused(kb: Collection, here: Path, thing: str, name: str) -> None:
    """The message has a name that is free, and with it all chunks stay."""
    for file in ("docs/sub/a.md", "notes.md", "third/b.md", "other/x.md"):
        write(here / file, f"about {file}")
    ingest(kb, [here / "docs", here / "notes.md"])
    ingest(kb, here / "third", name="team/handbook")
    before = contents(kb)
    with pytest.raises(InvalidInput, match=r"sources in this collection .* such as '[^/]*'$") as caught:
        ingest(kb, here / thing, name=name, prune=thing == "other")
    assert contents(kb) == before
    free = str(caught.value).rpartition("such as ")[2].strip("'")
    assert ingest(kb, here / thing, name=free).added == 1
    assert contents(kb).items() > before.items()
    require_ledger(kb)


def test_names_with_a_common_beginning_are_apart(kb: Collection, here: Path) -> None:
    """`team/docs` and `team/docs2` do not lie in each other."""
    for name in ("docs", "docs2"):
        write(here / name / "a.md", f"about {name}")
        ingest(kb, here / name, name=f"team/{name}")
    assert list(texts(kb)) == ["team/docs/a.md", "team/docs2/a.md"]


# ── prune ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_prune_deletes_only_what_is_gone(kb: Collection, here: Path) -> None:
    """What was named on purpose or is excluded this time stays as long as its file is there."""
    names = [".hidden.md", "node_modules/p/README.md", "ignored.md", "draft.md", "a.md"]
    for name in names:
        write(here / "docs" / name, f"about {name}")
    write(here / "docs/.gitignore", "ignored.md\n")
    ingest(kb, here / "docs")
    ingest(kb, [here / "docs" / name for name in names])
    done = ingest(kb, here / "docs", prune=True, exclude=["draft*"])
    assert (done.removed, kb.count()) == (0, 5)
    for name in names[:-1]:
        (here / "docs" / name).unlink()
    write(here / "docs/draft.md/b.md", "a folder now")
    done = ingest(kb, here / "docs", prune=True, exclude=["draft*"])
    assert (done.removed, list(texts(kb))) == (4, ["docs/a.md"])
    require_ledger(kb)


# ── ids that are taken ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_chunk_of_a_program_is_never_replaced(kb: Collection, here: Path) -> None:
    """The file that wants its id is listed, with a cure that works; no run changes or deletes the chunk."""
    kb.add([Chunk("docs/t.csv#1", "a program's", {"source": "docs/t.csv"})])
    table(here / "docs/t.csv", **{"1": "a row", "2": "another"})
    write(here / "docs/a.md", "rivers")
    for dry in (True, False):
        done = ingest(kb, here / "docs", dry_run=dry)
        (failed,) = done.failed
        assert (done.added, failed.source, failed.place) == (1, "docs/t.csv", str(here / "docs/t.csv"))
        assert "'docs/t.csv#1' is that of a chunk which ingest has not stored" in failed.reason
    (here / "docs/t.csv").unlink()
    ingest(kb, here / "docs", prune=True)
    assert kb.get("docs/t.csv#1").text == "a program's"
    kb.delete(ids=["docs/t.csv#1"])
    table(here / "docs/t.csv", **{"1": "a row", "2": "another"})
    assert ingest(kb, here / "docs").added == 2
    require_ledger(kb)


def test_a_chunk_of_a_scope_is_never_replaced(path: Path, here: Path) -> None:
    """A folder that is called as the ids of a tenant begin takes none of them."""
    write(here / "docs/a.md", "rivers")
    with reperio.open(path, embedder=TrigramEmbedder(), scope={"tenant": "acme"}) as kb:
        ingest(kb, here / "docs")
        (chunk,) = kb
    with reperio.open(path, embedder=TrigramEmbedder()) as kb:
        name = chunk.id.partition("/")[0]
        done = ingest(kb, here / "docs", name=name, prune=True)
        assert [failed.source for failed in done.failed] == [f"{name}/a.md"]
        assert (kb.count(), kb.get(chunk.id)) == (1, chunk)


def test_no_scope_can_guess_the_ids_of_another(path: Path, here: Path) -> None:
    """What one stores under ids that it has read of itself stops no run of the other, and tells it nothing."""
    table(here / "docs/t.csv", a="rivers")
    made: dict[str, list[str]] = {}
    for tenant in ("acme", "other"):
        with reperio.open(path, embedder=TrigramEmbedder(), scope={"tenant": tenant}) as kb:
            assert ingest(kb, here / "docs", dry_run=True).added == 1
            ingest(kb, here / "docs")
            table(here / "docs/u.csv", b="lakes")
            assert ingest(kb, here / "docs").complete  # with the prefix of the run before
            made[tenant] = [one.partition(":")[0] for one in kb.ids()]
            (here / "docs/u.csv").unlink()
    assert [len(set(prefixes)) for prefixes in made.values()] == [1, 1]
    assert made["acme"][0] != made["other"][0]
    elsewhere = path.with_name("elsewhere")
    with reperio.open(elsewhere, embedder=TrigramEmbedder(), scope={"tenant": "acme"}) as kb:
        ingest(kb, here / "docs")
        assert kb.ids()[0].partition(":")[0] not in made["acme"]


def test_all_folders_without_a_ledger_are_taken_over(kb: Collection, here: Path) -> None:
    """Also those that are ingested later than the first: what is stale of them goes, and nothing is embedded again."""
    for name in ("one", "two"):
        write(here / name / "a.md", f"rivers {name}")
        write(here / name / "b.md", f"lakes {name}")
        ingest(kb, here / name)
    for space in ("roots", "files", "chunks"):
        records = kb.records(f"reperio.ingest.{space}")
        records.delete([one.key for one in records.list()])
    for name in ("one", "two"):
        write(here / name / "a.md", f"seas {name}")
        done = ingest(kb, here / name)
        assert (done.added, done.removed, done.embedded) == (1, 1, 1)
    assert texts(kb)["two/a.md"] == ["seas two"]


def test_a_scope_takes_over_its_chunks_without_a_ledger(path: Path, here: Path) -> None:
    """Their ids hold the hashes of their texts, behind what stands for the scope."""
    write(here / "docs/a.md", "rivers")
    with reperio.open(path, embedder=TrigramEmbedder(), scope={"tenant": "acme"}) as kb:
        ingest(kb, here / "docs")
        for spaces in (["roots", "files", "chunks", "ids"], ["ids"]):
            for space in spaces:
                records = kb.records(f"reperio.ingest.{space}")
                records.delete([record.key for record in records.list()])
            done = ingest(kb, here / "docs")
            assert (done.unchanged, done.failed) == (1, ())


# ── options ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("part", ["c.csv", "sub", "*.csv"])
def test_options_of_a_part_do_not_spread(kb: Collection, here: Path, part: str) -> None:
    """Given for a part of a known folder they are refused, with the folder to give them for; as before they may be."""
    write(here / "docs/a.md", "Café")
    table(here / "docs/sub/b.csv", b="x")
    ingest(kb, here / "docs", metadata={"team": "sales"}, max_tokens=100)
    table(here / "docs/c.csv", c="y")
    before = contents(kb)
    for options in ({"reading": {"encoding": "windows-1252"}}, {"max_tokens": 50}, {"metadata": {"secret": True}}):
        for again in (False, True):
            with pytest.raises(InvalidInput, match=rf"for a part of docs.*with the whole folder {here}/docs\."):
                ingest(kb, here / "docs" / part, rechunk=again, **options)  # type: ignore[arg-type]  # several kinds
    assert contents(kb) == before
    ingest(kb, here / "docs" / part, metadata={"team": "sales"}, max_tokens=100)
    (here / "link").symlink_to(here / "docs")
    ingest(kb, here / "link", metadata={"team": "support"})
    assert kb.count(where={"team": "support"}) == 3
    require_ledger(kb)


def test_a_file_that_was_there_before_its_folder_keeps_its_options(kb: Collection, here: Path) -> None:
    """They are no options of the folder, and those of the folder are none of its."""
    write(here / "docs/c.csv", "id,text\n1,Café\n".encode("cp1252"))
    write(here / "docs/a.md", "Café")
    ingest(kb, here / "docs/c.csv", reading={"encoding": "windows-1252"})
    ingest(kb, here / "docs")
    assert texts(kb) == {"c.csv": ["Café"], "docs/a.md": ["Café"]}
    with pytest.raises(InvalidInput, match="rechunk=True"):
        ingest(kb, here / "docs/c.csv", reading={"encoding": "cp850"})

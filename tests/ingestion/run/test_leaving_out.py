"""Pieces whose text is stored already are left out, and come back when that text goes."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reperio
from reperio import Chunk, Collection, InvalidInput
from reperio.ingestion import IngestResult, ingest, sources
from reperio.ranking import plain_text
from tests.conftest import TrigramEmbedder
from tests.ingestion.folders import contents, require_ledger, table, texts, write, write_jsonl


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    return tmp_path / "docs"


def run(kb: Collection, *paths: Path, **options: object) -> IngestResult:
    """Ingest with what these tests are about."""
    return ingest(kb, list(paths), prune=True, **{"skip_duplicates": True, **options})  # type: ignore[arg-type]  # of ingest


def test_a_text_is_stored_once(kb: Collection, docs: Path) -> None:
    """Whatever its case and white space; how many are left out is told, also where nothing has changed."""
    write(docs / "a.md", "Rivers flow.")
    write(docs / "b.md", "rivers   FLOW.")
    write(docs / "c.md", "Lakes do not.")
    first = run(kb, docs)
    assert (first.files, first.added, first.embedded, first.duplicates) == (3, 2, 2, 1)
    assert texts(kb) == {"docs/a.md": ["Rivers flow."], "docs/c.md": ["Lakes do not."]}
    assert [(one.source, one.chunks) for one in sources(kb)] == [("docs/a.md", 1), ("docs/b.md", 0), ("docs/c.md", 1)]
    again = run(kb, docs)
    assert (again.added, again.unchanged, again.embedded, again.duplicates) == (0, 2, 0, 1)
    require_ledger(kb)


@pytest.mark.parametrize("how", ["deleted", "changed"])
def test_it_comes_back_in_the_run_in_which_the_other_goes(kb: Collection, docs: Path, how: str) -> None:
    """Though its own file is as it was."""
    first = write(docs / "a.md", "rivers")
    write(docs / "b.md", "rivers")
    run(kb, docs)
    first.unlink() if how == "deleted" else write(first, "lakes")
    assert run(kb, docs).duplicates == 0
    assert texts(kb)["docs/b.md"] == ["rivers"]
    require_ledger(kb)


@pytest.mark.parametrize("deleted", [True, False])
def test_it_comes_back_when_a_program_takes_the_other(kb: Collection, docs: Path, deleted: bool) -> None:
    """By the next run; a chunk of a program's own keeps a text as well."""
    kb.add([Chunk("own", "rivers")])
    write(docs / "a.md", "rivers")
    assert run(kb, docs).duplicates == 1
    assert kb.ids() == ["own"]
    kb.delete(ids=["own"]) if deleted else kb.add([Chunk("own", "lakes")])
    assert run(kb, docs).duplicates == 0
    assert texts(kb)["docs/a.md"] == ["rivers"]


def test_an_item_that_keeps_its_id_and_loses_its_text(kb: Collection, docs: Path) -> None:
    """The row is replaced, not deleted, in the same run in which another file is left out for it."""
    path = write_jsonl(docs / "t.jsonl", {"id": "1", "text": "rivers"})
    write_jsonl(docs / "u.jsonl", {"id": "1", "text": "rivers"})
    assert run(kb, docs).duplicates == 1
    write_jsonl(path, {"id": "1", "text": "lakes"})
    assert run(kb, docs).duplicates == 0
    assert texts(kb) == {"docs/t.jsonl": ["lakes"], "docs/u.jsonl": ["rivers"]}
    require_ledger(kb)


def test_two_files_never_leave_out_a_text_for_each_other(kb: Collection, docs: Path) -> None:
    """Stored twice before, it is stored once after all was read again."""
    for name in "abc":
        write(docs / f"{name}.md", "rivers")
    ingest(kb, docs)
    assert kb.count() == 3
    with pytest.raises(InvalidInput, match=r"ingested with skip-duplicates False, and True is given now.*--rechunk"):
        run(kb, docs)
    done = run(kb, docs, rechunk=True)
    assert (kb.count(), done.duplicates, done.removed, done.embedded) == (1, 2, 2, 0)
    back = ingest(kb, docs, skip_duplicates=False, rechunk=True)
    assert (kb.count(), back.duplicates, back.added) == (3, 0, 2)
    require_ledger(kb)


def test_metadata_tells_texts_apart(kb: Collection, docs: Path) -> None:
    """Whoever may see the one may not see the other: what filters compare counts, apart from where a text stands."""
    write(docs / "a.md", "---\naccess: staff\n---\nrivers")
    write(docs / "b.md", "---\naccess: all\n---\nrivers")
    write(docs / "c.md", "---\naccess: all\n---\n# Water\n\nrivers")
    assert (run(kb, docs).added, kb.count(where={"access": "all"})) == (3, 2)
    write(docs / "d.md", "---\naccess: all\n---\nrivers")
    assert run(kb, docs).duplicates == 1


def test_a_scope_leaves_out_for_itself_alone(tmp_path: Path) -> None:
    """What other tenants have is not known."""
    docs = write(tmp_path / "docs" / "a.md", "rivers").parent
    write(docs / "b.md", "rivers")
    for tenant in ("x", "y"):
        with reperio.open(tmp_path / "kb", embedder=TrigramEmbedder(), scope={"tenant": tenant}) as kb:
            assert (run(kb, docs).duplicates, kb.count()) == (1, 1)


def test_a_renamed_file_keeps_its_vectors(kb: Collection, docs: Path) -> None:
    """A file that goes keeps nothing for the one that it became."""
    write(docs / "a.md", "rivers")
    run(kb, docs)
    (docs / "a.md").rename(docs / "b.md")
    done = run(kb, docs)
    assert (done.renamed, done.embedded, done.duplicates, list(texts(kb))) == (1, 0, 0, ["docs/b.md"])


def test_another_folder_says_that_pieces_are_to_come_back(kb: Collection, tmp_path: Path) -> None:
    """A run does not look for files that it was not given."""
    first = write(tmp_path / "one" / "a.md", "rivers")
    other = write(tmp_path / "two" / "b.md", "rivers")
    ingest(kb, first.parent)
    assert run(kb, other.parent).duplicates == 1
    write(first, "lakes")
    (note,) = ingest(kb, first.parent).notes
    assert note.source == "two/b.md"
    assert note.reason.startswith("1 piece of it was left out for a text that is gone; ")
    assert str(other) in note.reason
    run(kb, other.parent)
    assert texts(kb) == {"one/a.md": ["lakes"], "two/b.md": ["rivers"]}
    require_ledger(kb)


def test_a_trial_has_the_figures_of_the_run(kb: Collection, docs: Path) -> None:
    """Of what would be left out, and of what would come back."""
    write(docs / "a.md", "rivers")
    write(docs / "b.md", "rivers")
    write(docs / "c.md", "rivers")
    for vanishing in ("none.md", "a.md"):
        (docs / vanishing).unlink(missing_ok=True)
        before = contents(kb)
        tried = run(kb, docs, dry_run=True)
        assert contents(kb) == before
        done = run(kb, docs)
        assert (tried.added, tried.embedded, tried.removed, tried.duplicates) == (
            done.added,
            done.embedded,
            done.removed,
            done.duplicates,
        )


FOLDER = st.dictionaries(
    st.sampled_from(["a.md", "b.md", "sub/c.md", "t.csv"]), st.lists(st.sampled_from("uvwxy"), min_size=1, max_size=3)
)


@settings(max_examples=40, deadline=None)
@given(st.lists(FOLDER, min_size=1, max_size=4))
def test_every_text_is_there_once_whatever_became_of_the_folder(states: list[dict[str, list[str]]]) -> None:
    """Files come, change and go; after each run what is stored are the texts of the folder, each once."""
    top = Path(tempfile.mkdtemp(prefix="reperio-left-"))
    write(top / "docs" / "first.md", "first")
    try:
        with reperio.open(":memory:", embedder=TrigramEmbedder(), auto_optimize=False) as kb:
            for state in states:
                for path in [*top.rglob("*.md"), *top.rglob("*.csv")]:
                    if path.name != "first.md":
                        path.unlink()
                for name, words in state.items():
                    path = top / "docs" / name
                    if path.suffix == ".csv":
                        table(path, **{f"n{number}": word for number, word in enumerate(words)})
                    else:
                        write(path, f"text {words[0]}")
                run(kb, top / "docs", id_field="key")
                stored = sorted(plain_text(chunk.text) + str(chunk.metadata.get("id")) for chunk in kb)
                assert len(stored) == len(set(stored))
                with reperio.open(":memory:", embedder=TrigramEmbedder(), auto_optimize=False) as whole:
                    ingest(whole, top / "docs", id_field="key")
                    wanted = {plain_text(chunk.text) + str(chunk.metadata.get("id")) for chunk in whole}
                assert set(stored) == wanted
                require_ledger(kb)
    finally:
        shutil.rmtree(top)

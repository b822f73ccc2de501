"""What is passed over in folders, and what a pattern names."""

from __future__ import annotations

from pathlib import Path

import pytest

import reperio
from reperio import Chunk, Collection, InvalidInput
from reperio.exchange import export_collection
from reperio.ingestion import find_files, ingest
from tests.conftest import TrigramEmbedder
from tests.ingestion.folders import texts, write


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    return tmp_path / "proj/docs"


def found(*paths: Path | str, **options: object) -> list[str]:
    return [file.source for file in find_files(paths, **options).files]  # type: ignore[arg-type]  # by name


def test_what_reperio_has_written_is_passed_over(kb: Collection, tmp_path: Path) -> None:
    """Collections, backups of both kinds and exports are named with the reason; a folder like them is read."""
    docs = tmp_path / "docs"
    write(docs / "a.md", "rivers")
    write(docs / "CURRENT/gen-1/b.md", "lakes")
    write(docs / "other/manifest.json", '{"format": "another"}')
    with reperio.open(docs / "kb", embedder=TrigramEmbedder()) as inner:
        inner.add([Chunk("a", "seas")])
        inner.backup(docs / "full")
        inner.backup(docs / "backups", incremental=True)
        export_collection(inner, docs / "export", format="jsonl")
    (docs / "kb/CURRENT").unlink()  # damaged, it is one all the same
    done = ingest(kb, docs)
    assert {one.source: one.reason.partition(",")[0] for one in done.skipped} == {
        "docs/backups/": "is a folder of backups of Reperio",
        "docs/export/": "is an export of Reperio",
        "docs/full/": "is a collection of Reperio",
        "docs/kb/": "is a collection of Reperio",
    }
    assert sorted(texts(kb)) == ["docs/CURRENT/gen-1/b.md", "docs/a.md", "docs/other/manifest.json"]
    assert ingest(kb, docs / "export/chunks.jsonl").added == 1


def test_gitignore_is_honoured_as_git_does(docs: Path) -> None:
    """Of the folder, of those in it, of those above up to the repository, and no further; what is negated is read."""
    for name in ("a.md", "draft.md", "sub/b.md", "sub/draft.md", "out/c.md", "sub/keep/out.txt", "notes/d.txt"):
        write(docs / name, "words")
    write(docs / ".gitignore", "draft.md\n/out/\n")
    write(docs / "sub/.gitignore", "!draft.md\n")
    write(docs.parent / ".gitignore", "docs/notes\n")
    write(docs.parent.parent / ".gitignore", "*\n")
    (docs.parent / ".git").mkdir()
    assert found(docs) == ["docs/a.md", "docs/sub/b.md", "docs/sub/draft.md", "docs/sub/keep/out.txt"]
    reasons = [(one.source, one.reason) for one in find_files(docs).skipped]
    assert ("docs/", "3 files and folders are passed over, as .gitignore says") in reasons
    assert len(found(docs, gitignore=False)) == 7
    assert found(docs / "draft.md") == ["draft.md"]  # named by a person


def test_a_folder_that_is_named_is_read_though_those_above_ignore_it(kb: Collection, tmp_path: Path) -> None:
    """Its own `.gitignore` holds all the same."""
    (tmp_path / "repo" / ".git").mkdir(parents=True)
    (tmp_path / "repo" / ".gitignore").write_text("out/\n")
    folder = tmp_path / "repo" / "out" / "files"
    folder.mkdir(parents=True)
    (folder / "a.md").write_text("words of a page")
    (folder / "b.md").write_text("words of another")
    (folder / ".gitignore").write_text("b.md\n")
    assert ingest(kb, folder).added == 1


def test_what_is_excluded_is_passed_over_and_counted(docs: Path) -> None:
    """Patterns as in .gitignore, seen from the folder that is named."""
    for name in ("a.md", "b.csv", "drafts/c.md", "sub/drafts/d.md", "sub/b.csv"):
        write(docs / name, "id,text\n1,x\n")
    assert found(docs, exclude=["drafts/", "/b.csv"]) == ["docs/a.md", "docs/sub/b.csv"]
    assert found(docs, exclude="*.csv") == ["docs/a.md", "docs/drafts/c.md", "docs/sub/drafts/d.md"]
    (skipped,) = find_files(docs, exclude=["drafts/"]).skipped
    assert (skipped.source, skipped.reason) == ("docs/", "2 files and folders are excluded")
    with pytest.raises(InvalidInput, match="exclude is"):
        find_files(docs, exclude=[5])  # type: ignore[list-item]  # that is the test
    for pattern in ("!", "[z-a]"):
        with pytest.raises(InvalidInput, match=r"exclude: .*write patterns as in \.gitignore"):
            find_files(docs, exclude=[pattern])
    write(docs / ".gitignore", "!\n[z-a]\n*.csv\n")  # as git does, what is no pattern is passed over
    assert found(docs) == ["docs/a.md", "docs/drafts/c.md", "docs/sub/drafts/d.md"]


def test_folders_of_packages_are_passed_over_and_named(docs: Path) -> None:
    """Nobody has written what is in node_modules, __pycache__ or a virtual environment; named, they are read."""
    for name in (
        "a.md",
        "node_modules/x/README.md",
        "__pycache__/b.txt",
        "env/pyvenv.cfg",
        "env/lib/c.md",
        ".git/d.md",
    ):
        write(docs / name, "words")
    assert found(docs) == ["docs/a.md"]
    reasons = {one.source: one.reason for one in find_files(docs).skipped}
    assert reasons == {
        "docs/": "1 hidden file or folder is passed over",
        "docs/node_modules/": "is a folder of packages, which is passed over; name it to ingest it",
        "docs/__pycache__/": "is a folder of compiled code, which is passed over; name it to ingest it",
        "docs/env/": "is a folder of a virtual environment, which is passed over; name it to ingest it",
    }
    assert found(docs / "node_modules") == ["node_modules/x/README.md"]


def test_a_pattern_is_its_folder_narrowed(kb: Collection, docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files have the names that they have by the folder; pruning by a pattern prunes only what it would find."""
    for name in ("a.md", "b.txt", "sub/c.md", "sub/deep/d.md"):
        write(docs / name, f"about {name}")
    assert found(docs / "*.md") == ["docs/a.md"]
    assert found(docs / "**/*.md") == ["docs/a.md", "docs/sub/c.md", "docs/sub/deep/d.md"]
    assert found(docs / "su?/*.md") == ["docs/sub/c.md"]
    monkeypatch.chdir(docs)
    assert found("*.txt") == ["docs/b.txt"]
    ingest(kb, docs)
    for name in ("sub/c.md", "b.txt"):
        (docs / name).unlink()
    assert ingest(kb, docs / "**/*.md", prune=True).removed == 1
    assert sorted(texts(kb)) == ["docs/a.md", "docs/b.txt", "docs/sub/deep/d.md"]
    with pytest.raises(InvalidInput, match="does not exist"):
        find_files(docs.parent / "dosc/*.md")
    write(docs / "odd[1].md", "words")
    assert found(docs / "odd[1].md") == ["odd[1].md"]  # a name that is there is no pattern


def test_pruning_spares_what_is_there_and_not_read(kb: Collection, docs: Path, tmp_path: Path) -> None:
    """A file that cannot be read today, is excluded for once, or lies elsewhere, has not vanished."""
    for name in ("a.md", "b.md", "sub/c.md", "sub/d.md"):
        write(docs / name, f"about {name}")
    ingest(kb, docs)
    (docs / "a.md").write_bytes(b"caf\xe9")
    (docs / "sub/c.md").unlink()
    done = ingest(kb, docs, prune=True, exclude=["b.md"])
    assert [failed.source for failed in done.failed] == ["docs/a.md"]
    assert sorted(texts(kb)) == ["docs/a.md", "docs/b.md", "docs/sub/d.md"]
    (docs / "sub/d.md").rename(tmp_path / "d.md")
    ingest(kb, docs, prune=True)
    assert sorted(texts(kb)) == ["docs/a.md", "docs/b.md"]

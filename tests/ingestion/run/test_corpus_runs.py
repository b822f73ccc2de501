"""A folder with a file of every format and every trap: ingested twice, renamed, edited, pruned."""

from __future__ import annotations

from pathlib import Path

import pytest

import reperio
from reperio import Collection
from reperio.ingestion import ingest
from tests.conftest import TrigramEmbedder
from tests.ingestion.corpus import corpus, write
from tests.ingestion.folders import contents, require_ledger

pytest.importorskip("pypdfium2", reason="needs the extra documents")
pytest.importorskip("selectolax", reason="needs the extra documents")
pytest.importorskip("python_calamine", reason="needs the extra documents")
PLAIN = {made.name for made in corpus() if not made.options}


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """Write the corpus, without the files that need options of their own."""
    folder = tmp_path / "docs"
    folder.mkdir()
    write(folder)
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        if path.relative_to(folder).as_posix() not in PLAIN:
            path.unlink()
    return folder


def first_run(docs: Path) -> dict[str, object]:
    with reperio.open(":memory:", embedder=TrigramEmbedder(), auto_optimize=False) as fresh:
        ingest(fresh, docs)
        return dict(contents(fresh))


@pytest.mark.campaign
def test_every_format_survives_a_life(kb: Collection, embedder: TrigramEmbedder, docs: Path) -> None:
    """Twice changes nothing; renamed, nothing is embedded; edited and pruned, the end is that of a first run."""
    done = ingest(kb, docs)
    assert done.files >= 50
    wrong = {made.name for made in corpus() if made.error and made.name in PLAIN}
    assert {failed.source.removeprefix("docs/") for failed in done.failed} == wrong
    assert contents(kb) == first_run(docs)
    embedder.embedded.clear()
    again = ingest(kb, docs)
    assert (again.added, again.updated, again.removed, embedder.embedded) == (0, 0, 0, [])
    assert [failed.source for failed in again.failed] == [failed.source for failed in done.failed]
    assert (again.skipped, again.unchanged) == (done.skipped, done.added)

    for path in sorted(path for path in docs.rglob("*") if path.is_file()):
        path.rename(path.with_name(f"renamed-{path.name}"))
    renamed = ingest(kb, docs)
    assert embedder.embedded == []
    assert renamed.renamed == done.files
    assert contents(kb) == first_run(docs)

    for number, path in enumerate(sorted(path for path in docs.rglob("*") if path.is_file())):
        if number % 3 == 0:
            path.unlink()
        elif path.suffix in (".md", ".txt", ".rst", ".py"):
            path.write_text(f"Something else, number {number}.")
    ingest(kb, docs, prune=True, batch_size=7)
    assert contents(kb) == first_run(docs)
    require_ledger(kb)

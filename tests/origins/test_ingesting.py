"""Files of several hosts into one truth: what is recorded of them travels with the chunks."""

from __future__ import annotations

from pathlib import Path

import pytest

import reperio
from reperio import InvalidInput
from reperio.ingestion import ingest, sources
from tests.conftest import TrigramEmbedder
from tests.ingestion.folders import contents, require_ledger, table, write


def test_hosts_share_the_ledger(url: str, tmp_path: Path) -> None:
    """What one has ingested the other knows: nothing is embedded again, and no other folder takes its name."""
    docs = tmp_path / "one/docs"
    write(docs / "a.md", "rivers")
    table(docs / "t.csv", a="apples", b="bears")
    with reperio.open(tmp_path / "first", embedder=TrigramEmbedder()) as kb:
        ingest(kb, docs)
    reperio.create_origin(url, tmp_path / "first")
    embedder = TrigramEmbedder()
    with (
        reperio.open(tmp_path / "first", embedder=TrigramEmbedder(), origin=url, follow=0) as first,
        reperio.open(tmp_path / "second", embedder=embedder, origin=url, follow=0) as second,
    ):
        assert [one.source for one in sources(second)] == ["docs/a.md", "docs/t.csv"]
        embedder.embedded.clear()
        assert ingest(second, docs).unchanged == 3
        assert embedder.embedded == []
        write(docs / "b.md", "lakes")
        (docs / "a.md").rename(docs / "c.md")
        done = ingest(second, docs)
        assert (done.renamed, embedder.embedded) == (1, ["lakes"])
        assert ingest(first, docs).added == 0
        assert contents(first) == contents(second)
        require_ledger(first)
        write(tmp_path / "two/docs/a.md", "something else")
        with pytest.raises(InvalidInput, match="would replace them"):
            ingest(first, tmp_path / "two/docs")

"""Folders that may not be entered: what is known of their files stays, and the rest goes on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import reperio
from reperio import Collection
from reperio.ingestion import ingest
from tests.ingestion.folders import texts, write

_SCRIPT = """
import json, sys
import reperio
from tests.conftest import TrigramEmbedder

with reperio.open(sys.argv[1], embedder=TrigramEmbedder()) as kb:
    for path in sys.argv[2:]:
        try:
            done = reperio.ingest(kb, path, prune=True)
            failed = [[one.source, one.reason] for one in done.failed]
            print(json.dumps([done.added, done.removed, done.renamed, failed]))
        except reperio.InvalidInput as error:
            print(json.dumps(str(error)))
"""


def ingest_as_a_user(kb: Path, *paths: Path | str) -> list[Any]:
    """Ingest one path after the other, as somebody whom permissions bind: root loses the right to pass over them."""
    command = [sys.executable, "-c", _SCRIPT, str(kb), *map(str, paths)]
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root passes over permissions, and there is no setpriv")
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *command]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def docs(tmp_path: Path) -> Iterator[Path]:
    docs = tmp_path / "docs"
    write(docs / "a.md", "rivers")
    write(docs / "locked/b.md", "lakes")
    write(tmp_path / "other/b.md", "lakes")
    yield docs
    (docs / "locked").chmod(0o755)


@pytest.mark.parametrize("mode", [0, 0o444], ids=["closed", "listable"])
def test_a_folder_that_may_not_be_entered_is_listed_and_passed_over(
    kb: Collection, path: Path, docs: Path, mode: int
) -> None:
    """Nothing in it is pruned or taken for renamed, and a file of the same content elsewhere is a copy."""
    ingest(kb, docs)
    kb.close()
    (docs / "locked").chmod(mode)
    write(docs / "c.md", "new")
    inside, beneath = docs / "locked", docs / "locked/b.md"
    whole, other, *named = ingest_as_a_user(path, docs, docs.parent / "other", inside, beneath, f"{inside}/*.md")
    reason = f"{inside} cannot be entered: Permission denied; allow it, or leave it out"
    assert whole == [1, 0, 0, [["docs/locked/", reason]]]
    assert other == [1, 0, 0, []]
    assert all("Permission denied; allow it" in one for one in named)
    with reperio.open(path, read_only=True) as again:
        assert sorted(texts(again)) == ["docs/a.md", "docs/c.md", "docs/locked/b.md", "other/b.md"]

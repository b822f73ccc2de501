"""Small folders for the tests of ingestion, and what comes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from reperio import Collection
from reperio.ingestion.ledger.records import Ledger


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def write_jsonl(path: Path, *values: dict[str, Any]) -> Path:
    return write(path, "".join(json.dumps(value) + "\n" for value in values))


def table(path: Path, **texts: str) -> Path:
    """Write a CSV of ids and texts."""
    return write(path, "id,text\n" + "".join(f"{key},{text}\n" for key, text in texts.items()))


def contents(kb: Collection) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return all chunks as plain values, by id."""
    return {chunk.id: (chunk.text, dict(chunk.metadata)) for chunk in kb}


def texts(kb: Collection) -> dict[str, list[str]]:
    """Return the sorted texts of each source."""
    found: dict[str, list[str]] = {}
    for chunk in kb:
        found.setdefault(chunk.metadata.get("source", ""), []).append(chunk.text)
    return {source: sorted(several) for source, several in found.items()}


def require_ledger(kb: Collection) -> None:
    """Require that the ledger names the chunks that are stored, each once, and no others."""
    ledger = Ledger(kb)
    files = {file.source: file for file in ledger.all_files()}
    named: list[str] = []
    for source, parts in ledger.parts(list(files)).items():
        assert parts.runs <= {files[source].run}
        assert len(parts.suffixes) == files[source].chunks
        assert parts.left == ledger.left_out().get(source, [])
        named += [f"{source}#{suffix}" for suffix in parts.suffixes]
    assert sorted(named) == sorted(kb.ids())
    assert len(kb.records("reperio.ingest.chunks").list()) == sum(
        len(parts.keys) for parts in ledger.parts(list(files)).values()
    )

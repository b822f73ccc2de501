"""Look at what a collection holds, without a question."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from reperio import Chunk, Collection, CollectionInfo, DuplicateGroup, Hit, InvalidInput
from reperio.evaluation import baseline_path, read_baseline
from reperio.explorer.jobs import Job
from reperio.ingestion import Source, sources
from reperio.layout import read_regular, reason

PAGE = 50
"""Rows of one page."""

_NEIGHBOURS = 8
_AROUND = 2  # chunks before and after, in the same document
_MOST_IN_DOCUMENT = 20_000
_LONGEST_REPORT = 64 << 20
_SOURCE = "source"


@dataclass(frozen=True, slots=True)
class ChunkView:
    """A chunk with what is around it.

    Attributes:
        chunk: the chunk.
        neighbours: nearest by vector, without itself.
        before, after: of the same document, in the order of adding.
        place, size: its place in its document, from 1, and chunks of that; 0 where it has no document.
    """

    chunk: Chunk
    neighbours: Sequence[Hit]
    before: Sequence[Chunk]
    after: Sequence[Chunk]
    place: int
    size: int


def chunk_view(kb: Collection, chunk_id: str) -> ChunkView:
    """Return a chunk with what is around it.

    Raises:
        InvalidInput: there is no such chunk.
    """
    chunk = kb.get(chunk_id)
    if chunk is None:
        raise InvalidInput(f"there is no chunk {chunk_id!r:.200}; it was deleted, or never stored")
    near = kb.search(vector=kb.vectors([chunk_id])[0], k=_NEIGHBOURS + 1)
    neighbours = [hit for hit in near if hit.chunk.id != chunk_id][:_NEIGHBOURS]
    source = chunk.metadata.get(_SOURCE)
    if not isinstance(source, str) or not source:
        return ChunkView(chunk, neighbours, (), (), 0, 0)
    ids = kb.ids(where={_SOURCE: {"$in": [source]}})
    if chunk_id not in ids or len(ids) > _MOST_IN_DOCUMENT:
        return ChunkView(chunk, neighbours, (), (), 0, len(ids))
    at = ids.index(chunk_id)
    around = {each.id: each for each in kb.get(ids[max(0, at - _AROUND) : at + _AROUND + 1])}
    before = [around[each] for each in ids[max(0, at - _AROUND) : at] if each in around]
    after = [around[each] for each in ids[at + 1 : at + _AROUND + 1] if each in around]
    return ChunkView(chunk, neighbours, before, after, at + 1, len(ids))


@dataclass(frozen=True, slots=True)
class ChunkPage:
    """Some chunks in the order of adding, of all that match."""

    chunks: Sequence[Chunk]
    total: int
    offset: int


def chunk_page(kb: Collection, where: Mapping[str, Any] | None, source: str, offset: int) -> ChunkPage:
    """Return a page of the chunks that match a filter and are of a source."""
    parts: list[Mapping[str, Any]] = [
        each for each in (where, {_SOURCE: {"$in": [source]}} if source else None) if each
    ]
    tree = parts[0] if len(parts) == 1 else {"$and": parts} if parts else None
    return ChunkPage(kb.get(where=tree, limit=PAGE, offset=offset), kb.count(where=tree), offset)


@dataclass(frozen=True, slots=True)
class Day:
    """What was ingested on a day: files, and their chunks."""

    day: str
    files: int
    chunks: int
    share: float  # of the chunks of the day with the most


def by_day(ingested: Sequence[Source]) -> list[Day]:
    """Return what was ingested when, by day, oldest first; in UTC."""
    files: Counter[str] = Counter()
    chunks: Counter[str] = Counter()
    for each in ingested:
        day = datetime.fromtimestamp(each.stored, timezone.utc).strftime("%Y-%m-%d")
        files[day] += 1
        chunks[day] += each.chunks
    most = max(chunks.values(), default=0) or 1
    return [Day(day, files[day], chunks[day], chunks[day] / most) for day in sorted(files)]


def ingested(kb: Collection) -> list[Source]:
    """Return the files that were ingested, those with the most chunks first."""
    return sorted(sources(kb), key=lambda each: (-each.chunks, each.source))


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Groups of chunks that say the same, with the texts of a page of them."""

    groups: Sequence[DuplicateGroup]
    chunks: Mapping[str, Chunk]
    offset: int
    extra: int  # chunks that could go, in all groups


def find_duplicates(kb: Collection, by: str, threshold: float | None, job: Job[Any]) -> list[DuplicateGroup]:
    """Find groups of near-duplicates, the largest first."""
    options: dict[str, Any] = {"by": by} if by == "text" else {"by": by, "threshold": threshold}
    found = kb.duplicates(progress=job.progress, **options)
    return sorted(found, key=lambda group: -len(group.duplicates))


def duplicates_page(kb: Collection, groups: Sequence[DuplicateGroup], offset: int) -> Duplicates:
    """Return a page of groups with their texts, of chunks that are still there."""
    some = groups[offset : offset + PAGE]
    wanted = [name for group in some for name in (group.kept, *(each.id for each in group.duplicates[:PAGE]))]
    chunks = {chunk.id: chunk for chunk in kb.get(list(dict.fromkeys(wanted)))}
    return Duplicates(some, chunks, offset, sum(len(group.duplicates) for group in groups))


def of_index(info: CollectionInfo) -> tuple[float, float]:
    """Return the shares of all rows that the index covers, and that are its tail."""
    rows = info.count + (info.deleted or 0)
    tail = (info.tail or 0) / rows if rows else 0.0
    return 1 - tail, tail


def gate_report(path: Path) -> dict[str, Any]:
    """Return a report of the gate, as ``reperio gate --json`` prints it.

    Raises:
        InvalidInput: it cannot be read, or is none.
    """
    cure = f"write it with: reperio gate KB --golden GOLDEN --json > {path}"
    try:
        found = json.loads(read_regular(path, _LONGEST_REPORT, follow=True))
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read ({reason(error)}); {cure}") from error
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{path} is no JSON ({error}); {cure}") from None
    checks = found.get("checks") if isinstance(found, dict) else None
    if not isinstance(checks, list) or not all(isinstance(each, dict) and "name" in each for each in checks):
        raise InvalidInput(f"{path} is no report of the gate; {cure}")
    # What is missing, or is of another kind, is shown as nothing: the file may be of another version, or anybody's.
    return {
        "passed": found.get("passed") is True,
        **{name: _words(found.get(name)) for name in ("summary", "made")},
        "checks": [_check(each) for each in checks],
    }


def _check(given: Mapping[str, Any]) -> dict[str, Any]:
    evidence = given.get("evidence")
    lines = [_words(each) for each in evidence] if isinstance(evidence, list) else []
    return {**{name: _words(given.get(name)) for name in ("name", "verdict", "cause")}, "evidence": lines}


def _words(value: Any) -> str:
    return str(value) if isinstance(value, (str, int, float)) else ""


@dataclass(frozen=True, slots=True)
class Accepted:
    """An accepted baseline: when, and the mean of its main measure."""

    made: str
    value: float


def accepted(golden: Path | None) -> list[Accepted]:
    """Return what the gate's baseline next to a golden set remembers, oldest first; nothing where there is none."""
    path = None if golden is None else baseline_path(golden)
    if path is None or not path.exists():
        return []
    history = read_baseline(path).history
    return [
        Accepted(str(entry["made"]), sum(entry["values"].values()) / len(entry["values"]))
        for entry in history
        if entry.get("values")
    ]

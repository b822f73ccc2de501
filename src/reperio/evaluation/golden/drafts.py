"""Questions for a person to correct, and what was found for them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from reperio.collection import Collection
from reperio.evaluation.golden.questions import GoldenQuery
from reperio.types import Chunk, Hit

SOURCE = "source"
"""The metadata field in which ingestion names a chunk's file."""

MODES = ("dense", "lexical", "hybrid")
SHOWN = 5
"""Chunks that are shown of what was found for a question."""

_LARGE, _MOST = 200, 0.5  # chunks of a document that may be expected; and share of all there are
_DEPTH = 10  # hits of each mode that are pooled
_RRF = 60  # of reciprocal rank fusion, as its authors have it
_QUESTION_CHARACTERS, _FEWEST_WORDS = 160, 4
_MARKS = re.compile(r"^\s*(?:[>*+-]+|\d+[.)])\s+")  # of Markdown: quotes, lists
_HEADING = re.compile(r"^\s*#{1,6}\s")
_UNDERLINE = re.compile(r"^\s*([=~^\"-])\1{2,}\s*$")  # of headings in reStructuredText and Markdown


@dataclass(frozen=True, slots=True)
class Pooled:
    """A chunk that was found for a question, and by what."""

    chunk: Chunk
    by: tuple[str, ...] = ()  # e.g. "dense 1", "lexical 3"; empty for the chunk that a question was taken from


@dataclass(frozen=True, slots=True)
class Draft:
    """A question for a person to correct."""

    query: GoldenQuery
    found: tuple[Pooled, ...] = ()  # the chunk that it was taken from, or what several modes find for it, best first
    why: str = ""  # it was chosen


def document_field(collection: Collection) -> str:
    """Return the metadata field in which ingestion names a chunk's file; empty where no chunk has it."""
    return SOURCE if collection.count(where={SOURCE: {"$exists": True}}) else ""


def modes(collection: Collection) -> tuple[str, ...]:
    """Return the modes that a text can be asked in."""
    lexical = collection.fingerprint()["lexical"] != "none"
    if collection.embedder is None:
        return ("lexical",) if lexical else ()
    return MODES if lexical else ("dense",)


def pooled(collection: Collection, text: str, where: object, own: str) -> list[Pooled]:
    """Return what every mode finds for a question, best first by reciprocal ranks; *own* is the mode that it has.

    A judgement of what one mode finds alone would call everything wrong that another finds.
    """
    places: dict[str, list[str]] = {}
    chunks: dict[str, Chunk] = {}
    scores: dict[str, float] = {}
    for mode in dict.fromkeys((own, *modes(collection))):
        hits: list[Hit] = collection.search(text, k=_DEPTH, where=where, mode=mode)  # type: ignore[arg-type]  # of the set
        for rank, hit in enumerate(hits, start=1):
            chunks[hit.chunk.id] = hit.chunk
            places.setdefault(hit.chunk.id, []).append(f"{mode} {rank}")
            scores[hit.chunk.id] = scores.get(hit.chunk.id, 0.0) + 1 / (_RRF + rank)
    return [Pooled(chunks[key], tuple(places[key])) for key in sorted(scores, key=lambda key: -scores[key])]


def expecting(collection: Collection, text: str, chunk: Chunk, field: str, **rest: object) -> GoldenQuery:
    """Return a question that expects a chunk's document; or the chunk, where it has none or a document says too little.

    A document's name stays when it is ingested again, a chunk's id does not where its text has changed. But any row of
    a large table, or of the only file, would do for one that names the file.
    """
    name = chunk.metadata.get(field) if field else None
    expected: dict[str, object] = {"expect": {chunk.id: 1}}
    if isinstance(name, str) and name:
        size = collection.count(where={field: {"$in": [name]}})
        if size <= _LARGE and size <= _MOST * collection.count():
            expected = {"documents": {name: 1}}
    return GoldenQuery(text, text, **expected, **rest)  # type: ignore[arg-type]  # as the callers pass it


def to_question(chunk: Chunk) -> str:
    """Return the first sentence of a chunk that has some words: no heading, no mark of Markdown is part of it."""
    found = [" ".join(" ".join(lines).replace("|", " ").split()) for lines in _paragraphs(chunk.text)]
    sentences = [each for text in found for each in re.split(r"(?<=[.!?])\s", text)]
    near = (each for each in sentences if len(each.split()) >= _FEWEST_WORDS)
    words = next(near, "") or " ".join(found).strip() or chunk.text.strip()
    words = " ".join(words.split())
    return words if len(words) <= _QUESTION_CHARACTERS else words[:_QUESTION_CHARACTERS].rsplit(" ", 1)[0]


def _paragraphs(text: str) -> list[list[str]]:
    """Return the lines of each paragraph; headings and fences end one and are left out."""
    found: list[list[str]] = [[]]
    for line in text.splitlines():
        ends = not line.strip() or line.lstrip().startswith("```") or _HEADING.match(line)
        if _UNDERLINE.match(line):  # the line before was a heading
            found[-1] = []
            ends = True
        if ends:
            found.append([])
            continue
        if _MARKS.match(line):
            found.append([])
        found[-1].append(_MARKS.sub("", line).strip())
    return [lines for lines in found if lines]

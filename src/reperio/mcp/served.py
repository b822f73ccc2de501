"""Answer what agents ask of one collection: the tools, apart from the protocol."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import reperio
from reperio import Chunk, Collection, InvalidInput
from reperio.mcp.budget import clean, fit
from reperio.printable import one_line
from reperio.serving.survey import Survey, survey

MOST_HITS, MOST_IDS, MOST_SOURCES = 50, 50, 500
_LONGEST_QUERY = 8_000  # characters
_LONGEST_SOURCE = 500
_LONGEST_ID, _LONGEST_TEXT = 200, 100_000  # of what an agent adds
_LONGEST_TOLD = 100  # characters of an id that is not there
_FRESH = 30.0  # seconds for which a survey is told again
MODES = ("hybrid", "dense", "lexical")


@dataclass
class Served:
    """One collection that agents may ask.

    Args:
        name: by which they ask for it.
        collection: with its scope, which no argument of a tool widens.
        characters: most characters of texts and metadata in one answer.
    """

    name: str
    collection: Collection
    characters: int
    _survey: tuple[float, Survey] | None = field(default=None, init=False)
    _surveying: threading.Lock = field(default_factory=threading.Lock, init=False)

    @property
    def modes(self) -> tuple[str, ...]:
        """The ways of searching that a text alone suffices for, the best first."""
        known = self.collection.fingerprint()
        dense, lexical = known["embedder"] is not None, known["lexical"] != "none"
        return tuple(mode for mode in MODES if (mode == "lexical" or dense) and (mode == "dense" or lexical))

    def search(self, query: str, k: int, mode: str | None, where: dict[str, Any] | None) -> dict[str, Any]:
        """Return the best chunks for a question, cut to the budget."""
        modes = self.modes
        if not modes:
            raise InvalidInput(f"{self.name} can be searched by ready vectors only; read it with list_sources and get")
        if mode is not None and mode not in modes:
            raise InvalidInput(f"mode is {mode!r:.80}; {self.name} has {', '.join(modes)}")
        require_between("k", k, 1, MOST_HITS)
        if not query.strip():
            raise InvalidInput("query is empty; pass a question or words to search for")
        if len(query) > _LONGEST_QUERY:
            raise InvalidInput(f"query has {len(query):,} characters; at most {_LONGEST_QUERY:,} are searched for")
        hits = self.collection.search(query, k=k, mode=mode or modes[0], where=where)  # type: ignore[arg-type]  # one of the three
        shown = fit([hit.chunk for hit in hits], self.characters)
        found = [{"rank": hit.rank, "score": round(hit.score, 4), **one} for hit, one in zip(hits, shown, strict=True)]
        return {"collection": self.name, "mode": mode or modes[0], "hits": found}

    def get(self, ids: list[str], offset: int) -> dict[str, Any]:
        """Return chunks whole, or from a character on, as far as the budget goes."""
        _require_ids(ids)
        if offset < 0:
            raise InvalidInput(f"offset is {offset}; the first character is 0")
        wanted = list(dict.fromkeys(ids))
        chunks = self.collection.get(wanted)
        there = {chunk.id for chunk in chunks}
        shown: dict[str, Any] = {"collection": self.name, "chunks": fit(chunks, self.characters, offset=offset)}
        missing = [one[:_LONGEST_TOLD] for one in wanted if one not in there]
        return {**shown, "missing": missing} if missing else shown

    def list_sources(self, contains: str | None, limit: int, offset: int) -> dict[str, Any]:
        """Return sources by name, with the number of their chunks."""
        require_between("limit", limit, 1, MOST_SOURCES)
        if offset < 0:
            raise InvalidInput(f"offset is {offset}; the first source is 0")
        found = self.surveyed()
        names = sorted(name for name in found.sources if contains is None or contains.casefold() in name.casefold())
        some: list[dict[str, Any]] = []
        used = 0
        for name in names[offset : offset + limit]:
            used += min(len(name), _LONGEST_SOURCE)
            if used > self.characters and some:
                break
            some.append({"source": clean(name[:_LONGEST_SOURCE]), "chunks": found.sources[name]})
        answer: dict[str, Any] = {"collection": self.name, "total": len(names), "sources": some}
        if offset + len(some) < len(names):
            answer["more"] = f"call list_sources with offset {offset + len(some)} for more"
        if not found.whole:
            answer["note"] = f"of the first {found.chunks:,} chunks alone"
        return answer

    def add(self, chunk_id: str, text: str, metadata: dict[str, Any] | None) -> dict[str, Any]:
        """Store one chunk, and say whether it replaced one."""
        if not chunk_id or len(chunk_id) > _LONGEST_ID:
            raise InvalidInput(f"id has {len(chunk_id):,} characters; give it 1 to {_LONGEST_ID}")
        if not text.strip() or len(text) > _LONGEST_TEXT:
            raise InvalidInput(
                f"text has {len(text):,} characters; pass 1 to {_LONGEST_TEXT:,}, and split what is longer"
            )
        done = self.collection.add([Chunk(chunk_id, text, metadata or {})])
        what = "added" if done.added else "replaced" if done.updated else "unchanged"
        return {"collection": self.name, "id": chunk_id, "done": what}

    def delete(self, ids: list[str]) -> dict[str, Any]:
        """Delete chunks by id, and say which were there."""
        _require_ids(ids)
        there = [chunk.id for chunk in self.collection.get(list(dict.fromkeys(ids)))]
        deleted = self.collection.delete(ids=there)
        return {"collection": self.name, "deleted": deleted, "ids": there}

    def surveyed(self) -> Survey:
        """Return what is in the collection, at most half a minute old."""
        with self._surveying:
            if self._survey is None or time.monotonic() - self._survey[0] > _FRESH:
                self._survey = time.monotonic(), survey(self.collection)
            return self._survey[1]


def open_served(paths: list[Path], *, scope: dict[str, Any] | None, write: bool, characters: int) -> list[Served]:
    """Open collections to be served, each by the name of its directory."""
    opened: list[Served] = []
    try:
        for path in paths:
            name = one_line(path.absolute().name) or "kb"
            if any(one.name == name for one in opened):
                raise InvalidInput(f"two collections are called {name!r}; serve each by a process of its own")
            reperio.open(path, read_only=True).close()  # to write would create what is not there
            opened.append(Served(name, reperio.open(path, read_only=not write, scope=scope), characters))
    except BaseException:
        for one in opened:
            one.collection.close()
        raise
    return opened


def require_between(name: str, value: int, least: int, most: int) -> None:
    """Refuse a number that is out of range."""
    if not least <= value <= most:
        raise InvalidInput(f"{name} is {value}; it is a number from {least} to {most}")


def _require_ids(ids: list[str]) -> None:
    if not ids:
        raise InvalidInput("ids is empty; pass the ids of chunks, as search shows them")
    if len(ids) > MOST_IDS:
        raise InvalidInput(f"ids has {len(ids):,}; pass {MOST_IDS} at a time")

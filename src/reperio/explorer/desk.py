"""What all pages share: the collections, opened to read, and what was fixed when the server began."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import reperio
from reperio import Collection, CollectionClosed, Embedder, InvalidInput, Reranker
from reperio.explorer.jobs import Job
from reperio.printable import one_line
from reperio.serving.survey import Survey, survey

Result = TypeVar("Result")

MODES = ("hybrid", "dense", "lexical")
_FRESH = 10.0  # seconds for which a survey is believed, whatever was written since
_PATIENCE = 0.03  # seconds that a page waits for a first survey: a small collection needs no more


@dataclass(frozen=True)
class Options:
    """What is fixed when the server begins.

    Attributes:
        kb: directory of the collection.
        others: directories of others to compare it with, such as a backup from before a change.
        golden: the golden set that marks are written to; None for none.
        log: questions to be judged, as a query log keeps them; None for none.
        report: what `reperio gate --json` printed; None for none.
        scope: that all collections are confined to, which no request widens.
        embedder: of all collections; None for the recorded ones.
        reranker: that a person may switch on; None for none.
    """

    kb: Path
    others: Sequence[Path] = ()
    golden: Path | None = None
    log: Path | None = None
    report: Path | None = None
    scope: Mapping[str, Any] | None = None
    embedder: Embedder | None = None
    reranker: Reranker | None = None


class Opened:
    """One collection, opened again where its directory was replaced."""

    def __init__(self, name: str, path: Path, options: Options) -> None:
        self.name, self.path = name, path
        self._options = options
        self._lock = threading.Lock()
        self._collection = self._open()

    def call(self, work: Callable[[Collection], Result]) -> Result:
        """Return what *work* makes of the collection."""
        collection = self._collection
        try:
            return work(collection)
        except CollectionClosed:  # its directory was removed or replaced
            with self._lock:
                if self._collection is collection:
                    fresh = self._open()
                    collection.close()
                    self._collection = fresh
            return work(self._collection)

    def close(self) -> None:
        """Release the files."""
        self._collection.close()

    def _open(self) -> Collection:
        scope = None if self._options.scope is None else dict(self._options.scope)
        return reperio.open(self.path, read_only=True, scope=scope, embedder=self._options.embedder)


class Desk:
    """The collections, and what is known of them for all pages.

    Attributes:
        options: fixed at the start.
        names: of the collections; the first is the one that is looked at, the others are to compare it with.
        embedding: held by whoever embeds a question: one at a time.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.embedding = threading.Lock()
        self._opened: dict[str, Opened] = {}
        self._surveying: Job[Survey] | None = None
        self._surveyed_at: object = None
        self._seen: Survey | None = None
        self._lock = threading.Lock()
        try:
            for path in (options.kb, *options.others):
                name = self._new_name(path)
                self._opened[name] = Opened(name, path, options)
        except BaseException:
            self.close()
            raise
        self.names = tuple(self._opened)

    def call(self, work: Callable[[Collection], Result], name: str = "") -> Result:
        """Return what *work* makes of a collection; of the first one by default."""
        if name and name not in self._opened:
            raise InvalidInput(f"there is no collection {one_line(name)[:80]!r}; there are: {', '.join(self.names)}")
        return self._opened[name or self.names[0]].call(work)

    def modes(self, name: str = "") -> tuple[str, ...]:
        """Return the ways of searching that a text suffices for, the best first."""
        known = self.call(lambda kb: kb.fingerprint(), name)
        dense = known["embedder"] is not None or self.options.embedder is not None
        lexical = known["lexical"] != "none"
        return tuple(mode for mode in MODES if (mode == "lexical" or dense) and (mode == "dense" or lexical))

    def survey(self) -> tuple[Survey | None, bool]:
        """Return what the collection holds, as last seen, and whether it is being looked at again."""
        with self._lock:
            job = self._surveying
            if job is None or (job.ended is not None and time.monotonic() - job.ended > _FRESH):
                state = self._state()
                if job is None or job.result is None or state != self._surveyed_at:
                    self._surveyed_at = state
                    self._seen = job.result if job is not None and job.result is not None else self._seen
                    job = self._surveying = Job("survey", self._survey)
        if job.running and self._seen is None:
            job.wait(_PATIENCE)
        return job.result or self._seen, job.running

    def _survey(self, job: Job[Survey]) -> Survey:
        return self.call(lambda kb: survey(kb, goes_on=job.wanted))

    def close(self) -> None:
        """Stop what is under way, and release the files."""
        if self._surveying is not None:
            self._surveying.stop(wait=1.0)
        for each in self._opened.values():
            each.close()

    def _state(self) -> object:
        """Return what changes whenever something is written."""
        info = self.call(lambda kb: kb.info())
        return info.generation, info.count, info.deleted, info.tail

    def _new_name(self, path: Path) -> str:
        name = one_line(path.absolute().name) or "kb"
        return name if name not in self._opened else one_line(str(path.absolute()))


@contextmanager
def opened(options: Options) -> Iterator[Desk]:
    """Open the collections during the block."""
    desk = Desk(options)
    try:
        yield desk
    finally:
        desk.close()

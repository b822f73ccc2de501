"""Keep a collection up to date while files change."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from reperio.collection import Collection
from reperio.errors import InvalidInput
from reperio.ingestion.finding.paths import Paths, listed_paths
from reperio.ingestion.results import IngestResult
from reperio.optional import OptionalImport
from reperio.printable import logger

_log = logger("reperio.ingestion")

_STEP_MS = 200
"""Changes are gathered until there are none for so long, so that a file is whole when it is read."""
_LOOK_MS = 1000
_PATIENCE = 60
"""Looks for which a folder that was away may go on changing before it is read all the same."""

Run: TypeAlias = "Callable[[Sequence[str]], IngestResult]"


def watch(
    collection: Collection,
    paths: Paths,
    run: Run,
    *,
    stop: threading.Event | None = None,
    say: Callable[[str], None] | None = None,
) -> Iterator[IngestResult]:
    """Run at once, and again whenever something changed beneath the paths; yield each result.

    A path that is missing or empty later is waited for: until it is back, and nothing has changed in it for a second,
    the runs are over the others, so that nothing of it is deleted. What a later run refuses is told, and the next
    change leads to another run.

    Args:
        collection: that the run writes; if it lies beneath the paths, its own changes count for nothing.
        paths: what to look at.
        run: calls `ingest` with the paths it is passed: those of *paths* that are there. A run over unchanged files
            reads none of them.
        stop: ends the watching when it is set; without it, an interrupt does.
        say: called with a sentence when a path is gone, and with what a run refuses; by default it is logged.

    Raises:
        MissingDependency: run ``pip install 'reperio[watch]'``.
        InvalidInput: a path does not exist at the beginning, or the first run refuses it; or the system watches no
            more folders.
    """
    with OptionalImport("watching", "watchfiles", extra="watch"):
        pass  # told before anything is ingested
    places = [_Place(base, pattern) for base, pattern in listed_paths(paths)]
    watching = _Watching(
        places, run, Path(collection.info().path).resolve(), stop or threading.Event(), say or _log.warning
    )
    yield run([place.path for place in places])
    while not watching.stop.is_set():
        yield from watching.results()


@dataclass(frozen=True, slots=True)
class _Place:
    """A path that is watched: a file, a folder, or the part of a folder that a pattern names."""

    base: Path
    pattern: str | None

    @property
    def path(self) -> str:
        """As it is passed to the run."""
        return str(self.base if self.pattern is None else self.base / self.pattern)

    def seen(self) -> tuple[int, ...] | None:
        """Return by what it is known to be the same folder, or the same content of a file; None where it is away.

        An empty folder counts as away: it may be one that is being written again, or a disk that is not mounted.
        """
        try:
            found = self.base.stat()
        except OSError:
            return None
        if not stat.S_ISDIR(found.st_mode):
            return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
        with contextlib.suppress(OSError), os.scandir(self.base) as entries:
            if all(entry.name.startswith(".") for entry in entries):
                return None
        return found.st_dev, found.st_ino


@dataclass(slots=True)
class _Watching:
    """What is known of the paths, and what is to be done about them."""

    places: Sequence[_Place]
    run: Run
    itself: Path
    stop: threading.Event
    say: Callable[[str], None]
    due: bool = True  # at first also without a change: there may have been one before the watching began
    changed: bool = False  # since the last run
    waits: int = 0  # looks for which a run may still wait until nothing changes
    told: str = ""  # the last refusal
    state: list[tuple[int, ...] | None] = field(init=False)

    def __post_init__(self) -> None:
        self.state = [place.seen() for place in self.places]

    def results(self) -> Iterator[IngestResult]:
        """Run whenever something changes; return when a folder is not the one any more that is watched."""
        begun = self._folders()
        with contextlib.closing(self._looks(list(begun))) as looks:
            for changed, lost in looks:
                moved = self._look()
                self.changed |= changed or moved
                self.due |= self.changed
                if lost or self._folders() != begun:
                    self.waits = _PATIENCE
                    return
                if not self.due or not any(self.state):
                    continue
                if self.waits and (changed or moved):
                    self.waits -= 1
                    continue
                result = self._ran()
                if result is not None:
                    yield result

    def _folders(self) -> dict[Path, tuple[int, ...]]:
        """Return the folders that are there, and by what they are known."""
        both = zip(self.places, self.state, strict=True)
        return {place.base: seen for place, seen in both if seen is not None and place.base.is_dir()}

    def _look(self) -> bool:
        """Look at all paths, tell which are gone since, and say whether any has changed."""
        before, self.state = self.state, [place.seen() for place in self.places]
        for place, was, now in zip(self.places, before, self.state, strict=True):
            if was is not None and now is None:
                what = "is empty" if place.base.is_dir() else "is not there"
                self.say(f"{place.base} {what}; what is stored of it is kept, and it is read again when it is back")
        if self.state == before:
            return False
        self.waits = self.waits or _PATIENCE
        return True

    def _ran(self) -> IngestResult | None:
        """Run over what is there; return the result, if there is anything to tell."""
        news, self.due, self.changed, self.waits = self.changed, False, False, 0
        there = [place.path for place, seen in zip(self.places, self.state, strict=True) if seen is not None]
        try:
            result = self.run(there)
        except InvalidInput as refusal:
            if str(refusal) != self.told:
                self.told = str(refusal)
                self.say(self.told)
            self.waits = _PATIENCE
            return None
        self.told = ""
        return result if news or result.added or result.updated or result.removed else None

    def _looks(self, folders: Sequence[Path]) -> Generator[tuple[bool, bool], None, None]:
        """Yield every second, and when changes have settled: whether there were any, and whether a folder is lost."""
        import watchfiles
        from watchfiles import Change

        if not folders:
            while not self.stop.wait(_LOOK_MS / 1000):
                yield False, False
            return
        tops = {place: place.resolve() for place in folders}
        try:
            for changes in watchfiles.watch(
                *tops.values(),
                watch_filter=None,  # also of what does not count, so that the paths are looked at in any case
                step=_STEP_MS,
                rust_timeout=_LOOK_MS,
                yield_on_timeout=True,
                stop_event=self.stop,
                ignore_permission_denied=True,  # the run lists what may not be read
            ):
                # The system goes on watching the folder that was there, also where a new one has its inode.
                lost = any(kind is Change.deleted and Path(path) in tops.values() for kind, path in changes)
                yield any(self._counts(Path(path)) for _, path in changes), lost
        except FileNotFoundError:  # gone between two looks
            self.stop.wait(_STEP_MS / 1000)
        except (OSError, RuntimeError) as error:
            raise InvalidInput(
                f"the folders cannot be watched: {error}; allow more (on Linux: sysctl fs.inotify.max_user_watches), "
                "or set the environment variable WATCHFILES_FORCE_POLLING=1"
            ) from error

    def _counts(self, path: Path) -> bool:
        # What a run passes over need not wake it; editors write hidden files next to those that they save.
        return not path.name.startswith(".") and not path.is_relative_to(self.itself)

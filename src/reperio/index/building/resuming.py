"""A build that survives a kill: its state on disk, saved now and then, trusted only when it verifies.

The state is two files in a directory of the caller's: ``build-ROWS.faiss``, the index as far as it was filled, and
``build.json``, which names it with its checksum and says what was being built. The record is replaced after the
index file is durable and before the older one is removed, so a kill leaves a whole state or none. A graph that is
built next to the index is saved when it is finished, with a record of its own, ``graph.json``.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from reperio.errors import StorageFailed
from reperio.index.library.files import FileUnusable, Written, read_file, write_file
from reperio.index.library.loading import metric_type, type_names
from reperio.index.library.symphony import Graph, read_graph, write_graph
from reperio.index.recipes.goal import Recipe
from reperio.layout import (
    is_build,
    is_directory,
    make_directory,
    read_regular,
    require_absent_or_directory,
    storage_errors,
    sync_directory,
    write_atomically,
)
from reperio.printable import logger
from reperio.types import Metric

_log = logger("reperio.index")
_FORMAT = 1
_RECORD, _GRAPH_RECORD, _RECORD_BYTES = "build.json", "graph.json", 1 << 20
_MOST_GROWTH = 2  # rows now per row that was there at training, up to which a half-built index is worth finishing
_FINGERPRINT_ROWS = 256


@dataclass(frozen=True, slots=True)
class Saving:
    """The intervals at which the state of a build is saved: after training, then at block boundaries."""

    seconds: float = 20.0  # at least so long between two saves
    # Of the time since the last save, the most that a save may take, as far as the last one tells: an index of
    # gigabytes is not written every few seconds.
    share: float = 0.1
    # Also save the whole index, and leave it there for the caller to `discard` once it has put the index away;
    # otherwise a finished build leaves nothing.
    finished: bool = False

    def due(self, since: float, cost: float) -> bool:
        """Say whether to save, *since* seconds after the last save, which took *cost*."""
        return since >= self.seconds and cost <= self.share * since


class Scratch:
    """The saved state of one build.

    A disk that cannot hold it costs a warning and the ability to resume, never the build.

    Args:
        directory: where to save; made when needed. Only files with names as they are given here are touched,
            and none where a link is in its place.
        recipe, matrix, metric: what is built; a state of anything else is not resumed.
        saving: how often to save.
    """

    def __init__(
        self, directory: Path, recipe: Recipe, matrix: npt.NDArray[np.floating[Any]], metric: Metric, saving: Saving
    ) -> None:
        self._directory = directory
        self._matrix = matrix
        self._metric = metric
        self._saving = saving
        self._building = _facts(recipe, matrix, metric)
        self._trained_for = len(matrix)
        self._cost, self._last = 0.0, monotonic()
        self._failed = False

    def load(self) -> Any | None:
        """Return the index as far as it was built; None, with the directory cleared, where nothing can be resumed."""
        try:
            index = self._read()
        except (FileUnusable, OSError, ValueError, KeyError, TypeError) as error:
            if getattr(error, "errno", None) != errno.ENOENT:  # else no build was interrupted, or before its first save
                _log.info("%s: the interrupted build is not resumed: %s", self._directory, error)
            index = None
        if index is None:
            discard(self._directory)
        self._last = monotonic()
        return index

    def save_if_due(self, index: Any) -> None:
        """Save at a block boundary, as `Saving` says."""
        if self._saving.due(monotonic() - self._last, self._cost):
            self.save(index)

    def save(self, index: Any) -> None:
        """Save the state; when that fails, warn, and try no more."""
        if self._failed:
            return
        started = monotonic()
        path = self._path(index.ntotal)
        try:
            require_absent_or_directory(self._directory)
            with storage_errors(self._directory, "create"):
                make_directory(self._directory, exist_ok=True, parents=True)
            written = write_file(index, path)
            state = {
                "rows": index.ntotal,
                "trained_for": self._trained_for,
                "types": type_names(index),
                "fingerprint": _fingerprint(self._matrix, self._trained_for),
                **written._asdict(),
            }
            write_atomically(self._directory / _RECORD, orjson.dumps(self._building | state))
        except StorageFailed as error:
            _log.warning("the build goes on, but a kill would lose what is done since the last save: %s", error)
            self._failed = True
            _remove(self._directory, path.name, f"{_RECORD}.new")
            return
        others = (name for name in _files(self._directory) if name.startswith("build-") and not _is_graph(name))
        _remove(self._directory, *(name for name in others if name != path.name))
        self._last = monotonic()
        self._cost = self._last - started

    def finish(self, index: Any) -> None:
        """Leave nothing, or the whole index where that is wanted."""
        if self._saving.finished:
            self.save(index)
        else:
            discard(self._directory)

    def _read(self) -> Any:
        record = _read_record(self._directory)
        other = [name for name, value in self._building.items() if record[name] != value]
        if other:
            raise FileUnusable(f"its {other[0]} was {record[other[0]]!r}, now {self._building[other[0]]!r}")
        rows, trained_for = int(record["rows"]), int(record["trained_for"])
        now = len(self._matrix)
        if not (0 <= rows <= now and trained_for <= now <= _MOST_GROWTH * trained_for):
            raise FileUnusable(f"it was trained for {trained_for:,} rows and holds {rows:,}; there are {now:,} now")
        if record["fingerprint"] != _fingerprint(self._matrix, trained_for):
            raise FileUnusable("its rows were others")
        index = read_file(self._path(rows), Written(record["sha256"], record["bytes"]))
        found = (type_names(index), index.d, index.ntotal, index.metric_type, index.is_trained)
        if found != (record["types"], self._matrix.shape[1], rows, metric_type(self._metric), True):
            raise FileUnusable(f"it holds {found}, which is not what was recorded")
        self._trained_for = trained_for
        return index

    def _path(self, rows: int) -> Path:
        return self._directory / f"build-{rows:012d}.faiss"


class SavedGraph:
    """A finished graph in the directory of a build, until the index that it belongs to is put in use.

    As with `Scratch`, what cannot be saved costs a warning and the ability to resume.

    Args:
        directory: of the build's state.
        recipe, matrix, metric: what is built; a graph of anything else, or over other rows, is not taken.
    """

    def __init__(self, directory: Path, recipe: Recipe, matrix: npt.NDArray[np.floating[Any]], metric: Metric) -> None:
        self._directory, self._metric = directory, metric
        self._rows, self._dimension = matrix.shape
        self._facts = _facts(recipe, matrix, metric) | {
            "rows": self._rows,
            "fingerprint": _fingerprint(matrix, self._rows),
        }

    def load(self) -> Graph | None:
        """Return the graph that was saved; None where there is none of these rows."""
        try:
            record = _read_record(self._directory, _GRAPH_RECORD)
            if any(record[name] != value for name, value in self._facts.items()):
                raise FileUnusable("it was built over other rows, or otherwise")
            written = Written(record["sha256"], record["bytes"])
            graph = read_graph(self._path, written, 0, self._rows, self._dimension, self._metric)
            graph.file = None  # it gets a name of its own when it is put in use
            return graph
        except (FileUnusable, MemoryError, OSError, ValueError, KeyError, TypeError) as error:
            if getattr(error, "errno", None) != errno.ENOENT:
                _log.info("%s: the graph of the interrupted build is not used: %s", self._directory, error)
            _remove(self._directory, _GRAPH_RECORD, *filter(_is_graph, _files(self._directory)))
            return None

    def save(self, graph: Graph) -> None:
        """Save a graph over all rows; when that fails, warn."""
        try:
            written = write_graph(graph, self._path)
            record = self._facts | written._asdict()
            write_atomically(self._directory / _GRAPH_RECORD, orjson.dumps(record))
        except StorageFailed as error:
            _log.warning("the build goes on, but a kill would lose its graph: %s", error)
            _remove(self._directory, self._path.name, f"{_GRAPH_RECORD}.new")
        else:
            graph.written = written

    @property
    def _path(self) -> Path:
        return self._directory / f"build-{self._rows:012d}.symqg"


def take_graph(directory: Path, target: Path, graph: Graph) -> Written | None:
    """Do for a graph what `take` does for an index."""
    source, written = directory / f"build-{graph.rows:012d}.symqg", graph.written
    return written if written is not None and not graph.first and _moved(source, target) else None


def discard(directory: Path) -> None:
    """Remove the state of a build from *directory*; there need not be one."""
    # The records first, so that they never name a file that is gone.
    records = (_RECORD, _GRAPH_RECORD)
    _remove(directory, *records, *(name for name in _files(directory) if name not in records))


def _facts(recipe: Recipe, matrix: npt.NDArray[np.floating[Any]], metric: Metric) -> dict[str, Any]:
    """Return what must be equal for a build to go on where another one was."""
    return {
        "format": _FORMAT,
        "factory": recipe.factory,
        "training_rows": recipe.training_rows,
        "construction": recipe.construction,
        "metric": metric.value,
        "dimension": matrix.shape[1],
        "dtype": matrix.dtype.name,
    }


def _read_record(directory: Path, name: str = _RECORD) -> Any:
    require_absent_or_directory(directory)
    return orjson.loads(read_regular(directory / name, _RECORD_BYTES))


def _files(directory: Path) -> list[str]:
    """Return what interrupted builds have left in a directory; nothing, where it cannot be read or is a link."""
    with contextlib.suppress(OSError):
        if is_directory(directory):
            return [path.name for path in directory.iterdir() if is_build(path.name)]
    return []


def _is_graph(name: str) -> bool:
    return name.endswith((".symqg", ".symqg.new"))


def _remove(directory: Path, *names: str) -> None:
    with contextlib.suppress(OSError):
        if not is_directory(directory):
            return
    for name in names:
        with contextlib.suppress(OSError):
            (directory / name).unlink(missing_ok=True)


def take(directory: Path, target: Path, rows: int) -> Written | None:
    """Move the finished build of an index over *rows* rows to *target*, durably: it is not written a second time.

    Returns:
        What was written; None when there is no such build here.

    Raises:
        StorageFailed: it cannot be moved.
    """
    try:
        record = _read_record(directory)
        if record["rows"] != rows:
            return None
        source, written = directory / f"build-{rows:012d}.faiss", Written(record["sha256"], record["bytes"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not _moved(source, target):
        return None
    _remove(directory, _RECORD)
    return written


def _moved(source: Path, target: Path) -> bool:
    """Move a file durably; False where there is none."""
    with storage_errors(target, "write"):
        try:
            source.rename(target)
        except FileNotFoundError:
            return False
        sync_directory(target.parent)
    return True


def _fingerprint(matrix: npt.NDArray[np.floating[Any]], rows: int) -> str:
    """Tell the first *rows* rows from others, by a few of them: the state may not be of this file at all."""
    chosen = np.linspace(0, rows - 1, min(rows, _FINGERPRINT_ROWS)).astype(np.int64)
    return hashlib.sha256(np.ascontiguousarray(matrix[chosen]).tobytes()).hexdigest()

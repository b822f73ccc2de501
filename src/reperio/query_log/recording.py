"""Write the questions that a collection is asked to a log: off by default, bounded, rotating."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from reperio.arguments import require_count, to_path
from reperio.errors import InvalidInput, StorageFailed, warn_caller
from reperio.filters import Filter, to_dict
from reperio.forks import ForkSafeLock
from reperio.layout import open_regular, storage_errors
from reperio.printable import one_line
from reperio.types import Hit

_MODE = 0o600  # questions are personal: nobody else reads them


@dataclass(frozen=True)
class QueryLog:
    """The place of a log of questions, and how much of them it keeps.

    One JSON object per line: ``time`` (UTC), ``query`` or ``query_sha256``, ``k``, ``mode``, ``where``, ``ms`` and
    ``ids``. `reperio.query_log.reading.read_queries` reads the texts back, for `optimize` and for ``reperio gate``.

    Args:
        path: the file, ``.jsonl``; older ones next to it are ``name.1.jsonl`` and so on, 1 the newest of them.
        max_bytes: of one file, at least 1,000.
        files: kept in all, at least 1; the oldest is removed.
        hash_texts: keep only the SHA-256 of the texts: equal questions are told, and none can be asked again. Short
            questions can be found out by trying; it is no anonymisation.
    """

    path: str | os.PathLike[str]
    max_bytes: int = 10_000_000
    files: int = 5
    hash_texts: bool = False

    def __post_init__(self) -> None:
        suffix = to_path("the path of the query log", self.path).suffix
        if suffix.lower() != ".jsonl":
            raise InvalidInput(f"{self.path} has the suffix {suffix!r}; a query log is a .jsonl")
        require_count("max_bytes", self.max_bytes)
        require_count("files", self.files)
        if self.max_bytes < 1000 or self.files < 1:
            raise InvalidInput(
                f"max_bytes is {self.max_bytes} and files {self.files}; at least 1,000 and 1 are needed"
            )  # fmt: skip


class QueryRecorder:
    """Appends to a query log, or raises `StorageFailed`; any number of threads and processes may do so at once."""

    def __init__(self, log: QueryLog) -> None:
        self._log = log
        self._path = to_path("the path of the query log", log.path).absolute()
        self._lock = ForkSafeLock()
        self._process = os.getpid()
        self._warned = False
        self._descriptor = self._opened()

    def record(
        self, text: str, *, k: int, mode: str, where: Mapping[str, Any] | Filter | None, ms: float, ids: Sequence[str]
    ) -> None:
        """Append one question with what came. A log that cannot be written is warned of once, and stops no search."""
        plain = to_dict(where) if isinstance(where, Filter) else where
        line = self._line(text, {"k": k, "mode": mode, "where": plain, "ms": round(ms, 3), "ids": list(ids)})
        with self._lock:
            try:
                if self._process != os.getpid():  # a forked child has the lock of the file in common with its parent
                    self._process = os.getpid()
                    self._reopen()
                self._append(line)
            except StorageFailed as error:
                if not self._warned:
                    self._warned = True
                    warn_caller(one_line(f"questions are not logged: {error}"))

    def record_all(
        self,
        texts: Sequence[str],
        answers: Sequence[Sequence[Hit]],
        started: float,
        *,
        k: int,
        mode: str,
        where: Mapping[str, Any] | Filter | None,
    ) -> None:
        """Append the questions of one search, each with its part of the time since *started* (`time.perf_counter`)."""
        ms = (time.perf_counter() - started) * 1e3 / max(1, len(texts))
        for text, hits in zip(texts, answers, strict=True):
            self.record(text, k=k, mode=mode, where=where, ms=ms, ids=[hit.chunk.id for hit in hits])

    def close(self) -> None:
        """Close the file; doing so twice is no error."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1

    def _append(self, line: bytes) -> None:
        with storage_errors(self._path, "write"):
            # The lock of the file keeps a process from appending to what another one is renaming.
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            try:
                size = self._room_for(len(line))
                if os.write(self._descriptor, line) < len(line):
                    os.ftruncate(self._descriptor, size)  # half a line would spoil the next one
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            finally:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _room_for(self, length: int) -> int:
        """See that the open file is the newest and has room for so many bytes; return its size."""
        while True:
            # Another process may rotate whenever this one holds the lock of a file that is no longer in place.
            if self._is_replaced():
                self._reopen()
                continue
            size = os.fstat(self._descriptor).st_size
            if size + length <= self._log.max_bytes:
                return size
            if size == 0:
                raise OSError(errno.EFBIG, f"a question takes {length:,} bytes, more than max_bytes")
            self._rotate()

    def _line(self, text: str, rest: Mapping[str, Any]) -> bytes:
        asked = {"query": text}
        if self._log.hash_texts:
            asked = {"query_sha256": hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()}
        moment = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        # In ASCII: no text can break a line, or be no UTF-8.
        return json.dumps({"time": moment, **asked, **rest}, default=str).encode() + b"\n"

    def _opened(self) -> int:
        with storage_errors(self._path, "write"):
            return open_regular(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, mode=_MODE, follow=True)

    def _is_replaced(self) -> bool:
        try:
            # By its number: a file that was renamed is the same one under another name.
            return self._path.stat().st_ino != os.fstat(self._descriptor).st_ino
        except FileNotFoundError:
            return True

    def _reopen(self) -> None:
        fresh = self._opened()
        fcntl.flock(fresh, fcntl.LOCK_EX)
        os.close(self._descriptor)  # and its lock with it
        self._descriptor = fresh

    def _rotate(self) -> None:
        # From the oldest on, so that each finds the next number free; the oldest is overwritten.
        for number in range(self._log.files - 1, 0, -1):
            older = self._numbered(number - 1)
            if older.exists():
                older.replace(self._numbered(number))
        if self._log.files == 1:
            self._path.unlink(missing_ok=True)
        self._reopen()

    def _numbered(self, number: int) -> Path:
        return self._path.with_suffix(f".{number}.jsonl") if number else self._path

"""Read a document in a process of its own: a hostile one takes its time and its memory, and nothing else."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import reperio.errors
from reperio.errors import InvalidInput, MissingDependency, ReperioError
from reperio.ingestion.cutting.structure import Kind
from reperio.ingestion.reading.formats.parts import HEARD
from reperio.ingestion.reading.front_matter import without_images
from reperio.ingestion.reading.items import Item, ReadingOptions, without_taken
from reperio.layout import open_regular
from reperio.optional import OptionalImport

# The package that reads a format: as it is imported, and as it is installed.
_LIBRARIES = {
    ".pdf": ("pypdfium2", "pypdfium2"),
    **dict.fromkeys((".html", ".htm", ".xhtml", ".epub"), ("selectolax", "selectolax")),
    **dict.fromkeys((".xlsx", ".xls", ".ods"), ("python_calamine", "python-calamine")),
}
_KINDS: dict[str, Kind] = {".pdf": "plain"}
_SERVE = "import sys; sys.path[:] = sys.argv[1:]; from reperio.ingestion.reading.formats.worker import serve; serve()"
_LINE = 1 << 20


def read_document(path: Path, suffix: str, options: ReadingOptions, say: Callable[[str], None]) -> Iterator[Item]:
    """Read a document's parts: pages, slides, sheets or chapters, or the whole of it; they are held whole.

    Raises:
        InvalidInput: it cannot be read, unpacks to too much, or takes too long.
        MissingDependency: its library is not installed, or needs a library of the system that is not there.
    """
    library = _LIBRARIES.get(suffix)
    if library is not None:
        with OptionalImport(str(path), library[1], extra="documents"):
            if find_spec(library[0]) is None:
                raise ModuleNotFoundError(f"No module named {library[0]!r}", name=library[0])
    os.close(open_regular(path, follow=True))  # what is not there, or no file, is told as for any other format
    request = {"path": os.path.abspath(path), "suffix": suffix, "encoding": options.encoding}  # noqa: PTH100  # links stay
    for part in _WORKERS.ask(request, options.seconds):
        if "note" in part:
            say(part["note"])
            continue
        place = f"{path}:{part['place']}" if part["place"] else str(path)
        yield Item(
            place,
            without_images(part["text"]),
            None,
            without_taken(part["metadata"], place),
            kind=_KINDS.get(suffix, "markdown"),
            title=part["title"],
            headings=tuple(part["headings"]),
        )


class _Workers:
    """The process that reads documents: started when the first is read, and again when it had to be ended."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._of = 0  # the process that has started it: a fork shares the pipes, and must not use them
        self._turn = threading.Lock()

    def ask(self, request: dict[str, Any], seconds: float) -> list[dict[str, Any]]:
        """Have a document read and return its parts; whatever goes wrong, or is broken off, ends the process."""
        parts: list[dict[str, Any]] = []
        with self._turn:
            try:
                for answer in _answers(self._asked(request), request["path"], seconds):
                    if "done" in answer:
                        return parts
                    if "failed" in answer or "missing" in answer:
                        break
                    parts.append(answer)
            except BaseException:
                self._end()
                raise
        raise _error(request["path"], answer)

    def _asked(self, request: dict[str, Any]) -> subprocess.Popen[bytes]:
        """Send a request, to a new process where this one has ended because nobody asked it for long."""
        line = json.dumps(request).encode() + b"\n"
        for last in (False, True):
            process = self._started()
            with contextlib.suppress(BrokenPipeError):
                _pipe(process.stdin).write(line)
                if _pipe(process.stdout).read(len(HEARD)) == HEARD:  # written at once, so read at once
                    return process
            if last:
                raise InvalidInput(_ended(request["path"], process))
            self._end()
        raise AssertionError("the second attempt has returned or raised")

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None and (self._of != os.getpid() or self._process.poll() is not None):
            self._end()
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", _SERVE, *_trusted_folders()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,  # what is waited for must not lie in a buffer
                stderr=subprocess.DEVNULL,
                cwd=os.sep,
                start_new_session=True,  # Ctrl-C is for this process, which ends that one
            )
            if not self._of:
                atexit.register(self._end)
            self._of = os.getpid()
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            if self._of == os.getpid():
                process.kill()
            else:
                process.returncode = 0  # the parent's, which goes on: here only the ends of its pipes are closed
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
            process.wait()


_WORKERS = _Workers()


def _trusted_folders() -> list[str]:
    """Return the folders that the process imports from: those of this one, without the current folder.

    Python looks for modules in the current folder first. A person who ingests what a stranger has packed is likely to
    stand there, and an ``html.py`` among the files would run.
    """
    folders = [os.path.abspath(folder) for folder in sys.path if not _is_here(folder)]  # noqa: PTH100  # links stay
    own = str(Path(reperio.errors.__file__).parents[1])
    return folders if own in folders else [*folders, own]  # last, so that nothing there replaces a module of Python's


def _is_here(folder: str) -> bool:
    """Say whether a folder is the current one, by whatever name; without one, so is all that is relative to it."""
    try:
        return Path(folder).samefile(os.curdir)
    except OSError:
        return not Path(folder).is_absolute()


def _answers(process: subprocess.Popen[bytes], path: str, seconds: float) -> Iterator[dict[str, Any]]:
    """Yield what the process says; only the time in which it is waited for counts."""
    stdout = _pipe(process.stdout)
    left, buffer = seconds, bytearray()
    while True:
        asked = time.monotonic()
        ready, _, _ = select.select([stdout], [], [], left)
        left -= time.monotonic() - asked
        if not ready or left <= 0:
            raise InvalidInput(
                f"{path} takes longer than {seconds:g} seconds to read; leave it out, cut it into smaller files, or "
                "allow more with ReadingOptions(seconds=…)"
            )
        block = os.read(stdout.fileno(), _LINE)
        if not block:
            raise InvalidInput(_ended(path, process))
        buffer += block
        if b"\n" in block:
            *lines, rest = bytes(buffer).split(b"\n")
            buffer = bytearray(rest)
            for line in lines:
                yield json.loads(line)


def _ended(path: str, process: subprocess.Popen[bytes]) -> str:
    code = process.wait()
    return (
        f"{path} cannot be read: its reader ended with {code}, out of memory or by a fault of the library; leave the "
        "file out, or save it again by the program that made it"
    )


def _error(path: str, answer: dict[str, Any]) -> ReperioError:
    if "missing" in answer:
        return MissingDependency(
            f"{path} needs {answer['missing']}, which cannot be imported; run: pip install 'reperio[documents]', or "
            f"install the library of the system that it misses [{answer['why']}]"
        )
    return InvalidInput(f"{path} {answer['failed']}")


def _pipe(end: IO[bytes] | None) -> IO[bytes]:
    assert end is not None  # both are pipes
    return end

"""The process that reads documents: requests on standard input, parts on standard output, one JSON object per line."""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, TypeAlias

from reperio.errors import InvalidInput
from reperio.ingestion.reading.formats.parts import HEARD, MOST_TEXT, Part, Unreadable

Reader: TypeAlias = "Callable[[Path, str | None], Iterator[Part | str]]"

_MEMORY = 4 << 30  # bytes of address space: PDFium and others reserve more than they use
_IDLE = 60.0  # seconds without a request, after which it ends: a service may not read another document for days
_READERS = {
    ".pdf": "pdf",
    **dict.fromkeys((".html", ".htm", ".xhtml"), "html"),
    ".docx": "packed.word",
    ".pptx": "packed.slides",
    ".odt": "packed.open_text",
    **dict.fromkeys((".xlsx", ".xls", ".ods"), "sheets"),
    ".epub": "packed.book",
    ".eml": "mail",
    ".ipynb": "notebook",
    ".tex": "tex",
}


def serve() -> None:
    """Answer requests until standard input ends, or none has come for a minute."""
    _limit()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    while select.select([sys.stdin], [], [], _IDLE)[0]:  # one request at a time, so none lies in a buffer
        line = sys.stdin.buffer.readline()
        if not line:
            return
        answers.write(HEARD)
        answers.flush()
        _answer(json.loads(line), answers)
        answers.flush()


def _answer(request: dict[str, Any], answers: IO[bytes]) -> None:
    try:
        count = 0
        for part in read(Path(request["path"]), request["suffix"], request["encoding"]):
            if isinstance(part, str):
                _say(answers, {"note": part})
                continue
            count += len(part.text)
            if count > MOST_TEXT:
                raise Unreadable(f"has more than {MOST_TEXT:,} characters of text; cut it into smaller files")
            _say(
                answers,
                {
                    "text": part.text.encode("utf-8", "replace").decode(),  # a lone surrogate is no text
                    "title": part.title,
                    "headings": list(part.headings),
                    "metadata": part.metadata,
                    "place": next(
                        (str(part.metadata[key]) for key in ("page", "sheet", "chapter") if key in part.metadata), ""
                    ),
                },
            )
        _say(answers, {"done": True})
    except Unreadable as error:
        _say(answers, {"failed": str(error)})
    except InvalidInput as error:  # of what is shared with other formats; it names the file already
        _say(answers, {"failed": str(error).removeprefix(request["path"]).lstrip(": ")})
    except MemoryError:
        _say(answers, {"failed": f"needs more than {_MEMORY >> 30} GiB of memory; cut it into smaller files"})
    except ImportError as error:
        _say(answers, {"missing": error.name or "its library", "why": str(error)})
    # Of a library, over a file of anybody's making: the next one is read all the same. What Rust panics with is no
    # Exception.
    except BaseException as error:
        kind = type(error).__name__
        _say(answers, {"failed": f"cannot be read ({kind}: {error!s:.200}); save it again by the program that made it"})


def read(path: Path, suffix: str, encoding: str | None) -> Iterator[Part | str]:
    """Read a document by the reader of its suffix."""
    from importlib import import_module

    reader = import_module(f"reperio.ingestion.reading.formats.{_READERS[suffix]}")
    yield from reader.read(path, suffix, encoding)


def _say(answers: IO[bytes], answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer).encode() + b"\n")


def _limit() -> None:
    import resource

    for kind, most in ((resource.RLIMIT_AS, _MEMORY), (resource.RLIMIT_CORE, 0)):
        with contextlib.suppress(ValueError, OSError):  # macOS knows no limit of addresses
            resource.setrlimit(kind, (most, resource.getrlimit(kind)[1] if most else 0))

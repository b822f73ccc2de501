"""Bytes of a file → text: what a byte order mark says, else UTF-8; nothing is guessed and nothing replaced."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from reperio.errors import InvalidInput
from reperio.layout import open_regular

# A packed file may come to so many times its size, or to so many bytes at least.
_EXPANSION = 100
_EXPANSION_LEAST = 256 << 20
MOST_WHOLE = 1 << 28
"""Bytes of a file that is held whole: text and JSON that is not one object per line."""

# The longer ones first: the mark of UTF-32 begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_LOOKED_AT = 1 << 16


@contextmanager
def opened(path: Path) -> Iterator[io.BufferedReader]:
    """Open a file to read its bytes; one that ends in ``.gz`` is unpacked on the way, within bounds."""
    with open(open_regular(path, follow=True), "rb") as file:
        if path.suffix.lower() != ".gz":
            yield file
            return
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        try:
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield io.BufferedReader(_Bounded(unpacked, path, max(_EXPANSION_LEAST, _EXPANSION * size)))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise InvalidInput(f"{path} cannot be unpacked ({error}); pack it again with gzip") from None


class _Bounded(io.RawIOBase):
    """Reads no more than so many bytes of what is unpacked."""

    def __init__(self, file: gzip.GzipFile, path: Path, most: int) -> None:
        self._file, self._path, self._left, self._most = file, path, most, most

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: object) -> int:
        """Read into a buffer; raise `InvalidInput` beyond the bound."""
        view = memoryview(buffer)  # type: ignore[arg-type]  # io passes what has a buffer
        count = self._file.readinto(view)
        self._left -= count
        if self._left < 0:
            raise InvalidInput(
                f"{self._path} unpacks to more than {self._most:,} bytes, {_EXPANSION} times its size; unpack it "
                "yourself if you trust it"
            )
        return count


def encoding_of(file: io.BufferedReader, given: str | None) -> str:
    """Return the encoding of a file from its beginning; *given* is what the user says, which a mark refines."""
    start = file.peek(4)[:4]
    marked = next((name for mark, name in _MARKS if start.startswith(mark)), None)
    return marked or codecs.lookup(given or "utf-8").name


def found_encoding(path: Path) -> str:
    """Return the encoding that a file's byte order mark says; UTF-8 without one."""
    with opened(path) as file:
        return encoding_of(file, None)


def read_text(path: Path, given: str | None) -> str:
    """Read a whole text file.

    Raises:
        InvalidInput: bytes that are no text, with the offset of the first and a cure; or more than `MOST_WHOLE`.
    """
    with opened(path) as file:
        encoding = encoding_of(file, given)
        content = file.read(MOST_WHOLE + 1)
    if len(content) > MOST_WHOLE:
        raise InvalidInput(
            f"{path} has more than {MOST_WHOLE:,} bytes, which are held whole; cut it into several files"
        )
    if given is None and encoding == "utf-8":
        _require_text(content, path, 0, content)
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        # Offsets are the file's: the codec that drops the mark counts from behind it.
        raise undecodable(path, error, len(content) - len(error.object), content) from None


def lines(path: Path, given: str | None) -> Iterator[str]:
    """Yield the lines of a text file with their ends, one by one.

    Raises:
        InvalidInput: as `read_text`.
    """
    with opened(path) as file:
        encoding = encoding_of(file, given)
        if encoding.startswith("utf-8"):
            yield from _utf8_lines(path, file, bare=given is None and encoding == "utf-8")
            return
        try:
            with io.TextIOWrapper(file, encoding=encoding, newline="") as decoded:
                yield from decoded
        except UnicodeDecodeError as error:
            raise InvalidInput(
                f"{path}: cannot be read as {encoding} ({error.reason}); name another with encoding (--encoding)"
            ) from None


def _utf8_lines(path: Path, file: IO[bytes], *, bare: bool) -> Iterator[str]:
    offset = 0
    for line in file:
        if bare and b"\0" in line:
            _require_text(line, path, offset, line + file.read(_LOOKED_AT))
        try:
            yield line.decode("utf-8-sig" if offset == 0 else "utf-8")
        except UnicodeDecodeError as error:
            raise undecodable(
                path, error, offset + len(line) - len(error.object), line + file.read(_LOOKED_AT)
            ) from None
        offset += len(line)


def _require_text(content: bytes, path: Path, offset: int, around: bytes) -> None:
    """Refuse zero bytes: UTF-16 of plain letters is valid UTF-8 with one next to each, which nobody means."""
    at = content.find(b"\0")
    if at >= 0:
        cure = _likely(around[max(0, at - 64) // 2 * 2 : at + _LOOKED_AT])
        raise InvalidInput(f"{path}: byte 0x00 at offset {offset + at} is no text; {cure}")


def undecodable(path: Path, error: UnicodeDecodeError, offset: int, content: bytes) -> InvalidInput:
    """Describe bytes that are no text in this encoding, with the cure that fits them."""
    name = {"utf-8": "UTF-8"}.get(error.encoding, error.encoding)
    at = offset + error.start
    cure = _likely(content[max(0, error.start - 64) // 2 * 2 : error.start + _LOOKED_AT])
    return InvalidInput(f"{path}: byte 0x{error.object[error.start]:02x} at offset {at} is no {name}; {cure}")


def _likely(content: bytes) -> str:
    """Say which encoding to name, by how the bytes look."""
    if content.count(0) * 4 > len(content):
        name = "utf-16-be" if content[::2].count(0) > content[1::2].count(0) else "utf-16-le"
        read = content[: len(content) // 2 * 2].decode(name, "replace")
        if all(one.isprintable() or one.isspace() for one in read):
            return f"it looks like UTF-16 without its mark: pass encoding='{name}' (--encoding {name})"
    if content.count(0):
        return "it looks like no text at all; leave the file out"
    return (
        "name its encoding, such as encoding='windows-1252' (--encoding windows-1252) for texts of western Europe, or "
        "convert the file"
    )

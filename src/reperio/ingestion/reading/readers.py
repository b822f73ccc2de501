"""Files → items, each format by its own reader."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from reperio.errors import InvalidInput
from reperio.ingestion.cutting.structure import Kind
from reperio.ingestion.finding.sources import SourceFile
from reperio.ingestion.finding.suffixes import CODE, DOCUMENTS, MARKDOWN, suffix_of
from reperio.ingestion.reading.decoding import lines, read_text
from reperio.ingestion.reading.formats import read_document
from reperio.ingestion.reading.front_matter import front_matter, without_images
from reperio.ingestion.reading.items import Fields, Item, ReadingOptions, to_item, without_taken
from reperio.ingestion.reading.parquet import read_parquet
from reperio.ingestion.reading.tables import read_csv
from reperio.layout import reason

__all__ = ["Fields", "ReadingOptions", "read"]

_KINDS: dict[str, Kind] = {".log": "log", ".rst": "rst"}
Say: TypeAlias = Callable[[str], None]
"""Called with a sentence about a file that was read: what was found out about it, or left out of it."""


def read(file: SourceFile, options: ReadingOptions, say: Say | None = None) -> Iterator[Item]:
    """Read a file's items one after the other; tables row by row, what is a text or a document is held whole.

    Args:
        file: what is read of it is decided by its suffix, see `SUFFIXES`.
        options: which fields of a table are text and id, and how the file is written.
        say: called with what is worth knowing about the file, as a sentence without its subject.

    Raises:
        InvalidInput: with file and line (for bytes that are no text: the offset), and a cure.
        MissingDependency: the library of this format is not installed; the message holds the pip command.
    """
    suffix = suffix_of(file.path.name)
    tell = say or _silent
    try:
        yield from _reader(suffix.removesuffix(".gz"))(file, options, tell)
    except OSError as error:
        # pyarrow's errors have no strerror
        raise InvalidInput(f"{file.path} cannot be read: {reason(error)}") from error


def _silent(_: str) -> None:
    """Hear nothing."""


def _reader(suffix: str) -> Callable[[SourceFile, ReadingOptions, Say], Iterator[Item]]:
    if suffix in DOCUMENTS:
        return lambda file, options, say: read_document(file.path, suffix, options, say)
    if suffix in (".csv", ".tsv"):
        return lambda file, options, say: read_csv(file.path, options, say)
    if suffix == ".parquet":
        return lambda file, options, say: read_parquet(file.path, options, say)
    return {".jsonl": _read_jsonl, ".ndjson": _read_jsonl, ".json": _read_json}.get(suffix, _read_plain)


def _read_plain(file: SourceFile, options: ReadingOptions, _: Say) -> Iterator[Item]:
    suffix = suffix_of(file.path.name).removesuffix(".gz")
    text = read_text(file.path, options.encoding)
    if suffix in MARKDOWN:
        text = without_images(text)
        text, fields = front_matter(text)
        title = fields.get("title")
        metadata = without_taken(fields, str(file.path))
        yield Item(str(file.path), text, None, metadata, kind="markdown", title=title if isinstance(title, str) else "")
        return
    kind: Kind = "code" if suffix in CODE else _KINDS.get(suffix, "plain")
    yield Item(str(file.path), text, None, {}, kind=kind)


def _read_jsonl(file: SourceFile, options: ReadingOptions, _: Say) -> Iterator[Item]:
    for number, line in enumerate(lines(file.path, options.encoding), start=1):
        if not line.strip():
            continue
        place = f"{file.path}:{number}"
        values = _parsed(line, f"{place}: no valid JSON", "every line is one JSON object")
        if not isinstance(values, dict):
            raise InvalidInput(f"{place}: a JSON {type(values).__name__}; every line must be an object, {{…}}")
        yield to_item(values, place, options)


def _read_json(file: SourceFile, options: ReadingOptions, _: Say) -> Iterator[Item]:
    """Read a list of objects as items, and anything else as a text."""
    text = read_text(file.path, options.encoding)
    if not text.strip():
        return
    content = _parsed(text, f"{file.path}: no valid JSON", "mend it; one object per line is .jsonl")
    if isinstance(content, list) and content and all(isinstance(one, dict) for one in content):
        for number, values in enumerate(content, start=1):
            yield to_item(values, f"{file.path}:{number}", options)
    else:
        yield Item(str(file.path), text, None, {}, kind="log")  # by lines


def _parsed(text: str, problem: str, cure: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_to_object, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{problem} ({error}); {cure}") from None


def _to_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        twice = next(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
        raise ValueError(f"the key {twice!r:.80} occurs twice in one object")
    return values


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON; use null")

"""One item of a file: a whole document, a page, a line, a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from reperio.arguments import require_unicode
from reperio.errors import InvalidInput
from reperio.ingestion.cutting.structure import Kind
from reperio.ingestion.reading.columns import TYPES
from reperio.types import CONTEXT_FIELD

DEFAULT_TEXT_FIELD = "text"
DEFAULT_ID_FIELD = "id"

# Ingestion's own keys in a chunk's metadata. An item's field of that name is kept under the other one.
TAKEN = {
    "source": "record_source",
    "start": "record_start",
    "headings": "record_headings",
    "table_header": "record_table_header",
    CONTEXT_FIELD: f"record_{CONTEXT_FIELD}",
}


@dataclass(frozen=True, slots=True)
class ReadingOptions:
    """The options of reading: which fields of a table are what, and how its file is written.

    Args:
        text: field with the text; every item has it.
        id: field with the item's own id. The default need not be there, another one must. None: items have no id of
            their own, and such a field is metadata.
        title: field that is embedded before the text, as its context; it stays metadata as well.
        columns: fields that are kept as metadata; None keeps all.
        drop: fields that are left out.
        delimiter: character between the fields of .csv and .tsv; None finds out.
        encoding: of text files, as Python names it; None is UTF-8, or what a byte order mark says.
        types: what columns of .csv and .tsv hold: "text", "number" or "boolean"; of the others it is found out.
        rename_taken: make way for the keys of metadata that ingestion itself adds.
        seconds: longest time that one document may take (PDF, HTML, office formats).
    """

    text: str = DEFAULT_TEXT_FIELD
    id: str | None = DEFAULT_ID_FIELD
    title: str | None = None
    columns: tuple[str, ...] | None = None
    drop: tuple[str, ...] = ()
    delimiter: str | None = None
    encoding: str | None = None
    seconds: float = 60.0
    rename_taken: bool = True
    types: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '\r\n"'):
            raise InvalidInput(f"delimiter is {self.delimiter!r}; it is one character, such as ';' or '\\t'")
        if self.encoding is not None:
            _require_encoding(self.encoding)
        left_out = {self.text, self.id, self.title} & set(self.drop)
        if left_out - {None}:
            raise InvalidInput(f"{sorted(map(str, left_out - {None}))} cannot be dropped: it is text, id or title")

        for name, kind in self.types.items():
            if kind not in TYPES:
                raise InvalidInput(f"types has {name!r} as {kind!r}; choose {', '.join(map(repr, TYPES))}")
            if not self.kept(name) or name == self.title:
                raise InvalidInput(f"types has {name!r}, which is text, id or title, or left out; name other columns")

    def kept(self, name: str) -> bool:
        """Tell whether a field becomes metadata."""
        if name in (self.text, self.id) or name in self.drop:
            return False
        return self.columns is None or name in self.columns or name == self.title


Fields = ReadingOptions
"""The former name."""


@dataclass(frozen=True, slots=True)
class Item:
    """An item of a file: it becomes one chunk, or several if it is long."""

    place: str  # file and line, for messages
    text: str  # may be empty; then it gives no chunk
    id: str | None  # the item's own; None where it has none
    metadata: Mapping[str, Any]  # its other fields
    kind: Kind = "plain"  # how the text is written
    title: str = ""  # of the document; embedded before the text
    headings: tuple[str, ...] = ()  # that the whole item is under


def to_item(values: Mapping[str, Any], place: str, options: ReadingOptions) -> Item:
    """Make an item of named values; null is no text, and null or "" no id.

    Raises:
        InvalidInput: a field is missing, or has a type that is no text or id.
    """
    _require_fields(values, place, options)  # each of .jsonl: it has no header
    text = values[options.text]
    own = None if options.id is None else values.get(options.id)
    if text is not None and not isinstance(text, str):
        raise InvalidInput(
            f"{place}: the field {options.text!r} is {_kind(text)}, not text; name the one that holds the text with "
            f"text_field (--text-field): {_listed(values)}"
        )
    if own is not None and (isinstance(own, bool) or not isinstance(own, (str, int))):
        raise InvalidInput(
            f"{place}: the field {options.id!r} is {_kind(own)}; an id is a string or an integer. Name another with "
            "id_field (--id-field)"
        )
    require_unicode(text or "", f"{place}: the text")  # "\ud800" in JSON is one
    rest = {key: value for key, value in values.items() if options.kept(key)}
    title = "" if options.title is None else values.get(options.title)
    return Item(
        place,
        text or "",
        None if own in (None, "") else str(own),
        without_taken(rest, place) if options.rename_taken else rest,
        title=title.strip() if isinstance(title, str) else "",
    )


def require_header(names: list[str], place: str, options: ReadingOptions) -> None:
    """Refuse a header with one name twice, which would lose a column, or without a field that must be there."""
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidInput(f"{place}: two columns are named {twice!r}; rename one")
    _require_fields(names, place, options)
    for option, wanted in (("columns (--columns)", options.columns or ()), ("drop (--drop-columns)", options.drop)):
        for name in wanted:
            if name not in names:
                raise InvalidInput(f"{place}: no field {name!r}, which {option} names; there are: {_listed(names)}")


def _require_fields(names: Mapping[str, Any] | list[str], place: str, options: ReadingOptions) -> None:
    wanted = {"text_field (--text-field)": options.text}
    if options.id not in (None, DEFAULT_ID_FIELD):
        wanted["id_field (--id-field)"] = str(options.id)
    for option, name in wanted.items():
        if name not in names:
            raise InvalidInput(f"{place}: no field {name!r}; name one of these with {option}: {_listed(names)}")


def without_taken(values: dict[str, Any], place: str) -> dict[str, Any]:
    """Keep fields under another name where the name is one of ingestion's own."""
    for taken, other in TAKEN.items():
        if taken in values:
            if other in values:
                raise InvalidInput(
                    f"{place}: has both the fields {taken!r}, which would be kept as {other!r}, and {other!r}; "
                    "rename one"
                )
            values[other] = values.pop(taken)
    return values


def _require_encoding(name: str) -> None:
    try:
        "".encode(name)
    except (LookupError, ValueError):
        raise InvalidInput(
            f"encoding is {name!r}, which Python does not know; such as 'utf-8', 'utf-16' or 'windows-1252'"
        ) from None


def _listed(names: Mapping[str, Any] | list[str]) -> str:
    return ", ".join(repr(name) for name in names) or "there are none"


def _kind(value: Any) -> str:
    return f"{value!r:.40} ({type(value).__name__})"

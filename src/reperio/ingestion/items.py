"""One item of a file: a whole document, a line, a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reperio.arguments import require_unicode
from reperio.errors import InvalidInput

DEFAULT_ID_FIELD = "id"

# Ingestion's own keys in a chunk's metadata. An item's field of that name is kept under the other one.
_TAKEN = {"source": "record_source", "start": "record_start"}


@dataclass(frozen=True, slots=True)
class Fields:
    """The names of the fields that are not metadata."""

    text: str = "text"  # must be in every item
    id: str = DEFAULT_ID_FIELD  # the item's own id; the default need not be there, another must
    rename_taken: bool = True  # make way for the keys that ingestion itself adds


@dataclass(frozen=True, slots=True)
class Item:
    """An item of a file: it becomes one chunk, or several if it is long."""

    place: str  # file and line, for messages
    text: str  # may be empty; then it gives no chunk
    id: str | None  # the item's own; None where it has none
    metadata: Mapping[str, Any]  # its other fields


def to_item(values: Mapping[str, Any], place: str, fields: Fields) -> Item:
    """Make an item of named values; null is no text, and null or "" no id.

    Raises:
        InvalidInput: a field is missing, or has a type that is no text or id.
    """
    _require_fields(values, place, fields)  # each of .jsonl: it has no header
    text, own = values[fields.text], values.get(fields.id)
    if text is not None and not isinstance(text, str):
        raise InvalidInput(
            f"{place}: the field {fields.text!r} is {_kind(text)}, not text; name the one that holds the text with "
            f"text_field (--text-field): {_listed(values)}"
        )
    if own is not None and (isinstance(own, bool) or not isinstance(own, (str, int))):
        raise InvalidInput(
            f"{place}: the field {fields.id!r} is {_kind(own)}; an id is a string or an integer. Name another with "
            "id_field (--id-field)"
        )
    require_unicode(text or "", f"{place}: the text")  # "\ud800" in JSON is one
    rest = {key: value for key, value in values.items() if key not in (fields.text, fields.id)}
    return Item(
        place,
        text or "",
        None if own in (None, "") else str(own),
        _without_taken(rest, place) if fields.rename_taken else rest,
    )


def require_header(names: list[str], place: str, fields: Fields) -> None:
    """Refuse a header with one name twice, which would lose a column, or without a field that must be there."""
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidInput(f"{place}: two columns are named {twice!r}; rename one")
    _require_fields(names, place, fields)


def _require_fields(names: Mapping[str, Any] | list[str], place: str, fields: Fields) -> None:
    wanted = {"text_field (--text-field)": fields.text}
    if fields.id != DEFAULT_ID_FIELD:
        wanted["id_field (--id-field)"] = fields.id
    for option, name in wanted.items():
        if name not in names:
            raise InvalidInput(f"{place}: no field {name!r}; name one of these with {option}: {_listed(names)}")


def _without_taken(values: dict[str, Any], place: str) -> dict[str, Any]:
    for taken, other in _TAKEN.items():
        if taken in values:
            if other in values:
                raise InvalidInput(
                    f"{place}: has both the fields {taken!r}, which would be kept as {other!r}, and {other!r}; "
                    "rename one"
                )
            values[other] = values.pop(taken)
    return values


def _listed(names: Mapping[str, Any] | list[str]) -> str:
    return ", ".join(repr(name) for name in names) or "there are none"


def _kind(value: Any) -> str:
    return f"{value!r:.40} ({type(value).__name__})"

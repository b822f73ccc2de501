"""Check the fields of a node: one of another type would be imported, and never come back as a node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_ONE = ("1", "2", "3", "4")  # the relationships to one node: source, previous, next, parent
_SEVERAL = "5"  # children


def wrong_field(data: dict[str, Any]) -> str | None:
    """Return the name of a field that LlamaIndex would refuse to read; None where all are of their types."""
    for name, check in _FIELDS.items():
        value = data.get(name)
        if value is not None and not check(value):  # null is left out, and is the default
            return name
    return None


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_text_or_none(value: Any) -> bool:
    return value is None or type(value) is str


def _is_number(value: Any) -> bool:
    return type(value) is int


def _is_names(value: Any) -> bool:
    return type(value) is list and all(type(each) is str for each in value)


def _is_relationships(value: Any) -> bool:
    return type(value) is dict and all(
        _is_related(each)
        if key in _ONE
        else key == _SEVERAL and type(each) is list and all(_is_related(one) for one in each)
        for key, each in value.items()
    )


def _is_related(value: Any) -> bool:
    return (
        type(value) is dict
        and type(value.get("node_id")) is str
        and type(value.get("metadata", {})) is dict
        and _is_text_or_none(value.get("node_type"))
        and _is_text_or_none(value.get("hash"))
    )


def _is_resource(value: Any) -> bool:
    return (
        type(value) is dict
        and type(value.get("embeddings") or {}) is dict
        and all(_is_text_or_none(value.get(name)) for name in ("data", "text", "path", "url", "mimetype"))
    )


_FIELDS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("start_char_idx", "end_char_idx"), _is_number),
    **dict.fromkeys(("excluded_embed_metadata_keys", "excluded_llm_metadata_keys"), _is_names),
    # LlamaIndex misspells the separator in what it writes.
    **dict.fromkeys(("metadata_template", "metadata_separator", "metadata_seperator", "text_template"), _is_text),
    **dict.fromkeys(("mimetype", "index_id"), _is_text),
    **dict.fromkeys(("image", "image_path", "image_url", "image_mimetype"), _is_text),
    **dict.fromkeys(("text_resource", "image_resource", "audio_resource", "video_resource"), _is_resource),
    "relationships": _is_relationships,
}

"""What of a chunk is embedded: its text, behind its context if its metadata has one.

A paragraph in the middle of a manual does not say which machine it is about. Its title and headings do, and a reader
does not want them in the text of every hit. They are stored as metadata, so that whatever compares vectors with texts
later, or makes them again, knows them too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from reperio.types import CONTEXT_FIELD

_IN_JSON = f'"{CONTEXT_FIELD}"'


def passage(text: str, metadata: Mapping[str, Any]) -> str:
    """Return what is embedded of a chunk; a context that is no text, or empty, is none."""
    context = metadata.get(CONTEXT_FIELD)
    return f"{context}\n{text}" if isinstance(context, str) and context else text


def stored_passage(text: str, metadata: str) -> str:
    """Return what is embedded of a chunk whose metadata is JSON text, parsed only where it may have a context.

    Metadata that is damaged has no context: the checksum of the chunk tells of the damage.
    """
    if type(metadata) is not str or _IN_JSON not in metadata:
        return text
    try:
        found = orjson.loads(metadata)
    except orjson.JSONDecodeError:
        return text
    return passage(text, found) if isinstance(found, dict) else text

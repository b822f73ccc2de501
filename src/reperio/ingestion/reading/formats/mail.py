"""E-mail → its text, under its subject; who wrote to whom, and when, as metadata."""

from __future__ import annotations

from collections.abc import Iterator
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path
from typing import Any

from reperio.ingestion.reading.decoding import MOST_WHOLE
from reperio.ingestion.reading.formats.parts import Part, Unreadable, heading, plain

_HEADERS = ("from", "to", "cc", "date", "subject")


def read(path: Path, suffix: str, encoding: str | None) -> Iterator[Part | str]:
    """Read a message; of what is attached, the names."""
    del suffix, encoding
    if path.stat().st_size > MOST_WHOLE:
        raise Unreadable(f"has more than {MOST_WHOLE:,} bytes; leave it out")
    with open(path, "rb") as file:
        message = BytesParser(policy=policy.default).parse(file)
    assert isinstance(message, EmailMessage)
    metadata: dict[str, Any] = {name: str(message[name]) for name in _HEADERS if message[name] is not None}
    attached = [part.get_filename() or part.get_content_type() for part in message.iter_attachments()]
    if attached:
        metadata["attachments"] = attached
        yield f"has {len(attached)} attached files, which are not read: {', '.join(attached)[:200]}"
    subject = metadata.get("subject", "")
    yield Part(f"{heading(1, subject)}\n\n{_body(message)}".strip(), title="", metadata=metadata)


def _body(message: EmailMessage) -> str:
    body = message.get_body(("plain", "html"))
    if body is None:
        return ""
    content = body.get_content()
    if not isinstance(content, str):
        return ""
    if body.get_content_type() == "text/html":
        from reperio.ingestion.reading.formats.html import to_part  # only such letters need its library

        return to_part(content).text
    return plain(content.replace("\r\n", "\n"))

"""What stands above and inside a Markdown text and is not part of it: front matter, and images as data."""

from __future__ import annotations

import re
from typing import Any

_BLOCK = re.compile(r"\A\s{0,16}---[ \t]*\r?\n(.{0,65536}?\n)?(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_ENTRY = re.compile(r"([A-Za-z_][\w .-]{0,100}?)[ \t]*:(?:[ \t]+(.*))?$")
_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,17})(\.\d{1,15})?\Z")
_WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}

# An image whose bytes are in the text: of Markdown with its alternative text, of HTML in an attribute, or bare.
_DATA = r"data:(?:image|font|audio|video|application)/[\w.+-]{1,60}(?:;[\w=.+-]{1,60}){0,4},[\w+/=%.~!*'-]*"
_IMAGE = re.compile(rf"!\[([^\]\n]{{0,500}})\]\(\s{{0,8}}<?{_DATA}>?(?:\s+\"[^\"\n]{{0,500}}\")?\s{{0,8}}\)|{_DATA}")


def without_images(text: str) -> str:
    """Leave out images that are written as ``data:``; an alternative text stays."""
    if "data:" not in text:
        return text
    return _IMAGE.sub(lambda match: match.group(1) or "", text)


def front_matter(text: str) -> tuple[str, dict[str, Any]]:
    """Return a text without its front matter, and the fields in that.

    Understood is what people write there: names with a text, a number, true, false or null, or a list of those, in
    brackets or on lines of their own. A value of another kind is kept as it is written. What is no such block stays.
    """
    match = _BLOCK.match(text)
    if match is None:
        return text, {}
    fields = _fields((match.group(1) or "").splitlines())
    if fields is None:
        return text, {}
    return text[match.end() :], fields


def _fields(lines: list[str]) -> dict[str, Any] | None:
    fields: dict[str, Any] = {}
    name = ""
    below: list[str] = []  # the lines under the name
    for line in [*lines, "end:"]:
        bare = line.strip()
        if not bare or bare.startswith("#"):
            continue
        entry = None if line[:1].isspace() or bare.startswith("- ") else _ENTRY.match(line.rstrip())
        if entry is None:
            if not name:
                return None
            below.append(bare)
            continue
        if below:
            fields[name] = _under(fields[name], below)
            below = []
        name = entry.group(1)
        fields[name] = entry.group(2) or ""
    del fields[name]
    return {key: _value(value) if isinstance(value, str) else value for key, value in fields.items()}


def _under(first: str, below: list[str]) -> Any:
    """Return the value of a name with lines below it: a list, or a text over several lines."""
    if not first and all(line.startswith("- ") or line == "-" for line in below):
        return [_value(line[1:].strip()) for line in below]
    if first in ("|", ">", "|-", ">-"):
        return ("\n" if first[0] == "|" else " ").join(below)
    return " ".join([first, *below]).strip()


def _value(written: str) -> Any:
    written = written.strip()
    if written[:1] == "[" and written[-1:] == "]":
        return [_value(part) for part in _parts(written[1:-1])]
    if len(written) > 1 and written[0] == written[-1] and written[0] in "\"'":
        return written[1:-1].replace('\\"', '"') if written[0] == '"' else written[1:-1].replace("''", "'")
    written = re.sub(r"(?:^|\s)#.*$", "", written).strip()
    if written.lower() in _WORDS:
        return _WORDS[written.lower()]
    number = _NUMBER.match(written)
    if number is None:
        return written
    return float(written) if number.group(1) else int(written)


def _parts(inside: str) -> list[str]:
    """Cut at the commas outside quotes."""
    return [part for part in (one.strip() for one in re.findall(r"(?:\"[^\"]*\"|'[^']*'|[^,\"'])+", inside)) if part]

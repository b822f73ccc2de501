"""HTML → Markdown, through Lexbor: headings, paragraphs, lists, tables and code; no scripts, styles and menus."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from selectolax.lexbor import LexborHTMLParser

from reperio.ingestion.reading.decoding import MOST_WHOLE, read_text
from reperio.ingestion.reading.formats.parts import Part, Unreadable
from reperio.ingestion.reading.formats.writer import Writer

_LEFT_OUT = frozenset(
    (
        "script",
        "style",
        "noscript",
        "template",
        "svg",
        "math",
        "head",
        "nav",
        "iframe",
        "object",
        "canvas",
        "audio",
        "video",
        "select",
        "button",
        "input",
    )
)
_BLOCKS = frozenset(
    (
        "p",
        "div",
        "section",
        "article",
        "main",
        "aside",
        "header",
        "footer",
        "address",
        "blockquote",
        "figure",
        "figcaption",
        "ul",
        "ol",
        "dl",
        "dt",
        "dd",
        "form",
        "fieldset",
        "details",
        "summary",
        "hr",
        "center",
        "body",
        "caption",
        "thead",
        "tbody",
        "tfoot",
    )
)
_CHARSET = re.compile(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?\s*([\w.:-]{1,40})", re.IGNORECASE)
_SPACE = re.compile(r"\s+")
# Elements that end only by their own end tag. Finding the place of one takes time that grows with how deep it is.
_NESTED = re.compile(
    r"<(/?)(?:div|span|section|article|blockquote|ul|ol|dl|table|font|center|form|fieldset|a|b|i|u|em|strong|small|big)\b",
    re.IGNORECASE,
)
_DEEPEST = 5_000


def read(path: Path, suffix: str, encoding: str | None) -> Iterator[Part]:
    """Read a page."""
    del suffix
    if encoding is None:
        with open(path, "rb") as file:
            start = file.read(4096)
        declared = _CHARSET.search(start)
        encoding = declared.group(1).decode("ascii", "replace") if declared else None
    try:
        text = read_text(path, encoding)
    except LookupError:
        raise Unreadable(f"declares the encoding {encoding!r}, which is not known; name it (--encoding)") from None
    yield to_part(text)


def to_part(text: str) -> Part:
    """Turn a page into Markdown."""
    if len(text) > MOST_WHOLE:
        raise Unreadable(f"has more than {MOST_WHOLE:,} characters; cut it into smaller files")
    _require_shallow(text)
    page = LexborHTMLParser(text)
    named = page.css_first("title")
    mains = page.css("main")
    root = mains[0] if len(mains) == 1 else page.body
    walk = _Walk()
    if root is not None:
        walk.through(root)
    return Part(walk.writer.text(), title=" ".join(named.text().split()) if named is not None else "")


def _require_shallow(text: str) -> None:
    depth = 0
    for match in _NESTED.finditer(text):
        depth = max(0, depth - 1) if match.group(1) else depth + 1
        if depth > _DEEPEST:
            raise Unreadable(f"has elements nested deeper than {_DEEPEST:,}; leave it out")


class _Walk:
    """Goes through a page without recursion: elements may be nested deeper than any stack."""

    def __init__(self) -> None:
        self.writer = Writer()
        self._line: list[str] = []
        self._depth, self._items = 0, 0

    def through(self, root: Any) -> None:
        """Go through an element and all within it."""
        node, level = root, 0
        while True:
            inner = None
            if self._enter(node):
                inner = node.child
            if inner is not None:
                node, level = inner, level + 1
                continue
            while node is not None and (level == 0 or node.next is None):
                self._leave(node.tag)
                if level == 0:
                    self._flush()
                    return
                node, level = node.parent, level - 1
            self._leave(node.tag)
            node = node.next

    def _enter(self, node: Any) -> bool:
        """Begin an element; return whether to go into it."""
        tag = node.tag
        if tag == "-text":
            self._line.append(_SPACE.sub(" ", node.text_content or ""))
            return False
        if tag[:1] in ("-", "!", "_") or tag in _LEFT_OUT or "hidden" in node.attributes:
            return False
        if tag == "pre":
            self._flush()
            code = (node.text() or "").strip("\n")
            fence = "````" if "```" in code else "```"
            if code.strip():
                self.writer.blocks.append(f"{fence}\n{code}\n{fence}")
            return False
        self._begin(tag, node)
        return True

    def _begin(self, tag: str, node: Any) -> None:
        if tag == "br":
            self._line.append("\n")
        elif tag == "img":
            self._line.append(f" {node.attributes.get('alt') or ''} ")
        elif tag in _BLOCKS or tag in ("tr", "td", "th", "table", "li") or _depth(tag):
            self._flush()
            self._depth = _depth(tag)
            if tag == "li":
                self._items += 1
            elif tag == "table":
                self.writer.open_table()
            elif tag == "tr":
                self.writer.row()
            elif tag in ("td", "th"):
                self.writer.cell()

    def _leave(self, tag: str) -> None:
        if tag in _BLOCKS or tag in ("tr", "td", "th", "table", "li") or _depth(tag):
            self._flush()
            self._depth = 0
            if tag == "li":
                self._items = max(0, self._items - 1)
            elif tag == "table":
                self.writer.close_table()

    def _flush(self) -> None:
        line = "".join(self._line)
        self._line = []
        if line.strip():
            text = "\n".join(part.strip() for part in re.sub(r" {2,}", " ", line).split("\n"))
            self.writer.add(text, depth=self._depth, item=self._items > 0)


def _depth(tag: str) -> int:
    return int(tag[1]) if len(tag) == 2 and tag[0] == "h" and tag[1] in "123456" else 0

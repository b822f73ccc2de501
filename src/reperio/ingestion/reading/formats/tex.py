"""LaTeX → Markdown by a few plain rules: sections, lists, accents and comments; formulas stay as they are."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from reperio.ingestion.reading.decoding import read_text
from reperio.ingestion.reading.formats.parts import Part

_DEPTHS = {"part": 1, "chapter": 1, "section": 2, "subsection": 3, "subsubsection": 4, "paragraph": 5}
_ACCENTS = {"`": "\u0300", "'": "\u0301", "^": "\u0302", "~": "\u0303", "=": "\u0304", "u": "\u0306", ".": "\u0307"} | {
    '"': "\u0308",
    "r": "\u030a",
    "H": "\u030b",
    "v": "\u030c",
    "c": "\u0327",
    "k": "\u0328",
    "d": "\u0323",
    "b": "\u0331",
}
_LETTERS = {
    "ss": "ß",
    "ae": "æ",
    "AE": "Æ",
    "oe": "œ",
    "OE": "Œ",
    "o": "ø",
    "O": "Ø",
    "l": "ł",
    "L": "Ł",
    "aa": "å",
} | {"AA": "Å", "i": "i", "j": "j", "ldots": "…", "dots": "…", "textbackslash": "\\", "LaTeX": "LaTeX", "TeX": "TeX"}
_COMMENT = re.compile(r"(?<!\\)%[^\n]*\n?[ \t]*|\\begin\{comment\}.*?(?:\\end\{comment\}|\Z)", re.DOTALL)
_ACCENT = re.compile(r"\\(?:([`'^~=.\"])\s?|([uHvckdbr])(?=[{ ]) ?)(?:\{\\?([A-Za-z])\}|\\?([A-Za-z]))")
_LETTER = re.compile(
    r"\\(ss|ae|AE|oe|OE|aa|AA|o|O|l|L|i|j|ldots|dots|textbackslash|LaTeX|TeX)(?![A-Za-z])(?:\{\}|[ \t]*)"
)
_SECTION = re.compile(
    r"\\(part|chapter|section|subsection|subsubsection|paragraph)\*?(?:\[[^\]\n]{0,200}\])?\{([^{}]{0,400})\}"
)
_DROPPED = re.compile(
    r"\\(?:label|cite[a-z]*|ref|eqref|pageref|bibliography(?:style)?|vspace|hspace|input|include|includegraphics|usepackage"
    r"|documentclass|newcommand|index|setlength|thispagestyle|pagestyle|date|author)\*?(?:\[[^\]\n]{0,200}\])*"
    r"(?:\{[^{}]{0,400}\}){0,2}"
    r"|\\(?:maketitle|tableofcontents|noindent|centering|newpage|clearpage|bigskip|medskip|smallskip|hline|par|item\s*\Z)\b"
    r"|\\(?:begin|end)\{(?:itemize|enumerate|description|center|figure\*?|table\*?|quote|abstract|document|flushleft)\}"
    r"(?:\[[^\]\n]{0,40}\])?"
)
_ITEM = re.compile(r"\\item(?![A-Za-z])[ \t]*(?:\[([^\]\n]{0,200})\])?[ \t]*")
_COMMAND = re.compile(
    r"\\(?:emph|text[a-z]{2,6}|underline|href\{[^{}]{0,400}\}|url|footnote|caption|mbox|title|enquote)\*?\{([^{}]*)\}"
)
_ESCAPED = re.compile(r"\\([%&#_{}$ ,])")


def read(path: Path, suffix: str, encoding: str | None) -> Iterator[Part]:
    """Read a paper."""
    del suffix
    text = read_text(path, encoding).replace("\r\n", "\n")
    text = _COMMENT.sub("", text)
    text = _LETTER.sub(lambda match: _LETTERS[match.group(1)], _ACCENT.sub(_accented, text))
    titled = re.search(r"\\title(?:\[[^\]\n]{0,200}\])?\{([^{}]{0,400})\}", text)
    title = " ".join(titled.group(1).split()) if titled else ""
    _, begun, body = text.partition("\\begin{document}")
    body = (body if begun else text).partition("\\end{document}")[0]
    for _ in range(3):  # commands within commands
        body = _COMMAND.sub(r"\1", body)
    body = _SECTION.sub(
        lambda match: f"\n\n{'#' * _DEPTHS[match.group(1)]} {' '.join(match.group(2).split())}\n\n", body
    )
    body = _ITEM.sub(lambda match: f"- {match.group(1)} " if match.group(1) else "- ", body)
    body = _ESCAPED.sub(r"\1", _DROPPED.sub("", body)).replace("~", " ").replace("``", "“").replace("''", "”")
    yield Part(re.sub(r"\n[ \t]*(?:\n[ \t]*)+", "\n\n", body).strip(), title=title)


def _accented(match: re.Match[str]) -> str:
    mark = _ACCENTS[match.group(1) or match.group(2)]
    return unicodedata.normalize("NFC", (match.group(3) or match.group(4)) + mark)

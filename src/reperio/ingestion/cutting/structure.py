"""The structure of a text: its headings and tables, found line by line, whatever it is written in."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["plain", "markdown", "rst", "code", "log"]
"""The ways in which a text can be written. It decides where its headings are, and where it may be cut."""

_LONGEST_TITLE = 200  # characters of a heading that are kept; what is longer is no heading
_LONGEST_HEADER = 2_000  # characters of a table's header that go along with its later pieces


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading, or what is one in source code: the line that begins a definition."""

    start: int
    end: int  # behind its line; equal to *start* where the line belongs to the body, as in code
    depth: int  # 1 for the highest
    title: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table with a header."""

    start: int
    body: int  # where its rows begin
    end: int
    header: str  # the cells, as they are written


@dataclass(frozen=True, slots=True)
class Structure:
    """What was found in a text."""

    headings: list[Heading] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


def structure(text: str, kind: Kind) -> Structure:
    """Find the headings and tables of a text, in its order."""
    find = _FINDERS.get(kind)
    return Structure() if find is None else find(text)


_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$")
_SETEXT = re.compile(r" {0,3}(=+|-+)[ \t]*$")
_DELIMITERS = re.compile(r"[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$")


def _lines(text: str) -> Iterator[tuple[int, str]]:
    for match in _LINE.finditer(text):
        yield match.start(), match.group().rstrip("\r\n")


def _markdown(text: str) -> Structure:
    found = Structure()
    before, before_start = "", 0  # the line before, where it may be the text of an underlined heading
    table: tuple[int, int, str] | None = None
    for start, line in _outside_fences(text):
        end = start + len(line)
        if table is not None and "|" not in line:
            found.tables.append(Table(*table[:2], start, table[2]))
            table = None
        if not line.strip() or _add_heading(found, line, (start, end), (before, before_start)):
            before = ""
            continue
        if table is None and _is_delimiter(line, before):
            table = (before_start, end, before.strip()[:_LONGEST_HEADER])
        before, before_start = line, start
    if table is not None:
        found.tables.append(Table(*table[:2], len(text), table[2]))
    return found


def _outside_fences(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines; those of a fenced block of code are empty."""
    fence = ""  # the one that is open
    for start, line in _lines(text):
        opened = _FENCE.match(line) if line else None
        if opened is None:
            yield start, "" if fence else line
            continue
        yield start, ""
        mark = opened.group(1)
        if not fence:
            fence = mark
        elif mark.startswith(fence) and not line.strip(" `~"):
            fence = ""


def _is_delimiter(line: str, before: str) -> bool:
    """Tell whether a line stands between the header of a table and its rows."""
    return "|" in before and "-" in line and len(line) < _LONGEST_HEADER and _DELIMITERS.match(line) is not None


def _add_heading(found: Structure, line: str, place: tuple[int, int], before: tuple[str, int]) -> bool:
    """Add the heading that ends with this line; return whether there is one."""
    if len(line) > _LONGEST_TITLE:
        return False
    stripped = line.lstrip(" ")
    if stripped[:1] == "#":
        match = _ATX.match(line)
        if match is not None:
            found.headings.append(Heading(*place, len(match.group(1)), (match.group(2) or "").strip()))
            return True
    elif stripped[:1] in ("=", "-") and before[0].strip() and len(before[0]) <= _LONGEST_TITLE:
        match = _SETEXT.match(line)
        if match is not None and not before[0].lstrip().startswith(("-", "*", "+", ">", "|")):
            depth = 1 if match.group(1)[0] == "=" else 2
            found.headings.append(Heading(before[1], place[1], depth, before[0].strip()))
            return True
    return False


_ADORNMENT = re.compile(r"([=\-`:.'\"~^_*+#<>!$%&(),/;?@\[\]{}|\\])\1{2,}[ \t]*$")


def _rst(text: str) -> Structure:
    """Find underlined headings; the order in which their lines appear is that of their depths."""
    found = Structure()
    depths: dict[tuple[str, bool], int] = {}
    lines = [(0, ""), (0, "")]  # the two before: a line of punctuation that may stand above a title, and the title
    for start, line in _lines(text):
        (over_start, over), (title_start, title) = lines
        if _underlines(line, title):
            above = over[:1] == line[0] and _ADORNMENT.match(over) is not None
            depth = depths.setdefault((line[0], above), len(depths) + 1)
            begins = over_start if above else title_start
            found.headings.append(Heading(begins, start + len(line), depth, title.strip()))
            line = ""  # it is above nothing
        lines = [lines[1], (start, line)]
    return found


def _underlines(line: str, title: str) -> bool:
    """Tell whether a line of punctuation makes the one above a heading."""
    if not line or not title.strip() or len(title) > _LONGEST_TITLE or len(line) > _LONGEST_TITLE:
        return False
    if _ADORNMENT.match(line) is None or _ADORNMENT.match(title) is not None:
        return False
    return len(line.rstrip()) >= min(len(title.strip()), 3)


# A line that begins a definition, in the languages that many write. A class, a function, a type: by their usual words.
_DEFINITION = re.compile(
    r"(?P<indent>[ \t]*)(?:(?:export|default|public|private|protected|internal|static|final|abstract|async|unsafe"
    r"|extern|pub(?:\([^)]*\))?|virtual|override|sealed|partial|open|data|inline|const|local)\s+)*"
    r"(?:def|class|function\*?|fn|func|fun|interface|struct|enum|trait|impl|module|namespace|type|object|record|sub|proc"
    r"|CREATE\s+(?:OR\s+REPLACE\s+)?(?:TABLE|VIEW|FUNCTION|PROCEDURE))\b[ \t]*(?P<name>[^\n({:=;]{0,120})"
)
_ASSIGNED = re.compile(
    r"(?P<indent>[ \t]*)(?:export\s+)?(?:const|let|var)\s+(?P<name>[\w$]+)\s*=\s*(?:async\s*)?"
    r"(?:function\b|\([^()\n]*\)\s*=>|\w+\s*=>)"
)
# Of C and its kin: a type, a name and parameters, and no semicolon behind them.
_TYPED = re.compile(r"(?P<indent>)(?:[A-Za-z_][\w:<>,*&\[\] ]{0,80}[ \t*&])(?P<name>[\w:~]{1,80})[ \t]*\([^;]{0,300}$")
_NO_NAME = frozenset(("if", "for", "while", "switch", "return", "else", "elif", "match", "with", "catch", "do", "try"))
_ABOVE = ("@", "#", "//", "/*", "*", "--")  # comments and decorators
_TAB = 4


def _code(text: str) -> Structure:
    """Find the definitions of source code, each as a heading; what is above it without a gap belongs to it."""
    found = Structure()
    leading = -1  # where the comments and decorators begin that stand directly above
    for start, line in _lines(text):
        stripped = line.strip()
        if stripped.startswith(_ABOVE):
            leading = start if leading < 0 else leading
            continue
        match = _definition(line) if stripped else None
        if match is not None:
            name = " ".join(line[match.end("indent") : match.end()].rstrip("({:=; \t").split())[:_LONGEST_TITLE]
            begins = start if leading < 0 else leading
            depth = len(match.group("indent").expandtabs(_TAB)) // 2 + 1
            found.headings.append(Heading(begins, begins, depth, name))
        leading = -1
    return found


def _definition(line: str) -> re.Match[str] | None:
    if len(line) > 2 * _LONGEST_TITLE:
        return None
    match = _DEFINITION.match(line) or _ASSIGNED.match(line) or _TYPED.match(line)
    return None if match is None or line.split(None, 1)[0].partition("(")[0] in _NO_NAME else match


_FINDERS: dict[Kind, Callable[[str], Structure]] = {"markdown": _markdown, "rst": _rst, "code": _code}

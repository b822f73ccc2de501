"""The smallest parts that a text is put together from again: sentences, lines, and words of what is too long."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice, pairwise

from reperio.ingestion.cutting.measuring import Measure, words_of
from reperio.ingestion.cutting.structure import Heading, Kind

# How much of a pause there is before an atom.
WORD, LINE, SENTENCE, PARAGRAPH = range(4)

_LEVELS = {"p": PARAGRAPH, "l": LINE, "s": SENTENCE, "c": SENTENCE}
_PROSE = re.compile(
    r"(?P<p>\r?\n[ \t\r]*\n\s*)|(?P<l>[\r\n]+[ \t]*)"
    r"|(?<=[.!?…])(?P<s>[\"'”’»)\]]{0,4}[ \t]+)(?![a-z])|(?<=[。！？｡])(?P<c>(?![。！？｡」』）\s]))"
)
_LINES = re.compile(r"(?P<p>\r?\n[ \t\r]*\n(?:[ \t]*\r?\n)*)|(?P<l>\r?\n)")  # indentation is part of a line
_AT_ONCE = 512  # atoms measured together
_LONGEST = 1 << 14  # characters of one that is measured at once


@dataclass(slots=True)
class Atoms:
    """Atoms in their order, as columns."""

    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    levels: list[int] = field(default_factory=list)
    # Tokens before each atom; one entry more than there are atoms. Empty where characters are counted.
    before: list[int] = field(default_factory=lambda: [0])
    heads: set[int] = field(default_factory=set)  # those that are a heading

    def __len__(self) -> int:
        return len(self.starts)


def atoms(text: str, kind: Kind, headings: list[Heading], measure: Measure, *, most: tuple[int, int]) -> Atoms:
    """Cut a text into atoms.

    Args:
        text: of any length.
        kind: how it is written; in code and logs, lines are kept as they are.
        headings: of `structure`; each begins an atom, and is one of its own where it has an end.
        measure: that counts.
        most: longest atom, in what *measure* counts and in characters; a longer one is cut into words, or their parts.
    """
    made = Atoms()
    spans = _spans(text, kind, headings)
    lines = {heading.start for heading in headings if heading.end > heading.start}
    while block := list(islice(spans, _AT_ONCE)):
        words = [words_of(text[start:end]) for start, end, _, _ in block]
        lengths = iter(measure.each([word for listed in words for word in listed]))
        for (start, end, level, limited), listed in zip(block, words, strict=True):
            counted = list(islice(lengths, len(listed)))
            whole = sum(counted)
            room = (most[0] // 2, most[1] // 2) if limited else most
            if whole <= room[0] and end - start <= room[1]:
                if start in lines:
                    made.heads.add(len(made))
                _add(made, start, end, level, whole)
            else:
                _add_words(made, start, level, list(zip(listed, counted, strict=True)), measure, room)
    return made


def _add(made: Atoms, start: int, end: int, level: int, length: int) -> None:
    made.starts.append(start)
    made.ends.append(end)
    made.levels.append(level)
    made.before.append(made.before[-1] + length)


def _add_words(
    made: Atoms, start: int, level: int, words: list[tuple[str, int]], measure: Measure, room: tuple[int, int]
) -> None:
    for word, length in words:
        for part, counted in [(word, length)] if length <= room[0] else _cut(word, measure, room[0]):
            bare = len(part) - len(part.lstrip())
            if bare < len(part):
                _add(made, start + bare, start + len(part), level, counted)
                level = WORD
            start += len(part)


def _cut(word: str, measure: Measure, room: int) -> Iterator[tuple[str, int]]:
    """Cut a word in parts that fit, if need be in single characters."""
    size = len(word)
    while size > 1 and measure.of(word[:size]) > room:
        size = (size + 1) // 2
    parts = [word[at : at + size] for at in range(0, len(word), size)]
    for part, length in zip(parts, measure.each(parts), strict=True):
        if length <= room or len(part) == 1:
            yield part, length
        else:
            yield from _cut(part, measure, room)


def _spans(text: str, kind: Kind, headings: list[Heading]) -> Iterator[tuple[int, int, int, bool]]:
    """Yield (start, end, level, follows a heading) of each atom before it is measured."""
    pattern = _LINES if kind in ("code", "log") else _PROSE
    marks = [*headings, Heading(len(text), len(text), 0, "")]
    yield from _between(text, pattern, 0, marks[0].start, kind, limited=False)
    for heading, following in pairwise(marks):
        limited = heading.end > heading.start
        if limited:
            yield heading.start, heading.end, PARAGRAPH, False
        yield from _between(text, pattern, heading.end, following.start, kind, limited=limited)


def _between(
    text: str, pattern: re.Pattern[str], at: int, end: int, kind: Kind, *, limited: bool
) -> Iterator[tuple[int, int, int, bool]]:
    level = PARAGRAPH
    for match in pattern.finditer(text, at, end):
        stop = match.start()
        if match.lastgroup == "s":
            stop = match.end() - len(match.group().lstrip("\"'”’»)]"))  # closing quotes belong to the sentence
        bare = _trimmed(text, at, stop, kind)
        if bare is not None:
            yield from _bounded(*bare, level, limited)
            limited, level = False, WORD
        at = match.end()
        level = max(level, _level(text, match, kind))
    bare = _trimmed(text, at, end, kind)
    if bare is not None:
        yield from _bounded(*bare, level, limited)


def _bounded(start: int, end: int, level: int, limited: bool) -> Iterator[tuple[int, int, int, bool]]:
    """Yield an atom in parts that can be measured in little memory, and without keeping Ctrl-C waiting."""
    yield start, min(end, start + _LONGEST), level, limited
    for at in range(start + _LONGEST, end, _LONGEST):
        yield at, min(end, at + _LONGEST), WORD, False


def _level(text: str, match: re.Match[str], kind: Kind) -> int:
    level = _LEVELS[match.lastgroup or "l"]
    if level == LINE:
        if kind in ("code", "log"):
            return LINE if text[match.end() : match.end() + 1].isspace() else SENTENCE
        if text[match.start() - 1 : match.start()] in ".!?:…。":
            return SENTENCE
    return level


def _trimmed(text: str, start: int, end: int, kind: Kind) -> tuple[int, int] | None:
    """Return the place without the white space around it; in code, indentation is left. None where nothing is left."""
    part = text[start:end]
    left = len(part.lstrip())
    if not left:
        return None
    lead = 0 if kind in ("code", "log") else len(part) - left
    return start + lead, start + len(part.rstrip())

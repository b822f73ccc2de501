"""Make texts and metadata fit for a page: cut to a budget, with the question's words found."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reperio import Chunk

EXCERPT = 700
"""Characters of a text in a list of hits."""

_BEFORE = 5  # the first word that is found is shown within the first fifth
_BLANK = re.compile(r"\n[ \t\r]*(?:\n[ \t\r]*)+")  # lines, which take room in a list of hits
_LONGEST_VALUE = 240
_MOST_FIELDS = 40
_UNTOLD = "embedding_context"  # it repeats what other fields say
_COMMON = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at be by can did do does for from had has have how i if in is it its me my of on or our so "
        "that the their them there these they this to was we what when where which who why will with you your",
    )
)
_ENDINGS = (
    "ations",
    "ation",
    "ingly",
    "edly",
    "ings",
    "ing",
    "ies",
    "ied",
    "ers",
    "er",
    "ed",
    "es",
    "ly",
    "s",
    "e",
    "y",
)
_LEAST_STEM = 3
_UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]+"
)


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A part of a text.

    Attributes:
        parts: texts, each with whether it is a word of the question.
        before, after: whether something was left out there.
    """

    parts: tuple[tuple[str, bool], ...]
    before: bool
    after: bool


class Highlighter:
    """Finds the words of a question in texts, in any of their endings: to show them, not to search by."""

    def __init__(self, question: str) -> None:
        words = [word for word in re.findall(r"\w+", folded(question)) if word not in _COMMON] if question else []
        self._stems = {_stem(word) for word in words}
        runs = _UNSPACED.findall(question)
        pairs = {run[at : at + 2] for run in runs for at in range(max(1, len(run) - 1))}
        self._pairs = re.compile(f"(?=({'|'.join(map(re.escape, sorted(pairs)))}))") if pairs else None

    def excerpt(self, text: str, most: int = EXCERPT, *, dense: bool = False) -> Excerpt:
        """Return the part of a text in which the first word is found, or its beginning; *dense*: as one paragraph."""
        start = 0
        if most == EXCERPT:
            text = _BLANK.sub("\n", text[: 60 * most]) + text[60 * most :]
        if dense:
            text = " ".join(text[: 60 * most].split()) + ("…" if len(text) > 60 * most else "")
        if len(text) > most:
            first = next(iter(self._places(text[: 50 * most])), None)
            if first is not None and first[0] > most // 2:
                start = text.rfind(" ", 0, first[0] - most // _BEFORE) + 1
        stop = min(len(text), start + most)
        return Excerpt(tuple(self._parts(text[start:stop])), start > 0, stop < len(text))

    def _parts(self, text: str) -> list[tuple[str, bool]]:
        parts: list[tuple[str, bool]] = []
        at = 0
        for start, stop in self._places(text):
            if start > at:
                parts.append((text[at:start], False))
            parts.append((text[start:stop], True))
            at = stop
        return [*parts, (text[at:], False)] if at < len(text) else parts

    def _places(self, text: str) -> list[tuple[int, int]]:
        if not self._stems and self._pairs is None:
            return []
        found = [each.span() for each in re.finditer(r"\w+", text) if _stem(folded(each[0])) in self._stems]
        if self._pairs is not None:
            found += [each.span(1) for each in self._pairs.finditer(text)]
        apart: list[tuple[int, int]] = []
        for start, stop in sorted(found):
            if apart and start < apart[-1][1]:  # pairs of one word share their signs
                apart[-1] = apart[-1][0], max(stop, apart[-1][1])
            else:
                apart.append((start, stop))
        return apart


def folded(text: str) -> str:
    """Return a text without case and accents."""
    if text.isascii():
        return text.lower()
    return "".join(each for each in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(each))


def fields_of(chunk: Chunk) -> tuple[list[tuple[str, str]], int]:
    """Return metadata as names and values in short, and how many fields were left out."""
    names = [name for name in chunk.metadata if name != _UNTOLD]
    return [(name, value_of(chunk.metadata[name])) for name in names[:_MOST_FIELDS]], len(names[_MOST_FIELDS:])


def value_of(value: Any, most: int = _LONGEST_VALUE) -> str:
    """Return a value of metadata in one line; a text as it is, anything else as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"


def at_path(metadata: Mapping[str, Any], path: str) -> str:
    """Return the text at a path such as ``file.name``; empty where there is none."""
    value: Any = metadata
    for step in path.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return "" if value is None or isinstance(value, (Mapping, list)) else str(value)


def _stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _LEAST_STEM:
            word = word[: -len(ending)]
            break
    return word[:-1] if len(word) > _LEAST_STEM and word[-1] == word[-2] else word

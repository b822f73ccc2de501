"""Search a text for what a filter asks, in time linear in the text, whatever pattern and text are made for.

A regular expression would try a pattern at every place: 1,000 characters against a value of a million took 10 s, with
all other threads standing still. Here the literal parts of a pattern are found by `str.find`, which is linear. What is
left, a part with `_` between other characters, is compared position by position on windows of the text, as arrays.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np

# Lower-case characters that have an upper-case one in common, the one that stands for them first: Python's `re` holds
# them for equal under IGNORECASE. A test compares this with the `re` that runs.
_EQUALS: Final = (
    *("i\u0131", "s\u017f", "\u00b5\u03bc", "\u0345\u03b9\u1fbe", "\u0390\u1fd3", "\u03b0\u1fe3", "\u03b2\u03d0"),
    *("\u03b5\u03f5", "\u03b8\u03d1", "\u03ba\u03f0", "\u03c0\u03d6", "\u03c1\u03f1", "\u03c2\u03c3", "\u03c6\u03d5"),
    *("\u0432\u1c80", "\u0434\u1c81", "\u043e\u1c82", "\u0441\u1c83", "\u0442\u1c84\u1c85", "\u044a\u1c86"),
    *("\u0463\u1c87", "\u1c88\ua64b", "\u1e61\u1e9b", "\ufb05\ufb06"),
)
_REPLACED: Final = tuple((other, equals[0]) for equals in _EQUALS for other in equals[1:])

_SHORT = 256  # characters of a text that a regular expression may try one by one: some 16,000 steps
_WINDOW = 65_536  # positions compared at once: arrays of this size stay in the processor's cache
_TRIES = 8  # places where a part is tried one by one before all are compared at once
_FEW = 32  # places that are sooner tried one by one


def fold(text: str) -> str:
    """Return *text* with one character for all that differ in case only; the length stays."""
    # So two texts of equal length are alike under `re.IGNORECASE` exactly when they fold to the same. `str.casefold`
    # would turn "ß" into two characters, and `str.lower` "İ".
    if text.isascii():
        return text.lower()
    # Before `lower`: it makes two characters of the one, and of the other what depends on its place in a word.
    text = text.replace("\u0130", "i").replace("\u03a3", "\u03c3").lower()
    for other, first in _REPLACED:
        text = text.replace(other, first)
    return text


class _Part(NamedTuple):
    """The part of a pattern between two %."""

    length: int  # characters, those for `_` included
    runs: tuple[tuple[int, str], ...]  # (offset, characters) of what is between the `_`
    probe: tuple[int, str]  # the longest of them, which is looked for first


def like(pattern: str) -> Callable[[str], bool]:
    """Return the test of SQL's LIKE.

    Args:
        pattern: folded where the texts are; it does not end in a single backslash.
    """
    # Between two % every character of the pattern stands for one of the text, so that the first place where such a part
    # fits is as good as any.
    first, *others = _parts(pattern)
    if not others:
        return lambda text: len(text) == first.length and _fits(first, text, 0)
    *middle, last = others
    middle = [part for part in middle if part.length]
    if len(middle) == 1 and middle[0].length == len(middle[0].probe[1]) and not first.length and not last.length:
        inside = middle[0].probe[1]
        return lambda text: inside in text
    short = _like_short(first, middle, last)

    def test(text: str) -> bool:
        if len(text) <= _SHORT:
            return short(text)
        at, end = first.length, len(text) - last.length
        if at > end or not _fits(first, text, 0) or not _fits(last, text, end):
            return False
        for part in middle:
            at = _find(part, text, at, end)
            if at < 0:
                return False
        return True

    return test


def _like_short(first: _Part, middle: list[_Part], last: _Part) -> Callable[[str], bool]:
    """Return the test of texts so short that trying every place takes less than being clever."""
    begins, ends = _expression(first).match, _expression(last).match
    searches, length = [_expression(part).search for part in middle], last.length

    def test(text: str) -> bool:
        found, end = begins(text), len(text) - length
        for search in searches:
            if found is None:
                return False
            found = search(text, found.end(), max(end, 0))
        return found is not None and found.end() <= end and ends(text, end) is not None

    return test


def _expression(part: _Part) -> re.Pattern[str]:
    characters = ["."] * part.length
    for offset, run in part.runs:
        characters[offset : offset + len(run)] = map(re.escape, run)
    return re.compile("".join(characters), re.DOTALL)


def wild(pattern: str) -> int:
    """Return how many characters the parts of a pattern have that `str.find` alone cannot find: see `like`."""
    return sum(part.length for part in _parts(pattern)[1:-1] if len(part.runs) > 1)


def _parts(pattern: str) -> list[_Part]:
    """Split a pattern at its %."""
    parts: list[_Part] = []
    runs: list[tuple[int, str]] = []
    length, run = 0, ""
    characters = iter(f"{pattern}%")
    for character in characters:
        if character not in "%_":
            run += next(characters) if character == "\\" else character
            length += 1
            continue
        if run:
            runs.append((length - len(run), run))
            run = ""
        if character == "_":
            length += 1
        else:
            probe = max(runs, key=lambda one: len(one[1]), default=(0, ""))
            parts.append(_Part(length, tuple(runs), probe))
            length, runs = 0, []
    return parts


def _fits(part: _Part, text: str, at: int) -> bool:
    return all(text.startswith(run, at + offset) for offset, run in part.runs)


def _find(part: _Part, text: str, at: int, end: int) -> int:
    """Return where the first place within [at, end) that the part fits ends; -1 for none."""
    length, runs, (offset, probe) = part
    if at + length > end:
        return -1
    if not runs:
        return at + length
    stop = end - length + offset + len(probe)
    place = at + offset
    for _ in range(_TRIES):
        place = text.find(probe, place, stop)
        if place < 0:
            return -1
        if len(runs) == 1 or _fits(part, text, place - offset):
            return place - offset + length
        place += 1
    return _find_in_windows(part, text, place - offset, end)


def _find_in_windows(part: _Part, text: str, at: int, end: int) -> int:
    """Return what `_find` does, comparing all places of a window at once; numpy lets other threads run meanwhile."""
    offsets: dict[str, list[int]] = {}
    for offset, run in part.runs:
        for place, character in enumerate(run, offset):
            offsets.setdefault(character, []).append(place)
    for first in range(at, end - part.length + 1, _WINDOW):
        number = min(_WINDOW, end - part.length + 1 - first)
        window = text[first : first + number + part.length - 1]
        codes = np.frombuffer(window.encode("utf-32-le", "surrogatepass"), dtype="<u4")
        hits = np.ones(number, dtype=np.bool_)
        for character, places in offsets.items():
            equal = codes == ord(character)
            for place in places:
                hits &= equal[place : place + number]
            if np.count_nonzero(hits) <= _FEW:
                break
        for place in np.flatnonzero(hits).tolist():
            if _fits(part, text, first + place):
                return int(first + place + part.length)
    return -1

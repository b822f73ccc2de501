"""Write texts of languages without spaces so that a tokenizer of words finds them: each character, and each pair.

Chinese, Japanese, Thai, Lao, Khmer and Burmese put no space between words, and Korean appends to them. Their runs are
cut as Lucene's CJKAnalyzer does: 東京都 becomes 東京 and 京都, in addition to 東, 京 and 都. A question asks for pairs,
or for a character that stands alone. So every word of two characters is found, and the dictionary of no language is
needed. Everything else in a text stays as it is (docs/decisions/0021-words-without-spaces.md).

A character is one with its marks: in Thai, a consonant with the vowel above it and its tone.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import chain
from operator import add

# Ranges of fixed code points, not what Python's Unicode says: what is indexed must not depend on its version.
_LETTERS = (
    "\u0e01-\u0e30\u0e32\u0e33\u0e40-\u0e46"  # Thai
    "\u0e81-\u0eb0\u0eb2\u0eb3\u0ebd-\u0ec6\u0edc-\u0edf"  # Lao
    "\u1000-\u102a\u103f\u1050-\u1055\u105a-\u105d\u1061\u1065\u1066\u106e-\u1070\u1075-\u1081\u108e"  # Burmese
    "\ua9e0-\ua9e4\ua9e6-\ua9ef\ua9fa-\ua9fe\uaa60-\uaa76\uaa7a\uaa7e\uaa7f"
    "\u1780-\u17b3\u17d7\u17dc"  # Khmer
    "\u1100-\u11ff\u3131-\u318e\ua960-\ua97c\uac00-\ud7a3\ud7b0-\ud7fb"  # Korean
    "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\U0001b000-\U0001b16f"  # Japanese
    "\u3105-\u312f\u31a0-\u31bf"  # Bopomofo
    "\u3005-\u3007\u3021-\u3029\u3038-\u303c\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003fffd"  # Chinese
)
_MARKS = (
    "\u0e31\u0e34-\u0e3a\u0e47-\u0e4e"
    "\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ece"
    "\u102b-\u103e\u1056-\u1059\u105e-\u1060\u1062-\u1064\u1067-\u106d\u1071-\u1074\u1082-\u108d\u108f\u109a-\u109d"
    "\ua9e5\uaa7b-\uaa7d"
    "\u17b4-\u17d3\u17dd"
    "\u302a-\u302f\u3099\u309a"
)
_VARIANTS = "\ufe00-\ufe0f\U000e0100-\U000e01ef"  # which glyph of a character is meant: of no account for a search
_WIDTHS = "\uff10-\uff19\uff21-\uff3a\uff41-\uff5a\uff66-\uffdc"  # letters of twice or half the usual width
_OTHERWISE = f"{_WIDTHS}\u0e33\u0eb3\u1100-\u11ff\u2f00-\u2fd5\u3099\u309a\u3131-\u318e\ua960-\ua97c\uf900-\ufaff"

_MAYBE = re.compile("[^\0-\u0e00\u2000-\u2dff]")  # looks at a European text in a quarter of the time of `_ANY`
_ANY = re.compile(f"[{_LETTERS}{_OTHERWISE}]")
_ODD = re.compile(f"[{_OTHERWISE}{_VARIANTS}]")
_ODD_RUN = re.compile(f"[{_LETTERS}{_OTHERWISE}][{_LETTERS}{_MARKS}{_OTHERWISE}{_VARIANTS}]*")
_VARIANT = re.compile(f"[{_VARIANTS}]")
_RUN = re.compile(f"[{_LETTERS}][{_LETTERS}{_MARKS}]*")
_MARK = re.compile(f"[{_MARKS}]")
_UNIT = re.compile(f".[{_MARKS}]*")

# The marks of the scripts of India lie at the same places of each script's block. They write spaces: their words need
# no pairs, but a tokenizer that takes a vowel sign for a space would cut them into consonants.
_PLACES = (*range(0x04), *range(0x3A, 0x3D), *range(0x3E, 0x50), *range(0x51, 0x58), 0x62, 0x63)
_INDIC = [block + place for block in range(0x0900, 0x0D80, 0x80) for place in _PLACES]
_SINHALESE = (*range(0x0D81, 0x0D84), *range(0x0DCA, 0x0DE0), 0x0DF2, 0x0DF3)

_ALL = chain(map(chr, (*_INDIC, 0x0A70, 0x0A71, *_SINHALESE)), filter(_MARK.match, map(chr, range(0xAA7E))))
MARKS = "".join(sorted(_ALL, reverse=True))
"""The marks that belong to a character: a tokenizer of words must not cut there.

The last first: FTS5, which keeps them sorted, then takes 12 µs for them instead of 80, for each search.
"""


def is_in(text: str) -> bool:
    """Say whether a text has characters that are written without spaces between words."""
    # Most texts have none. Of one in ASCII, Python knows that at once.
    return not text.isascii() and _MAYBE.search(text) is not None and _ANY.search(text) is not None


def written_out(text: str) -> str:
    """Return the text of a chunk with each run of such characters as characters and pairs."""
    return _RUN.sub(_characters_and_pairs, _plain(text)) if is_in(text) else text


def asked_for(text: str) -> str:
    """Return a question with each run as pairs, and a character that stands alone as itself."""
    return _RUN.sub(_pairs, _plain(text)) if is_in(text) else text


def split(text: str) -> tuple[str, list[str]]:
    """Return the rest of a chunk's text, and the tokens of its runs: what `written_out` comes to, in half the time."""
    if not is_in(text):
        return text, []
    plain = _plain(text)
    tokens: list[str] = []
    for run in _RUN.findall(plain):
        units = _units(run)
        tokens += units
        tokens += map(add, units, units[1:])
    return _RUN.sub(" ", plain), tokens


def _plain(text: str) -> str:
    """Write runs composed, in the usual width and without variants; most are."""
    return _ODD_RUN.sub(_composed, text) if _ODD.search(text) else text


def _composed(run: re.Match[str]) -> str:
    return unicodedata.normalize("NFKC", _VARIANT.sub("", run[0]))


def _characters_and_pairs(run: re.Match[str]) -> str:
    units = _units(run[0])
    return f" {' '.join(units)} {' '.join(map(add, units, units[1:]))} "


def _pairs(run: re.Match[str]) -> str:
    units = _units(run[0])
    return f" {' '.join(map(add, units, units[1:])) if len(units) > 1 else units[0]} "


def _units(run: str) -> str | list[str]:
    """Cut a run into characters with their marks."""
    return run if _MARK.search(run) is None else _UNIT.findall(run)

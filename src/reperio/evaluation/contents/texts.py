"""Describe texts without a model: length, language or script, wrong encoding, markup, and likeness to others."""

from __future__ import annotations

import re
import unicodedata
import zlib
from bisect import bisect_right
from collections import Counter

OPENING = 32
"""Characters at either end of a text by which texts that begin or end alike are found."""

_BOUNDS = [0, 1, *(round(8 * 1.5**step) for step in range(40))]
_READ = 900  # characters that models read, whatever their limit
_LOOKED_AT = 600  # characters of a text that tell its language
_WORDS = re.compile(r"[^\W\d_]+")
NO_SENTENCES = "no sentences"
_MANY_WORDS, _NEARLY_NONE = 20, 0.08  # words; share of stop words, of which prose has a third, and single letters some
_LEAST_WORDS = 3  # stop words of a language that tell it
_LEAST_DIFFERENT = 8  # different words; fewer are alike by chance
_SMALLEST = 4  # hashes of words by which texts are compared

# UTF-8 read as Latin-1 or Windows-1252, and what decoders put where they give up.
_MOJIBAKE = re.compile("[ÂÃÐÑÄÅ][\u0080-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]|â€|ï»¿|\ufffd")
_MARKUP = re.compile(
    r"</?(?:div|p|span|a|br|li|ul|td|tr|table|script|style|h[1-6])\b[^<>]{0,200}>|&(?:[a-z]{2,8}|#\d{2,5});", re.I
)

_STOP_WORDS = {
    "English": "the of and to in is that for it with as on are this be by from or an not you your can if",
    "German": "der die das und ist nicht ein eine mit auf für von dem den des im zu sie es wird auch werden oder",
    "French": "le la les des et est une dans pour que qui sur pas avec par du au ce sont vous ou aux",
    "Spanish": "el la los las que en un una por con para es del se no al su como más está son o",
    "Italian": "il lo gli che di è un una per con non del della sono nel si da alla come anche o",
    "Portuguese": "o os as que em um uma por com para é do da não se no na mais como são ou ao",
    "Dutch": "de het een en van is dat op te zijn met voor niet aan er om ook als bij worden of",
    "Swedish": "och att det som en på är av för med den till inte om ett har de kan eller från",
    "Polish": "i w na z się nie do to jest że o jak po co dla od przez są lub oraz przy",
    "Turkish": "ve bir bu için ile da de olarak çok daha gibi ne olan kadar veya değil her sonra",
    "Czech": "a v na je se že s do to o jako za pro by ale jsou nebo které podle při",
    "Indonesian": "yang dan di untuk dengan ini itu dari pada tidak adalah ke dalam akan atau juga dapat",
}
_BY_WORD: dict[str, list[str]] = {}
for _language, _some in _STOP_WORDS.items():
    for _word in _some.split():
        _BY_WORD.setdefault(_word, []).append(_language)


def length_class(length: int) -> str:
    """Return the class of a length by its least: "0" for an empty text, then each half as long again as the last."""
    return str(_BOUNDS[bisect_right(_BOUNDS, length) - 1])


def seen(text: str) -> str:
    """Return what any model can tell from another text: without case and spaces, and no more than they read."""
    return "".join(text[: 2 * _READ].casefold().split())[:_READ]  # cut behind: a space before the text moves none


def language_of(text: str) -> str:
    """Return the language of a text by its stop words, else its script, else "unknown".

    "no sentences" where many words hold nearly no stop word of any language: noise, a table, code.
    """
    part = text[:_LOOKED_AT]
    words = _WORDS.findall(part.lower())
    known = sum(word in _BY_WORD for word in words)
    if len(words) >= _MANY_WORDS and part.isascii() and known < _NEARLY_NONE * len(words):
        return NO_SENTENCES
    found = Counter(language for word in words if word in _BY_WORD for language in _BY_WORD[word])
    best = found.most_common(2)
    # Neighbours such as Spanish and Portuguese share words: what leads by nothing is told from neither.
    if best and best[0][1] >= _LEAST_WORDS and (len(best) == 1 or best[0][1] > best[1][1]):
        return best[0][0]
    if part.isascii() or not words:
        return "unknown"
    return _script(words)


def _script(words: list[str]) -> str:
    letters = "".join(words)[:60]
    names = Counter(unicodedata.name(letter, "UNKNOWN").split(" ")[0] for letter in letters)
    script, count = names.most_common(1)[0]
    return "unknown" if script == "LATIN" or count * 2 < len(letters) else script.capitalize()


def is_mojibake(text: str) -> bool:
    """Say whether a text was decoded by the wrong encoding."""
    return not text.isascii() and _MOJIBAKE.search(text) is not None


def has_markup(text: str) -> bool:
    """Say whether a text holds tags or entities of HTML."""
    return ("<" in text or "&" in text) and _MARKUP.search(text) is not None


def words_keys(text: str) -> tuple[int, int] | None:
    """Return two numbers, of which texts of nearly the same words share one; None for a text of too few words.

    They are made of the smallest and the largest hashes of the words (MinHash, Broder 1997): of two texts that share
    nine words of ten, nearly all pairs have one in common.
    """
    # Not Python's own hashes, which differ from one process to the next, and the verdict with them.
    words = {zlib.crc32(word.encode("utf-8", "surrogatepass")) for word in text[: 2 * _LOOKED_AT].lower().split()}
    if len(words) < _LEAST_DIFFERENT:
        return None
    ordered = sorted(words)
    return hash(tuple(ordered[:_SMALLEST])), hash((0, *ordered[-_SMALLEST:]))

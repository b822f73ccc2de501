"""Lengths of texts in tokens, in time linear in the text: each word is given to the tokenizer once."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

# A word with the white space before it, on which the tokens of some models depend. Longer ones are no words: numbers
# without spaces, addresses, scripts that write none. A tokenizer may take time that grows with their square.
# They are cut behind a separator where there is one, and never before a mark that belongs to the letter before it.
_MARKS = "\u0300-\u036f\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u200d\ufe0f"
_WORDS = re.compile(rf"\s{{0,64}}(?:\S{{1,64}}(?!\S)|\S{{0,63}}[,;|/&?=、，。]|\S{{1,16}}[{_MARKS}]{{0,8}})|\s{{1,64}}")
_MOST_KNOWN = 200_000  # words remembered, some 30 MB
_AT_ONCE = 2_000  # words encoded in one call, so that Ctrl-C need not wait for long
# What tells whether the tokens of a text are those of its words, one after the other.
_PROBE = (
    "The cat sat, quietly, on 12 mats;\n\nwasn't it 3.14 (or so)?\nDie Größe: 漢字。  def f(x):\n    return x",
    "plain words only",
)


class Measure:
    """Counts tokens, or characters where there is no tokenizer.

    Args:
        tokenizer: a ``tokenizers.Tokenizer``; None counts characters.

    Attributes:
        exact: whether the tokens of a text are exactly those of its words; else a piece must be looked at again.
    """

    def __init__(self, tokenizer: Any | None) -> None:
        self._tokenizer = tokenizer
        self._known: dict[str, int] = {}
        self.exact = tokenizer is None or all(
            self.of(text) == self.whole(text) and self.of(f" {text}") == self.whole(text) for text in _PROBE
        )

    def of(self, text: str) -> int:
        """Return the length of a text: the sum over its words."""
        return len(text) if self._tokenizer is None else sum(self.each(_WORDS.findall(text)))

    def each(self, words: list[str]) -> Iterable[int]:
        """Return the length of each word, in their order."""
        if self._tokenizer is None:
            return map(len, words)
        known = self._known
        try:
            return list(map(known.__getitem__, words))
        except KeyError:
            self._learn(words)
            return map(self._known.__getitem__, words)

    def whole(self, text: str) -> int:
        """Return the length of a text as the model sees it, without special tokens."""
        if self._tokenizer is None:
            return len(text)
        return _length(self._tokenizer.encode(text, add_special_tokens=False))

    def sure(self, text: str) -> int:
        """Return the length of a text, by the quicker way that gives it exactly."""
        return self.of(text) if self.exact else self.whole(text)

    def _learn(self, words: list[str]) -> None:
        known = self._known
        if len(known) > _MOST_KNOWN:
            known = self._known = {}
        new = [word for word in dict.fromkeys(words) if word not in known]
        tokenizer: Any = self._tokenizer
        encode = getattr(tokenizer, "encode_batch_fast", tokenizer.encode_batch)  # since tokenizers 0.20
        for at in range(0, len(new), _AT_ONCE):
            block = new[at : at + _AT_ONCE]
            made = encode(block, add_special_tokens=False)
            known.update(zip(block, map(_length, made), strict=True))


def words_of(text: str) -> list[str]:
    """Cut a text into words, each with the white space before it; together they are the text."""
    return _WORDS.findall(text)


def _length(encoding: Any) -> int:
    return sum(encoding.attention_mask)  # not len: a tokenizer may pad

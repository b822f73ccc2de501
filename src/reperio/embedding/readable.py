"""Cut off what a model will not read before its tokenizer does: that takes 170 bytes for each character."""

from __future__ import annotations

from typing import Any

PER_TOKEN = 32  # characters handed over per token that the model reads; a token has 4 or 5


def splits_at_spaces(tokenizer: Any) -> bool:
    """Say whether a tokenizer (of the `tokenizers` library) makes tokens within words alone.

    Then what follows a white space changes nothing about the tokens before it.
    """
    before = getattr(tokenizer, "pre_tokenizer", None)
    return before is not None and len(before.pre_tokenize_str("ab cd")) > 1


def readable(text: str, tokenizer: Any, most: int) -> str:
    """Return *text*, or a beginning of it that has the same first *most* tokens.

    The tokenizer must neither cut nor pad, and split at spaces.
    """
    length = PER_TOKEN * most
    while length < len(text):
        end = _space(text, length)
        # More than is read, whatever the special tokens take: 16 million characters of white space are no tokens.
        if end and len(tokenizer.encode(text[:end], add_special_tokens=False).ids) > most:
            return text[:end]
        length *= 2
    return text


def _space(text: str, length: int) -> int:
    """Return the place of the last white space in the second half of the first *length* characters; 0 for none."""
    return next((place for place in range(length, length // 2, -1) if text[place].isspace()), 0)

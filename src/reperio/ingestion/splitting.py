"""Long texts → pieces that fit the embedder, cut where the text itself pauses."""

from __future__ import annotations

from typing import Any, TypeAlias

from reperio.errors import InvalidInput
from reperio.optional import OptionalImport
from reperio.types import Embedder

# Longest piece by default, where the embedder takes more: one vector for pages of text finds none of them well.
DEFAULT_TOKENS = 512
DEFAULT_CHARACTERS = 1000  # longest piece by default where the embedder has no tokenizer
# A piece: where it begins, in characters, and its text, without the white space around it.
Piece: TypeAlias = "tuple[int, str]"


class Splitter:
    """Cuts texts at paragraphs where it can, else at sentences, else at words.

    Args:
        embedder: with ``tokenizer`` (a ``tokenizers.Tokenizer``) and ``max_tokens``, pieces are measured in its tokens,
            its special tokens and passage prompt included; without ``tokenizer``, in characters.
        max_tokens: longest piece; default: what the embedder takes, at most 512 tokens, or 1,000 characters.
        overlap: the most that the end of a piece is repeated in the next, in the same unit; whole sentences or
            paragraphs only. Default: a tenth.

    Raises:
        InvalidInput: lengths that cannot be, or more tokens than the embedder takes.
        MissingDependency: semantic-text-splitter is not installed.
    """

    def __init__(self, embedder: Embedder, *, max_tokens: int | None = None, overlap: int | None = None) -> None:
        _require_length("max_tokens", max_tokens, 1)
        _require_length("overlap", overlap, 0)
        tokenizer = getattr(embedder, "tokenizer", None)
        if tokenizer is None:
            self.capacity = max_tokens or DEFAULT_CHARACTERS
        else:
            self.capacity = _tokens_left(embedder, tokenizer, max_tokens)
        self.overlap = self.capacity // 10 if overlap is None else overlap
        if self.overlap >= self.capacity:
            raise InvalidInput(
                f"overlap is {self.overlap}, but only {self.capacity} fit in a piece; choose a smaller overlap or a "
                "larger max_tokens"
            )
        with OptionalImport("ingestion", "semantic-text-splitter", extra="ingest"):
            from semantic_text_splitter import MarkdownSplitter, TextSplitter
        self._plain = self._made(TextSplitter, tokenizer)
        self._markdown = self._made(MarkdownSplitter, tokenizer)

    def split(self, text: str, *, markdown: bool = False) -> list[Piece]:
        """Cut a text into pieces; one that fits is one piece, white space alone is none.

        Args:
            text: of any length.
            markdown: cut at headings, lists and code blocks too.
        """
        return list((self._markdown if markdown else self._plain).chunk_indices(text))

    def _made(self, engine: Any, tokenizer: Any | None) -> Any:
        if tokenizer is None:
            return engine(self.capacity, self.overlap)
        return engine.from_huggingface_tokenizer(tokenizer, self.capacity, self.overlap)


def _tokens_left(embedder: Embedder, tokenizer: Any, wanted: int | None) -> int:
    """Return the tokens a piece may have besides the special tokens and the passage prompt."""
    if not (hasattr(tokenizer, "encode") and hasattr(tokenizer, "to_str")):
        raise InvalidInput(
            f"the tokenizer of {embedder.name!r} is a {type(tokenizer).__name__}; ingestion needs a "
            "tokenizers.Tokenizer, or none at all to count characters"
        )
    limit = getattr(embedder, "max_tokens", None)
    if wanted is not None and limit is not None and wanted > limit:
        raise InvalidInput(
            f"max_tokens is {wanted}, but {embedder.name!r} cuts texts off after {limit} tokens; choose at most {limit}"
        )
    whole = wanted or min(limit or DEFAULT_TOKENS, DEFAULT_TOKENS)
    prompt = getattr(embedder, "passage_prompt", "") or ""
    used: int = len(tokenizer.encode(prompt).ids)  # special tokens included
    if used >= whole:
        raise InvalidInput(
            f"max_tokens is {whole}, but special tokens and prompt of {embedder.name!r} take {used}; choose more"
        )
    return whole - used


def _require_length(name: str, value: Any, least: int) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
        raise InvalidInput(f"{name} is {value!r}; it must be an integer of at least {least}")

"""The ways to cut texts into words: what FTS5 is told at creation, and what texts are before it sees them."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import apsw

from reperio.layout import LEXICAL, Lexical
from reperio.store.words import unspaced

_TOKENIZERS: dict[Lexical, tuple[str, ...]] = {
    "porter": ("porter", "unicode61", "remove_diacritics", "2"),
    "unicode61": ("unicode61", "remove_diacritics", "2"),
    "trigram": ("trigram", "remove_diacritics", "1"),
}
_OF_WORDS: tuple[Lexical, ...] = ("porter", "unicode61")


class Tokenizer(NamedTuple):
    """What an index was created with.

    Attributes:
        name: as of `reperio.open`.
        pairs: runs of languages without spaces are written as characters and pairs; not in an index that was made
            before format 4, until its collection is compacted.
    """

    name: Lexical
    pairs: bool

    @property
    def arguments(self) -> tuple[str, ...]:
        """The tokenizer of FTS5 and what it is told."""
        return (*_TOKENIZERS[self.name], "tokenchars", unspaced.MARKS) if self.pairs else _TOKENIZERS[self.name]

    @property
    def column(self) -> str:
        """The name of the column, which tells the two kinds apart at sight."""
        return "written_out" if self.pairs else "text"

    def of_chunk(self, text: str) -> str:
        """Return what FTS5 gets to index for a chunk's text."""
        # Most texts are ASCII, which Python knows without looking: asked here, for each chunk that is added.
        return text if text.isascii() or not self.pairs else unspaced.written_out(text)

    def of_question(self, text: str) -> str:
        """Return what FTS5 gets to cut for a question."""
        return unspaced.asked_for(text) if self.pairs else text

    def split(self, text: str) -> tuple[str, list[str]]:
        """Return what FTS5 has to cut of a chunk's text, and the other tokens."""
        return unspaced.split(text) if self.pairs else (text, [])

    def unanswerable(self, text: str, tokens: int) -> str:
        """Return why this index cannot answer a question of so many tokens as it should; nothing where it can."""
        if self.name == "trigram" and not tokens:
            return (
                "it has fewer than three characters, and this collection is indexed by every three "
                "(lexical='trigram'); ask for more, or create another collection with lexical='unicode61', which finds "
                "words of any length"
            )
        if not tokens:
            return "there is no letter and no digit in it; ask with words"
        if self.name in _OF_WORDS and not self.pairs and unspaced.is_in(text):
            return (
                "the lexical index of this collection was made by an older Reperio, which takes a run of Chinese, "
                "Japanese or Thai for one word; compact() (reperio compact) makes one that finds words in it"
            )
        return ""


def all_kinds() -> list[Tokenizer]:
    """Return all ways in which an index may have been created."""
    return [Tokenizer(name, pairs) for name in _TOKENIZERS for pairs in {False, name in _OF_WORDS}]


def newest(name: Lexical) -> Tokenizer | None:
    """Return the way in which a new index is created; None for "none"."""
    return None if name == "none" else Tokenizer(name, name in _OF_WORDS)


def schema(tokenizer: Tokenizer | None) -> str:
    """Return the statements that create the index; none for None.

    With larger pages, a larger buffer and later merges than FTS5's own, commits of 1,000 chunks take 16 ms instead of
    22, merges included, and the longest of them no more.
    """
    if tokenizer is None:
        return ""
    return (
        f"CREATE VIRTUAL TABLE lexical USING fts5({tokenizer.column}, content='', contentless_delete=1, detail=full, "
        f"tokenize='{' '.join(tokenizer.arguments)}');"
        "INSERT INTO lexical(lexical, rank) VALUES ('pgsz', 8000), ('hashsize', 8388608), ('automerge', 8);"
    )


def tokenizer_of(reading: apsw.Connection | apsw.Cursor) -> Tokenizer | None:
    """Return what the index of a database was created with; None where it has none."""
    found: Any = reading.execute("SELECT sql FROM sqlite_schema WHERE name = 'lexical'").fetchone()
    if found is None:
        return None
    known = _by_statement().get(found[0]) if isinstance(found[0], str) else None
    if known is None:
        raise apsw.CorruptError(f"its lexical index is {found[0]!r:.200}")
    return known


@cache
def _by_statement() -> dict[str, Tokenizer]:
    """Return each kind by the statement that SQLite keeps of its table: each search looks it up."""
    return {schema(tokenizer).partition(";")[0]: tokenizer for tokenizer in all_kinds()}


CHOICES = LEXICAL[:-1]
"""The ways that have an index."""

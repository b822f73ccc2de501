"""Long texts → pieces that fit the embedder, cut where the text itself pauses, in time linear in the text."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from reperio.errors import InvalidInput
from reperio.ingestion.cutting.atoms import PARAGRAPH, SENTENCE, Atoms, atoms
from reperio.ingestion.cutting.measuring import Measure
from reperio.ingestion.cutting.structure import Heading, Kind, Table, structure
from reperio.types import CONTEXT_FIELD, Embedder

# Longest piece by default, where the embedder takes more: one vector for pages of text finds none of them well.
DEFAULT_TOKENS = 512
DEFAULT_CHARACTERS = 1000  # longest piece by default where the embedder has no tokenizer
# A token of English prose has four or five characters. A tokenizer that does not know a script makes one token of a
# whole word, or of a whole sentence where words are written without spaces.
CHARACTERS_PER_TOKEN = 8
_CONTEXT = 4  # the context of a piece takes at most one part in so many of its room
_INEXACT = 0.9  # the room that is used where tokens can only be estimated
# A piece: where it begins, in characters, and its text, without the white space around it.
Bare: TypeAlias = "tuple[int, str]"


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a text that becomes a chunk."""

    start: int  # in characters
    text: str
    headings: tuple[str, ...] = ()  # the headings that it is under, the highest first
    header: str = ""  # the header of the table in whose rows it begins
    context: str = ""  # what is embedded before the text: the title, the headings and the header that it does not show

    @property
    def metadata(self) -> dict[str, Any]:
        """What a chunk is to keep of it: headings, the header of its table, and the context, where there are any."""
        found: dict[str, Any] = {}
        if self.headings:
            found["headings"] = list(self.headings)
        if self.header:
            found["table_header"] = self.header
        if self.context:
            found[CONTEXT_FIELD] = self.context
        return found


class Splitter:
    """Cuts texts at headings and paragraphs where it can, else at sentences, else at words.

    Args:
        embedder: with ``tokenizer`` (a ``tokenizers.Tokenizer``) and ``max_tokens``, pieces are measured in its tokens,
            its special tokens and passage prompt included; without ``tokenizer``, in characters. No piece has more
            than eight characters per token that it may have.
        max_tokens: longest piece; default: what the embedder takes, at most 512 tokens, or 1,000 characters.
        overlap: the most that the end of a piece is repeated in the next, in the same unit; whole sentences or
            paragraphs only, and never across a heading. Default: a tenth.

    Raises:
        InvalidInput: lengths that cannot be, or more tokens than the embedder takes.
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
        self._measure = Measure(tokenizer)
        self._room = self.capacity if self._measure.exact else max(1, int(self.capacity * _INEXACT))
        self._ceiling = self.capacity if tokenizer is None else self.capacity * CHARACTERS_PER_TOKEN
        self._counts_characters = tokenizer is None

    def split(self, text: str, *, markdown: bool = False) -> list[Bare]:
        """Cut a text into pieces; one that fits is one piece, white space alone is none.

        Args:
            text: of any length.
            markdown: cut at headings, tables and code blocks too.
        """
        return [(piece.start, piece.text) for piece in self.pieces(text, kind="markdown" if markdown else "plain")]

    def pieces(
        self, text: str, *, kind: Kind = "plain", title: str = "", headings: Sequence[str] = ()
    ) -> Iterator[Piece]:
        """Cut a text into pieces that know under which headings they stand.

        Args:
            text: of any length.
            kind: how it is written.
            title: of the document; it goes along as context.
            headings: that the whole text is under.
        """
        bare = text.strip()
        if not bare:
            return
        short = kind in ("plain", "log") and len(bare) <= self._ceiling
        if short and not title and not headings and self._measure.sure(bare) <= self._room:
            yield Piece(text.index(bare[0]), bare)  # most items of tables and lines are
            return
        yield from _Packing(self, text, kind, (title, *headings) if title else ("", *headings)).pieces()


class _Packing:
    """One text on its way into pieces."""

    def __init__(self, splitter: Splitter, text: str, kind: Kind, outer: tuple[str, ...]) -> None:
        self._text, self._kind, self._outer = text, kind, outer
        self._measure, self._overlap = splitter._measure, splitter.overlap
        self._room, self._ceiling = splitter._room, splitter._ceiling
        self._characters = splitter._counts_characters
        self._least = max(1, self._room - self._room // _CONTEXT)  # room where the context is longest
        found = structure(text, kind)
        self._tables = found.tables
        self._table_starts = [table.start for table in found.tables]
        most = (self._least, max(1, self._ceiling - self._ceiling // _CONTEXT))
        self._atoms = atoms(text, kind, found.headings, self._measure, most=most)
        self._sections = _sections(found.headings, self._atoms)
        self._section_starts = [section.first for section in self._sections]
        self._contexts: dict[tuple[str, ...], tuple[str, int]] = {}

    def pieces(self) -> Iterator[Piece]:
        at, count = 0, len(self._atoms)
        while at < count:
            section = bisect_right(self._section_starts, at) - 1
            path, header, context, used = self._around(at, section)
            end = self._end(at, section, used)
            start, stop = self._atoms.starts[at], self._atoms.ends[end - 1]
            yield Piece(start, self._text[start:stop], path, header, context)
            at = end if end == count else self._next(at, end)

    def _around(self, at: int, number: int) -> tuple[tuple[str, ...], str, str, int]:
        """Return headings, table header, context and the context's length of a piece that begins at an atom."""
        section = self._sections[number]
        path = (*self._outer[1:], *section.path)
        start = self._atoms.starts[at]
        shown = len(section.path) - section.above if at == section.first else 0
        hidden = path[: len(path) - shown]
        header = ""
        table = self._table(start)
        if table is not None and start >= table.body:
            header = table.header
        context, used = self._context((self._outer[0], *hidden), header)
        return path, header, context, used

    def _table(self, start: int) -> Table | None:
        number = bisect_right(self._table_starts, start) - 1
        if number < 0 or start >= self._tables[number].end:
            return None
        return self._tables[number]

    def _context(self, path: tuple[str, ...], header: str) -> tuple[str, int]:
        key = (*path, header)
        if key not in self._contexts:
            self._contexts[key] = self._made_context(path, header)
        return self._contexts[key]

    def _made_context(self, path: tuple[str, ...], header: str) -> tuple[str, int]:
        """Join title, headings and header; leave out the highest headings, then the header, where room is short."""
        most = self._room // _CONTEXT
        parts = [part for part in dict.fromkeys(path) if part]
        while parts or header:
            lines = [" > ".join(parts)] if parts else []
            context = "\n".join([*lines, header] if header else lines)
            used = self._measure.of(f"{context}\n")
            if used <= most and len(context) <= self._ceiling // _CONTEXT:
                return context, used
            if len(parts) > 1:
                del parts[1 if len(parts) > 2 else 0]  # the title stays longest, and the nearest heading
            elif header:
                header = ""
            else:
                parts.pop()
        return "", 0

    def _length(self, at: int, end: int) -> int:
        if self._characters:
            return self._atoms.ends[end - 1] - self._atoms.starts[at]
        return self._atoms.before[end] - self._atoms.before[at]

    def _end(self, at: int, section: int, used: int) -> int:
        """Return the atom behind the last one of a piece that begins at an atom."""
        room = max(1, self._room - used)
        last = self._reach(at, room, used)
        if last == len(self._atoms):
            return last
        end = self._whole_sections(section, last)
        if end > at:
            return end
        return self._cut(at, last, room)

    def _reach(self, at: int, room: int, used: int) -> int:
        """Return how far a piece may go."""
        made = self._atoms
        ceiling = made.starts[at] + max(1, self._ceiling - (used if self._characters else 0))
        last = bisect_right(made.ends, ceiling, lo=at + 1)
        if not self._characters:
            last = min(last, bisect_right(made.before, made.before[at] + room, lo=at + 1) - 1)
        last = max(last, at + 1)
        while not self._measure.exact and last > at + 1:
            whole = self._measure.whole(self._text[made.starts[at] : made.ends[last - 1]])
            if whole <= room / _INEXACT:
                break
            last = max(at + 1, min(last - 1, at + int((last - at) * room / whole)))
        return last

    def _whole_sections(self, number: int, last: int) -> int:
        """Return the end of the last section that fits whole, or −1; a higher heading is not crossed."""
        depth, end = self._sections[number].depth, -1
        for section in range(number + 1, len(self._sections) + 1):
            first = self._sections[section].first if section < len(self._sections) else len(self._atoms)
            if first > last:
                break
            end = first
            if section < len(self._sections) and self._sections[section].depth < depth:
                break
        return end

    def _cut(self, at: int, last: int, room: int) -> int:
        """Return where to cut before *last*: at the last paragraph that leaves the piece half full, else a sentence."""
        levels, heads = self._atoms.levels, self._atoms.heads
        least = min(room, self._ceiling) // 2 if self._characters else room // 2
        for wanted in (PARAGRAPH, SENTENCE):
            end = last
            while end > at + 1 and (levels[end] < wanted or end - 1 in heads) and self._length(at, end - 1) >= least:
                end -= 1
            if levels[end] >= wanted and end - 1 not in heads and self._length(at, end) >= least:
                return end
        end = last
        while end > at + 1 and end - 1 in heads:
            end -= 1
        return last if end - 1 in heads else end  # headings alone are cut where the room ends

    def _next(self, at: int, end: int) -> int:
        """Return the atom that the next piece begins with: *end*, or an earlier one that is repeated."""
        section = self._section_starts[bisect_right(self._section_starts, end) - 1]
        if section == end or not self._overlap:
            return end
        first, made = end, self._atoms
        room = self._least - self._length(end, end + 1)
        while first - 1 > max(at, section - 1) and first - 1 not in made.heads:
            length = made.ends[end - 1] - made.starts[first - 1] if self._characters else self._length(first - 1, end)
            if length > min(self._overlap, room):
                break
            first -= 1
        while first < end and made.levels[first] < SENTENCE:
            first += 1
        return first


@dataclass(frozen=True, slots=True)
class _Section:
    """What stands under one heading, down to the next one."""

    first: int  # its first atom
    path: tuple[str, ...]
    depth: int
    above: int  # how many headings of the path are not shown at its beginning


def _sections(headings: Sequence[Heading], made: Atoms) -> list[_Section]:
    """Return the sections; a heading without a body of its own begins the section of the heading behind it."""
    sections = [_Section(0, (), 0, 0)]
    stack: list[Heading] = []
    bare: _Section | None = None
    for number, heading in enumerate(headings):
        while stack and stack[-1].depth >= heading.depth:
            stack.pop()
        stack.append(heading)
        first = bisect_left(made.starts, heading.start)
        path = tuple(one.title for one in stack if one.title)
        section = _Section(first, path, heading.depth, max(0, len(path) - 1))
        if bare is not None:
            shown = min(bare.above, section.above) if path[: len(bare.path)] == bare.path else section.above
            section = _Section(bare.first, path, min(bare.depth, heading.depth), shown)
        if number + 1 < len(headings):
            following = bisect_left(made.starts, headings[number + 1].start)
            body = heading.end > heading.start
            bare = section if body and all(at in made.heads for at in range(first, following)) else None
        else:
            bare = None
        if bare is None:
            if sections[-1].first == section.first:
                sections.pop()
            sections.append(section)
    return sections


def _tokens_left(embedder: Embedder, tokenizer: Any, wanted: int | None) -> int:
    """Return the tokens a piece may have besides the special tokens and the passage prompt."""
    if not (hasattr(tokenizer, "encode") and hasattr(tokenizer, "encode_batch")):
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

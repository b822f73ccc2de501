"""Tantivy over the same texts, for comparison: a separate environment's package, no dependency of ours."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import tantivy

_RESERVED = {"AND", "OR", "NOT", "IN"}


def opened(place: Path, texts: Callable[[], Iterator[str]]) -> Callable[[str], object]:
    """Return a search for the ten best rows by every word; the index is built at *place* unless it is there.

    English stems, accents folded, no stop words, frequencies but no positions: what BM25 needs.
    """
    builder = tantivy.SchemaBuilder()
    builder.add_unsigned_field("row", fast=True)
    builder.add_text_field("text", tokenizer_name="english_stems", index_option="freq")
    fresh = not place.exists()
    place.mkdir(parents=True, exist_ok=True)
    index = tantivy.Index(builder.build(), path=str(place))
    chain = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple()).filter(tantivy.Filter.lowercase())
    chain = chain.filter(tantivy.Filter.ascii_fold()).filter(tantivy.Filter.stemmer("english"))
    index.register_tokenizer("english_stems", chain.build())
    if fresh:
        _fill(index, texts())
    searcher = index.searcher()

    def search(question: str) -> object:
        words = [word for word in re.findall(r"\w+", question) if word not in _RESERVED]
        return searcher.search(index.parse_query(" ".join(words), ["text"]), 10, count=False).hits

    return search


def _fill(index: tantivy.Index, texts: Iterator[str]) -> None:
    writer = index.writer(heap_size=256 << 20, num_threads=1)
    for row, text in enumerate(texts):
        document = tantivy.Document()
        document.add_unsigned("row", row)
        document.add_text("text", text)
        writer.add_document(document)
    writer.commit()
    writer.wait_merging_threads()
    index.reload()

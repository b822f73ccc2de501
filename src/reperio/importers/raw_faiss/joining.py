"""Join the vectors of an index and the rows of a file: by their order, or by the numbers that FAISS knows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reperio import index
from reperio.errors import InvalidInput
from reperio.importers.conversion import Conversion
from reperio.importers.matching import places_of
from reperio.importers.pickles import shown
from reperio.importers.reading import to_integer
from reperio.importers.storing import ForeignContent
from reperio.index import ForeignIndex
from reperio.ingestion.finding.sources import SourceFile
from reperio.ingestion.reading.items import Fields, Item
from reperio.ingestion.reading.readers import read
from reperio.types import Chunk

_FORMATS = (".jsonl", ".csv", ".parquet")
_EXPANSION, _EXPANSION_LEAST = 64, 256 << 20  # characters that a byte of the file may come to; and for all of it


@dataclass(frozen=True, slots=True)
class Columns:
    """The names of the fields that are not metadata."""

    text: str
    id: str
    number: str | None


def read_pair(path: Path, texts: Path, columns: Columns) -> ForeignContent:
    """Read and check an index and the file with its texts."""
    if texts.suffix.lower() not in _FORMATS:
        raise InvalidInput(f"{texts} has the suffix {texts.suffix!r:.20}; texts are read from {', '.join(_FORMATS)}")
    vectors = index.read_foreign(path, own_numbers=columns.number is not None)
    items = list(read(SourceFile(texts, texts.name), Fields(columns.text, columns.id, rename_taken=False)))
    places = _by_number(items, vectors, columns) if columns.number else _by_order(items, vectors, path, texts)
    conversion = Conversion(_EXPANSION_LEAST + _EXPANSION * texts.stat().st_size, str(texts))
    chunks: dict[str, tuple[Chunk, int]] = {}
    twice: dict[str, None] = {}
    lonely: list[str] = []
    claimed = np.zeros(len(vectors.numbers), dtype=bool)
    for item, place in zip(items, places, strict=True):
        number = str(vectors.numbers[place]) if place >= 0 else item.place
        chunk = _chunk(item, number, columns, conversion)
        if place < 0 or (vectors.lost is not None and not chunk.text.strip()):
            lonely.append(chunk.id)
            continue
        claimed[place] = True
        if chunk.id in chunks:
            twice[chunk.id] = None
        chunks[chunk.id] = (chunk, place)
    at = np.array([place for _, place in chunks.values()], dtype=np.int64)
    return ForeignContent(
        what="the index",
        kind=vectors.kind,
        dimension=vectors.dimension,
        metric=vectors.metric,
        documents=len(items),
        chunks=[chunk for chunk, _ in chunks.values()],
        vectors=lambda rows: vectors.vectors(at[rows]),
        lost=vectors.lost,
        without_vector=tuple(lonely),
        without_document=tuple(vectors.numbers[~claimed].tolist()) if vectors.lost is None else (),
        duplicates=tuple(twice),
        changed=conversion.changed,
    )


def _by_order(items: list[Item], vectors: ForeignIndex, path: Path, texts: Path) -> list[int]:
    if len(items) != len(vectors.numbers):
        raise InvalidInput(
            f"{texts} has {len(items):,} rows, {path} {len(vectors.numbers):,} vectors: joined by their order, they "
            "must be as many. Name the field with FAISS's numbers by number_field= (--number-field), if there is one"
        )
    return list(range(len(items)))


def _by_number(items: list[Item], vectors: ForeignIndex, columns: Columns) -> list[int]:
    return places_of([_number(item, columns) for item in items], vectors.numbers)


def _number(item: Item, columns: Columns) -> int:
    field = columns.number or ""
    value = item.id if field == columns.id else item.metadata.get(field)
    number = to_integer(value)  # a text, in a .csv
    if number is None:
        raise InvalidInput(f"{item.place}: the field {field!r:.60} is {shown(value):.40}, no integer of 64 bits")
    return number


def _chunk(item: Item, number: str, columns: Columns, conversion: Conversion) -> Chunk:
    rest = {key: value for key, value in item.metadata.items() if key != columns.number}
    return Chunk(item.id or number, conversion.to_text(item.text, "(text)"), conversion.to_metadata(rest))

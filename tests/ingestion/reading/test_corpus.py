from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from reperio import InvalidInput
from reperio.ingestion.cutting.splitting import Splitter
from reperio.ingestion.finding.sources import SourceFile
from reperio.ingestion.finding.suffixes import CODE, SUFFIXES, suffix_of
from reperio.ingestion.reading.items import ReadingOptions
from reperio.ingestion.reading.readers import read
from tests.conftest import TrigramEmbedder
from tests.ingestion.corpus import Made, corpus, write

FILES = corpus()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("corpus")
    write(where)
    return where


def chunks(path: Path, options: ReadingOptions, notes: list[str]) -> list[tuple[str, dict[str, Any]]]:
    splitter = Splitter(TrigramEmbedder())
    return [
        (piece.text, {**item.metadata, **piece.metadata})
        for item in read(SourceFile(path, path.name), options, notes.append)
        for piece in splitter.pieces(item.text, kind=item.kind, title=item.title, headings=item.headings)
    ]


@pytest.mark.parametrize("file", FILES, ids=[file.name for file in FILES])
def test_each_file_of_the_corpus_gives_its_chunks(folder: Path, file: Made) -> None:
    """A file of every format, and of every trap, gives the expected texts and metadata, or an error with its name."""
    if file.needs and find_spec(file.needs) is None:
        pytest.skip(f"{file.needs} is not installed")
    options, notes = ReadingOptions(**file.options or {}), list[str]()
    if file.error:
        with pytest.raises(InvalidInput) as caught:
            chunks(folder / file.name, options, notes)
        assert str(caught.value).startswith(str(folder / file.name))
        assert file.error in str(caught.value)
        return
    assert chunks(folder / file.name, options, notes) == list(file.chunks)
    assert file.notes in " ".join(notes)
    columns = ("has columns of ", "keeps as text: ")  # said of every table, see test_reading.py
    assert any(not note.startswith(columns) for note in notes) == bool(file.notes)


def test_every_format_is_in_the_corpus() -> None:
    """No suffix is read without a file that shows how, except those that are read as others are."""
    shown = {suffix_of(file.name) for file in FILES}
    alike = {".text", ".htm", ".xhtml", ".xls", ".ods", ".log.gz", ".tsv.gz", ".ndjson.gz", ".md.gz", ".parquet"}
    assert set(SUFFIXES) - shown - alike - set(CODE) == set()

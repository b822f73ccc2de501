from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reperio import Collection, InvalidInput, MissingDependency
from reperio.ingestion import ingest
from reperio.ingestion.finding.sources import SourceFile
from reperio.ingestion.reading.formats import documents
from reperio.ingestion.reading.items import ReadingOptions
from reperio.ingestion.reading.readers import read
from tests.conftest import TrigramEmbedder
from tests.ingestion import made


@pytest.fixture
def word(tmp_path: Path) -> Path:
    path = tmp_path / "a.docx"
    path.write_bytes(made.docx([("p", "words")]))
    return path


def texts(path: Path, **options: float) -> list[str]:
    return [item.text for item in read(SourceFile(path, path.name), ReadingOptions(**options))]


def test_a_reader_that_dies_is_started_again(word: Path) -> None:
    """When the process that reads documents is killed, the next document is read by a new one."""
    assert texts(word) == ["words"]
    process = documents._WORKERS._process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert texts(word) == ["words"]


def test_a_document_that_is_not_read_to_its_end_disturbs_none(tmp_path: Path, word: Path) -> None:
    """Breaking off in the middle of a presentation leaves nothing behind that the next document would get."""
    slides = tmp_path / "a.pptx"
    slides.write_bytes(made.pptx([(f"Slide {at}", ["x"]) for at in range(50)]))
    reading = read(SourceFile(slides, "a.pptx"), ReadingOptions())
    assert next(reading).text.startswith("# Slide 0")
    assert isinstance(reading, Iterator)
    reading.close()  # type: ignore[attr-defined]  # of a generator
    assert texts(word) == ["words"]


def test_a_forked_process_has_a_reader_of_its_own(word: Path) -> None:
    """A child does not speak through the pipes of its parent."""
    assert texts(word) == ["words"]
    child = os.fork()
    if child == 0:
        os._exit(0 if texts(word) == ["words"] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert texts(word) == ["words"]


def test_a_document_has_so_much_time(word: Path) -> None:
    """One that takes longer than it may is refused with its name, and the next is read."""
    with pytest.raises(InvalidInput, match=r"a\.docx takes longer than 0 seconds to read"):
        texts(word, seconds=0.0)
    assert texts(word) == ["words"]


def test_a_missing_library_is_told_for_its_format(tmp_path: Path, word: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without PDFium a PDF is an error with the pip command, and Word documents are read all the same."""
    path = tmp_path / "a.pdf"
    path.write_bytes(made.pdf([["words"]]))
    monkeypatch.setitem(__import__("sys").modules, "pypdfium2", None)
    with pytest.raises(MissingDependency, match=r"a\.pdf needs pypdfium2.*pip install 'reperio\[documents\]'"):
        texts(path)
    assert texts(word) == ["words"]


def test_a_library_of_the_system_that_is_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is there but cannot be loaded is an error that says what it misses."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/pypdfium2.py").write_text(
        "raise ImportError('libpdfium.so: cannot open shared object file', name='pypdfium2')"
    )
    path = tmp_path / "a.pdf"
    path.write_bytes(made.pdf([["words"]]))
    monkeypatch.syspath_prepend(tmp_path / "lib")
    documents._WORKERS._end()
    try:
        with pytest.raises(MissingDependency, match=r"pypdfium2, which cannot be imported.*libpdfium\.so: cannot open"):
            texts(path)
    finally:
        documents._WORKERS._end()


def test_no_module_is_taken_from_where_the_files_are(
    tmp_path: Path, word: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stranger's `zipfile.py` next to the files is not run, however Python was started."""
    for name in ("zipfile", "html", "json", "reperio"):
        (tmp_path / f"{name}.py").write_text("open('ran', 'w').close()\nraise SystemExit\n")
    monkeypatch.chdir(tmp_path)
    link = tmp_path.parent / f"{tmp_path.name}-link"
    link.symlink_to(tmp_path)
    for folder in ("", ".", str(tmp_path), str(link)):
        documents._WORKERS._end()
        monkeypatch.setattr("sys.path", [folder, *sys.path])
        assert texts(word) == ["words"]
    documents._WORKERS._end()
    assert not (tmp_path / "ran").exists()


def test_a_document_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """A file that vanished since it was found is told as for other formats."""
    for name in ("gone.docx", "gone.eml", "gone.tex"):
        with pytest.raises(InvalidInput, match=rf"{name} cannot be read"):
            texts(tmp_path / name)


def test_a_folder_of_documents_is_ingested_once(tmp_path: Path, kb: Collection, embedder: TrigramEmbedder) -> None:
    """Pieces are embedded under their headings, a second run does nothing, and a renamed heading embeds its own."""
    folder = tmp_path / "docs"
    folder.mkdir()
    body = "One sentence of the body of this section. " * 40
    blocks: list[made.Block] = [("h1", "Opening"), ("p", body), ("h1", "Closing"), ("p", body.upper())]
    (folder / "a.docx").write_bytes(made.docx(blocks, title="Slicer"))
    (folder / "b.odt").write_bytes(made.odt([("p", "Words.")], title="Other"))
    (folder / "scan.eml").write_bytes(made.eml("Hello", "Text.", attached={"x.bin": b"x"}))
    first = ingest(kb, folder)
    assert [(note.source, note.reason[:19]) for note in first.notes] == [("docs/scan.eml", "has 1 attached file")]
    assert "Slicer > Opening\nOne sentence" in "\n".join(embedder.embedded)
    assert all("Slicer" not in chunk.text for chunk in kb)
    again = ingest(kb, folder)
    assert (again.added, again.embedded, again.unchanged, again.removed) == (0, 0, first.added, 0)
    blocks[2] = ("h1", "Shutting")
    (folder / "a.docx").write_bytes(made.docx(blocks, title="Slicer"))
    renamed = ingest(kb, folder)
    closing = [chunk for chunk in kb if chunk.metadata.get("headings") == ["Shutting"]]
    assert renamed.embedded == len(closing) > 1


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"delimiter": ";;"}, "delimiter is ';;'; it is one character"),
        ({"delimiter": "\n"}, "it is one character"),
        ({"encoding": "utf-9"}, "encoding is 'utf-9', which Python does not know"),
        ({"drop": ("text",)}, "cannot be dropped"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], reason: str) -> None:
    """A delimiter of two characters, an encoding that is none, a text that is left out: an error with the reason."""
    with pytest.raises(InvalidInput, match=reason):
        ReadingOptions(**options)

"""Watching goes on whatever becomes of the paths."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import Queue

import pytest

from reperio import Collection, InvalidInput
from reperio.ingestion import IngestResult, ingest, watch
from reperio.ingestion import watching as watching_module
from tests.ingestion.folders import texts, write

_LONGEST = 60  # seconds, after which a test fails instead of waiting for ever


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching_module, "_LOOK_MS", 250)


class Watched:
    """Watching in a thread: its results and what it says, in their order."""

    def __init__(self, kb: Collection, paths: Sequence[Path], run: Callable[[Sequence[str]], IngestResult]) -> None:
        self.heard: Queue[IngestResult | str | BaseException] = Queue()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._watch, args=(kb, list(paths), run))

    def _watch(self, kb: Collection, paths: list[Path], run: Callable[[Sequence[str]], IngestResult]) -> None:
        try:
            for result in watch(kb, paths, run, stop=self.stop, say=self.heard.put):
                self.heard.put(result)
        except BaseException as error:
            self.heard.put(error)

    def result(self) -> IngestResult:
        heard = self.heard.get(timeout=_LONGEST)
        assert isinstance(heard, IngestResult), heard
        return heard

    def said(self) -> str:
        heard = self.heard.get(timeout=_LONGEST)
        assert isinstance(heard, str), heard
        return heard


@contextmanager
def watched(
    kb: Collection, *paths: Path, run: Callable[[Sequence[str]], IngestResult] | None = None
) -> Iterator[Watched]:
    watching = Watched(kb, paths, run or (lambda some: ingest(kb, some, prune=True)))
    watching.thread.start()
    try:
        yield watching
    finally:
        watching.stop.set()
        watching.thread.join(_LONGEST)
        assert not watching.thread.is_alive()
    assert [one for one in watching.heard.queue if isinstance(one, BaseException)] == []


def test_a_folder_that_is_away_is_waited_for(kb: Collection, tmp_path: Path) -> None:
    """It is said once, nothing of it is pruned, others go on, and it is followed again when it is back."""
    docs, other = tmp_path / "docs", tmp_path / "other"
    write(docs / "a.md", "rivers")
    write(docs / "b.md", "lakes")
    write(other / "c.md", "seas")
    with watched(kb, docs, other) as watching:
        assert watching.result().added == 3
        docs.rename(tmp_path / "away")
        assert "docs is not there; what is stored of it is kept" in watching.said()
        write(other / "d.md", "ponds")
        assert watching.result().added == 1
        assert kb.count() == 4
        (tmp_path / "away").rename(docs)
        watching.result()
        write(docs / "e.md", "brooks")
        assert watching.result().added == 1
        (docs / "a.md").unlink()
        assert watching.result().removed == 1
    assert sorted(texts(kb)) == ["docs/b.md", "docs/e.md", "other/c.md", "other/d.md"]


def test_a_folder_that_is_replaced_is_followed(kb: Collection, tmp_path: Path) -> None:
    """Emptied, deleted and made again, or a link that is switched: what is in the new one counts."""
    one, two = tmp_path / "one", tmp_path / "two"
    write(one / "a.md", "rivers")
    write(two / "a.md", "lakes")
    docs = tmp_path / "docs"
    docs.symlink_to(one)
    with watched(kb, docs) as watching:
        watching.result()
        docs.unlink()
        docs.symlink_to(two)
        heard = watching.heard.get(timeout=_LONGEST)  # it may have been missed for a moment
        assert (watching.result() if isinstance(heard, str) else heard).updated + kb.count() >= 1
        assert texts(kb) == {"docs/a.md": ["lakes"]}
        (two / "a.md").unlink()
        assert "docs is empty; what is stored of it is kept" in watching.said()
        shutil.rmtree(two)
        write(two / "b.md", "seas")
        while texts(kb) != {"docs/b.md": ["seas"]}:
            watching.heard.get(timeout=_LONGEST)
        write(two / "b.md", "ponds")
        while texts(kb) != {"docs/b.md": ["ponds"]}:
            watching.heard.get(timeout=_LONGEST)


def test_a_file_is_followed_without_its_folder(kb: Collection, tmp_path: Path) -> None:
    """Replaced as editors do, deleted and written again."""
    path = write(tmp_path / "a.md", "rivers")
    write(tmp_path / "deep/below/b.md", "no news")
    with watched(kb, path) as watching:
        watching.result()
        write(tmp_path / ".a.md.swp", "lakes").rename(path)
        assert watching.result().added == 1
        path.unlink()
        assert "a.md is not there" in watching.said()
        write(path, "seas")
        assert watching.result().added == 1
    assert texts(kb) == {"a.md": ["seas"]}


def test_what_a_later_run_refuses_is_said_once(kb: Collection, tmp_path: Path) -> None:
    """And the next change leads to another run, which may succeed; what the first refuses is an error."""
    docs = tmp_path / "docs"
    write(docs / "a.md", "rivers")
    runs = 0

    def run(paths: Sequence[str]) -> IngestResult:
        nonlocal runs
        runs += 1
        return ingest(kb, paths, strict=True)

    with watched(kb, docs, run=run) as watching:
        watching.result()
        write(docs / "b.md", b"caf\xe9")
        assert "b.md: byte 0xe9" in watching.said()
        before = runs
        write(docs / "c.md", "lakes")
        write(docs / "b.md", "cafe")
        assert watching.result().added == 2
        assert runs > before
    with pytest.raises(InvalidInput, match="does not exist"):
        next(watch(kb, tmp_path / "mistyped", run))

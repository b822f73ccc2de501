"""Index files made to lead FAISS to other files: refused before it reads them."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import faiss
import numpy as np
import orjson
import pytest

import reperio
from reperio import Chunk, InvalidInput, ReperioWarning
from reperio.index import read_foreign
from reperio.index.library.files import FileUnusable, Written, names_a_file, read_file, verify_file, write_file

D = 16
FACTORIES = {
    "plain": "IVF8,Flat",
    "behind a transform": "PCA8,IVF8,SQ8",
    "renumbered": "IDMap,IVF8,Flat",
    "refined": "IVF8,SQ8,RFlat",
    "renumbered, refined, behind transforms": "IDMap2,OPQ4_8,PCA8,IVF8,PQ4x4,RFlat",
}


def _ivf(index: Any) -> Any:
    while True:
        index = faiss.downcast_index(index)
        if hasattr(index, "nlist"):
            return index
        index = index.base_index if hasattr(index, "base_index") else index.index


def lists_elsewhere(factory: str, victim: Path) -> bytes:
    """Return an index whose lists are said to be in *victim*, which is then written again."""
    vectors = np.random.default_rng(0).standard_normal((500, D)).astype(np.float32)
    index = faiss.index_factory(D, factory)
    index.train(vectors)
    if factory.startswith("IDMap"):
        index.add_with_ids(vectors, np.arange(500))
    else:
        index.add(vectors)
    inner = _ivf(index)
    lists = faiss.OnDiskInvertedLists(inner.nlist, inner.code_size, str(victim))
    lists.merge_from(inner.invlists, 0)
    inner.replace_invlists(lists, False)
    made = bytes(faiss.serialize_index(index))
    victim.write_bytes(b"a letter of yours")
    return made


class Watch:
    """Tells whether anything opens a file, or lists its directory's names."""

    _OPENED = 0x20

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._library.inotify_init1(os.O_NONBLOCK)
        assert self._library.inotify_add_watch(self._descriptor, os.fsencode(path), self._OPENED) >= 0

    def opened(self) -> bool:
        try:
            return bool(os.read(self._descriptor, 4096))
        except BlockingIOError:
            return False


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    path = tmp_path / "letter"
    path.write_bytes(b"")
    return path


def written(data: bytes, path: Path) -> Written:
    path.write_bytes(data)
    return Written(hashlib.sha256(data).hexdigest(), len(data))


@pytest.mark.parametrize("name", FACTORIES)
def test_an_index_whose_lists_are_elsewhere_opens_no_file(name: str, victim: Path, tmp_path: Path) -> None:
    """Its checksum agrees, and it is refused before FAISS opens the file that it names, however deep that is said."""
    record = written(lists_elsewhere(FACTORIES[name], victim), tmp_path / "index")
    watch = Watch(victim)
    with pytest.raises(FileUnusable, match="lists are in another file"):
        read_file(tmp_path / "index", record)
    with pytest.raises(FileUnusable, match="lists are in another file"):
        verify_file(tmp_path / "index", record)
    with pytest.raises(InvalidInput, match="lists are in another file"):
        read_foreign(tmp_path / "index")
    assert not watch.opened()
    faiss.read_index(str(tmp_path / "index"), faiss.IO_FLAG_READ_ONLY)
    assert watch.opened(), "the watch sees what FAISS would have opened"


def test_the_mark_is_found_wherever_it_lies(victim: Path) -> None:
    """Over the seam of two blocks, in blocks of any size, at the beginning and at the end."""
    hostile = lists_elsewhere("IVF8,Flat", victim)
    for size in (1, 3, 27, 28, 29, 100, 619, 630, 647, 5000):
        blocks = [hostile[low : low + size] for low in range(0, len(hostile), size)]
        assert names_a_file(blocks, len(hostile)), size
        assert not names_a_file([block.replace(b"i", b"j") for block in blocks], len(hostile))


def test_four_bytes_among_the_vectors_are_no_mark(tmp_path: Path) -> None:
    """An index of vectors that happen to hold the mark, followed by what is no table of lists, is read."""
    index = faiss.IndexFlat(D)
    vectors = np.ones((50, D), dtype=np.float32)
    vectors[7, 3] = struct.unpack("<f", b"ilod")[0]
    index.add(vectors)
    loaded = read_file(tmp_path / "index", write_file(index, tmp_path / "index"))
    assert loaded.ntotal == 50


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), Path.mkdir])
def test_what_is_no_regular_file_is_not_opened(make: Callable[[Path], None], tmp_path: Path) -> None:
    """A pipe, a link and a directory in the place of an index are refused at once."""
    make(tmp_path / "index")
    with pytest.raises(FileUnusable):
        verify_file(tmp_path / "index", Written("0" * 64, 10))
    with pytest.raises(reperio.ReperioError):
        read_foreign(tmp_path / "index")


def test_a_collection_with_such_an_index_is_searched_exactly(victim: Path, tmp_path: Path) -> None:
    """Its record agrees with the file, and the index is trusted: a warning, exact answers, no file opened."""
    vectors = np.random.default_rng(0).standard_normal((500, D)).astype(np.float32)
    with reperio.open(tmp_path / "kb", dimension=D, metric="l2", auto_optimize=False) as kb:
        kb.add([Chunk(f"c{n}", "") for n in range(500)], vectors=vectors)
        kb.optimize(index="IVF8,Flat")
    (path,) = (tmp_path / "kb").glob("gen-*/index/snapshot-*.faiss")
    record = written(lists_elsewhere("IVF8,Flat", victim), path)
    database = apsw.Connection(str(path.parents[1] / "chunks.db"))
    table, key, text = _record(database)
    forged = orjson.dumps(orjson.loads(text) | record._asdict()).decode()
    database.execute(f"UPDATE {table} SET {key} = ?", (forged,))
    database.close()
    watch = Watch(victim)
    with (
        pytest.warns(ReperioWarning, match="lists are in another file"),
        reperio.open(tmp_path / "kb", read_only=True, trust_index=True) as kb,
    ):
        assert kb.search(vector=vectors[17], k=1)[0].chunk.id == "c17"
    assert not watch.opened()
    shutil.rmtree(tmp_path / "kb")


def _record(database: apsw.Connection) -> tuple[str, str, str]:
    """Return where the record of the index is kept: table, column and text."""
    for (table,) in list(database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")):
        for row in list(database.execute(f"PRAGMA table_info({table!r})")):
            for (text,) in database.execute(f'SELECT "{row[1]}" FROM "{table}"'):
                if isinstance(text, str) and '"sha256"' in text:
                    return table, row[1], text
    raise AssertionError("no record")

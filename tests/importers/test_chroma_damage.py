"""A directory of Chroma that is damaged or forged is refused whole, by a typed error, and nothing of it is executed."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from reperio import InvalidInput, ReperioError
from reperio.errors import StorageFailed, UnsafePickle
from reperio.importers.chroma import import_chroma
from tests.importers.chroma_folders import changing, files_of


def replaced(file: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: next(folder.glob(f"*/{file}")).parent.joinpath(file).write_bytes(content) and None


def statement(sql: str) -> Callable[[Path], None]:
    def run(folder: Path) -> None:
        with changing(folder) as database:
            database.execute("PRAGMA writable_schema = ON")
            database.execute(sql)

    return run


SPOILED: dict[str, tuple[Callable[[Path], None], str]] = {
    "no database": (lambda folder: (folder / "chroma.sqlite3").write_bytes(b"x" * 5000) and None, "as a database"),
    "another database": (statement("DROP TABLE migrations"), "has no table of migrations"),
    "a view": (
        statement("DROP TABLE embedding_metadata; CREATE VIEW embedding_metadata AS SELECT 1"),
        "is not a table or an index",
    ),
    "a trigger": (
        statement("CREATE TRIGGER t AFTER INSERT ON tenants BEGIN SELECT 1; END"),
        "is not a table or an index",
    ),
    "a computed column": (
        statement("CREATE TABLE c(a, b GENERATED ALWAYS AS (a + 1))"),
        "is not a table or an index",
    ),
    "a folder outside": (
        statement("UPDATE segments SET id = '../../etc' || rowid WHERE scope = 'VECTOR'"),
        r"has the id '\.\./\.\./etc\d+', which is no UUID",
    ),
    "another segment": (
        statement("UPDATE segments SET type = 'urn:chroma:segment/vector/spann' WHERE scope = 'VECTOR'"),
        "in a 'spann', which only a server",
    ),
    "a missing segment": (statement("DELETE FROM segments WHERE scope = 'METADATA'"), "no vectors or no documents"),
    "another metric": (
        statement("UPDATE collections SET schema_str = replace(schema_str, '\"l2\"', '\"angle\"')"),
        "vectors are compared by 'angle'",
    ),
    "a dimension": (statement("UPDATE collections SET dimension = 'many'"), "vectors of 'many' dimensions"),
    "other dimensions": (statement("UPDATE collections SET dimension = 7"), "has vectors of 8 dimensions, .* says 7"),
    "an id of bytes": (
        statement("UPDATE embeddings SET embedding_id = CAST(embedding_id AS BLOB)"),
        "an id is a non-empty string",
    ),
    "an empty id": (
        statement("UPDATE embeddings SET embedding_id = '' WHERE embedding_id = 'bare'"),
        "an id is a non-empty string",
    ),
    "an operation": (statement("UPDATE embeddings_queue SET operation = 9"), "is damaged, or of a newer Chroma"),
    "metadata that is no JSON": (statement("UPDATE embeddings_queue SET metadata = '[1'"), "is no JSON object"),
    "metadata that is deep": (
        statement(f"UPDATE embeddings_queue SET metadata = '{'[' * 100_000}'"),
        "is no JSON object",
    ),
    "an encoding": (statement("UPDATE embeddings_queue SET encoding = 'BF16'"), "is no 8 numbers, in 'BF16'"),
    "a short vector": (statement("UPDATE embeddings_queue SET vector = x'00000000'"), "is no 8 numbers"),
    "a number of the log": (statement("UPDATE max_seq_id SET seq_id = 'x'"), "the number of a log entry is 'x'"),
    "no header": (replaced("header.bin", b""), "has 0 bytes, not 100"),
    "a header of zeros": (replaced("header.bin", b"\1\0\0\0" + bytes(96)), "do not belong together"),
    "a newer header": (replaced("header.bin", bytes([2, 0, 0, 0]) + bytes(96)), "has the version 2"),
    "a header of ones": (replaced("header.bin", b"\1\0\0\0" + b"\xff" * 96), "do not belong together"),
    "no vectors": (replaced("data_level0.bin", b""), "do not belong together"),
    "a pickle of something else": (
        replaced("index_metadata.pickle", b"\x80\x03]."),
        "holds something else than Chroma",
    ),
    "a pickle cut short": (replaced("index_metadata.pickle", b"\x80\x03}("), "cannot be read as a pickle"),
}


@pytest.mark.parametrize("case", SPOILED)
def test_what_is_damaged_or_forged_is_refused(case: str, folder: Path, tmp_path: Path) -> None:
    """By a typed error that names the file, before anything is created."""
    spoil, message = SPOILED[case]
    folders = [each for each in folder.iterdir() if each.is_dir()]
    keep = files_of(folder, "kept-l2")
    for each in folders:
        if each != keep:
            shutil.rmtree(each)
    spoil(folder)
    with pytest.raises(ReperioError, match=message):
        import_chroma(folder, tmp_path / "kb", collection="kept-l2")
    assert not (tmp_path / "kb").exists()


def test_the_pickle_is_not_executed(folder: Path, tmp_path: Path) -> None:
    """A call in it is refused by name."""
    files = files_of(folder, "kept-l2")
    (files / "index_metadata.pickle").write_bytes(b"cposix\nsystem\n(Vtouch x\ntR.")
    with pytest.raises(UnsafePickle, match=r"it holds posix\.system"):
        import_chroma(folder, tmp_path / "kb", collection="kept-l2")


@pytest.mark.parametrize(
    "name", ["chroma.sqlite3", "header.bin", "data_level0.bin", "length.bin", "index_metadata.pickle"]
)
def test_a_link_is_refused(name: str, folder: Path, tmp_path: Path) -> None:
    """Instead of each file, and instead of the folder of vectors."""
    files = files_of(folder, "kept-cosine")
    path = folder / name if name.startswith("chroma") else files / name
    path.rename(tmp_path / name)
    path.symlink_to(tmp_path / name)
    with pytest.raises(StorageFailed, match=r"it is a link|there is a link"):
        import_chroma(folder, tmp_path / "kb", collection="kept-cosine")
    path.unlink()
    shutil.copyfile(tmp_path / name, path)
    files.rename(tmp_path / "elsewhere")
    files.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageFailed, match="it is a link"):
        import_chroma(folder, tmp_path / "kb", collection="kept-cosine")
    assert not (tmp_path / "kb").exists()


def test_a_small_database_does_not_become_much(folder: Path, tmp_path: Path) -> None:
    """A tree whose pages are read again and again ends by a budget, not by its maker's patience."""
    with changing(folder) as database:
        size = database.pragma("page_size")
        [root] = database.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'embeddings_queue'").fetchone()
    path = folder / "chroma.sqlite3"
    data = bytearray(path.read_bytes())
    data[(root - 1) * size : root * size] = own_child(root, size)
    path.write_bytes(data)
    with pytest.raises(InvalidInput, match=r"cannot be read as a database|more work than its size"):
        import_chroma(folder, tmp_path / "kb", collection="log")


def own_child(page: int, size: int) -> bytes:
    """Return an interior page of a table that is its own child, 300 times."""
    cells = [page.to_bytes(4, "big") + bytes([0x81, number & 0x7F]) for number in range(300)]
    content, pointers, end = bytearray(size), b"", size
    for cell in cells:
        end -= len(cell)
        content[end : end + len(cell)] = cell
        pointers += end.to_bytes(2, "big")
    content[:12] = (
        b"\x05\0\0" + len(cells).to_bytes(2, "big") + end.to_bytes(2, "big") + b"\0" + page.to_bytes(4, "big")
    )
    content[12 : 12 + len(pointers)] = pointers
    return bytes(content)


@pytest.mark.parametrize("position", range(0, 100, 12))
def test_a_damaged_header_never_becomes_wrong_shapes(position: int, folder: Path, tmp_path: Path) -> None:
    """Whatever its numbers say: a typed error, or as many vectors as there are."""
    header = files_of(folder, "kept-cosine") / "header.bin"
    whole = header.read_bytes()
    for number, value in enumerate((b"\xff" * 8, b"\0" * 8, b"\xff\xff\xff\x7f" * 2)):
        header.write_bytes(whole[:position] + value + whole[position + 8 :])
        with contextlib.suppress(ReperioError):
            report = import_chroma(folder, tmp_path / f"kb-{number}", collection="kept-cosine")
            assert report.added + len(report.without_vector) == report.documents

"""``reperio import langchain-faiss``: a table for people, one document for scripts, one line for an error."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import apsw
import numpy as np
import pytest

import reperio
from tests.cli.test_main import own_lines, refused, run, run_json
from tests.importers.folders import NEWEST, document, unpacked, write
from tests.importers.test_chroma import PACKED
from tests.importers.test_llama_index import PACKED as LLAMA_INDEX
from tests.importers.test_raw_faiss import COUNT, make, rows, write_texts

COMMAND = ("import", "langchain-faiss")
ROOT = Path(__file__).parents[2]


def test_the_group_and_its_command_have_help() -> None:
    """Both say what they do; each option says what it is for."""
    for arguments in (("import",), ("import", "--help")):
        assert "langchain-faiss" in run(*arguments).stdout
    result = run(*COMMAND, "--help")
    assert result.exit_code == 0
    assert "its pickle is read, and not executed" in " ".join(result.stdout.split())
    rows = re.findall(r"│ \*? *(?:--?[\w-]+|FOLDER|folder) .*│", result.stdout)
    assert len(rows) == 10
    assert all(len(row.split()) > 4 for row in rows)


def test_a_folder_is_imported(tmp_path: Path) -> None:
    """The first time into a new collection, the second time nothing changes; the collection can be used at once."""
    kb = tmp_path / "kb"
    first = run(*COMMAND, NEWEST / "normalized", "--into", kb, columns=200)
    assert (first.exit_code, own_lines(first)) == (0, [])
    assert first.stdout.splitlines() == [
        f"6 documents read into the new collection {kb}: 6 chunks added, 0 updated, 0 unchanged; 0 texts embedded; "
        "compared by l2",
        "all vectors have length 1: compared by cosine (--metric cosine, into another collection) they rank the same, "
        "and have scores between -1 and 1",
    ]
    second = run(*COMMAND, NEWEST / "normalized", "--into", kb, columns=200)
    assert f"read into {kb}: 0 chunks added, 0 updated, 6 unchanged" in second.stdout
    assert run_json("info", kb)["count"] == 6
    assert run("check", kb).exit_code == 0


def test_what_was_not_carried_is_shown(tmp_path: Path) -> None:
    """A table of what values became, and the ids that stayed behind; terminal commands in them are harmless."""
    result = run(*COMMAND, NEWEST / "strange", "--into", tmp_path / "kb")
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["field", "was", "became", "times"] in rows
    assert ["when", "datetime", "ISO", "8601", "string", "6"] in rows
    assert "length 1" not in result.stdout
    documents = {f"\x1b[31m{number}": document("x", {"a\x1b[0m": (1,)}) for number in range(15)}
    write(tmp_path / "lc", documents, {0: "\x1b[31m0"}, vectors=None)
    result = run(*COMMAND, tmp_path / "lc", "--into", tmp_path / "other", columns=300)
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    assert "without a vector, not imported: '\\x1b[31m1', " in result.stdout
    assert ", 4 more" in result.stdout
    assert "vectors without a document, not imported: 1, 2, 3" in result.stdout


def test_one_document_for_scripts(tmp_path: Path) -> None:
    """The report as JSON, with its verdict."""
    found = run_json(*COMMAND, NEWEST / "inner_product", "--into", tmp_path / "kb", "--index-name", "mine")
    assert found == {
        "path": str(tmp_path / "kb"),
        "created": True,
        "documents": 6,
        "added": 6,
        "updated": 0,
        "unchanged": 0,
        "embedded": 0,
        "index": "IndexFlatIP",
        "dimension": 8,
        "metric": "inner_product",
        "unit_length": False,
        "without_vector": [],
        "without_document": [],
        "duplicates": [],
        "changed": [],
        "notes": [],
        "complete": True,
    }
    strange = run_json(*COMMAND, NEWEST / "strange", "--into", tmp_path / "other", "--metric", "cosine")
    assert (strange["complete"], strange["metric"]) == (False, "cosine")
    assert {"field": "nan", "was": "NaN", "became": "null", "count": 6} in strange["changed"]


def test_a_chroma_is_imported(tmp_path: Path) -> None:
    """With its name where there are several; what could not be carried is shown, and noted."""
    folder = unpacked(PACKED[-1], tmp_path) / "chroma"
    assert "--collection" in refused("import", "chroma", folder, "--into", tmp_path / "kb")
    command = ("import", "chroma", folder, "--into", tmp_path / "kb", "--collection", "kept-cosine")
    result = run(*command, columns=200)
    assert (result.exit_code, own_lines(result)) == (0, [])
    assert "66 documents read into the new collection" in result.stdout
    assert "compared by cosine" in result.stdout
    assert "the metadata of the collection itself is not carried: 'about'" in result.stdout
    found = run_json(*command)
    assert (found["unchanged"], found["added"], found["index"]) == (66, 0, "Chroma kept-cosine")


def test_an_index_and_its_texts_are_imported(tmp_path: Path) -> None:
    """By order, or by the numbers in a field; a count that differs is refused with the option."""
    index = make(tmp_path, "IVF4,Flat", numbers=np.arange(COUNT) + 7)
    texts = write_texts(tmp_path / "texts.csv", [{**row, "n": str(n + 7)} for n, row in enumerate(rows())])
    command = ("import", "faiss", index, "--into", tmp_path / "kb", "--texts", texts)
    assert "after a delete" in refused(*command)
    assert run_json(*command, "--number-field", "n")["added"] == COUNT
    assert "IndexIVFFlat" in run_json(*command, "--number-field", "n", "--id-field", "n")["index"]
    assert run("import", "faiss", index, "--into", tmp_path / "kb").exit_code == 2


def test_what_is_too_long_is_let_in_by_an_option(tmp_path: Path) -> None:
    """The one that the error names; the refused import has left nothing behind."""
    texts = [{"text": f"Text {n}."} for n in range(COUNT - 1)]
    lines = write_texts(tmp_path / "texts.jsonl", [*texts, {"text": "last", "long": "x" * 2_000_000}])
    command = ("import", "faiss", make(tmp_path, "Flat"), "--into", tmp_path / "kb", "--texts", lines)
    assert "--max-metadata" in refused(*command)
    assert not (tmp_path / "kb").exists()
    assert run_json(*command, "--max-metadata", "3000000")["added"] == COUNT


def test_a_folder_of_llama_index_is_imported(tmp_path: Path) -> None:
    """As a table for people and as one document for scripts."""
    folder = unpacked(LLAMA_INDEX, tmp_path)
    result = run("import", "llama-index", folder / "faiss_map", "--into", tmp_path / "kb", columns=200)
    assert "39 documents read into the new collection" in result.stdout
    assert "compared by l2" in result.stdout
    found = run_json("import", "llama-index", folder / "faiss_map", "--into", tmp_path / "kb")
    assert (found["unchanged"], found["complete"]) == (39, True)


def test_errors_are_one_line(tmp_path: Path) -> None:
    """With exit code 2, and no collection left behind."""
    kb = tmp_path / "kb"
    assert "has no index.faiss and no index.pkl" in refused(*COMMAND, tmp_path, "--into", kb)
    assert "pass the model that embeds the texts again" in refused(*COMMAND, NEWEST / "quantized", "--into", kb)
    shutil.copytree(NEWEST / "plain", tmp_path / "lc")
    (tmp_path / "lc" / "index.pkl").write_bytes(b"cposix\nsystem\n(Vtouch x\ntR.")
    assert "it holds posix.system, which is none of" in refused(*COMMAND, tmp_path / "lc", "--into", kb)
    assert run(*COMMAND, NEWEST / "plain").exit_code == 2
    assert not kb.exists()


@pytest.mark.model
def test_a_model_that_did_not_make_the_vectors_is_refused(tmp_path: Path) -> None:
    """By its dimension already, before anything is created."""
    line = refused(*COMMAND, NEWEST / "plain", "--into", tmp_path / "kb", "--embedder", reperio.DEFAULT_EMBEDDER)
    assert "vectors have 8 dimensions, those of" in line
    assert not (tmp_path / "kb").exists()


PAGES = {
    "langchain-faiss": ("faiss_index", lambda here: shutil.copytree(NEWEST / "plain", here), "0 l2 True"),
    "chroma": ("chroma_db", lambda here: put_chroma(here), "0 l2 False"),
    "faiss": ("index.faiss", lambda here: put_faiss(here), "0 l2 True"),
    "llama-index": ("storage", lambda here: put_llama_index(here), "0 cosine True"),
}


def put_chroma(here: Path) -> None:
    made = unpacked(PACKED[-1], here.with_name("made")) / "chroma"
    connection = apsw.Connection(str(made / "chroma.sqlite3"))
    connection.execute("UPDATE collections SET name = 'articles' WHERE name = 'kept-l2'")
    connection.close()
    made.rename(here)


def put_faiss(here: Path) -> None:
    write_texts(here.with_name("texts.jsonl"), [{"id": str(n), "text": f"Text {n}."} for n in range(COUNT)])
    make(here.parent, "Flat")


def put_llama_index(here: Path) -> None:
    unpacked(LLAMA_INDEX, here.with_name("made"))
    (here.with_name("made") / "simple").rename(here)


@pytest.mark.parametrize("source", PAGES)
def test_the_page_is_true(source: str, tmp_path: Path) -> None:
    """Its command and its Python run as they stand, on what it names; its links lead somewhere."""
    name, put, told = PAGES[source]
    path = ROOT / "docs" / f"moving-from-{source}.md"
    page = path.read_text(encoding="utf-8")
    blocks = dict(re.findall(r"^```(\w+)\n(.*?)^```$", page, flags=re.M | re.S))
    put(tmp_path / name)
    where = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for command in (shlex.split(blocks["console"]), [sys.executable, "-c", blocks["python"]]):
        done = subprocess.run(
            command, cwd=tmp_path, env=os.environ | {"PATH": where}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert done.stdout == f"{told}\n"
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", page):
        assert (path.parent / link).exists()

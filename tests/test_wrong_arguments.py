"""Every public argument, given what it cannot use: a typed error, and everything is as it was."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reperio
from reperio import Chunk, Collection, QueryLog, ReperioError, exchange, ingestion
from reperio.evaluation.golden import questions as golden
from reperio.importers import chroma, langchain_faiss, llama_index, raw_faiss
from reperio.query_log import reading as query_log

VECTOR = np.ones(4, dtype=np.float32)
WRONG: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "bytes": lambda: b"bytes",
    "surrogate": lambda: "\ud83d",
    "NUL": lambda: "a\0b",
    "empty": lambda: "",
    "number": lambda: 3.5,
    "huge": lambda: 10**400,
    "negative": lambda: -1,
    "NaN": lambda: float("nan"),
    "flag": lambda: True,
    "dict": lambda: {"a": 1},
    "empty dict": dict,
    "set": lambda: {"a", 1},
    "list": lambda: ["a", None, b"x"],
    "nested": lambda: [["a"], [1, [2]]],
    "surrogates": lambda: ["\ud83d"],
    "object": object,
    "function": lambda: len,
    "type": lambda: int,
    "generator": lambda: (each for each in [1, "a"]),
    "array": lambda: np.ones((2, 2)),
    "objects": lambda: np.array([None, "a"], dtype=object),
    "zero dimensions": lambda: np.array(3),
    "no arrays": lambda: np.array(["a"]),
    "chunk": lambda: Chunk("x", "text"),
}
FIXED: dict[str, dict[str, Any]] = {
    "add": {"chunks": [Chunk("new", "text")], "vectors": [VECTOR]},
    "search": {"vector": VECTOR},
    "search_many": {"vectors": [VECTOR]},
    "vectors": {"ids": ["kept"]},
    "sample_queries": {"number": 3},
    "records": {"space": "s"},
    "delete": {"ids": ["absent"]},
    "backup": {"destination": "copies", "incremental": True},
}
NOT_TRIED = {"progress", "reranker", "embedder", "fix", "incremental", "self", "unknown", "given"}
METHODS = ["add", "delete", "search", "search_many", "get", "vectors", "ids", "count", "backup", "records",
           "sample_queries", "__contains__"]  # fmt: skip
CASES = [
    (method, parameter)
    for method in METHODS
    for parameter in inspect.signature(getattr(Collection, method)).parameters
    if parameter not in NOT_TRIED
]


@pytest.fixture(scope="module")
def kb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    path = tmp_path_factory.mktemp("arguments") / "kb"
    with reperio.open(path, dimension=4, auto_optimize=False) as opened:
        opened.add([Chunk("kept", "alpha", {"n": 1})], vectors=[VECTOR])
        yield opened


def tried(call: Callable[[], Any], what: str) -> None:
    """Call, and let no error pass that is not typed."""
    try:
        call()
    except ReperioError:
        pass
    except Exception as error:
        pytest.fail(f"{what}: {type(error).__name__}: {error}")


@pytest.mark.parametrize(("method", "parameter"), CASES)
def test_a_wrong_argument_of_a_collection(
    method: str, parameter: str, kb: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever each argument of each method is given, it works or raises one of the package's errors."""
    monkeypatch.chdir(tmp_path)  # a backup may have a strange name
    for name, wrong in WRONG.items():
        options = {**FIXED.get(method, {}), parameter: wrong()}
        if method in ("search", "search_many") and parameter in ("query", "queries"):
            del options["vector" if method == "search" else "vectors"]
            options["mode"] = "lexical"
        given = [options.pop(parameter)] if method == "__contains__" else []
        tried(lambda: getattr(kb, method)(*given, **options), f"{method}({parameter}={name})")  # noqa: B023  # at once
    assert kb.get("kept") == Chunk("kept", "alpha", {"n": 1})


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("inside", ["id", "text", "metadata", "a value", "a vector"])
def test_a_wrong_part_of_a_chunk(inside: str, name: str, kb: Collection) -> None:
    """Nothing but strings for ids and texts, what JSON keeps for metadata, numbers for vectors."""
    wrong = WRONG[name]()
    made = {"id": "new", "text": "text", "metadata": {}}
    made |= {"metadata": {"v": wrong}} if inside == "a value" else {inside: wrong} if inside in made else {}
    vectors = [wrong if inside == "a vector" else VECTOR]
    tried(lambda: kb.add([Chunk(**made)], vectors=vectors), f"{inside} is {name}")
    with suppress(ReperioError):
        kb.delete(ids=[made["id"]])
    assert kb.get("kept") == Chunk("kept", "alpha", {"n": 1})


@pytest.mark.parametrize(
    "parameter",
    [name for name in inspect.signature(reperio.open).parameters if name not in (*NOT_TRIED, "telemetry", "read_only")],
)
def test_a_wrong_argument_of_open(parameter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a wrong path nor a wrong option leaves anything but a collection that opens."""
    monkeypatch.chdir(tmp_path)
    for number, (name, wrong) in enumerate(WRONG.items()):
        options: dict[str, Any] = {"path": tmp_path / str(number), "dimension": 4, parameter: wrong()}
        tried(lambda: reperio.open(options.pop("path"), **options).close(), f"{parameter}={name}")  # noqa: B023  # called at once


PATHS: dict[str, Callable[[Any, Path], Any]] = {
    "open": lambda wrong, _: reperio.open(wrong, read_only=True),
    "restore from": lambda wrong, here: reperio.restore(wrong, here / "restored"),
    "restore to": lambda wrong, here: reperio.restore(here / "kb", wrong),
    "backups": lambda wrong, _: reperio.backups(wrong),
    "diagnose": lambda wrong, _: reperio.diagnose(wrong),
    "export from": lambda wrong, here: exchange.export_collection(wrong, here / "export"),
    "export to": lambda wrong, here: exchange.export_collection(here / "kb", wrong),
    "import from": lambda wrong, here: exchange.import_collection(wrong, here / "imported"),
    "import to": lambda wrong, here: exchange.import_collection(here / "kb", wrong),
    "import LangChain from": lambda wrong, here: langchain_faiss.import_langchain_faiss(wrong, here / "imported"),
    "import LangChain to": lambda wrong, here: langchain_faiss.import_langchain_faiss(here, wrong),
    "import FAISS from": lambda wrong, here: raw_faiss.import_faiss(wrong, here / "imported", texts=here / "x.jsonl"),
    "import FAISS texts": lambda wrong, here: raw_faiss.import_faiss(here / "x", here / "imported", texts=wrong),
    "import FAISS to": lambda wrong, here: raw_faiss.import_faiss(here / "x", wrong, texts=here / "x.jsonl"),
    "import LlamaIndex from": lambda wrong, here: llama_index.import_llama_index(wrong, here / "imported"),
    "import LlamaIndex to": lambda wrong, here: llama_index.import_llama_index(here, wrong),
    "import Chroma from": lambda wrong, here: chroma.import_chroma(wrong, here / "imported"),
    "import Chroma to": lambda wrong, here: chroma.import_chroma(here, wrong),
    "ingest": lambda wrong, _: ingestion.find_files(wrong),
    "query log": lambda wrong, here: reperio.open(here / "kb", query_log=QueryLog(wrong)),
    "golden set": lambda wrong, _: golden.read_golden(wrong),
    "queries": lambda wrong, _: query_log.read_queries(wrong),
    "questions": lambda wrong, _: query_log.read_log(wrong),
}


@pytest.mark.parametrize("place", PATHS)
def test_a_wrong_path(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In every place that takes one."""
    monkeypatch.chdir(tmp_path)
    reperio.open(tmp_path / "kb", dimension=4).close()
    for name, wrong in WRONG.items():
        tried(lambda: PATHS[place](wrong(), tmp_path), f"{place}: {name}")  # noqa: B023  # at once


@pytest.mark.parametrize("place", PATHS)
def test_a_tilde_is_the_home_directory(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In every place that takes a path; nothing by that name is made where the process happens to be."""
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    reperio.open(here / "kb", dimension=4).close()
    told = []
    for path in ("~/x.jsonl", Path("~/x.jsonl"), str(home / "x.jsonl")):
        try:
            made = PATHS[place](path, here)
            if isinstance(made, Collection):
                made.close()
            told.append("made" if (home / "x.jsonl").exists() else repr(made))
            (home / "x.jsonl").rename(home / f"made {len(told)}")
        except ReperioError as error:
            told.append(str(error))
        assert sorted(each.name for each in here.iterdir()) == ["kb"]
    assert told[0] == told[1] == told[2]


def test_a_home_that_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather than made as a folder; one that is really called so has a way to be named."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(reperio.InvalidInput, match=r"no such home directory; for a file of that name write './~nobody"):
        reperio.open("~nobody-of-this-name/kb", dimension=4)
    reperio.open("./~/kb", dimension=4).close()
    assert (tmp_path / "~" / "kb" / "CURRENT").exists()


def test_delete_takes_keywords_alone(kb: Collection) -> None:
    """An error that is a TypeError, as for any call that is wrong, and says what to write."""
    with pytest.raises(reperio.UnknownOption, match=r"delete takes keywords alone: delete\(ids=\['a', …\]\)"):
        kb.delete("kept")
    with pytest.raises(reperio.InvalidInput, match=r"ids is a dict; pass .* and a filter as where="):
        kb.delete(ids={"n": 1})
    assert "kept" in kb


def test_in_len_and_bool(tmp_path: Path) -> None:
    """Ids are asked for with `in`, `len` counts, and a collection is true however empty; all within a scope."""
    with reperio.open(tmp_path / "kb", dimension=4, auto_optimize=False) as kb:
        assert (len(kb), bool(kb), "a" in kb, list(kb)) == (0, True, False, [])
        kb.add([Chunk("a", "", {"t": 1}), Chunk("b", "", {"t": 2})], vectors=[VECTOR, VECTOR])
        kb.add([Chunk("c", "", {"t": 1})], vectors=[VECTOR])
        assert (len(kb), "a" in kb, "b" in kb, "nobody" in kb, len(list(kb))) == (3, True, True, False, 3)
        kb.delete(ids="c")
        assert ("c" in kb, len(kb)) == (False, 2)
        for strange in (1, None, b"a", Chunk("a"), "\ud83d"):
            with pytest.raises(reperio.InvalidInput):
                strange in kb  # noqa: B015  # that is what raises
    with reperio.open(tmp_path / "kb", scope={"t": 2}, read_only=True) as kb:
        assert (len(kb), "a" in kb, "b" in kb, [each.id for each in kb]) == (1, False, True, ["b"])
    with pytest.raises(reperio.CollectionClosed):
        len(kb)
    with pytest.raises(reperio.CollectionClosed):
        "a" in kb  # noqa: B015  # it raises
    assert kb


def test_no_warning_hides_a_wrong_argument(kb: Collection) -> None:
    """What numpy only warns of is not let through either."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for wrong in ([[1, 2], [3]], [1e400] * 4, ["1", "2", "3", "4"], [None] * 4, [True] * 4, [1, True, 0, 0]):
            with pytest.raises(reperio.InvalidVectors):
                kb.search(vector=wrong)

"""The commands that choose, build and measure an index, and what `info` tells of it."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reperio
from reperio import Chunk, InvalidInput, SentenceTransformerEmbedder
from reperio.index import cheapest
from reperio.index.tuning import measuring
from reperio.query_log.reading import read_queries
from reperio.types import OperatingPoint
from tests.cli.test_main import own_lines, process, refused, run, run_json

ROWS, DIMENSION = 3000, 16
SHOWN = (0.80, 0.90, 0.95, 0.97, 0.98, 0.99, 0.999)


def vectors(seed: int, count: int, dimension: int = DIMENSION) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).standard_normal((count, dimension), dtype=np.float32)


@pytest.fixture
def kb(tmp_path: Path) -> Path:
    """Make a collection without an index."""
    with reperio.open(tmp_path / "kb", dimension=DIMENSION, dtype="float16", auto_optimize=False) as collection:
        collection.add([Chunk(f"c{i}", f"text {i}") for i in range(ROWS)], vectors=vectors(1, ROWS))
    return tmp_path / "kb"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Make a collection all of which is soon tuned with."""
    with reperio.open(tmp_path / "small", dimension=DIMENSION, auto_optimize=False) as collection:
        collection.add([Chunk(f"c{i}") for i in range(300)], vectors=vectors(1, 300))
    return tmp_path / "small"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Write a query log of vectors."""
    np.save(tmp_path / "log.npy", vectors(2, 60))
    return tmp_path / "log.npy"


def points_of(document: Any) -> list[OperatingPoint]:
    return [OperatingPoint(**point) for point in document["index"]["points"]]


# ── advise ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_advise_prints_what_the_package_advises() -> None:
    """Every recipe in its order, with memory in all and per vector, and its reason in a line of its own."""
    options = {"memory": "8GiB", "recall": 0.95, "prefer": "memory"}
    recipes = reperio.advise(10_000_000, 1024, "inner_product", **options)
    args = ["--n", "10000000", "--dim", "1024", "--metric", "inner_product", "--memory", "8GiB", "--prefer", "memory"]
    document = run_json("advise", *args)
    assert [each["factory"] for each in document["recipes"]] == [recipe.factory for recipe in recipes]
    assert [each["rank"] for each in document["recipes"]] == list(range(1, len(recipes) + 1))
    for each, recipe in zip(document["recipes"], recipes, strict=True):
        assert each["bytes"] == round(recipe.bytes_per_vector * 10_000_000) <= 8 << 30
        assert each["build"] == recipe.build_class
    lines = run("advise", *args, columns=200).stdout.splitlines()
    assert lines[0].split() == ["index", "memory", "a", "vector", "build"]
    for rank, (recipe, line, reason) in enumerate(zip(recipes, lines[1::2], lines[2::2], strict=True), start=1):
        assert line.split()[:2] == [str(rank), recipe.factory or "exact"]
        assert line.endswith(f"  {recipe.build_time}")
        assert f"  {recipe.bytes_per_vector:,.0f} B  " in line or recipe.exact
        assert reason.strip() == recipe.reason
    for line in run("advise", *args, columns=80).stdout.splitlines():
        assert len(line) <= 80


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--memory", "1MiB"], "needs at least"),
        (["--memory", "8 apples"], "did you mean '8GiB'? Units are"),
        (["--recall", "1.2"], "recall is 1.2"),
        (["--recall", "0"], "recall is 0"),
        (["--prefer", "latancy"], "'latency'"),
        (["--metric", "cos"], "'cosine'"),
        (["--n", "-3"], "-3"),
        (["--dim", "0"], "0"),
        (["--n", "many"], "'--n'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_advise_refuses_the_impossible(args: list[str], said: str) -> None:
    """In one line, with the nearest thing that is possible, and exit code 2."""
    assert said in refused("advise", "--n", "1000000", "--dim", "384", *args)


def test_advise_needs_no_faiss() -> None:
    """A rule is no reason to load a library."""
    script = (
        "import sys\nfrom reperio.cli.main import app\n"
        "try: app(['advise', '--n', '1000000', '--dim', '384'])\nexcept SystemExit: pass\n"
        "print('faiss' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == "False\n"
    assert "PQ" in done.stdout


# ── optimize and tune ────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_table_is_what_searches_take(kb: Path, log: Path) -> None:
    """For each recall the knobs and figures of the cheapest point whose interval reaches it, or exact search."""
    result = run("optimize", kb, "--index", "IVF16,SQ8", "--recall", "0.93", "--queries", log, columns=80)
    assert (result.exit_code, own_lines(result)) == (0, [])
    points = points_of(run_json("info", kb))
    lines = [line.rstrip() for line in result.stdout.splitlines()]
    assert lines[0].startswith("index     IVF16,SQ8 over 3,000 rows, built 20")
    assert "measured  with 60 queries given" in lines
    assert all(len(line) <= 80 for line in lines)
    start = next(i for i, line in enumerate(lines) if line.split()[:2] == ["recall", "nprobe"])
    rows = lines[start + 1 : lines.index("", start)]
    assert [float(row.split()[0]) for row in rows] == sorted([*SHOWN, 0.93])
    for row in rows:
        recall, effort, candidates, measured, *rest = row.split()
        point = cheapest(points, float(recall), 10)
        assert point is not None
        assert point.low >= float(recall)
        if point.candidates:
            assert (effort, candidates) == (str(point.effort), str(point.candidates))
            assert (measured, rest[0]) == (f"{point.recall:.4f}", f"({point.low:.3f}–{point.high:.3f})")
        else:
            assert (effort, candidates, measured) == ("exact", "–", "1")
        assert rest[-5:] == [f"{point.p50:.0f}", "µs", f"{point.p95:.0f}", "µs", f"{point.rate:,.0f}"]


def test_stored_vectors_are_warned_about_once(small: Path, log: Path) -> None:
    """Without queries a line on standard error, in yellow, says that they flatter; with queries there is none."""
    for command in (["optimize", small, "--index", "IVF4,Flat"], ["tune", small]):
        result = run(*command)
        assert result.exit_code == 0
        (line,) = own_lines(result)
        assert re.match("warning: .*stored vectors, which flatter.*--queries", line)
        assert "stored vectors" in result.stdout
    assert "\x1b[33mwarning: " in run("tune", small, env={"FORCE_COLOR": "1"}).stderr
    assert own_lines(run("tune", small, "--queries", log)) == []
    assert own_lines(run("tune", small)) == []  # those given before were kept


def test_options_reach_the_choice(kb: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory, preference and recall decide what is built, as they do for `advise`."""
    # Among so few rows exact search is nearly as quick as the first that is tried, and chance would choose.
    monkeypatch.setattr(measuring, "_prices", lambda *_: (1e6, 0.05))
    document = run_json("optimize", kb, "--prefer", "memory", "--recall", "0.9", "--queries", log)
    assert document["index"]["recall"] == 0.9
    small = document["index"]["bytes"]
    assert document["index"]["factory"] == reperio.advise(ROWS, DIMENSION, prefer="memory", recall=0.9)[0].factory
    document = run_json("optimize", kb, "--memory", "60KiB", "--queries", log)
    assert small <= document["index"]["bytes"] <= 60 << 10
    assert "needs at least" in refused("optimize", kb, "--memory", "1KiB")
    assert "did you mean '8GiB'? Units are" in refused("optimize", kb, "--memory", "8 apples")
    assert "'latency'" in refused("optimize", kb, "--prefer", "latancy")
    assert run_json("info", kb)["index"] == document["index"]


def test_tune_measures_with_other_queries(kb: Path, log: Path, tmp_path: Path) -> None:
    """The file stays, its points are those of the new queries."""
    before = run_json("optimize", kb, "--index", "IVF16,Flat", "--queries", log)
    np.save(tmp_path / "more.npy", vectors(5, 64).astype(np.float64))
    after = run_json("tune", kb, "--queries", tmp_path / "more.npy")
    assert after["index"]["queries"] == "64 queries given"
    assert after["index"]["points"] != before["index"]["points"]
    assert {**after["index"], "points": 0, "queries": 0} == {**before["index"], "points": 0, "queries": 0}
    assert run_json("info", kb)["index"] == after["index"]


def test_tune_draws(kb: Path, log: Path, tmp_path: Path) -> None:
    """The plot names collection, index, queries and the point that is searched by."""
    run_json("optimize", kb, "--index", "IVF16,Flat", "--queries", log)
    result = run("tune", kb, "--plot", tmp_path / "out.svg")
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, f"drawn in {tmp_path / 'out.svg'}")
    drawn = (tmp_path / "out.svg").read_text(encoding="utf-8")
    point = cheapest(points_of(run_json("info", kb)), 0.95, 10)
    assert point is not None
    assert "kb: IVF16,Flat, 3,000 rows" in drawn
    assert "measured with 60 queries given" in drawn
    assert f"takes nprobe {point.effort}, {point.candidates} candidates:" in drawn
    before = run_json("info", kb)["index"]
    assert "written as .svg or .png" in refused("tune", kb, "--plot", tmp_path / "out.pdf")
    assert "is no directory" in refused("tune", kb, "--plot", tmp_path / "none/out.svg")
    assert run_json("info", kb)["index"] == before  # refused before anything was measured


def test_without_an_index_there_is_nothing_to_tune(kb: Path, tmp_path: Path) -> None:
    """That is no error, unless a plot was asked for; the index of a damaged file is."""
    assert run("tune", kb).stdout == "index: none: every search is exact\n"
    assert run_json("tune", kb) == {"index": None}
    assert "no index to draw" in refused("tune", kb, "--plot", tmp_path / "out.svg")
    assert list(tmp_path.iterdir()) == [kb]
    np.save(tmp_path / "log.npy", vectors(2, 60))
    run_json("optimize", kb, "--index", "IVF4,Flat", "--queries", tmp_path / "log.npy")
    (snapshot,) = kb.rglob("snapshot-*.faiss")
    snapshot.write_bytes(b"damaged")
    assert "optimize() rebuilds it" in refused("tune", kb)


# ── query logs ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_query_logs_are_read(tmp_path: Path) -> None:
    """Lines, strings and objects are questions, stripped and in order; empty lines are none; repetitions count."""
    (tmp_path / "log.TXT").write_bytes("\ufeffhow ?\r\n\n  Größe\t\nhow ?\n".encode())
    assert read_queries(tmp_path / "log.TXT") == ["how ?", "Größe", "how ?"]
    lines = ['"how ?"', "", '{"id": 1, "query": " when ?", "text": "not this"}', '{"text": "where\\n?"}']
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    assert read_queries(tmp_path / "log.jsonl") == ["how ?", "when ?", "where\n?"]
    np.save(tmp_path / "log.npy", vectors(1, 3).astype(np.float16))
    np.testing.assert_array_equal(read_queries(tmp_path / "log.npy"), vectors(1, 3).astype(np.float16))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("log.csv", b"x", "log.csv has the suffix '.csv'; held-out queries are read from .npy"),
        ("log.txt", b"\n \n", "log.txt holds no queries"),
        ("log.txt", b"good\ncaf\xe9\n", "log.txt:2: byte 0xe9 is no UTF-8"),
        ("log.jsonl", b"", "log.jsonl holds no queries"),
        ("log.jsonl", b'"good"\n\n{"query": \n', "log.jsonl:3: no valid JSON"),
        ("log.jsonl", b'{"query": 7}', "log.jsonl:1: the question is 7"),
        ("log.jsonl", b'"good"\n{"query": "  "}', "log.jsonl:2: the question is '  '"),
        ("log.jsonl", b'{"q": "how ?"}', "log.jsonl:1: has 'q'; the question is looked for in 'query' and 'text'"),
        ("log.jsonl", b"[1, 2]", "log.jsonl:1: the question is [1, 2]"),
        ("log.jsonl", b"[" * 100_000, "log.jsonl:1: no valid JSON"),
        ("log.npy", b"", "log.npy is no array of floats"),
        ("log.npy", b"how ?", "log.npy is no array of floats"),
    ],
)
def test_a_malformed_query_log_is_refused(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    """With the line, and what would be right."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidInput, match=re.escape(said)):
        read_queries(tmp_path / name)


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._path),)


def test_a_pickle_is_not_loaded(tmp_path: Path) -> None:
    """An array of objects is a pickle, and what is in it is not executed."""
    np.save(tmp_path / "log.npy", np.array([Bomb(tmp_path / "owned")], dtype=object), allow_pickle=True)
    with pytest.raises(InvalidInput, match="no array of floats"):
        read_queries(tmp_path / "log.npy")
    assert not (tmp_path / "owned").exists()
    np.load(tmp_path / "log.npy", allow_pickle=True)
    assert (tmp_path / "owned").exists()  # it would have been


def test_queries_that_do_not_fit_are_refused(kb: Path, log: Path, tmp_path: Path) -> None:
    """Missing, of another dimension, too few, one vector, words without an embedder: the index is as it was."""
    run_json("optimize", kb, "--index", "IVF4,Flat", "--queries", log)
    before = run_json("info", kb)
    for name, array in {"narrow": vectors(1, 50, 3), "few": vectors(1, 5), "one": vectors(1, 1)[0]}.items():
        np.save(tmp_path / f"{name}.npy", array)
    (tmp_path / "words.txt").write_text("how ?\n" * 50)
    for name, said in {
        "nothing.txt": "nothing.txt cannot be read: No such file or directory",
        "narrow.npy": "shape (50, 3), but this collection takes (n, 16)",
        "few.npy": "bring at least 30",
        "one.npy": "holds an array of shape (16,); queries are one array (n, d)",
        "words.txt": "has no embedder, so that its queries must be vectors",
    }.items():
        for command in ("optimize", "tune"):
            assert said in refused(command, kb, "--queries", tmp_path / name)
    assert run_json("info", kb) == before


@pytest.mark.model
def test_questions_are_embedded(tmp_path: Path, minilm: SentenceTransformerEmbedder) -> None:
    """A log of questions is measured with as the collection's embedder embeds questions."""
    with reperio.open(tmp_path / "kb", embedder=minilm) as collection:
        collection.add([Chunk(f"c{i}", f"Record {i} tells about number {i * i}.") for i in range(60)])
    questions = [f"Which record tells about {i * i} ?" for i in range(40)]
    (tmp_path / "log.jsonl").write_text("\n".join(json.dumps({"query": question}) for question in questions))
    document = run_json("optimize", tmp_path / "kb", "--index", "hnsw", "--queries", tmp_path / "log.jsonl")
    assert document["index"]["queries"] == "40 queries given"
    (kept,) = (tmp_path / "kb").rglob("queries.npy")
    # bfloat16 rounds differently in batches of other lengths
    np.testing.assert_allclose(np.load(kept), minilm.embed_queries(questions), atol=0.02)


# ── info ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_info_shows_the_index_on_one_screen(kb: Path, log: Path) -> None:
    """Recipe, reason, goal, queries, memory, disk, and what is measured at the recall it was chosen for."""
    run_json("optimize", kb, "--index", "HNSW8,SQ8", "--recall", "0.9", "--queries", log)
    with reperio.open(kb, auto_optimize=False) as collection:
        collection.add([Chunk("late", "late")], vectors=vectors(9, 1))
    result = run("info", kb, columns=80)
    lines = [line.rstrip() for line in result.stdout.splitlines()]
    assert len(lines) <= 24
    assert lines[0].startswith("path")  # which is never cut or wrapped
    assert all(len(line) <= 80 for line in lines[1:])
    document = run_json("info", kb)
    index = document["index"]
    point = cheapest(points_of(document), 0.9, 10)
    assert point is not None
    each = index["bytes"] / ROWS
    for line in (
        "vectors     16 dimensions, cosine, float16",
        f"index       HNSW8,SQ8 over 3,000 rows, built {index['created'][:10]}",
        "chosen      for recall 0.90: HNSW8,SQ8, as requested",
        f"memory      {index['bytes'] / 1024:.0f} KiB, {each:.0f} bytes per vector",
        "measured    with 60 queries given",
        f"recall      {point.recall:.4f} ({point.low:.3f}–{point.high:.3f}) of the 10 nearest; efSearch "
        f"{point.effort}, {point.candidates} candidates",
        f"latency     {point.p50:.0f} µs, p95 {point.p95:.0f} µs; {point.rate:,.0f} queries/s in a batch",
        "tail        1 row searched exactly",
    ):
        assert line in lines
    assert any(re.fullmatch(r" +[\d.]+ KiB  index/snapshot-\d+\.faiss", line) for line in lines)


def test_info_tells_of_exact_search(kb: Path, log: Path) -> None:
    """Without an index, on request, and where only exact search reaches the recall."""
    assert re.search("^index +none: every search is exact *$", run("info", kb).stdout, re.MULTILINE)
    run_json("optimize", kb, "--index", "IVF1,PQ2x4fs", "--recall", "0.99", "--queries", log)
    point = cheapest(points_of(run_json("info", kb)), 0.99, 10)
    assert point is not None
    assert point.candidates == 0  # eight bits per vector cannot
    shown = run("info", kb).stdout
    assert re.search(r"^recall +0\.99 by exact search alone *$", shown, re.MULTILINE)
    assert re.search(rf"^latency +{point.p50:.0f} µs *$", shown, re.MULTILINE)
    assert run("optimize", kb, "--index", "exact").stdout == "index: none: every search is exact\n"
    assert run_json("info", kb)["index"] is None


# ── as a process ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_warning_does_not_cut_through_a_bar(small: Path) -> None:
    """On a terminal the line stands by itself, above the bars, and is told once."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "reperio", "optimize", str(small), "--index", "IVF4,Flat"]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=theirs, env=os.environ | {"COLUMNS": "300", "TERM": "xterm"}
    ) as running:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # how the end of a terminal is told
            while part := os.read(ours, 65_536):
                shown += part
    os.close(ours)
    assert running.returncode == 0
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", shown.decode()))
    (warning,) = [line for line in lines if "warning" in line]
    assert re.match("warning: .*stored vectors.*--queries", warning)
    assert any(line.startswith("measuring ") for line in lines)


def test_an_interrupted_optimize_leaves_what_it_saved(tmp_path: Path) -> None:
    """Ctrl-C: exit code 130 and one line; the index before is in use, and what was built is there for the next."""
    kb = tmp_path / "kb"
    with reperio.open(kb, dimension=64, auto_optimize=False) as collection:
        collection.add([Chunk(f"c{i}") for i in range(40_000)], vectors=vectors(3, 40_000, 64))
        before = collection.optimize(index="IVF4,SQ8", queries=vectors(4, 30, 64))
    command = process("optimize", kb, "--index", "HNSW48,Flat")
    while not list(kb.rglob("building/build.json")):  # what is saved first is the trained, still empty index
        assert command.poll() is None, command.communicate()
        time.sleep(0.05)
    command.send_signal(signal.SIGINT)
    out, err = command.communicate(timeout=120)
    assert (command.returncode, out) == (130, "")
    assert err == (
        "stopped: interrupted; the index before stays in use, and the next optimize goes on from what this one has "
        "saved\n"
    )
    with reperio.open(kb, read_only=True) as collection:
        assert collection.info().index == before
        assert collection.check().ok
    assert list(kb.rglob("building/build.json"))

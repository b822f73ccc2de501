"""`ingest`, `list` and `show` as people and scripts use them."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import reperio
from reperio import Chunk, SentenceTransformerEmbedder
from reperio.cli.errors import in_words_of
from reperio.cli.main import app

pytestmark = pytest.mark.model


def run(*args: str | Path, stdin: str | None = None, columns: int = 80) -> Result:
    return CliRunner(env={"COLUMNS": str(columns)}).invoke(app, [str(arg) for arg in args], input=stdin)


def lines(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def error(result: Result) -> str:
    assert (result.exit_code, result.stdout) == (2, "")
    found = [line for line in re.split("[\r\n]", result.stderr) if line.startswith("error: ")]
    assert len(found) == 1
    return found[0]


@pytest.fixture
def docs(tmp_path: Path, minilm: SentenceTransformerEmbedder) -> Path:
    assert minilm.name == reperio.DEFAULT_EMBEDDER
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.md").write_text("# Rivers\n\nThey flow to the sea.")
    (folder / "t.csv").write_text("id,text\n1,apples\n2,bears\n")
    return folder


@pytest.fixture
def kb(tmp_path: Path) -> Path:
    return tmp_path / "kb"


def test_what_cannot_be_read_is_listed_with_its_own_exit_code(docs: Path, kb: Path) -> None:
    """3: some of it is done; with --strict an error, as one line."""
    (docs / "bad.csv").write_text("id,text\n1,a,b\n")
    (docs / "odd.md").write_bytes(b"\xff")
    result = run("ingest", docs, "--into", kb)
    assert result.exit_code == 3
    told = result.stdout.splitlines()
    assert told[0].startswith(f"2 files read into {kb}: 3 chunks added")
    assert told[1] == (
        f"failed: {docs}/bad.csv:2: 3 fields, the header has 2; put quotes around fields with commas, quotes or line "
        "breaks, or name another --delimiter"
    )
    assert told[-1] == "2 files could not be read; what is stored of them is kept"
    (docs / "odd.md").unlink()
    result = run("ingest", docs, "--into", kb)
    assert result.stdout.splitlines()[-1] == "1 file could not be read; what is stored of it is kept"
    (docs / "odd.md").write_bytes(b"\xff")
    result = run("ingest", docs, "--into", kb, "--json")
    assert result.exit_code == 3
    told_json = json.loads(result.stdout)
    assert [Path(one["place"]).name for one in told_json["failed"]] == ["bad.csv:2", "odd.md"]
    assert told_json["complete"] is False
    assert "bad.csv:2" in error(run("ingest", docs, "--into", kb, "--strict"))


def test_standard_input_has_a_name_and_a_format(docs: Path, kb: Path) -> None:
    """Ingested again under its name, it replaces what it was."""
    assert lines(run("ingest", "-", "--into", kb, "--name", "notes.md", stdin="# Notes\n\nBuy bread."))
    assert lines(run("ingest", "-", "--into", kb, "--name", "people", "--format", "jsonl", stdin='{"text": "Ada"}\n'))
    told = lines(run("ingest", "-", "--into", kb, "--name", "notes.md", stdin="# Notes\n\nBuy milk."))
    assert told == [f"1 file read into {kb}: 1 chunk added, 0 updated, 0 unchanged, 1 removed; 1 text embedded"]
    found = [json.loads(line) for line in lines(run("list", kb, "--json"))]
    assert sorted((one["metadata"]["source"], one["text"]) for one in found) == [
        ("notes.md", "# Notes\n\nBuy milk."),
        ("people", "Ada"),
    ]
    for args in (["-"], ["-", "--name", "x"], ["-", docs, "--name", "x"], [docs, "--format", "md"]):
        assert "error" in error(run("ingest", *args, "--into", kb))


def test_a_dry_run_makes_no_collection(docs: Path, kb: Path) -> None:
    """It says what would be done, before and after there is one."""
    told = lines(run("ingest", docs, "--into", kb, "--dry-run"))
    assert told[0].startswith(f"2 files would be read into {kb}: 3 chunks added")
    assert not kb.exists()
    lines(run("ingest", docs, "--into", kb))
    (docs / "a.md").rename(docs / "b.md")
    told = lines(run("ingest", docs, "--into", kb, "--dry-run"))
    assert "1 file would be renamed" in told[0]
    assert [json.loads(line)["source"] for line in lines(run("list", kb, "--sources", "--json"))] == [
        "docs/a.md",
        "docs/t.csv",
    ]


def test_options_reach_the_run(docs: Path, kb: Path) -> None:
    """Metadata with its types, patterns, a scope; what is refused is said in the words of the command line."""
    (docs / "drafts").mkdir()
    (docs / "drafts/x.md").write_text("A draft.")
    args = ["--metadata", "team=sales", "--metadata", "year=2024", "--exclude", "drafts/", "--max-tokens", "64"]
    told = lines(run("ingest", docs, "--into", kb, *args))
    assert told[1] == "skipped: docs/ 1 file or folder is excluded"
    (one,) = (json.loads(line) for line in lines(run("list", kb, "--where", '{"id": "1"}', "--json")))
    assert one["metadata"] == {"source": "docs/t.csv", "team": "sales", "year": 2024, "id": "1"}
    refused = error(run("ingest", docs, "--into", kb, "--max-tokens", "32"))
    assert "leave --max-tokens out to go on as before" in refused
    assert "pass --rechunk" in refused
    assert "max_tokens=" not in refused
    scope = '{"tenant": "acme"}'
    lines(run("ingest", docs, "--into", kb, "--scope", scope))
    assert lines(run("list", kb, "--scope", scope, "--sources"))[-1] == "3 files"
    assert "KEY=VALUE" in error(run("ingest", docs, "--into", kb, "--metadata", "team"))


def test_messages_name_options_and_not_keywords() -> None:
    """What the command has an option for is said as that; calls, and what it has none for, stay."""
    command = next(
        each for each in __import__("typer").main.get_command(app).commands.values() if each.name == "ingest"
    )
    for message, wanted in (
        ("open it with embedder=, or add", "open it with --embedder, or add"),
        ("pass rechunk=True (--rechunk)", "pass --rechunk"),
        ("pass name='docs' (--name docs)", "pass --name docs"),
        ("name the one with text_field (--text-field): 'a'", "name the one with --text-field: 'a'"),
        (
            "raise it with open(limits=Limits(text=5), embedder=x)",
            "raise it with open(limits=Limits(text=5), embedder=x)",
        ),
        ("overlap is 5, choose mode='x'", "overlap is 5, choose mode='x'"),
    ):
        assert in_words_of(command, message) == wanted


@pytest.fixture
def stored(kb: Path) -> Path:
    """Make a collection with long ids and texts of several lines."""
    with reperio.open(kb, dimension=4) as opened:
        opened.add(
            [
                Chunk(f"{'folder/' * 20}{i}.md#x", f"First line {i}\n\tcode\x1b[31m\n" + "words " * 200, {"n": i})
                for i in range(30)
            ],
            vectors=[[1.0, i, 0, 0] for i in range(30)],
        )
    return kb


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_ids_are_never_wrapped(stored: Path, columns: int) -> None:
    """In list, show and info, an id and a path are on one line, however narrow it is; nothing ends in blanks."""
    told = lines(run("list", stored, columns=columns))
    assert told[0] == f"{'folder/' * 20}0.md#x"
    assert told[1].startswith("    First line 0 code")
    assert told[1].endswith("…")
    assert len(told[1]) <= columns
    assert told[-1] == "1 to 20 of 30 chunks; --offset 20 goes on, --limit shows more"
    assert not any(line.endswith(" ") for line in told)
    assert lines(run("info", stored, columns=columns))[0] == f"path        {stored}"


def test_chunks_are_listed_in_pages_and_by_filter(stored: Path) -> None:
    """For people twenty at a time, for scripts all, one JSON object a line."""
    every = [json.loads(line) for line in lines(run("list", stored, "--json"))]
    assert [one["metadata"]["n"] for one in every] == list(range(30))
    assert set(every[0]) == {"id", "text", "metadata"}
    assert lines(run("list", stored, "--ids")) == [one["id"] for one in every]
    some = lines(run("list", stored, "--where", '{"n": {"$gte": 25}}', "--limit", "2", "--offset", "1", "--json"))
    assert [json.loads(line)["metadata"]["n"] for line in some] == [26, 27]
    assert lines(run("list", stored, "--offset", "50")) == ["no more chunks: there are 30"]
    assert lines(run("list", stored, "--where", '{"n": 99}')) == ["no chunks"]
    assert lines(run("list", stored, "--sources")) == ["0 files"]
    assert "--sources" in error(run("list", stored, "--sources", "--ids"))


def test_a_chunk_is_shown_whole(stored: Path) -> None:
    """All metadata and the text in its own lines, harmless; an id that is not there is an error, after the others."""
    wanted = f"{'folder/' * 20}7.md#x"
    told = lines(run("show", stored, wanted))
    assert told[:5] == [wanted, "n  7", "", "First line 7", "        code�[31m"]
    assert told[5] == ("words " * 200).rstrip() or told[5] == "words " * 200
    assert json.loads(run("show", stored, wanted, "--json").stdout)["metadata"] == {"n": 7}
    result = run("show", stored, wanted, "nobody")
    assert (result.exit_code, result.stdout.splitlines()[0]) == (2, wanted)
    assert "there is no chunk 'nobody'" in result.stderr


def test_search_shows_whole_texts_on_request(docs: Path, kb: Path) -> None:
    """With --full; without, three lines."""
    (docs / "a.md").write_text("# Rivers\n\n" + "They flow to the sea. " * 30)
    lines(run("ingest", docs, "--into", kb))
    brief = lines(run("search", kb, "rivers flow", "-k", "1"))
    assert (len(brief), brief[-1][-1]) == (4, "…")
    full = lines(run("search", kb, "rivers flow", "-k", "1", "--full"))
    assert full[1].strip() == "# Rivers"
    assert full[3].count("They flow to the sea.") == 30


def test_standard_input_is_no_file(docs: Path, kb: Path) -> None:
    """Neither takes the name of the other; both are named, and what was piped in has no path that is gone."""
    lines(run("ingest", docs / "a.md", "--into", kb))
    told = error(run("ingest", "-", "--into", kb, "--name", "a.md", stdin="words"))
    assert f"'a.md' is {docs}/a.md, and its chunks are in this collection; standard input would replace them" in told
    lines(run("ingest", "-", "--into", kb, "--name", "t.csv", stdin="id,text\n1,apples\n"))
    assert "'t.csv' is standard input" in error(run("ingest", docs / "t.csv", "--into", kb))
    told = lines(run("ingest", "-", "--into", kb, "--name", "t.csv", stdin="id,text\n1,pears\n"))
    assert (len(told), told[0].count("1 updated")) == (1, 1)
    assert any("standard input" in line for line in lines(run("list", kb, "--sources")))


def test_metadata_may_be_none_again(docs: Path, kb: Path) -> None:
    """An empty `--metadata` ends what holds from run to run."""
    lines(run("ingest", docs, "--into", kb, "--metadata", "team=sales"))
    lines(run("ingest", docs, "--into", kb, "--metadata", ""))
    assert all("team" not in json.loads(line)["metadata"] for line in lines(run("list", kb, "--json")))


def test_a_folder_whose_chunks_were_deleted_may_be_empty(docs: Path, kb: Path) -> None:
    """--prune refuses it while chunks of it are stored, with a command that deletes them, and then goes on."""
    lines(run("ingest", docs, "--into", kb))
    for path in docs.iterdir():
        path.unlink()
    told = error(run("ingest", docs, "--into", kb, "--prune"))
    command = re.search(r"\(reperio (delete .*)\)$", told) or re.search(r"reperio (delete .*)$", told)
    assert command is not None
    lines(run(*shlex.split(command[1])))
    lines(run("ingest", docs, "--into", kb, "--prune"))
    assert lines(run("list", kb, "--sources")) == ["0 files"]


def test_watching_follows_the_files(docs: Path, kb: Path) -> None:
    """A line of JSON per run; an interrupt ends it, also while the folder is away."""
    command = subprocess.Popen(
        [sys.executable, "-m", "reperio", "ingest", str(docs), "--into", str(kb), "--watch", "--prune", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert command.stdout is not None
    try:
        assert json.loads(command.stdout.readline())["added"] == 3
        (docs / "new.md").write_text("Something new.")
        assert json.loads(command.stdout.readline())["added"] == 1
        (docs / "a.md").unlink()
        assert json.loads(command.stdout.readline())["removed"] == 1
        docs.rename(docs.with_name("away"))
        assert command.stderr is not None
        assert "docs is not there; what is stored of it is kept" in command.stderr.readline()
    finally:
        command.send_signal(signal.SIGINT)
        _, told = command.communicate(timeout=60)
    assert command.returncode == 130
    assert "stopped: interrupted; what was stored before is kept" in told


def test_options_of_reading_are_options(docs: Path, kb: Path) -> None:
    """A table of another program is read as it is written; a file in another encoding names the option."""
    table = docs / "orders.csv"
    table.write_bytes("id;note;product;iban\n1;Für München;Säge;DE00\n".encode("cp1252"))
    result = run("ingest", table, "--into", kb)
    assert result.exit_code == 3
    assert "--encoding windows-1252" in result.stdout
    assert "encoding=" not in result.stdout
    args = ["--encoding", "cp1252", "--text-field", "note", "--title-field", "product", "--delimiter", ";"]
    lines(run("ingest", table, "--into", kb, *args, "--drop-columns", "iban", "--no-id"))
    (one,) = (json.loads(line) for line in lines(run("list", kb, "--json")))
    assert (one["text"], one["metadata"]["product"]) == ("Für München", "Säge")
    assert "iban" not in one["metadata"]
    lines(run("ingest", table, "--into", kb))
    assert "--drop-columns out" in error(run("ingest", table, "--into", kb, "--drop-columns", "id"))
    assert "exclude each other" in error(run("ingest", table, "--into", kb, "--no-id", "--id-field", "id"))


def test_what_columns_hold_is_told_and_may_be_said(docs: Path, kb: Path) -> None:
    """In a note, and with `--column-types`."""
    path = docs / "typed.csv"
    path.write_text("text,price,zip\nx,1.50,0123\n")
    told = lines(run("ingest", path, "--into", kb))
    assert told[1] == (
        "note: typed.csv has columns of numbers: 'price'; keeps as text: 'zip' (leading zeros); to change that, pass "
        "--column-types"
    )
    lines(run("ingest", path, "--into", kb, "--column-types", "zip=number, price=text", "--rechunk"))
    (one,) = (json.loads(line) for line in lines(run("list", kb, "--json", "--where", '{"source": "typed.csv"}')))
    assert (one["metadata"]["price"], one["metadata"]["zip"]) == ("1.50", 123)
    assert "write it as NAME=TYPE" in error(run("ingest", path, "--into", kb, "--column-types", "zip"))

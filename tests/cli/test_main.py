from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import reperio
from reperio import Chunk, ReperioError, SentenceTransformerEmbedder
from reperio.cli.main import app

COMMANDS = [
    "ingest", "search", "list", "show", "duplicates", "info", "check", "advise", "optimize", "tune", "backup",
    "backups", "restore", "doctor", "export", "pull", "gate", "mcp", "compact", "reembed", "delete", "version",
]  # fmt: skip
STRANGE = "Ships [bold]sail[/bold] [/] on the [link=x]sea[/link] :smile: \x1b[31mred\x1b[0m \u202eback.\x07"


def run(*args: str | Path, columns: int = 100, env: dict[str, str] | None = None) -> Result:
    return CliRunner(env={"COLUMNS": str(columns), **(env or {})}).invoke(app, [str(arg) for arg in args])


def run_json(*args: str | Path) -> Any:
    result = run(*args, "--json")
    assert (result.exit_code, own_lines(result)) == (0, [])
    return json.loads(result.stdout)


def refused(*args: str | Path) -> str:
    """Run what is an error: one line on standard error, nothing on the other, exit code 2."""
    result = run(*args)
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = own_lines(result)
    assert line.startswith("error: ")
    return line


def own_lines(result: Result) -> list[str]:
    """Return what was written on standard error, without the bar of transformers, which `main` turns off."""
    return [line for line in re.split("[\r\n]", result.stderr) if line and not line.startswith("Loading weights")]


def optimized(kb: Path, factory: str) -> Any:
    """Build an index; that it is tuned with stored vectors is a warning beside the document."""
    result = run("optimize", kb, "--index", factory, "--json")
    assert result.exit_code == 0
    assert all("stored vectors" in line for line in own_lines(result))
    return json.loads(result.stdout)


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    """Make a collection of ready vectors: what needs no model is tried on it."""
    path = tmp_path / "vectors"
    with reperio.open(path, dimension=4) as kb:
        kb.add(
            [Chunk(f"c{i}", f"text {i}", {"n": i}) for i in range(1200)],
            vectors=[[1.0, i, i * i % 7, 1.0] for i in range(1200)],
        )
        kb.delete(ids=["c0", "c1"])
    return path


@pytest.fixture(scope="session")
def ingested(tmp_path_factory: pytest.TempPathFactory, minilm: SentenceTransformerEmbedder) -> Path:
    """Make a folder of documents, and a collection from it by the command line."""
    root = tmp_path_factory.mktemp("cli")
    (root / "docs").mkdir()
    (root / "docs/passwords.md").write_text("# Passwords\n\nOpen the account page to have a new one sent by mail.")
    (root / "docs/lines.jsonl").write_text(
        json.dumps({"id": "sea", "text": STRANGE})
        + "\n"
        + json.dumps({"id": "long", "text": "Bread is kneaded. " * 60})
    )
    (root / "docs/old.odd").write_text("no text")
    assert minilm.name == reperio.DEFAULT_EMBEDDER
    result = run("ingest", root / "docs", "--into", root / "kb")
    assert result.exit_code == 0, result.output
    return root


@pytest.fixture
def copied(ingested: Path, tmp_path: Path) -> Path:
    """Make a copy that a test may change."""
    return Path(shutil.copytree(ingested, tmp_path / "copied"))


# ── help and version ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    """`--help` says in a sentence what a command does, and what each argument and option is for."""
    result = run(command, "--help")
    assert result.exit_code == 0
    lines = [line.strip() for line in result.stdout.splitlines() if line.strip()]
    assert lines[0].startswith(f"Usage: reperio {command} ") or lines[0].endswith(f" {command} [OPTIONS]")
    assert re.match(r"[A-Z].* ", lines[1])
    assert "--json" in result.stdout or command == "mcp"  # whose standard output is the protocol
    rows = re.findall(r"│ \*? *(?:--?[\w-]+|[A-Z]+) .*│", result.stdout)
    assert len(rows) >= 2
    assert all(len(row.split()) > 4 for row in rows)


def test_the_commands_are_listed() -> None:
    """Without arguments, and with `--help`, all commands are shown."""
    for result in (run(), run("--help"), run("-h")):
        assert result.exit_code == 0
        assert re.findall(r"│ (\w+)  ", result.stdout) == [*COMMANDS, "import", "golden", "origin"]


def test_the_version_is_told() -> None:
    """As a command, as an option, and as JSON."""
    assert run("version").stdout == run("--version").stdout == f"reperio {reperio.__version__}\n"
    assert run_json("version") == {"version": reperio.__version__}


def test_help_loads_no_heavy_library() -> None:
    """FAISS, torch and the tokenizers are imported by what needs them, not by `--help`."""
    script = (
        "import sys\nfrom reperio.cli.main import app\ntry: app(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'faiss', 'torch', 'sentence_transformers', 'tokenizers', 'pyarrow', 'semantic_text_splitter'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
    assert "ingest" in done.stdout


# ── what needs no model ──────────────────────────────────────────────────────────────────────────────────────────────


def test_info_describes(vectors: Path) -> None:
    """The figures, with thousands separated for people, plain for scripts."""
    shown = run("info", vectors).stdout
    assert re.search(r"^chunks +1,198 *$", shown, re.MULTILINE)
    assert re.search(r"^deleted +2 rows, which compact drops *$", shown, re.MULTILINE)
    assert re.search(r"^disk +[\d.]+ [KM]iB *$", shown, re.MULTILINE)
    told = run_json("info", vectors)
    assert (told["count"], told["deleted"], told["dimension"], told["metric"]) == (1198, 2, 4, "cosine")
    assert (told["embedder"], told["index"]["factory"], told["path"]) == (None, "IVF1,SQ8", str(vectors))
    assert told["disk"]["vectors.f32"] >= 1200 * 16


def test_optimize_builds_the_index_asked_for(vectors: Path) -> None:
    """A factory string is built, told, and recorded."""
    told = optimized(vectors, "IVF4,Flat")
    assert (told["index"]["factory"], told["index"]["rows"]) == ("IVF4,Flat", 1200)
    assert run_json("info", vectors)["index"] == told["index"]
    assert run("optimize", vectors, "--index", "exact").stdout == "index: none: every search is exact\n"
    assert "IVF4,Flaat" in refused("optimize", vectors, "--index", "IVF4,Flaat")
    assert "recall is 1.5" in refused("optimize", vectors, "--recall", "1.5")


def test_compact_drops_deleted_rows(vectors: Path) -> None:
    """What was deleted is gone from disk afterwards."""
    assert run_json("compact", vectors) == {"dropped": 2}
    assert run_json("info", vectors)["deleted"] == 0
    assert run("compact", vectors).stdout == "0 rows dropped\n"


def test_delete_counts_what_was_there(vectors: Path) -> None:
    """Chunks are deleted by id; absent and repeated ids are counted as asked for once."""
    assert run_json("delete", vectors, "c5", "c5", "nobody") == {"deleted": 1, "asked": 2}
    assert run("delete", vectors, "c5", "c6").stdout == "1 of 2 deleted\n"
    assert run_json("info", vectors)["count"] == 1196


def test_a_backup_opens(vectors: Path, tmp_path: Path) -> None:
    """The copy is a collection; a place that is taken is refused."""
    copy = tmp_path / "copy"
    assert run_json("backup", vectors, copy) == {"destination": str(copy)}
    assert run_json("check", copy) == {"ok": True, "rows": 1198, "problems": []}
    assert "already exists" in refused("backup", vectors, copy)
    assert run("backup", vectors, tmp_path / "c2").stdout == f"{vectors} is backed up in {tmp_path / 'c2'}\n"


def test_check_exits_with_1_for_damage(vectors: Path) -> None:
    """A sound collection gives 0; one with a damaged vector gives 1 and names the chunk."""
    assert run("check", vectors).stdout == "sound: 1,198 chunks verified\n"
    (file,) = vectors.rglob("vectors.f32")
    with open(file, "r+b") as content:
        content.seek(16 * 100)
        content.write(b"\x00\x00\x80\x3e")
    result = run("check", vectors)
    assert (result.exit_code, result.stderr) == (1, "")
    assert re.match(r"2 problems, 1,198 chunks verified\n• .*'c100'.*\n• .*norm.*\n$", result.stdout)
    result = run("check", vectors, "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert not told["ok"]
    assert "c100" in told["problems"][0]["what"]


def test_reading_goes_on_next_to_an_exclusive_writer(
    vectors: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one process lets no other write, info, check and backup work; who would write is told who holds it."""
    monkeypatch.setitem(reperio.open.__kwdefaults__, "lock_timeout", 0.1)
    with reperio.open(vectors, exclusive=True):
        for args in (["info", vectors], ["check", vectors], ["backup", vectors, tmp_path / "copy"]):
            assert run(*args).exit_code == 0
        for args in (["delete", vectors, "c7"], ["compact", vectors], ["optimize", vectors]):
            assert str(os.getpid()) in refused(*args)
    assert run_json("delete", vectors, "c7")["deleted"] == 1


def test_commands_write_next_to_a_writer(vectors: Path) -> None:
    """Whoever has the collection open sees what a command has deleted, compacted and optimized, and writes on."""
    with reperio.open(vectors) as kb:
        count = kb.count()
        assert run_json("delete", vectors, "c7")["deleted"] == 1
        assert kb.get("c7") is None
        for args in (["compact", vectors], ["optimize", vectors]):
            assert run(*args).exit_code == 0
        assert kb.info().deleted == 0
        kb.delete(ids="c8")
        assert run_json("info", vectors)["count"] == kb.count() == count - 2


@pytest.mark.parametrize(
    "args",
    [["search", "words"], ["info"], ["check"], ["optimize"], ["backup", "x"], ["compact"], ["delete", "x"],
     ["reembed", "--embedder", "m"]],
    ids=lambda args: args[0],
)  # fmt: skip
def test_a_missing_collection_is_refused_and_not_created(tmp_path: Path, args: list[str]) -> None:
    """Only `ingest` creates a collection; every other command names the path and leaves nothing there."""
    missing = tmp_path / "nothing"
    assert f"no collection at {missing}" in refused(args[0], missing, *args[1:])
    assert list(tmp_path.iterdir()) == []


def test_mistakes_on_the_command_line_are_one_line(tmp_path: Path) -> None:
    """Unknown commands and options, missing and malformed arguments: what is wrong, and where help is."""
    assert "Did you mean 'ingest', 'list'? See: reperio --help" in refused("ingst")
    assert "See: reperio search --help" in refused("search", tmp_path)
    assert "--no-such" in refused("info", tmp_path, "--no-such")
    assert "'-k'" in refused("search", tmp_path, "x", "-k", "five")
    assert "--into" in refused("ingest", tmp_path)
    assert "'--max-tokens'" in refused("ingest", tmp_path, "--into", tmp_path / "kb", "--max-tokens", "0")


def test_a_mistyped_path_creates_no_collection(tmp_path: Path) -> None:
    """A path that is not there, or is no text, is refused before a model is loaded or a directory made."""
    (tmp_path / "a.png").write_text("x")
    assert "does not exist" in refused("ingest", tmp_path / "nope", "--into", tmp_path / "kb")
    assert "'.png'" in refused("ingest", tmp_path / "a.png", "--into", tmp_path / "kb")
    assert not (tmp_path / "kb").exists()


def test_a_collection_without_embedder_cannot_be_asked_in_words(vectors: Path) -> None:
    """Search and ingest need texts to be embedded; the error says so."""
    (vectors.parent / "a.txt").write_text("words")
    assert "has no embedder" in refused("search", vectors, "words")
    assert "has no embedder" in refused("ingest", vectors.parent / "a.txt", "--into", vectors)


# ── with the real model ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.model
def test_ingest_tells_what_it_did(copied: Path) -> None:
    """Counts for people; for scripts the same, with every skipped file; a second run changes nothing."""
    assert "--name docs" in refused("ingest", copied / "docs", "--into", copied / "kb")
    shown = run("ingest", copied / "docs", "--into", copied / "kb", "--name", "docs")
    was = (copied / "docs").resolve()
    assert re.match(r"note: docs was at .*/docs, and is at " + re.escape(f"{was} now"), shown.stdout.splitlines()[1])
    shown = run("ingest", copied / "docs", "--into", copied / "kb")
    assert shown.stdout.splitlines() == [
        f"2 files read into {copied / 'kb'}: 0 chunks added, 0 updated, 4 unchanged, 0 removed; 0 texts embedded",
        "skipped: docs/old.odd has the suffix '.odd'; what is read is text, Markdown, tables, documents and source "
        "code: see docs/ingest.md",
    ]
    (copied / "docs/passwords.md").unlink()
    (copied / "docs/new.txt").write_text("New words.")
    told = run_json("ingest", copied / "docs", "--into", copied / "kb", "--prune")
    assert [one["source"] for one in told.pop("skipped")] == ["docs/old.odd"]
    counts = {"files": 2, "added": 1, "updated": 0, "unchanged": 3, "embedded": 1, "removed": 1, "renamed": 0}
    assert told == {**counts, "failed": [], "notes": [], "duplicates": 0, "complete": True}


@pytest.mark.model
def test_ingest_takes_its_options(copied: Path) -> None:
    """Fields, lengths and overlap reach the ingestion."""
    (copied / "docs/x.csv").write_text("key,body\nk1," + "Words upon words. " * 30 + "\nk2,short\n")
    args = ["ingest", copied / "docs/x.csv", "--into", copied / "kb", "--text-field", "body", "--id-field", "key"]
    told = run_json(*args, "--max-tokens", "32", "--overlap", "0")
    with reperio.open(copied / "kb", read_only=True) as kb:
        ids = [chunk.id for chunk in kb if chunk.metadata["source"] == "x.csv"]
    assert len(ids) == told["added"] == 6
    assert ids[-1] == "x.csv#k2"
    assert "overlap is 31" in refused(*args, "--max-tokens", "32", "--overlap", "31")
    again = run_json("ingest", copied / "docs/x.csv", "--into", copied / "kb")
    assert (again["unchanged"], again["failed"]) == (6, [])
    assert "--text-field" in refused("ingest", copied / "docs/x.csv", "--into", copied / "kb", "--text-field", "other")


@pytest.mark.model
def test_search_shows_hits_without_interpreting_their_text(ingested: Path) -> None:
    """Markup in a document is shown as it is, control characters are not sent to the terminal, lines fit."""
    result = run("search", ingested / "kb", "ships on the sea", "-k", "2", columns=60)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert re.match(r"1  0\.\d{4}  docs/lines\.jsonl#sea *$", lines[0])
    shown = " ".join(" ".join(lines).split())
    assert "Ships [bold]sail[/bold] [/] on the [link=x]sea[/link] :smile: �[31mred�[0m �back.�" in shown
    assert all(len(line) <= 60 for line in lines)
    assert re.search(r"^2  -?0\.\d{4}  ", result.stdout, re.MULTILINE)
    assert len(lines) <= 2 * 6


@pytest.mark.model
def test_markup_is_not_interpreted_in_colour_either(ingested: Path) -> None:
    """On a colour terminal, too, a document cannot send its own escape sequences."""
    shown = run("search", ingested / "kb", "ships on the sea", "-k", "1", env={"FORCE_COLOR": "1"}).stdout
    assert "[bold]sail[/bold]" in shown
    assert "\x1b[" in shown
    assert "\x1b[31m" not in shown
    assert "\u202e" not in shown


@pytest.mark.model
def test_search_gives_whole_texts_to_scripts(ingested: Path) -> None:
    """JSON hits are flat, whole and in order; the right one is first."""
    told = run_json("search", ingested / "kb", "how do I reset my password", "-k", "3", "--recall", "1")
    assert told["query"] == "how do I reset my password"
    assert [hit["rank"] for hit in told["hits"]] == [1, 2, 3]
    assert told["hits"][0]["metadata"] == {"source": "docs/passwords.md", "headings": ["Passwords"]}
    assert told["hits"][0]["text"].endswith("sent by mail.")
    assert [hit["score"] for hit in told["hits"]] == sorted((hit["score"] for hit in told["hits"]), reverse=True)
    assert "k is 0" in refused("search", ingested / "kb", "x", "-k", "0")
    assert "the query is ' '" in refused("search", ingested / "kb", " ")


@pytest.mark.model
def test_a_damaged_index_is_a_warning_in_one_line(copied: Path) -> None:
    """An index that cannot be used is told on standard error, without the code's file and line; the hits are right."""
    optimized(copied / "kb", "hnsw")
    (snapshot,) = copied.rglob("snapshot-*.faiss")
    snapshot.write_bytes(b"damaged")
    result = run("search", copied / "kb", "ships on the sea", "--json")
    assert json.loads(result.stdout)["hits"][0]["id"] == "docs/lines.jsonl#sea"
    (line,) = own_lines(result)
    assert re.match("warning: .*index", line)


@pytest.mark.model
def test_reembed_keeps_every_chunk(copied: Path) -> None:
    """All texts are embedded again into a new generation."""
    told = run_json("reembed", copied / "kb", "--embedder", "all-MiniLM-L6-v2")
    assert told == {"embedder": "all-MiniLM-L6-v2", "chunks": 4}
    after = run_json("info", copied / "kb")
    assert (after["embedder"], after["generation"], after["count"]) == ("all-MiniLM-L6-v2", "gen-000002", 4)
    assert "cannot be loaded" in refused("reembed", copied / "kb", "--embedder", "no/such-model")


@pytest.mark.model
def test_an_empty_collection_has_nothing_to_find(tmp_path: Path, minilm: SentenceTransformerEmbedder) -> None:
    """No hits are no error."""
    reperio.open(tmp_path / "kb", embedder=minilm).close()
    assert run("search", tmp_path / "kb", "anything").stdout == "nothing found: the collection is empty\n"
    assert run_json("search", tmp_path / "kb", "anything")["hits"] == []


# ── as a process ─────────────────────────────────────────────────────────────────────────────────────────────────────


def process(*args: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "reperio", *map(str, args)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
    )  # fmt: skip


@pytest.mark.model
def test_a_process_prints_nothing_but_its_document(ingested: Path) -> None:
    """Through pipes, `--json` is the whole of standard output, and no library chatters on the other."""
    command = process("search", ingested / "kb", "ships on the sea", "--json")
    out, err = command.communicate(timeout=120)
    assert (command.returncode, err) == (0, "")
    assert json.loads(out)["hits"][0]["text"] == STRANGE


@pytest.mark.model
def test_an_interrupt_stops_at_once_and_keeps_what_was_stored(tmp_path: Path) -> None:
    """Ctrl-C during an ingestion: exit code 130, one line, a sound collection that the next run completes."""
    lines = (json.dumps({"id": f"r{i}", "text": f"Record {i} tells about number {i * i}."}) for i in range(20_000))
    (tmp_path / "many.jsonl").write_text("\n".join(lines))
    command = process("ingest", tmp_path / "many.jsonl", "--into", tmp_path / "kb")
    while _count(tmp_path / "kb") == 0:
        assert command.poll() is None, command.communicate()
        time.sleep(0.2)
    command.send_signal(signal.SIGINT)
    out, err = command.communicate(timeout=120)
    assert (command.returncode, out) == (130, "")
    assert err == "stopped: interrupted; what was stored before is kept\n"
    assert run_json("check", tmp_path / "kb")["ok"]
    stored = _count(tmp_path / "kb")
    assert 0 < stored < 20_000
    with reperio.open(tmp_path / "kb", read_only=True) as kb:
        assert [chunk.id for chunk in kb] == [f"many.jsonl#r{i}" for i in range(stored)]


def _count(path: Path) -> int:
    try:
        with reperio.open(path, read_only=True) as kb:
            return kb.count()
    except ReperioError:
        return 0  # not there yet

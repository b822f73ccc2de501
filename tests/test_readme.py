"""Every command and code block of the README and of the pages in docs/ is run as it stands."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from typer.testing import CliRunner

import reperio
from reperio import Chunk
from reperio.cli.main import app
from reperio.evaluation import read_golden

ROOT = Path(__file__).parent.parent
PAGES = (
    *(
        "README.md",
        "docs/index.md",
        "docs/start.md",
        "docs/ten-minutes.md",
        "docs/search.md",
        "docs/filters.md",
        "docs/hybrid-and-reranking.md",
    ),
    *(
        "docs/ingest.md",
        "docs/keep-and-mend.md",
        "docs/gate.md",
        "docs/gate-from-outside.md",
        "docs/mcp.md",
        "docs/langchain.md",
        "docs/llama-index.md",
    ),
    *("docs/moving-from-langchain-faiss.md", "docs/operations.md", "docs/telemetry.md"),
)
"""The pages whose blocks are run. Of all others, `test_no_other_page_has_blocks_to_run`."""

FOLDER = ROOT / "tests" / "importers" / "data" / "langchain_community-0.0.38" / "changed"


class Block(NamedTuple):
    """A fenced block of a page: its language, and the number of its first line."""

    language: str
    line: int
    content: str


def blocks(page: str) -> list[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        Block(found[1], text.count("\n", 0, found.start()) + 2, found[2])
        for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, flags=re.M | re.S)
    ]


def with_documents(folder: Path) -> None:
    """Give the commands a folder of documents to ingest: of two pages so much as is embedded quickly."""
    (folder / "docs").mkdir()
    commit = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").partition("\n## A chunk")[2]
    words = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    for name, text in (("architecture.md", commit), ("glossary.md", words)):
        (folder / "docs" / name).write_text(text[:2500], encoding="utf-8")


def with_notes(folder: Path) -> None:
    """Give the commands the folder that the page calls notes."""
    import mcp.client.stdio  # noqa: F401 - it keeps the stderr that it finds, which must not be that of a command here

    with_documents(folder)
    (folder / "docs").rename(folder / "notes")


def with_files(folder: Path) -> None:
    """Give the page about ingestion a folder of its own, and a table as a spreadsheet program writes it."""
    with_documents(folder)
    (folder / "handbook").mkdir()
    (folder / "handbook" / "start.md").write_text("# Start\n\nTurn the key to the right.\n", encoding="utf-8")
    (folder / "orders.csv").write_bytes("id;note;product;iban\n1;Für München;Säge;DE00\n".encode("cp1252"))


def with_collection(folder: Path) -> None:
    """Make the collection that the page of the gate asks, large enough for every check."""
    answers = {
        "faq-17": "To reset your password, follow the link on the sign-in page.",
        "faq-18": "A forgotten password is replaced by a new one in the settings of your account.",
    }
    subjects = ("invoice", "address", "delivery", "refund", "warranty")
    verbs = ("change", "cancel", "print", "send", "find", "delay")
    for number, (subject, verb) in enumerate((subject, verb) for subject in subjects for verb in verbs):
        answers[f"faq-{number + 100}"] = f"To {verb} your {subject}, write to the {subject} department, room {number}."
    with reperio.open(folder / "kb") as kb:
        kb.add(Chunk(key, text, {"lang": "en", "year": 2024, "source": f"{key}.md"}) for key, text in answers.items())


def with_search(folder: Path) -> None:
    """Give the page about judging from outside a golden set, a search to name, and a run of another program."""
    with_collection(folder)
    questions = [
        '{"id": "reset", "query": "how do I reset my password", "expect": ["faq-17"]}',
        '{"id": "refund", "query": "cancel a refund", "expect": ["faq-119"]}',
    ]
    (folder / "golden.yaml").write_text(
        "thresholds: {R@10: 0.4}\nqueries:\n" + "".join(f"- {each}\n" for each in questions), encoding="utf-8"
    )
    (folder / "shop.py").write_text(
        "def search(text):\n    return ['faq-17', 'faq-18'] if 'password' in text else ['faq-119']\n", encoding="utf-8"
    )
    (folder / "words.json").write_text('{"reset": {"faq-17": 1.0, "faq-18": 0.5}}', encoding="utf-8")


def with_langchain_folder(folder: Path) -> None:
    """Put a folder in place that LangChain's FAISS store has written."""
    (folder / "faiss_index").mkdir()
    for name in ("index.faiss", "index.pkl"):
        shutil.copy(FOLDER / name, folder / "faiss_index")


PREPARED: dict[str, Callable[[Path], None]] = {
    "docs/start.md": with_documents,
    "docs/ten-minutes.md": with_notes,
    "docs/search.md": with_documents,
    "docs/ingest.md": with_files,
    "docs/keep-and-mend.md": with_documents,
    "docs/mcp.md": with_documents,
    "docs/gate.md": with_collection,
    "docs/gate-from-outside.md": with_search,
    "docs/moving-from-langchain-faiss.md": with_langchain_folder,
}


@pytest.mark.model
@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_a_page_runs(
    page: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """In the order of the page and in one folder: Python by itself, commands as typed, golden sets as files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if page in PREPARED:
        PREPARED[page](tmp_path)
    found = blocks(page)
    assert found
    for block in found:
        assert block.language in {"python", "console", "yaml", "text", "json"}, f"{page}:{block.line}"
        if block.language == "python":
            exec(compile("\n" * (block.line - 1) + block.content, page, "exec"), {"__name__": "__main__"})
        elif block.language == "console":
            for command in block.content.splitlines():
                run_command(command, f"{page}, {command}")
        elif block.language == "json":
            run_servers(block.content, f"{page}:{block.line}")
        elif block.language == "yaml":
            Path("example.yaml").write_text(block.content, encoding="utf-8")
            assert read_golden("example.yaml").queries
    if page in {"README.md", "docs/index.md", "docs/start.md"}:  # what a newcomer runs first
        assert "1 faq-17 To reset your password" in capfd.readouterr().out


def run_servers(configuration: str, named: str) -> None:
    """Run what the configuration of an agent's client starts, with an input that ends at once."""
    for server in json.loads(configuration)["mcpServers"].values():
        assert ("command" in server) != ("url" in server), named
        if "command" in server:
            run_command(shlex.join([server["command"], *server["args"]]), named)


def run_command(command: str, named: str) -> None:
    """Run a command of Reperio's, which must succeed and find what it is asked for; check that others exist."""
    words = shlex.split(command, comments=True)
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), flags=re.M), named
    elif words[0] == "pip":
        for requirement in words[2:]:
            if not requirement.startswith("-"):
                require_extras(requirement)
    else:
        assert words[0] == "reperio", named
        done = CliRunner(env={"COLUMNS": "100"}).invoke(app, words[1:])
        assert done.exit_code == 0, f"{named}\n{done.output}\n{done.exception!r}"
        if words[1] == "search":
            assert "architecture.md" in done.stdout, named


def require_extras(requirement: str) -> None:
    """Require that a page installs what we ask for ourselves, or one of our packages with extras that it has."""
    name, _, extras = requirement.rstrip("]").partition("[")
    name = "reperio" if name == "." else name  # in a clone
    projects = [ROOT / "pyproject.toml", *ROOT.glob("integrations/*/pyproject.toml")]
    if not extras and f'"{name}>=' in projects[0].read_text():
        return
    (project,) = [text for text in (path.read_text() for path in projects) if f'\nname = "{name}"\n' in text]
    for extra in filter(None, extras.split(",")):
        assert re.search(rf"^{extra} = \[", project, flags=re.M), requirement


def test_no_other_page_has_blocks_to_run() -> None:
    """A page with Python or commands of Reperio's is in the list above."""
    run = {*PAGES, "docs/origins.md"}  # with a server, in tests/origins
    run |= {"docs/haystack.md"}  # with Haystack, by its adapter's tests
    run |= {
        f"docs/moving-from-{name}.md" for name in ("chroma", "faiss", "llama-index")
    }  # in tests/cli/test_importing.py
    others = [path for path in (ROOT / "docs").rglob("*.md") if path.relative_to(ROOT).as_posix() not in run]
    assert others
    for path in others:
        page = path.relative_to(ROOT).as_posix()
        assert {block.language for block in blocks(page)} <= {"text"}, page


def test_the_directory_listing_is_what_the_code_makes(tmp_path: Path) -> None:
    """The names in the listing are those of the layout module."""
    from reperio import layout

    (listing,) = [block.content for block in blocks("docs/keep-and-mend.md") if block.content.startswith("kb/")]
    paths = layout.Generation(tmp_path / layout.FIRST_GENERATION)
    names = {path.name for path in (paths.settings, paths.database, paths.vectors, paths.index)}
    names |= {layout.Layout(tmp_path).current.name, layout.Layout(tmp_path).lock.name, layout.FIRST_GENERATION}
    for name in names:
        assert re.search(rf"^ +{re.escape(name)}[/ ]", listing, flags=re.M), name

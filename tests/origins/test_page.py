"""The page about origins, as it stands, with a real server."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

import reperio
from reperio import Chunk
from reperio.cli.main import app
from tests.test_readme import blocks, require_extras

from .contents import D, vector
from .servers import Postgres

URL = "postgresql://app@db/knowledge?collection=faq"


@pytest.mark.model
def test_every_block_of_the_page_runs(postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands on two hosts, Python on the second, and SQL on the server."""
    url = postgres.url("faq")
    (tmp_path / "other").mkdir()
    for host in (tmp_path, tmp_path / "other"):
        monkeypatch.chdir(host)
        for block in blocks("docs/origins.md"):
            content = block.content.replace(URL, url)
            if block.language == "console":
                for line in content.splitlines():
                    _run(line, first=host == tmp_path)
            elif block.language == "python":
                chunks = [Chunk(f"{host.name}-{n}", f"a text {n}", {"lang": "en"}) for n in range(3)]
                exec(compile(content, "docs/origins.md", "exec"), {"chunks": chunks})
            else:
                assert block.language == "sql"
                assert postgres.execute(content.replace(";", ""))
    with reperio.open(tmp_path / "kb", origin=url) as first, reperio.open("kb", origin=url) as second:
        assert sorted(first.ids()) == sorted(second.ids())
        assert first.count() == 7
    assert reperio.pull(tmp_path / "third", url).commit == reperio.origin_status(url).commit


def _run(line: str, *, first: bool) -> None:
    words = shlex.split(line)
    if words[0] == "pip":
        require_extras(words[2])
        return
    if words[1:3] == ["origin", "create"]:
        if not first:
            return
        with reperio.open("kb") as kb:
            kb.add([Chunk("faq-1", "To reset your password, follow the link.", {"lang": "en"})])
    done = CliRunner().invoke(app, words[1:])
    assert done.exit_code == 0, done.output


def test_commands_tell_what_they_did(postgres: Postgres, tmp_path: Path) -> None:
    """Create, status, pull, search and info with an origin, and errors in the words of the command line."""
    url = postgres.url("told")
    with reperio.open(tmp_path / "kb", dimension=D) as kb:
        kb.add([Chunk("a", "text")], vectors=vector(1)[None])

    def told(*words: object, code: int = 0) -> str:
        done = CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(word) for word in words])
        assert done.exit_code == code, done.output
        return " ".join(done.output.split())

    assert "reperio origin create" in told("origin", "status", url, code=2)
    assert "clone it: reperio pull DIRECTORY --origin URL" in told("origin", "create", url, tmp_path / "kb")
    assert "commit 2, made at 20" in told("origin", "status", url)
    assert '"commit": 2' in told("origin", "status", url, "--json")
    assert f"{tmp_path / 'clone'} is at commit 2 of postgresql://" in told("pull", tmp_path / "clone", "--origin", url)
    assert "--origin" in told("delete", tmp_path / "clone", "a", code=2)
    assert "1 of 1 deleted" in told("delete", tmp_path / "clone", "a", "--origin", url)
    assert "commit 2" in told("info", tmp_path / "kb")
    assert "chunks 0" in told("info", tmp_path / "kb", "--origin", url)
    assert "Missing option '--origin'" in told("pull", tmp_path / "kb", code=2)

"""Who may ask the studio, and how much: the token, the names of the host, pages of strangers, budgets."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import reperio
from reperio import Chunk, InvalidInput
from reperio.evaluation import read_golden
from reperio.explorer.desk import Options, opened
from tests.cli.test_main import refused
from tests.conftest import TrigramEmbedder
from tests.explorer.serving import GOLDEN, TOKEN, Studio, fill, served

OURS = {"X_Reperio_Studio": "1", "Content_Type": "application/json"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("studio")
    fill(found / "kb")
    (found / "golden.yaml").write_text(GOLDEN)
    return found


@pytest.fixture(scope="module")
def studio(folder: Path) -> Iterator[Studio]:
    with served(folder, golden=folder / "golden.yaml", scope={"lang": "en"}) as found:
        yield found


def marking(**more: Any) -> bytes:
    return json.dumps({"q": "x", "id": "password-1", "grade": "2", "mode": "dense", **more}).encode()


def test_nothing_without_the_token(studio: Studio) -> None:
    """A wrong, cut or foreign token gets 403 and no word of the collection; each answer forbids scripts of others."""
    for path in (
        "/",
        "/ask",
        f"/{TOKEN}x/ask",
        f"/{TOKEN[:-1]}/ask",
        "/é/ask",
        f"//{TOKEN[:3]}/ask",
        "/static/studio.js",
    ):
        status, text, headers = studio.ask("GET", path.replace("é", "%C3%A9"))
        assert (status, "kb" in text) == (403, False), path
        assert "default-src 'none'" in headers["content-security-policy"]
    status, text, headers = studio.ask("GET", f"/{TOKEN}/ask?q=password")
    assert status == 200
    assert "unsafe" not in headers["content-security-policy"]
    assert "access-control-allow-origin" not in headers
    assert "set-cookie" not in headers
    assert headers["cache-control"] == "no-store"
    assert not re.search(
        r"<script(?! type=\"module\" src=\"/)|\son\w+=[\"']|style=|javascript:", text.split("<body>")[0]
    )


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1.evil.example"}, 421),
        ({"Host": "127.0.0.1:1"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({}, 200),
    ],
)
def test_pages_of_strangers_are_refused(studio: Studio, headers: dict[str, str], status: int) -> None:
    """By their Host, as after DNS rebinding, or their Origin, though they should know the token."""
    assert studio.ask("GET", f"/{TOKEN}/ask", None, **headers)[0] == status


def test_only_the_studio_itself_changes_something(studio: Studio) -> None:
    """A form, a simple request or one of another site is refused; what is too long, too; the file stays as it is."""
    before = (studio.folder / "golden.yaml").read_bytes()
    path = f"/{TOKEN}/mark"
    assert studio.ask("POST", path, b"q=x", Content_Type="application/x-www-form-urlencoded")[0] == 403
    assert studio.ask("POST", path, marking(), Content_Type="application/json")[0] == 403
    assert studio.ask("POST", path, marking(), **OURS, Sec_Fetch_Site="cross-site")[0] == 403
    assert studio.ask("POST", path, marking(), **OURS, Sec_Fetch_Site="same-site")[0] == 403
    assert studio.ask("POST", path, marking(), **{**OURS, "Content_Type": "text/plain"})[0] == 415
    assert studio.ask("POST", path, b"x" * 70_000, **OURS)[0] == 413
    chunked = b"20000\r\n" + b"x" * 0x20000 + b"\r\n0\r\n\r\n"
    assert studio.ask("POST", path, chunked, **OURS, Transfer_Encoding="chunked")[0] == 400
    assert studio.ask("PUT", path, b"{}", **OURS)[0] == 405
    assert studio.ask("OPTIONS", path, Origin="http://evil.example")[0] == 403
    assert studio.ask("GET", path)[0] == 405
    for body in (b"[]", b"{", b"\xff", b'{"q": 7}', marking(grade="9"), marking(q=""), marking(q="x" * 9000)):
        status, text, _ = studio.ask("POST", path, body, **OURS)
        assert (status, bool(json.loads(text)["error"])) == (400, True), body[:40]
    assert (studio.folder / "golden.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("path", "cure"),
    [
        ("/ask?q=" + "x" * 8001, "at most 8,000"),
        ("/ask?q=x&k=101", "a number from 1 to 100"),
        ("/ask?q=x&k=NaN", "whole number"),
        ("/ask?q=x&recall=2", "from 0.01 to 1"),
        ("/ask?q=x&mode=magic", "choose one of"),
        ("/ask?q=x&where=%7B", "no JSON"),
        ("/ask?q=x&where=[]", "no object"),
        ("/ask?q=x&where=%7B%22year%22:%7B%22$near%22:1%7D%7D", "$near"),
        ("/ask?q=x&kb=../other", "there is no collection"),
        ("/compare?q=x&b.kb=/etc", "there is no collection"),
        ("/compare?q=x&b.kb=kept%201", "no kept answer"),
        ("/look/chunk?id=password-0", "there is no chunk"),  # outside the scope
        ("/look/chunks?offset=-1", "a number from 0"),
        ("/judge?show=%3Cb%3E", "choose one of"),
        ("/nothing", "no such page"),
    ],
)
def test_what_cannot_be_is_told_in_the_page(studio: Studio, path: str, cure: str) -> None:
    """As text with its cure, within the page; never a stack trace, and never an answer to something else."""
    status, text, _ = studio.ask("GET", f"/{TOKEN}{path}")
    shown = re.search(r'role="alert">([^<]*)<', text)
    assert shown, text[:2000]
    assert cure in shown[1].replace("&#39;", "'")
    assert status in (200, 400, 404)
    assert "Traceback" not in text


def test_the_scope_holds_whatever_is_asked(studio: Studio) -> None:
    """No filter, id or page tells of what lies outside, its values and counts included."""
    for path in (
        "/ask?q=password&k=100",
        '/ask?q=password&k=100&where={"lang":"de"}',
        "/look/fields",
        "/look/chunks",
        "/look",
    ):
        _, text, _ = studio.ask("GET", f"/{TOKEN}{path.replace(' ', '%20').replace('{', '%7B').replace('}', '%7D')}")
        assert "password-0" not in text, path
        assert ">de<" not in text, path


def test_a_collection_that_is_rebuilt_is_opened_again(tmp_path: Path) -> None:
    """Removed, it is told so; made again at the same path, the next page shows it; options are refused at the start."""
    fill(tmp_path / "kb", 3)
    with served(tmp_path) as studio:
        assert "password-1" in studio.ask("GET", f"/{TOKEN}/ask?q=password+number+1")[1]
        shutil.rmtree(tmp_path / "kb")
        status, text, _ = studio.ask("GET", f"/{TOKEN}/look/chunks")
        assert status == 400
        assert 'role="alert"' in text
        with reperio.open(tmp_path / "kb", embedder=TrigramEmbedder()) as kb:
            kb.add([reperio.Chunk("fresh", "a password of today")])
        assert "fresh" in studio.ask("GET", f"/{TOKEN}/ask?q=password")[1]
    with pytest.raises(reperio.CollectionNotFound), opened(Options(tmp_path / "nothing")):
        pass
    assert not (tmp_path / "nothing").exists()


def test_without_an_embedder_words_are_searched_and_vectors_are_not(tmp_path: Path) -> None:
    """A collection of ready vectors offers lexical search alone; one without words says why nothing can be asked."""
    with reperio.open(tmp_path / "kb", dimension=2, auto_optimize=False) as kb:
        kb.add([reperio.Chunk("a", "ships and sails")], vectors=[[1.0, 0.0]])
    with reperio.open(tmp_path / "mute", dimension=2, lexical="none", auto_optimize=False) as kb:
        kb.add([reperio.Chunk("a", "ships and sails")], vectors=[[1.0, 0.0]])
    with opened(Options(tmp_path / "kb", others=[tmp_path / "mute"])) as desk:
        assert (desk.modes(), desk.modes("mute")) == (("lexical",), ())
        with pytest.raises(InvalidInput, match="there is no collection 'x'"):
            desk.modes("x")


def test_the_command_serves_until_it_is_interrupted(folder: Path, tmp_path: Path) -> None:
    """It prints the address, hides a token of the environment from nobody who started it, and ends cleanly."""
    line = [sys.executable, "-m", "reperio", "studio", str(folder / "kb"), "--golden", str(tmp_path / "new.yaml")]
    environment = {**os.environ, "REPERIO_STUDIO_TOKEN": TOKEN}
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stderr is not None
        found = re.search(r"http://127\.0\.0\.1:(\d+)/(\S+)/", server.stderr.readline())
        assert found
        assert found[2] == TOKEN
        studio = Studio("", int(found[1]), None, folder)  # type: ignore[arg-type]  # its desk is in another process
        assert studio.ask("GET", f"/{TOKEN}/look/chunks")[0] == 200
        server.send_signal(signal.SIGINT)
        stdout, stderr = server.communicate(timeout=60)
    assert (server.returncode, stdout) == (0, "")
    assert "Traceback" not in stderr
    assert not (tmp_path / "new.yaml").exists()  # it is begun by the first mark


def test_options_that_cannot_be_are_refused_at_the_start(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port, a token, a scope, a collection or a golden set that cannot be, in a line of one error."""
    kb = folder / "kb"
    assert "65535" in refused("studio", kb, "--port", "70000")
    assert "--scope is no JSON" in refused("studio", kb, "--scope", "{")
    assert "nothing" in refused("studio", folder / "nothing")
    assert "a golden set is" in refused("studio", kb, "--golden", folder / "golden.txt")
    assert "module:function" in refused("studio", kb, "--reranker", "no_such:thing")
    monkeypatch.setenv("REPERIO_STUDIO_TOKEN", "short")
    assert "at least 16" in refused("studio", kb)
    monkeypatch.setenv("REPERIO_STUDIO_TOKEN", "with/a/slash/and#more")
    assert "part of the address" in refused("studio", kb)


def test_tabs_that_begin_one_question_at_once(folder: Path, tmp_path: Path) -> None:
    """Each mark is written, whoever of them was first; and a mark, a link and a report hold what is unusual."""
    (tmp_path / "report.json").write_text(
        '{"checks": [{"name": "x"}, {"name": 5, "evidence": {"a": 1}, "verdict": [1]}]}'
    )
    options = {"kb": folder / "kb", "golden": tmp_path / "golden.yaml", "report": tmp_path / "report.json"}
    with served(tmp_path, **options) as found:
        bodies = [marking(q="who?", id=f"password-{n}") for n in range(5)]
        with ThreadPoolExecutor(5) as tabs:
            answers = list(tabs.map(lambda body: found.ask("POST", f"/{TOKEN}/mark", body, **OURS)[0], bodies))
        assert answers == [200] * 5
        assert len(read_golden(tmp_path / "golden.yaml").queries[0].expect) == 5
        assert "weight=0.0" in found.ask("GET", f"/{TOKEN}/ask?q=password&weight=0")[1]
        assert found.ask("GET", f"/{TOKEN}/look/gate")[0] == 200


def test_an_undo_that_failed_can_be_tried_again(folder: Path, tmp_path: Path) -> None:
    """A file that is read-only for a moment does not make a mark final."""
    path = tmp_path / "golden.yaml"
    path.write_text(GOLDEN)
    with served(tmp_path, kb=folder / "kb", golden=path) as found:
        told = found.ask("POST", f"/{TOKEN}/mark", marking(q="who?"), **OURS)[1]
        body = json.dumps({"undo": json.loads(told)["undo"]}).encode()
        path.chmod(0o444)
        assert found.ask("POST", f"/{TOKEN}/undo", body, **OURS)[0] == 400
        path.chmod(0o644)
        assert found.ask("POST", f"/{TOKEN}/undo", body, **OURS)[0] == 200
    assert path.read_text() == GOLDEN


def test_a_collection_without_words_is_compared_in_the_form(folder: Path, tmp_path: Path) -> None:
    """What one of two collections cannot do is said next to the fields in which to choose otherwise."""
    with reperio.open(tmp_path / "plain", embedder=TrigramEmbedder(), lexical="none", auto_optimize=False) as kb:
        kb.add([Chunk("a", "a password")])
    with served(tmp_path, kb=folder / "kb", others=[tmp_path / "plain"]) as found:
        path = f"/{TOKEN}/compare?q=password&a.mode=hybrid&b.mode=hybrid&b.kb=plain"
        status, text, _ = found.ask("GET", path)
        assert (status, "cannot be searched in the mode hybrid" in text) == (200, True)
        assert 'name="b.mode"' in text
        assert "cannot be searched" not in found.ask("GET", path.replace("b.mode=hybrid", "b.mode=dense"))[1]


def test_a_golden_set_with_a_typing_error_hides_no_answer(folder: Path, tmp_path: Path) -> None:
    """Its message is shown, and the hits without marks; once it is mended, marks are there again."""
    path = tmp_path / "golden.yaml"
    path.write_text(GOLDEN.replace("mode: hybrid", "mode: hybird"))
    with served(tmp_path, kb=folder / "kb", golden=path) as found:
        status, text, _ = found.ask("GET", f"/{TOKEN}/ask?q=password")
        assert (status, "hybird" in text, "password-1" in text) == (200, True, True)
        path.write_text(GOLDEN)
        assert "hybird" not in found.ask("GET", f"/{TOKEN}/ask?q=password")[1]

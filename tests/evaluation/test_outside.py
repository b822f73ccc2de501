"""The gate from outside: functions and embedders by name, vectors in the golden set, HTTP endpoints, runs in files."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import reperio
from reperio.cli.main import app
from reperio.errors import EmbedderFailed, InvalidInput
from reperio.evaluation import Deployed, Endpoint, GoldenQuery, GoldenSet, gate, read_golden
from reperio.evaluation.asking import ask
from reperio.evaluation.deployed import load_embedder, load_reranker, load_search
from tests.conftest import TrigramEmbedder
from tests.evaluation.conftest import DIMENSION, chunks

MODULE = """
from tests.conftest import TrigramEmbedder
own = TrigramEmbedder(64)
def vectors(texts): return own.embed_queries(texts).tolist()
def words(text, *, k): return [f"c{text[3:]}"][:k]
def broken(text): raise LookupError("no index")
def leaving(text): raise SystemExit(0)
def endless(text):
    while True: yield "c" + text[3:]
async def later(texts): return []
class Searcher:
    def search(self, text): return words(text, k=10)
    def __repr__(self): return "x"
made = Searcher()
number = 7
"""


def told(*arguments: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [*map(str, arguments)])
    return done.exit_code, done.stdout, done.stderr


def flat(output: str) -> str:
    """Return output without the line breaks of a narrow terminal."""
    return " ".join(output.split())


@pytest.fixture
def module(tmp_path: Path) -> Path:
    path = tmp_path / "deployed_search.py"
    path.write_text(MODULE)
    return path


@contextmanager
def server(answer: Callable[[BaseHTTPRequestHandler, dict[str, Any]], None]) -> Iterator[str]:
    """Serve an endpoint on a free port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            try:
                answer(self, asked)
            except (BrokenPipeError, ConnectionResetError):  # the gate did not wait
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            return

    serving = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    serving.daemon_threads = True
    serving.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that goes away is meant
    thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{serving.server_address[1]}/search"
    finally:
        serving.shutdown()
        thread.join()
        serving.server_close()


def reply(handler: BaseHTTPRequestHandler, content: object, status: int = 200) -> None:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def test_a_function_by_name_is_judged_without_a_collection(module: Path, lexical: Path) -> None:
    """Checks that need a collection say so; what it does now is accepted, and a later fault is red."""
    code, output, _ = told("gate", "--search", f"{module}:words", "--golden", lexical)
    assert (code, "which search has no option for" in flat(output)) == (2, True), (
        "a filter or mode is never left out in silence"
    )
    lexical.write_text(lexical.read_text().replace("mode: lexical", "k: 10"))
    code, output, errors = told("gate", "--search", f"{module}:words", "--golden", lexical, "--accept", "--json")
    assert (code, errors) == (0, ""), output
    found = {check["name"]: check for check in json.loads(output)["checks"]}
    assert (found["thresholds"]["verdict"], found["integrity"]["verdict"]) == ("pass", "skip")
    assert "needs a collection, and a search alone was passed" in found["integrity"]["evidence"][0]
    assert told("gate", "--search", f"{module}:made", "--golden", lexical)[0] == 0
    code, output, _ = told("gate", "--search", f"{module}:broken", "--golden", lexical)
    assert (code, "search raised LookupError: no index" in flat(output)) == (2, True)
    code, output, _ = told("gate", "--search", f"{module}:leaving", "--golden", lexical)
    assert (code, "search raised SystemExit: 0" in flat(output)) == (2, True), "an exit of the search is no pass"
    assert told("gate", "--search", f"{module}:endless", "--golden", lexical, "--only", "thresholds")[0] == 0


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("words", "write module:function"),
        ("no_such_module:f", "there is no module 'no_such_module' here or installed"),
        ("FILE:wrods", "did you mean 'words'"),
        ("FILE:number", "is a int; a search is a function of a text"),
        ("absent.py:f", "absent.py is no file"),
        ("BROKEN:f", "importing it raised ZeroDivisionError"),
        ("EXIT:f", "importing it raised SystemExit"),
        ("NEEDS:f", "it needs 'no_such_dependency'"),
    ],
)
def test_a_name_that_leads_nowhere_is_refused(module: Path, tmp_path: Path, name: str, said: str) -> None:
    """With what is wrong and, where one is near, the name that was meant."""
    for word, text in (("BROKEN", "1 / 0"), ("EXIT", "raise SystemExit(0)"), ("NEEDS", "import no_such_dependency")):
        (tmp_path / f"{word.lower()}_module.py").write_text(text)
        name = name.replace(word, str(tmp_path / f"{word.lower()}_module.py"))
    with pytest.raises(InvalidInput, match=said):
        load_search(name.replace("FILE", str(module)))


def test_an_embedder_by_name_gates_ready_vectors(module: Path, stored: Path, tmp_path: Path) -> None:
    """A collection that has none recorded: dense questions are asked, and the contract is no longer skipped."""
    golden = tmp_path / "dense.yaml"
    lines = [f"- {{query: {' '.join(each.text.split()[:6])}, expect: [{each.id}]}}\n" for each in chunks()[:90:30]]
    golden.write_text("queries:\n" + "".join(lines))
    code, output, _ = told("gate", stored, "--golden", golden, "--only", "thresholds")
    assert (code, "open it with embedder=" in output or "--embedder" in output) == (2, True), output
    ran = ("--golden", golden, "--json", "--only", "thresholds", "--only", "contract")
    for name in ("vectors", "own", "own.embed_queries"):
        code, output, errors = told("gate", stored, "--embedder", f"{module}:{name}", *ran)
        found = {check["name"]: check["verdict"] for check in json.loads(output)["checks"]}
        assert (code, found["contract"], errors) == (0, "pass", ""), output
    code, _, errors = told("gate", stored, "--embedder", f"{module}:number", *ran)
    assert (code, "an embedder has name, dimension" in errors) == (2, True)
    with pytest.raises(EmbedderFailed, match=r"raised LookupError: no index"):
        load_embedder(f"{module}:broken")
    with pytest.raises(EmbedderFailed, match=r"it is asynchronous"):
        load_embedder(f"{module}:later")
    (tmp_path / "flat_vectors.py").write_text("def f(texts): return [1.0]")
    with pytest.raises(EmbedderFailed, match=r"must be one vector each"):
        load_embedder(f"{tmp_path / 'flat_vectors.py'}:f")


def test_vectors_of_the_golden_set_are_searched_by(stored: Path, tmp_path: Path) -> None:
    """Of each question, or of an array next to the file, without an embedder; another vector asks something else."""
    some = chunks()[:12]
    vectors = TrigramEmbedder(DIMENSION).embed_queries([each.text for each in some])
    lines = [f"- {{query: q{at}, expect: [{each.id}]}}" for at, each in enumerate(some)]
    golden = tmp_path / "golden.yaml"
    golden.write_text("\n".join(["thresholds: {RR@10: 1.0}", "vectors: asked.npy", "queries:", *lines]))
    np.save(tmp_path / "asked.npy", vectors)
    ran = ("--golden", golden, "--only", "thresholds")
    assert told("gate", stored, *ran)[0] == 0
    code, output, _ = told("gate", stored, "--golden", golden, "--accept")
    assert code == 0, output
    np.save(tmp_path / "asked.npy", vectors[::-1])
    code, output, _ = told("gate", stored, "--golden", golden, "--only", "regression")
    assert (code, "share no question" in output) == (2, True), output
    own = GoldenQuery("q", "q0", {"c0": 1}, vector=tuple(vectors[0].tolist()))
    with reperio.open(stored, read_only=True) as collection:
        assert gate(collection, GoldenSet([own], {"RR@10": 1.0}), only=["thresholds"]).passed
    for wrong, said in (
        (vectors[:3], "has 3 rows for 12 questions"),
        (vectors * np.nan, "holds numbers that are not finite"),
        (vectors[0], "must be one array of numbers"),
    ):
        np.save(tmp_path / "asked.npy", wrong)
        with pytest.raises(InvalidInput, match=rf"golden.yaml:2: vectors {said}"):
            read_golden(golden)
    (tmp_path / "asked.npy").write_bytes(b"no array")
    with pytest.raises(InvalidInput, match=r"is no array of numbers, as numpy saves it \(it is"):
        read_golden(golden)
    golden.write_text('queries:\n- {query: a, expect: [x], vector: [1, "2"]}\n')
    with pytest.raises(InvalidInput, match=r"golden.yaml:2: vector must be a list of finite numbers"):
        read_golden(golden)


def test_an_endpoint_is_asked_with_everything(stored: Path, lexical: Path) -> None:
    """Question, k, filter, mode, id and headers arrive; documents come back with score, text and metadata."""
    seen: list[tuple[dict[str, Any], str | None]] = []
    with reperio.open(stored, read_only=True) as collection:

        def answer(handler: BaseHTTPRequestHandler, asked: dict[str, Any]) -> None:
            seen.append((asked, handler.headers["Authorization"]))
            hits = collection.search(asked["query"], k=asked["k"], mode=asked["mode"], where=asked["where"])
            found = [{"id": hit.chunk.id, "score": hit.score, "metadata": dict(hit.chunk.metadata)} for hit in hits]
            reply(handler, {"hits": found})

        with server(answer) as url:
            code, output, errors = told("gate", "--url", url, "--golden", lexical, "--header", "Authorization: key 1")
    assert (code, errors) == (0, ""), output
    assert seen[0] == ({"query": "own0", "k": 10, "where": None, "mode": "lexical", "id": "own0"}, "key 1")


SHAPES: list[tuple[object, list[str]]] = [
    (["a", "b"], ["a", "b"]),
    ([["a", 2.0], ["b", 1]], ["a", "b"]),
    ([{"id": "a"}, {"_id": "b", "_score": 0.5}], ["a", "b"]),
    ({"results": [{"chunk": {"id": "a", "text": "x"}, "score": 1}, {"id": 7}]}, ["a", "7"]),
    ({"documents": []}, []),
]


@pytest.mark.parametrize(("content", "ids"), SHAPES)
def test_the_shapes_of_an_answer(content: object, ids: list[str]) -> None:
    """Ids, pairs and objects, in a list or under a usual name."""
    with server(lambda handler, _: reply(handler, content)) as url:
        endpoint = Endpoint(url)
        assert ask(endpoint, GoldenQuery("q", "q"), 10).ids == ids
        endpoint.close()


def test_an_endpoint_that_hangs_is_waited_for_once() -> None:
    """Not by every check that looks at the answers."""
    asked: list[object] = []

    def answer(_handler: BaseHTTPRequestHandler, question: object) -> None:
        asked.append(question)
        time.sleep(0.5)

    golden = GoldenSet([GoldenQuery("a", "a", {"x": 1}), GoldenQuery("b", "b", nothing_above=0.5)])
    with server(answer) as url:
        endpoint = Endpoint(url, timeout=0.1)
        report = gate(None, golden, search=endpoint, only=["thresholds", "nothing above"])
        endpoint.close()
    assert ([check.verdict for check in report.checks], len(asked)) == (["error", "error"], 1)


def drip(handler: BaseHTTPRequestHandler, _: object) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    for _ in range(200):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.05)


def hang(_handler: BaseHTTPRequestHandler, _: object) -> None:
    time.sleep(2)


def moved(handler: BaseHTTPRequestHandler, _: object) -> None:
    handler.send_response(302)
    handler.send_header("Location", "http://127.0.0.1:1/")
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def cut(handler: BaseHTTPRequestHandler, _: object) -> None:
    handler.close_connection = True
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n[")


HOSTILE: list[tuple[Callable[[BaseHTTPRequestHandler, dict[str, Any]], None], str]] = [
    (lambda handler, _: reply(handler, b"<html>\x1b[31m busy"), r"answered no JSON \(application/json\): <html>"),
    (lambda handler, _: reply(handler, {"error": "x"}), "answered an object with 'error'; the list is looked for in"),
    (lambda handler, _: reply(handler, 7), "answered '7'; it must be a list"),
    (lambda handler, _: reply(handler, [{"text": "x"}]), "without an id"),
    (lambda handler, _: reply(handler, [["a", None]]), "gave the score 'None'"),
    (lambda handler, _: reply(handler, b"[" * 100_000), "answered no JSON"),
    (lambda handler, _: reply(handler, {"detail": "no"}, 500), 'answered 500: {"detail": "no"}'),
    (lambda handler, _: handler.wfile.write(b"garbage\r\n\r\n"), "cannot be asked"),
    (moved, "answered 302; it redirects: pass the URL that it leads to"),
    (cut, "answered no JSON"),
    (hang, "did not answer within 0.3 s"),
    (drip, "did not answer within 0.3 s"),
]


@pytest.mark.parametrize(("answer", "said"), HOSTILE)
def test_an_endpoint_that_misbehaves_is_named(
    answer: Callable[[BaseHTTPRequestHandler, dict[str, Any]], None], said: str
) -> None:
    """With the question, the URL and what came; it hangs nobody, also where it sends a byte now and then."""
    with server(answer) as url:
        endpoint = Endpoint(url, timeout=0.3)
        with pytest.raises(InvalidInput, match=f"the question 'q': .*{said}") as caught:
            ask(endpoint, GoldenQuery("q", "what"), 10)
        endpoint.close()
    assert "\x1b" not in str(caught.value)


def test_a_connection_is_kept_and_made_again() -> None:
    """One per thread; where the server has closed it between two questions, nobody notices."""
    ports: list[int] = []

    def answer(handler: BaseHTTPRequestHandler, asked: dict[str, Any]) -> None:
        ports.append(handler.client_address[1])
        reply(handler, [asked["query"]])
        handler.close_connection = len(ports) == 2  # without saying so

    with server(answer) as url:
        endpoint = Endpoint(url)
        for text in ("a", "b", "c"):
            assert ask(endpoint, GoldenQuery(text, text), 10).ids == [text]
        endpoint.close()
    assert (ports[0] == ports[1], ports[1] == ports[2]) == (True, False)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"url": "file:///etc/passwd"}, "begins with http:// or https://"),
        ({"url": "http://user:secret@host/"}, "url holds a password"),
        ({"url": "http://host/a b"}, "must be written as"),
        ({"url": "http://host:99999/"}, "Port out of range"),
        ({"url": "http://host/", "headers": ["a"]}, "has no colon"),
        ({"url": "http://host/", "headers": ["a: b\r\nc: d"]}, "has a value that a header cannot have"),
        ({"url": "http://host/", "timeout": 0.0}, "timeout is 0"),
        ({"search": "a:b", "url": "http://host/"}, "are two searches"),
        ({"search": "a:b", "headers": ["a: b"]}, "is for an endpoint"),
        ({}, "there is nothing to judge"),
    ],
)
def test_what_cannot_be_asked_is_refused(golden: GoldenSet, options: dict[str, Any], said: str) -> None:
    """Before anything is sent; a secret is not shown."""
    with pytest.raises(InvalidInput, match=said) as caught, Deployed(**options).opened(golden):
        pass
    assert "secret" not in str(caught.value)


def test_a_run_is_saved_and_judged_as_what_made_it(stored: Path, lexical: Path, tmp_path: Path) -> None:
    """In each format; nothing is timed; a run of other questions is refused."""
    run = tmp_path / "own.run"
    code, _, errors = told("gate", stored, "--golden", lexical, "--only", "thresholds", "--save-run", run)
    assert (code, errors, run.read_text().split()[1]) == (0, "", "Q0")
    code, output, _ = told("gate", "--run", run, "--golden", lexical, "--json")
    found = {check["name"]: check for check in json.loads(output)["checks"]}
    assert (found["thresholds"]["verdict"], found["latency"]["verdict"]) == ("pass", "skip")
    assert "the answers come from a file" in found["latency"]["evidence"][0]
    assert found["modes"]["evidence"] == found["latency"]["evidence"], "a file answers no other mode or filter"
    run.write_text("other Q0 c1 1 0.5 x\n")
    code, _, errors = told("gate", "--run", run, "--golden", lexical)
    assert (code, "has no question of the golden set: its ids are like 'other'" in errors) == (2, True)


def test_a_reranker_is_named_like_an_embedder(tmp_path: Path) -> None:
    """An object with score, or a function of a query and texts; anything else is refused with what it should be."""
    module = tmp_path / "own_rerankers.py"
    module.write_text(
        "class Longest:\n"
        "    def score(self, queries, texts):\n"
        "        return [[float(len(each)) for each in some] for some in texts]\n\n\n"
        "def shortest(query, texts):\n"
        "    return [-float(len(each)) for each in texts]\n\n\n"
        "number = 7\n"
    )
    assert load_reranker(f"{module}:Longest").score(["q"], [["a", "abc"]]) == [[1.0, 3.0]]
    assert [list(some) for some in load_reranker(f"{module}:shortest").score(["q"], [["a", "abc"]])] == [[-1.0, -3.0]]
    with pytest.raises(InvalidInput, match="number is a int; a reranker has score"):
        load_reranker(f"{module}:number")
    with pytest.raises(InvalidInput, match="there is no 'longest'; did you mean 'Longest'"):
        load_reranker(f"{module}:longest")

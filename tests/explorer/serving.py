"""A studio on a port of its own, in a thread of the tests, and the collection that it shows."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import reperio
from reperio import Chunk
from reperio.explorer.desk import Desk, Options, opened
from reperio.explorer.server import to_app
from reperio.serving import loopback
from tests.conftest import TrigramEmbedder

TOKEN = "a-token-for-tests-only"
EVIL = (
    "<script>window.pwned = 1</script><img src=x onerror='window.pwned = 2'>\" ' onload=alert(1) {{ 7 * 7 }} \u202eback"
)
TOPICS = ("password", "invoice", "backup", "holiday", "printer")
GOLDEN = """\
# Ours, by hand.
document_field: source
queries:
  - query: how do I reset a password   # everybody asks this
    expect: [password-1]
    mode: hybrid
  - query: The invoice number 3 explains it in a few words.
    expect: {invoice-3: 1}
    tags: [draft]
  - query: the best goulash
    nothing_above: 0.9
"""
LOG = '{"query": "my printer is broken", "mode": "hybrid"}\n' * 3 + '{"query": "holiday in may", "mode": "lexical"}\n'


@dataclass(frozen=True)
class Studio:
    """A studio that answers.

    Attributes:
        address: with the token, without a slash at its end.
        port: of 127.0.0.1.
        desk: what it works on.
        folder: with the collection "kb" and the golden set "golden.yaml".
    """

    address: str
    port: int
    desk: Desk
    folder: Path

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, str, dict[str, str]]:
        """Send one request as it stands, and return status, content and headers."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            given = {"Host": f"127.0.0.1:{self.port}", **{key.replace("_", "-"): each for key, each in headers.items()}}
            if body is not None and "Transfer-Encoding" not in given:
                given.setdefault("Content-Length", str(len(body)))
            for name, value in given.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(), {key.lower(): value for key, value in answer.getheaders()}
        finally:
            connection.close()


def fill(path: Path, number: int = 12) -> None:
    """Make a collection of documents about some topics, one of them hostile."""
    with reperio.open(path, embedder=TrigramEmbedder(), auto_optimize=False) as kb:
        chunks = [
            Chunk(
                f"{topic}-{n}",
                f"The {topic} number {n} explains it in a few words. Resetting the {topic}s of others is for "
                f"administrators.\n\n{'It goes on. ' * (200 if n == 0 else 3)}",
                {"source": f"{topic}.md", "lang": "de" if n % 3 == 0 else "en", "year": 2020 + n, "draft": n == 2},
            )
            for topic in TOPICS
            for n in range(number)
        ]
        evil = Chunk(f"evil/{EVIL}", f"password {EVIL}", {EVIL: EVIL, "source": EVIL, "deep": {"<b>": [EVIL]}})
        twin = Chunk("backup-twin", chunks[2 * number + 5].text, {"source": "twins.md", "huge": "x" * 100_000})
        kb.add([*chunks, evil, twin, Chunk("empty", "?", {})])


@contextmanager
def served(folder: Path, **options: object) -> Iterator[Studio]:
    """Serve the collection of a folder during the block."""
    given = Options(**{"kb": folder / "kb", "embedder": TrigramEmbedder(), **options})  # type: ignore[arg-type]  # as passed
    with opened(given) as desk, loopback.listening(0) as (listening, port):
        server = loopback.to_server(to_app(desk, TOKEN, port), lifespan="on")
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            yield Studio(f"http://127.0.0.1:{port}/{TOKEN}", port, desk, folder)
        finally:
            server.should_exit = True
            thread.join(10)

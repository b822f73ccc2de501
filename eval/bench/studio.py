"""Time the pages of `reperio studio` at 100,000 chunks: each page, and what an answer takes beyond its search.

    python eval/bench/studio.py                   # five minutes; writes eval/results/studio.json and .md
    python eval/bench/studio.py --rows 5000 --out DIR

The collection is made here: texts of common words, five metadata fields, 2,000 sources, vectors of 384 dimensions from
the texts' words, and an index as `optimize` chooses it. One server in this process, asked by one client over loopback
with HTTP, page by page in turns. What a browser does with a page is not in it. Targets: a page within 100 ms, an answer
within 200 ms beyond the search (the median each). Exit 0 all are met, 1 some are not.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Sequence
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import orjson

import reperio
from reperio import Chunk
from reperio.explorer.desk import Options, opened
from reperio.explorer.server import to_app
from reperio.serving import loopback

_ROOT = Path(__file__).resolve().parents[2]
_TOKEN = "a-token-of-the-benchmark"
_DIMENSION = 384
_PAGE, _BEYOND = 100.0, 200.0  # ms
_BATCH = 10_000
_ANSWERS = ("ask, hybrid", "ask, filtered", "ask, 100 hits", "compare", "judge a question")


class WordEmbedder:
    """Adds up a fixed random vector for each word: quick, so that the pages are what is measured."""

    name = "words"
    dimension = _DIMENSION

    def __init__(self) -> None:
        self._known: dict[str, Any] = {}

    def embed_passages(self, texts: Sequence[str]) -> Any:
        """Return an array of shape (len(texts), dimension)."""
        return np.stack([sum(map(self._vector, text.lower().split()), np.zeros(_DIMENSION)) + 1e-3 for text in texts])

    embed_queries = embed_passages

    def _vector(self, word: str) -> Any:
        if word not in self._known:
            self._known[word] = np.random.default_rng(zlib.crc32(word.encode())).normal(size=_DIMENSION)
        return self._known[word]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; return the exit status."""
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="reperio-studio-") as folder:
        made = time.perf_counter()
        fill(Path(folder) / "kb", options.rows)
        golden = Path(folder) / "golden.yaml"
        golden.write_text(
            "".join(["queries:\n", *(f"  - {{query: word{n} here, expect: [c{n}]}}\n" for n in range(50))])
        )
        print(f"made in {time.perf_counter() - made:.0f} s", flush=True)
        given = Options(Path(folder) / "kb", golden=golden, embedder=WordEmbedder())
        with opened(given) as desk, loopback.listening(0) as (listening, port):
            server = loopback.to_server(to_app(desk, _TOKEN, port), lifespan="on")
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
            thread.start()
            rows = measured(port, options.rows, options.rounds)
            server.should_exit = True
            thread.join()
    results = {
        "commit": subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=_ROOT, capture_output=True, text=True, check=False
        ).stdout.strip(),
        "rows": options.rows,
        "rounds": options.rounds,
        "load_before": round(os.getloadavg()[2], 1),
        "pages": rows,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "studio.json").write_bytes(orjson.dumps(results, option=orjson.OPT_INDENT_2))
    page = to_markdown(results)
    (options.out / "studio.md").write_text(page)
    print(page)
    return 0 if all(each["met"] for each in rows) else 1


def fill(path: Path, number: int) -> None:
    """Make the collection, and its index."""
    draw = np.random.default_rng(7)
    words = np.array([f"word{n}" for n in range(5000)])
    with reperio.open(path, embedder=WordEmbedder(), auto_optimize=False) as kb:
        for first in range(0, number, _BATCH):
            picked = words[np.minimum(draw.zipf(1.3, size=(min(_BATCH, number - first), 60)) - 1, len(words) - 1)]
            kb.add(
                [
                    Chunk(
                        f"c{first + at}",
                        " ".join(some),
                        {
                            "source": f"folder{at % 40}/document{at % 2000}.md",
                            "lang": ("en", "de", "fr")[at % 3],
                            "year": 2000 + at % 25,
                            "draft": at % 11 == 0,
                            "tags": [f"tag{at % 7}", f"tag{at % 13}"],
                            "title": f"Document {at % 2000}",
                        },
                    )
                    for at, some in enumerate(picked)
                ]
            )
        kb.optimize()


def measured(port: int, number: int, rounds: int) -> list[dict[str, Any]]:
    """Ask for each page in turns, and return its times."""
    where = quote('{"lang": "en", "year": 2010}')
    pages = {
        "ask, empty": "/ask",
        "ask, hybrid": "/ask?q=word{n}+word7+of+word99",
        "ask, filtered": f"/ask?q=word{{n}}+word7&where={where}",
        "ask, 100 hits": "/ask?q=word{n}+word7&k=100",
        "compare": "/compare?q=word{n}+word7",
        "judge": "/judge",
        "judge a question": "/judge?q=word{n}+here",
        "look": "/look",
        "fields": "/look/fields",
        "sources": "/look/sources",
        "chunks": "/look/chunks?offset={far}",
        "chunks, filtered": f"/look/chunks?where={where}",
        "a chunk": "/look/chunk?id=c{n}",
        "index": "/look/index",
    }
    connection = HTTPConnection("127.0.0.1", port, timeout=120)
    first = {name: _asked(connection, path.format(n=1, far=number // 2)) for name, path in pages.items()}
    while "Counting" in _asked(connection, "/look/fields")[2]:  # by the survey, which the server begins with
        time.sleep(0.5)
    found: dict[str, list[tuple[float, float, str]]] = {name: [] for name in pages}
    for turn in range(rounds):
        for name, path in pages.items():
            found[name].append(_asked(connection, path.format(n=2 + turn, far=(turn + 1) * number // (rounds + 2))))
    rows = []
    for name, times in found.items():
        spent = sorted(each[0] for each in times)
        beyond = statistics.median(each[0] - each[1] for each in times)
        answer = name in _ANSWERS
        rows.append(
            {
                "page": name,
                "p50": round(statistics.median(spent), 1),
                "p95": round(spent[int(0.95 * (len(spent) - 1))], 1),
                "first": round(first[name][0], 1),
                "search": round(statistics.median(each[1] for each in times), 1) or None if answer else None,
                "beyond": round(beyond, 1) if answer else None,
                "bytes": len(times[-1][2]),
                "met": beyond <= _BEYOND if answer else statistics.median(spent) <= _PAGE,
            }
        )
    return rows


def _asked(connection: HTTPConnection, path: str) -> tuple[float, float, str]:
    """Return the milliseconds of a page, those of the searches that it tells of, and the page."""
    started = time.perf_counter()
    connection.request("GET", f"/{_TOKEN}{path}")
    answer = connection.getresponse()
    text = answer.read().decode()
    spent = (time.perf_counter() - started) * 1000
    if answer.status != 200:
        raise SystemExit(f"{path}: {answer.status}\n{text[:2000]}")
    told = re.search(r'<ul class="stages">(.*?)</ul>', text, flags=re.S)
    sides = re.findall(r"recall [\d.]+ · ([\d.,]+) ms", text)
    searches = re.findall(r"<b>([\d.,]+) ms</b>", told[1]) if told else sides
    return spent, sum(float(each.replace(",", "")) for each in searches), text


def to_markdown(results: dict[str, Any]) -> str:
    """Return the page of the results."""
    made = f"`python eval/bench/studio.py`, commit {results['commit']}: {results['rows']:,} chunks"
    lines = [
        "# The studio's pages",
        "",
        f"{made}, {results['rounds']} rounds, load of the machine before {results['load_before']}.",
        "Milliseconds over HTTP on loopback. *First* is the first request of a fresh server, while it counts fields.",
        "*Search* is what a page tells of its own searches, the ranks by list included; *beyond* is the rest. Judging",
        "tells none, and all of it counts. Targets: a page within 100 ms, an answer within 200 ms beyond its search",
        "(medians).",
        "",
        "| page | p50 | p95 | first | search | beyond | KiB | met |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in results["pages"]:
        search, beyond = ("–" if each[key] is None else f"{each[key]:.1f}" for key in ("search", "beyond"))
        lines.append(
            f"| {each['page']} | {each['p50']:.1f} | {each['p95']:.1f} | {each['first']:.1f} | {search} | {beyond} | "
            f"{each['bytes'] / 1024:.0f} | {'yes' if each['met'] else 'no'} |"
        )
    return "\n".join(lines) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--out", type=Path, default=_ROOT / "eval" / "results")
    return parser


if __name__ == "__main__":
    sys.exit(main())

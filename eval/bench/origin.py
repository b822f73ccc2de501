"""Time a replica of an origin in PostgreSQL against a collection without one; write eval/results/origin.{json,md}.

    python eval/bench/origin.py            # some three minutes on two cores
    python eval/bench/origin.py --quick    # small, only printed: does it run?

The server runs on this machine, on a socket, with its defaults and more memory. What a network adds is not in it.
Ingest and search alternate between the two, so that a neighbour slows both. Vectors are random, 384 dimensions.
Exit 0 measured, 2 could not measure.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import orjson

_ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(_ROOT))

import psycopg  # noqa: E402  # after the path
from tests.origins.servers import Postgres, postgres_binaries, running_postgres  # noqa: E402  # likewise

import reperio  # noqa: E402  # likewise
from reperio import Chunk, Collection  # noqa: E402  # likewise

D, BATCH = 384, 1000
_TEXT = "A chunk of some five hundred characters, as they come from documents. " * 7


def main() -> int:
    """Measure, print, and write the results; return the exit status."""
    parser = argparse.ArgumentParser(description="Time a replica against a collection without an origin.")
    parser.add_argument("--quick", action="store_true", help="small sizes, only printed")
    parser.add_argument("--out", type=Path, default=_ROOT / "eval" / "results", metavar="DIR")
    options = parser.parse_args()
    if postgres_binaries() is None:
        print("PostgreSQL is not installed (Debian: apt install postgresql)", file=sys.stderr)
        return 2
    load = os.getloadavg()[0]
    with running_postgres() as server, tempfile.TemporaryDirectory() as folder:
        found = measured(server, Path(folder), batches=5 if options.quick else 50, news=20 if options.quick else 300)
    found |= {"load_before": round(load, 2), "cores": os.cpu_count(), "postgresql": found.pop("version")}
    page = to_page(found)
    print(page)
    if not options.quick:
        (options.out / "origin.json").write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2) + b"\n")
        (options.out / "origin.md").write_text(page, encoding="utf-8")
    return 0


def measured(server: Postgres, folder: Path, *, batches: int, news: int) -> dict[str, Any]:
    """Return all figures."""
    url = server.url("bench")
    for name in ("plain", "replica"):
        reperio.open(folder / name, dimension=D).close()
    reperio.create_origin(url, folder / "replica")
    with (
        reperio.open(folder / "plain", auto_optimize=False) as plain,
        reperio.open(folder / "replica", auto_optimize=False, origin=url, follow=0) as replica,
    ):
        found: dict[str, Any] = {"version": str(server.execute("SHOW server_version")[0][0]), "rows": batches * BATCH}
        found["ingest"] = _ingest(plain, replica, server, batches)
        found["search"] = _search(folder / "replica", replica)
        began = time.perf_counter()
        with reperio.open(folder / "clone", auto_optimize=False, origin=url, follow=1.0) as clone:
            found["clone_seconds"] = time.perf_counter() - began
            assert clone.count() == replica.count()
            found["fresh"] = _freshness(replica, clone, news)
    return found


def _ingest(plain: Collection, replica: Collection, server: Postgres, batches: int) -> dict[str, float]:
    """Add the same batches to both, one after the other, and copy their bytes into a bare table."""
    draw = np.random.default_rng(0)
    server.execute("CREATE TABLE bare (id text, text text, metadata text, vector bytea)")
    server.execute("ALTER TABLE bare ALTER vector SET STORAGE EXTERNAL")
    seconds: dict[str, list[float]] = {"plain": [], "replica": [], "bare COPY": []}
    with psycopg.connect(host=str(server.folder), user="tester", dbname="postgres") as connection:
        for number in range(batches):
            vectors = draw.standard_normal((BATCH, D)).astype(np.float32)
            chunks = [Chunk(f"c{number}-{i}", f"{i} {_TEXT}", {"n": i, "lang": "en"}) for i in range(BATCH)]
            for name, kb in (("plain", plain), ("replica", replica)):
                began = time.perf_counter()
                kb.add(chunks, vectors=vectors)
                seconds[name].append(time.perf_counter() - began)
            began = time.perf_counter()
            with connection.cursor().copy("COPY bare FROM STDIN (FORMAT BINARY)") as copying:
                copying.set_types(["text", "text", "text", "bytea"])
                for chunk, vector in zip(chunks, vectors, strict=True):
                    copying.write_row((chunk.id, chunk.text, '{"n":1,"lang":"en"}', vector.tobytes()))
            connection.commit()
            seconds["bare COPY"].append(time.perf_counter() - began)
    return {name: BATCH / statistics.median(taken) for name, taken in seconds.items()}


def _search(path: Path, replica: Collection) -> dict[str, float]:
    """Search one directory with its origin and without: the index is the same."""
    draw = np.random.default_rng(1)
    replica.optimize(index="IVF64,SQ8")
    seconds: dict[str, list[float]] = {"plain": [], "replica": []}
    with reperio.open(path, auto_optimize=False) as plain:
        for _ in range(20):
            queries = draw.standard_normal((100, D)).astype(np.float32)
            for name, kb in (("plain", plain), ("replica", replica)):
                for query in queries:
                    began = time.perf_counter()
                    kb.search(vector=query, k=10)
                    seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def _freshness(writer: Collection, reader: Collection, news: int) -> dict[str, float]:
    """Store one chunk after the other, and wait until a handle on another directory finds it by itself."""
    vector = np.ones((1, D), dtype=np.float32)
    late, took = [], []
    for number in range(news):
        began = time.perf_counter()
        writer.add([Chunk(f"news-{number}", "news")], vectors=vector)
        stored = time.perf_counter()
        while reader.get(f"news-{number}") is None:
            time.sleep(0.0005)
        late.append(time.perf_counter() - stored)
        took.append(stored - began)
    return {
        "p50": float(np.percentile(late, 50)),
        "p99": float(np.percentile(late, 99)),
        "worst": max(late),
        "add of one, p50": statistics.median(took),
    }


def to_page(found: dict[str, Any]) -> str:
    """Return the results for people."""
    ingest, search, fresh = found["ingest"], found["search"], found["fresh"]
    plain, replica = ingest["plain"], ingest["replica"]
    us = [round(search[name] * 1e6) for name in ("plain", "replica")]
    return f"""# A replica of an origin in PostgreSQL

`python eval/bench/origin.py`: PostgreSQL {found["postgresql"]} on the same machine, {found["cores"]} cores, load
{found["load_before"]} before it began. {found["rows"]:,} chunks of 500 characters, {D} dimensions, {BATCH:,} a batch.

| | without an origin | replica | ratio |
|---|---|---|---|
| `add`, chunks/s, median batch | {plain:,.0f} | {replica:,.0f} | {replica / plain:.2f} |
| `search(vector=)`, p50, of one directory | {us[0]} µs | {us[1]} µs | {search["replica"] / search["plain"]:.3f} |

A bare COPY of the same bytes into a table without an index takes {ingest["bare COPY"]:,.0f} chunks/s.

| | |
|---|---|
| clone of {found["rows"]:,} chunks | {found["clone_seconds"]:.1f} s |
| another host's handle finds a new chunk after, p50 | {fresh["p50"] * 1e3:.1f} ms |
| the same, p99 | {fresh["p99"] * 1e3:.1f} ms |
| the same, worst | {fresh["worst"] * 1e3:.1f} ms |
| `add` of one chunk through the origin, p50 | {fresh["add of one, p50"] * 1e3:.1f} ms |
"""


if __name__ == "__main__":
    raise SystemExit(main())

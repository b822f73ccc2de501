"""Time and memory of an import of each other store: 100,000 documents that its own package has written.

``python eval/bench/importing.py --work FOLDER --chroma PYTHON --llama-index PYTHON`` writes eval/results/importing.md;
each PYTHON has that package. What is in FOLDER already is not written again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results"

CHILD = """
import json, resource, sys, time
from reperio.importers.chroma import import_chroma
from reperio.importers.llama_index import import_llama_index
from reperio.importers.raw_faiss import import_faiss

kind, source, kb = sys.argv[1:]
began = time.perf_counter()
if kind == "faiss":
    report = import_faiss(f"{source}/index.faiss", kb, texts=f"{source}/texts.jsonl")
else:
    report = {"chroma": import_chroma, "llama-index": import_llama_index}[kind](source, kb)
seconds = time.perf_counter() - began
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
told = {"seconds": seconds, "peak_mib": peak / 1024, "added": report.added, "unchanged": report.unchanged}
print(json.dumps({**told, "complete": report.complete, "metric": report.metric.value}))
"""


def measured(kind: str, source: Path, kb: Path) -> dict[str, Any]:
    """Import in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, kind, source, kb],
        check=True,
        capture_output=True,
        text=True,
        env=dict(os.environ),
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def size(folder: Path) -> float:
    """Return the MiB that a folder has."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20


def page(found: dict[str, Any]) -> str:
    """Return the results as a page."""
    lines = [
        "# Imports of other stores",
        "",
        f"`python eval/bench/importing.py`: {found['rows']:,} documents of 500 characters with four fields, "
        f"{found['dimension']} dimensions, written by the packages named. One import each, in a fresh process; the "
        "second one finds everything there. "
        f"{found['cores']} cores, load {found['load']} before it began.",
        "",
        "| source | MiB | import | documents/s | peak memory | a second import |",
        "|---|---|---|---|---|---|",
    ]
    for kind, one in found["sources"].items():
        first, second = one["first"], one["second"]
        lines.append(
            f"| {kind} ({one['package']}) | {one['mib']:,.0f} | {first['seconds']:.1f} s | "
            f"{found['rows'] / first['seconds']:,.0f} | {first['peak_mib']:,.0f} MiB | {second['seconds']:.1f} s |"
        )
    lines += [
        "",
        "Memory includes Python, FAISS and the texts, which are checked as a whole before the first is stored.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Write what is missing, measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--chroma", type=Path, help="a Python that has chromadb")
    parser.add_argument("--llama-index", type=Path, help="a Python that has llama-index-core")
    options = parser.parse_args()
    pythons = {"chroma": options.chroma, "faiss": Path(sys.executable), "llama-index": options.llama_index}
    packages = {"chroma": "chromadb", "faiss": "faiss-cpu", "llama-index": "llama-index-core"}
    found: dict[str, Any] = {
        "rows": options.rows,
        "dimension": options.dimension,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "sources": {},
    }
    options.work.mkdir(parents=True, exist_ok=True)
    bare = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    for kind, python in pythons.items():
        if python is None:
            continue
        source, kb = options.work / kind, options.work / f"{kind}-kb"
        if not source.exists():
            script = [python, HERE / "importing_sources.py", kind, source]
            subprocess.run([*script, str(options.rows), str(options.dimension)], check=True, env=bare)
        shutil.rmtree(kb, ignore_errors=True)
        asked = f"import importlib.metadata as m; print('{packages[kind]}', m.version('{packages[kind]}'))"
        told = subprocess.run([python, "-c", asked], check=True, capture_output=True, text=True, env=bare)
        one = {"package": told.stdout.strip(), "mib": size(source)}
        one |= {"first": measured(kind, source, kb), "second": measured(kind, source, kb)}
        found["sources"][kind] = one
        print(kind, json.dumps(one), flush=True)
    (RESULTS / "importing.json").write_text(f"{json.dumps(found, indent=1)}\n", encoding="utf-8")
    (RESULTS / "importing.md").write_text(page(found), encoding="utf-8")


if __name__ == "__main__":
    main()

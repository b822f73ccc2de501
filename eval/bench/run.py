"""Measure Reperio and write eval/results/bench.json and bench.md.

    python eval/bench/run.py                       # everything; some ten minutes on two cores
    python eval/bench/run.py --only ingest,overhead  # some parts; the others' figures stay as they are
    python eval/bench/run.py --quick               # small sizes, printed only (unless --out says where to)

The data is no part of the repository: eval/README.md. Exit 0 measured, 2 could not measure.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the model comes from a package; before anything imports the hub
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import engines
import ingest
import opening
import orjson
import overhead
import recall
from measuring import FULL, QUICK, Bench, Data, DataMissing, Figures, Scale, machine
from report import to_markdown

import embedding

_ROOT = Path(__file__).resolve().parents[2]
_RESULTS = _ROOT / "eval" / "results"
# In this order, so that what must not be disturbed by torch's threads comes before it is used.
PARTS: dict[str, Callable[[Bench], Figures]] = {
    "ingest": ingest.measure,
    "overhead": overhead.measure,
    "opening": opening.measure,
    "recall": recall.measure,
    "growth": recall.measure_growth,
    "engines": engines.measure,
    "exact": recall.measure_exact,
    "embedding": embedding.measure,
}


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; return the exit status."""
    options = _parser().parse_args(arguments)
    unknown = [part for part in options.only if part not in PARTS]
    if unknown:
        print(f"no part is called {unknown[0]!r}; the parts are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    scale = QUICK if options.quick else FULL
    folder = Path(os.environ.get("REPERIO_DATA") or _ROOT.parent / "shared" / "data" / "realq")
    try:
        data = Data(folder, scale.rows)
    except DataMissing as error:
        print(error, file=sys.stderr)
        return 2
    out = options.out or (None if options.quick else _RESULTS)
    results = _measure(data, scale, options, _earlier(out))
    text = to_markdown(results)
    print(text)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "bench.json").write_bytes(orjson.dumps(results, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        (out / "bench.md").write_text(text)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure Reperio.")
    parser.add_argument(
        "--only", type=lambda text: text.split(","), default=list(PARTS), metavar="PART,…", help=", ".join(PARTS)
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write; default eval/results, unless --quick")
    parser.add_argument("--note", default="", help="kept with each part's figures, e.g. that the machine was shared")
    return parser


def _earlier(out: Path | None) -> dict[str, Any]:
    file = out / "bench.json" if out is not None else None
    if file is None or not file.exists():
        return {}
    found: dict[str, Any] = orjson.loads(file.read_bytes())["parts"]
    return found


def _measure(data: Data, scale: Scale, options: argparse.Namespace, earlier: dict[str, Any]) -> Figures:
    parts = dict(earlier)
    with tempfile.TemporaryDirectory(prefix="reperio-bench-") as directory:
        bench = Bench(data, scale, Path(directory))
        for name in (name for name in PARTS if name in options.only):
            print(f"{name} …", file=sys.stderr, flush=True)
            load, started = os.getloadavg()[0], time.monotonic()
            figures = PARTS[name](bench)
            parts[name] = {
                "date": datetime.now(timezone.utc).date().isoformat(),
                "quick": options.quick,
                "rows": data.rows,
                "rounds": scale.rounds,
                "seconds": round(time.monotonic() - started, 1),
                "load_before": round(load, 2),
                "note": options.note,
                "figures": figures,
            }
    return {"machine": machine(), "parts": {name: parts[name] for name in PARTS if name in parts}}


if __name__ == "__main__":
    sys.exit(main())

"""How much of an ingestion is embedding: files are read, split and stored while an embedder of a given speed works.

python eval/bench/overlap.py --files 200 --rates 100,300,1000
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

import reperio
from reperio.ingestion import ingest

TEXT = "\n\n".join(
    (Path(__file__).parents[2] / "docs" / name).read_text(encoding="utf-8")
    for name in ("architecture.md", "performance.md", "operations.md")
)


class Paced:
    """Takes the same time for each text, and leaves the processor alone meanwhile, as a service or a GPU does."""

    name, dimension = "paced", 384

    def __init__(self, rate: float) -> None:
        self.rate, self.busy = rate, 0.0

    def embed_passages(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return vectors that differ, after the time that they take."""
        began = time.perf_counter()
        made = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for vector, text in zip(made, texts, strict=True):
            vector[:8] = np.frombuffer(text.encode()[:8].ljust(8), dtype=np.uint8)
        time.sleep(max(0.0, len(texts) / self.rate - (time.perf_counter() - began)))
        self.busy += time.perf_counter() - began
        return made

    embed_queries = embed_passages


def write(folder: Path, files: int) -> int:
    """Write files of 15,000 characters of prose, no paragraph twice; return their bytes."""
    folder.mkdir()
    for number in range(files):
        part = TEXT[(number * 977) % (len(TEXT) - 15_000) :][:15_000]
        marked = (f"{number}.{at} {one}" for at, one in enumerate(part.split("\n\n")))
        (folder / f"{number:05}.md").write_text("\n\n".join(marked), encoding="utf-8")
    return sum(path.stat().st_size for path in folder.iterdir())


def measure(top: Path, docs: Path, rate: float) -> str:
    """Ingest twice, and one file alone; return a line of the table."""
    embedder = Paced(rate)
    with reperio.open(top / f"kb-{rate:g}", embedder=embedder, auto_optimize=False) as kb:
        embedder.busy = 0.0
        times = []
        added = 0
        for paths in (docs, docs, next(docs.iterdir())):
            began = time.perf_counter()
            added = max(added, ingest(kb, paths).added)
            times.append(time.perf_counter() - began)
        share = embedder.busy / times[0]
    return f"| {rate:,.0f} | {added:,} | {times[0]:.1f} | {share:.0%} | {times[1]:.2f} | {times[2] * 1000:.0f} |"


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--rates", default="100,300,1000", help="texts per second, separated by commas")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        size = write(top / "docs", options.files)
        time.sleep(2.5)  # younger files are compared by their content
        print(f"{options.files} files, {size / 1e6:.1f} MB\n")
        print("| embedder, texts/s | chunks | first run, s | of it embedding | second run, s | one file, ms |")
        print("|---|---|---|---|---|---|")
        for rate in options.rates.split(","):
            print(measure(top, top / "docs", float(rate)), flush=True)


if __name__ == "__main__":
    main()

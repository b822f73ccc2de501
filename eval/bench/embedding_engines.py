"""The engines that embed, side by side: texts per second, one question, the first vector, memory, agreement.

Each engine has a process of its own, which stays for all rounds; in each round every engine embeds the same texts.
Needs what it compares: pip install onnxruntime openvino. Run it from the root of the repository:

    python eval/bench/embedding_engines.py --texts FOLDER --out eval/results/embedding-engines.json

FOLDER holds corpus.jsonl.gz and queries.jsonl.gz, each line an object with "text" (and "title").
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
ENGINES = ("torch-float32", "torch-bfloat16", "onnx-float32", "openvino")


def main() -> None:
    """Measure, print, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--worker", choices=ENGINES)
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--cli", action="store_true", help="measure reperio search from start to answer, too")
    options = parser.parse_args()
    if options.worker:
        work(options.worker)
        return
    found = {"search_on_the_command_line_s": command_line(options.rounds)} if options.cli else {}
    found |= compare(options.engines, options.texts, options.rounds)
    print(json.dumps(found, indent=2))
    if options.out:
        options.out.write_text(json.dumps(found, indent=2) + "\n")


def compare(engines: Sequence[str], folder: Path, rounds: int) -> dict[str, Any]:
    """Run every engine in turn, *rounds* times, over the same texts."""
    draw = random.Random(7)
    long = [f"{it.get('title', '')}. {it['text']}" for it in draw.sample(lines(folder / "corpus.jsonl.gz"), 250)]
    short = [it["text"] for it in draw.sample(lines(folder / "queries.jsonl.gz"), 250)]
    workers = {engine: Worker(engine) for engine in engines}
    figures: dict[str, dict[str, list[float]]] = {}
    for turn in range(rounds):
        order = list(engines)[turn % len(engines) :] + list(engines)[: turn % len(engines)]
        for engine in order:
            for name, texts in (("long", long[:32]), ("short", short[:128])):
                wall, cpu = workers[engine].ask("rate", texts)
                figures.setdefault(f"{name}_texts_per_s", {}).setdefault(engine, []).append(len(texts) / wall)
                figures.setdefault(f"{name}_texts_per_cpu_s", {}).setdefault(engine, []).append(len(texts) / cpu)
            latency = workers[engine].ask("latency", short[:20])
            figures.setdefault("one_question_ms", {}).setdefault(engine, []).append(latency)
    memory = {engine: worker.ask("memory", []) for engine, worker in workers.items()}
    vectors = {engine: np.array(worker.ask("vectors", long + short), np.float32) for engine, worker in workers.items()}
    for worker in workers.values():
        worker.close()
    for _ in range(rounds):
        for engine in engines:
            fresh = Worker(engine)
            figures.setdefault("first_vector_s", {}).setdefault(engine, []).append(fresh.first)
            figures.setdefault("first_vector_cpu_s", {}).setdefault(engine, []).append(fresh.first_cpu)
            fresh.close()
    medians = {what: {name: medium(values) for name, values in by.items()} for what, by in figures.items()}
    return {
        "processors": len(os.sched_getaffinity(0)),
        "rounds": rounds,
        "load_average_at_the_end": round(os.getloadavg()[0], 1),
        **medians,
        "ratio_to_torch_float32": {what: over(by) for what, by in figures.items() if "texts" in what},
        "memory_mb": memory,
        "cosine_to_torch_float32": {name: cosines(vectors["torch-float32"], made) for name, made in vectors.items()},
    }


def command_line(rounds: int) -> dict[str, Any]:
    """Time ``reperio search`` from the start of the process to its end: as it is, and without ONNX Runtime."""
    hidden = "import sys; sys.modules['onnxruntime'] = None; from reperio.cli.main import main; main()"
    ways = {"with onnxruntime": ["-m", "reperio"], "without": ["-c", hidden]}
    taken: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as folder:
        make = "import sys, reperio\nwith reperio.open(sys.argv[1]) as kb: kb.add([reperio.Chunk('a', 'some text')])"
        subprocess.run([sys.executable, "-c", make, f"{folder}/kb"], check=True, capture_output=True)
        for _ in range(rounds + 1):
            for way, start in ways.items():
                command = [sys.executable, *start, "search", f"{folder}/kb", "what helps against cancer"]
                before, started = os.times(), time.perf_counter()
                subprocess.run(command, check=True, capture_output=True)
                after = os.times()
                cpu = after.children_user + after.children_system - before.children_user - before.children_system
                taken[way].append((time.perf_counter() - started, cpu))
    return {
        way: {"wall": medium([each[0] for each in values[1:]]), "cpu": medium([each[1] for each in values[1:]])}
        for way, values in taken.items()
    }


class Worker:
    """The process of one engine; `first` is the time from its start to its first vector."""

    def __init__(self, engine: str) -> None:
        started = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--worker", engine], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.first_cpu = float(self._answer())
        self.first = time.perf_counter() - started

    def ask(self, what: str, texts: Sequence[str]) -> Any:
        """Return what the process answers."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([what, list(texts)]) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def work(engine: str) -> None:
    """Answer on standard output what is asked on standard input."""
    embed = load(engine)
    embed(["the first question"])
    print(json.dumps(sum(os.times()[:2])), flush=True)
    for line in sys.stdin:
        what, texts = json.loads(line)
        print(json.dumps(ANSWERS[what](embed, texts)), flush=True)


def rate(embed: Callable[[list[str]], Floats], texts: list[str]) -> list[float]:
    """Return the seconds for all texts, of the clock and of the processors."""
    wall, cpu = time.perf_counter(), time.process_time()
    embed(texts)
    return [time.perf_counter() - wall, time.process_time() - cpu]


def latency(embed: Callable[[list[str]], Floats], texts: list[str]) -> float:
    """Return the median of single questions in ms."""
    taken = []
    for text in texts:
        started = time.perf_counter()
        embed([text])
        taken.append(1000 * (time.perf_counter() - started))
    return statistics.median(taken)


def memory(_embed: object, _texts: object) -> dict[str, int]:
    """Return the resident memory of this process, in MB: its own, and what it shares with files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    kinds = {"RssAnon": "own", "RssFile": "of files"}
    return {
        kinds[name]: int(rest.split()[0]) // 1024
        for name, _, rest in (at.partition(":") for at in lines)
        if name in kinds
    }


ANSWERS: dict[str, Callable[..., Any]] = {
    "rate": rate,
    "latency": latency,
    "memory": memory,
    "vectors": lambda embed, texts: embed(texts).tolist(),
}


def load(engine: str) -> Callable[[list[str]], Floats]:
    """Return the function that embeds with an engine."""
    import reperio

    name = reperio.DEFAULT_EMBEDDER
    if engine == "onnx-float32":
        return reperio.OnnxEmbedder(name).embed_passages
    if engine.startswith("torch"):
        precision: Any = engine.removeprefix("torch-")
        return reperio.SentenceTransformerEmbedder(name, precision=precision).embed_passages
    return openvino(reperio.SentenceTransformerEmbedder(name, precision="float32"))


def openvino(embedder: Any) -> Callable[[list[str]], Floats]:
    """Convert the model for OpenVINO; mean pooling and lengths of one as this model has them."""
    import openvino as ov
    import torch

    model = embedder._model
    inputs = {name: torch.ones((2, 8), dtype=torch.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}
    compiled = ov.compile_model(ov.convert_model(model[0].model, example_input=inputs), "CPU")
    tokenizer = embedder.tokenizer
    tokenizer.enable_truncation(embedder.max_tokens)
    tokenizer.enable_padding()

    def embed(texts: list[str]) -> Floats:
        order = sorted(range(len(texts)), key=lambda at: -len(texts[at]))
        made = np.empty((len(texts), embedder.dimension), np.float32)
        for start in range(0, len(order), 32):
            places = order[start : start + 32]
            encoded = tokenizer.encode_batch([texts[at] for at in places])
            tokens = np.array([each.ids for each in encoded])
            mask = np.array([each.attention_mask for each in encoded])
            vectors = compiled([tokens, mask, np.zeros_like(tokens)])[0]
            pooled = (vectors * mask[..., None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
            made[places] = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        return made

    return embed


def lines(path: Path) -> list[dict[str, Any]]:
    """Read a .jsonl.gz."""
    with gzip.open(path) as file:
        return [json.loads(line) for line in file]


def medium(values: Sequence[float]) -> float:
    """Return the median, rounded."""
    return round(statistics.median(values), 2)


def over(by: dict[str, list[float]]) -> dict[str, float]:
    """Return the medians of the ratios to PyTorch in float32, taken round by round."""
    base = by["torch-float32"]
    return {name: medium([a / b for a, b in zip(values, base, strict=True)]) for name, values in by.items()}


def cosines(left: Floats, right: Floats) -> dict[str, float]:
    """Return the least and the median cosine."""
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    found = np.einsum("ij,ij->i", left, right) / lengths
    return {"min": round(float(found.min()), 6), "median": round(float(np.median(found)), 6)}


if __name__ == "__main__":
    main()

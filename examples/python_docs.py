"""Ask the documentation of your own Python installation.

Collects the docstrings of the standard library's modules, classes, functions and methods, and the language-reference
topics that ship with pydoc; embeds them with a sentence-transformers model; stores and indexes them; answers questions.
A second run finds everything unchanged, embeds nothing and answers within seconds.

    python examples/python_docs.py [--path demo-kb] [--limit N] [QUESTION ...]
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import inspect
import io
import logging
import os
import pkgutil
import sys
import time
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from rich.console import Console
from rich.markup import escape
from semantic_text_splitter import TextSplitter

import reperio
from reperio import Chunk

QUESTIONS = (
    "how do I parse command-line arguments",
    "run a shell command and capture its output",
    "read and write CSV files",
    "what is the difference between a list and a tuple",
    "how can I wait for several threads to finish",
    "download a web page",
    "measure how long a piece of code takes",
)
# Importing these does something (opens a browser, prints, starts a GUI), or they document nothing a user would ask for.
SKIPPED = {"antigravity", "this", "idlelib", "turtledemo", "lib2to3", "test", "tkinter", "turtle", "pydoc_data"}
TOPIC_CHARACTERS = 900


def collect(limit: int | None = None) -> list[Chunk]:
    """Return the documentation of this Python as chunks, at most *limit*, always in the same order."""
    chunks: dict[str, Chunk] = {}
    texts: set[str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # looking at a deprecated name is enough to be warned
        for chunk in (*_topics(), *_modules()):
            if chunk.id not in chunks and chunk.text not in texts:  # aliases and copied docstrings say nothing new
                chunks[chunk.id] = chunk
                texts.add(chunk.text)
    found = list(chunks.values())
    if limit is None or limit >= len(found):
        return found
    return found[:: max(1, len(found) // limit)][:limit]


def _topics() -> Iterator[Chunk]:
    from pydoc_data.topics import topics

    splitter = TextSplitter(TOPIC_CHARACTERS, overlap=TOPIC_CHARACTERS // 10)
    for name, text in sorted(topics.items()):
        for number, part in enumerate(splitter.chunks(text), start=1):
            yield Chunk(f"topic:{name}#{number}", part, {"kind": "topic", "source": name})


def _modules() -> Iterator[Chunk]:
    for name in sorted(sys.stdlib_module_names - SKIPPED):
        if not name.startswith("_"):
            yield from _module(name)


def _module(name: str) -> Iterator[Chunk]:
    module = _imported(name)
    if module is None:
        return
    yield from _documented(module, name, "module", name)
    for member_name, member in sorted(inspect.getmembers(module)):
        if member_name.startswith("_") or getattr(member, "__module__", None) != name:
            continue
        yield from _documented(member, f"{name}.{member_name}", _kind(member), name)
        if inspect.isclass(member):
            for method_name, method in sorted(vars(member).items()):
                if not method_name.startswith("_") and callable(getattr(method, "__func__", method)):
                    yield from _documented(method, f"{name}.{member_name}.{method_name}", "method", name)
    for inner in pkgutil.iter_modules(getattr(module, "__path__", [])):
        if not inner.name.startswith("_") and not inner.name.startswith("test"):
            yield from _module(f"{name}.{inner.name}")


def _imported(name: str) -> ModuleType | None:
    """Import a module quietly; None where it does not work here (a Windows module, a missing library)."""
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            return importlib.import_module(name)
        except (Exception, SystemExit):
            return None


def _documented(thing: Any, name: str, kind: str, module: str) -> Iterator[Chunk]:
    doc = thing.__doc__ if isinstance(getattr(thing, "__doc__", None), str) else None
    if not doc or len(doc.strip()) < 30:
        return
    try:
        signature = str(inspect.signature(thing)) if callable(thing) else ""
    except (ValueError, TypeError, AttributeError):  # the last for select.epoll.register in Python 3.13
        signature = ""
    title = name + (signature if "0x" not in signature else "()")  # a default shown by its address differs every run
    yield Chunk(name, f"{title}\n{inspect.cleandoc(doc)}", {"kind": kind, "source": module})


def _kind(member: Any) -> str:
    return "class" if inspect.isclass(member) else "function" if callable(member) else "value"


def show(console: Console, question: str, hits: list[reperio.Hit], seconds: float) -> None:
    """Print a question with its hits."""
    console.print(f"\n[bold cyan]? {escape(question)}[/]  [dim]{seconds * 1000:.1f} ms[/]")
    for hit in hits:
        lines = [line.strip() for line in hit.chunk.text.splitlines() if line.strip()]
        summary = " ".join(lines[1:3] if hit.chunk.metadata["kind"] != "topic" else lines[:2])
        head = f"  {hit.rank}. [green]{hit.score:.3f}[/] [bold]{escape(hit.chunk.id)}[/] "
        console.print(head + f"[dim]{escape(summary)}[/]", no_wrap=True, overflow="ellipsis", highlight=False)


def main() -> None:
    """Index the documentation, then answer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("questions", nargs="*", default=QUESTIONS)
    parser.add_argument("--path", default="demo-kb", help="the collection's directory (default: %(default)s)")
    parser.add_argument("--limit", type=int, help="take only about so many chunks")
    options = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    logging.disable(logging.WARNING)
    console = Console()

    started = time.perf_counter()
    chunks = collect(options.limit)
    console.print(f"{len(chunks):,} chunks of documentation collected from Python {sys.version.split()[0]}")
    with reperio.open(options.path) as kb:
        with reperio.progress_bar() as progress:
            result = kb.add(chunks, batch_size=256, progress=progress)
            if kb.info().tail:
                kb.optimize(progress=progress)
        console.print(
            f"{result.added:,} added, {result.updated:,} updated, {result.unchanged:,} unchanged, "
            f"{result.embedded:,} embedded in {time.perf_counter() - started:.1f} s"
        )
        index = kb.info().index
        console.print(f"index: {index.factory + ' — ' + index.reason if index else 'none, searches are exact'}")
        kb.search(
            options.questions[0]
        )  # loads the model's query side and the index, so that the times below are typical
        for question in options.questions:
            begun = time.perf_counter()
            hits = kb.search(question, k=4)
            show(console, question, hits, time.perf_counter() - begun)


if __name__ == "__main__":
    main()

"""Notebooks → their texts, their code, and what that has printed, up to a bound."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reperio.ingestion.reading.decoding import read_text
from reperio.ingestion.reading.formats.parts import Part, Unreadable

_LONGEST_OUTPUT = 2_000  # characters of what one cell has printed
_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def read(path: Path, suffix: str, encoding: str | None) -> Iterator[Part]:
    """Read a notebook, of format 4 or the older ones."""
    del suffix
    try:
        content = json.loads(read_text(path, encoding))
        cells = (
            content["cells"] if "cells" in content else [c for sheet in content["worksheets"] for c in sheet["cells"]]
        )
        language = str(content.get("metadata", {}).get("kernelspec", {}).get("language", "python"))
        blocks = [block for cell in cells for block in _blocks(cell, language)]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise Unreadable(f"is no notebook ({type(error).__name__}: {error!s:.100}); save it again") from None
    yield Part("\n\n".join(blocks))


def _blocks(cell: dict[str, Any], language: str) -> Iterator[str]:
    kind = cell.get("cell_type")
    source = _joined(cell.get("source", cell.get("input", ""))).strip("\n")
    if not source.strip():
        return
    if kind == "heading":
        yield f"{'#' * int(cell.get('level', 1))} {source}"
    elif kind != "code":
        yield source
    else:
        yield _fenced(source, language)
        printed = "\n".join(filter(None, map(_printed, cell.get("outputs", ()))))[: _LONGEST_OUTPUT + 1]
        if printed.strip():
            cut = printed if len(printed) <= _LONGEST_OUTPUT else f"{printed[:_LONGEST_OUTPUT]}…"
            yield _fenced(cut.strip("\n"), "")


def _printed(output: dict[str, Any]) -> str:
    if output.get("output_type") == "error":
        return f"{output.get('ename', '')}: {output.get('evalue', '')}"
    written = output.get("text") or output.get("data", {}).get("text/plain", "")
    return _COLOURS.sub("", _joined(written)[: 4 * _LONGEST_OUTPUT])


def _joined(written: Any) -> str:
    return "".join(map(str, written)) if isinstance(written, list) else str(written)


def _fenced(text: str, language: str) -> str:
    fence = "````" if "```" in text else "```"
    return f"{fence}{language}\n{text}\n{fence}"

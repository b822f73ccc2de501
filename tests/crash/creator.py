"""The process that is killed while it makes something inside an empty directory that is there.

Forked from the nursery with DIRECTORY WHAT: "open", "restore" or "export", of and to places in that directory.
"""

from __future__ import annotations

from pathlib import Path

import reperio
from reperio import exchange


def main(directory: str, what: str) -> None:
    """Make it in ``DIRECTORY/kb``; what it is made of is in ``DIRECTORY/source``."""
    source, target = Path(directory) / "source", Path(directory) / "kb"
    if what == "open":
        reperio.open(target, dimension=4, auto_optimize=False).close()
    elif what == "restore":
        reperio.restore(source, target)
    else:
        exchange.export_collection(source, target, format="jsonl")

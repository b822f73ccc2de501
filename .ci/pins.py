"""Print the requirements of an adapter, and of its tests, at the lowest versions that its pyproject.toml declares."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from pip._vendor import tomli  # Python 3.10 has no tomllib, and what calls this has pip

_LOWEST = re.compile(r"([A-Za-z0-9._-]+)>=([0-9.]+)[^;]*(;.*)?")


def pinned(pyproject: Path) -> list[str]:
    """Return ``name==version`` for each requirement with a lower bound; what has none, or is ours, is left out."""
    project = tomli.loads(pyproject.read_text(encoding="utf-8"))["project"]
    found = []
    for requirement in [*project["dependencies"], *project["optional-dependencies"]["test"]]:
        match = _LOWEST.fullmatch(requirement)
        if match is not None and not match[1].startswith("reperio"):
            found.append(f"{match[1]}=={match[2]}{match[3] or ''}")
    return found


if __name__ == "__main__":
    sys.stdout.writelines(f"{pin}\n" for pin in pinned(Path(sys.argv[1])))

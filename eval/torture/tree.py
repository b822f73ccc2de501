"""Which state of the code a figure was made with."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

_SHOWN = 12  # of forty digits


def tree_of(root: Path, folder: str) -> str:
    """Return the beginning of git's name for *folder* as it is now, committed or not; "unknown" outside a checkout.

    A commit has the same content there if and only if ``git rev-parse COMMIT:FOLDER`` begins with it.
    """
    command = ["git", "-C", str(root), "ls-files", "--cached", "--others", "--exclude-standard", "-z", folder]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    names = {name for name in listed.split("\0") if name and (root / name).is_file()}
    return _tree(root, folder, sorted(names)).hex()[:_SHOWN]


def _tree(root: Path, folder: str, names: list[str]) -> bytes:
    entries = {}
    for name in names:
        first, _, rest = name.removeprefix(f"{folder}/").partition("/")
        if not rest:
            mode = "100755" if (root / name).stat().st_mode & 0o100 else "100644"
            entries[first] = f"{mode} {first}".encode(), _blob((root / name).read_bytes())
        elif f"{first}/" not in entries:
            below = f"{folder}/{first}"
            inner = [other for other in names if other.startswith(f"{below}/")]
            entries[f"{first}/"] = f"40000 {first}".encode(), _tree(root, below, inner)
    # git sorts a folder as if its name ended with a slash, which is how it is called here.
    content = b"".join(
        head + b"\0" + digest for _, (head, digest) in sorted(entries.items(), key=lambda e: e[0].encode())
    )
    return _hashed("tree", content)


def _blob(content: bytes) -> bytes:
    return _hashed("blob", content)


def _hashed(kind: str, content: bytes) -> bytes:
    return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content, usedforsecurity=False).digest()

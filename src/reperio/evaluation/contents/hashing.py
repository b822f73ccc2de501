"""Hash texts the same way in every process and version: baselines keep these hashes."""

from __future__ import annotations

import hashlib


def digest(text: str | bytes) -> int:
    """Return 64 bits that differ for different texts, all but certainly."""
    content = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")


def fingerprint(text: str | bytes) -> str:
    """Return 8 hexadecimal digits that differ for different texts, all but certainly."""
    return f"{digest(text):016x}"[:8]

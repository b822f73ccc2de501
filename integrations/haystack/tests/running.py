"""Where things are, for tests that read files or run programs."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parent.parent
ROOT = PACKAGE.parent.parent

"""Where things are, for tests that read files or run programs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent.parent
ROOT = PACKAGE.parent.parent


def run_python(code: str, *arguments: str) -> str:
    """Run Python in another process, with this one's packages importable; return what it printed."""
    sources = os.pathsep.join(filter(None, (str(PACKAGE / "src"), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | {"PYTHONPATH": sources},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout

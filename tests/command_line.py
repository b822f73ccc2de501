"""The command line inside the tests' own process, on every version of click."""

from __future__ import annotations

import inspect
from typing import Any

from typer.testing import CliRunner


def cli_runner(**options: Any) -> CliRunner:
    """Make a runner whose results hold standard error on its own, as they do in any case from click 8.2 on."""
    if "mix_stderr" in inspect.signature(CliRunner).parameters:
        options["mix_stderr"] = False
    return CliRunner(**options)

"""What griffe is to leave out or say otherwise, before mkdocstrings shows a signature."""

from __future__ import annotations

import ast
import re
from typing import Any

import griffe

SEVERAL = re.compile(r"^( +)(\w+(?:,\s+\w+)+): ((?:.*\n?)(?:\1 +.*\n?)*)", flags=re.M)
"""An entry of a docstring for several arguments at once, with the lines that go on with it."""


class Shown(griffe.Extension):
    """Leave out what only refuses mistakes, show values instead of names, and give each argument its own entry."""

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """Leave out ``**unknown``, by which misspelt options are refused, and show the values of named defaults."""
        if "unknown" in func.parameters:
            del func.parameters["unknown"]
        for parameter in func.parameters:
            default = parameter.default
            if isinstance(default, griffe.ExprName) and default.name.isupper():
                try:
                    value = str(func.modules_collection[default.canonical_path].value)
                    ast.literal_eval(value)
                except (KeyError, ValueError, SyntaxError, AttributeError, griffe.GriffeError):
                    continue  # no constant of ours
                parameter.default = value

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Let ``limit, offset: …`` be two entries, for griffe knows arguments one by one."""
        if obj.docstring is None or "Args:" not in obj.docstring.value:
            return
        head, word, rest = obj.docstring.value.partition("Args:\n")
        arguments, gap, others = rest.partition("\n\n")

        def apart(found: re.Match[str]) -> str:
            text = found[3] if found[3].endswith("\n") else f"{found[3]}\n"
            return "".join(f"{found[1]}{name}: {text}" for name in re.split(r",\s+", found[2]))

        obj.docstring.value = head + word + SEVERAL.sub(apart, arguments).rstrip("\n") + gap + others

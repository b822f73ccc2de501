"""What the package imports: two packages' public names, and what those two are made of."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator

from tests.running import PACKAGE

SOURCES = sorted((PACKAGE / "src").rglob("*.py"))
STANDARD = {
    "__future__",
    "asyncio",
    "base64",
    "collections",
    "dataclasses",
    "datetime",
    "operator",
    "os",
    "threading",
    "types",
    "typing",
}
DIRECT = {"haystack", "haystack_integrations", "reperio"}
THEIRS = {"numpy", "typing_extensions"}  # haystack-ai and reperio require these themselves


def imported() -> Iterator[tuple[str, str | None]]:
    """Give module and name of every import of the package."""
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((alias.name, None) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from ((str(node.module), alias.name) for alias in node.names)


def test_nothing_but_haystack_and_reperio_is_needed() -> None:
    """Neither FAISS nor a database driver."""
    found = {module.partition(".")[0] for module, _ in imported()}
    assert found <= STANDARD | DIRECT | THEIRS
    assert found >= DIRECT


def test_only_names_that_reperio_exports_are_imported() -> None:
    """Everything imported from the core is in an __all__, or one of its public errors."""
    names = [(module, name) for module, name in imported() if module.partition(".")[0] == "reperio" and name]
    assert len(names) > 10
    for module, name in names:
        public = importlib.import_module(module)
        assert name in getattr(public, "__all__", [each for each in vars(public) if not each.startswith("_")]), name

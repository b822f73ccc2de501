"""Arguments that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

import reperio
from reperio.collection import Collection
from reperio.errors import InvalidInput


def option(metavar: str | None, text: str, *names: str, least: int | None = None) -> Any:
    """Return an option without a default of its own; *text* says what holds without it."""
    return typer.Option(*names, metavar=metavar, help=text, show_default=False, min=least)


def flag(name: str, text: str) -> Any:
    """Return a switch without an opposite."""
    return typer.Option(name, help=text)


def argument(metavar: str, text: str) -> Any:
    """Return an argument that must be given."""
    return typer.Argument(metavar=metavar, help=text, show_default=False)


# Options whose texts several commands share are written once, here.
KB = Annotated[Path, argument("KB", "The collection's directory.")]
Origin = Annotated[
    str | None,
    option("URL", "The origin that the collection is a replica of: postgresql://… or redis://…; it is asked first."),
]
Lexical = Annotated[
    str | None,
    option(
        "WORDS",
        "How a new collection cuts texts into words: porter (by default), unicode61, trigram or none.",
    ),
]
Where = Annotated[
    str | None,
    option("JSON", 'Only chunks whose metadata matches, e.g. \'{"lang": "en", "year": {"$gte": 2023}}\'.'),
]
Scope = Annotated[
    str | None,
    option("JSON", 'Work in a part of the collection, e.g. \'{"tenant": "acme"}\', as if there were no other.'),
]
Json = Annotated[bool, flag("--json", "Print one JSON document, and nothing else, on standard output.")]


def reading(kb: Path, origin: str | None, scope: dict[str, Any] | None = None) -> Collection:
    """Open a collection for reading, in step with its origin where one is named."""
    if origin is None:
        return reperio.open(kb, read_only=True, scope=scope)
    reperio.open(kb, read_only=True).close()
    return reperio.open(kb, auto_optimize=False, origin=origin, follow=0, scope=scope)


def to_filter(where: str | None, name: str = "--where") -> dict[str, Any] | None:
    """Read a filter from the command line, or refuse what is no JSON object."""
    if where is None:
        return None
    try:
        found = orjson.loads(where)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f'{name} is no JSON ({error}): {where[:80]}; write it like \'{{"lang": "en"}}\'') from None
    if not isinstance(found, dict):
        raise InvalidInput(f'{name} is {where[:80]}; pass a JSON object like \'{{"lang": "en"}}\'')
    return found

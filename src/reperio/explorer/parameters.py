"""Read what an address or a form says, within fixed limits; whatever is beyond is refused by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from reperio.errors import InvalidInput

LONGEST_QUESTION = 8_000  # characters
LONGEST_FILTER = 10_000
LONGEST_ID = 10_000
MOST_HITS = 100
MOST_OFFSET = 10_000_000


class Parameters:
    """The parameters of one request.

    Args:
        given: names with values, of an address or a body.
        prefix: that the names begin with here, as those of one of two sides.
    """

    def __init__(self, given: Mapping[str, Any], prefix: str = "") -> None:
        self._given, self._prefix = given, prefix

    def side(self, prefix: str) -> Parameters:
        """Return the same with the names of one side."""
        return Parameters(self._given, prefix)

    def raw(self, name: str) -> Any:
        """Return a value as it was given, unchecked; an empty text where there is none."""
        return self._given.get(self._prefix + name, "")

    def text(self, name: str, default: str = "", *, most: int = LONGEST_ID) -> str:
        """Return a text of at most so many characters."""
        found = self._given.get(self._prefix + name, default)
        if not isinstance(found, str):
            raise InvalidInput(f"{name} is no text; load the page again")
        if len(found) > most:
            raise InvalidInput(f"{name} has {len(found):,} characters; at most {most:,} are taken")
        return found

    def number(self, name: str, default: int, *, least: int = 0, most: int) -> int:
        """Return a whole number within its range."""
        found = self._given.get(self._prefix + name, "")
        if found in ("", None):
            return default
        try:
            number = int(str(found)[:20])
        except ValueError:
            raise InvalidInput(f"{name} is {str(found)[:40]!r}; it is a whole number") from None
        if not least <= number <= most:
            raise InvalidInput(f"{name} is {number:,}; it is a number from {least:,} to {most:,}")
        return number

    def share(self, name: str, default: float, *, least: float = 0.0) -> float:
        """Return a number from *least* to 1."""
        found = self._given.get(self._prefix + name, "")
        if found == "":
            return default
        try:
            number = float(str(found)[:40])
        except ValueError:
            number = float("nan")
        if not least <= number <= 1:
            raise InvalidInput(f"{name} is {str(found)[:40]!r}; it is a number from {least:g} to 1")
        return number

    def choice(self, name: str, choices: Sequence[str], default: str) -> str:
        """Return one of several words."""
        found = self.text(name, default) or default
        if found not in choices:
            raise InvalidInput(f"{name} is {found[:40]!r}; choose one of: {', '.join(choices)}")
        return found

    def flag(self, name: str) -> bool:
        """Say whether a box is ticked."""
        return self._given.get(self._prefix + name) in ("1", "on", True)

    def filter(self, name: str = "where") -> dict[str, Any] | None:
        """Return a filter; None where there is none."""
        found = self._given.get(self._prefix + name)
        if isinstance(found, dict):
            return found or None
        text = self.text(name, most=LONGEST_FILTER).strip()
        if not text:
            return None
        try:
            read = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise InvalidInput(f'the filter is no JSON ({error}); write it like {{"lang": "en"}}') from None
        if not isinstance(read, dict):
            raise InvalidInput('the filter is no object; write it like {"lang": "en"}')
        return read or None

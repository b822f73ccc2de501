"""Name methods as those of the one class that users know."""

from __future__ import annotations

import inspect
from typing import TypeVar

Part = TypeVar("Part")


def methods_of_collection(part: type[Part]) -> type[Part]:
    """Name the methods of a part as methods of `Collection`.

    Python's own errors, reports and tracebacks name a method by the class that it was written in. Users know no parts.
    """
    for name, member in vars(part).items():
        if inspect.isfunction(member):
            member.__module__, member.__qualname__ = "reperio.collection.facade", f"Collection.{name}"
    return part

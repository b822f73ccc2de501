"""Checks of what users pass, before anything is touched."""

from __future__ import annotations

import difflib
import inspect
import operator
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from reperio.errors import InvalidInput, UnknownOption
from reperio.types import Limits, Metric

MAX_K = 10_000


def refuse_unknown(function: Callable[..., Any], unknown: Mapping[str, object]) -> None:
    """Raise `UnknownOption` for keyword arguments that *function* does not have, naming the nearest it has."""
    if not unknown:
        return
    name = next(iter(unknown))
    known = [
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is not parameter.VAR_KEYWORD and parameter.name != "self"
    ]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UnknownOption(f"{function.__name__}() has no option {name!r}; {hint}its options are {', '.join(known)}")


def require_k(k: Any, most: int = MAX_K) -> None:
    """Refuse a k that is no integer from 1 to *most*."""
    if type(k) is not int or not 1 <= k <= most:
        require_count("k", k)
        if k > most:
            require_within("k", k, most, "k")


def require_limits(limits: Any) -> Limits:
    """Return limits that can be kept; None stands for the defaults."""
    if limits is None:
        return Limits()
    if not isinstance(limits, Limits):
        raise InvalidInput(f"limits is a {type(limits).__name__}; pass reperio.Limits(k=…)")
    for name in ("k", "queries", "hits", "question", "batch", "text", "metadata", "idle", "heavy"):
        if name != "heavy" or limits.heavy is not None:
            require_count(f"limits.{name}", getattr(limits, name))
    return limits


def require_within(name: str, value: int, most: int, field: str) -> None:
    """Refuse what is beyond a limit, and say how it is raised."""
    if value > most:
        raise InvalidInput(
            f"{name} is {value:,}; at most {most:,} are allowed: raise it with open(limits=Limits({field}=…))"
        )


def require_count(name: str, value: Any) -> None:
    """Refuse what is not a positive integer."""
    if not _is_whole(value) or value < 1:
        raise InvalidInput(f"{name} is {value!r}; it must be an integer of at least 1")


def require_flag(name: str, value: Any) -> None:
    """Refuse what is neither True nor False: of "false", 0-d arrays and the like nobody knows what is meant."""
    if not isinstance(value, bool):
        raise InvalidInput(f"{name} is {value!r:.80}; it is True or False")


def is_iterable(value: Any) -> bool:
    """Say whether a value can be gone through; an array without dimensions says so of itself and cannot."""
    try:
        iter(value)
    except TypeError:
        return False
    return True


def to_path(name: str, value: Any) -> Path:
    """Return a path as users pass it, a leading ``~`` replaced by the home directory, or refuse what is none.

    Every path of the public interface comes through here, so that ``~`` means the same to Python, to the command line
    (where shells replace it in some places alone) and in a configuration file.
    """
    if not isinstance(value, str | os.PathLike) or not isinstance(text := os.fspath(value), str):
        raise InvalidInput(f"{name} is {value!r:.80}; pass a path: a string, or a pathlib.Path")
    if not text:
        raise InvalidInput(f"{name} is empty; pass a path, or '.' for the current directory")
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        raise InvalidInput(f"{name} is {text!r:.200}, which holds a lone surrogate, as no path can") from None
    if not text.startswith("~"):
        return Path(text)
    home = os.path.expanduser(text)  # noqa: PTH111  # Path's own raises an untyped error for who is not known
    if home == text:
        raise InvalidInput(
            f"{name} is {text!r:.200}, and there is no such home directory; for a file of that name "
            f"write {'./' + text!r:.200}"
        )
    return Path(home)


def require_page(limit: Any, offset: Any) -> None:
    """Refuse a limit that is no positive integer or None, and an offset that is no integer from 0 on."""
    if limit is not None:
        require_count("limit", limit)
    if not _is_whole(offset) or offset < 0:
        raise InvalidInput(f"offset is {offset!r}; it must be an integer of at least 0")


def require_recall(recall: Any) -> None:
    """Refuse what is not a number in (0, 1]."""
    if isinstance(recall, bool) or not isinstance(recall, (int, float)) or not 0 < recall <= 1:
        raise InvalidInput(f"recall is {recall!r}; it must be above 0 and at most 1, e.g. 0.95")


def to_metric(metric: Any) -> Metric:
    """Return the metric of a name, or refuse it with those there are."""
    try:
        return Metric(metric)
    except ValueError:
        choices = ", ".join(repr(member.value) for member in Metric)
        raise InvalidInput(f"metric is {metric!r}; choose {choices}") from None


def id_list(ids: Any) -> list[str]:
    """Return chunk ids as a list; one string is one id."""
    if isinstance(ids, str):  # the most frequent call
        wanted = [ids]
    elif isinstance(ids, Mapping):
        raise InvalidInput(f"ids is a {type(ids).__name__}; pass a chunk id or a list of them, and a filter as where=")
    elif isinstance(ids, (bytes, bytearray, memoryview)) or not is_iterable(ids):
        raise InvalidInput(f"ids is a {type(ids).__name__}; pass a chunk id or a list of them")
    else:
        wanted = list(ids)
    for chunk_id in wanted:
        if not isinstance(chunk_id, str):
            raise InvalidInput(f"ids holds {chunk_id!r:.80}; chunk ids are strings")
        if not chunk_id.isascii():
            require_unicode(chunk_id, f"the id {chunk_id!r:.80}")
    return wanted


def require_unicode(text: str, what: str) -> None:
    """Refuse a text with a lone surrogate, which no stored text can hold; *what* names it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"{what} holds a lone surrogate at position {error.start}, which is no Unicode text; decode its source "
            "with errors='replace'"
        ) from None


def _is_whole(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    try:
        operator.index(value)
    except TypeError:
        return False
    return True

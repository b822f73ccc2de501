"""The dict dialect of MongoDB and LangChain: to a tree, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from reperio.errors import InvalidInput
from reperio.filters.operands import Operator, is_several, plain_string
from reperio.filters.tree import (
    LOGICAL,
    MAX_DEPTH,
    MAX_KEY,
    MAX_NODES,
    MAX_STEPS,
    And,
    Condition,
    Filter,
    Not,
    Or,
    all_of,
    any_of,
    none_of,
    to_operator,
)


def parse(where: Mapping[str, Any] | Filter) -> Filter:
    """Return the tree of a filter.

    Args:
        where: in the dialect of docs/filters.md, e.g. ``{"lang": "en", "year": {"$gte": 2023}}``; a tree is returned
            as it is.

    Raises:
        InvalidInput: with what is wrong, and the nearest possible thing.
    """
    return _parse(where, 1)


def _parse(where: Any, depth: int) -> Filter:
    if type(where) in (Condition, And, Or, Not):
        return where  # type: ignore[no-any-return]  # one of those
    if depth > MAX_DEPTH:
        raise InvalidInput(f"where: nested more than {MAX_DEPTH} levels deep")
    return all_of([_entry(key, value, depth) for key, value in _items(where)])


def _entry(key: str, value: Any, depth: int) -> Filter:
    if key == "$not" and isinstance(value, Mapping):
        return ~_parse(value, depth + 1)
    if key in LOGICAL:
        children = [_parse(child, depth + 1) for child in _children(key, value)]
        return {"$and": all_of, "$or": any_of, "$not": none_of}[key](children)
    if key.startswith("$"):
        to_operator(key)  # refuses what does not exist, naming what does
        raise InvalidInput(f"where: {key} belongs inside a field, e.g. {{'year': {{{key!r}: …}}}}")
    return _field(parse_path(key), value, depth)


def _field(path: tuple[str, ...], value: Any, depth: int) -> Filter:
    if isinstance(value, Mapping):
        return all_of([_operation(path, name, operand, depth) for name, operand in _operations(path, value)])
    return Condition(path, Operator.IN if is_several(value) else Operator.EQ, value)


def _operation(path: tuple[str, ...], name: str, operand: Any, depth: int) -> Filter:
    if name != "$not":
        return Condition(path, to_operator(name), operand)
    if depth > MAX_DEPTH:
        raise InvalidInput(f"where: nested more than {MAX_DEPTH} levels deep")
    return ~_field(path, operand, depth + 1)


def _operations(path: tuple[str, ...], value: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    found = list(_items(value))
    if found and all(name.startswith("$") for name, _ in found):
        return iter(found)
    name = join_path(path)[:80]
    inside = f"{name}.{join_path((found[0][0],))}" if found else f"{name}.…"
    raise InvalidInput(
        f"where: {name!r} holds a dict without operators; for a field inside it write {inside[:160]!r}, to compare the "
        f"whole object {{{name!r}: {{'$eq': …}}}}"
    )


def _items(where: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(where, Mapping):
        raise InvalidInput(f"where: a filter is a dict such as {{'lang': 'en'}}, not a {type(where).__name__}")
    keys = list(islice(iter(where), MAX_NODES + 1))
    if len(keys) > MAX_NODES:
        raise InvalidInput(f"where: more than {MAX_NODES} conditions in one dict")
    return ((plain_string(key, "where: a key", MAX_KEY * MAX_STEPS), where[key]) for key in keys)


def _children(name: str, value: Any) -> Sequence[Any]:
    if not isinstance(value, (list, tuple)):
        raise InvalidInput(f"where: {name} takes a list of filters, not a {type(value).__name__}")
    if not value:
        raise InvalidInput(f"where: {name} has an empty list; leave it out, or say what shall match")
    if len(value) > MAX_NODES:
        raise InvalidInput(f"where: {name} has {len(value):,} filters; at most {MAX_NODES} are allowed")
    return list(islice(iter(value), MAX_NODES))


def parse_path(name: str) -> tuple[str, ...]:
    r"""Split a field name at its dots: ``author.name`` is the key ``name`` of the object ``author``.

    A dot, a backslash or a leading ``$`` that belongs to a key has a backslash before it: ``v1\.0``, ``\$price``.

    Raises:
        InvalidInput: a backslash before anything else.
    """
    if "\\" not in name:
        return tuple(name.split("."))
    steps, step = [], ""
    characters = iter(name)
    for character in characters:
        if character == ".":
            steps.append(step)
            step = ""
            continue
        if character == "\\":
            character = next(characters, "")
            if character not in (".", "\\", "$"):
                raise InvalidInput(
                    f"where: the backslash in {name[:80]!r} escapes nothing; write two for one that belongs to the key"
                )
        step += character
    return (*steps, step)


def join_path(path: Sequence[str]) -> str:
    """Return the field name of a path: what `parse_path` reads."""
    steps = (step.replace("\\", "\\\\").replace(".", "\\.") for step in path)
    name = ".".join(steps)
    return f"\\{name}" if name.startswith("$") else name


def to_dict(tree: Filter) -> dict[str, Any]:
    """Return a filter in the dialect that `parse` reads, of plain lists and dicts."""
    if isinstance(tree, Condition):
        return {join_path(tree.path): {tree.operator.value: _thawed(tree.value)}}
    if isinstance(tree, Not):
        return {"$not": to_dict(tree.child)}
    if not isinstance(tree, (And, Or)):
        raise InvalidInput(f"where: {type(tree).__name__} is no filter")
    if not tree.children:
        return {}
    return {"$and" if isinstance(tree, And) else "$or": [to_dict(child) for child in tree.children]}


def _thawed(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_thawed(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _thawed(item) for key, item in value.items()}
    return value

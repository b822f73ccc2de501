"""YAML and JSONL read so that every complaint can name its line."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reperio.errors import InvalidInput
from reperio.layout import read_regular, reason
from reperio.optional import OptionalImport

SUFFIXES = (".yaml", ".yml", ".jsonl")
MAX_BYTES = 64 << 20
"""A longer golden set is not read."""

_EXPANSION = 32  # characters that one of the file may come to on average, with its aliases written out, and...
_EXPANSION_LEAST = 4 << 20  # ...this many for all of it
_NODE = 16  # characters that a value is counted for, in addition to its own
_FEW_NUMBERS = 1000  # keys that are no texts: they hash to what their writer likes
_LONGEST_NUMBER = 1000  # characters; "1:1:1…", a number to the base 60, takes their square


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a file."""

    line: int  # where it begins, from 1; 0 for what is in no file
    keys: Mapping[Any, Place] = field(default_factory=dict)  # of an object, where its keys are; else all in its line

    def of(self, *keys: Any) -> Place:
        """Return the place of a key, or of one within its value."""
        found = self
        for key in keys:
            # A key that is no text, such as 7, is known by how it is written.
            found = found.keys.get(key) or found.keys.get(str(key)) or Place(found.line)
        return found


@dataclass(frozen=True, slots=True)
class Marked:
    """An object out of a file."""

    path: Path
    place: Place
    content: Mapping[Any, Any]
    name: str = ""  # how it is called in messages; empty for the whole

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value, whatever it is."""
        return self.content.get(key, default)

    def required(self, key: str, default: Any, holds: Callable[[Any], bool], what: str) -> Any:
        """Return a value of which *holds* is true, else refuse it by *what*; the default where the key is absent."""
        if key not in self.content:
            return default
        if not holds(self.content[key]):
            raise self.wrong(key, what)
        return self.content[key]

    def inside(self, key: str, what: str) -> Marked:
        """Return a value that is an object, else refuse it by *what*; an empty one where it is absent."""
        content = self.required(key, {}, lambda found: isinstance(found, dict), what)
        return Marked(self.path, self.place.of(key), content, key)

    def wrong(self, key: str, what: str, *, within: Any = None) -> InvalidInput:
        """Return the error that says what is wrong with a value, or with the whole for an empty *key*.

        *within* is the key in the value, an object, at which it is wrong; None for the value as a whole.
        """
        line = self.place.of(*([key] if within is None else [key, within])).line
        place = f"{self.path}:{line}" if line else str(self.path)
        prefix = f"{self.name}." if self.name else ""
        if not key:
            return InvalidInput(f"{place}: the entry {what}")
        shown = key in self.content and within is None and "unknown" not in what
        has = f" (it is {str(self.content[key])[:60]!r})" if shown else ""
        return InvalidInput(f"{place}: {prefix}{key} {what}{has}")


def read_marked(path: Path) -> tuple[Marked, list[Marked]]:
    """Return the settings and the entries under ``queries`` of a file; none where it has no such key."""
    if path.suffix.lower() not in SUFFIXES:
        raise InvalidInput(f"{path} has the suffix {path.suffix!r}; a golden set is {', '.join(SUFFIXES)}")
    try:
        text = read_regular(path, MAX_BYTES, follow=True).decode("utf-8-sig")
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {reason(error)}") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path}: byte {error.start} is no UTF-8; convert the file") from None
    return _read_jsonl(path, text) if path.suffix.lower() == ".jsonl" else _read_yaml(path, text)


def _read_jsonl(path: Path, text: str) -> tuple[Marked, list[Marked]]:
    settings = Marked(path, Place(1), {})
    entries: list[Marked] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            found = json.loads(line, object_pairs_hook=_without_doubles)
        except (ValueError, RecursionError) as error:
            raise InvalidInput(f"{path}:{number}: no valid JSON ({error}); every line is an object") from None
        if not isinstance(found, dict):
            raise InvalidInput(f"{path}:{number}: {line.strip()[:60]!r} is no object; every line is one")
        if "query" not in found and not entries and not settings.content:
            settings = Marked(path, Place(number), found)
        else:
            entries.append(Marked(path, Place(number), found))
    if "queries" in settings.content:
        raise settings.wrong("queries", "belongs into YAML; in JSONL every question has a line of its own")
    return settings, entries


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
        raise ValueError(f"the key {twice!r:.80} comes twice")
    return found


def _read_yaml(path: Path, text: str) -> tuple[Marked, list[Marked]]:
    with OptionalImport("a golden set in YAML", "PyYAML", extra="gate"):
        import yaml
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        _Survey(path, _EXPANSION_LEAST + _EXPANSION * len(text)).size(root)
        content = _constructed(loader, path, root)
        settings = Marked(path, _place(root, root), content)
        if "queries" not in content:  # under another name, say, which the settings are refused for
            return settings, []
        form = "must be a list of questions"
        questions = settings.required("queries", [], lambda found: isinstance(found, list), form)
        # The last one, as it is taken: a merged mapping may have had others.
        nodes = {key.value: value for key, value in root.value if key.id == "scalar"}["queries"].value
        entries = []
        for node, content in zip(nodes, questions, strict=True):
            if not isinstance(content, dict):
                raise _wrong(path, node, "a question must be an object (key: value)")
            entries.append(Marked(path, _place(node, node), content))
        return settings, entries
    except RecursionError:
        raise InvalidInput(f"{path}: no valid YAML (it is nested too deeply, or within itself)") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else 1
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise InvalidInput(f"{path}:{line}: no valid YAML ({problem})") from None


class _Survey:
    """Goes through a file's nodes, each once, before anything is made of them.

    It measures what they come to with their aliases written out, without writing them out, and refuses what YAML's own
    reader takes without a word, or takes ages for.
    """

    def __init__(self, path: Path, most: int) -> None:
        self._path, self._most = path, most  # characters that all of it may come to
        self._sizes: dict[int, int] = {}  # by node; 0 for one that is being measured

    def size(self, node: Any) -> int:
        """Return the size of a node, or refuse it."""
        if node is None:
            return 0
        known = self._sizes.get(id(node))
        if known is None:
            self._sizes[id(node)] = 0
            known = self._sizes[id(node)] = self._measured(node)
        elif not known:
            raise _wrong(self._path, node, "no valid YAML (it is nested too deeply, or within itself)")
        if known > self._most:
            what = "aliases of aliases come to many times the file's size; write out what is meant"
            raise _wrong(self._path, node, what)
        return known

    def _measured(self, node: Any) -> int:
        if node.id == "scalar":
            if node.tag in _NUMBERS and len(node.value) > _LONGEST_NUMBER:
                raise _wrong(self._path, node, f"a number of {len(node.value):,} characters; put a text in quotes")
            return _NODE + len(node.value)
        parts = node.value
        if node.id == "mapping":
            self._require_keys(node)
            parts = [part for pair in parts for part in pair]
        total = _NODE
        for part in parts:
            total += self.size(part)
            if total > self._most:  # what is larger than allowed needs no exact size
                break
        return total

    def _require_keys(self, node: Any) -> None:
        if sum(key.tag != _TEXT for key, _ in node.value) > _FEW_NUMBERS:
            what = f"more than {_FEW_NUMBERS:,} keys that are no texts; put them in quotes"
            raise _wrong(self._path, node, what)
        # YAML's own reader takes the last of equal keys, and a question would be lost without a word.
        seen: set[str] = set()
        for key, _ in node.value:
            if key.id == "scalar":
                if key.value in seen:
                    raise _wrong(self._path, key, f"the key {key.value!r} comes twice")
                seen.add(key.value)


_TEXT = "tag:yaml.org,2002:str"
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp")


def _wrong(path: Path, node: Any, what: str) -> InvalidInput:
    return InvalidInput(f"{path}:{node.start_mark.line + 1 if node is not None else 1}: {what}")


def _constructed(loader: Any, path: Path, root: Any) -> dict[Any, Any]:
    if root is None or root.id != "mapping":
        raise _wrong(path, root, "the file must be an object (key: value)")
    try:
        found: dict[Any, Any] = loader.construct_mapping(root, deep=True)
    except (ValueError, TypeError, OverflowError, KeyError, AttributeError) as error:  # of a number, a date, a set
        raise _wrong(path, root, f"the file holds a value that cannot be ({error!s:.200}); quote it") from None
    return found


def _place(key: Any, value: Any) -> Place:
    """Return where a key is, and where the keys of its value are."""
    pairs = value.value if value.id == "mapping" else ()
    keys = {each.value: _place(each, inner) for each, inner in pairs if each.id == "scalar"}
    return Place(key.start_mark.line + 1, keys)

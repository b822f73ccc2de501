"""Change single values of a YAML text, and leave every other character as a person wrote it, comments included.

A library that writes YAML again keeps comments at best, and not the form. So only the characters that a change is about
are replaced, where PyYAML's nodes say that they are. Whoever writes the result reads it back first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from reperio.optional import OptionalImport


class Splicer:
    """The changes to one text, applied together.

    Args:
        text: YAML whose root is an object with a list under ``queries``.
        written: returns a value as YAML that fits into a line.
    """

    def __init__(self, text: str, written: Callable[[Any], str]) -> None:
        with OptionalImport("a golden set in YAML", "PyYAML", extra="gate"):
            import yaml
        self._text, self._written = text, written
        self._splices: list[tuple[int, int, str]] = []
        self._end = "\r\n" if "\r\n" in text else "\n"
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        self.entries: Sequence[Any] = next(value for key, value in root.value if key.value == "queries").value

    def result(self) -> str:
        """Return the text with all changes."""
        text = self._text
        # From behind, so that places before stay true; of two at one place, the later one is put behind the earlier.
        ordered = sorted(enumerate(self._splices), key=lambda each: (*each[1][:2], each[0]), reverse=True)
        for _, (start, stop, fresh) in ordered:
            text = text[:start] + fresh + text[stop:]
        return text

    def set(self, entry: Any, key: str, value: Any) -> None:
        """Give a key of an entry another value; one that is absent is put behind the others."""
        known = _find(entry, key)
        if known is not None:
            self._splice(known[1].start_mark.index, self._stop(known[1]), self._written(value))
        elif entry.flow_style:
            self._append_in_line(entry, f"{key}: {self._written(value)}")
        else:
            self._insert_line(self._stop(entry), entry.value[0][0].start_mark.column, f"{key}: {self._written(value)}")

    def drop(self, entry: Any, key: str) -> None:
        """Take a key with its value out of an entry."""
        place = next((at for at, (each, _) in enumerate(entry.value) if each.value == key), None)
        if place is not None:
            self._drop_parts(entry, [place])

    def remove(self, entry: Any) -> None:
        """Take an entry out of the list."""
        start = self._line_start(entry.start_mark.index)
        self._splice(start, self._line_stop(self._stop(entry)), "")

    def names(self, entry: Any, key: str, change: Mapping[str, int | None]) -> None:
        """Change grades by name, or a list of names, item by item; None takes one out.

        A list becomes grades where one of them is not 1. What is left empty is dropped with its key.
        """
        found = _find(entry, key)
        if found is None:
            if fresh := {name: grade for name, grade in change.items() if grade is not None}:
                self.set(entry, key, _plain(fresh))
            return
        node = found[1]
        if node.id == "scalar":  # one name, without a list
            every = {node.value: 1, **change}
            self.set(entry, key, _plain(every)) if any(every.values()) else self.drop(entry, key)
            return
        listed = [each.value if node.id == "sequence" else each[0].value for each in node.value]
        if all(change.get(name, 1) is None for name in listed):
            self.drop(entry, key) if not any(change.values()) else self.set(entry, key, _plain(change))
            return
        self._change_items(node, listed, change)

    def _change_items(self, node: Any, listed: Sequence[str], change: Mapping[str, int | None]) -> None:
        graded = node.id == "mapping" or any(grade not in (None, 1) for grade in change.values())
        becomes = graded and node.id == "sequence"
        if becomes and node.flow_style:
            self._splice(node.start_mark.index, node.start_mark.index + 1, "{")
            self._splice(node.end_mark.index - 1, node.end_mark.index, "}")
        places = [at for at, name in enumerate(listed) if name in change and change[name] is None]
        self._drop_parts(node, places)
        for at, (name, item) in enumerate(zip(listed, node.value, strict=True)):
            if at in places:
                continue
            grade = change.get(name)
            if node.id == "mapping" and grade is not None:
                self._splice(item[1].start_mark.index, self._stop(item[1]), str(grade))
            elif becomes:
                self._splice(self._stop(item), self._stop(item), f": {grade or 1}")
                if not node.flow_style:  # as deep as its text, which is deeper than the key that it belongs to
                    dash = self._text.rindex("-", 0, item.start_mark.index)
                    self._splice(dash, dash + 1, " ")
        for name, grade in change.items():
            if name not in listed and grade is not None:
                self._add_item(node, f"{self._written(name)}: {grade}" if graded else self._written(name), becomes)

    def _add_item(self, node: Any, item: str, becomes: bool) -> None:
        if node.flow_style:
            self._append_in_line(node, item)
            return
        last = node.value[-1]
        first = last[0] if node.id == "mapping" else last
        column = first.start_mark.column
        dash = ""
        if node.id == "sequence" and not becomes:
            at = self._text.rindex("-", 0, first.start_mark.index)
            dash, column = "- ", at - self._line_start(at)
        self._insert_line(self._stop(node), column, dash + item)

    def _append_in_line(self, node: Any, item: str) -> None:
        bracket = node.end_mark.index - 1
        before = self._text[:bracket].rstrip()
        apart = "" if before[-1] in "[{" else " " if before[-1] == "," else ", "
        self._splice(bracket, bracket, apart + item)

    def _insert_line(self, after: int, column: int, line: str) -> None:
        stop = self._line_stop(after)
        ended = self._text[:stop].endswith("\n")
        self._splice(stop, stop, f"{'' if ended else self._end}{' ' * column}{line}{self._end}")

    def _drop_parts(self, node: Any, places: Sequence[int]) -> None:
        """Take parts out of an object or a list; the others, of which there are some, close up."""
        parts = self._parts(node)
        kept = [at for at in range(len(parts)) if at not in places]
        for at in places:
            start, stop = parts[at]
            after, before = at + 1, max((each for each in kept if each < at), default=None)
            line = self._line_start(start)
            shares = node.id == "mapping" and bool(self._text[line:start].strip())  # the dash of its entry is before it
            if after < len(parts) and (node.flow_style or shares):
                self._splice(start, parts[after][0], "")
            elif not node.flow_style:
                self._splice(line, self._line_stop(stop), "")
            elif before is not None:  # the last: with the comma before it, up to which those before it are gone
                self._splice(parts[before][1] if before == at - 1 else start, stop, "")

    def _parts(self, node: Any) -> list[tuple[int, int]]:
        if node.id == "mapping":
            return [(key.start_mark.index, self._stop(value)) for key, value in node.value]
        return [(each.start_mark.index, self._stop(each)) for each in node.value]

    def _stop(self, node: Any) -> int:
        """Return where a node's own characters end; a block's mark lies behind the comments that follow it."""
        if node.id != "scalar" and not node.flow_style and node.value:
            last = node.value[-1]
            return max(self._stop(each) for each in (last if isinstance(last, tuple) else (last,)))
        stop: int = node.end_mark.index
        while stop > node.start_mark.index and self._text[stop - 1] in " \t\r\n":
            stop -= 1
        return stop

    def _line_start(self, at: int) -> int:
        return self._text.rfind("\n", 0, at) + 1

    def _line_stop(self, at: int) -> int:
        found = re.compile(r"\n|\Z").search(self._text, at)
        assert found is not None  # the end is always there
        return found.end()

    def _splice(self, start: int, stop: int, fresh: str) -> None:
        self._splices.append((start, stop, fresh))


def _find(entry: Any, key: str) -> tuple[Any, Any] | None:
    """Return a key of an entry with its value, as nodes."""
    return next(((each, value) for each, value in entry.value if each.id == "scalar" and each.value == key), None)


def _plain(change: Mapping[str, int | None]) -> list[str] | dict[str, int]:
    """Return names as a list, or with their grades where one is not 1."""
    graded = {name: grade for name, grade in change.items() if grade is not None}
    return list(graded) if set(graded.values()) == {1} else graded

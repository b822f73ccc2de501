"""Judge questions of a golden set in its file: grades, what is wrong, drafts confirmed; nothing else changes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from reperio.errors import InvalidInput
from reperio.evaluation.golden.marked import MAX_BYTES
from reperio.evaluation.golden.questions import DRAFT, GoldenQuery, GoldenSet, read_golden
from reperio.evaluation.golden.splicing import Splicer
from reperio.evaluation.golden.turns import turn
from reperio.evaluation.golden.writing import add_query_in_turn, as_value, is_lines, write_checked
from reperio.layout import read_regular, storage_errors, write_atomically

WRONG = 0
"""The grade of what was looked at and does not answer."""


@dataclass(frozen=True, slots=True)
class Change:
    """Name the changes to make to one question.

    Attributes:
        marks: grades by name of a chunk, or of a document where the question expects documents: 1 and more for what
            answers, `WRONG` for what does not; None takes the mark back.
        text: another question; None for the same.
        confirmed: whether a person has looked at it, so that it is no draft any more.
        removed: whether it goes.
        documents: whether the marks are of documents, for a question that expects nothing yet.
    """

    marks: Mapping[str, int | None] = field(default_factory=dict)
    text: str | None = None
    confirmed: bool = False
    removed: bool = False
    documents: bool = False


@dataclass(frozen=True, slots=True)
class Undo:
    """Keep the content by which a change is taken back.

    Attributes:
        path: of the golden set.
        before: what was in the file; None where there was none.
        after: digest of what was written; None where the file went.
        id: of the question, as it is called since.
        inverse: the change that takes it back where others have written since; None where there is none.
        written: what was written of the question: its marks, by name, and its text where that was changed. What others
            have written since in its place is theirs, and stays.
    """

    path: Path
    before: bytes | None
    after: str | None
    id: str
    inverse: Change | None
    written: Change = field(default_factory=Change)


def judge(path: str | os.PathLike[str], query: GoldenQuery) -> Undo:
    """Append a question with its judgements; a file that is not there is begun."""
    with turn(path) as target:
        before = _content(target)
        add_query_in_turn(target, query)
        marks = dict.fromkeys([*query.grades, *query.wrong], None)
        written = Change(marks=_marks(query, marks))
        return Undo(target, before, _digest(_content(target)), query.id, Change(marks=marks), written)


def change_question(path: str | os.PathLike[str], name: str, change: Change) -> Undo:
    """Change one question in its file; every other character stays as it is, comments included.

    Args:
        path: of the golden set.
        name: id of the question.
        change: what is to be changed. A question that is left without any mark goes.

    Raises:
        InvalidInput: there is no such question, or the result would be none; or the file's form cannot be changed in
            place, as where a question is taken from another by an alias: by hand then. The file is as it was.
        StorageFailed: it cannot be written.
    """
    with turn(path) as target:
        before = _content(target)
        golden = read_golden(target)
        place = next((at for at, each in enumerate(golden.queries) if each.id == name), None)
        if place is None or before is None:
            raise InvalidInput(f"{target} has no question {name!r:.200} any more; load the page again")
        old = golden.queries[place]
        fresh = changed(old, change)
        if fresh is None and len(golden.queries) == 1:
            raise InvalidInput(
                f"{target} would be left without a question; mark another chunk first, or delete the file"
            )
        text = before.decode("utf-8-sig")
        write = _lines_changed if is_lines(target) else _yaml_changed
        content = write(text, place, old, fresh)
        queries = [*golden.queries[:place], *([] if fresh is None else [fresh]), *golden.queries[place + 1 :]]
        cure = f"{target} cannot be changed in place: {name!r:.80} is written in a form that is shared or unusual"
        mark = "\ufeff" if before.startswith(b"\xef\xbb\xbf") else ""
        write_checked(target, mark + content, queries, by_hand=f"{cure}; change it by hand")
        written = Change(marks=_marks(fresh or old, change.marks), text=change.text)
        return Undo(target, before, _digest(_content(target)), (fresh or old).id, _inverse(old, fresh, change), written)


def undo(done: Undo) -> None:
    """Take a change back: to the byte where nobody has written since, else by the opposite change.

    Raises:
        InvalidInput: others have written since, and there is no opposite, or they have changed the same.
        StorageFailed: the file cannot be written.
    """
    with turn(done.path) as target:
        if _digest(_content(target)) == done.after:
            if done.before is None:
                with storage_errors(target, "remove"):
                    target.unlink()
            else:
                write_atomically(target, done.before, mode=target.stat().st_mode & 0o777)
            return
        if done.inverse is None or not _is_as_written(target, done):
            raise InvalidInput(f"{done.path} was changed by others since; this cannot be taken back, change it by hand")
    change_question(done.path, done.id, done.inverse)


def _is_as_written(path: Path, done: Undo) -> bool:
    found = next((each for each in read_golden(path).queries if each.id == done.id), None)
    if found is None:  # gone, which the change back tells
        return True
    same = done.written.text in (None, found.text)
    return same and _marks(found, done.written.marks) == done.written.marks


def changed(query: GoldenQuery, change: Change) -> GoldenQuery | None:
    """Return a question as it is after a change; None where it goes."""
    if change.removed:
        return None
    by_document = bool(query.documents) or (change.documents and not query.expect)
    grades, wrong = dict(query.grades), dict.fromkeys(query.wrong)
    for name, grade in change.marks.items():
        if grade is None or grade == WRONG:
            grades.pop(name, None)
        if grade != WRONG:
            wrong.pop(name, None)
        if grade == WRONG:
            wrong.setdefault(name)
        elif grade is not None:
            grades[name] = grade
    if change.marks and query.nothing_above is not None and grades:
        raise InvalidInput(
            f"{query.text!r:.80} should find nothing (nothing_above), so that nothing can be right for it"
        )
    if not grades and not wrong and query.nothing_above is None:
        return None
    text = query.text if change.text is None else change.text
    return replace(
        query,
        id=text if query.id == query.text else query.id,
        text=text,
        expect={} if by_document else grades,
        documents=grades if by_document else {},
        wrong=tuple(wrong),
        tags=tuple(each for each in query.tags if not (change.confirmed and each == DRAFT)),
    )


def _inverse(old: GoldenQuery, fresh: GoldenQuery | None, change: Change) -> Change | None:
    if fresh is None or change.confirmed:
        return None
    return Change(
        marks=_marks(old, change.marks), text=None if change.text is None else old.text, documents=change.documents
    )


def _marks(query: GoldenQuery, names: Iterable[str]) -> dict[str, int | None]:
    """Return how these chunks or documents are judged; None for those that are not."""
    known = {**dict.fromkeys(query.wrong, WRONG), **query.grades}
    return {name: known.get(name) for name in names}


def _yaml_changed(text: str, place: int, old: GoldenQuery, fresh: GoldenQuery | None) -> str:
    splicer = Splicer(text, as_value)
    entry = splicer.entries[place]
    if fresh is None:
        splicer.remove(entry)
        return splicer.result()
    if fresh.text != old.text:
        splicer.set(entry, "query", fresh.text)
    for key, before, now in _named(old, fresh):
        difference: dict[str, int | None] = {name: grade for name, grade in now.items() if before.get(name) != grade}
        difference |= {name: None for name in before if name not in now}
        if difference:
            splicer.names(entry, key, difference)
    if fresh.tags != old.tags:
        splicer.names(entry, "tags", {DRAFT: None})
    return splicer.result()


def _lines_changed(text: str, place: int, old: GoldenQuery, fresh: GoldenQuery | None) -> str:
    lines = text.split("\n")
    filled = [at for at, line in enumerate(lines) if line.strip()]
    settings = "query" not in json.loads(lines[filled[0]])
    at = filled[place + settings]
    if fresh is None:
        return "\n".join([*lines[:at], *lines[at + 1 :]])
    content: dict[str, Any] = json.loads(lines[at])
    content["query"] = fresh.text
    for key, before, now in _named(old, fresh):
        if before == now:
            continue
        kept = isinstance(content.get(key), dict)
        content[key] = now if kept or set(now.values()) != {1} else list(now)
        if not now:
            del content[key]
    if fresh.tags != old.tags:
        content["tags"] = list(fresh.tags)
        if not fresh.tags:
            del content["tags"]
    lines[at] = as_value(content) + ("\r" if lines[at].endswith("\r") else "")
    return "\n".join(lines)


def _named(old: GoldenQuery, fresh: GoldenQuery) -> Sequence[tuple[str, Mapping[str, int], Mapping[str, int]]]:
    return (
        ("expect", old.expect, fresh.expect),
        ("expect_documents", old.documents, fresh.documents),
        ("wrong", dict.fromkeys(old.wrong, 1), dict.fromkeys(fresh.wrong, 1)),
    )


def _content(path: Path) -> bytes | None:
    if not path.exists():
        return None
    with storage_errors(path, "read"):
        return read_regular(path, MAX_BYTES, follow=True)


def _digest(content: bytes | None) -> str | None:
    return None if content is None else hashlib.sha256(content).hexdigest()


def question_for(golden: GoldenSet, text: str, where: Mapping[str, Any] | None) -> GoldenQuery | None:
    """Return the question with this text and filter; None where a golden set has none.

    White space around it does not count: a text of several lines in YAML ends with a line break, and a page has none.
    """
    same = [each for each in golden.queries if each.text.strip() == text.strip() and each.where == where]
    return next((each for each in same if each.text == text), same[0] if same else None)


def new_id(golden: GoldenSet, text: str) -> str:
    """Return an id for a new question: its text, numbered where that is taken, as with another filter."""
    known = {each.id for each in golden.queries}
    name, number = text, 1
    while name in known:
        number += 1
        name = f"{text} ({number})"
    return name

"""Write drafted golden sets, and append questions to those there are."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from reperio.arguments import to_path
from reperio.errors import InvalidInput
from reperio.evaluation.golden.drafts import SOURCE, Draft
from reperio.evaluation.golden.marked import SUFFIXES, Marked, Place
from reperio.evaluation.golden.questions import GoldenQuery, GoldenSet, read_golden, to_query
from reperio.evaluation.golden.turns import turn
from reperio.layout import create_file, storage_errors, write_atomically

# Characters that YAML refuses or ends a line at, and those that UTF-8 cannot write.
_SPECIAL = "[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]"
# Texts are matched as well, so that what looks like a number within one is left alone.
_TEXT_OR_SMALL = re.compile(r'"(?:[^"\\]|\\.)*"|(?<![\d.])(-?\d+)(e[-+]\d+)')
_SHOWN_CHARACTERS = 90  # of a text in a comment
_HEADER = """\
# Drafted by `reperio golden init`. Correct every question and what it expects, and take the tag `draft` off.
# Uncorrected drafts mislead: a draft is a sentence of what it expects, or expects what is found today, so that today's
# search looks perfect and a better one looks worse. Ask as users ask, and expect what answers.
defaults: {k: 10}
# thresholds: {nDCG@10: 0.75, R@10: 0.9}
"""
_STARTED = """\
# A golden set: questions and what should come; `reperio gate` judges a collection by it.
defaults: {k: 10}
# thresholds: {nDCG@10: 0.75, R@10: 0.9}
"""


def write_draft(path: Path, drafts: Sequence[Draft], *, document_field: str = "") -> None:
    """Write a new golden set; in YAML, what was found for a question is next to it as a comment.

    *document_field* is for questions to come that expect documents.
    """
    path = require_new(path)
    lines, fresh = is_lines(path), GoldenSet((), document_field=document_field)
    entries = "".join(("" if lines else _comments(each)) + _entry(path, each.query, fresh) for each in drafts)
    write_checked(path, _beginning(path, _HEADER, fresh) + entries, [each.query for each in drafts])


def require_new(path: Path) -> Path:
    """Return the path of a new golden set, or refuse it, before anything is drafted."""
    path = to_path("path", path)
    if path.exists():
        raise InvalidInput(f"{path} exists; choose another name, or add to it: reperio golden add")
    if path.suffix.lower() not in SUFFIXES:
        raise InvalidInput(f"{path} has the suffix {path.suffix!r}; a golden set is {', '.join(SUFFIXES)}")
    return path


def begun(path: Path) -> GoldenSet:
    """Return the golden set that a question is to be added to; one without questions where there is none yet."""
    path = to_path("path", path)
    if path.exists():
        return read_golden(path)
    require_new(path)
    return GoldenSet((), document_field=SOURCE, path=str(path))


def add_query(path: Path, query: GoldenQuery) -> None:
    """Append a question to a golden set; what is in the file stays as it is, comments included.

    A file that is not there is begun. What the file's defaults say otherwise is written with the question. A form that
    cannot be appended to, because the questions are not its last part, is refused.
    """
    with turn(path) as target:
        add_query_in_turn(target, query)


def add_query_in_turn(path: Path, query: GoldenQuery) -> None:
    """Append a question as `add_query` does, to a file that nobody else writes meanwhile."""
    before = begun(path)
    if any(each.id == query.id for each in before.queries):
        raise InvalidInput(f"{path} has the question {query.id!r} already; give this one an id of its own: --id")
    kinds = sum((bool(query.expect), bool(query.documents), query.nothing_above is not None))
    if kinds != 1 and not (query.wrong and not kinds):
        takes = "chunk ids (--expect), documents (--expect-document) or a score (--nothing-above)"
        raise InvalidInput(f"a question takes {takes}: one of them")
    if query.documents and not before.document_field:
        cure = "name the metadata field with a chunk's document there, e.g. source"
        raise InvalidInput(f"{path} has no document_field; {cure}")
    added = Marked(Path("the question to be added"), Place(0), _content(query, before))
    to_query(added, {"mode": before.mode, "where": before.where}, before.document_field)
    _append(path, before, [Draft(query)])


def fitting(path: Path, golden: GoldenSet, drafts: Sequence[Draft]) -> list[Draft]:
    """Return the drafts that a golden set can hold: documents need its document_field; ids must be new."""
    known = {query.id for query in golden.queries}
    found = [each for each in drafts if each.query.id not in known]
    wants = next((each for each in found if each.query.documents), None)
    if wants is not None and not golden.document_field:
        name = next(iter(wants.query.documents))
        raise InvalidInput(
            f"{path} has no document_field, and the drafts expect documents such as {name!r}; write "
            f"document_field: {SOURCE} into it, at the beginning"
        )
    return found


def write_queries(path: Path, queries: Sequence[GoldenQuery], *, document_field: str = "") -> None:
    """Write a new golden set of questions that people have judged."""
    path = require_new(path)
    fresh = GoldenSet((), document_field=document_field)
    entries = "".join(_entry(path, each, fresh) for each in queries)
    write_checked(path, _beginning(path, _STARTED, fresh) + entries, queries)


def append_drafts(path: Path, drafts: Sequence[Draft]) -> None:
    """Append drafted questions to a golden set, in YAML with what was found as comments; all of them or none."""
    with turn(path) as target:
        _append(target, read_golden(target), drafts)


def _append(path: Path, before: GoldenSet, drafts: Sequence[Draft]) -> None:
    if before.queries:
        content = path.read_text(encoding="utf-8-sig")
        content += "" if content.endswith("\n") else "\n"
    else:
        named = any(each.query.documents for each in drafts)
        content = _beginning(path, _STARTED, before if named else replace(before, document_field=""))
    # YAML wants one indentation for all questions, so the last one tells that of the next.
    indents = re.findall(r"^([ \t]*)- ", content, flags=re.M)
    indent = indents[-1] if indents else "" if before.queries else "  "
    for each in drafts:
        comments = "" if is_lines(path) else _comments(each, indent)
        content += comments + _entry(path, each.query, before, indent=indent)
    write_checked(path, content, [*before.queries, *(each.query for each in drafts)])


def is_lines(path: Path) -> bool:
    """Say whether a golden set is JSON lines, and not YAML."""
    return path.suffix.lower() == ".jsonl"


def _beginning(path: Path, header: str, golden: GoldenSet) -> str:
    """Return what stands in a new file before its questions."""
    named: dict[str, Any] = {"document_field": golden.document_field} if golden.document_field else {}
    if is_lines(path):
        return json.dumps({"defaults": {"k": golden.k}, **named}) + "\n"
    return header + "".join(f"{key}: {as_value(value)}\n" for key, value in named.items()) + "queries:\n"


def write_checked(path: Path, content: str, queries: Sequence[GoldenQuery], *, by_hand: str = "") -> None:
    """Write what reads back as these questions, or nothing; *by_hand* tells why else, and what to do."""
    # A second file is read first: if it is wrong, the one that is there must not have been touched.
    trial = path.with_name(f".{path.stem}.trial{path.suffix}")
    by_hand = by_hand or f"{path} cannot be appended to: its questions are not its last part; add it by hand"
    with storage_errors(path, "write"):
        mode = path.stat().st_mode & 0o777 if path.exists() else None
        with open(create_file(trial), "wb") as file:
            file.write(content.encode())
        try:
            read = read_golden(trial).queries
        except InvalidInput as error:
            raise InvalidInput(f"{by_hand} [{str(error).replace(str(trial), str(path))}]") from None
        finally:
            trial.unlink(missing_ok=True)
        if [_plain(each) for each in read] != [_plain(each) for each in queries]:
            raise InvalidInput(by_hand)
        write_atomically(path, content.encode(), mode=mode)


def _plain(query: GoldenQuery) -> GoldenQuery:
    """Return a question as every file would hold it, wherever it is in there."""
    where = None if query.where is None else json.loads(json.dumps(query.where, default=str))
    return replace(query, where=where, line=0)


def _content(query: GoldenQuery, golden: GoldenSet) -> dict[str, Any]:
    """Return what is written of a question: not what the file's defaults say as well."""
    content: dict[str, Any] = {"query": query.text}
    if query.id != query.text:
        content["id"] = query.id
    for name, grades in (("expect", query.expect), ("expect_documents", query.documents)):
        if grades:
            content[name] = list(grades) if set(grades.values()) == {1} else dict(grades)
    if query.wrong:
        content["wrong"] = list(query.wrong)
    if query.where != golden.where:
        content["where"] = None if query.where is None else dict(query.where)
    if query.mode != golden.mode:
        content["mode"] = query.mode
    if query.nothing_above is not None:
        content["nothing_above"] = query.nothing_above
    if query.tags:
        content["tags"] = list(query.tags)
    return content


def _entry(path: Path, query: GoldenQuery, golden: GoldenSet, *, indent: str = "  ") -> str:
    content = _content(query, golden)
    if is_lines(path):
        return as_value(content) + "\n"
    # A JSON value is a YAML value: quoting is left to a writer that is right about it.
    lines = [f"{name}: {as_value(value)}" for name, value in content.items()]
    return f"{indent}- {lines[0]}\n" + "".join(f"{indent}  {line}\n" for line in lines[1:])


def as_value(value: Any) -> str:
    """Return a value as JSON in one line that is YAML as well."""
    text = json.dumps(value, ensure_ascii=False)
    # JSON leaves these as they are; YAML ends a line at some and refuses others, and UTF-8 cannot write half a pair.
    text = re.sub(_SPECIAL, lambda found: f"\\u{ord(found.group()):04x}", text)
    # To YAML, 1e-07 is a text and 1.0e-07 a number.
    return re.sub(_TEXT_OR_SMALL, lambda found: f"{found[1]}.0{found[2]}" if found[1] else found[0], text)


def _comments(drafted: Draft, indent: str = "  ") -> str:
    lines = [f"why {as_value(drafted.why)}"] if drafted.why else []
    for pooled in drafted.found:
        shown = f"{pooled.chunk.id}: {' '.join(pooled.chunk.text.split())[:_SHOWN_CHARACTERS]}"
        lines.append(f"found {'by ' + ', '.join(pooled.by) + ' ' if pooled.by else ''}{as_value(shown)}")
    return "".join(f"{indent}# {line}\n" for line in lines)

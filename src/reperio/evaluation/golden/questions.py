"""The golden set: questions and what should come, as a person wrote them; `marked` reads the files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from reperio.arguments import nearest, to_path
from reperio.errors import InvalidInput
from reperio.evaluation.golden.marked import Marked, read_marked
from reperio.evaluation.golden.vectors import read_vectors, to_vector
from reperio.evaluation.limits import GateLimits, is_number
from reperio.evaluation.statistics import measures
from reperio.filters import Filter, parse_path
from reperio.filters import parse as parse_filter
from reperio.query_log.reading import MODES

DRAFT = "draft"
"""Tag of every drafted question, taken off by the person who has looked at it."""

_SHOWN = 20  # known names in a complaint
_HITS = "must be an integer from 1 to 10,000"
_SETTINGS = ("defaults", "thresholds", "tags", "limits", "document_field", "vectors", "queries")
_DEFAULTS = ("k", "mode", "where")
_QUERY = ("id", "query", "expect", "expect_documents", "wrong", "nothing_above", "where", "mode", "tags", "vector")


@dataclass(frozen=True, slots=True)
class GoldenQuery:
    """One question.

    Attributes:
        id: unique in the set; the question itself where none was given.
        text: the question.
        expect: grades of the expected chunk ids, 1 or more.
        documents: grades of the expected documents, by their name in `GoldenSet.document_field`.
        wrong: chunk ids, or documents where documents are expected, that a person has looked at and that do not answer.
        nothing_above: no hit may score more; None where something is expected.
        where: filter; None for none.
        mode: "dense", "lexical" or "hybrid".
        tags: groups it belongs to.
        vector: the question as a vector, for collections of ready vectors; None where an embedder makes it.
        line: where it is in the file; 0 for one made in Python.
    """

    id: str
    text: str
    expect: Mapping[str, int] = field(default_factory=dict)
    documents: Mapping[str, int] = field(default_factory=dict)
    nothing_above: float | None = None
    where: Mapping[str, Any] | None = None
    mode: str = "dense"
    tags: tuple[str, ...] = ()
    vector: tuple[float, ...] | None = None
    line: int = 0
    wrong: tuple[str, ...] = ()

    @property
    def grades(self) -> Mapping[str, int]:
        """Expected ids, of chunks or of documents."""
        return self.expect or self.documents

    @property
    def filter(self) -> Filter | None:
        """The filter, parsed."""
        return None if self.where is None else parse_filter(self.where)


@dataclass(frozen=True, slots=True)
class GoldenSet:
    """Questions, and what must hold of the answers.

    Attributes:
        queries: the questions.
        thresholds: least mean by measure, over all labelled questions.
        tags: least mean by tag and measure.
        limits: from where on something else is wrong; None for the defaults.
        k: hits asked for.
        document_field: path of the metadata field that names a chunk's document; empty where no question needs one.
        path: of the file; empty for a set made in Python.
        mode, where: of a question that is added and says nothing else, as of those in the file.
    """

    queries: Sequence[GoldenQuery]
    thresholds: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    k: int = 10
    document_field: str = ""
    path: str = ""
    limits: GateLimits | None = None
    mode: str = "dense"
    where: Mapping[str, Any] | None = None

    @property
    def labelled(self) -> list[GoldenQuery]:
        """The questions that something is expected of."""
        return [query for query in self.queries if query.grades]

    @property
    def measures(self) -> tuple[str, ...]:
        """The measures to be computed: the default ones, and those that have a threshold."""
        named = [*self.thresholds, *(name for limits in self.tags.values() for name in limits)]
        return tuple(dict.fromkeys([*measures.DEFAULT, *named]))


def read_golden(path: str | os.PathLike[str]) -> GoldenSet:
    """Read a golden set: ``.yaml``, ``.yml`` or ``.jsonl``; docs/gate.md shows the format.

    Raises:
        InvalidInput: it cannot be read, or something in it cannot be; with file and line.
        MissingDependency: PyYAML or ir_measures is not installed.
    """
    path = to_path("path", path)
    settings, entries = read_marked(path)
    _refuse_unknown(settings, _SETTINGS)
    defaults = _defaults(settings)
    document_field = _document_field(settings)
    read = [to_query(entry, defaults, document_field) for entry in entries]
    vectors = read_vectors(settings, [query.vector for query in read])
    queries = [replace(query, vector=vector) for query, vector in zip(read, vectors, strict=True)]
    if not queries:
        raise InvalidInput(f"{path} holds no questions; reperio golden init drafts some")
    _refuse_doubles(path, queries)
    tags, least = _tags(settings, queries), _thresholds(settings, "thresholds")
    if least and not any(query.grades for query in queries):
        raise settings.wrong("thresholds", "apply to no question: none expects anything")
    return GoldenSet(
        queries, least, tags, defaults["k"], document_field, str(path), _limits(settings), defaults["mode"],
        defaults["where"],
    )  # fmt: skip


def to_limits(golden: GoldenSet | None, **given: float | None) -> GateLimits:
    """Return a golden set's limits, or the defaults, with those instead that are given and not None."""
    limits = (golden.limits if golden else None) or GateLimits()
    changed = {name: value for name, value in given.items() if value is not None}
    return replace(limits, **changed)  # type: ignore[arg-type]  # GateLimits verifies each


def _defaults(settings: Marked) -> dict[str, Any]:
    inner = settings.inside("defaults", "must be an object, e.g. {k: 10, mode: dense}")
    _refuse_unknown(inner, _DEFAULTS)
    k = inner.required("k", 10, lambda found: type(found) is int and 1 <= found <= 10_000, _HITS)
    return {"k": k, "mode": _mode(inner, "dense"), "where": _where(inner, None)}


def _document_field(settings: Marked) -> str:
    found = _text(settings, "document_field", "")
    try:
        steps = parse_path(found)
    except InvalidInput as error:
        raise settings.wrong("document_field", f"is no path of a metadata field: {error}") from None
    if found and not all(steps):
        raise settings.wrong("document_field", "is no path of a metadata field: something is missing next to a dot")
    return found


def to_query(entry: Marked, defaults: Mapping[str, Any], document_field: str) -> GoldenQuery:
    """Return an entry as a question, or refuse it."""
    _refuse_unknown(entry, _QUERY)
    text = _text(entry, "query", None)
    expect, documents = _grades(entry, "expect"), _grades(entry, "expect_documents")
    nothing = entry.required("nothing_above", None, is_number, "must be a finite number")
    wrong = _wrong(entry, {**expect, **documents})
    if sum((bool(expect), bool(documents), nothing is not None)) != 1 and not (wrong and not expect and not documents):
        raise entry.wrong("", "needs exactly one of expect, expect_documents and nothing_above")
    if documents and not document_field:
        raise entry.wrong("expect_documents", "needs document_field, the metadata field that names a chunk's document")
    return GoldenQuery(
        id=_text(entry, "id", text),
        text=text,
        expect=expect,
        documents=documents,
        nothing_above=None if nothing is None else float(nothing),
        where=_where(entry, defaults["where"]),
        mode=_mode(entry, defaults["mode"]),
        tags=_tags_of(entry),
        vector=to_vector(entry),
        line=entry.place.line,
        wrong=wrong,
    )


def _text(entry: Marked, key: str, default: str | None) -> str:
    found = entry.get(key, default)
    if found is None:
        raise entry.wrong("", f"lacks {key!r}")
    if not isinstance(found, str) or (not found.strip() and key in entry.content):
        hint = "; put it in quotes" if isinstance(found, (int, float)) else ""
        raise entry.wrong(key, f"must be a text that is not empty{hint}")
    return found


def _grades(entry: Marked, key: str) -> dict[str, int]:
    found = entry.get(key, [])
    if isinstance(found, str):
        found = [found]
    if isinstance(found, list):
        if len(set(map(str, found))) < len(found):
            raise entry.wrong(key, "names an id twice")
        found = dict.fromkeys(found, 1) if all(isinstance(each, str) for each in found) else None
    if not isinstance(found, dict) or (not found and key in entry.content):
        raise entry.wrong(key, "must be ids (texts; numbers in quotes), or grades by id, at least one")
    for name, grade in found.items():
        if not isinstance(name, str) or not name:
            what = f"holds the id {name!r}; ids are texts that are not empty, numbers in quotes"
            raise entry.wrong(key, what, within=name)
        if isinstance(grade, bool) or not isinstance(grade, int) or grade < 1:
            what = f"grades {name!r} as {grade!r}; a grade is an integer of at least 1"
            raise entry.wrong(key, what, within=name)
    return found


def _wrong(entry: Marked, grades: Mapping[str, int]) -> tuple[str, ...]:
    """Return what was looked at and does not answer; a question may have no more than that yet."""
    found = entry.get("wrong", [])
    if not isinstance(found, list) or not all(isinstance(each, str) and each for each in found):
        raise entry.wrong("wrong", "must be a list of ids (texts; numbers in quotes)")
    if both := next((each for each in found if each in grades or found.count(each) > 1), None):
        raise entry.wrong("wrong", f"names {both!r:.80}, which is expected as well, or comes twice")
    return tuple(found)


def _where(entry: Marked, default: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    found = entry.get("where", default)
    if found is None:
        return None
    if not isinstance(found, dict):
        raise entry.wrong("where", 'must be an object like {lang: en} (docs/filters.md)')  # fmt: skip
    try:
        parse_filter(found)
    except InvalidInput as error:
        raise entry.wrong("where", f"is no filter: {error}") from None
    return found


def _mode(entry: Marked, default: str) -> str:
    return str(entry.required("mode", default, lambda found: found in MODES, f"must be {', '.join(MODES)}"))


def _tags_of(entry: Marked) -> tuple[str, ...]:
    found = entry.get("tags", [])
    found = [found] if isinstance(found, str) else found
    if not isinstance(found, list) or not all(isinstance(each, str) and each for each in found):
        raise entry.wrong("tags", "must be a list of texts")
    return tuple(dict.fromkeys(found))


def _thresholds(entry: Marked, key: str) -> dict[str, float]:
    found = entry.inside(key, "must be an object like {nDCG@10: 0.75}").content
    named: dict[str, str] = {}
    for name, least in found.items():
        if not isinstance(name, str):
            raise entry.wrong(key, f"names the measure {name!r}; a measure is a text like nDCG@10", within=name)
        try:
            measure = measures.canonical(name)
        except InvalidInput as error:
            raise entry.wrong(key, f"cannot be used: {error}", within=name) from None
        if measure in named:
            raise entry.wrong(key, f"names one measure twice: {named[measure]} and {name}", within=name)
        named[measure] = name
        if isinstance(least, bool) or not isinstance(least, (int, float)) or not 0 <= least <= 1:
            raise entry.wrong(key, f"wants {least!r} of {name}; a threshold is from 0 to 1", within=name)
    # By one name each: the checks of the main measure look for it by its own.
    return {measure: float(found[name]) for measure, name in named.items()}


def _limits(settings: Marked) -> GateLimits | None:
    if settings.get("limits") is None:
        return None
    inner = settings.inside("limits", "must be an object like {p95: 50, shrink: 0.02} (docs/gate.md)")
    _refuse_unknown(inner, GateLimits.names())
    for name, value in inner.content.items():
        try:
            GateLimits.require(name, value)
        except InvalidInput as error:
            raise inner.wrong(name, f"cannot be: {error}") from None
    try:
        return GateLimits(**inner.content)
    except InvalidInput as error:
        raise settings.wrong("limits", f"cannot be: {error}") from None


def _tags(settings: Marked, queries: Sequence[GoldenQuery]) -> dict[str, dict[str, float]]:
    inner = settings.inside("tags", "must be thresholds by tag, e.g. {billing: {R@10: 0.95}}")
    known = sorted({tag for query in queries if query.grades for tag in query.tags})
    for tag in inner.content:
        if tag not in known:
            raise inner.wrong(str(tag), f"is the tag of no labelled question{_nearest(str(tag), known)}")
    return {tag: _thresholds(inner, tag) for tag in inner.content}


def _refuse_unknown(entry: Marked, known: Sequence[str]) -> None:
    for key in entry.content:
        if key not in known:
            raise entry.wrong(str(key), f"is unknown{_nearest(str(key), known)}")


def _nearest(name: str, known: Sequence[str]) -> str:
    near = nearest(name, known)
    return f"; did you mean {near!r}?" if near else f"; known are {', '.join(known[:_SHOWN]) or 'none'}"


def _refuse_doubles(path: Path, queries: Sequence[GoldenQuery]) -> None:
    lines: dict[str, int] = {}
    for query in queries:
        if query.id in lines:
            raise InvalidInput(
                f"{path}:{query.line}: the question {query.id!r} is already in line {lines[query.id]}; give it an id "
                "of its own, or remove one"
            )
        lines[query.id] = query.line


def tags_of(queries: Sequence[GoldenQuery]) -> Iterator[tuple[str, list[GoldenQuery]]]:
    """Yield every tag of labelled questions with its questions, by name."""
    labelled = [query for query in queries if query.grades]
    for tag in sorted({tag for query in labelled for tag in query.tags}):
        yield tag, [query for query in labelled if tag in query.tags]

"""A first golden set, for a person to correct, and questions appended to one."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from reperio.arguments import to_path
from reperio.collection import Collection
from reperio.errors import InvalidInput
from reperio.evaluation.golden.marked import SUFFIXES, Marked, Place
from reperio.evaluation.golden.questions import DRAFT, GoldenQuery, GoldenSet, read_golden, to_query
from reperio.layout import create_file, storage_errors, write_atomically
from reperio.query_log.reading import LoggedQuestion
from reperio.types import Chunk, FloatMatrix

_SEED = 20_261_121  # fixed, so that one collection gives one draft
_SAMPLED, _ITERATIONS = 4000, 10  # vectors that are clustered; steps, after which centres hardly move
_QUESTION_CHARACTERS, _SHOWN_CHARACTERS, _FEWEST_WORDS = 160, 90, 4
_MARKS = re.compile(r"^\s*(?:[#>*+-]+|\d+[.)])\s+")  # of Markdown: headings, quotes, lists
# Characters that YAML refuses or ends a line at, and those that UTF-8 cannot write.
_SPECIAL = "[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]"
# Texts are matched as well, so that what looks like a number within one is left alone.
_TEXT_OR_SMALL = re.compile(r'"(?:[^"\\]|\\.)*"|(?<![\d.])(-?\d+)(e[-+]\d+)')
_SHOWN = 3  # of what is found for a question
_SOURCE = "source"  # the field in which ingestion names a chunk's file
_HEADER = """\
# Drafted by `reperio golden init`. Correct every question and its expected ids, and take the tag `draft` off:
# a draft expects the chunk that it was taken from, or what is found for it today; what should be found, a person says.
defaults: {k: 10}
# thresholds: {nDCG@10: 0.75, R@10: 0.9}
"""
_STARTED = """\
# A golden set: questions and what should come; `reperio gate` judges a collection by it.
defaults: {k: 10}
# thresholds: {nDCG@10: 0.75, R@10: 0.9}
"""


@dataclass(frozen=True, slots=True)
class Draft:
    """A question for a person to correct."""

    query: GoldenQuery  # that expects the first of *found*
    found: tuple[Chunk, ...]  # the chunk that it was taken from, or chunks found for it today, best first


def draft(collection: Collection, number: int, *, log: Sequence[LoggedQuestion] | None = None) -> list[Draft]:
    """Draft questions, each with the chunk that it was taken from, or with what is found for it today.

    Of a log's real questions, the most frequent half and a random half are taken, with filter and mode; those that find
    nothing are left out. Without a log, the beginnings of chunks that lie far from each other: one per cluster of the
    vectors. There are *number* of them at most.
    """
    if not collection.count():
        raise InvalidInput("the collection is empty; there is nothing to draft questions from")
    if log is None:
        chosen = _by_cluster(collection, number)
        return [Draft(GoldenQuery(each.id, _question(each), {each.id: 1}, tags=(DRAFT,)), (each,)) for each in chosen]
    asked = _drawn(log, number)
    if not asked:
        raise InvalidInput("the log holds no questions")
    found = [each for each in (_drafted(collection, each) for each in asked) if each.found]
    if not found:
        raise InvalidInput(
            f"none of {len(asked)} questions of the log finds anything: is it the log of this collection, and are its "
            "filters those of its metadata?"
        )
    return found


def write_draft(path: Path, drafts: Sequence[Draft], *, document_field: str = "") -> None:
    """Write a new golden set; in YAML, what was found for a question is next to it as a comment.

    *document_field* is for questions to come that expect documents.
    """
    path = require_new(path)
    lines, fresh = _is_lines(path), GoldenSet((), document_field=document_field)
    entries = "".join(("" if lines else _comments(each)) + _entry(path, each.query, fresh) for each in drafts)
    _write_checked(path, _beginning(path, _HEADER, fresh) + entries, [each.query for each in drafts])


def require_new(path: Path) -> Path:
    """Return the path of a new golden set, or refuse it, before anything is drafted."""
    path = to_path("path", path)
    if path.exists():
        raise InvalidInput(f"{path} exists; choose another name, or add to it: reperio golden add")
    if path.suffix.lower() not in SUFFIXES:
        raise InvalidInput(f"{path} has the suffix {path.suffix!r}; a golden set is {', '.join(SUFFIXES)}")
    return path


def document_field(collection: Collection) -> str:
    """Return the metadata field in which ingestion names a chunk's file; empty where no chunk has it."""
    return _SOURCE if collection.count(where={_SOURCE: {"$exists": True}}) else ""


def begun(path: Path) -> GoldenSet:
    """Return the golden set that a question is to be added to; one without questions where there is none yet."""
    path = to_path("path", path)
    if path.exists():
        return read_golden(path)
    require_new(path)
    return GoldenSet((), document_field=_SOURCE, path=str(path))


def add_query(path: Path, query: GoldenQuery) -> None:
    """Append a question to a golden set; what is in the file stays as it is, comments included.

    A file that is not there is begun. What the file's defaults say otherwise is written with the question. A form that
    cannot be appended to, because the questions are not its last part, is refused.
    """
    path = to_path("path", path)
    before = begun(path)
    if any(each.id == query.id for each in before.queries):
        raise InvalidInput(f"{path} has the question {query.id!r} already; give this one an id of its own: --id")
    if sum((bool(query.expect), bool(query.documents), query.nothing_above is not None)) != 1:
        takes = "chunk ids (--expect), documents (--expect-document) or a score (--nothing-above)"
        raise InvalidInput(f"a question takes {takes}: one of them")
    if query.documents and not before.document_field:
        cure = "name the metadata field with a chunk's document there, e.g. source"
        raise InvalidInput(f"{path} has no document_field; {cure}")
    added = Marked(Path("the question to be added"), Place(0), _content(query, before))
    to_query(added, {"mode": before.mode, "where": before.where}, before.document_field)
    if before.queries:
        content = path.read_text(encoding="utf-8-sig")
        content += "" if content.endswith("\n") else "\n"
    else:
        content = _beginning(path, _STARTED, before if query.documents else replace(before, document_field=""))
    # YAML wants one indentation for all questions, so the last one tells that of the next.
    indent = re.findall(r"^([ \t]*)- ", content, flags=re.M)
    entry = _entry(path, query, before, indent=indent[-1] if indent else "" if before.queries else "  ")
    _write_checked(path, content + entry, [*before.queries, query])


def _is_lines(path: Path) -> bool:
    return path.suffix.lower() == ".jsonl"


def _beginning(path: Path, header: str, golden: GoldenSet) -> str:
    """Return what stands in a new file before its questions."""
    named: dict[str, Any] = {"document_field": golden.document_field} if golden.document_field else {}
    if _is_lines(path):
        return json.dumps({"defaults": {"k": golden.k}, **named}) + "\n"
    return header + "".join(f"{key}: {_scalar(value)}\n" for key, value in named.items()) + "queries:\n"


def _write_checked(path: Path, content: str, queries: Sequence[GoldenQuery]) -> None:
    """Write what reads back as these questions, or nothing."""
    # A second file is read first: if it is wrong, the one that is there must not have been touched.
    trial = path.with_name(f".{path.stem}.trial{path.suffix}")
    by_hand = f"{path} cannot be appended to: its questions are not its last part; add it by hand"
    with storage_errors(path, "write"):
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
        write_atomically(path, content.encode())


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
    if _is_lines(path):
        return _scalar(content) + "\n"
    # A JSON value is a YAML value: quoting is left to a writer that is right about it.
    lines = [f"{name}: {_scalar(value)}" for name, value in content.items()]
    return f"{indent}- {lines[0]}\n" + "".join(f"{indent}  {line}\n" for line in lines[1:])


def _scalar(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    # JSON leaves these as they are; YAML ends a line at some and refuses others, and UTF-8 cannot write half a pair.
    text = re.sub(_SPECIAL, lambda found: f"\\u{ord(found.group()):04x}", text)
    # To YAML, 1e-07 is a text and 1.0e-07 a number.
    return re.sub(_TEXT_OR_SMALL, lambda found: f"{found[1]}.0{found[2]}" if found[1] else found[0], text)


def _comments(drafted: Draft) -> str:
    shown = (f"{chunk.id}: {' '.join(chunk.text.split())[:_SHOWN_CHARACTERS]}" for chunk in drafted.found)
    return "".join(f"  # found {_scalar(each)}\n" for each in shown)


def _drafted(collection: Collection, asked: LoggedQuestion) -> Draft:
    hits = collection.search(asked.text, k=_SHOWN, where=asked.where, mode=asked.mode)  # type: ignore[arg-type]  # checked by the log
    expect = {hit.chunk.id: 1 for hit in hits[:1]}
    query = GoldenQuery(asked.text, asked.text, expect, where=asked.where, mode=asked.mode, tags=(DRAFT,))
    return Draft(query, tuple(hit.chunk for hit in hits))


def _drawn(log: Sequence[LoggedQuestion], number: int) -> list[LoggedQuestion]:
    # The latest of equal questions has the filter and the mode of today.
    latest = {each.text.strip(): each for each in log if each.text.strip()}
    counts = Counter(each.text.strip() for each in log if each.text.strip())
    counted = [latest[text] for text, _ in counts.most_common()]
    frequent, rest = counted[: math.ceil(number / 2)], counted[math.ceil(number / 2) :]
    rng = np.random.default_rng(_SEED)
    drawn = rng.permutation(len(rest))[: number - len(frequent)]
    return frequent + [rest[at] for at in sorted(drawn)]


def _by_cluster(collection: Collection, number: int) -> list[Chunk]:
    ids = collection.ids()
    rng = np.random.default_rng(_SEED)
    # A sample will do: clustering every vector of a large collection takes minutes.
    chosen = sorted(rng.permutation(len(ids))[:_SAMPLED])
    some = [chunk for chunk in collection.get([ids[at] for at in chosen]) if chunk.text.strip()]
    if not some:
        raise InvalidInput("no chunk has a text; draft from a log instead: --from-log")
    vectors = collection.vectors([chunk.id for chunk in some])
    return [some[at] for at in _centres(vectors, min(number, len(some)), rng)]


def _centres(vectors: FloatMatrix, number: int, rng: np.random.Generator) -> list[int]:
    """Return the vector nearest to the centre of each cluster of k-means (Lloyd's iterations), each once."""
    centres = vectors[rng.permutation(len(vectors))[:number]].copy()
    for _ in range(_ITERATIONS):
        owner = _distances(vectors, centres).argmin(axis=1)
        for at in range(number):
            own = vectors[owner == at]
            if len(own):  # a centre without vectors stays where it is
                centres[at] = own.mean(axis=0)
    distances = _distances(vectors, centres)
    found: list[int] = []
    for at in range(number):
        order = (int(each) for each in np.argsort(distances[:, at]))
        found.append(next(each for each in order if each not in found))
    return found


def _distances(vectors: FloatMatrix, centres: FloatMatrix) -> FloatMatrix:
    squares = (centres * centres).sum(axis=1)
    return np.asarray(squares - 2 * (vectors @ centres.T), dtype=np.float32)


def _question(chunk: Chunk) -> str:
    """Return the first sentence of a chunk that has some words; marks of Markdown are no part of a question."""
    lines = (_MARKS.sub("", line).strip() for line in chunk.text.splitlines() if not line.lstrip().startswith("```"))
    text = " ".join(" ".join(lines).replace("|", " ").split()) or chunk.text.strip()
    sentences = re.split(r"(?<=[.!?])\s", text)
    words = next((each for each in sentences if len(each.split()) >= _FEWEST_WORDS), text)
    return words if len(words) <= _QUESTION_CHARACTERS else words[:_QUESTION_CHARACTERS].rsplit(" ", 1)[0]

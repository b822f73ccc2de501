"""A first golden set, for a person to correct, and questions appended to one."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recollect.collection import Collection
from recollect.errors import InvalidInput
from recollect.evaluation.golden import DRAFT, GoldenQuery, read_golden
from recollect.layout import storage_errors, write_atomically
from recollect.query_log import LoggedQuestion
from recollect.types import Chunk, FloatMatrix

_SEED = 20_261_121
_SAMPLED, _ITERATIONS = 4000, 10
_QUESTION_CHARACTERS, _SHOWN_CHARACTERS, _FEWEST_WORDS = 160, 90, 4
_MARKS = re.compile(r"^\s*(?:[#>*+-]+|\d+[.)])\s+")
_SHOWN = 3  # of what is found for a question
_SOURCE = "source"  # the field in which ingestion names a chunk's file
_HEADER = """\
# Drafted by `recollect golden init`. Correct every question and its expected ids, and take the tag `draft` off:
# a draft expects the chunk that it was taken from, or what is found for it today; what should be found, a person says.
defaults: {k: 10}
# thresholds: {nDCG@10: 0.75, R@10: 0.9}
"""


@dataclass(frozen=True, slots=True)
class Draft:
    """A question for a person to correct.

    Attributes:
        query: that expects the first of *found*.
        found: the chunk that it was taken from, or chunks found for it today, best first.

    """

    query: GoldenQuery
    found: tuple[Chunk, ...]


def draft(collection: Collection, number: int, *, log: Sequence[LoggedQuestion] | None = None) -> list[Draft]:
    """Draft questions, each with the chunk that it was taken from, or with what is found for it today.

    Args:
        collection: to be asked.
        number: of questions at most.
        log: real questions, of which the most frequent half and a random half are taken, with filter and mode; those
            that find nothing are left out. None for the beginnings of chunks that lie far from each other: one per
            cluster of the vectors.

    Raises:
        InvalidInput: the collection or the log is empty, or questions of a log cannot be embedded.

    """
    if not collection.count():
        raise InvalidInput("the collection is empty; there is nothing to draft questions from")
    if log is None:
        chosen = _by_cluster(collection, number)
        return [Draft(GoldenQuery(each.id, _question(each), {each.id: 1}, tags=(DRAFT,)), (each,)) for each in chosen]
    asked = _drawn(log, number)
    if not asked:
        raise InvalidInput("the log holds no questions")
    found = [_drafted(collection, each) for each in asked]
    return [each for each in found if each.found]


def write_draft(path: Path, drafts: Sequence[Draft], *, document_field: str = "") -> None:
    """Write a new golden set; in YAML, what was found for a question stands beside it as a comment.

    Args:
        path: of the new file, .yaml or .jsonl.
        drafts: of `draft`.
        document_field: for questions to come that expect documents.

    Raises:
        InvalidInput: the file exists, has another suffix, or would not be read again.

    """
    if path.exists():
        raise InvalidInput(f"{path} exists; choose another name, or add to it: recollect golden add")
    lines = path.suffix.lower() == ".jsonl"
    named: dict[str, Any] = {"document_field": document_field} if document_field else {}
    settings = json.dumps({"defaults": {"k": 10}, **named}) if lines else _HEADER.rstrip()
    header = [settings, *([] if lines else [f"{key}: {_scalar(value)}" for key, value in named.items()] + ["queries:"])]
    entries = "".join(("" if lines else _comments(each)) + _entry(path, each.query) for each in drafts)
    _write_checked(path, "\n".join(header) + "\n" + entries, [each.query.text for each in drafts])


def document_field(collection: Collection) -> str:
    """Return the metadata field in which ingestion names a chunk's file; empty where no chunk has it."""
    return _SOURCE if collection.count(where={_SOURCE: {"$exists": True}}) else ""


def add_query(path: Path, query: GoldenQuery) -> None:
    """Append a question to a golden set; what is in the file stays as it is, comments included.

    Raises:
        InvalidInput: the question is there already, expects nothing, or the file is of a form that cannot be appended
            to (its questions are not the last part).

    """
    before = read_golden(path)
    if any(each.id == query.id for each in before.queries):
        raise InvalidInput(f"{path} has the question {query.id!r} already")
    if sum((bool(query.expect), bool(query.documents), query.nothing_above is not None)) != 1:
        raise InvalidInput(
            "a question takes chunk ids (--expect), documents (--expect-document) or a score (--nothing-above): one of "
            "them"
        )
    if query.documents and not before.document_field:
        raise InvalidInput(
            f"{path} has no document_field; name the metadata field with a chunk's document there, e.g. source"
        )
    content = path.read_text(encoding="utf-8-sig")
    content += "" if content.endswith("\n") else "\n"
    indent = re.findall(r"^([ \t]*)- ", content, flags=re.M)
    entry = _entry(path, query, indent=indent[-1] if indent else "")
    _write_checked(path, content + entry, [*(each.text for each in before.queries), query.text])


def _write_checked(path: Path, content: str, texts: list[str]) -> None:
    """Write what reads back as these questions, or nothing."""
    trial = path.with_name(f".{path.stem}.trial{path.suffix}")
    with storage_errors(path, "write"):
        trial.write_text(content, encoding="utf-8")
        try:
            read = [query.text for query in read_golden(trial).queries]
        except InvalidInput as error:
            raise InvalidInput(f"{path} cannot be appended to; add the question by hand [{error}]") from None
        finally:
            trial.unlink(missing_ok=True)
        if read != texts:
            raise InvalidInput(f"{path} cannot be appended to: its questions are not its last part; add it by hand")
        write_atomically(path, content.encode())


def _entry(path: Path, query: GoldenQuery, *, indent: str = "  ") -> str:
    content: dict[str, Any] = {"query": query.text}
    if query.id != query.text:
        content["id"] = query.id
    for name, grades in (("expect", query.expect), ("expect_documents", query.documents)):
        if grades:
            content[name] = list(grades) if set(grades.values()) == {1} else dict(grades)
    if query.where is not None:
        content["where"] = dict(query.where)
    if query.mode != "dense":
        content["mode"] = query.mode
    if query.nothing_above is not None:
        content["nothing_above"] = query.nothing_above
    if query.tags:
        content["tags"] = list(query.tags)
    if path.suffix.lower() == ".jsonl":
        return json.dumps(content, ensure_ascii=False) + "\n"
    # A JSON value is a YAML value: quoting is left to a writer that is right about it.
    lines = [f"{name}: {_scalar(value)}" for name, value in content.items()]
    return f"{indent}- {lines[0]}\n" + "".join(f"{indent}  {line}\n" for line in lines[1:])


def _scalar(value: Any) -> str:
    # JSON leaves these as they are, and YAML ends a line at each.
    text = json.dumps(value, ensure_ascii=False)
    return re.sub("[\x7f-\x9f\u2028\u2029\ufeff]", lambda found: f"\\u{ord(found.group()):04x}", text)


def _comments(drafted: Draft) -> str:
    shown = (f"{chunk.id}: {' '.join(chunk.text.split())[:_SHOWN_CHARACTERS]}" for chunk in drafted.found)
    return "".join(f"  # found {_scalar(each)}\n" for each in shown)


def _drafted(collection: Collection, asked: LoggedQuestion) -> Draft:
    hits = collection.search(asked.text, k=_SHOWN, where=asked.where, mode=asked.mode)  # type: ignore[arg-type]  # checked by the log
    expect = {hit.chunk.id: 1 for hit in hits[:1]}
    query = GoldenQuery(asked.text, asked.text, expect, where=asked.where, mode=asked.mode, tags=(DRAFT,))
    return Draft(query, tuple(hit.chunk for hit in hits))


def _drawn(log: Sequence[LoggedQuestion], number: int) -> list[LoggedQuestion]:
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
            if len(own):
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

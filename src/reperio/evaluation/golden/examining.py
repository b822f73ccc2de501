"""Examine a golden set: labels that lead nowhere, questions that give their answer away, and what it cannot see."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from reperio.arguments import nearest
from reperio.collection import Collection
from reperio.evaluation.contents.hashing import fingerprint
from reperio.evaluation.golden.clusters import sampled
from reperio.evaluation.golden.drafts import document_field, modes
from reperio.evaluation.golden.growing import expected, folder, is_expected
from reperio.evaluation.golden.questions import DRAFT, GoldenQuery, GoldenSet
from reperio.filters import matches
from reperio.types import Chunk

_FEW = 50  # questions; with fewer, a drop of five hundredths is mostly taken for chance
_LARGE = 0.05  # of the chunks: a source of that size should have a question
_LEAK = 5  # words of a question that a chunk has as they are
_CHUNKS = 1000  # of expected documents, whose texts are compared with a question
_SHOWN = 8  # names in one line


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a golden set, or missing from it.

    Attributes:
        kind: "label", "leak", "filter", "changed", "twice", "draft", "open" or "blind".
        wrong: whether it makes a verdict wrong, and not only weaker.
        what: in words, with the names.
        cure: what to do.
    """

    kind: str
    wrong: bool
    what: str
    cure: str


def examine(collection: Collection, golden: GoldenSet, *, labels: Mapping[str, str] | None = None) -> list[Finding]:
    """Return what is wrong with a golden set for a collection, worst first.

    *labels* are fingerprints of expected texts, by chunk id, as a baseline keeps them.
    """
    ids = list(dict.fromkeys(each for query in golden.queries for each in query.expect))
    chunks = {chunk.id: chunk for chunk in collection.get(ids)}
    found = [*_unknown(collection, golden), *_excluded(golden, chunks), *_changed(chunks, labels or {})]
    found += [
        *_leaks(collection, golden, chunks),
        *_twice(golden),
        *_drafts(golden),
        *_open(golden),
        *_blind(collection, golden),
    ]
    return sorted(found, key=lambda each: not each.wrong)


def missing(collection: Collection, golden: GoldenSet, queries: Sequence[GoldenQuery]) -> dict[str, str]:
    """Return the expected ids and documents that do not exist, each with the name that may be meant, or nothing."""
    ids = list(dict.fromkeys(each for query in queries for each in query.expect))
    there = {chunk.id for chunk in collection.get(ids)}
    lost = [each for each in ids if each not in there]
    found = {each: _near(each, collection.ids()) for each in lost} if lost else {}
    names = dict.fromkeys(each for query in queries for each in query.documents)
    gone = [name for name in names if not collection.count(where={golden.document_field: {"$in": [name]}})]
    if gone:
        known = documents(collection, golden.document_field)
        found |= {name: _near(name, known) for name in gone if name not in known}
    return found


def documents(collection: Collection, field: str) -> list[str]:
    """Return the names of a collection's documents."""
    steps = field.split(".")
    names: dict[str, None] = {}
    for chunk in collection:
        value: object = chunk.metadata
        for step in steps:
            value = value.get(step) if isinstance(value, Mapping) else None
        if value is not None:
            names[str(value)] = None
    return list(names)


def did_you_mean(found: Mapping[str, str]) -> str:
    """Return names that do not exist in one line, with what may be meant."""
    told = [f"{name!r}{f' (did you mean {near!r}?)' if near else ''}" for name, near in list(found.items())[:_SHOWN]]
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(told) + more


def _near(name: str, known: Sequence[str]) -> str:
    """Return the known name that is meant: one that ends, or begins, with this; else one that is spelt alike."""
    folded = name.casefold()
    ends = [each for each in known if each.casefold().endswith(f"/{folded}") or folded.endswith(f"/{each.casefold()}")]
    ends = ends or [
        each for each in known if re.split(r"[/\\#]", each)[-1].casefold() == re.split(r"[/\\#]", folded)[-1]
    ]
    if len(ends) == 1:
        return ends[0]
    near = nearest(name, known, cutoff=0.7) or ""
    # Another number is another thing: of a chunk that was deleted, its neighbour is not meant.
    return "" if re.sub(r"\d+", "", near) == re.sub(r"\d+", "", name) else near


def _unknown(collection: Collection, golden: GoldenSet) -> Iterator[Finding]:
    found = missing(collection, golden, golden.queries)
    if not found:
        return
    asked = [query.id for query in golden.queries if any(each in found for each in query.grades)]
    what = f"{len(asked)} questions expect what does not exist: {did_you_mean(found)}"
    yield Finding("label", True, what, "correct the labels, or bring back what they name")


def _excluded(golden: GoldenSet, chunks: Mapping[str, Chunk]) -> Iterator[Finding]:
    wrong = []
    for query in golden.queries:
        tree = query.filter
        own = [chunks[each] for each in query.expect if each in chunks]
        if tree is not None and own and not any(matches(tree, chunk.metadata) for chunk in own):
            wrong.append(query.id)
    if wrong:
        what = f"the filter of {len(wrong)} questions excludes all that they expect: {_listed(wrong)}"
        yield Finding("filter", True, what, "correct the filter, or what is expected")


def _changed(chunks: Mapping[str, Chunk], labels: Mapping[str, str]) -> Iterator[Finding]:
    changed = [key for key, chunk in chunks.items() if labels.get(key, "") not in ("", fingerprint(chunk.text))]
    if changed:
        what = f"{len(changed)} expected chunks have another text than in the baseline: {_listed(changed)}"
        yield Finding("changed", True, what, "look whether they still answer their questions")


def _leaks(collection: Collection, golden: GoldenSet, chunks: Mapping[str, Chunk]) -> Iterator[Finding]:
    """Find questions that are a sentence of what they expect: every search finds those, and they measure nothing."""
    leaks = []
    for query in golden.queries:
        words = _words(query.text)
        texts = [chunks[each].text for each in query.expect if each in chunks]
        if query.documents and len(words.split()) >= _LEAK:
            ids = collection.ids(where={golden.document_field: {"$in": list(query.documents)}})
            texts = [chunk.text for chunk in collection.get(ids[:_CHUNKS])]
        own = (f" {_words(text)} " for text in texts)
        if len(words.split()) >= _LEAK and any(f" {words} " in text for text in own):
            leaks.append(query.id)
    if leaks:
        what = f"{len(leaks)} questions are a sentence of what they expect: {_listed(leaks)}"
        yield Finding("leak", False, what, "ask as users ask, who do not know the text")


def _twice(golden: GoldenSet) -> Iterator[Finding]:
    counts = Counter((_words(query.text), str(query.where), query.mode) for query in golden.queries)
    twice = [text for (text, _, _), times in counts.items() if times > 1]
    if twice:
        what = f"{len(twice)} questions are asked twice: {_listed(twice)}"
        yield Finding("twice", False, what, "remove one of each: two look like more evidence than there is")


def _drafts(golden: GoldenSet) -> Iterator[Finding]:
    drafts = [query.id for query in golden.queries if DRAFT in query.tags]
    if drafts:
        what = f"{len(drafts)} questions are drafts that nobody has corrected: {_listed(drafts)}"
        yield Finding("draft", False, what, "correct them and take the tag off; as they are, they mislead")


def _open(golden: GoldenSet) -> Iterator[Finding]:
    """Find questions of which only wrong answers are known: nothing is measured by them."""
    asked = [query.id for query in golden.queries if query.wrong and not query.grades and query.nothing_above is None]
    if asked:
        what = f"{len(asked)} questions have wrong answers alone, and expect nothing: {_listed(asked)}"
        yield Finding("open", False, what, "find what answers them, or say nothing_above where nothing does")


def _blind(collection: Collection, golden: GoldenSet) -> Iterator[Finding]:
    """Find what no question looks at: sources, modes, questions without an answer, and drops that are too small."""
    grow = "reperio golden grow proposes questions"
    if len(golden.labelled) < _FEW:
        what = f"{len(golden.labelled)} questions expect something; small drops are taken for chance"
        yield Finding("blind", False, what, grow)
    field, chunks, (ids, names) = document_field(collection), sampled(collection), expected(golden)
    sizes = Counter(folder(chunk, field) for chunk in chunks) if field else Counter[str]()
    seen = {folder(chunk, field) for chunk in chunks if is_expected(chunk, golden, ids, names)}
    unseen = [name for name, size in sizes.most_common() if name and name not in seen and size >= _LARGE * len(chunks)]
    if unseen and len(sizes) > 1:
        what = f"nothing is expected of {_listed(unseen)}, each {_LARGE:.0%} of the chunks or more"
        yield Finding("blind", False, what, grow)
    unasked = [mode for mode in modes(collection) if all(query.mode != mode for query in golden.queries)]
    if unasked:
        what = f"no question is asked in the mode {' or '.join(unasked)}"
        yield Finding("blind", False, what, "add some with --mode, if that is deployed")
    if all(query.nothing_above is None for query in golden.queries):
        what = "no question should find nothing"
        yield Finding("blind", False, what, "add some with --nothing-above: scores may rise as well as fall")


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(f"{each[:60]!r}" for each in names[:_SHOWN]) + more

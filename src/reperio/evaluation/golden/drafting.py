"""Draft a first golden set, for a person to correct."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from reperio.collection import Collection
from reperio.errors import InvalidInput
from reperio.evaluation.golden.clusters import sampled, spread
from reperio.evaluation.golden.drafts import SHOWN, Draft, Pooled, document_field, expecting, modes, pooled, to_question
from reperio.evaluation.golden.questions import DRAFT, GoldenQuery
from reperio.query_log.reading import LoggedQuestion
from reperio.types import Chunk

_SEED = 20_261_121  # fixed, so that one collection gives one draft
_FILTERED = 4  # every fourth drafted question has a filter
_UNANSWERED = 10  # one question without an answer to so many with one
_COMMON = 0.9  # of the chunks that have a field that is filtered by
_VALUES = 20  # different values of a field that is filtered by, at most
_NEAR = 0.85  # of the score of an answered question: above it, a score says nothing about an answer
_FOREIGN = (
    "how long does sourdough bread have to rise overnight",
    "which team won the ice hockey world cup in 1998",
    "how do I repot an orchid with rotten roots",
    "what is the best month to sail around Cape Horn",
    "lyrics of a lullaby about the moon",
    "how many calories are in a bowl of ramen",
)
"""Questions that few collections answer."""


def draft(collection: Collection, number: int, *, log: Sequence[LoggedQuestion] | None = None) -> list[Draft]:
    """Draft questions, each with the chunk that it was taken from, or with what is found for it today.

    Of a log's real questions, the most frequent half and a random half are taken, with filter and mode; those that find
    nothing are left out. Without a log, sentences of chunks that lie far from each other, one per cluster of the
    vectors, in every mode that the collection has, some with a filter that their chunk matches. There are *number* of
    them at most, and a few that should find nothing.

    What is expected is a document, by its name, where the collection knows documents.
    """
    if not collection.count():
        raise InvalidInput("the collection is empty; there is nothing to draft questions from")
    if log is None:
        drafts = from_chunks(collection, spread(collection, number))
    else:
        drafts = _from_whole_log(collection, log, number)
    return [*drafts, *_unanswered(collection, drafts)]


def from_chunks(
    collection: Collection, chunks: Sequence[Chunk], *, why: Mapping[str, str] | None = None
) -> list[Draft]:
    """Draft a question of each chunk; two never ask the same."""
    field, known = document_field(collection), modes(collection) or ("lexical",)
    fields = _filter_fields(sampled(collection), field)
    found: dict[str, Draft] = {}
    for at, (chunk, mode) in enumerate(zip(chunks, itertools.cycle(known), strict=False)):
        where = next(_filters(chunk, fields, at // _FILTERED), None) if at % _FILTERED == _FILTERED - 1 else None
        query = expecting(collection, to_question(chunk), chunk, field, where=where, mode=mode, tags=(DRAFT,))
        found.setdefault(query.id, Draft(query, (Pooled(chunk),), (why or {}).get(chunk.id, "")))
    return list(found.values())


def from_log(
    collection: Collection, asked: Sequence[LoggedQuestion], *, why: Mapping[str, str] | None = None
) -> list[Draft]:
    """Draft a log's questions, each expecting what most modes find for it, best first."""
    field, drafts = document_field(collection), []
    for each in asked:
        pool = pooled(collection, each.text, each.where, each.mode)
        if pool:
            own = expecting(
                collection, each.text, pool[0].chunk, field, where=each.where, mode=each.mode, tags=(DRAFT,)
            )
            drafts.append(Draft(own, tuple(pool[:SHOWN]), (why or {}).get(each.text, "")))
    return drafts


def counted(log: Sequence[LoggedQuestion]) -> list[tuple[LoggedQuestion, int]]:
    """Return a log's different questions, the most frequent first, with how often each was asked."""
    # The latest of equal questions has the filter and the mode of today.
    latest = {each.text.strip(): each for each in log if each.text.strip()}
    counts = Counter(each.text.strip() for each in log if each.text.strip())
    return [(replace(latest[text], text=text), times) for text, times in counts.most_common()]


def _from_whole_log(collection: Collection, log: Sequence[LoggedQuestion], number: int) -> list[Draft]:
    asked = _drawn(log, number)
    if not asked:
        raise InvalidInput("the log holds no questions")
    drafts = from_log(collection, asked)
    if not drafts:
        raise InvalidInput(
            f"none of {len(asked)} questions of the log finds anything: is it the log of this collection, and are its "
            "filters those of its metadata?"
        )
    return drafts


def _drawn(log: Sequence[LoggedQuestion], number: int) -> list[LoggedQuestion]:
    frequent = [each for each, _ in counted(log)]
    first, rest = frequent[: math.ceil(number / 2)], frequent[math.ceil(number / 2) :]
    drawn = np.random.default_rng(_SEED).permutation(len(rest))[: number - len(first)]
    return first + [rest[at] for at in sorted(drawn)]


def _unanswered(collection: Collection, drafts: Sequence[Draft]) -> list[Draft]:
    """Draft questions that should find nothing, where scores tell them from those that find something."""
    asked = [each.query for each in drafts if each.query.mode == "dense" and each.query.where is None]
    if "dense" not in modes(collection) or not asked:
        return []
    best = sorted(hits[0].score for query in asked[:50] if (hits := collection.search(query.text, k=1)))
    answered = float(np.median(best)) if best else 0.0
    drafts = []
    for text in _FOREIGN[: 1 + len(asked) // _UNANSWERED]:
        hits = collection.search(text, k=1)
        if not hits or not 0 < hits[0].score < _NEAR * answered:
            continue
        limit = round((hits[0].score + answered) / 2, 3)
        why = f"it finds {hits[0].score:.3f} at best, answered questions {answered:.3f}; a good limit lies between"
        drafts.append(Draft(GoldenQuery(text, text, nothing_above=limit, tags=(DRAFT,)), (), why))
    return drafts


def _filter_fields(chunks: Sequence[Chunk], document: str) -> list[str]:
    """Return the fields with few values that nearly all chunks have: by these questions are likely filtered."""
    values: dict[str, set[Any]] = {}
    there: Counter[str] = Counter()
    for chunk in chunks:
        for name, value in chunk.metadata.items():
            if isinstance(value, (str, bool)) and name.isidentifier() and name != document:
                values.setdefault(name, set()).add(value)
                there[name] += 1
    # What some chunks alone have tells how they were cut, such as the header of a table, and nobody filters by it.
    common = (name for name in values if there[name] >= _COMMON * len(chunks))
    return sorted(name for name in common if 1 < len(values[name]) <= _VALUES)


def _filters(chunk: Chunk, fields: Sequence[str], turn: int) -> Iterator[dict[str, Any]]:
    own = [name for name in fields if isinstance(chunk.metadata.get(name), (str, bool))]
    for at in range(len(own)):
        name = own[(turn + at) % len(own)]
        yield {name: chunk.metadata[name]}

"""Propose the questions that would add most to what a golden set can see."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from reperio.collection import Collection
from reperio.evaluation.golden.clusters import clusters, sampled
from reperio.evaluation.golden.drafting import counted, from_chunks, from_log
from reperio.evaluation.golden.drafts import Draft, document_field
from reperio.evaluation.golden.questions import GoldenSet
from reperio.evaluation.limits import GateLimits
from reperio.evaluation.statistics.power import FIXED, LOST, outlook, power
from reperio.query_log.reading import LoggedQuestion
from reperio.types import Chunk

_USUAL = 0.7  # mean of the main measure, where no baseline tells it
_SPARE = 2  # clusters to choose from, for each question


def grow(collection: Collection, golden: GoldenSet, number: int, *, log: Sequence[LoggedQuestion] = ()) -> list[Draft]:
    """Draft questions that a golden set lacks, those that add most first, each with the reason.

    Half of them are the log's most frequent questions that it does not ask, where there is a log. The others are taken
    from the largest clusters of chunks and the largest sources of which it expects nothing: a fault there would be seen
    by no question.

    Returns:
        *number* drafts at most, none that the golden set asks already.
    """
    known = {query.text.strip().casefold() for query in golden.queries}
    asked = [(each, times) for each, times in counted(log) if each.text.casefold() not in known]
    part = asked[: number if not collection.count() else (number + 1) // 2]
    why = {each.text: f"asked {times} times in the log, and not in the golden set" for each, times in part}
    drafts = from_log(collection, [each for each, _ in part], why=why) if part else []
    chosen = _uncovered(collection, golden, number - len(drafts))
    drafts += from_chunks(collection, [chunk for chunk, _ in chosen], why={chunk.id: why for chunk, why in chosen})
    return [each for each in drafts if each.query.text.strip().casefold() not in known][:number]


def outlooks(
    collection: Collection, golden: GoldenSet, values: Mapping[str, float], *, limits: GateLimits | None = None
) -> list[str]:
    """Say what a golden set sees now, in all and in the source that it sees least of, and how many more see enough.

    Args:
        collection: what it is asked of.
        golden: the set.
        values: main measure by question, of the baseline; empty where there is none.
        limits: as the gate has them; None for the golden set's, or the defaults.
    """
    limits = limits or golden.limits or GateLimits()
    figures = {"rate": FIXED, "alpha": limits.alpha, "effect": limits.effect}
    known = [values[query.id] for query in golden.labelled if query.id in values]
    mean = sum(known) / len(known) if known else _USUAL
    lines = [outlook(len(golden.labelled), LOST, "", mean=mean, **figures)] if golden.labelled and mean > 0 else []
    field, chunks = document_field(collection), sampled(collection)
    if not field or not lines:
        return lines
    sizes = Counter(folder(chunk, field) for chunk in chunks)
    asked = _by_folder(collection, golden, field)
    figures["alpha"] /= max(1, len(sizes))
    # Worth most where many chunks are guarded by few questions.
    weakest = max(
        (name for name in sizes if asked[name]),
        key=lambda name: sizes[name] * (1 - power(asked[name], LOST, mean=mean, **figures)),
        default="",
    )
    if weakest and len(sizes) > 1:
        lines.append(outlook(asked[weakest], LOST, f" on {weakest!r}", mean=mean, **figures))
    return lines


def _by_folder(collection: Collection, golden: GoldenSet, field: str) -> Counter[str]:
    """Return how many questions expect something of each source."""
    stored = {chunk.id: folder(chunk, field) for chunk in collection.get(sorted(expected(golden)[0]))}
    found: Counter[str] = Counter()
    for query in golden.labelled:
        named = {folder(Chunk("", "", {field: name}), field) for name in query.documents}
        found.update({stored[each] for each in query.expect if each in stored} | named)
    return found


def folder(chunk: Chunk, field: str) -> str:
    """Return what a report calls the source of a chunk: the folder of its file, or the file where it is in none."""
    name = chunk.metadata.get(field)
    if not isinstance(name, str) or not name:
        return ""
    parts = PurePosixPath(name).parts
    return "/".join(parts[:-1]) or name


def is_expected(chunk: Chunk, golden: GoldenSet, ids: set[str], documents: set[str]) -> bool:
    """Say whether a question expects a chunk, or its document."""
    value: Any = chunk.metadata.get(golden.document_field) if golden.document_field else None
    return chunk.id in ids or (value is not None and str(value) in documents)


def expected(golden: GoldenSet) -> tuple[set[str], set[str]]:
    """Return the chunks and the documents that questions expect."""
    chunks = {each for query in golden.queries for each in query.expect}
    return chunks, {each for query in golden.queries for each in query.documents}


def _uncovered(collection: Collection, golden: GoldenSet, number: int) -> list[tuple[Chunk, str]]:
    if number <= 0:
        return []
    chunks, (ids, documents) = sampled(collection), expected(golden)
    covered = {chunk.id for chunk in chunks if is_expected(chunk, golden, ids, documents)}
    found = clusters(collection, chunks, len(golden.labelled) + _SPARE * number)
    empty = sorted((each for each in found if not each.members & covered), key=lambda each: -each.share)
    field = document_field(collection)
    chosen = _by_source(chunks, covered, field, (number + 1) // 2) if field else []
    taken = {chunk.id for chunk, _ in chosen}
    for cluster in empty:
        if cluster.chunk.id not in taken:
            why = f"nothing is expected of {cluster.share:.1%} of the chunks, which are like this one"
            chosen.append((cluster.chunk, why))
    return chosen[:number]


def _by_source(chunks: Sequence[Chunk], covered: set[str], field: str, number: int) -> list[tuple[Chunk, str]]:
    """Return a chunk of each source with the most chunks for a question, where no question expects any of it."""
    sizes = Counter(folder(chunk, field) for chunk in chunks)
    seen = {folder(chunk, field) for chunk in chunks if chunk.id in covered}
    found: list[tuple[Chunk, str]] = []
    for name, size in sizes.most_common():
        if name and name not in seen and len(found) < number:
            own = [chunk for chunk in chunks if folder(chunk, field) == name]
            share = size / len(chunks)
            found.append((own[len(own) // 2], f"nothing is expected of the source {name!r}, {share:.1%} of the chunks"))
    return found

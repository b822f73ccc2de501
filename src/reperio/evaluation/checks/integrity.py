"""Check that all that is stored is sound and can be found, and that filters select what they say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from reperio.collection import Collection
from reperio.evaluation.asking import drawn
from reperio.evaluation.contents.access import fields_of
from reperio.evaluation.sharded import selected_by
from reperio.evaluation.statistics.comparing import mean_bounds
from reperio.evaluation.subject import Subject
from reperio.evaluation.verdicts import CheckResult, Verdict
from reperio.filters import matches, parse
from reperio.types import Chunk, Metric

_K = 10
_WORDS = 2  # of a text, looked up in the lexical index
_MATCHES = 50  # of a word, beyond which a chunk may match and not come
_LETTERS, _CHARACTERS = 4, 40  # of such a word, at least and at most
_PROBES = 8  # filters made up from the metadata
_FILTERS = 64  # of the golden set
_EVALUATIONS = 200_000  # of a filter for a chunk: a second, at most
_SHOWN = 5  # filters that are named in the evidence
_TIE = 1e-5  # scores of equal vectors differ by less


def integrity(subject: Subject) -> CheckResult:
    """Read everything and verify it, as `Collection.check` does."""
    report = subject.checked
    if report.ok and report.rows:
        return CheckResult("integrity", Verdict.PASS, (f"{report.rows:,} chunks verified by their checksums",))
    problems = tuple(map(str, report.problems)) or ("the collection is empty",)
    if not report.problems:
        cause = "nothing was ingested; ingest, or restore from a backup"
    elif all(problem.kind == "index" for problem in report.problems):
        cause = "the index cannot be used, the chunks are sound: reperio optimize rebuilds it"
    else:
        cause = "files were damaged or changed after they were written; restore from a backup, or build it again"
    return CheckResult("integrity", Verdict.FAIL, problems, cause)


def reachable(subject: Subject) -> CheckResult:
    """Look for a sample of chunks, and the newest ones, by their own vectors and words."""
    collection, seen = subject.require_collection(), subject.survey
    groups = {"a sample of chunks": seen.sample, "the newest chunks": seen.newest}
    evidence, wrong = [], []
    for name, chunks in groups.items():
        exact, deployed = _found(collection, chunks, 1.0), _found(collection, chunks, subject.limits.recall)
        share = float(deployed[exact].mean()) if exact.any() else 1.0
        line = f"{name}: {share:.1%} of {int(exact.sum())} found by their own vectors"
        if exact.any() and mean_bounds(deployed[exact].astype(float))[1] < subject.limits.recall:
            wrong.append("the index does not hold all rows: rebuild it with reperio optimize")
        if not exact.all() and collection.info().metric is not Metric.INNER_PRODUCT:
            line += f"; {int((~exact).sum())} not even by exact search"
            wrong.append("rows and vectors are out of step: restore from a backup, or embed again")
        evidence.append(line)
    if collection.fingerprint()["lexical"] != "none":
        line, cause = _lexical(collection, seen.sample)
        evidence.append(line)
        wrong += [cause] if cause else []
    verdict = Verdict.FAIL if wrong else Verdict.PASS
    return CheckResult("reachable", verdict, tuple(evidence), "; ".join(dict.fromkeys(wrong)))


def filtering(subject: Subject) -> CheckResult:
    """Compare what filters select with plain evaluation of every chunk's metadata."""
    collection, seen = subject.require_collection(), subject.survey
    asked = [dict(query.where) for query in (subject.golden.queries if subject.golden else ()) if query.where]
    distinct = list({repr(where): where for where in asked}.values())
    filters = [*drawn(distinct, _FILTERS), *(each for each in _probes(seen.sample) if each not in distinct)]
    if not filters:
        return CheckResult("filters", Verdict.SKIP, ("no metadata, and no question with a filter",))
    compared = dict(drawn(list(seen.metadata.items()), max(1000, _EVALUATIONS // len(filters))))
    # Together first: eight columns are read in one pass over the chunks, and not in eight.
    named = dict.fromkeys(field for where in filters for field in fields_of(where))
    together: dict[str, Any] = {"$or": [{field: {"$exists": True}} for field in [*named][:_FILTERS]]}
    selected = selected_by(collection, [together, *filters], list(compared))[1:]
    wrong = [
        told
        for where, (rows, count) in zip(filters, selected, strict=True)
        if (told := _selects(where, compared, rows, count, asked=where in asked))
    ]
    line = f"{len(filters)} filters compared with the metadata of {len(compared):,} of {seen.profile.count:,} chunks"
    if len(distinct) > _FILTERS:
        line += f"; the golden set has {len(distinct)}, of which {_FILTERS} were drawn"
    if not wrong:
        return CheckResult("filters", Verdict.PASS, (line,))
    cause = "a field was renamed or dropped by ingestion, or the filter columns are out of step with the metadata"
    return CheckResult("filters", Verdict.FAIL, (line, *wrong[:_SHOWN]), cause)


def _selects(
    where: dict[str, Any],
    compared: Mapping[str, Mapping[str, Any]],
    selected: npt.NDArray[np.bool_],
    count: int,
    *,
    asked: bool,
) -> str:
    """Say what is wrong with which of some chunks a filter selects, and how many in all; nothing where all is well."""
    tree = parse(where)
    expected = np.array([matches(tree, metadata) for metadata in compared.values()], dtype=bool)
    extra, missing = int((selected & ~expected).sum()), int((expected & ~selected).sum())
    if extra or missing:
        return f"{where}: {extra} chunks selected that do not match, {missing} that match are not"
    if asked and not count:
        return f"{where}: no chunk matches; was a metadata field renamed, or a value written otherwise?"
    return ""


def _found(collection: Collection, chunks: list[Chunk], recall: float) -> npt.NDArray[np.bool_]:
    """Say of each chunk whether its own vector finds it, or one that is as near."""
    vectors = collection.vectors([chunk.id for chunk in chunks])
    answers = collection.search_many(vectors=vectors, k=_K, recall=recall)
    found = []
    for hits, chunk in zip(answers, chunks, strict=True):
        # More equal vectors than hits: any of them may come. By the scores, which are exact always.
        crowded = len(hits) == _K and hits[0].score - hits[-1].score <= _TIE
        found.append(crowded or any(hit.chunk.id == chunk.id for hit in hits))
    return np.array(found, dtype=bool)


def _lexical(collection: Collection, chunks: list[Chunk]) -> tuple[str, str]:
    """Look the rarest words of chunks up.

    Whether a chunk comes among the first for its words was rejected: where all begin alike, shorter ones come first.
    """
    words = {chunk.id: {word for word in chunk.text.split() if _is_told(word)} for chunk in chunks}
    frequent = Counter(word for own in words.values() for word in own)
    asked = [
        (chunk_id, word)
        for chunk_id, own in words.items()
        for word in sorted(own, key=lambda word: (frequent[word], -len(word), word))[:_WORDS]
    ]
    lost = [each for each in asked if _is_lost(collection, *each)]
    line = f"a sample of chunks: {len(asked) - len(lost)} of {len(asked)} of their words are in the lexical index"
    if not lost:
        return line, ""
    line += f"; {lost[0][1]!r} of {lost[0][0]!r} is not"
    return line, "the lexical index is out of step with the texts: reperio compact rebuilds it"


def _is_lost(collection: Collection, chunk_id: str, word: str) -> bool:
    """Say whether a chunk is not found by a word of its text, alone or among all chunks."""
    if not collection.search(word, k=1, mode="lexical", ids=[chunk_id]):
        return True
    # A few rows are scored by their stored texts, whatever the index holds; so all are asked, too.
    hits = collection.search(word, k=_MATCHES, mode="lexical")
    return len(hits) < _MATCHES and all(hit.chunk.id != chunk_id for hit in hits)  # else it may be one of the others


def _is_told(word: str) -> bool:
    """Say whether a word between spaces is one for every tokenizer, also of older Unicode."""
    return len(word) <= _CHARACTERS and sum(each.isalnum() and each <= "\uffff" for each in word) >= _LETTERS


def _probes(chunks: list[Chunk]) -> list[dict[str, Any]]:
    """Make a filter per field, of values that occur; dots in a name would make it a path."""
    found: dict[str, dict[str, Any]] = {}
    for chunk in chunks:
        for name, value in chunk.metadata.items():
            if isinstance(value, (str, int, float, bool)) and name.isidentifier():
                found.setdefault(name, {name: value})
    return list(found.values())[:_PROBES]

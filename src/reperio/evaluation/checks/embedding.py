"""The embedding contract: the vectors are those of the texts, made by the model that is named."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from reperio.collection import Collection
from reperio.embedding.contract import embed
from reperio.embedding.passages import passage
from reperio.errors import EmbeddingContractError
from reperio.evaluation.asking import drawn
from reperio.evaluation.checks.causes import cause
from reperio.evaluation.contents.hashing import fingerprint
from reperio.evaluation.subject import Subject
from reperio.evaluation.verdicts import CheckResult, Verdict
from reperio.types import Chunk, FloatMatrix, Metric
from reperio.vectors import cosines

_Cosines: TypeAlias = npt.NDArray[np.float64]

_MOST_EXPECTED = 64  # chunks, drawn from the others; a large model takes seconds for each
_MOST_CHANGED = 64  # chunks with another text than in the baseline
_SURE = 0.95  # that no larger share was missed
_SHOWN = 5  # ids in the evidence
_LENGTH = 0.05  # lengths of two precisions of one model differ by a hundredth of this


def contract(subject: Subject) -> CheckResult:
    """Embed the canaries, a sample of stored texts and every expected chunk again, and compare."""
    collection = subject.require_collection()
    try:
        embedder = collection.embedder
    except EmbeddingContractError as error:
        return CheckResult("contract", Verdict.FAIL, (str(error),), "another model, prompt or normalisation")
    if embedder is None:
        return CheckResult("contract", Verdict.SKIP, ("the vectors are brought ready-made; there is no embedder",))
    chunks = {chunk.id: chunk for chunk in subject.survey.sample + subject.survey.newest + _changed(subject)}
    note: tuple[str, ...] = ()
    if subject.golden is not None:
        expected = drawn(list(subject.expected.values()), _MOST_EXPECTED)
        chunks |= {chunk.id: chunk for chunk in expected}
        note = _not_all(len(expected), len(subject.expected))
    compared = [chunk for chunk in chunks.values() if chunk.text.strip()]
    if not compared:
        return CheckResult("contract", Verdict.PASS, ("the canaries agree; no chunk has a text",))
    passages = [passage(chunk.text, chunk.metadata) for chunk in compared]
    made = embed(embedder, passages, Metric.INNER_PRODUCT, queries=False)
    stored = collection.vectors([chunk.id for chunk in compared])
    found = _judged(collection, compared, made, stored, subject.limits.agreement)
    if found.verdict is Verdict.PASS:
        found = replace(found, evidence=(*found.evidence, *note))
    if found.verdict is Verdict.PASS and collection.info().metric is not Metric.COSINE:
        return _lengths(compared, made, stored, found)
    return found


def _not_all(looked_at: int, expected: int) -> tuple[str, ...]:
    """Say how many of the expected chunks may be wrong and unseen; nothing where all were embedded again."""
    if looked_at >= expected:
        return ()
    # Of a draw without replacement: of so many wrong ones, none is among those looked at.
    wrong = next(
        (wrong for wrong in range(1, expected - looked_at + 1) if _missed(looked_at, expected, wrong) <= 1 - _SURE),
        expected - looked_at + 1,
    )
    return (f"{looked_at} of {expected} expected chunks are among them: up to {wrong - 1} others may be wrong",)


def _missed(looked_at: int, of: int, wrong: int) -> float:
    return math.comb(of - wrong, looked_at) / math.comb(of, looked_at)


def _lengths(chunks: list[Chunk], made: FloatMatrix, stored: FloatMatrix, found: CheckResult) -> CheckResult:
    """Compare lengths where these count: a vector that was not normalised points the same way."""
    ratios = np.linalg.norm(stored, axis=1) / np.maximum(np.linalg.norm(made, axis=1), 1e-30)
    off = [at for at in range(len(chunks)) if abs(ratios[at] - 1) > _LENGTH]
    if not off:
        return found
    worst = sorted(off, key=lambda at: -abs(np.log(max(ratios[at], 1e-30))))[:_SHOWN]
    evidence = [f"{chunks[at].id}: {ratios[at]:.3g} times as long as made now" for at in worst]
    share = f"{len(off)} of {len(chunks)} stored vectors have another length than those of their texts"
    why = "vectors were normalised once and not the other time; reperio reembed makes all again"
    return replace(found, verdict=Verdict.FAIL, evidence=(found.evidence[0], share, *evidence), cause=why)


def _changed(subject: Subject) -> list[Chunk]:
    """Return chunks whose text has changed since the baseline, of those that are followed: theirs may be stale."""
    profile = subject.baseline.profile if subject.baseline else None
    if profile is None:
        return []
    before = profile.sketch
    changed = [
        chunk
        for chunk in subject.survey.followed
        if before.get(fingerprint(chunk.id), "") not in ("", fingerprint(chunk.text))
    ]
    return changed[:_MOST_CHANGED]


def _judged(
    collection: Collection, chunks: list[Chunk], made: FloatMatrix, stored: FloatMatrix, agreement: float
) -> CheckResult:
    found: _Cosines = cosines(made, stored)
    figures = {"chunks": len(chunks), "least": float(found.min()), "mean": float(found.mean())}
    line = f"the canaries agree; {len(chunks)} texts embedded again: least cosine {figures['least']:.4f}"
    off = [at for at in np.argsort(found) if found[at] < agreement]
    if not off:
        missed = 1 - (1 - _SURE) ** (1 / len(chunks)) if len(chunks) < collection.count() else 0.0
        figures["missed"] = missed
        note = (
            f"it is a sample: up to {missed:.1%} of all vectors may be wrong and unseen (with {_SURE:.0%} confidence)"
        )
        return CheckResult("contract", Verdict.PASS, (line, *([note] if missed else [])), figures=figures)
    evidence = [f"{chunks[at].id}: cosine {found[at]:.4f} of {agreement} required" for at in off[:_SHOWN]]
    share = f"{len(off)} of {len(chunks)} stored vectors are not those of their texts"
    why = cause(collection, chunks, made, stored, found < agreement, agreement)
    return CheckResult("contract", Verdict.FAIL, (line, share, *evidence), why, (), figures)

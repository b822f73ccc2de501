"""The embedding contract: the vectors are those of the texts, made by the model that is named."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from reperio.embedding.contract import embed
from reperio.embedding.passages import passage
from reperio.errors import EmbeddingContractError
from reperio.evaluation.subject import Subject
from reperio.evaluation.verdicts import CheckResult, Verdict
from reperio.types import Chunk, FloatMatrix, Metric
from reperio.vectors import cosines

_Cosines: TypeAlias = npt.NDArray[np.float64]

_MOST_EXPECTED = 256  # chunks; a large model takes seconds for each
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
    chunks = {chunk.id: chunk for chunk in subject.survey.sample + subject.survey.newest}
    if subject.golden is not None:
        expected = list(subject.expected.values())[:_MOST_EXPECTED]
        chunks |= {chunk.id: chunk for chunk in expected}
    compared = [chunk for chunk in chunks.values() if chunk.text.strip()]
    if not compared:
        return CheckResult("contract", Verdict.PASS, ("the canaries agree; no chunk has a text",))
    passages = [passage(chunk.text, chunk.metadata) for chunk in compared]
    made = embed(embedder, passages, Metric.INNER_PRODUCT, queries=False)
    stored = collection.vectors([chunk.id for chunk in compared])
    found = _judged(compared, cosines(made, stored), subject.limits.agreement)
    if found.verdict is Verdict.PASS and collection.info().metric is not Metric.COSINE:
        return _lengths(compared, made, stored, found)
    return found


def _lengths(chunks: list[Chunk], made: FloatMatrix, stored: FloatMatrix, found: CheckResult) -> CheckResult:
    """Compare lengths where these count: a vector that was not normalised points the same way."""
    ratios = np.linalg.norm(stored, axis=1) / np.maximum(np.linalg.norm(made, axis=1), 1e-30)
    off = [at for at in range(len(chunks)) if abs(ratios[at] - 1) > _LENGTH]
    if not off:
        return found
    worst = sorted(off, key=lambda at: -abs(np.log(max(ratios[at], 1e-30))))[:_SHOWN]
    evidence = [f"{chunks[at].id}: {ratios[at]:.3g} times as long as made now" for at in worst]
    share = f"{len(off)} of {len(chunks)} stored vectors have another length than those of their texts"
    cause = "vectors were normalised once and not the other time; reperio reembed makes all again"
    return replace(found, verdict=Verdict.FAIL, evidence=(*found.evidence, share, *evidence), cause=cause)


def _judged(chunks: list[Chunk], found: _Cosines, agreement: float) -> CheckResult:
    figures = {"chunks": len(chunks), "least": float(found.min()), "mean": float(found.mean())}
    line = f"the canaries agree; {len(chunks)} texts embedded again: least cosine {figures['least']:.4f}"
    off = [at for at in np.argsort(found) if found[at] < agreement]
    if not off:
        return CheckResult("contract", Verdict.PASS, (line,), figures=figures)
    evidence = [f"{chunks[at].id}: cosine {found[at]:.4f} of {agreement} required" for at in off[:_SHOWN]]
    share = f"{len(off)} of {len(chunks)} stored vectors are not those of their texts"
    return CheckResult(
        "contract", Verdict.FAIL, (line, share, *evidence), _cause(chunks, found, agreement), (), figures
    )


def _cause(chunks: list[Chunk], found: _Cosines, agreement: float) -> str:
    off = found < agreement
    lengths = np.array([len(chunk.text) for chunk in chunks])
    if off.mean() > 0.9:  # no edit of some texts explains nearly all
        return (
            "rows are shifted against their texts, or the texts were embedded by another model or with another prompt"
        )
    if off.sum() >= _SHOWN and np.median(lengths[off]) > 1.5 * np.median(lengths[~off]):
        return "the long texts are off: they were cut before they were embedded"
    return "texts were changed or swapped without being embedded again; reperio reembed makes all vectors again"

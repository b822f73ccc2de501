"""A backup is taken, restored, and answers the same."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from reperio.collection import Collection
from reperio.errors import CollectionDamaged, StorageFailed
from reperio.evaluation.sharded import back_up, checked, opened
from reperio.evaluation.subject import Subject
from reperio.evaluation.verdicts import CheckResult, Verdict
from reperio.types import Chunk

_COMPARED = 20  # questions asked of both
_WORDS = 30  # of a text, as a lexical question
_LETTERS = 3  # of one that every tokenizer finds a word in
_TIE = 1e-5  # what two summations of one product may differ by


def restoring(subject: Subject) -> CheckResult:
    """Take a backup, open it, and compare: count, checksums, and answers."""
    collection = subject.require_collection()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="reperio-gate-") as folder:
        copy = Path(folder) / "backup"
        try:
            back_up(collection, copy)
        except CollectionDamaged as error:
            cause = "no backup is taken of what is damaged: see integrity"
            return CheckResult("backup", Verdict.FAIL, (str(error),), cause)
        except StorageFailed as error:
            return CheckResult("backup", Verdict.ERROR, (str(error),), "TMPDIR=… names a place with more room")
        with opened(copy) as restored:
            problems = checked(restored).problems
            wrong = _differences(collection, restored) + _in_words(collection, restored, subject.survey.sample)
    seconds = time.perf_counter() - started
    evidence = (*(f"backup: {problem}" for problem in problems), *wrong)
    if evidence:
        cause = "the backup is not what was backed up: do not rely on it"
        if not wrong and set(problems) <= set(subject.checked.problems):
            cause = "the backup is what was backed up, and the collection itself is not sound: see integrity"
        return CheckResult("backup", Verdict.FAIL, evidence, cause)
    line = f"restored, verified, and {_COMPARED} answers compared in {seconds:.1f} s"
    return CheckResult("backup", Verdict.PASS, (line,))


def _differences(collection: Collection, restored: Collection) -> list[str]:
    wrong = []
    if restored.count() != collection.count():
        wrong.append(f"{restored.count():,} chunks in the backup, {collection.count():,} in the collection")
    if not collection.count():
        return wrong
    vectors = collection.sample_queries(_COMPARED)
    pairs = zip(*(each.search_many(vectors=vectors, recall=1.0) for each in (collection, restored)), strict=True)
    unlike = sum(
        [hit.chunk for hit in left] != [hit.chunk for hit in right]
        or any(abs(one.score - other.score) > _TIE for one, other in zip(left, right, strict=True))
        for left, right in pairs
    )
    return wrong + ([f"{unlike} of {len(vectors)} questions are answered differently"] if unlike else [])


def _in_words(collection: Collection, restored: Collection, sample: list[Chunk]) -> list[str]:
    if collection.fingerprint()["lexical"] == "none":
        return []
    texts = [" ".join(chunk.text.split()[:_WORDS]) for chunk in sample]
    texts = [text for text in texts if sum(map(str.isalnum, text)) >= _LETTERS][:_COMPARED]
    pairs = zip(*(each.search_many(texts, mode="lexical") for each in (collection, restored)), strict=True)
    unlike = sum([hit.chunk for hit in left] != [hit.chunk for hit in right] for left, right in pairs)
    return [f"{unlike} of {len(texts)} lexical questions are answered differently"] if unlike else []

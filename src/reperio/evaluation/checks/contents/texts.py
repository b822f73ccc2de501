"""Compare texts with the baseline, source by source: those that became alike, of another language, or unreadable."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from reperio.evaluation.checks.contents import moves
from reperio.evaluation.checks.contents.moves import Comparison
from reperio.evaluation.contents import texts as features
from reperio.evaluation.contents.hashing import fingerprint
from reperio.evaluation.contents.profile import SourceProfile
from reperio.evaluation.subject import Subject
from reperio.evaluation.verdicts import CheckResult, Verdict
from reperio.types import Chunk

_LEAST = 5  # chunks
_ENDS = 0.1  # share of a source's chunks that may begin, or end, alike: a document of many chunks does
_NOTED = 0.1  # relative change of a quantile, worth a line


def texts(subject: Subject) -> CheckResult:
    """List what became of the texts."""
    compared = moves.comparison(subject)
    if compared is None:
        return moves.not_compared("texts", subject)
    wrong = [line for name, before, now in compared.sources() for line in _of(subject, compared, name, before, now)]
    line = f"texts of {compared.now.count:,} chunks compared: length, language, likeness, encoding, markup"
    notes = _noted(compared)
    if not wrong:
        return CheckResult("texts", Verdict.PASS, (line, *notes))
    cause = (
        f"what is ingested is no longer what it was: look at the source's pages and their extraction; {moves.ACCEPT}"
    )
    return CheckResult("texts", Verdict.FAIL, (line, *moves.shown(wrong), *notes), cause)


def _of(subject: Subject, compared: Comparison, name: str, before: SourceProfile, now: SourceProfile) -> Iterator[str]:
    place, limit = moves.named(name, compared), compared.limits.alike
    rises: tuple[tuple[str, int, int, int, int, Callable[[Chunk], bool] | None], ...] = (
        ("have the text of another chunk", before.duplicates, before.count, now.duplicates, now.count, None),
        ("are texts that nearly equal two others", before.alike, before.sampled, now.alike, now.sampled, None),
        ("were decoded by the wrong encoding", before.mojibake, before.count, now.mojibake, now.count,
         lambda chunk: features.is_mojibake(chunk.text)),
        ("hold markup of HTML", before.markup, before.sampled, now.markup, now.sampled,
         lambda chunk: features.has_markup(chunk.text)),
        ("have no text", before.lengths.get("0", 0), before.count, now.lengths.get("0", 0), now.count,
         lambda chunk: not chunk.text),
    )  # fmt: skip
    for what, old, of_old, new, of_new, fits in rises:
        if _rose(compared, old, of_old, new, of_new, limit):
            found = moves.examples(_fitting(subject, fits)) if fits else ""
            yield f"{new / of_new:.1%} of the chunks{place} {what}, {old / max(1, of_old):.1%} in the baseline{found}"
    yield from _ends(subject, compared, place, before, now)
    yield from _moved(subject, compared, place, before, now)


def _ends(
    subject: Subject, compared: Comparison, place: str, before: SourceProfile, now: SourceProfile
) -> Iterator[str]:
    """Yield what many texts begin or end with that did not: a banner, a footer, a login page."""
    for what, old, new, cut in (
        ("begin", before.openings, now.openings, slice(None, features.OPENING)),
        ("end", before.closings, now.closings, slice(-features.OPENING, None)),
    ):
        for end, count in new.items():
            then = old.get(end, 0)
            if _rose(compared, then, before.sampled, count, now.sampled, _ENDS):
                those = _fitting(subject, partial(_has_end, cut, end))
                shares = f"{count / now.sampled:.1%} of the chunks{place}", f"{then / max(1, before.sampled):.1%}"
                yield f"{shares[0]} {what} alike, {shares[1]} in the baseline{moves.examples(those)}"


def _has_end(cut: slice, end: str, chunk: Chunk) -> bool:
    return fingerprint(chunk.text[cut]) == end


def _moved(
    subject: Subject, compared: Comparison, place: str, before: SourceProfile, now: SourceProfile
) -> Iterator[str]:
    sampled = before.sampled / max(1, before.count)
    explained = compared.deleted()
    languages = moves.lost(before.languages, now.languages) - explained * sampled
    if moves.is_moved(languages, before.sampled, compared.limits.alike) and _is_whole(compared, before, now):
        left, joined = _most(before.languages, now.languages), _most(now.languages, before.languages)
        if "unknown" not in (left, joined):
            those = _fitting(subject, lambda chunk: features.language_of(chunk.text) == joined)
            chunks = f"{round(languages):,} of {before.sampled:,} chunks{place}"
            became = "hold nearly no words of a language" if joined == features.NO_SENTENCES else f"are {joined}"
            yield f"{chunks} were {left} and {became}{moves.examples(those)}"
    lengths = moves.lost(before.lengths, now.lengths) - explained
    if moves.is_moved(lengths, before.count, compared.limits.lengths):
        left, joined = _most(before.lengths, now.lengths), _most(now.lengths, before.lengths)
        yield (
            f"{round(lengths):,} of {before.count:,} chunks{place} have another length: fewer from {left} characters "
            f"on, more from {joined} on"
        )


def _is_whole(compared: Comparison, before: SourceProfile, now: SourceProfile) -> bool:
    """Say whether both samples were drawn alike: twice as many chunks halve the share that is looked at."""
    return before.sampled * now.count >= 0.75 * now.sampled * before.count or compared.same_chunks


def _rose(compared: Comparison, old: int, of_old: int, new: int, of_new: int, limit: float) -> bool:
    if not of_new or new - old < _LEAST:
        return False
    rise = new / of_new - (old / of_old if of_old else 0.0)
    return rise > limit and compared.is_surprising(old, of_old, new, of_new)


def _fitting(subject: Subject, fits: Callable[[Chunk], bool]) -> list[str]:
    seen = subject.survey
    return list(dict.fromkeys(chunk.id for chunk in [*seen.followed, *seen.newest] if fits(chunk)))[:3]


def _most(counts: Mapping[str, int], others: Mapping[str, int]) -> str:
    return max(counts, key=lambda each: counts[each] - others.get(each, 0), default="")


def _noted(compared: Comparison) -> list[str]:
    before, now = compared.before, compared.now
    noted = []
    if any(abs(new - old) > _NOTED * max(abs(old), 1e-9) for old, new in zip(before.lengths, now.lengths, strict=True)):
        old, new = (", ".join(f"{value:.4g}" for value in each.lengths) for each in (before, now))
        noted.append(f"text length (5%, median, 95%): {old} → {new}")
    if abs(now.duplicates - before.duplicates) > _NOTED / 10:
        noted.append(f"duplicate texts: {before.duplicates:.1%} → {now.duplicates:.1%}")
    return noted

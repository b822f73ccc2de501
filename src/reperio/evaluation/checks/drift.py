"""Compare settings, chunks, metadata, texts and versions with the baseline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reperio.evaluation.baseline import versions
from reperio.evaluation.subject import Subject
from reperio.evaluation.survey import Profile, reach
from reperio.evaluation.verdicts import CheckResult, Verdict

# With another one of these, neither vectors nor words can be compared with those of before.
_FIXED = ("metric", "dimension", "dtype", "lexical", "embedder", "query_prompt", "passage_prompt")
_CANARIES = 0.02  # two precisions of one model differ by less than a hundredth of this; two models by far more
_FIELD_SHARE = 0.01  # of the chunks; a rarer field may vanish by chance
_NOTED = 0.1  # change of a share, or relative change of a quantile, worth a line
_NEW = 0.05  # share of new chunks worth a line


def drift(subject: Subject) -> CheckResult:
    """List what differs; red are other settings, chunks that went missing, and metadata fields that vanished."""
    baseline = subject.baseline
    if baseline is None or baseline.profile is None:
        return CheckResult("drift", Verdict.SKIP, ("there is no baseline; reperio gate --accept writes it",))
    collection = subject.require_collection()
    settings = collection.fingerprint()
    wrong = _settings(baseline.settings, settings)
    now = subject.survey.profile
    wrong += _missing(baseline.profile, now, subject.limits.shrink)
    wrong += [
        f"the metadata field {name!r}, which {share:.0%} of the chunks had, is in none"
        for name, share in baseline.profile.fields.items()
        if share >= _FIELD_SHARE and not now.fields.get(name)
    ]
    noted = [*_texts(baseline.profile, now), *_versions(baseline.versions)]
    # Two revisions may give the same vectors; whether they do, the canaries tell.
    if baseline.settings.get("revision") != settings["revision"]:
        then, current = baseline.settings.get("revision"), settings["revision"]
        noted.append(f"revision of the model {then or 'none'} → {current or 'none'}")
    index = collection.info().index
    factory = index.factory if index else None
    if baseline.index.get("factory") != factory:
        noted.append(f"index {baseline.index.get('factory') or 'exact'} → {factory or 'exact'}")
    if wrong:
        cause = "if this is meant, accept it: reperio gate --accept"
        return CheckResult("drift", Verdict.FAIL, tuple(wrong + noted), cause)
    line = f"{now.count:,} chunks, {baseline.profile.count:,} in the baseline of {baseline.made[:10]}"
    return CheckResult("drift", Verdict.PASS, (line, *noted))


def _settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    wrong = [f"{name} {before.get(name)!r} → {now.get(name)!r}" for name in _FIXED if before.get(name) != now.get(name)]
    old, new = before.get("canaries") or [], now.get("canaries") or []
    if len(old) == len(new) and old:
        apart = max(abs(left - right) for left, right in zip(old, new, strict=True))
        if apart > _CANARIES:
            wrong.append(f"the canaries' cosines to each other differ by up to {apart:.3f}: another model or prompt")
    elif len(old) != len(new):
        wrong.append("there is a contract with an embedder in only one of the two")
    return wrong


def _missing(before: Profile, now: Profile, shrink: float) -> list[str]:
    wrong = []
    lost = 1 - now.count / before.count if before.count else 0.0
    if lost > shrink:
        wrong.append(f"{before.count:,} chunks → {now.count:,}: {lost:.1%} fewer, {shrink:.1%} is allowed")
    followed = {key for key in before.sketch if key <= reach(now)}
    gone, known = followed - set(now.sketch), len(followed)  # that a sketch of now would have to hold
    # The sketch tells missing chunks even where as many others came; two of a thousand are within its rounding.
    if known and len(gone) / known > max(shrink, 2 / known) and lost <= shrink:
        wrong.append(f"{len(gone)} of {known} chunks that are followed by id are gone")
    return wrong


def _texts(before: Profile, now: Profile) -> list[str]:
    noted = []
    shared = set(before.sketch) & set(now.sketch)
    changed = sum(before.sketch[key] != now.sketch[key] for key in shared)
    if shared and changed:
        noted.append(f"texts changed: {changed / len(shared):.1%} of the chunks followed by id")
    within = [key for key in now.sketch if key <= reach(before)]
    fresh = sum(key not in before.sketch for key in within) / len(within) if within else 0.0
    if fresh > _NEW:
        noted.append(f"new chunks: {fresh:.1%}")
    for what, old, new in (("text length", before.lengths, now.lengths), ("norms", before.norms, now.norms)):
        if any(abs(right - left) > _NOTED * max(abs(left), 1e-9) for left, right in zip(old, new, strict=True)):
            noted.append(f"{what} (5%, median, 95%): {_shown(old)} → {_shown(new)}")
    if abs(now.duplicates - before.duplicates) > _NOTED / 10:
        noted.append(f"duplicate texts: {before.duplicates:.1%} → {now.duplicates:.1%}")
    for name in sorted({*before.fields, *now.fields}):
        old_share, new_share = before.fields.get(name, 0.0), now.fields.get(name, 0.0)
        if abs(new_share - old_share) > _NOTED:
            noted.append(f"metadata field {name!r}: in {old_share:.0%} → {new_share:.0%} of the chunks")
    return noted


def _versions(before: Mapping[str, str]) -> list[str]:
    now = versions()
    return [
        f"{name} {before.get(name, 'absent')} → {now.get(name, 'absent')}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]


def _shown(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)

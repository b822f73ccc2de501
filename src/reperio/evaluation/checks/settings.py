"""Compare settings, index and versions with the baseline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reperio.evaluation.baseline import versions
from reperio.evaluation.subject import Subject
from reperio.evaluation.verdicts import CheckResult, Verdict

# With another one of these, neither vectors nor words can be compared with those of before.
_FIXED = ("metric", "dimension", "dtype", "lexical", "embedder", "query_prompt", "passage_prompt")
_CANARIES = 0.02  # two precisions of one model differ by less than a hundredth of this; two models by far more


def settings(subject: Subject) -> CheckResult:
    """List what differs; red are other settings."""
    baseline = subject.baseline
    if baseline is None or not baseline.settings:
        return CheckResult("settings", Verdict.SKIP, ("there is no baseline; reperio gate --accept writes it",))
    collection = subject.require_collection()
    now = collection.fingerprint()
    wrong = _settings(baseline.settings, now)
    noted = _versions(baseline.versions)
    # Two revisions may give the same vectors; whether they do, the canaries tell.
    if baseline.settings.get("revision") != now["revision"]:
        then, current = baseline.settings.get("revision"), now["revision"]
        noted.append(f"revision of the model {then or 'none'} → {current or 'none'}")
    index = collection.info().index
    factory = index.factory if index else None
    if baseline.index.get("factory") != factory:
        noted.append(f"index {baseline.index.get('factory') or 'exact'} → {factory or 'exact'}")
    if wrong:
        cause = "if this is meant, accept it: reperio gate --accept"
        return CheckResult("settings", Verdict.FAIL, (*wrong, *noted), cause)
    line = f"metric, dimension, model and words are those of the baseline of {baseline.made[:10]}"
    if baseline.index.get("factory") and index is None:
        cause = "there is no index, and every search compares all vectors: reperio optimize builds one"
        return CheckResult("settings", Verdict.WARN, (line, *noted), cause)
    return CheckResult("settings", Verdict.PASS, (line, *noted))


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


def _versions(before: Mapping[str, str]) -> list[str]:
    now = versions()
    return [
        f"{name} {before.get(name, 'absent')} → {now.get(name, 'absent')}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]

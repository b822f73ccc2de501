"""The baseline: what was accepted, as a file to commit."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeAlias

from reperio.arguments import to_path
from reperio.errors import InvalidInput
from reperio.evaluation.contents.profile import Profile, to_profile
from reperio.evaluation.limits import is_number
from reperio.layout import read_regular, reason, storage_errors, write_atomically

FORMAT = 2
"""Of the file. Format 1 is read as well: it lacks sources, fields, times of questions and the history."""
MAX_BYTES = 1 << 30
"""A longer baseline is not read."""

# Their versions may change answers or times.
_LIBRARIES = (
    "reperio",
    "faiss-cpu",
    "faiss-gpu",
    "faiss-gpu-cuvs",
    "numpy",
    "apsw",
    "sentence-transformers",
    "torch",
    "ir-measures",
)

_Test: TypeAlias = Callable[[Any], bool]
_Kind: TypeAlias = tuple[str, _Test]
"""The form of a field of the file, in words, and the test for it."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """The figures of a collection that a person accepted.

    Attributes:
        made: UTC time, ISO 8601.
        settings: metric, dimension, embedder and the like: `Collection.fingerprint`.
        index: recipe of the index in use; empty for exact search.
        profile: figures of the chunks; None where only a search was judged.
        values: measures by name and question, as they were judged then.
        asked: fingerprint of every question with its filter and mode, by its id.
        ids: what came, by question, best first: chunks, or documents where documents were expected.
        depth: of the lists of ids, at most.
        labels: fingerprint of the text of every expected chunk, by id.
        latency: p50, p95, p99 in ms and rate in queries per second; "threads", "kind" of questions, and "waited",
            the share of time that its threads waited for a core; "cold", ms of the first call; "stalled", the share of
            calls that took many times the question's own time; "questions", ms by question.
        neighbours: knn recall@k and the number of queries.
        versions: of libraries.
        machine: that the latency was measured on.
        history: what earlier baselines accepted, oldest first: see `history`.
        streaks: accepted baselines in a row, this one included, in which a question's first hit was right.
    """

    made: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    index: Mapping[str, Any] = field(default_factory=dict)
    profile: Profile | None = None
    values: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    asked: Mapping[str, str] = field(default_factory=dict)
    ids: Mapping[str, Sequence[str]] = field(default_factory=dict)
    depth: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    latency: Mapping[str, Any] = field(default_factory=dict)
    neighbours: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)
    history: Sequence[Mapping[str, Any]] = ()
    streaks: Mapping[str, int] = field(default_factory=dict)


def baseline_path(golden: str | os.PathLike[str]) -> Path:
    """Return where the baseline of a golden set is: next to it."""
    return to_path("golden", golden).with_suffix(".baseline.json")


def read_baseline(path: str | os.PathLike[str]) -> Baseline:
    """Read a baseline.

    Raises:
        InvalidInput: it is missing, damaged, or of another version; `reperio gate --accept` writes it again.
    """
    cure = "reperio gate --accept writes it again"
    try:
        content = json.loads(read_regular(to_path("path", path), MAX_BYTES, follow=True))
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read ({reason(error)}); {cure}") from error
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{path} is no valid JSON ({error}); {cure}") from None
    if not isinstance(content, dict) or content.get("format") not in (1, FORMAT):
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise InvalidInput(f"{path} has the format {found!r}, not 1 or {FORMAT}; {cure}")
    try:
        added: dict[str, Any] = {"history": [], "streaks": {}} if content["format"] == 1 else {}
        return _from_json({**added, **{key: value for key, value in content.items() if key != "format"}})
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise InvalidInput(f"{path} is no baseline ({error}); {cure}") from None


def write_baseline(baseline: Baseline, path: str | os.PathLike[str]) -> None:
    """Write a baseline, whole or not at all; sorted and indented, so that a diff can be read.

    Raises:
        StorageFailed: it cannot be written.
    """
    content = {"format": FORMAT, **asdict(baseline)}
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    target = to_path("path", path)
    with storage_errors(target, "write"):
        write_atomically(target, text.encode())


def versions() -> dict[str, str]:
    """Return the versions of what answers depend on, as installed."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Return what latency depends on and is told without privileges: processor and cores."""
    return {"processor": _processor(), "cores": len(os.sched_getaffinity(0)), "system": platform.system()}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def _from_json(content: dict[str, Any]) -> Baseline:
    lacking = {each.name for each in fields(Baseline)} - content.keys()
    if lacking:  # each has a default in Python, and none in a file: what is not there cannot be compared
        raise ValueError(f"it lacks {', '.join(sorted(lacking))}")
    _require(content, _KINDS)
    profile = content.pop("profile")
    if profile is not None:
        _require({**_EMPTY, **profile}, _PROFILE, "profile.")
        for name, source in profile.get("sources", {}).items():
            _require({**_EMPTY_SOURCE, **source}, _SOURCE, f"profile.sources.{name}.")
            for path, kept in source.get("fields", {}).items():
                _require({"types": {}, "shapes": {}, "values": None, **kept}, _FIELD, f"profile.sources.{name}.{path}.")
        profile = to_profile(profile)
    # Earlier baselines lack "waited", and are taken as if nothing had disturbed them.
    if content["latency"]:
        _require(
            {"waited": 0.0, "cold": 0.0, "stalled": 0.0, "questions": {}, **content["latency"]}, _LATENCY, "latency."
        )
    _require({"canaries": content["settings"].get("canaries") or []}, {"canaries": _NUMBERS}, "settings.")
    return Baseline(profile=profile, **{**content, "history": tuple(content["history"])})


def _require(content: Mapping[str, Any], kinds: Mapping[str, _Kind], within: str = "") -> None:
    """Refuse what a hand, or a merge, has changed to something that cannot be compared."""
    for name, (what, holds) in kinds.items():
        value = content.get(name)
        if not holds(value):
            raise TypeError(f"{within}{name} is {str(value)[:60]!r}; it must be {what}")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _listed(holds: _Test, length: int | None = None) -> _Test:
    """Return the test for a list of such things."""
    return lambda value: isinstance(value, list) and length in (None, len(value)) and all(map(holds, value))


def _keyed(holds: _Test) -> _Test:
    """Return the test for an object of such things."""
    return lambda value: isinstance(value, dict) and all(map(holds, value.values()))


def _is_entry(value: object) -> bool:
    """Say whether a value is an entry of the history."""
    if not isinstance(value, dict) or not _is_text(value.get("made")):
        return False
    return _keyed(is_number)(value.get("values")) and _keyed(_is_text)(value.get("asked"))


_WHOLE: _Kind = ("a whole number from 0", _is_count)
_COUNTS: _Kind = ("an object of whole numbers", _keyed(_is_count))
_NUMBER: _Kind = ("a finite number", is_number)
_NUMBERS: _Kind = ("a list of finite numbers", _listed(is_number))
_OBJECT: _Kind = ("an object", _keyed(lambda _: True))
_TEXTS: _Kind = ("an object of texts", _keyed(_is_text))
_THREE: _Kind = ("three finite numbers", _listed(is_number, 3))
_KINDS: dict[str, _Kind] = {
    **dict.fromkeys(("settings", "index", "latency", "neighbours", "machine"), _OBJECT),
    **dict.fromkeys(("asked", "labels", "versions"), _TEXTS),
    "made": ("a text", _is_text),
    "profile": ("an object, or null", lambda value: value is None or isinstance(value, dict)),
    "values": ("numbers by measure and question", _keyed(_keyed(is_number))),
    "ids": ("lists of ids by question", _keyed(_listed(_is_text))),
    "depth": _WHOLE,
    "streaks": _COUNTS,
    "history": ("a list of objects with made, values and asked", _listed(_is_entry)),
}
_PROFILE: dict[str, _Kind] = {
    "count": _WHOLE,
    "lengths": _THREE,
    "fields": ("an object of numbers", _keyed(is_number)),
    "duplicates": _NUMBER,
    "norms": _THREE,
    "sketch": _TEXTS,
    "followed": _TEXTS,
    "source_field": ("a text", _is_text),
    "source_depth": _WHOLE,
    "sources": ("an object of objects", _keyed(lambda value: isinstance(value, dict))),
    "access": ("a list of texts", _listed(_is_text)),
    "vectors": ("an object of whole numbers, or null", lambda value: value is None or _keyed(_is_count)(value)),
    "marks": _TEXTS,
}
_EMPTY = {
    "followed": {}, "source_field": "", "source_depth": 1, "sources": {}, "access": [], "vectors": None, "marks": {},
}  # fmt: skip
_SOURCE: dict[str, _Kind] = {
    **dict.fromkeys(("count", "duplicates", "mojibake", "sampled", "markup", "alike"), _WHOLE),
    **dict.fromkeys(("lengths", "languages", "openings", "closings"), _COUNTS),
    "fields": ("an object of objects", _keyed(lambda value: isinstance(value, dict))),
}
_EMPTY_SOURCE = {
    **dict.fromkeys(("duplicates", "mojibake", "sampled", "markup", "alike"), 0),
    **{name: {} for name in ("lengths", "languages", "openings", "closings", "fields")},
}
_FIELD: dict[str, _Kind] = {
    "present": _WHOLE,
    **dict.fromkeys(("types", "shapes"), _COUNTS),
    "values": ("an object of whole numbers, or null", lambda value: value is None or _keyed(_is_count)(value)),
}
_LATENCY: dict[str, _Kind] = {
    **dict.fromkeys(("p50", "p95", "waited", "cold", "stalled"), _NUMBER),
    "questions": ("an object of numbers", _keyed(is_number)),
}

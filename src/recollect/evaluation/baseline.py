"""The baseline: what was accepted, as a file to commit."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from recollect.errors import InvalidInput
from recollect.evaluation.survey import Profile
from recollect.layout import storage_errors, write_atomically

FORMAT = 1
_LIBRARIES = ("recollect", "faiss-cpu", "faiss-gpu", "numpy", "apsw", "sentence-transformers", "torch", "ir-measures")


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a collection did when a person accepted it.

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
            the share of time that its threads waited for a core.
        neighbours: knn recall@k and the number of queries.
        versions: of libraries.
        machine: that the latency was measured on.

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


def baseline_path(golden: str | os.PathLike[str]) -> Path:
    """Return where the baseline of a golden set lies: beside it."""
    return Path(golden).with_suffix(".baseline.json")


def read_baseline(path: str | os.PathLike[str]) -> Baseline:
    """Read a baseline.

    Raises:
        InvalidInput: it is missing, damaged, or of another version; `recollect gate --accept` writes it anew.

    """
    cure = "recollect gate --accept writes it anew"
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read ({error.strerror or error}); {cure}") from error
    except ValueError as error:
        raise InvalidInput(f"{path} is no valid JSON ({error}); {cure}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise InvalidInput(f"{path} has the format {found!r}, not {FORMAT}; {cure}")
    try:
        return _from_json({key: value for key, value in content.items() if key != "format"})
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise InvalidInput(f"{path} is no baseline ({error}); {cure}") from None


def write_baseline(baseline: Baseline, path: str | os.PathLike[str]) -> None:
    """Write a baseline, whole or not at all; sorted and indented, so that a diff can be read.

    Raises:
        StorageFailed: it cannot be written.

    """
    content = {"format": FORMAT, **asdict(baseline)}
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    with storage_errors(Path(path), "write"):
        write_atomically(Path(path), text.encode())


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
    profile = content.pop("profile")
    if profile is not None:
        profile = Profile(**{**profile, "lengths": tuple(profile["lengths"]), "norms": tuple(profile["norms"])})
    lacking = {each.name for each in fields(Baseline)} - {*content, "profile"}
    if lacking:  # each has a default in Python, and none in a file: what is not there cannot be compared
        raise ValueError(f"it lacks {', '.join(sorted(lacking))}")
    for name in ("values", "ids", "asked", "labels", "settings", "versions"):
        if not isinstance(content[name], dict):
            raise TypeError(f"{name} is no object")
    return Baseline(profile=profile, **content)

"""Whether a name stands for what it stood for before, and whether its chunks are made as they were."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from reperio.errors import InvalidInput
from reperio.ingestion.items import Fields
from reperio.ingestion.results import Skipped
from reperio.ingestion.run.content import hash_of
from reperio.ingestion.run.ledger import Ledger, RootRecord, this_host
from reperio.ingestion.sources import FoundFiles
from reperio.ingestion.splitting import Splitter
from reperio.types import Embedder

DEFAULTS: Mapping[str, Any] = {"text_field": "text", "id_field": "id", "max_tokens": None, "overlap": None}
"""The options that decide what the chunks of a file are; those that are not given are as they were before."""

_COMPARED = 200  # files by which a folder is known again


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a caller says of the chunks."""

    given: Mapping[str, Any]  # those of the options that are not None
    metadata: Mapping[str, Any] | None  # None for what it was before
    fixed: Mapping[str, Any]  # what the scope demands
    name: str | None  # said by the caller, not taken from the path
    again: bool  # read all files again


@dataclass(frozen=True, slots=True)
class Plan:
    """How the files of one root become chunks."""

    root: RootRecord
    fields: Fields
    splitter: Splitter
    metadata: Mapping[str, Any]
    made: str  # hash of all of that


@dataclass(slots=True)
class Plans:
    """The plans of a run, by root, and what there is to tell of them."""

    by_root: dict[str, Plan] = field(default_factory=dict)
    notes: list[Skipped] = field(default_factory=list)

    def changed(self, recorded: Mapping[str, RootRecord]) -> list[RootRecord]:
        """Return the roots that are not recorded as they are."""
        return [plan.root for name, plan in self.by_root.items() if recorded.get(name) != plan.root]


def make_plans(found: FoundFiles, ledger: Ledger, embedder: Embedder, wanted: Wanted) -> Plans:
    """Decide how the files of each root are read, and refuse what would replace the chunks of something else.

    Raises:
        InvalidInput: another folder has the name of one, or its chunks would be made in another way.
    """
    plans, recorded = Plans(), ledger.roots()
    splitters: dict[tuple[int | None, int | None], Splitter] = {}
    for name, place in found.roots.items():
        old = recorded.get(name)
        if old is not None and old.place != str(place):
            plans.notes += _require_same(old, place, found, ledger, wanted)
        shape = {**DEFAULTS, **(old.shape if old else {}), **wanted.given}
        lengths = shape["max_tokens"], shape["overlap"]
        if lengths not in splitters:
            splitters[lengths] = Splitter(embedder, max_tokens=lengths[0], overlap=lengths[1])
        splitter = splitters[lengths]
        shape["capacity"] = splitter.capacity  # by default the embedder's, which may be another one some day
        if old is not None and {**DEFAULTS, **old.shape} != shape and not wanted.again and _has_files(name, ledger):
            raise _reshaped(old, shape)
        own = old.metadata if old and wanted.metadata is None else wanted.metadata or {}
        metadata = {**wanted.fixed, **own}
        made = json.dumps([shape, metadata], sort_keys=True, default=str)
        plans.by_root[name] = Plan(
            RootRecord(name, str(place), this_host(), shape, own),
            Fields(shape["text_field"], shape["id_field"]),
            splitter,
            metadata,
            blake2b(made.encode(), digest_size=8).hexdigest(),
        )
    return plans


def _reshaped(old: RootRecord, shape: Mapping[str, Any]) -> InvalidInput:
    differing = [key for key in shape if key != "capacity" and old.shape.get(key, DEFAULTS.get(key)) != shape[key]]
    cure = "to read and split all of its files again, pass rechunk=True (--rechunk)"
    if differing:
        key = differing[0]
        was, now = (_said(value) for value in (old.shape.get(key, DEFAULTS.get(key)), shape[key]))
        return InvalidInput(
            f"{old.name} was ingested with {was} for {key}, and now it would be {now}; leave {key}= "
            f"(--{key.replace('_', '-')}) out to go on as before, or, {cure}"
        )
    return InvalidInput(
        f"{old.name} was split into pieces of {old.shape.get('capacity')} for another embedder, and now it would be "
        f"{shape['capacity']}; {cure}"
    )


def _said(value: Any) -> str:
    return "the default" if value is None else repr(value)


def _require_same(old: RootRecord, place: Path, found: FoundFiles, ledger: Ledger, wanted: Wanted) -> list[Skipped]:
    """Return what to say of a folder or file that is at another place than before, or refuse another one."""
    if not _has_files(old.name, ledger):
        return []
    if wanted.name is None:
        still_there = old.host == this_host() and Path(old.place).exists()
        if still_there or not _is_known_again(old.name, found, ledger):
            where = old.place if old.host == this_host() else f"{old.place} on {old.host}"
            raise InvalidInput(
                f"{old.name!r} is {where}, and its chunks are in this collection; {place} would replace them. If it is "
                "something else, give it a name of its own with name='…' (--name); if it is the same, moved or copied, "
                f"pass name={old.name!r} (--name {old.name})"
            )
    return [Skipped(old.name, f"was at {old.place}, and is at {place} now")]


def _has_files(name: str, ledger: Ledger) -> bool:
    return any(file.root == name and file.whole for file in ledger.all_files())


def _is_known_again(name: str, found: FoundFiles, ledger: Ledger) -> bool:
    """Say whether at least half of the files that had these names before have the same content."""
    recorded = {file.source: file.content for file in ledger.all_files() if file.root == name}
    both = [file for file in found.files if file.source in recorded][:_COMPARED]
    same = 0
    for file in both:
        try:
            same += hash_of(file.path) == recorded[file.source]
        except InvalidInput:
            continue
    return bool(both) and same * 2 >= len(both)

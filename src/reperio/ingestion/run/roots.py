"""Whether a name stands for what it stood for before, and whether its chunks are made as they were."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from hashlib import blake2b
from itertools import count
from pathlib import Path
from typing import Any

from reperio.arguments import did_you_mean
from reperio.errors import InvalidInput
from reperio.ingestion.cutting.splitting import Splitter
from reperio.ingestion.finding.sources import STANDARD_INPUT, FoundFiles, is_gone, recorded_place
from reperio.ingestion.ledger.content import hash_of
from reperio.ingestion.ledger.records import Ledger, RootRecord, this_host
from reperio.ingestion.reading.items import ReadingOptions
from reperio.ingestion.results import Skipped
from reperio.types import Embedder


def _plain(value: Any) -> Any:
    """Return an option as a record keeps it."""
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value


_READING = tuple(one.name for one in fields(ReadingOptions) if one.name != "seconds")
DEFAULTS: Mapping[str, Any] = {
    **{name: _plain(getattr(ReadingOptions(), name)) for name in _READING},
    "max_tokens": None,
    "overlap": None,
    "skip_duplicates": False,
}
"""The options that decide what the chunks of a file are; those that are not given are as they were before."""

_OPTIONS = {
    "text": "text_field",
    "id": "id_field",
    "drop": "drop_columns",
    "title": "title_field",
    "types": "column_types",
}
"""The names of options on the command line, where they are others."""

_COMPARED = 200  # files by which a folder is known again


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a caller says of the chunks."""

    given: Mapping[str, Any]  # those of the options that are not as before
    seconds: float | None  # for one document
    metadata: Mapping[str, Any] | None  # None for what it was before
    fixed: Mapping[str, Any]  # what the scope demands
    name: str | None  # said by the caller, not taken from the path
    again: bool  # read all files again


@dataclass(frozen=True, slots=True)
class Plan:
    """How the files of one root become chunks."""

    root: RootRecord
    reading: ReadingOptions
    splitter: Splitter
    metadata: Mapping[str, Any]  # that items cannot overrule
    fixed: Mapping[str, Any]  # what the scope demands; an item that says otherwise is of another scope, and refused
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
        _require_apart(name, place, recorded, ledger)
        at = recorded_place(place)
        if old is not None and (old.place, old.host) != (at, this_host()):
            plans.notes += _require_same(old, place, found, ledger, wanted)
        whole = found.covers(place)
        before = old
        if old is not None and old.part and whole:  # options of a part of it were never those of the whole
            plans.notes += _no_longer(old, wanted)
            before = None
        shape = {**DEFAULTS, **(before.shape if before else {}), **wanted.given}
        _to_reading(shape, wanted)  # refused here if it cannot be
        if before is not None and not whole and _has_files(name, ledger):
            _require_as_before(before, place, shape, wanted)
        lengths = shape["max_tokens"], shape["overlap"]
        if lengths not in splitters:
            splitters[lengths] = Splitter(embedder, max_tokens=lengths[0], overlap=lengths[1])
        splitter = splitters[lengths]
        shape["capacity"] = splitter.capacity  # by default the embedder's, which may be another one some day
        if before and {**DEFAULTS, **before.shape} != shape and not wanted.again and _has_files(name, ledger):
            raise _reshaped(before, shape)
        own = before.metadata if before and wanted.metadata is None else wanted.metadata or {}
        metadata = {key: value for key, value in own.items() if wanted.fixed.get(key, value) == value}
        # What was ingested before there was this option is not read again for it.
        deciding = {key: value for key, value in shape.items() if key != "skip_duplicates" or value}
        made = json.dumps([deciding, {**wanted.fixed, **metadata}], sort_keys=True, default=str)
        plans.by_root[name] = Plan(
            RootRecord(name, at, this_host(), shape, own, part=not whole and (old is None or old.part)),
            _to_reading(shape, wanted),
            splitter,
            metadata,
            wanted.fixed,
            blake2b(made.encode(), digest_size=8).hexdigest(),
        )
    return plans


def given_by(reading: ReadingOptions | Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the options of reading that are not to be as before.

    Args:
        reading: of a mapping, all; of `ReadingOptions`, what differs from the defaults.

    Raises:
        InvalidInput: there is no such option.
    """
    if reading is None:
        return {}
    if isinstance(reading, ReadingOptions):
        plain = ReadingOptions()
        values = {name: getattr(reading, name) for name in _READING}
        return {name: _plain(value) for name, value in values.items() if value != getattr(plain, name)}
    if not isinstance(reading, Mapping):
        raise InvalidInput(f"reading is a {type(reading).__name__}; pass ReadingOptions(…), or a dictionary of some")
    for name in reading:
        if name not in _READING:
            raise InvalidInput(f"reading has no option {name!r}; {did_you_mean(str(name), _READING)}it has {_READING}")
    return {name: _plain(value) for name, value in reading.items()}


def _to_reading(shape: Mapping[str, Any], wanted: Wanted) -> ReadingOptions:
    values = {name: shape[name] for name in _READING}
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    if wanted.seconds is not None:
        values["seconds"] = wanted.seconds
    options = ReadingOptions(**values)
    if options.text == options.id:
        raise InvalidInput(
            f"text_field (--text-field) and id_field (--id-field) are both {options.text!r}; they are two fields"
        )
    return options


def _reshaped(old: RootRecord, shape: Mapping[str, Any]) -> InvalidInput:
    differing = [key for key in shape if key != "capacity" and old.shape.get(key, DEFAULTS.get(key)) != shape[key]]
    cure = "to read and split all of its files again, pass rechunk=True (--rechunk)"
    if differing:
        key = differing[0]
        was, now = (_said(value) for value in (old.shape.get(key, DEFAULTS.get(key)), shape[key]))
        return InvalidInput(
            f"{old.name} was ingested with {_option(key)} {was}, and {now} is given now; leave {key}= "
            f"(--{_option(key)}) out to go on as before, or, {cure}"
        )
    return InvalidInput(
        f"{old.name} was split into pieces of {old.shape.get('capacity')} for another embedder, and now it would be "
        f"{shape['capacity']}; {cure}"
    )


def _said(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(repr, value)) or "nothing"
    return "by default" if value is None else repr(value)


def _option(key: str) -> str:
    """Return the name of an option on the command line."""
    return _OPTIONS.get(key, key).replace("_", "-")


def _no_longer(old: RootRecord, wanted: Wanted) -> list[Skipped]:
    """Say which options were given for a part of a folder, and do not hold now that all of it is ingested."""
    keys = [key for key in DEFAULTS if old.shape.get(key, DEFAULTS[key]) != wanted.given.get(key, DEFAULTS[key])]
    keys += ["metadata"] if old.metadata and wanted.metadata != old.metadata else []
    if not keys:
        return []
    options = ", ".join(f"--{_option(key)}" for key in keys)
    return [Skipped(old.name, f"was ingested in part until now, and the options of that part end with it: {options}")]


def _require_as_before(old: RootRecord, place: Path, shape: Mapping[str, Any], wanted: Wanted) -> None:
    """Refuse options that were given for a part of a folder: they are kept for all of it, and would spread."""
    differing = [key for key in wanted.given if old.shape.get(key, DEFAULTS[key]) != shape[key]]
    if wanted.metadata is not None and wanted.metadata != old.metadata:
        differing.append("metadata")
    if differing:
        key = differing[0]
        raise InvalidInput(
            f"{key} (--{_option(key)}) is given for a part of {old.name}, and would hold for all of it from the next "
            f"run on; leave it out, or pass it with the whole folder {place}. A file that needs options of its own has "
            "to lie outside of that folder"
        )


def _require_same(old: RootRecord, place: Path, found: FoundFiles, ledger: Ledger, wanted: Wanted) -> list[Skipped]:
    """Return what to say of a folder or file that is at another place than before, or refuse another one.

    The same path on another machine is another place: in containers, all projects lie in ``/app/docs``.
    """
    if not _has_files(old.name, ledger):
        return []
    if STANDARD_INPUT in (old.place, recorded_place(place)):
        return _require_other_name(old, recorded_place(place))
    where = old.place if old.host == this_host() else f"{old.place} on {old.host}"
    if wanted.name is None:
        still_there = old.host == this_host() and not is_gone(Path(old.place))
        if still_there or not _is_known_again(old.name, place, found, ledger):
            raise InvalidInput(
                f"{old.name!r} is {where}, and its chunks are in this collection; {place} would replace them. If it is "
                "something else, give it a name of its own with name='…' (--name); if it is the same, moved or copied, "
                f"pass name={old.name!r} (--name {old.name})"
            )
    return [Skipped(old.name, f"was at {where}, and is at {place} now")]


def _require_other_name(old: RootRecord, at: str) -> list[Skipped]:
    """Refuse a file with the name of what was piped in, and the other way round; neither is the other, moved."""
    if old.place == at:
        return []
    raise InvalidInput(
        f"{old.name!r} is {old.place}, and its chunks are in this collection; {at} would replace them. Give it a name "
        "of its own with name='…' (--name)"
    )


def _require_apart(name: str, place: Path, recorded: Mapping[str, RootRecord], ledger: Ledger) -> None:
    """Refuse a name under which the sources would be those of something else."""
    old = recorded.get(name)
    if old is None:
        others = [one for one in recorded if f"{one}/".startswith(f"{name}/") or f"{name}/".startswith(f"{one}/")]
    elif old.place != recorded_place(place):  # the same, moved; but no file is what a folder was
        others = [name]
    else:
        others = []
    for other in others:
        inside = {file.inside != "" for file in ledger.all_files() if file.root == other and file.whole}
        if inside and (old is None or place.is_dir() not in inside):
            kind = "the folder" if True in inside else "the file"
            raise InvalidInput(
                f"{name!r} cannot be the name of {recorded_place(place)}: sources in this collection that begin with "
                f"it are those of {other!r}, {kind} {recorded[other].place}. Give it another name, with "
                f"name='…' (--name), such as {_free(name.replace('/', '-'), recorded)!r}"
            )


def _free(name: str, recorded: Mapping[str, RootRecord]) -> str:
    """Return a name without slashes that no root has, nor one above it."""
    tops = {one.partition("/")[0] for one in recorded}
    return name if name not in tops else next(one for one in (f"{name}-{at}" for at in count(2)) if one not in tops)


def _has_files(name: str, ledger: Ledger) -> bool:
    return any(file.root == name and file.whole for file in ledger.all_files())


def _is_known_again(name: str, place: Path, found: FoundFiles, ledger: Ledger) -> bool:
    """Say whether at least half of the files that are recorded are there, with the same content."""
    recorded = [file for file in ledger.all_files() if file.root == name and file.whole]
    some = recorded[:: -(-len(recorded) // _COMPARED) or 1]  # some of each part of it, where there are many
    paths = {file.source: file.path for file in found.files}
    same = 0
    for file in some:
        try:
            same += hash_of(paths.get(file.source, place / file.inside)) == file.content
        except (InvalidInput, OSError):  # such as one that is not there
            continue
    return bool(some) and same * 2 >= len(some)

"""Compare metadata with the baseline: fields that got lost, of another type or spelling, or with other values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from reperio.evaluation.checks.contents import moves
from reperio.evaluation.checks.contents.moves import Comparison
from reperio.evaluation.contents.hashing import fingerprint
from reperio.evaluation.contents.profile import FieldProfile
from reperio.evaluation.contents.values import key_of, plain, shape_of, source_of, type_of, value_at
from reperio.evaluation.subject import Subject
from reperio.evaluation.survey import canonical, deciding
from reperio.evaluation.verdicts import CheckResult, Verdict
from reperio.filters import parse_path
from reperio.types import Chunk

_ABSENT, _THERE = "(absent)", "(there)"
_RARE = 0.01  # of the chunks; a rarer field may vanish by chance
_SHARED = 2  # chunks to a value, on average, from which on another value of a chunk tells something
_POSITIONS = 0.1  # of the chunks whose number may get another count of digits, where each has its own number
_SCATTERED = 0.1  # of the values; more that are written each in its own way tell nothing
_DATE = re.compile(r'"?(?:\d{4}-\d\d-\d\d|0+-0+-0+|1\d{9}(?:\d{3})?(?:\.\d+)?$|1[03] digits)')
_NOTHING = FieldProfile(0)
_ELEMENT, _IN_A_LIST = "element", " in a list"


@dataclass(frozen=True, slots=True)
class Move:
    """Chunks of a source that moved from one class of a field to another.

    Attributes:
        source: its name.
        path: of the field.
        kind: "presence", "type", "element" (the type of a list's elements), "value" or "shape".
        left, joined: the class that lost most, and the one that gained most.
        count: chunks that moved and that deleted ones do not explain.
        of: chunks of the source, then.
    """

    source: str
    path: str
    kind: str
    left: str
    joined: str
    count: float
    of: int


def fields(subject: Subject) -> CheckResult:
    """Compare every field that decides nothing about access."""
    compared = moves.comparison(subject)
    if compared is None:
        return moves.not_compared("fields", subject)
    found = [
        each
        for each in _moves(compared)
        if each.path not in compared.now.access and each.joined != _THERE and not _is_stamp(compared, each)
    ]
    wrong = [each for each in found if moves.is_moved(each.count, each.of, subject.limits.moved)]
    line = f"{len(compared.now.fields)} fields of {len(compared.now.sources)} sources compared"
    gone = _vanished(compared, [path for path in compared.before.fields if path not in compared.now.access])
    notes = [f"the field {path!r} is new" for path in compared.now.fields if path not in compared.before.fields]
    if not wrong and not gone:
        return CheckResult("fields", Verdict.PASS, (line, *moves.shown(notes)))
    cause = f"ingestion lost or changed a metadata field; {moves.ACCEPT}"
    return CheckResult(
        "fields", Verdict.FAIL, (line, *moves.shown([*gone, *_told(subject, compared, wrong)]), *notes), cause
    )


def access(subject: Subject) -> CheckResult:
    """Compare the fields that scopes and filters use: every chunk that moved without a reason is too many."""
    compared = moves.comparison(subject)
    if compared is None:
        return moves.not_compared("access", subject)
    used = [path for path in compared.now.access if path in compared.before.fields or path in compared.now.fields]
    if not used:
        return CheckResult("access", Verdict.PASS, ("no field of the metadata decides who finds what",))
    wrong = [
        each
        for each in _moves(compared)
        if each.path in used and moves.is_moved(each.count, each.of, subject.limits.access)
    ]
    wrong += _spellings(compared, used)
    line = f"fields that filters use, or whose name tells so: {', '.join(used)}"
    gone = [*_vanished(compared, used), *([] if wrong else _exchanged(subject, compared))]
    if not wrong and not gone:
        return CheckResult("access", Verdict.PASS, (line,))
    cause = f"documents may be shown to those who must not see them, or hidden from those who should; {moves.ACCEPT}"
    return CheckResult("access", Verdict.FAIL, (line, *moves.shown([*gone, *_told(subject, compared, wrong)])), cause)


def _exchanged(subject: Subject, compared: Comparison) -> list[str]:
    """Say how many followed chunks have other values though the counts are the same: they were exchanged."""
    before = compared.before
    found = []
    for chunk in subject.survey.followed:
        then = before.followed.get(fingerprint(chunk.id), "")[24:]
        if then and then != deciding(chunk.metadata, before.access):
            found.append(chunk.id)
    followed = len(before.followed)
    if not found or not moves.is_moved(len(found), followed, subject.limits.access):
        return []
    return [f"{len(found)} of {followed} chunks that are followed by id have other values there{moves.examples(found)}"]


def _vanished(compared: Comparison, paths: list[str]) -> list[str]:
    """Say which fields no chunk has any more, also where the sources are others now."""
    shares = compared.before.fields
    return [
        f"the field {path!r}, which {shares[path]:.0%} of the chunks had, is in none"
        for path in paths
        if shares.get(path, 0.0) >= _RARE and not compared.now.fields.get(path)
    ]


def _moves(compared: Comparison) -> Iterator[Move]:
    """Yield, for each source and field, the move that says most: presence before type, value and shape."""
    explained = compared.deleted()
    for source, before, now in compared.sources():
        for path, old in before.fields.items():
            new = now.fields.get(path, _NOTHING)
            told = 0.0  # of one chunk that lost the field, presence says it, and type and value need not say it again
            deciding_who = path in compared.now.access
            for kind, (left, joined) in _classes(old, before.count, new, now.count, access=deciding_who).items():
                each = max(1.0, sum(left.values()) / max(1, old.present))  # classes of a chunk: several, of a list
                count = moves.lost(left, joined) - explained * each - told
                if kind == _ELEMENT:  # one of a list is no chunk; for access, one value of one chunk is too much
                    count = moves.lost(left, joined) / each - explained - told
                if count > 0:
                    told += count
                    yield Move(source, path, kind, _most(left, joined), _most(joined, left), count, before.count)


def _classes(
    old: FieldProfile, of_old: int, new: FieldProfile, of_new: int, *, access: bool
) -> dict[str, tuple[Mapping[str, int], Mapping[str, int]]]:
    found: dict[str, tuple[Mapping[str, int], Mapping[str, int]]] = {
        "presence": (
            {_THERE: old.present, _ABSENT: of_old - old.present},
            {_THERE: new.present, _ABSENT: of_new - new.present},
        ),
        "type": (_types(old, in_list=False), _types(new, in_list=False)),
        _ELEMENT: (_types(old, in_list=True), _types(new, in_list=True)),
    }
    if old.values is not None and new.values is not None and (access or _repeat(old.values)):
        found["value"] = (old.values, new.values)
    if _tells(old.shapes) and _tells(new.shapes):
        found["shape"] = (old.shapes, new.shapes)
    return found


def _repeat(values: Mapping[str, int]) -> bool:
    """Say whether chunks share values; positions and names of their own move with each edit, and tell nothing."""
    return sum(values.values()) >= _SHARED * len(values)


def _types(field: FieldProfile, *, in_list: bool) -> dict[str, int]:
    """Return the types of a field's values, or of the elements of its lists: a deleted chunk has one of the former."""
    return {name: count for name, count in field.types.items() if name.endswith(_IN_A_LIST) == in_list}


def _tells(shapes: Mapping[str, int]) -> bool:
    """Say whether values are written in a few ways; checksums are written in as many ways as there are."""
    return shapes.get("(others)", 0) <= _SCATTERED * sum(shapes.values())


def _is_stamp(compared: Comparison, move: Move) -> bool:
    """Say whether a field holds what each ingestion writes again: a date, or one value for all, such as a version."""
    old = compared.before.sources[move.source].fields[move.path]
    new = compared.now.sources[move.source].fields.get(move.path, _NOTHING)
    if move.kind not in ("value", "shape"):
        return False
    if move.kind == "shape" and move.joined.endswith(" digits") and not (old.values and _repeat(old.values)):
        return move.count <= _POSITIONS * move.of
    one = len(old.values or ()) == 1 == len(new.values or ())
    return one or all(_DATE.match(value) is not None for value in (move.left, move.joined))


def _spellings(compared: Comparison, paths: list[str]) -> list[Move]:
    """Return values of new chunks that are a known one, written otherwise: no filter for that one finds them."""
    found = []
    for source, before, now in compared.sources():
        for path in paths:
            old, new = before.fields.get(path, _NOTHING).values, now.fields.get(path, _NOTHING).values
            known = {plain(value): value for value in old or {}}
            for value, count in (new or {}).items():
                if value not in (old or {}) and plain(value) in known and not value.startswith("#"):
                    found.append(Move(source, path, "value", known[plain(value)], value, count, before.count))
    told = {(each.source, each.path) for each in _moves(compared) if each.count >= 1}
    return [each for each in found if (each.source, each.path) not in told]


def _told(subject: Subject, compared: Comparison, wrong: list[Move]) -> list[str]:
    """Return one sentence for all sources in which the same happened, that of most chunks first."""
    grouped: dict[tuple[str, str, str, str], list[Move]] = {}
    for each in wrong:
        grouped.setdefault((each.path, each.kind, each.left, each.joined), []).append(each)
    lines = []
    for same in sorted(grouped.values(), key=lambda some: -sum(each.count for each in some)):
        count, of = round(sum(each.count for each in same)), sum(each.of for each in same)
        first = max(same, key=lambda each: each.count)
        place = moves.named(first.source, compared)
        if len(same) > 1 and place:
            place += f" and {len(same) - 1} other sources"
        lines.append(_sentence(first, f"{count:,} of {of:,} chunks{place}") + _examples(subject, compared, same))
    return lines


def _sentence(move: Move, chunks: str) -> str:
    if move.kind == "presence":
        if move.joined == _ABSENT:
            return f"the field {move.path!r} is missing from {chunks}"
        return f"the field {move.path!r} is there in {chunks} that did not have it"
    if move.kind in ("type", _ELEMENT):
        if not move.joined:
            return f"{move.path!r} is no longer a {move.left} in {chunks}"
        return f"{move.path!r} was a {move.left} and is a {move.joined} in {chunks}"
    if move.kind == "shape":
        return f"{move.path!r} is written like {move.joined} instead of {move.left} in {chunks}"
    if plain(move.left) == plain(move.joined):
        return f"{move.path!r} is written {move.joined} instead of {move.left} in {chunks}"
    return f"{move.path!r} went from {move.left} to {move.joined or 'other values'} in {chunks}"


def _examples(subject: Subject, compared: Comparison, same: list[Move]) -> str:
    """Name chunks that are in the new class; best those that are followed, and whose metadata changed."""
    now, steps = compared.now, tuple(parse_path(same[0].path))
    wanted = {each.source for each in same}
    of_source = tuple(parse_path(now.source_field)) if now.source_field else ()

    def fits(chunk: Chunk) -> bool:
        origin = value_at(chunk.metadata, of_source) if of_source else None
        if (source_of(origin, now.source_depth) if isinstance(origin, (str, int)) else "") not in wanted:
            return False
        return same[0].joined in _kinds(value_at(chunk.metadata, steps), same[0].kind)

    followed = subject.survey.followed
    changed = [
        chunk.id
        for chunk in followed
        if fits(chunk)
        and compared.before.followed.get(fingerprint(chunk.id), "")[:8]
        not in ("", fingerprint(canonical(chunk.metadata)))
    ]
    others = [chunk.id for chunk in [*followed, *subject.survey.newest] if fits(chunk)] if not changed else []
    return moves.examples(changed or list(dict.fromkeys(others)))


def _kinds(value: object, kind: str) -> list[str]:
    values = value if isinstance(value, list) else [value]
    if kind == "presence":
        return [_ABSENT if value is None else _THERE]
    if kind in ("type", _ELEMENT):
        return [type_of(type(value)), *(type_of(type(each)) + _IN_A_LIST for each in values if values is value)]
    return [key_of(each) if kind == "value" else shape_of(each) for each in values]


def _most(counts: Mapping[str, int], others: Mapping[str, int]) -> str:
    """Return the class of *counts* that is larger there by most; empty where none is."""
    name = max(counts, key=lambda each: counts[each] - others.get(each, 0), default="")
    return name if name and counts[name] > others.get(name, 0) else ""

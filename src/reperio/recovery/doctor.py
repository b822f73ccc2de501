"""The doctor: what is wrong with a collection, what mending it costs, and, on request, the mending.

Nothing that may be the only copy of anything is ever removed: damaged files keep a second name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from reperio import layout
from reperio.arguments import to_path
from reperio.collection.describing import sizes
from reperio.collection.opening import open as open_collection
from reperio.collection.upkeep.salvaging import put_aside, salvage, tell
from reperio.embedding.contract import Settings
from reperio.errors import CollectionDamaged, CollectionNotFound, ReperioError
from reperio.index import to_size
from reperio.printable import logger
from reperio.store import Wreck, supersede
from reperio.types import CollectionInfo, Progress

Kind: TypeAlias = Literal["damage", "waste", "note"]
"""damage: answers or chunks are in danger; waste: space or time; note: to be known, nothing to be done."""

_log = logger("reperio.collection")
_WASTE = 0.5  # of all rows deleted: half of the files is for nothing
_TAIL = 100_000  # rows: beyond it exact search takes tens of milliseconds


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that the doctor has found.

    Attributes:
        kind: how bad it is.
        what: is the case, and where.
        cost: of mending it: what is lost, written or waited for.
        cure: what to do.
        mends: `diagnose` does it with ``mend=True``.

    """

    kind: Kind
    what: str
    cost: str
    cure: str
    mends: bool


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What `diagnose` found.

    Attributes:
        path: of the collection.
        findings: what is the case now, worst first.
        mended: what was the case before, one line each.
        lost: chunks and records that could not be kept by mending, one line each.

    """

    path: str
    findings: tuple[Finding, ...]
    mended: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """True when nothing is damaged."""
        return all(finding.kind != "damage" for finding in self.findings)


def diagnose(
    path: str | os.PathLike[str],
    *,
    mend: bool = False,
    trust_index: bool = True,
    progress: Progress | None = None,
) -> Diagnosis:
    """Examine a collection, also one that cannot be opened, and mend it if asked to.

    Args:
        path: its directory; no handle may be open for writing where *mend* is True.
        mend: do what the findings say can be done. Chunks that are not whole are left out and listed; the damaged files
            stay in the directory as ``damaged-gen-…``.
        trust_index: as of `open`: False for a directory that others have made. Its FAISS file is not read, nor said to
            be whole; what is mended has no index then, which the next writer builds.
        progress: called as ``progress("mend", chunks kept, rows looked at)``.

    Raises:
        CollectionNotFound, NotACollection: there is nothing to be examined.
        CollectionLocked: a writer is at work, and *mend* is True.
        StorageFailed: it cannot be read, or there is no room for mending; the collection is as it was.

    """
    root = layout.Layout(to_path("path", path).absolute())
    layout.require_path(root.root)
    with layout.storage_errors(root.root, "open"):
        there = root.root.is_dir()
    if not there:
        raise CollectionNotFound(f"there is no collection at {root.root}; reperio.open(path) creates one")
    before = _examined(root, trust_index)
    broken = [finding for finding in before if finding.kind == "damage"]
    if not mend or not any(finding.mends for finding in broken):
        return Diagnosis(str(root.root), before)
    lost = _mended(root, trust_index, progress)
    after = _examined(root, trust_index)
    left = {finding.what for finding in after}
    gone = tuple(finding.what for finding in broken if finding.what not in left)
    return Diagnosis(str(root.root), after, gone, tuple(lost))


def _examined(root: layout.Layout, trust_index: bool) -> tuple[Finding, ...]:
    found = [*_current(root)]
    if not found:
        found += _generation(root, trust_index)
    found += _beside(root)
    return tuple(sorted(found, key=lambda finding: ("damage", "waste", "note").index(finding.kind)))


def _current(root: layout.Layout) -> Iterator[Finding]:
    """Find out whether CURRENT names a generation."""
    try:
        if root.is_collection():
            root.read_current()
            return
        raise CollectionNotFound(f"there is no collection at {root.root}")
    except CollectionDamaged as error:
        newest = _newest(root)
        if newest is None:
            yield Finding("damage", str(error), "all that is here", "restore from a backup", False)
        else:
            yield Finding(
                "damage", str(error), "nothing: one line is written", f"name {newest.name}, the newest here", True
            )


def _newest(root: layout.Layout) -> layout.Generation | None:
    """Return the generation that CURRENT most probably named: the newest that has what none can do without.

    One gets its name only when it is whole; but who has lost CURRENT may have lost more.
    """
    usable = [paths for paths in _generations(root) if _is_usable(paths)]
    return max(usable, key=lambda paths: (len(paths.name), paths.name), default=None)


def _is_usable(paths: layout.Generation) -> bool:
    try:
        Settings.from_json(layout.read_settings(paths.settings), str(paths.settings))
    except CollectionDamaged:
        return False
    return layout.is_regular(paths.database)


def _generations(root: layout.Layout) -> list[layout.Generation]:
    with layout.storage_errors(root.root, "read"):
        return [
            layout.Generation(entry)
            for entry in root.root.iterdir()
            if layout.is_generation(entry.name) and layout.is_directory(entry)
        ]


def _generation(root: layout.Layout, trust_index: bool) -> Iterator[Finding]:
    paths = root.read_current()
    try:
        settings = Settings.from_json(layout.read_settings(paths.settings), str(paths.settings))
    except CollectionDamaged as error:
        cure = f"copy {paths.settings.name} from a backup: it is written once, when a collection is created or embedded"
        yield Finding("damage", str(error), "nothing, with a backup", cure, False)
        return
    paths = replace(paths, dtype=settings.dtype)
    try:
        with open_collection(root.root, read_only=True, trust_index=trust_index) as kb:
            problems = list(kb.check().problems)
            info = kb.info()
    except CollectionDamaged as error:
        problems, info = [str(error)], None
    index = [problem for problem in problems if problem.startswith("index: ")]
    other = [problem for problem in problems if problem not in index]
    losses = list(_losses(paths, settings, other)) if other else []
    mends = all(finding.mends for finding in losses)  # else nothing is changed, the index included
    for problem in index:
        rows = f"{info.count:,} chunks" if info else "all chunks"
        yield Finding("damage", problem, f"no chunk: an index over {rows} is built", "build it anew", mends)
    yield from losses
    if info is not None:
        yield from _wasted(info)


def _losses(paths: layout.Generation, settings: Settings, problems: list[str]) -> Iterator[Finding]:
    """Say what is damaged, and, without writing anything, what mending would keep."""
    try:
        wreck = Wreck(paths, settings.dimension)
    except ReperioError as error:
        yield Finding("damage", str(error), "all that is here", "restore from a backup", False)
        return
    try:
        kept = sum(len(chunks) for chunks, _ in wreck.whole())
        lost = wreck.lost()
    finally:
        wreck.close()
    if not kept and (lost or wreck.chunks):
        yield Finding("damage", problems[0], "all that is here", "restore from a backup", False)
        return
    some = "; ".join(map(str, lost[:5])) + (f"; {len(lost) - 5:,} more" if len(lost) > 5 else "")
    losing = f"{len(lost):,} chunks ({some})" if lost else "no chunk"
    size = to_size(sum(path.stat().st_size for path in (paths.database, paths.vectors) if path.exists()))
    cost = f"{losing}; {kept:,} are whole and are written anew, which takes up to {size} beside what is here"
    for number, problem in enumerate(problems):
        yield Finding("damage", problem, cost if not number else "as above", "keep what is whole, list the rest", True)


def _wasted(info: CollectionInfo) -> Iterator[Finding]:
    deleted, tail = info.deleted or 0, info.tail or 0  # None through a scope alone, and there is none here
    rows = info.count + deleted
    if rows and deleted / rows > _WASTE:
        yield Finding(
            "waste",
            f"{deleted:,} of {rows:,} rows hold no chunk any more",
            "the live ones are written anew beside the old",
            "compact() (reperio compact)",
            False,
        )
    if info.index is None and tail > _TAIL:
        yield Finding(
            "waste",
            f"{tail:,} chunks are searched without an index",
            "time to build one; searches and adds go on meanwhile",
            "optimize() (reperio optimize)",
            False,
        )


def _beside(root: layout.Layout) -> Iterator[Finding]:
    """Find what lies beside the generation in use."""
    for entry in sorted(root.root.iterdir()):
        if entry.name.startswith("damaged-gen-") and layout.is_directory(entry):
            size = to_size(sum(sizes(entry).values()))
            yield Finding(
                "note",
                f"{entry} keeps the files that an earlier mending found damaged: {size}",
                "what was lost then is lost for good",
                "remove it yourself once nothing in it is wanted",
                False,
            )


def _mended(root: layout.Layout, trust_index: bool, progress: Progress | None) -> list[str]:
    lock = layout.WriterLock(root.lock)
    try:
        if _named(root) and not any(finding.mends for finding in _generation(root, trust_index)):
            return []  # it is whole, or else beyond mending: what it is found to be is told
        lock.require_in_place()
        lost = _opened_up(root, progress)
    finally:
        lock.release()
    if any(finding.mends for finding in _examined(root, trust_index)):
        with open_collection(root.root, auto_optimize=False, trust_index=trust_index) as kb:
            report = kb.check(fix=True, progress=progress)
        return [*lost, *report.lost]
    return lost


def _named(root: layout.Layout) -> bool:
    """Name the newest generation where CURRENT names none, and say whether that was so."""
    newest = _newest(root)
    if newest is None or not any(_current(root)):
        return False
    for other in _generations(root):  # CURRENT may have named it: the next writer would remove it
        if other != newest:
            put_aside(other)
    root.write_current(newest)
    _log.info("%s: mended: CURRENT names %s, the newest here", root.root, newest.name)
    return True


def _opened_up(root: layout.Layout, progress: Progress | None) -> list[str]:
    """Make a collection that cannot be opened into one that can; the lock is held."""
    try:
        open_collection(root.root, read_only=True).close()
        return []
    except CollectionDamaged:
        old = root.read_current()
        settings = Settings.from_json(layout.read_settings(old.settings), str(old.settings))
        target = root.next_generation()
        old = replace(old, dtype=settings.dtype)
        lost = salvage(old, settings, target, progress)
        put_aside(old)
        root.write_current(target)
        tell(root, old, target, lost)
        supersede(old)
        root.retire(old)
        return lost

"""Say what is wrong with a collection, what mending it costs, and mend it on request.

Like `reperio.restore`, this is done to a directory, whatever is wrong with it. `Collection.check` is what an open
collection does. Both keep damaged files under a second name: they may be the only copy of what was lost.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from reperio import layout
from reperio.arguments import to_path
from reperio.collection.describing import sizes
from reperio.collection.opening import open as open_collection
from reperio.collection.upkeep.salvaging import put_aside, replace_damaged
from reperio.embedding.contract import Settings
from reperio.errors import CollectionDamaged, CollectionNotFound, ReperioError
from reperio.index import to_size
from reperio.printable import logger
from reperio.store import DamagedStore
from reperio.types import CollectionInfo, Problem, Progress

_log = logger("reperio.collection")
_DAMAGE = ("damage", "index")  # the rest is told and changes no verdict
_ORDER = (*_DAMAGE, "waste", "note")  # worst first
_PATIENCE = 30.0  # seconds to wait for writers and builds under way
_WASTE = 0.5  # share of deleted rows: half of the files serves nothing
_TAIL = 100_000  # rows: beyond it exact search takes tens of milliseconds


@dataclass(frozen=True, slots=True)
class Finding(Problem):
    """A problem, and what it costs to mend it.

    Attributes:
        cost: what is lost, written or waited for.
        mends: True where ``diagnose(mend=True)`` does what the cure says.
    """

    cost: str
    mends: bool = False


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The result of `diagnose`.

    Attributes:
        path: directory of the collection.
        findings: what is wrong now, worst first.
        mended: what was wrong before and is mended.
        lost: chunks and records that mending could not keep, one line each.
    """

    path: str
    findings: tuple[Finding, ...]
    mended: tuple[Finding, ...] = ()
    lost: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """True when nothing is damaged."""
        return not any(finding.kind in _DAMAGE for finding in self.findings)


def diagnose(
    path: str | os.PathLike[str],
    *,
    mend: bool = False,
    trust_index: bool = True,
    progress: Progress | None = None,
) -> Diagnosis:
    """Examine a collection, also one that cannot be opened, and mend it if asked to.

    Args:
        path: its directory; with *mend*, no handle may be open with ``exclusive=True``.
        mend: do what the findings say can be done. Chunks that are not whole are left out and listed; the damaged files
            stay in the directory as ``damaged-gen-…``.
        trust_index: as in `open`: False for a directory that others have made. Its FAISS file is neither read nor
            judged; a mended collection then has no index until the next writer builds one.
        progress: called as ``progress("mend", chunks kept, rows looked at)``.

    Raises:
        CollectionNotFound, NotACollection: there is nothing to examine.
        CollectionLocked: *mend*, and others are writing or building for longer than half a minute.
        StorageFailed: it cannot be read, or there is no room for mending; the collection is as it was.
    """
    root = layout.Layout(to_path("path", path).absolute())
    layout.require_path(root.root)
    with layout.storage_errors(root.root, "open"):
        there = root.root.is_dir()
    if not there:
        raise CollectionNotFound(f"there is no collection at {root.root}; reperio.open(path) creates one")
    before = _examined(root, trust_index)
    broken = [finding for finding in before if finding.kind in _DAMAGE]
    if not mend or not any(finding.mends for finding in broken):
        return Diagnosis(str(root.root), before)
    # What mending has done is found out by looking again, and not by what it says.
    lost = _mended(root, trust_index, progress)
    after = _examined(root, trust_index)
    left = {finding.what for finding in after}
    gone = tuple(finding for finding in broken if finding.what not in left)
    return Diagnosis(str(root.root), after, gone, tuple(lost))


def examine(path: Path, *, trust_index: bool = True) -> tuple[list[Problem], CollectionInfo | None]:
    """Return what is wrong with a collection, and its description; None where it cannot be opened."""
    try:
        with open_collection(path, read_only=True, trust_index=trust_index) as kb:
            return list(kb.check().problems), kb.info()
    except CollectionDamaged as error:
        return [Problem.of(error)], None


def _examined(root: layout.Layout, trust_index: bool) -> tuple[Finding, ...]:
    found = [*_current(root)]
    if not found:
        found += _generation(root, trust_index)
    found += _set_aside(root)
    return tuple(sorted(found, key=lambda finding: _ORDER.index(finding.kind)))


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
            yield _hopeless(Problem.of(error))
        else:
            what, cure = Problem.of(error).what, f"name {newest.name}, the newest here"
            yield Finding("damage", what, cure, "nothing: one line is written", mends=True)


def _hopeless(problem: Problem) -> Finding:
    return Finding("damage", problem.what, "restore from a backup", "all that is here")


def _newest(root: layout.Layout) -> layout.Generation | None:
    """Return the generation that CURRENT most probably named: the newest that has what none can do without.

    A generation gets its name only when it is whole; but a directory that lost CURRENT may have lost more.
    """
    usable = [paths for paths in _generations(root) if _is_usable(paths)]
    return max(usable, key=lambda paths: (len(paths.name), paths.name), default=None)


def _is_usable(paths: layout.Generation) -> bool:
    try:
        Settings.read(paths.settings)
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
        settings = Settings.read(paths.settings)
    except CollectionDamaged as error:
        cure = f"copy {paths.settings.name} from a backup: it is written once, when a collection is created or embedded"
        yield Finding("damage", Problem.of(error).what, cure, "nothing, with a backup")
        return
    paths = replace(paths, dtype=settings.dtype)
    problems, info = examine(root.root, trust_index=trust_index)
    damage = [problem for problem in problems if problem.kind == "damage"]
    losses = list(_losses(paths, settings, damage)) if damage else []
    mends = all(finding.mends for finding in losses)  # else nothing is changed, the index included
    for problem in problems:
        if problem.kind == "index":
            rows = f"{info.count:,} chunks" if info else "all chunks"
            yield Finding("index", problem.what, "rebuild it", f"no chunk: an index over {rows} is built", mends)
    yield from losses
    if info is not None:
        yield from _wasted(info)


def _losses(paths: layout.Generation, settings: Settings, problems: list[Problem]) -> Iterator[Finding]:
    """Say what is damaged and, without writing anything, what mending would keep."""
    try:
        damaged = DamagedStore(paths, settings.dimension)
    except ReperioError as error:
        yield _hopeless(Problem.of(error))
        return
    with closing(damaged):
        kept = sum(len(chunks) for chunks, _ in damaged.whole())
        lost = damaged.lost()
    # Mending would leave an empty collection, which looks like a sound one.
    if not kept and (lost or damaged.chunks):
        yield _hopeless(problems[0])
        return
    # Five are named: ten thousand would hide what mending costs.
    some = "; ".join(map(str, lost[:5])) + (f"; {len(lost) - 5:,} more" if len(lost) > 5 else "")
    losing = f"{len(lost):,} chunks ({some})" if lost else "no chunk"
    size = to_size(sum(path.stat().st_size for path in (paths.database, paths.vectors) if path.exists()))
    cost = f"{losing}; {kept:,} are whole and are written again, which takes up to {size} next to what is here"
    for number, problem in enumerate(problems):
        spent = "as above" if number else cost
        yield Finding("damage", problem.what, "keep what is whole, list the rest", spent, mends=True)


def _wasted(info: CollectionInfo) -> Iterator[Finding]:
    deleted, tail = info.deleted or 0, info.tail or 0  # None through a scope alone, and there is none here
    rows = info.count + deleted
    if rows and deleted / rows > _WASTE:
        yield Finding(
            "waste",
            f"{deleted:,} of {rows:,} rows hold no chunk any more",
            "compact() (reperio compact)",
            "the live ones are written again, next to the old ones",
        )
    if info.index is None and tail > _TAIL:
        yield Finding(
            "waste",
            f"{tail:,} chunks are searched without an index",
            "optimize() (reperio optimize)",
            "time to build one; searches and adds go on meanwhile",
        )


def _set_aside(root: layout.Layout) -> Iterator[Finding]:
    """Find the files that earlier mendings set aside."""
    for entry in sorted(root.root.iterdir()):
        if entry.name.startswith("damaged-gen-") and layout.is_directory(entry):
            size = to_size(sum(sizes(entry).values()))
            yield Finding(
                "note",
                f"{entry} keeps the files that an earlier mending found damaged: {size}",
                "remove it yourself once you need nothing in it",
                "what was lost then is lost for good",
            )


def _mended(root: layout.Layout, trust_index: bool, progress: Progress | None) -> list[str]:
    lock = layout.FileLock(root.lock, purpose="which is mending it", cure="wait, or end that process")
    builders = layout.FileLock(root.maintenance, purpose="which is mending it", cure="wait, or end that process")
    try:
        builders.acquire(_PATIENCE)
        lock.acquire(_PATIENCE)
        if _named(root) and not any(finding.mends for finding in _generation(root, trust_index)):
            return []  # it is whole or cannot be mended; the findings say which
        lock.require_in_place()
        lost = _opened_up(root, progress)
    finally:
        lock.close()
        builders.close()
    # It can be opened now; what else is wrong, a handle can mend by itself.
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
    for other in _generations(root):  # CURRENT may have named this one, and the next writer would remove it
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
        return replace_damaged(root, progress)

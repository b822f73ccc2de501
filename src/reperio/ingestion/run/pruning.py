"""Which files have vanished."""

from __future__ import annotations

import json
import shlex
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from reperio.collection import Collection
from reperio.errors import InvalidInput
from reperio.ingestion.finding.sources import FoundFiles
from reperio.ingestion.ledger.ids import stem_of
from reperio.ingestion.ledger.records import FileRecord, Ledger, RootRecord, this_host

_AT_ONCE = 256  # sources


def require_contents(found: FoundFiles, collection: Collection, ledger: Ledger) -> None:
    """Refuse to prune by a folder that yields nothing: more likely not mounted, or mistyped, than really emptied.

    Raises:
        InvalidInput: naming the folder, of which chunks are stored.
    """
    for prefix, folder in found.folders.items():
        if any(file.path.is_relative_to(folder) for file in found.files):
            continue
        sources = [file.source for file in ledger.all_files() if file.source.startswith(prefix)]
        if any(collection.get(some) for some in _stored(sources, ledger)):
            like = json.dumps({"source": {"$like": f"{_escaped(prefix)}%"}}, ensure_ascii=False)
            raise InvalidInput(
                f"{folder} holds no file that is read, so prune would delete everything that ever came from it; is it "
                f"the right folder? To delete those chunks on purpose, delete them by their source, with "
                f"where={like} (reperio delete {shlex.quote(collection.info().path)} --where {shlex.quote(like)})"
            )


def _stored(sources: Sequence[str], ledger: Ledger) -> Iterator[list[str]]:
    """Yield the ids that are recorded of sources, some at a time."""
    for first in range(0, len(sources), _AT_ONCE):
        for source, parts in ledger.parts(sources[first : first + _AT_ONCE]).items():
            yield [stem_of(ledger.prefix(), source) + suffix for suffix in parts.suffixes]


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def vanished(
    found: FoundFiles, recorded: Iterable[FileRecord], roots: Mapping[str, RootRecord], *, besides: Sequence[str]
) -> list[str]:
    """Return the sources that are gone from the folders that were gone through.

    What is there and was passed over this time, or was named by itself, is not gone.
    """
    there = {file.source for file in found.files} | found.present | set(besides)
    gone = []
    for file in recorded:
        root = roots.get(file.root)
        if file.source in there or root is None or root.host != this_host():
            continue
        path = root.path_of(file.inside)
        if any(path.is_relative_to(folder) for folder in found.unread):
            continue
        if any(walked.holds(path) for walked in found.walked) and _is_gone(path):
            gone.append(file.source)
    return gone


def absent(found: FoundFiles, recorded: Iterable[FileRecord], roots: Mapping[str, RootRecord]) -> set[str]:
    """Return the sources of these roots whose files are gone, whether the run has gone through their folders or not."""
    there = {file.source for file in found.files}
    others = (file for file in recorded if file.root in roots and file.source not in there)
    return {file.source for file in others if _is_gone(roots[file.root].path_of(file.inside))}


def _is_gone(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:  # nothing is known of it, as in a folder that may not be entered
        return False

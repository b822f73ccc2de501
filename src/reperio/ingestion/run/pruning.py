"""Which files have vanished."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from reperio.errors import InvalidInput
from reperio.ingestion.finding.sources import FoundFiles
from reperio.ingestion.ledger.records import FileRecord, RootRecord, this_host


def require_contents(found: FoundFiles) -> None:
    """Refuse to prune by a folder that yields nothing: more likely not mounted, or mistyped, than really emptied.

    Raises:
        InvalidInput: naming the folder.
    """
    for folder in found.folders.values():
        if not any(file.path.is_relative_to(folder) for file in found.files):
            raise InvalidInput(
                f"{folder} holds no file that is read, so prune would delete everything that ever came from it; is it "
                "the right folder? To delete those chunks on purpose, delete them by their source or their ids"
            )


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


def _is_gone(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:  # nothing is known of it, as in a folder that may not be entered
        return False

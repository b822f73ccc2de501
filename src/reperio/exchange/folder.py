"""Write and read the manifest of an export, which holds the checksums of its files.

::

    export/
      manifest.json     format, version, settings, counts, and length and SHA-256 of the files
      chunks.parquet    id, text, metadata (JSON), vector (d floats); or chunks.jsonl, one object a line
      records.jsonl     the ledger: scope, space, key, value, group, time

Nothing in it needs Reperio to be read: that is what it is for.
"""

from __future__ import annotations

import errno
import hashlib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import orjson

from reperio.embedding.contract import Settings
from reperio.errors import CollectionDamaged, InvalidInput, StorageFailed
from reperio.layout import is_there, open_regular, read_regular, require_path, storage_errors, write_atomically

Format: TypeAlias = Literal["parquet", "jsonl"]
"""File formats of an export's chunks."""

FORMATS: dict[Format, str] = {"parquet": "chunks.parquet", "jsonl": "chunks.jsonl"}
"""The formats, each with the name of its file."""

MANIFEST, RECORDS = "manifest.json", "records.jsonl"
VERSION = 1

_NAME = "reperio export"
_BLOCK = 1 << 20
_MANIFEST_BYTES = 1 << 24  # its settings hold the canaries, as collection.json does
_NO_EXPORT = {errno.ENOENT, errno.ENOTDIR}


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of manifest.json."""

    settings: Mapping[str, Any]  # settings of the collection, as in its collection.json
    chunks: int  # how many were exported
    records: int
    clock: float  # the time of the last put of a record, in seconds since the epoch
    format: Format  # how the chunks are written
    # By name, "bytes" and "sha256"; empty where a user removed them to change a file on purpose.
    files: Mapping[str, Mapping[str, Any]]

    def write(self, folder: Path) -> None:
        """Write manifest.json, durably."""
        content = {
            "format": _NAME,
            "version": VERSION,
            "chunks": self.chunks,
            "records": self.records,
            "clock": self.clock,
            "chunks_as": self.format,
            "files": self.files,
            "settings": self.settings,
        }
        write_atomically(folder / MANIFEST, orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n")


def read_manifest(folder: Path) -> Manifest:
    """Read manifest.json, or refuse it; the files it names are not looked at."""
    require_path(folder)
    path = folder / MANIFEST
    try:
        content = orjson.loads(read_regular(path, _MANIFEST_BYTES))
    except StorageFailed as error:
        if error.errno not in _NO_EXPORT:
            raise
        why = f"{folder} is a file" if error.errno == errno.ENOTDIR else f"{folder} has no {MANIFEST}: it is no export"
        raise InvalidInput(f"{why}; name the folder that reperio export has written") from None
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"{path} is no JSON ({error}); export the collection again") from None
    if not isinstance(content, dict) or content.get("format") != _NAME:
        raise InvalidInput(f"{path} does not begin an export of Reperio; name the folder that it has written")
    if content.get("version") != VERSION:
        raise InvalidInput(
            f"{path} has version {content.get('version')!r}, and this Reperio reads {VERSION}; upgrade with: "
            "pip install --upgrade reperio"
        )
    try:
        return _to_manifest(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidInput(f"{path} lacks or garbles {error}; export the collection again") from None


def _to_manifest(content: dict[str, Any]) -> Manifest:
    chosen = content["chunks_as"]
    if chosen not in FORMATS:
        raise ValueError(f"chunks_as ({chosen!r})")
    for name in ("chunks", "records"):
        if type(content[name]) is not int or content[name] < 0:
            raise ValueError(f"{name} ({content[name]!r:.40})")
    clock = content["clock"]
    # An infinite time would be that of every put from then on.
    if type(clock) not in (int, float) or not math.isfinite(clock) or clock < 0:
        raise ValueError(f"clock ({clock!r:.40})")
    files = {str(name): dict(entry) for name, entry in content.get("files", {}).items()}
    # Another name would be a path, and one of theirs that is absent would not be compared.
    if files and files.keys() != {FORMATS[chosen], RECORDS}:
        raise ValueError(f"files ({sorted(files)})")
    if any(not isinstance(entry.get("sha256"), str) for entry in files.values()):
        raise ValueError("files")
    return Manifest(dict(content["settings"]), content["chunks"], content["records"], float(clock), chosen, files)


def to_settings(manifest: Manifest, folder: Path) -> Settings:
    """Read the settings of a manifest, or refuse them."""
    try:
        return Settings.from_json(dict(manifest.settings), str(folder / MANIFEST))
    except CollectionDamaged as error:
        raise InvalidInput(str(error).replace("restore from a backup", "export the collection again")) from None


def sealed(path: Path) -> dict[str, Any]:
    """Return length and SHA-256 of a file, as the manifest has them."""
    digest, length = hashlib.sha256(), 0
    with storage_errors(path, "read"), open(open_regular(path), "rb") as file:
        while block := file.read(_BLOCK):  # not hashlib.file_digest, which Python 3.10 lacks
            digest.update(block)
            length += len(block)
    return {"bytes": length, "sha256": digest.hexdigest()}


def require_sealed(manifest: Manifest, folder: Path) -> None:
    """Refuse a file that is not the one exported, to the byte, and say how to import one changed on purpose."""
    for name in (FORMATS[manifest.format], RECORDS):
        path = folder / name
        if not is_there(path):
            raise InvalidInput(f"{path} is missing; export the collection again")
        os.close(open_regular(path))  # also where nothing is compared, and pyarrow opens it
        if name in manifest.files and sealed(path) != dict(manifest.files[name]):
            raise InvalidInput(
                f"{path} is not what was exported: its length or SHA-256 differs from {MANIFEST}. Copy or export it "
                f'again; if it was changed on purpose, take "files" out of {MANIFEST}'
            )

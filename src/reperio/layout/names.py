"""The names of the files that Reperio writes. Nothing else is read, copied or removed as one of them.

A name that a database, a state of a backup or a directory tells is compared here before it becomes part of a path.
"""

from __future__ import annotations

import re

_NUMBER = r"(?:[0-9]{6}|[1-9][0-9]{6,18})"  # as f"{number:06d}" writes it
_GENERATION = re.compile(rf"gen-({_NUMBER})")
_LEFTOVER = re.compile(rf"gen-{_NUMBER}(?:\.new|\.old)?")
_SNAPSHOT = re.compile(rf"snapshot-{_NUMBER}\.(?:faiss|symqg)")
_GRAPH = re.compile(rf"snapshot-{_NUMBER}\.symqg")
_INDEX = re.compile(rf"(snapshot-{_NUMBER}\.faiss)(?:#[1-9][0-9]{{0,18}})?")
_BUILD = re.compile(r"(?:build-[0-9]{12}\.(?:faiss|symqg)|(?:build|graph)\.json)(?:\.new)?")
_STORED = re.compile(
    rf"collection\.json|chunks\.db|vectors\.f(?:32|16)|index/(?:queries\.npy|snapshot-{_NUMBER}\.(?:faiss|symqg))"
)

QUERIES = "queries.npy"
"""The held-out queries that a user has brought, in the directory of indexes."""

BUILDING = "building"
"""The directory of an interrupted build, in the directory of indexes."""


def generation_number(name: str) -> int | None:
    """Return the number of the generation that a directory of this name is; None where it is none."""
    match = _GENERATION.fullmatch(name)
    return None if match is None else int(match[1])


def is_generation(name: str) -> bool:
    """Say whether a directory of this name is a generation: neither an unfinished nor a superseded one."""
    return _GENERATION.fullmatch(name) is not None


def is_leftover(name: str) -> bool:
    """Say whether this is the name of a generation, finished, unfinished or superseded."""
    return _LEFTOVER.fullmatch(name) is not None


def is_snapshot(name: str) -> bool:
    """Say whether this is the name of an index's file, or of a graph's that belongs to one."""
    return _SNAPSHOT.fullmatch(name) is not None


def is_graph(name: str) -> bool:
    """Say whether this is the name of the file of a graph, which an index has besides its own."""
    return _GRAPH.fullmatch(name) is not None


def is_unfinished_in_index(name: str) -> bool:
    """Say whether this is the name of a file that was being written to the directory of indexes."""
    whole, dot, new = name.rpartition(".new")
    return bool(dot) and not new and (whole == QUERIES or is_snapshot(whole))


def is_build(name: str) -> bool:
    """Say whether this is the name of a file of an interrupted build."""
    return _BUILD.fullmatch(name) is not None


def snapshot_file(name: object) -> str | None:
    """Return the file of the index that the store names so; None where it has none, or the name is not one of ours."""
    match = _INDEX.fullmatch(name) if isinstance(name, str) else None
    return None if match is None else match[1]


def is_stored(name: str) -> bool:
    """Say whether this is the name, within a generation, of a file that a backup may hold."""
    return _STORED.fullmatch(name) is not None

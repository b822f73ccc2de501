"""Verify that what is on disk is what was stored. Everything is read, and nothing is changed."""

from __future__ import annotations

import numpy as np

from reperio import index, store
from reperio.collection.generation.opened import OpenGeneration
from reperio.embedding.contract import Settings
from reperio.errors import CollectionDamaged, ReperioError
from reperio.index import IndexDescription, SnapshotUnusable
from reperio.store import Session, SnapshotEntry
from reperio.types import CheckReport, Metric, Problem
from reperio.vectors import StoredMatrix, to_float32

_NORM_TOLERANCE = 1e-3  # rounding to float16 changes a norm by less than half of this
_BLOCK = 16_384


def check(generation: OpenGeneration, session: Session, *, with_index: bool = True) -> CheckReport:
    """Verify the database, every chunk's checksum, the vectors' norms under cosine, the settings and the index."""
    try:
        problems = session.problems()
        matrix = generation.store.map(session.state.rows)
        rows, damaged = store.verify(session, matrix)
        problems += damaged
        snapshot = session.snapshot()
    except CollectionDamaged as error:
        return CheckReport([Problem.of(error)], 0)
    if generation.settings.metric is Metric.COSINE:
        problems += _norms(matrix, generation.paths.vectors.name)
    problems += _settings(generation)
    if with_index and generation.trust_index:
        problems += _index(generation, snapshot, len(matrix))
    return CheckReport(problems, rows)


def _norms(matrix: StoredMatrix, file: str) -> list[Problem]:
    wrong = 0
    for start in range(0, len(matrix), _BLOCK):
        with np.errstate(all="ignore"):  # damaged ones may be of any length
            norms = np.linalg.norm(to_float32(matrix[start : start + _BLOCK]), axis=1)
        wrong += int((~(np.abs(norms - 1) <= _NORM_TOLERANCE)).sum())
    what = f"{file}: {wrong} rows are not of norm 1 under cosine"
    return [Problem("damage", what, "restore from a backup")] if wrong else []


def _settings(generation: OpenGeneration) -> list[Problem]:
    try:
        Settings.read(generation.paths.settings)
    except ReperioError as error:
        return [Problem.of(error)]
    return []


def _index(generation: OpenGeneration, snapshot: SnapshotEntry | None, rows: int) -> list[Problem]:
    while snapshot is not None:
        problems = _snapshot(generation, snapshot.description, rows)
        if not problems or generation.is_current(snapshot.name):
            return problems
        with generation.store.session() as session:  # it was replaced meanwhile, and its file removed
            snapshot, rows = session.snapshot(), session.state.rows
    return []


def _snapshot(generation: OpenGeneration, text: str, rows: int) -> list[Problem]:
    try:
        description = IndexDescription.from_json(text)
        if description.exact:
            return []
        settings = generation.settings
        index.verify_graphs(description, generation.paths.index)
        index.read(description, generation.paths.index, dimension=settings.dimension, metric=settings.metric)
        if description.rows > rows:
            raise SnapshotUnusable(f"{description.file} covers {description.rows} rows, {rows} are committed")
    except SnapshotUnusable as error:
        return [Problem("index", str(error), "optimize() rebuilds it, no chunk is affected")]
    return []

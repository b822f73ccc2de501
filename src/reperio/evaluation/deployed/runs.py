"""A run in a file as a search: what came is known, whatever made it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from typing import Any

from reperio.errors import InvalidInput
from reperio.evaluation import qrels
from reperio.evaluation.asking import Answer
from reperio.evaluation.golden.questions import GoldenSet


class RunSearch:
    """Answers the questions of a golden set by their ids, as a run has them.

    Filters and modes were those of what made the run. Nothing is timed, for nothing is searched.
    """

    recorded = True
    """Tells the gate that no time can be measured."""

    def __init__(self, run: Mapping[str, Mapping[str, float]], name: str = "a run") -> None:
        self.run = run
        self.__qualname__ = name  # as reports call it

    def __call__(self, _text: str, *, k: int, where: Any, mode: str, id: str) -> list[tuple[str, float]]:  # noqa: A002, ARG002  # as the gate calls it
        """Return what came for a question; nothing where the run does not have it."""
        return list(self.run.get(id, {}).items())[:k]

    def require(self, golden: GoldenSet) -> None:
        """Refuse a run that shares no question with a golden set: its ids are others."""
        if not any(query.id in self.run for query in golden.queries):
            ours, theirs = golden.queries[0].id, next(iter(self.run), "none")
            raise InvalidInput(
                f"{self.__qualname__} has no question of the golden set: its ids are like {theirs!r}, the golden set's "
                f"like {ours!r}; give the questions the ids of the run"
            )


def read_run(path: str | os.PathLike[str]) -> RunSearch:
    """Read a run of TREC, BEIR or ranx; see `reperio.evaluation.qrels`.

    Raises:
        InvalidInput: it cannot be read, or a line is no result; it is named.
    """
    return RunSearch(qrels.read_scores(path), os.fspath(path))


def write_run(path: str | os.PathLike[str], answers: Mapping[str, Answer], names: Mapping[str, list[str]]) -> None:
    """Write what came as a run, under the names that are compared with the expectation.

    A search that gives no scores, or documents, which have none of their own, is written with 1/rank.

    Args:
        path: of the file; its suffix tells the format, see `reperio.evaluation.qrels.write_qrels`.
        answers: what came, by question.
        names: the same as ids of chunks or names of documents, best first.
    """
    qrels.write_scores(path, {key: _scored(answers[key], own) for key, own in names.items()})


def _scored(answer: Answer, names: list[str]) -> dict[str, float]:
    scores = [each.score for each in answer.found if each.score is not None]
    falling = all(one >= two for one, two in itertools.pairwise(scores))
    if answer.ids != names or not falling or len(scores) < len(answer.found):
        return {name: 1 / rank for rank, name in enumerate(names, start=1)}
    found: dict[str, float] = {}
    for each, score in zip(answer.found, scores, strict=True):
        found.setdefault(each.id, score)
    return found

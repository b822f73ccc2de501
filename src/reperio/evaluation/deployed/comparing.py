"""Several runs over the same questions, in one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reperio.errors import InvalidInput
from reperio.evaluation.golden.questions import GoldenSet
from reperio.evaluation.statistics import measures
from reperio.evaluation.statistics.comparing import Comparison, compare, holm

_ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run of a table.

    Attributes:
        name: of the run.
        means: by measure, over all labelled questions; one that found nothing counts as 0.
        against: the main measure compared with the first run's; None for the first.
        unlike: whether it is better or worse than the first beyond chance (Holm's correction over all runs).
        empty: questions that found nothing.
    """

    name: str
    means: Mapping[str, float]
    against: Comparison | None
    unlike: str
    empty: int


def compare_runs(golden: GoldenSet, runs: Mapping[str, Mapping[str, Sequence[str]]]) -> list[RunRow]:
    """Judge runs by a golden set, and compare each with the first, paired by question.

    Args:
        golden: questions with what should come.
        runs: ids by question, best first, by the name of the run.

    Raises:
        InvalidInput: no question expects anything, there is no run, or one shares no question with the set.
    """
    qrels = {query.id: query.grades for query in golden.labelled}
    if not qrels or not runs:
        raise InvalidInput("there is nothing to compare: questions that expect something, and one run at least")
    for name, run in runs.items():
        if not qrels.keys() & run.keys():
            raise InvalidInput(f"{name} has no question of the golden set, whose ids are like {next(iter(qrels))!r}")
    values = {name: measures.per_query(golden.measures, qrels, run) for name, run in runs.items()}
    first, *others = values
    main = values[first][measures.MAIN]
    against = {name: compare(main, values[name][measures.MAIN]) for name in others}
    # One-sided each way: a run may be better as well as worse.
    back = {name: compare(values[name][measures.MAIN], main) for name in others}
    smaller = [min(_p(against[name]), _p(back[name])) * 2 for name in others]
    sure = dict(zip(others, holm(smaller, _ALPHA), strict=True)) if others else {}
    return [
        RunRow(
            name,
            {measure: measures.mean(found) for measure, found in values[name].items()},
            against.get(name),
            _unlike(against.get(name), sure.get(name, False)),
            sum(not runs[name].get(question) for question in qrels),
        )
        for name in values
    ]


def _p(found: Comparison | None) -> float:
    return 1.0 if found is None else found.p


def _unlike(found: Comparison | None, sure: bool) -> str:
    if found is None or not sure:
        return ""
    return "worse" if found.difference < 0 else "better"

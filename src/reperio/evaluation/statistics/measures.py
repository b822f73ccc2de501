"""Labelled measures, computed by ir_measures and called by its names: ``nDCG@10``, ``R@10``, ``RR@10``, ``Success@10``.

``R@k`` is the share of the relevant that are among the first k (TREC's recall_k), not the share of true nearest
neighbours: that is knn recall. ``RR@k`` is what others call MRR@k before the mean is taken.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from reperio.arguments import nearest
from reperio.errors import InvalidInput
from reperio.optional import OptionalImport

Qrels: TypeAlias = Mapping[str, Mapping[str, int]]
"""Grades by question and id; 0 is irrelevant."""

Run: TypeAlias = Mapping[str, Sequence[str]]
"""Ids by question, best first, each once."""

PerQuery: TypeAlias = dict[str, dict[str, float]]
"""Values by measure and question."""

MAIN = "nDCG@10"
DEFAULT = (MAIN, "R@10", "RR@10", "Success@10")
_NEAR = ("nDCG", "R", "RR", "Success", "P", "AP")
_MOST = 10_000  # hits that a search returns at most
# Not ir_measures' own reader: it asks for `ast.Num`, of which Python 3.12 warns and which 3.14 has not, takes the last
# of an option given twice, and dies of deep nesting.
_FORM = re.compile(r"(\w+)(?:\(([^()]*)\))?(?:@(\d+))?", re.ASCII)
_OPTION = re.compile(r"\s*(cutoff|rel)\s*=\s*(\d{1,9})\s*", re.ASCII)


def parse(name: str) -> Any:
    """Return the measure of a name: nDCG, R, RR, Success, P or AP, with a cutoff, and with ``rel`` where it has one.

    Others of ir_measures call Perl, need further packages, or are not between 0 and 1; and a cutoff of 0 ends the whole
    process.

    Raises:
        InvalidInput: there is none; the message names the nearest.
        MissingDependency: ir_measures is not installed.
    """
    form = _FORM.fullmatch(name)
    measure = _library().measures.registry.get(form[1]) if form else None
    if form is None or measure is None:
        known = {each.casefold(): each for each in _NEAR}
        near = nearest(name.partition("@")[0].casefold(), known, cutoff=0.3)
        hint = f"did you mean {known[near]}@{(form and form[3]) or 10}? " if near else ""
        raise InvalidInput(f"there is no measure {name!r}; {hint}Names are those of ir-measur.es")
    given = [*(form[2].split(",") if form[2] else []), *([f"cutoff={form[3]}"] if form[3] else [])]
    options = {read[1]: int(read[2]) for read in map(_OPTION.fullmatch, given) if read}
    each_once = len(options) == len(given) and options.keys() <= measure.SUPPORTED_PARAMS.keys()
    if measure.NAME not in _NEAR or not each_once or not all(1 <= value <= _MOST for value in options.values()):
        raise InvalidInput(
            f"the measure {name!r} is not computed here; there are {', '.join(_NEAR)}, with a cutoff from 1 to "
            f"{_MOST:,} and with rel, e.g. nDCG@10 or P(rel=2)@5"
        )
    return measure(**options)


def canonical(name: str) -> str:
    """Return the one name of a measure that has several: nDCG@10 for NDCG@10, RR@10 for MRR@10."""
    return str(parse(name))


def depth(names: Sequence[str]) -> int:
    """Return how many hits the measures look at: the largest cutoff, 100 for one without."""
    cutoffs = [parse(name).params.get("cutoff") for name in names]
    return max((100 if cutoff is None else int(cutoff) for cutoff in cutoffs), default=10)


def per_query(names: Sequence[str], qrels: Qrels, run: Run) -> PerQuery:
    """Return every measure for every question of *qrels*; one that found nothing scores 0."""
    if not names:
        return {}
    library = _library()
    measured = {canonical(name): dict.fromkeys(qrels, 0.0) for name in names}
    # trec_eval breaks equal scores by id, descending: ranks as scores leave it nothing to break.
    scored = {
        question: {chunk_id: float(len(found) - place) for place, chunk_id in enumerate(found)}
        for question, found in run.items()
        if question in qrels and found
    }
    judged = {question: dict(grades) for question, grades in qrels.items()}
    for each in library.iter_calc([parse(name) for name in measured], judged, scored):
        measured[str(each.measure)][each.query_id] = float(each.value)
    # Two names of one measure are both asked for, and ir_measures gives its values once.
    return {name: measured[canonical(name)] for name in names}


def mean(values: Mapping[str, float]) -> float:
    """Return the mean over questions; NaN for none."""
    return sum(values.values()) / len(values) if values else float("nan")


def _library() -> Any:
    with OptionalImport("a labelled measure", "ir_measures", extra="gate"):
        import ir_measures
    return ir_measures

"""Labelled measures, computed by ir_measures and called by its names: ``nDCG@10``, ``R@10``, ``RR@10``, ``Success@10``.

``R@k`` is the share of the relevant that are among the first k (TREC's recall_k), not the share of true nearest
neighbours: that is knn recall. ``RR@k`` is what others call MRR@k before the mean is taken.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from recollect.errors import InvalidInput, MissingDependency

Qrels: TypeAlias = Mapping[str, Mapping[str, int]]
"""Grades by question and id; 0 is irrelevant."""

Run: TypeAlias = Mapping[str, Sequence[str]]
"""Ids by question, best first, each once."""

PerQuery: TypeAlias = dict[str, dict[str, float]]
"""Values by measure and question."""

MAIN = "nDCG@10"
DEFAULT = (MAIN, "R@10", "RR@10", "Success@10")
_NEAR = ("nDCG", "R", "RR", "Success", "P", "AP")
_OPTIONS, _MOST = {"cutoff", "rel"}, 10_000


def parse(name: str) -> Any:
    """Return the measure of a name: nDCG, R, RR, Success, P or AP, with a cutoff, and with ``rel`` where it has one.

    Others of ir_measures call Perl, need further packages, or are not between 0 and 1; and a cutoff of 0 ends the whole
    process.

    Raises:
        InvalidInput: there is none; the message names the nearest.
        MissingDependency: ir_measures is not installed.

    """
    library = _library()
    try:
        found = _measure(library, ast.parse(name, mode="eval").body)
    except (NameError, ValueError, SyntaxError, TypeError):
        known = {each.casefold(): each for each in _NEAR}
        near = difflib.get_close_matches(name.partition("@")[0].casefold(), known, n=1, cutoff=0.3)
        cut = name.partition("@")[2] or "10"
        hint = f"did you mean {known[near[0]]}@{cut}? " if near else ""
        raise InvalidInput(f"there is no measure {name!r}; {hint}Names are those of ir-measur.es") from None
    wrong = {key: value for key, value in found.params.items() if key not in _OPTIONS or not _is_count(value)}
    if found.NAME not in _NEAR or wrong:
        raise InvalidInput(
            f"the measure {name!r} is not computed here; there are {', '.join(_NEAR)}, with a cutoff from 1 and with "
            "rel, e.g. nDCG@10 or P(rel=2)@5"
        )
    return found


def _measure(library: Any, node: ast.expr) -> Any:
    """Return the measure that an expression ``Name(option=value)@cutoff`` stands for.

    ir_measures has such a function; it asks for `ast.Num`, of which Python 3.12 warns and which 3.14 has not.
    """
    cutoff, options = None, {}
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
        cutoff = ast.literal_eval(node.right)
        node = node.left
    if isinstance(node, ast.Call):
        if node.args:
            raise ValueError("an option without a name")
        options = {str(option.arg): ast.literal_eval(option.value) for option in node.keywords}
        node = node.func
    if not isinstance(node, ast.Name) or node.id not in library.measures.registry:
        raise NameError("no measure of that name")
    measure = library.measures.registry[node.id]
    if cutoff is not None:
        options[measure.AT_PARAM] = cutoff
    return measure(**options)


def canonical(name: str) -> str:
    """Return the one name of a measure that has several: nDCG@10 for NDCG@10, RR@10 for MRR@10."""
    return str(parse(name))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MOST


def depth(names: Sequence[str]) -> int:
    """Return how many hits the measures look at: the largest cutoff, 100 for one without."""
    cutoffs = [parse(name).params.get("cutoff") for name in names]
    return max((100 if cutoff is None else int(cutoff) for cutoff in cutoffs), default=10)


def per_query(names: Sequence[str], qrels: Qrels, run: Run) -> PerQuery:
    """Return every measure for every question of *qrels*; one that found nothing scores 0.

    Args:
        names: of the measures.
        qrels: what is relevant.
        run: what was found.

    """
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
    try:
        import ir_measures
    except ImportError as error:
        raise MissingDependency(
            f"labelled measures need ir_measures, which is not installed; run: pip install 'recollect[gate]' [{error}]"
        ) from error
    return ir_measures

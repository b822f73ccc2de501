"""The numbers: measures by hand, and the tests against other implementations."""

from __future__ import annotations

import ast
import math

import numpy as np
import pytest

from reperio.errors import InvalidInput
from reperio.evaluation.statistics import measures
from reperio.evaluation.statistics.comparing import (
    bootstrap_interval,
    compare,
    effect_size,
    holm,
    mean_bounds,
    randomisation_p,
)


def test_measures_equal_their_definitions() -> None:
    """Graded nDCG, recall, reciprocal rank and success by hand; a question that found nothing has 0."""
    qrels = {"q": {"a": 2, "b": 1, "c": 1}, "none": {"a": 1}}
    run = {"q": ["x", "a", "b"], "none": []}
    found = measures.per_query(measures.DEFAULT, qrels, run)
    gained = 2 / math.log2(3) + 1 / 2
    ideal = 2 + 1 / math.log2(3) + 1 / 2
    assert found["nDCG@10"] == pytest.approx({"q": gained / ideal, "none": 0})
    assert found["R@10"] == pytest.approx({"q": 2 / 3, "none": 0})
    assert found["RR@10"] == pytest.approx({"q": 1 / 2, "none": 0})
    assert found["Success@10"] == {"q": 1, "none": 0}
    assert measures.mean(found["R@10"]) == pytest.approx(1 / 3)


def test_the_order_of_equal_scores_is_that_of_the_run() -> None:
    """Ranks decide, not the ids that trec_eval would break ties by."""
    for run in (["a", "z"], ["z", "a"]):
        found = measures.per_query(["RR@10"], {"q": {"a": 1}}, {"q": run})
        assert found["RR@10"]["q"] == 1 / (run.index("a") + 1)


def test_an_unknown_measure_is_named_with_the_nearest() -> None:
    """The error proposes a name of ir_measures."""
    with pytest.raises(InvalidInput, match=r"no measure 'ndgc@5'; did you mean nDCG@5\?"):
        measures.parse("ndgc@5")
    assert measures.depth(["nDCG@10", "R@50"]) == 50


@pytest.mark.parametrize(
    "name",
    [
        *("R@0", "R@-1", "ERR@10", "alpha_nDCG@10", "RBP(p=0.8)", "nDCG(dcg='exp-log2')@10", "P@1.5"),
        *(
            "P(rel=1,rel=2)@5",
            "P(cutoff=3)@5",
            "nDCG(rel=2)@5",
            "P(5)",
            "P@10001",
            "P@5\n",
            "nDCG@None",
            "@5",
            "",
            "\0",
        ),
        *("nDCG@" + "-" * 100_000 + "1", "P@" + "9" * 5000, "(" * 1000 + "P" + ")" * 1000),
    ],
    ids=lambda name: repr(name[:24]),
)
def test_a_measure_that_cannot_be_computed_is_refused(name: str) -> None:
    """When it is read, and not when it has run for a while, or ended the process."""
    with pytest.raises(InvalidInput, match=r"is not computed here|there is no measure"):
        measures.parse(name)


def test_every_measure_that_is_allowed_is_computed() -> None:
    """With and without cutoff, and with a least grade."""
    names = ["nDCG", "nDCG@5", "R@5", "RR", "RR@2", "Success@1", "P@2", "AP", "AP@5", "P(rel=2)@5", "R(rel=2)@5"]
    found = measures.per_query(names, {"q": {"a": 2, "b": 1}}, {"q": ["x", "a"]})
    assert found["P(rel=2)@5"]["q"] == pytest.approx(1 / 5)
    assert found["R(rel=2)@5"]["q"] == 1
    assert {name: 0 <= values["q"] <= 1 for name, values in found.items()} == dict.fromkeys(names, True)
    assert found["AP"]["q"] == pytest.approx(1 / 4)


@pytest.mark.filterwarnings("ignore:ast:DeprecationWarning")  # where Python warns, to take them away does so too
def test_names_are_read_without_what_newer_pythons_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.12 warns of `ast.Num` and its like, 3.14 has none."""
    for gone in ("Num", "Str", "NameConstant"):
        monkeypatch.delattr(ast, gone, raising=False)
    assert measures.canonical("NDCG@10") == "nDCG@10"
    assert measures.per_query(["P(rel=2)@5"], {"q": {"a": 2}}, {"q": ["a"]})["P(rel=2)@5"]["q"] == pytest.approx(1 / 5)


@pytest.mark.parametrize("count", [2, 5, 12, 40])
def test_the_randomisation_test_equals_scipys(count: int) -> None:
    """Exactly where all patterns are counted, within sampling error where they are drawn."""
    stats = pytest.importorskip("scipy.stats", reason="scipy is not installed")
    differences = np.random.default_rng(count).normal(-0.2, 0.5, count)
    drawn = {"n_resamples": np.inf} if count <= 16 else {"n_resamples": 50_000, "rng": np.random.default_rng(0)}
    theirs = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", alternative="less", **drawn
    ).pvalue
    assert randomisation_p(differences) == pytest.approx(theirs, abs=1e-9 if count <= 16 else 0.01)


def test_no_difference_is_no_evidence() -> None:
    """Equal values have p = 1, and those that are 0 change nothing."""
    assert randomisation_p(np.zeros(20)) == 1.0
    some = np.array([-0.5, -0.25, 0.125, -1.0, -0.5, -0.5])
    assert randomisation_p(np.append(some, np.zeros(30))) == randomisation_p(some)


def test_five_questions_must_get_worse_before_it_is_significant() -> None:
    """As docs/gate.md says: 1/32."""
    assert randomisation_p(np.full(4, -1.0)) == pytest.approx(1 / 16)
    assert randomisation_p(np.full(5, -1.0)) == pytest.approx(1 / 32)


def test_under_the_null_the_test_is_red_as_often_as_stated() -> None:
    """Of 2,000 samples without a drop about 5% are significant at 0.05: the 99.9% range of that share."""
    rng = np.random.default_rng(3)
    red = sum(randomisation_p(rng.normal(size=12)) <= 0.05 for _ in range(2000))
    assert 66 <= red <= 137


def test_the_bootstrap_interval_covers_the_mean() -> None:
    """About as wide as the normal interval of the mean."""
    values = np.random.default_rng(5).normal(0.3, 1.0, 400)
    low, high = bootstrap_interval(values)
    error = 1.96 * values.std(ddof=1) / 20
    assert low == pytest.approx(values.mean() - error, abs=0.02)
    assert high == pytest.approx(values.mean() + error, abs=0.02)


def test_holm_by_hand() -> None:
    """0.01 ≤ 0.05/4, 0.016 ≤ 0.05/3; 0.03 > 0.05/2, and nothing after it."""
    assert holm([0.03, 0.01, 0.04, 0.016], 0.05) == [False, True, False, True]
    assert holm([], 0.05) == []


def test_comparisons_pair_by_question() -> None:
    """Only shared questions count, whatever their order."""
    found = compare({"a": 1.0, "b": 0.5, "gone": 1.0}, {"new": 0.0, "b": 0.25, "a": 1.0})
    assert found is not None
    assert (found.questions, found.before, found.now, found.worse, found.better) == (2, 0.75, 0.625, 1, 0)
    assert found.difference == -0.125
    assert compare({"a": 1.0}, {"b": 1.0}) is None
    assert effect_size(np.array([-1.0, -3.0])) == pytest.approx(-2 / math.sqrt(2))


def test_bounds_of_a_perfect_sample_are_not_perfect() -> None:
    """200 queries without a miss do not prove a recall of 1; a lower one is told from 0.95."""
    low, high = mean_bounds(np.ones(200))
    assert 0.985 < low < 1.0
    assert high == 1.0
    assert mean_bounds(np.full(200, 0.9))[1] < 0.95

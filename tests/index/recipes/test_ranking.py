"""Which index for which collection: the rule, and that FAISS can build and serve everything it proposes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from reperio import Metric, index
from reperio.errors import InvalidInput
from reperio.index.recipes.families import GRAPH_ROWS, SINGLE_LIST_ROWS, nlist_for
from reperio.index.recipes.goal import PREFERENCES, Goal, Recipe, parse_memory, to_size
from reperio.index.recipes.ranking import EXACT_ROWS, GRAPH_BYTES, TAIL_ROWS, advise, choose, is_graph, requested

CODES = Goal(prefer="throughput")
GIB = 1 << 30


def falling_off_at(dimension: int, kept: int, share: float) -> Any:
    """Return a spectrum of which the first *kept* components hold *share*, evenly, and the rest the rest."""
    first = np.linspace(share / kept, share, kept)
    return np.concatenate([first, np.linspace(share, 1, dimension - kept + 1)[1:]])


def factories(recipes: list[Recipe]) -> list[str]:
    return [recipe.factory for recipe in recipes]


# The choice


@pytest.mark.parametrize("rows", [0, 1, EXACT_ROWS])
def test_small_collections_get_no_index(rows: int) -> None:
    """Up to the threshold search is exact, whatever is preferred, and however little memory there is."""
    assert factories(advise(rows, 384, Metric.L2, Goal(prefer="memory", memory=1))) == [""]


def test_vectors_of_three_dimensions_get_no_index() -> None:
    """Vectors that are no larger than their codes are searched exactly."""
    assert factories(advise(100_000, 3, Metric.COSINE, Goal())) == [""]
    assert choose(100_000, 4).factory


@pytest.mark.parametrize(
    ("rows", "dimension", "factory"),
    [
        (EXACT_ROWS + 1, 384, "IVF1,PQ192x4fs"),
        (GRAPH_ROWS - 1, 384, "IVF1,PQ192x4fs"),
        (GRAPH_ROWS, 384, "PCA224,HNSW24,SQ8,Refine(PQ96x4)"),
        (100_000, 384, "PCA224,HNSW24,SQ8,Refine(PQ96x4)"),
        (100_000, 64, "HNSW32,SQ8,Refine(PQ16x4)"),
        (100_000, 1024, "HNSW32,SQ8,Refine(PQ256x4)"),
        (100_000, 4096, "HNSW32,SQ8,Refine(PQ1024x4)"),
        (100_000_000, 384, "PCAR192,IVF8192_HNSW32,PQ96x4fs"),
    ],
)
def test_for_latency_a_graph_is_chosen_once_there_are_rows_to_walk(rows: int, dimension: int, factory: str) -> None:
    """Small collections are scanned, larger ones walked, those too large for a graph are coded."""
    assert choose(rows, dimension).factory == factory


@pytest.mark.parametrize(
    ("rows", "dimension", "factory"),
    [
        (EXACT_ROWS + 1, 384, "IVF1,PQ192x4fs"),
        (SINGLE_LIST_ROWS - 1, 384, "IVF1,PQ192x4fs"),
        (SINGLE_LIST_ROWS, 384, "PCAR192,IVF128,PQ96x4fs"),
        (1_000_000, 768, "PCAR384,IVF1024,PQ192x4fs"),
        (1_000_000, 1024, "IVF1024,PQ256x4fs"),
        (100_000, 129, "PCAR96,IVF256,PQ96x4fs"),
        (100_000, 127, "IVF256,PQ127x4fs"),
        (100_000, 2049, "Pad2050,IVF256,PQ1025x4fs"),
        (100_000, 8, "IVF256,SQ8"),
        (100_000, 16, "IVF256,PQ16x4fs"),
        (100_000, 65, "IVF256,PQ65x4fs"),
        (300_000_000, 64, "IVF16384_HNSW32,PQ64x4fs"),
    ],
)
def test_for_throughput_and_memory_codes_are_chosen(rows: int, dimension: int, factory: str) -> None:
    """The factory string follows size and dimension; odd dimensions are padded."""
    assert choose(rows, dimension, Metric.COSINE, Goal(prefer="throughput")).factory == factory
    assert choose(rows, dimension, Metric.COSINE, Goal(prefer="memory")).factory == factory


def test_under_the_inner_product_finer_codes_come_first() -> None:
    """Vectors of different norms need two dimensions per code, cosine's do with half the bytes."""
    assert choose(100_000, 384, Metric.INNER_PRODUCT, CODES).factory == "IVF256,PQ192x4fs"
    assert choose(100_000, 384, Metric.L2, CODES).factory == "PCAR192,IVF256,PQ96x4fs"


def test_the_measured_spectrum_decides_how_far_vectors_are_reduced() -> None:
    """As many components as hold the share, in steps of 32; none where that is more than 0.8 of them."""
    for kept, factory in (
        (100, "PCA128,HNSW24,SQ8,Refine(PQ96x4)"),
        (128, "PCA128,HNSW24,SQ8,Refine(PQ96x4)"),
        (129, "PCA160,HNSW24,SQ8,Refine(PQ96x4)"),
        (288, "PCA288,HNSW24,SQ8,Refine(PQ96x4)"),
        (320, "HNSW32,SQ8,Refine(PQ96x4)"),
    ):
        spectrum = falling_off_at(384, kept, 0.9001)
        assert choose(100_000, 384, spectrum=spectrum).factory == factory
    even = np.linspace(1 / 384, 1, 384)
    assert not any("PCA" in recipe.factory for recipe in advise(100_000, 384, Metric.L2, CODES, spectrum=even))


def test_an_assumed_spectrum_is_said_to_be_assumed() -> None:
    """The reason tells what was measured from what was not."""
    assert "assumed" in choose(100_000, 384).reason
    assert "assumed" not in choose(100_000, 384, spectrum=falling_off_at(384, 200, 0.95)).reason


def test_a_recall_above_the_provable_is_searched_exactly_first() -> None:
    """0.9995 puts exact search first; 0.999 does not."""
    assert choose(100_000, 384, goal=Goal(recall=0.9995)).exact
    assert not choose(100_000, 384, goal=Goal(recall=0.999)).exact
    assert len(advise(100_000, 384, Metric.L2, Goal(recall=1.0))) > 5


def test_high_recall_takes_a_better_graph_or_a_scan_of_all_codes() -> None:
    """Graphs are built with care unless they are very large; at 0.99 few enough codes are all scanned."""
    assert choose(100_000, 384).construction == 200
    assert choose(5_000_000, 384, goal=Goal(memory=1 << 40)).construction == 100
    assert choose(80_000, 384, goal=Goal(recall=0.99)).factory == "IVF1,PQ192x4fs"
    assert choose(100_000, 384, goal=Goal(recall=0.99)).factory == "PCA224,HNSW24,SQ8,Refine(PQ96x4)"
    assert choose(100_000, 384, goal=Goal(recall=0.999)).factory == "IVF1,PQ192x4fs"
    assert is_graph(choose(1_000_000, 384, goal=Goal(recall=0.999)).factory)


def test_with_little_memory_and_a_high_recall_all_codes_are_scanned() -> None:
    """Where most lists would be probed, lists are only in the way; over many rows they are not."""
    goal = Goal(recall=0.99, prefer="memory")
    assert choose(100_000, 384, goal=goal).factory == "IVF1,PQ96x4fs"
    assert choose(100_000, 384, goal=Goal(prefer="memory")).factory == "PCAR192,IVF256,PQ96x4fs"
    assert choose(1_000_000, 384, goal=goal).factory != "IVF1,PQ96x4fs"


def test_the_first_three_differ_in_kind() -> None:
    """Whoever tries the first three for latency has tried codes as well as graphs."""
    kinds = {is_graph(factory) for factory in factories(advise(100_000, 384, Metric.COSINE, Goal()))[:3]}
    assert kinds == {True, False}


def test_exact_search_is_the_last_resort() -> None:
    """It is in every list, after everything that is an index, and takes no memory."""
    for prefer in PREFERENCES:
        *others, last = advise(50_000, 384, Metric.COSINE, Goal(prefer=prefer))
        assert last.exact
        assert last.bytes_per_vector == 0
        assert last.build_class == "none"
        assert not any(recipe.exact for recipe in others)


@pytest.mark.parametrize("rows", [2_000, 50_000, 10_000_000])
@pytest.mark.parametrize("dimension", [4, 100, 384, 1536, 4096])
def test_every_recipe_says_what_it_costs_and_why(rows: int, dimension: int) -> None:
    """No two are the same; each has its bytes, its time and one line for people."""
    recipes = advise(rows, dimension, Metric.COSINE, Goal())
    assert len(set(factories(recipes))) == len(recipes) > 3
    for recipe in recipes:
        assert recipe.bytes_per_vector is not None
        assert (recipe.bytes_per_vector > 0) != recipe.exact
        assert recipe.build_class in ("none", "seconds", "minutes", "hours")
        assert 20 < len(recipe.reason) < 160
        assert "\n" not in recipe.reason


# Memory


def test_what_exceeds_the_memory_is_left_out() -> None:
    """With 10 MiB for 100,000 rows the graphs are gone, with 110 MiB the largest."""
    assert not any(map(is_graph, factories(advise(100_000, 384, Metric.COSINE, Goal(memory=10 << 20)))))
    assert "HNSW32,SQfp16,Refine(PQ96x4)" in factories(advise(100_000, 384, Metric.COSINE, Goal(memory=110 << 20)))
    assert not any(
        "HNSW32,Flat" in each for each in factories(advise(100_000, 384, Metric.COSINE, Goal(memory=110 << 20)))
    )


def test_without_a_limit_a_graph_of_many_gigabytes_is_not_the_first_choice() -> None:
    """The limit that is assumed for graphs is lifted by naming a larger one."""
    rows = 30_000_000
    assert not is_graph(choose(rows, 384).factory)
    assert is_graph(choose(rows, 384, goal=Goal(memory=8 * GRAPH_BYTES)).factory)


def test_ten_million_wide_vectors_fit_in_128_bytes_each() -> None:
    """Codes take as many components as the memory allows; with a graph's memory, a graph is proposed."""
    tight = choose(10_000_000, 1024, goal=Goal(memory=128 * 10_000_000))
    assert tight.factory == "PCAR448,IVF4096_HNSW32,PQ224x4fs"
    assert tight.bytes_per_vector is not None
    assert 115 < tight.bytes_per_vector <= 128
    assert choose(10_000_000, 1024, goal=Goal(memory=80 * 10_000_000)).factory == "PCAR512,IVF4096_HNSW32,PQ128x4fs"
    assert choose(10_000_000, 1024, goal=Goal(memory=10 * GIB)).factory == "PCA608,HNSW24,SQ8,Refine(PQ256x4)"


@pytest.mark.parametrize(("rows", "dimension"), [(1025, 4), (5_000, 384), (1_000_000, 384), (10_000_000, 1024)])
def test_too_little_memory_is_an_error_that_says_how_much_is_enough(rows: int, dimension: int) -> None:
    """What the message proposes works, and less than it does not."""
    with pytest.raises(InvalidInput, match=r"needs at least \d+ .iB; pass memory='\d+.iB', or index='exact'") as raised:
        advise(rows, dimension, Metric.COSINE, Goal(memory=100))
    proposed = parse_memory(str(raised.value).split("memory='")[1].split("'")[0])
    assert not choose(rows, dimension, goal=Goal(memory=proposed)).exact
    with pytest.raises(InvalidInput):
        advise(rows, dimension, Metric.COSINE, Goal(memory=proposed * 8 // 10))


@pytest.mark.parametrize(
    ("text", "amount"),
    [("8GiB", 8 * GIB), ("8 gib", 8 * GIB), ("1.5GB", 1_500_000_000), ("64KiB", 65_536), ("7", 7), ("7B", 7), (7, 7)],
)
def test_memory_is_read_in_the_usual_units(text: int | str, amount: int) -> None:
    """Binary and decimal units, upper and lower case, and plain bytes."""
    assert parse_memory(text) == amount
    assert parse_memory(np.int64(amount)) == amount


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("8G", "memory is '8G'; did you mean '8GiB'"),
        ("8 megs", "did you mean '8MiB'"),
        ("8 parsecs", "did you mean '8GiB'"),
        ("0GiB", "bytes above 0"),
        ("a lot", "a text like '8GiB'"),
        ("-1GiB", "a text like '8GiB'"),
        ("9" * 400 + "GiB", "a text like '8GiB'"),
        (0, "bytes above 0"),
        (-5, "bytes above 0"),
        (1.5, "pass bytes"),
        (True, "pass bytes"),
        (None, "pass bytes"),
    ],
)
def test_memory_that_means_nothing_is_refused_with_what_would(value: Any, message: str) -> None:
    """The error quotes what came and proposes the nearest that is possible."""
    with pytest.raises(InvalidInput) as raised:
        parse_memory(value)
    assert message in str(raised.value)


def test_sizes_are_written_in_binary_units() -> None:
    """One decimal below ten, none above."""
    sizes = [0, 1023, 1536, 60_817_408, 10 << 20, 8 * GIB, 3 << 40]
    assert [to_size(size) for size in sizes] == ["0 B", "1023 B", "1.5 KiB", "58 MiB", "10 MiB", "8.0 GiB", "3.0 TiB"]


@pytest.mark.parametrize(
    ("goal", "message"),
    [
        (Goal(recall=95), "pass recall=0.95"),
        (Goal(recall=1.5), "pass recall=1"),
        (Goal(recall=0), "share in (0, 1]"),
        (Goal(recall=-1), "share in (0, 1]"),
        (Goal(recall=float("nan")), "share in (0, 1]"),
        (Goal(recall="high"), "like 0.95"),
        (Goal(prefer="latencies"), "pass 'latency'"),
        (Goal(prefer="size"), "one of latency, throughput, memory"),
        (Goal(memory=0), "bytes above 0"),
        (Goal(memory=-1), "bytes above 0"),
    ],
)
def test_impossible_goals_are_refused_with_the_nearest_possible(goal: Goal, message: str) -> None:
    """At any size, also one that would be searched exactly."""
    for rows in (10, 100_000):
        with pytest.raises(InvalidInput) as raised:
            advise(rows, 384, Metric.COSINE, goal)
        assert message in str(raised.value)


def test_impossible_sizes_are_refused() -> None:
    """Fewer than no rows, or no dimension."""
    with pytest.raises(InvalidInput, match="rows is -1"):
        advise(-1, 384, Metric.COSINE, Goal())
    with pytest.raises(InvalidInput, match="dimension is 0"):
        advise(10, 0, Metric.COSINE, Goal())


# What is asked for, and when to build again


def test_a_named_graph_is_built_with_care() -> None:
    """A family name becomes FAISS's, exact search none, a factory string stays as it is."""
    assert (requested("hnsw").factory, requested("hnsw").construction) == ("HNSW32,SQ8", 200)
    assert requested("exact").exact
    assert requested(" IVF256,SQ8 ").factory == "IVF256,SQ8"
    assert all(requested(name).requested for name in ("hnsw", "exact", "IVF256,SQ8"))
    assert requested("IVF256,SQ8").build_class == "unknown"


def test_build_classes() -> None:
    """A minute and an hour are where the words change."""
    classes = [Recipe("x", "", seconds=seconds).build_class for seconds in (0.5, 59, 60, 3599, 3600)]
    assert classes == ["seconds", "seconds", "minutes", "minutes", "hours"]


def test_lists_grow_with_the_root_of_the_rows() -> None:
    """The number of lists is the power of two nearest to √rows."""
    assert [nlist_for(n) for n in (0, 1, 4, 1000, 100_000, 10_000_000)] == [1, 1, 2, 32, 256, 4096]


def test_training_again_is_due_when_the_number_of_lists_doubles() -> None:
    """Codes are trained again when the collection would get more lists, not before."""
    for factory in ("", "IVF1,PQ192x4fs", "PCAR192,IVF4096_HNSW32,PQ96x4fs"):
        assert not index.training_is_due(15_000, 5_000, factory)
        assert index.training_is_due(SINGLE_LIST_ROWS, 5_000, factory)
        assert not index.training_is_due(120_000, 100_000, factory)
        assert index.training_is_due(400_000, 100_000, factory)


def test_a_graph_is_built_again_at_eight_times_the_rows() -> None:
    """It takes new rows as well as a new one would."""
    for factory in ("HNSW32,SQ8", "PCA224,HNSW24,SQ8", "NSG32,Flat"):
        assert not index.training_is_due(799_999, 100_000, factory)
        assert index.training_is_due(800_000, 100_000, factory)


def test_extension_is_due_when_the_tail_costs_more_than_the_index() -> None:
    """A tail as long as what is searched exactly anyway is put into the index."""
    assert not index.extension_is_due(EXACT_ROWS, 0)
    assert index.extension_is_due(EXACT_ROWS + 1, 0)
    assert not index.extension_is_due(100_000 + TAIL_ROWS, 100_000)
    assert index.extension_is_due(100_000 + TAIL_ROWS + 1, 100_000)

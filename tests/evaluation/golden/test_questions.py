"""Reading a golden set: what it means, and the file and line of whatever it cannot mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from reperio.errors import InvalidInput
from reperio.evaluation import GateLimits, GoldenQuery, read_golden, to_limits
from reperio.evaluation.asking import to_found
from reperio.evaluation.statistics.measures import per_query
from reperio.types import Chunk, Hit


def test_yaml_is_read_with_its_defaults(tmp_path: Path) -> None:
    """Defaults apply where a question says nothing; null takes a default filter away."""
    path = tmp_path / "golden.yaml"
    path.write_text(
        "defaults: {k: 5, mode: hybrid, where: {lang: en}}\n"
        "thresholds: {nDCG@5: 0.5}\n"
        "tags: {a: {R@5: 1}}\n"
        "document_field: meta.source\n"
        "limits: {p95: 50, shrink: 0.1}\n"
        "queries:\n"
        "- {query: one, expect: {x: 2, y: 1}, tags: a}\n"
        "- query: two\n"
        "  id: second\n"
        "  expect_documents: doc\n"
        "  where: null\n"
        "  mode: dense\n"
        "- {query: three, nothing_above: 0.5}\n"
    )
    golden = read_golden(path)
    assert golden.queries == [
        GoldenQuery("one", "one", {"x": 2, "y": 1}, where={"lang": "en"}, mode="hybrid", tags=("a",), line=7),
        GoldenQuery("second", "two", {}, {"doc": 1}, line=8),
        GoldenQuery("three", "three", nothing_above=0.5, where={"lang": "en"}, mode="hybrid", line=13),
    ]
    assert (golden.k, golden.document_field, golden.thresholds) == (5, "meta.source", {"nDCG@5": 0.5})
    assert golden.tags == {"a": {"R@5": 1.0}}
    assert golden.limits == GateLimits(p95=50, shrink=0.1)
    assert to_limits(golden, p95=9.0, recall=None) == GateLimits(p95=9.0, shrink=0.1)
    assert golden.measures == ("nDCG@10", "R@10", "RR@10", "Success@10", "nDCG@5", "R@5")


def test_jsonl_is_read_like_yaml(tmp_path: Path) -> None:
    """The first line may hold settings; empty lines count as lines."""
    path = tmp_path / "golden.jsonl"
    path.write_text('{"defaults": {"k": 3}}\n\n{"query": "one", "expect": ["x"]}\n')
    golden = read_golden(path)
    assert golden.k == 3
    assert golden.queries == [GoldenQuery("one", "one", {"x": 1}, line=3)]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("queries:\n- {query: a, expekt: [x]}", r":2: expekt is unknown; did you mean 'expect'\?"),
        ("queries:\n- query: a\n  expect: []", r":3: expect must be ids"),
        ("queries:\n- query: a\n  expect: [1]", r":3: expect must be ids \(texts; numbers in quotes\)"),
        ("queries:\n- query: a\n  expect: {x: 0}", r":3: expect grades 'x' as 0"),
        ("queries:\n- query: a\n  expect: [x, x]", r":3: expect names an id twice"),
        ("queries:\n- query: a", r":2: the entry needs exactly one of"),
        ("queries:\n- {query: a, expect: x, nothing_above: 1}", r":2: the entry needs exactly one of"),
        ("queries:\n- {query: a, expect_documents: x}", r":2: expect_documents needs document_field"),
        ("queries:\n- {query: 7, expect: x}", r":2: query must be a text that is not empty; put it in quotes"),
        ("queries:\n- {query: a, expect: x, where: {y: {$gtt: 1}}}", r":2: where is no filter: .*\$gt"),
        ("queries:\n- {query: a, expect: x, mode: sparse}", r":2: mode must be dense, lexical, hybrid"),
        ("queries:\n- {query: a, nothing_above: .nan}", r":2: nothing_above must be a finite number"),
        ("queries:\n- {query: a, nothing_above: 1" + "0" * 400 + "}", r":2: nothing_above must be a finite number"),
        ("queries:\n- {query: a, expect: x}\n- {query: a, expect: y}", r":3: the question 'a' is already in line 2"),
        ("queries:\n- query: a\n  query: b\n  expect: x", r":3: the key 'query' comes twice"),
        ("thresholds: {nDGC@10: 0.5}\nqueries:\n- {query: a, expect: x}", r":1: .*did you mean nDCG@10\?"),
        ("thresholds: {R@10: 80}\nqueries:\n- {query: a, expect: x}", r":1: thresholds wants 80 of R@10"),
        (
            "tags:\n  b: {R@10: 1}\nqueries:\n- {query: a, expect: x, tags: [a]}",
            r":2: tags.b is the tag of no labelled",
        ),
        ("defaults: {k: 0}\nqueries:\n- {query: a, expect: x}", r":1: defaults.k must be an integer"),
        (
            "limits: {shrnk: 1}\nqueries:\n- {query: a, expect: x}",
            r":1: limits.shrnk is unknown; did you mean 'shrink'\?",
        ),
        ("limits:\n  shrink: x\nqueries:\n- {query: a, expect: x}", r":2: limits.shrink cannot be: .* at least 0"),
        ("limits: {queries: 2000}\nqueries:\n- {query: a, expect: x}", r":1: limits cannot be: most_queries is 1000"),
        ("thresholds: {R@10: 1}\nqueries:\n- {query: a, nothing_above: 1}", r":1: thresholds apply to no question"),
        ("queries: &a [*a]", r"nested too deeply, or within itself"),
        ("querys: []", r":1: querys is unknown; did you mean 'queries'\?"),
        ("queries: 5", r":1: queries must be a list"),
        ("thresholds: {R@10: 1}", r"holds no questions"),
        (
            "thresholds:\n  nDCG@10: 1\n  R@10: 75\nqueries:\n- {query: a, expect: x}",
            r":3: thresholds wants 75 of R@10",
        ),
        (
            "thresholds:\n  MRR@10: 0.1\n  RR@10: 0.2\nqueries:\n- {query: a, expect: x}",
            r":3: thresholds names one measure twice: MRR@10 and RR@10",
        ),
        (
            "tags:\n  b:\n    R@10: 1\n    nDGC@10: 1\nqueries:\n- {query: a, expect: x, tags: [b]}",
            r":4: tags.b cannot be used: there is no measure 'nDGC@10'",
        ),
        ("queries:\n- query: a\n  expect:\n    x: 1\n    y: 0", r":5: expect grades 'y' as 0"),
        ("queries:\n- query: a\n  expect:\n    x: 1\n    7: 1", r":5: expect holds the id 7"),
        (
            "document_field: a..b\nqueries:\n- {query: a, expect: x}",
            r":1: document_field is no path of a metadata field",
        ),
        ('document_field: "a\\\\b"\nqueries:\n- {query: a, expect: x}', r":1: document_field is no path"),
        ("queries:\n- [a]", r":2: a question must be an object"),
        ("queries:\n- {query: a", r"no valid YAML"),
        ("queries: []", r"holds no questions"),
        ("", r":1: the file must be an object"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, text: str, complaint: str) -> None:
    """Nothing is guessed or passed over."""
    path = tmp_path / "golden.yaml"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=complaint):
        read_golden(path)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"query": "a", "expect": ["x"]}\n{"query": "b"', ":2: no valid JSON"),
        ('{"query": "a", "expect": ["x"]}\n["b"]', ":2: .* is no object"),
        ('{"query": "a", "query": "b", "expect": ["x"]}', ":1: no valid JSON .*'query' comes twice"),
        ('{"queries": []}', ":1: queries belongs into YAML"),
    ],
)
def test_a_mistake_in_jsonl_is_named_with_its_line(tmp_path: Path, text: str, complaint: str) -> None:
    """As in YAML."""
    path = tmp_path / "golden.jsonl"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=complaint):
        read_golden(path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Missing, of another kind, or no UTF-8."""
    with pytest.raises(InvalidInput, match=r"No such file"):
        read_golden(tmp_path / "absent.yaml")
    with pytest.raises(InvalidInput, match=r"suffix '\.toml'"):
        read_golden(tmp_path / "golden.toml")
    (tmp_path / "latin.yaml").write_bytes(b"queries:\n- query: \xe9")
    with pytest.raises(InvalidInput, match="no UTF-8"):
        read_golden(tmp_path / "latin.yaml")


def test_a_measure_of_several_names_is_read_by_one(tmp_path: Path) -> None:
    """Or a threshold by the other name would be compared with a value of its own."""
    path = tmp_path / "golden.yaml"
    path.write_text(
        "thresholds: {NDCG@10: 0.3, MAP: 0.1}\ntags: {b: {MRR@10: 0.2}}\nqueries:\n- {query: a, expect: x, tags: b}"
    )
    golden = read_golden(path)
    assert (golden.thresholds, golden.tags) == ({"nDCG@10": 0.3, "AP": 0.1}, {"b": {"RR@10": 0.2}})
    assert golden.measures == ("nDCG@10", "R@10", "RR@10", "Success@10", "AP")


def test_two_names_of_a_measure_have_one_value() -> None:
    """Of a set made in Python as well."""
    found = per_query(
        ["nDCG@10", "NDCG@10", "R@10", "Recall@10"], {"q": {"x": 1}, "p": {"y": 1}}, {"q": ["x"], "p": []}
    )
    assert found == {name: {"q": 1.0, "p": 0.0} for name in ("nDCG@10", "NDCG@10", "R@10", "Recall@10")}
    assert per_query([], {"q": {"x": 1}}, {"q": ["x"]}) == {}


def test_results_of_any_search_are_read() -> None:
    """Ids, pairs, hits, and the shapes of LangChain's documents and LlamaIndex's nodes."""

    class Document:
        id, page_content, metadata = "a", "text", {"source": "d"}

    class Node:
        node_id, text, metadata = "a", "text", {"source": "d"}

    class NodeWithScore:
        node, score = Node(), 0.5

    chunk = Chunk("a", "text", {"source": "d"})
    assert to_found("a").id == "a"
    assert to_found(("a", 0.5)).score == 0.5
    assert to_found(Hit(chunk, 0.5, 1)).chunk == chunk
    assert to_found(Document()).chunk == chunk
    assert (to_found((Document(), 0.25)).score, to_found(NodeWithScore()).score) == (0.25, 0.5)
    assert to_found(NodeWithScore()).chunk == chunk
    with pytest.raises(InvalidInput, match="gave a dict without an id"):
        to_found({"text": "a"})
    for score in (float("nan"), float("inf"), None, "0.5", [1]):
        with pytest.raises(InvalidInput, match="a score is a finite number"):
            to_found(("a", score))
    with pytest.raises(InvalidInput, match="gave the score 'nan'"):
        to_found(Hit(chunk, float("nan"), 1))

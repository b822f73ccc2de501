"""What a page shows of texts, filters and rankings."""

from __future__ import annotations

import json

import pytest

from reperio.explorer.comparing import overlap
from reperio.explorer.filtering import facets
from reperio.explorer.showing import Highlighter, at_path
from reperio.filters import parse
from reperio.serving.survey import FieldSurvey, Survey


def marked(question: str, text: str) -> list[str]:
    return [part for part, found in Highlighter(question).excerpt(text).parts if found]


@pytest.mark.parametrize(
    ("question", "text", "expected"),
    [
        ("reset my passwords", "Resetting a PASSWORD is easy; the press is set", ["Resetting", "PASSWORD"]),
        ("Café crème", "the cafe has CREME", ["cafe", "CREME"]),
        ("東京の天気", "今日の天気は東京で晴れ", ["の天気", "東京"]),
        ("what is the", "what is the matter", []),
        ("", "nothing asked", []),
        ("<script>", "a <script> tag & more", ["script"]),
    ],
)
def test_words_are_found_in_any_of_their_endings(question: str, text: str, expected: list[str]) -> None:
    """Without case and accents, and in languages without spaces; common words are left alone."""
    assert marked(question, text) == expected
    assert "".join(part for part, _ in Highlighter(question).excerpt(text).parts) == text


def test_an_excerpt_shows_the_first_word_that_is_found() -> None:
    """Of a long text, with what is left out before and after."""
    found = Highlighter("anchor").excerpt("sail " * 1000 + "anchor " + "rope " * 1000, 200)
    assert (found.before, found.after) == (True, True)
    assert ("anchor", True) in found.parts
    assert sum(len(part) for part, _ in found.parts) <= 200


def test_a_click_adds_a_value_to_a_filter_and_another_takes_it_out() -> None:
    """Each filter that a page offers is a filter, whatever the fields are called; true is not 1."""
    field = FieldSurvey()
    for value in ("en", "de", 1, True, [1, "x"], None, {"a": 1}):
        field.add(value)
    for name in ("lang", "a.b", "$price", "back\\slash", "{}"):
        where: dict[str, object] | None = {"year": {"$gte": 2020}}
        for label in ("en", "1", "true"):
            (facet,) = facets(Survey(chunks=7, fields={name: field}), where)
            chosen = next(each for each in facet.values if each.label == label)
            assert not chosen.chosen
            where = json.loads(chosen.where)
            parse(where or {})
        (facet,) = facets(Survey(chunks=7, fields={name: field}), where)
        assert {each.label for each in facet.values if each.chosen} == {"en", "1", "true"}
        for label in ("1", "true", "en"):
            (facet,) = facets(Survey(chunks=7, fields={name: field}), where)
            where = json.loads(next(each for each in facet.values if each.label == label).where)
        assert where == {"year": {"$gte": 2020}}


def test_overlap_by_rank() -> None:
    """1 for equal rankings, 0 for different ones; what changes far up counts more."""
    names = [str(n) for n in range(10)]
    assert overlap(names, names) == 1 == overlap([], [])
    assert overlap(names, ["x"]) < overlap(names, names[:5] + names[9:4:-1]) < 1
    assert overlap(names, list("abc")) == 0
    assert overlap(names, [names[1], names[0], *names[2:]]) < overlap(names, [*names[:8], names[9], names[8]])


def test_a_document_is_named_by_a_path() -> None:
    """A text or a number; objects, lists and what is missing name none."""
    assert at_path({"file": {"name": "a.md"}}, "file.name") == "a.md"
    assert [at_path({"x": value}, "x") for value in (3, [1], None, {"y": 1})] == ["3", "", "", ""]

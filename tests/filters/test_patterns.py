"""Patterns: what `re` says of them, in time linear in the text."""

from __future__ import annotations

import random
import re
import subprocess
import sys

import pytest

from reperio import InvalidInput
from reperio.filters import Condition, Operator, matches, parse, patterns
from reperio.filters.columns.dictionary import Dictionary
from reperio.filters.patterns import fold, like

CHARACTERS = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code <= 0xDFFF]


def test_folding_keeps_every_character_in_its_place() -> None:
    """A text folds character by character, whatever stands around one, to what `re` holds for equal without case."""
    folded = fold("".join(CHARACTERS))
    assert len(folded) == len(CHARACTERS)
    for character, one in zip(CHARACTERS, folded, strict=True):
        if one != character:
            assert fold(character) == one
            assert re.fullmatch(re.escape(one), character, re.IGNORECASE), character


def test_what_re_holds_for_equal_without_case_folds_to_the_same() -> None:
    """Of all characters that have a case, those that match each other under IGNORECASE fold to one character."""
    cased = [one for one in CHARACTERS if one.lower() != one or one.upper() != one or fold(one) != one]
    together = "".join(cased)
    for one in cased:
        for other in re.findall(one, together, re.IGNORECASE) if one.islower() else ():
            assert fold(one) == fold(other), (one, other)


def of_re(pattern: str, *, ignore_case: bool) -> re.Pattern[str]:
    """Return one expression for a pattern: slow, and obviously right."""
    characters = iter(pattern)
    parts = (
        {"%": ".*", "_": "."}.get(one) or re.escape(next(characters) if one == "\\" else one) for one in characters
    )
    return re.compile("".join(parts), re.DOTALL | (re.IGNORECASE if ignore_case else 0))


@pytest.mark.parametrize("short", [0, 12])
@pytest.mark.parametrize("window", [3, 65_536])
def test_long_texts_are_matched_as_short_ones_are(monkeypatch: pytest.MonkeyPatch, short: int, window: int) -> None:
    """Every way to look for a part, one by one or by windows of any size, gives what one expression would."""
    monkeypatch.setattr(patterns, "_SHORT", short)
    monkeypatch.setattr(patterns, "_WINDOW", window)
    monkeypatch.setattr(patterns, "_TRIES", 1)
    monkeypatch.setattr(patterns, "_FEW", 1)
    rng = random.Random(short + window)
    for _ in range(1500):
        alphabet = rng.choice(["ab", "abİiIı", "ΣσςsSſ", "a\nß🐍"])
        pattern = "".join(rng.choices(alphabet + "%%__", k=rng.randrange(12))) + rng.choice(["", "", "\\%", "\\_"])
        text = "".join(rng.choices(alphabet + "%_", k=rng.randrange(25)))
        for operator in (Operator.LIKE, Operator.ILIKE):
            wanted = of_re(pattern, ignore_case=operator is Operator.ILIKE).fullmatch(text) is not None
            assert matches(Condition(("a",), operator, pattern), {"a": text}) == wanted, (operator, pattern, text)


HOSTILE = """
import sys
import numpy as np
import reperio
from reperio import Chunk

value = "a" * 1_000_000
wheres = [
    *({"s": {name: "%" + "a" * 900 + str(i) + "%"}} for i in range(100) for name in ("$like", "$ilike")),
    *({"s": {name: "a" * 900 + str(i)}} for i in range(25) for name in ("$text_match", "$text_match_insensitive")),
    {"s": {"$ilike": "%" + "a_" * 498 + "b%"}},
    {"s": {"$like": "%" + "_" * 997 + "b%"}},
    {"s": {"$like": "%a" * 499 + "%b"}},
]
with reperio.open(sys.argv[1], dimension=2, auto_optimize=False) as kb:
    kb.add([Chunk("x", "t", {"s": value})], vectors=np.ones((1, 2), dtype=np.float32))
    print(kb.count(where={"$or": wheres}), kb.count(where={"s": {"$ilike": "%A_A" + "a" * 900 + "%"}}))
"""


def test_patterns_made_to_be_slow_are_answered(tmp_path: object) -> None:
    """253 patterns of 1,000 characters that nearly fit a value of a million are answered, not tried at every place."""
    done = subprocess.run(
        [sys.executable, "-c", HOSTILE, f"{tmp_path}/kb"], capture_output=True, text=True, timeout=100, check=True
    )
    assert done.stdout.split() == ["0", "1"]


def test_characters_around_a_wildcard_are_limited() -> None:
    """What cannot be found in linear time is refused by name beyond 1,000 characters in one filter."""
    pattern = "%" + "a_" * 200 + "b%"
    parse({"$or": [{"a": {"$like": pattern}}, {"b": {"$ilike": pattern}}, {"c": {"$like": "a_" * 450 + "%"}}]})
    with pytest.raises(InvalidInput, match=r"1,203 characters around a _ between two %; at most 1,000"):
        parse({"$or": [{"a": {"$like": pattern + str(number)}} for number in range(3)]})


def test_texts_are_folded_once_for_all_conditions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A column folds a text once, however many conditions ignore case, and again only texts that came later."""
    folded: list[str] = []
    monkeypatch.setattr("reperio.filters.columns.dictionary.fold", lambda text: folded.append(text) or fold(text))
    values = Dictionary()
    values.encode(["Straße", "STRASSE", "x"])
    before = values.nbytes
    for text in ("stra", "strasse", "ß"):
        condition = Condition(("a",), Operator.TEXT_MATCH_INSENSITIVE, text)
        assert values.table(condition).tolist() == [
            False,
            *(fold(text) in fold(one) for one in ("Straße", "STRASSE", "x")),
        ]
    assert folded == ["Straße", "STRASSE", "x"]
    assert values.nbytes > before
    values.encode(["neu"])
    assert values.table(Condition(("a",), Operator.ILIKE, "N%")).tolist() == [False, False, False, False, True]
    assert folded[3:] == ["neu"]


def test_a_pattern_without_wildcards_between_is_found_by_find_alone() -> None:
    """Only a part with `_` between other characters counts: not at the ends, and not beside a %."""
    assert [patterns.wild(each) for each in ("a_b%", "%a_b", "%_ab_%", "%___%", "%a_b%", "%a_b%c_d%", "a\\_b%%")] == [
        *(0, 0, 0, 0, 3, 6, 0)
    ]
    assert like("%_ab_%")("xabx")
    assert not like("%_ab_%")("abx")

"""Chunks that say the same: groups and pairs, by vector and by text, under filters, scopes and damage."""

from __future__ import annotations

import json
from pathlib import Path

import apsw
import numpy as np
import pytest

import reperio
from reperio import Chunk, CollectionDamaged, DuplicatePair, InvalidInput
from tests.cli.test_main import own_lines, refused, run

TEXTS = ("Turn the key.", "turn  the KEY.", "Turn the key to the right, slowly.", "Invoices.", "", "")
A, B = np.eye(2)
VECTORS = [A, A + 0.01 * B, A + 0.1 * B, B, B, -A]


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """Return a collection of which c0, c1, c2 are near by vector, and c3, c4; another tenant has copies of c0."""
    with reperio.open(tmp_path / "kb", dimension=2, auto_optimize=False) as kb:
        kb.add([Chunk(f"x{n}", TEXTS[0], {"t": "x"}) for n in range(3)], vectors=[A] * 3)
        kb.add([Chunk(f"c{n}", text, {"t": "c"}) for n, text in enumerate(TEXTS)], vectors=VECTORS)
    return tmp_path / "kb"


def grouped(found: list[reperio.DuplicateGroup]) -> dict[str, list[str]]:
    return {group.kept: [one.id for one in group.duplicates] for group in found}


def test_groups_follow_the_rule_within_filter_and_scope(filled: Path) -> None:
    """What is kept is the oldest, newest or longest; others' chunks take no part, and are not named."""
    with reperio.open(filled, scope={"t": "c"}) as kb:
        assert grouped(kb.duplicates()) == {"c0": ["c1", "c2"], "c3": ["c4"]}
        assert grouped(kb.duplicates(0.999)) == {"c0": ["c1"], "c3": ["c4"]}
        assert grouped(kb.duplicates(keep="newest")) == {"c4": ["c3"], "c2": ["c1", "c0"]}
        assert grouped(kb.duplicates(keep="longest")) == {"c2": ["c1", "c0"], "c3": ["c4"]}
        assert grouped(kb.duplicates(where={"$not": {"t": "c"}})) == {}
        assert grouped(kb.duplicates(by="text")) == {"c0": ["c1"]}
        assert kb.duplicates(1)[0].duplicates[0].score == 1.0
        kb.delete(ids=[one.id for group in kb.duplicates() for one in group.duplicates])
        assert kb.duplicates() == []
        assert kb.ids() == ["c0", "c3", "c5"]
    with reperio.open(filled) as kb:
        assert grouped(kb.duplicates(by="text")) == {"x0": ["x1", "x2", "c0"]}


def test_pairs_are_of_one_commit(filled: Path) -> None:
    """What is written during the iteration takes no part; a score is the one that a search gives."""
    with reperio.open(filled, scope={"t": "c"}) as kb:
        pairs = kb.duplicate_pairs(0.9999)
        found = [next(pairs)]
        kb.delete(ids=["c0", "c4"])
        found += pairs
        assert [(pair.first, pair.second) for pair in found] == [("c0", "c1"), ("c3", "c4")]
        assert found[1] == DuplicatePair("c3", "c4", 1.0)
        assert found[0].score == pytest.approx(float(A @ VECTORS[1] / np.linalg.norm(VECTORS[1])), abs=1e-7)


def test_thresholds_are_scores_of_the_metric(tmp_path: Path, filled: Path) -> None:
    """Under l2 minus the squared distance; what none can reach, or is missing, is refused with the cure."""
    for metric, least, wrong in (("l2", -0.01, 0.5), ("inner_product", 0.99, float("nan"))):
        with reperio.open(tmp_path / metric, dimension=2, metric=metric, auto_optimize=False) as kb:
            kb.add([Chunk(f"c{n}") for n in range(6)], vectors=VECTORS)
            expected = [("c0", "c1"), ("c1", "c2"), ("c3", "c4")] if metric == "l2" else 4
            found = [(pair.first, pair.second) for pair in kb.duplicate_pairs(least - 1e-9)]
            assert (found if metric == "l2" else len(found)) == (
                [("c0", "c1"), ("c0", "c2"), ("c1", "c2"), ("c3", "c4")] if metric == "l2" else expected
            )
            with pytest.raises(InvalidInput, match="pass the least score, threshold="):
                kb.duplicates()
            with pytest.raises(InvalidInput, match="threshold is"):
                kb.duplicate_pairs(wrong)
    with reperio.open(filled) as kb:
        for options in ({"threshold": 1.5}, {"keep": "best"}, {"by": "sound"}, {"by": "text", "threshold": 0.9}):
            with pytest.raises(InvalidInput, match=str(next(iter(options)))):
                kb.duplicates(**options)  # type: ignore[arg-type]  # wrong on purpose


def test_a_damaged_chunk_is_not_told_of(filled: Path) -> None:
    """Its text may be another's: the checksum tells."""
    with apsw.Connection(str(next(filled.glob("gen-*")) / "chunks.db")) as database:
        database.execute("UPDATE chunks SET id = 'c9' WHERE id = 'c1'")
    with reperio.open(filled, read_only=True) as kb, pytest.raises(CollectionDamaged, match="c9"):
        kb.duplicates()


def test_an_interrupt_ends_it(filled: Path) -> None:
    """As a progress bar, or Ctrl-C, raises; the collection goes on."""

    def interrupt(stage: str, done: int, total: int | None) -> None:
        assert (stage, done, total) == ("compare", 9, 9)
        raise KeyboardInterrupt

    with reperio.open(filled) as kb:
        for by in ("vector", "text"):
            with pytest.raises(KeyboardInterrupt):
                kb.duplicates(by=by, progress=interrupt)
        assert kb.count() == 9


def test_the_command_tells_groups_pairs_and_ids(filled: Path) -> None:
    """For people, as JSON, and as ids for `delete`; the exit code says on request that there are any."""
    scope = ("--scope", '{"t": "c"}')
    result = run("duplicates", filled, *scope, columns=200)
    assert (result.exit_code, own_lines(result)) == (0, [])
    assert result.stdout.splitlines()[0].split() == ["keep", "c0", "Turn", "the", "key."]
    assert result.stdout.splitlines()[-1] == "3 duplicates of 2 chunks"
    lines = run("duplicates", filled, *scope, "--by", "text", "--json").stdout.splitlines()
    assert [json.loads(line) for line in lines] == [{"kept": "c0", "duplicates": [{"id": "c1", "score": None}]}]
    pairs = run("duplicates", filled, *scope, "--pairs", "--threshold", "1", "--json", "--exit-code")
    assert (pairs.exit_code, json.loads(pairs.stdout)["first"]) == (1, "c3")
    ids = run("duplicates", filled, *scope, "--ids").stdout.split()
    assert run("delete", filled, *ids).stdout.strip() == "3 of 3 deleted"
    result = run("duplicates", filled, *scope, "--exit-code")
    assert (result.exit_code, result.stdout.strip()) == (0, "no duplicates")
    assert "threshold is 2.0" in refused("duplicates", filled, "--threshold", "2")
    assert "leave out --ids" in refused("duplicates", filled, "--pairs", "--ids")

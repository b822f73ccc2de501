"""A golden set is judged in its file: what a person wrote stays, to the letter, and nothing is lost between writers."""

from __future__ import annotations

import multiprocessing
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import reperio
from reperio import Chunk
from reperio.cli.main import app
from reperio.errors import InvalidInput
from reperio.evaluation.golden.editing import Change, change_question, changed, judge, new_id, question_for, undo
from reperio.evaluation.golden.examining import examine
from reperio.evaluation.golden.questions import GoldenQuery, read_golden
from reperio.evaluation.golden.writing import add_query

BY_HAND = """\
# Ours. Ask Ada before you change it.
defaults: {k: 10}
document_field: source

queries:   # as users ask
  - query: in a list
    expect: [a, b]   # both of them
    tags: [draft, account]
  - query: graded, in several lines
    expect: {a: 2,   # the page itself
             "b#2": 1}

  # this one is hard
  - expect:
    - a        # the page itself
    - b
    query: a list of lines
    mode: hybrid
    wrong: [c]
  - id: "7"
    query: >-
      folded over
      two lines
    expect:
      a: 3   # best
      b: 1
    tags: draft
  - {query: in one line, expect: a, where: {lang: en}}
  - query: by document
    expect_documents: [one.md]
  - query: nothing
    nothing_above: 0.5
  # and that was all
"""
LINES = (
    '{"defaults": {"k": 5}}\n\n{"query": "in a list", "expect": ["a", "b"], "tags": ["draft"]}\r\n'
    '{"query": "graded", "expect": {"a": 2}, "wrong": ["c"], "where": {"lang": "en"}}\n'
)
CHANGES = [
    Change(marks={"a": 3}),
    Change(marks={"a": 1}),
    Change(marks={"new # id: 'x'": 2}),
    Change(marks={"new": 1}),
    Change(marks={"new": 0}),
    Change(marks={"a": 0}),
    Change(marks={"b": None, "c": None}),
    Change(marks={"a": None}),
    Change(marks={"a": None, "new": 1}),
    Change(marks={"c": 2}),
    Change(text="another: question? # yes"),
    Change(confirmed=True),
    Change(removed=True),
]


def of_file(path: Path) -> list[GoldenQuery]:
    return [plain(each) for each in read_golden(path).queries]


def plain(query: GoldenQuery) -> GoldenQuery:
    return GoldenQuery(
        query.id, query.text, dict(query.expect), dict(query.documents), query.nothing_above, query.where, query.mode,
        query.tags, wrong=query.wrong,
    )  # fmt: skip


@pytest.mark.parametrize("content", [BY_HAND, BY_HAND.replace("\n", "\r\n"), LINES], ids=["yaml", "crlf", "jsonl"])
@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_a_change_is_made_and_all_else_stays(tmp_path: Path, content: str, change: Change) -> None:
    """Each change to each form of a question: all around it stays to the byte, comments too, and so does undoing it."""
    path = tmp_path / ("golden.jsonl" if content is LINES else "golden.yaml")
    path.write_bytes(content.encode())
    path.chmod(0o640)
    before, starts = of_file(path), [each.line for each in read_golden(path).queries]
    for place, query in enumerate(read_golden(path).queries):
        try:
            expected = changed(query, change)
        except InvalidInput:
            with pytest.raises(InvalidInput, match="should find nothing"):
                change_question(path, query.id, change)
            continue
        done = change_question(path, query.id, change)
        assert of_file(path) == [*before[:place], *([plain(expected)] if expected else []), *before[place + 1 :]]
        text = path.read_bytes().decode()
        lines = content.splitlines(keepends=True)
        behind = starts[place + 1] if place + 1 < len(starts) else None
        assert text.startswith("".join(lines[: query.line - 1]))
        assert text.endswith("".join([] if behind is None else lines[behind - 1 :]))
        if expected and not {None, 0} & set(change.marks.values()):  # else what stands next to an item goes with it
            assert [each for each in re.findall(r"#\s.*", content) if each.strip() not in text] == []
        assert path.stat().st_mode & 0o777 == 0o640
        undo(done)
        assert path.read_bytes() == content.encode()


def test_marks_one_after_the_other(tmp_path: Path) -> None:
    """From no file to a graded question and back; each is taken back by its own opposite where others have written."""
    path = tmp_path / "golden.yaml"
    first = judge(path, GoldenQuery("who?", "who?", wrong=("a",), mode="hybrid"))
    assert of_file(path) == [GoldenQuery("who?", "who?", wrong=("a",), mode="hybrid")]
    assert not read_golden(path).labelled
    second = change_question(path, "who?", Change(marks={"b": 2}))
    add_query(path, GoldenQuery("other", "other", {"z": 1}))
    undo(second)  # no longer to the byte: another question has come
    assert [(each.id, dict(each.expect), each.wrong) for each in of_file(path)] == [
        ("who?", {}, ("a",)),
        ("other", {"z": 1}, ()),
    ]
    golden = read_golden(path)
    assert question_for(golden, "who?", None) is not None
    assert question_for(golden, "who?", {"lang": "en"}) is None
    assert new_id(golden, "who?") == "who? (2)"
    undo(first)
    assert [each.id for each in of_file(path)] == ["other"]
    with pytest.raises(InvalidInput, match="would be left without a question"):
        change_question(path, "other", Change(marks={"z": None}))
    with pytest.raises(InvalidInput, match="has no question 'who\\?' any more"):
        change_question(path, "who?", Change(marks={"z": 1}))


def test_what_cannot_be_changed_in_place_is_refused(tmp_path: Path) -> None:
    """A question that shares its labels with another by an alias; a read-only file; nothing of either is touched."""
    shared = "queries:\n  - {query: one, expect: &same [a]}\n  - {query: two, expect: *same}\n"
    path = tmp_path / "golden.yaml"
    path.write_text(shared)
    with pytest.raises(InvalidInput, match="change it by hand"):
        change_question(path, "two", Change(marks={"b": 1}))
    path.chmod(0o444)
    with pytest.raises(InvalidInput, match="is read-only; allow writing with chmod"):
        change_question(path, "one", Change(marks={"b": 1}))
    with pytest.raises(InvalidInput, match="is read-only"):
        add_query(path, GoldenQuery("three", "three", {"a": 1}))
    assert path.read_text() == shared
    assert [each.name for each in tmp_path.iterdir()] == ["golden.yaml"]


def test_what_is_known_to_be_wrong_is_told_apart(path: Path, tmp_path: Path) -> None:
    """A question with wrong answers alone measures nothing, and is reported; an export has 0 for what is wrong."""
    golden, qrels = tmp_path / "golden.yaml", tmp_path / "qrels.txt"
    golden.write_text("queries:\n  - {query: a, expect: [x], wrong: [y]}\n  - {query: b, wrong: [x]}\n")
    asked = read_golden(golden)
    assert [each.id for each in asked.labelled] == ["a"]
    with reperio.open(path, dimension=2, auto_optimize=False) as kb:
        kb.add([Chunk("x", "one"), Chunk("y", "two")], vectors=[[1.0, 0.0], [0.0, 1.0]])
        (found,) = [each for each in examine(kb, asked) if each.kind == "open"]
    assert (found.wrong, "'b'" in found.what) == (False, True)
    assert CliRunner().invoke(app, ["golden", "export", str(golden), str(qrels)]).exit_code == 0
    assert qrels.read_text().split() == ["a", "0", "x", "1", "a", "0", "y", "0"]
    for wrong in ("[x]", "[y, y]", "y", "[7]", "[]"):
        golden.write_text(f"queries:\n  - {{query: a, expect: [x], wrong: {wrong}}}\n")
        if wrong == "[]":
            assert read_golden(golden).queries[0].wrong == ()
            continue
        with pytest.raises(InvalidInput, match=r"golden.yaml:2: wrong "):
            read_golden(golden)


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """The file that it leads to is written."""
    real, link = tmp_path / "real.yaml", tmp_path / "golden.yaml"
    real.write_text("queries:\n  - {query: one, expect: [a]}\n")
    link.symlink_to(real)
    change_question(link, "one", Change(marks={"b": 2}))
    assert link.is_symlink()
    assert dict(read_golden(real).queries[0].expect) == {"a": 1, "b": 2}


def _marking(path: Path, names: list[str]) -> None:
    for name in names:
        change_question(path, "who?", Change(marks={name: 1 + len(names) % 3}))


def test_nothing_is_lost_when_several_write(tmp_path: Path) -> None:
    """Two processes mark chunks of one question at the same time: all marks are there, and the comment too."""
    path = tmp_path / "golden.yaml"
    path.write_text("queries:\n  - query: who?\n    expect: [a]  # the first\n")
    started = multiprocessing.get_context("spawn")
    mine, theirs = ([f"{who}{n}" for n in range(25)] for who in ("m", "t"))
    other = started.Process(target=_marking, args=(path, theirs))
    other.start()
    _marking(path, mine)
    other.join()
    assert other.exitcode == 0
    assert set(read_golden(path).queries[0].expect) == {"a", *mine, *theirs}
    assert "# the first" in path.read_text()


def test_what_others_have_changed_since_is_not_taken_back(tmp_path: Path) -> None:
    """Their mark of the same chunk, or their words of the same question, are theirs."""
    path = tmp_path / "golden.yaml"
    path.write_text("queries:\n  - {query: one, id: x, expect: [a]}\n  - {query: two, expect: [b]}\n")
    mine = [change_question(path, "x", Change(marks={"n": 2})), change_question(path, "x", Change(text="mine"))]
    change_question(path, "x", Change(marks={"n": 3}, text="theirs"))
    theirs = path.read_bytes()
    for each in mine:
        with pytest.raises(InvalidInput, match="was changed by others since"):
            undo(each)
    assert path.read_bytes() == theirs


def test_a_question_of_several_lines_is_found_by_its_words(tmp_path: Path) -> None:
    """Its last line break is YAML's; a mark would begin a second question otherwise."""
    path = tmp_path / "golden.yaml"
    path.write_text("queries:\n  - query: |\n      how?\n    expect: [a]\n")
    found = question_for(read_golden(path), "how?", None)
    assert found is not None
    assert found.text == "how?\n"

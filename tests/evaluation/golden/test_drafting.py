"""Drafted golden sets, and questions appended to one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import reperio
from reperio import Chunk, Collection
from reperio.errors import InvalidInput
from reperio.evaluation import GoldenQuery, read_golden
from reperio.evaluation.golden.drafting import draft
from reperio.evaluation.golden.drafts import document_field
from reperio.evaluation.golden.examining import examine
from reperio.evaluation.golden.growing import grow
from reperio.evaluation.golden.questions import DRAFT, GoldenSet
from reperio.evaluation.golden.writing import add_query, append_drafts, write_draft
from reperio.query_log.reading import LoggedQuestion
from tests.conftest import TrigramEmbedder


def asking(text: str, *, tags: tuple[str, ...] = (), **expect: int) -> GoldenQuery:
    return GoldenQuery(text, text, expect, tags=tags)


def test_a_draft_by_cluster_asks_about_different_chunks(full: Collection, tmp_path: Path) -> None:
    """Each question expects the document of its chunk, in every mode, some with a filter; and says what it is."""
    drafts = draft(full, 20)
    queries = [each.query for each in drafts if each.query.grades]
    assert len(queries) == 20
    for each in drafts[:20]:
        [source] = each.found
        assert source.chunk.text.startswith(each.query.text)
        assert each.query.documents == {source.chunk.metadata["source"]: 1}
        assert full.search(each.query.text, k=300, where=each.query.where, mode="hybrid"), "the filter is its chunk's"
    assert {query.mode for query in queries} == {"dense", "lexical", "hybrid"}
    assert [query.where for query in queries if query.where] == [queries[at].where for at in range(3, 20, 4)]
    for name in ("golden.yaml", "golden.jsonl"):
        write_draft(tmp_path / name, drafts, document_field=document_field(full))
        assert read_golden(tmp_path / name).document_field == "source"
        assert [replace(each, line=0) for each in read_golden(tmp_path / name).queries] == [
            each.query for each in drafts
        ]
    written = (tmp_path / "golden.yaml").read_text()
    assert f'# found "{drafts[0].found[0].chunk.id}: ' in written
    assert "Uncorrected drafts mislead" in written
    assert draft(full, 20) == drafts
    with pytest.raises(InvalidInput, match="exists; choose another name"):
        write_draft(tmp_path / "golden.yaml", drafts)


def test_a_draft_survives_a_correction_of_its_document(full: Collection) -> None:
    """A digit is corrected, the chunk has another id, and what was drafted is still there."""
    [first, *_] = draft(full, 5)
    chunk = first.found[0].chunk
    full.delete(ids=[chunk.id])
    full.add([replace(chunk, id="other", text=chunk.text + " 8")])
    golden = GoldenSet([first.query], document_field="source")
    assert [each.kind for each in examine(full, golden) if each.wrong] == []


def test_a_document_that_says_nothing_is_not_expected(path: Path, embedder: TrigramEmbedder) -> None:
    """The only file, or a large table: any row would do."""
    with reperio.open(path, embedder=embedder) as collection:
        collection.add([Chunk(f"t.csv#{at}", f"row {at} of the table here", {"source": "t.csv"}) for at in range(9)])
        assert len([each for each in draft(collection, 4) if each.query.expect]) == 4


def test_a_question_without_an_answer_has_a_limit_between(path: Path, embedder: TrigramEmbedder) -> None:
    """Of what it finds now and what answered questions find, so that it passes today; none where scores say nothing."""
    with reperio.open(path, embedder=embedder) as collection:
        collection.add([Chunk(f"c{at}", f"zzz{at} qqq{at} xxx{at} jjj{at}") for at in range(40)])
        [nothing] = [each for each in draft(collection, 6) if each.query.nothing_above is not None]
        best = collection.search(nothing.query.text, k=1)[0].score
        assert best < (nothing.query.nothing_above or 0) < 1
        assert "answered questions" in nothing.why


def test_a_set_grows_where_it_is_blind(full: Collection, tmp_path: Path) -> None:
    """By a log's frequent questions, sources and clusters of which nothing is expected; what is there stays."""
    path = tmp_path / "golden.yaml"
    path.write_text("# mine\ndocument_field: source\nqueries:\n- {query: own1, expect_documents: [d0]}\n")
    log = [LoggedQuestion("nowhere", where={"lang": "xx"})] * 3 + [LoggedQuestion("own1")] * 9
    log += [LoggedQuestion("own45 own46")] * 2
    drafts = grow(full, read_golden(path), 8, log=log)
    assert (drafts[0].query.text, drafts[0].why) == (
        "own45 own46", "asked 2 times in the log, and not in the golden set",
    ), "what finds nothing cannot be judged, and what is asked is not proposed again"  # fmt: skip
    assert {each.by[0].split()[0] for each in drafts[0].found} >= {"dense"}
    assert len({name for each in drafts for name in each.query.documents} - {"d0"}) >= 6
    append_drafts(path, drafts)
    assert path.read_text().startswith("# mine\ndocument_field: source\n")
    assert [query.text for query in read_golden(path).queries] == ["own1", *(each.query.text for each in drafts)]
    assert "# found by dense 1" in path.read_text()
    assert '# why "nothing is expected of' in path.read_text()
    again = grow(full, read_golden(path), 8, log=log)
    assert not {each.query.text for each in again} & {each.query.text for each in drafts}


def test_what_is_wrong_with_a_set_is_named(full: Collection) -> None:
    """Labels, filters and changed texts are wrong; leaks, doubles, drafts and blind spots are weak."""
    text = full.get("c30").text  # type: ignore[union-attr]  # it exists
    golden = GoldenSet(
        [
            GoldenQuery("a", "somewhere", {"C30": 1}),
            GoldenQuery("b", "elsewhere", documents={"D7": 1}),
            GoldenQuery("c", "excluded", {"c30": 1}, where={"lang": "en"}),
            GoldenQuery("d", " ".join(text.split()[:6]).upper(), {"c30": 1}, tags=(DRAFT,)),
            GoldenQuery("e", "excluded", {"c30": 1}, where={"lang": "en"}),
        ],
        document_field="source",
    )
    found = {each.kind: each for each in examine(full, golden, labels={"c30": "other"})}
    assert {kind for kind, each in found.items() if each.wrong} == {"label", "filter", "changed"}
    assert "'C30' (did you mean 'c30'?), 'D7' (did you mean 'd7'?)" in found["label"].what
    assert ("'c', 'e'" in found["filter"].what, "'d'" in found["leak"].what) == (True, True)
    assert {"twice", "draft", "blind"} <= found.keys()
    blind = " ".join(each.what for each in examine(full, golden) if each.kind == "blind")
    for said in ("5 questions expect something", "lexical or hybrid", "should find nothing"):
        assert said in blind


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("# Backups\n\nTake one before each deployment. Then gate.", "Take one before each deployment."),
        ("```\nmake gate\n```\n- runs every check there is", "runs every check there is"),
        ("| fault | what is lost |\n| bit | nothing at all |", "fault what is lost bit nothing at all"),
        ("Set up\n======\n\nCopy the key to the host.", "Copy the key to the host."),
        ("# Only a heading of six words", "# Only a heading of six words"),
        ("Yes. No. One has to look at it first.", "One has to look at it first."),
        ("short", "short"),
        ("###", "###"),
        ("word " * 60, ("word " * 32).strip()),
    ],
)
def test_a_draft_reads_like_a_sentence(path: Path, embedder: TrigramEmbedder, text: str, question: str) -> None:
    """Whatever marks the chunk has; never empty, and not longer than a person would ask."""
    with reperio.open(path, embedder=embedder) as collection:
        collection.add([Chunk("c", text)])
        assert draft(collection, 1)[0].query.text == question


def test_a_draft_from_a_log_takes_the_frequent_and_some_others(full: Collection) -> None:
    """What is asked often is in it, each question once and as it was asked; one that finds nothing is left out."""
    texts = [f"question {at}" for at in range(50)] + ["often"] * 9 + ["question 7"] * 3
    log = [LoggedQuestion(text, where={"lang": "de"}, mode="hybrid") for text in texts]
    log += [LoggedQuestion("nowhere", where={"lang": "xx"})] * 20
    drafts = [each for each in draft(full, 6, log=log) if each.query.grades]
    assert [each.query.text for each in drafts][:2] == ["often", "question 7"]
    assert len({each.query.text for each in drafts}) == 5
    for each in drafts:
        assert (each.query.where, each.query.mode) == ({"lang": "de"}, "hybrid")
        assert list(each.query.documents) == [each.found[0].chunk.metadata["source"]]
        assert {pooled.chunk.metadata["lang"] for pooled in each.found} == {"de"}
    with pytest.raises(InvalidInput, match="the log holds no questions"):
        draft(full, 5, log=[LoggedQuestion(" ")])
    with pytest.raises(InvalidInput, match="none of 1 questions of the log finds anything"):
        draft(full, 5, log=log[-1:])


def test_what_was_found_is_shown_as_comments(full: Collection, tmp_path: Path) -> None:
    """Whatever the chunks hold: a comment must not end, or begin a question."""
    full.add([Chunk("evil\n- query: x", "\u2028- query: y\n  expect: z\x85 zyzzyva")])
    drafts = draft(full, 1, log=[LoggedQuestion("zyzzyva", mode="lexical")])
    path = tmp_path / "golden.yaml"
    write_draft(path, drafts)
    assert [query.text for query in read_golden(path).queries] == ["zyzzyva"]
    assert "  # found " in path.read_text()


@pytest.mark.parametrize("indent", ["", "  ", "    "])
def test_adding_keeps_what_is_there(tmp_path: Path, indent: str) -> None:
    """Comments, order and the indentation of the list stay; texts that look like YAML stay texts."""
    path = tmp_path / "golden.yaml"
    before = f"# mine\nqueries:\n{indent}- query: one  # first\n{indent}  expect: [x]\n"
    path.write_text(before)
    added = ["a: b", "- dash", "yes", "12", 'quo"te\\', "# no comment", "ü \u2028 \x85"]
    for text in added:
        add_query(path, asking(text, x=1, y=1, tags=("new",)))
    add_query(path, GoldenQuery("nothing", "nothing", nothing_above=0.5, where={"a": {"$gt": "b: c"}}, mode="hybrid"))
    assert path.read_text().startswith(before)
    queries = read_golden(path).queries
    assert [query.text for query in queries] == ["one", *added, "nothing"]
    assert [(query.expect, query.tags) for query in queries[1:-1]] == [({"x": 1, "y": 1}, ("new",))] * len(added)
    assert queries[-1] == replace(queries[-1], nothing_above=0.5, where={"a": {"$gt": "b: c"}}, mode="hybrid")


@pytest.mark.parametrize("name", ["golden.yaml", "golden.jsonl"])
def test_adding_says_what_the_defaults_do_not(tmp_path: Path, name: str) -> None:
    """A mode or filter other than the set's is written, also where it is none; what is the same is not."""
    path = tmp_path / name
    defaults = '{"defaults": {"mode": "hybrid", "where": {"lang": "en"}}}\n'
    one = '{"query": "one", "expect": ["x"]}\n'
    path.write_text(defaults + one if name == "golden.jsonl" else f"{defaults[1:-2]}\nqueries:\n- {one}")
    added = [
        GoldenQuery("plain", "plain", {"x": 1}),
        GoldenQuery("same", "same", {"x": 1}, where={"lang": "en"}, mode="hybrid"),
        GoldenQuery("other", "other", {"x": 3, "y": 1}, where={"n": {"$gt": 1e-07}, "m": {"$in": ["1e-07", -2e22]}}),
        GoldenQuery("small", "small", nothing_above=1e-07, mode="lexical"),
        GoldenQuery("named", "same", {"x": 1}, mode="hybrid"),
    ]
    for query in added:
        add_query(path, query)
    assert [replace(each, line=0) for each in read_golden(path).queries[1:]] == added
    assert path.read_text().count("hybrid") == 1
    if name == "golden.yaml":
        assert 'query: "same"\n  expect' in path.read_text()


@pytest.mark.parametrize("name", ["golden.yaml", "golden.jsonl"])
@pytest.mark.parametrize("query", [asking("one", x=2, y=1), GoldenQuery("two", "two", documents={"a.md": 1})])
def test_adding_begins_a_new_file(tmp_path: Path, name: str, query: GoldenQuery) -> None:
    """Which can be added to."""
    path = tmp_path / name
    add_query(path, query)
    add_query(path, asking("three", z=1))
    read = read_golden(path)
    assert [replace(each, line=0) for each in read.queries] == [query, asking("three", z=1)]
    assert read.document_field == ("source" if query.documents else "")


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        (GoldenQuery("q", "q", {"x": 1}, mode="foo"), "the question to be added: mode must be dense, lexical, hybrid"),
        (GoldenQuery("", "", {"x": 1}), "the question to be added: query must be a text that is not empty"),
        (GoldenQuery("q", "q", nothing_above=float("nan")), "added: nothing_above must be a finite number"),
        (GoldenQuery("q", "q", {"x": 1}, where={"a": {"$foo": 1}}), r"added: where is no filter: .*\$foo"),
        (GoldenQuery("q", "q", {"x": 0}), "added: expect grades 'x' as 0"),
    ],
)
def test_a_question_that_cannot_be_is_named(tmp_path: Path, query: GoldenQuery, complaint: str) -> None:
    """By what is wrong with it, and not by a file that nobody has written."""
    path = tmp_path / "golden.yaml"
    path.write_text("queries:\n- {query: one, expect: x}\n")
    with pytest.raises(InvalidInput, match=complaint) as caught:
        add_query(path, query)
    assert "trial" not in str(caught.value)
    with pytest.raises(InvalidInput, match=complaint):
        add_query(tmp_path / "new.yaml", query)
    with pytest.raises(InvalidInput, match=r"suffix '\.txt'; a golden set is"):
        add_query(tmp_path / "new.txt", asking("one", x=1))
    with pytest.raises(InvalidInput, match=r"suffix '\.txt'; a golden set is"):
        write_draft(tmp_path / "new.txt", [])
    assert list(tmp_path.iterdir()) == [path]


def test_adding_to_jsonl_appends_a_line(tmp_path: Path) -> None:
    """Also where the last line does not end."""
    path = tmp_path / "golden.jsonl"
    path.write_text('{"query": "one", "expect": ["x"]}')
    add_query(path, asking("two", y=1))
    assert read_golden(path).queries[1] == GoldenQuery("two", "two", {"y": 1}, line=2)


def test_what_cannot_be_added_leaves_the_file_alone(tmp_path: Path) -> None:
    """A question that is there, one that expects nothing, and a file whose questions are not its last part."""
    path = tmp_path / "golden.yaml"
    path.write_text("queries: [{query: one, expect: x}]\nthresholds: {}\n")
    before = path.read_bytes()
    for wrong, complaint in (
        (asking("one", x=1), "has the question 'one' already"),
        (asking("two"), "one of them"),
        (GoldenQuery("two", "two", documents={"d": 1}), "no document_field"),
        (asking("two", x=1), "cannot be appended to"),
    ):
        with pytest.raises(InvalidInput, match=complaint):
            add_query(path, wrong)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]

"""What single checks see: each with something that others would let pass."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest

import reperio
from reperio import Chunk, Collection, Hit
from reperio.evaluation import (
    Baseline,
    CheckResult,
    GateLimits,
    GoldenQuery,
    GoldenSet,
    Search,
    Subject,
    acceptable,
    gate,
    judged,
    to_baseline,
)
from reperio.evaluation.baseline import machine
from reperio.evaluation.checks import serving
from reperio.evaluation.golden.questions import DRAFT
from reperio.query_log.reading import LoggedQuestion
from tests.conftest import TrigramEmbedder
from tests.evaluation.conftest import LIMITS, chunks


def one(name: str, collection: Collection | None, golden: GoldenSet | None = None, **options: Any) -> CheckResult:
    [found] = gate(collection, golden, limits=options.pop("limits", LIMITS), only=[name], **options).checks
    return found


def accepted(collection: Collection, golden: GoldenSet) -> Baseline:
    subject = Subject(collection, golden, limits=LIMITS)
    return to_baseline(subject, judged(subject, only=["thresholds"]))


def asked(number: int, *, tags: Sequence[str] = (), **changes: Any) -> list[GoldenQuery]:
    """Return questions of six words each, whose answer is one chunk."""
    return [
        replace(GoldenQuery(f"q{at}", " ".join(each.text.split()[:6]), {each.id: 1}, tags=tuple(tags)), **changes)
        for at, each in enumerate(chunks()[:number])
    ]


def without(collection: Collection, lost: set[str], first: int = 10) -> Search:
    """Search, and miss the first for some questions."""

    def search(text: str, *, k: int, where: Mapping[str, Any] | None) -> list[Hit]:
        hits = collection.search(text, k=k + first, where=where)
        return hits[first:] if text in lost else hits[:k]

    return search


def test_a_filter_that_is_lost_on_the_way_is_red(full: Collection) -> None:
    """For a third of the questions; each is named with a chunk that does not match."""
    queries = [replace(each, where={"lang": "de"}, id=f"q{at}") for at, each in enumerate(asked(12)[::3])]
    golden = GoldenSet(queries)
    assert one("filtered answers", full, golden).verdict == "pass"

    def search(text: str, *, k: int, where: Mapping[str, Any] | None) -> list[Hit]:
        return full.search(text, k=k, where=None if text == queries[1].text else where)

    for collection in (full, None):
        found = one("filtered answers", collection, golden, search=search)
        assert (found.verdict, [query.id for query in found.queries]) == ("fail", ["q1"])
        assert "do not match {'lang': 'de'}" in found.queries[0].why

    def ids(text: str, *, k: int, where: Mapping[str, Any] | None) -> list[str]:
        return [hit.chunk.id for hit in search(text, k=k, where=where)]

    assert one("filtered answers", full, golden, search=ids).verdict == "fail"
    assert one("filtered answers", None, golden, search=ids).verdict == "skip"


def test_a_corrected_label_is_no_regression(full: Collection) -> None:
    """What came then is judged by the labels of today; a question that asks something else is left out, and said."""
    golden = GoldenSet(asked(12))
    baseline = accepted(full, golden)
    corrected = [replace(each, expect={"c299": 1}) for each in golden.queries]
    found = one("regression", full, GoldenSet(corrected), baseline=baseline)
    assert (found.verdict, found.figures["comparisons"]["nDCG@10"]["before"]) == ("pass", 0.0)
    other = [*golden.queries[:8], *(replace(each, mode="lexical") for each in golden.queries[8:11])]
    fresh = [*other, replace(golden.queries[0], id="new")]
    found = one("regression", full, GoldenSet(fresh, thresholds={"R@50": 0.1}), baseline=baseline)
    assert found.evidence[-5:-1] == (
        "1 questions are new since the baseline",
        "3 questions ask something else since the baseline",
        "1 questions are no longer in the golden set since the baseline",
        "R@50 need more hits than the baseline has (10): accept a new one",
    )
    assert found.figures["comparisons"]["nDCG@10"]["questions"] == 8


@pytest.mark.parametrize("tag", ["bad", "all"])
def test_a_small_group_is_not_drowned_by_others(full: Collection, tag: str) -> None:
    """Seven questions of forty, one tag of four, whatever its name; the mean over all drops by less than a fifth."""
    queries = [
        replace(each, tags=(tag if at < 7 else f"t{at % 3}",)) for at, each in enumerate(asked(40))
    ]  # fmt: skip
    golden = GoldenSet(queries)
    search = without(full, {query.text for query in queries[:7]})
    found = one("regression", full, golden, search=search, baseline=accepted(full, golden))
    assert found.verdict == "fail"
    assert any(line.startswith(f"{tag}: nDCG@10 1.0000 → 0.0000") for line in found.evidence)
    assert found.figures["comparisons"]["nDCG@10"]["questions"] == 40


def test_a_drop_that_may_be_chance_is_a_warning(full: Collection) -> None:
    """One of twenty questions cannot be told from chance while the others keep their answers; two can.

    Chunks, vectors and index are the same, so that hardly a question may get worse: one in 200.
    """
    golden = GoldenSet(asked(20))
    baseline = accepted(full, golden)
    search = without(full, {query.text for query in golden.queries[:2]}, first=1)
    found = one("regression", full, golden, search=search, baseline=baseline)
    assert (found.verdict, found.cause[:66]) == (
        "fail",
        "more questions got worse, or are answered otherwise, than a harmle",
    )
    search = without(full, {query.text for query in golden.queries[:1]}, first=1)
    found = one("regression", full, golden, search=search, baseline=baseline)
    assert (found.verdict, len(found.queries), found.figures["kept"]) == ("warn", 1, pytest.approx(0.995))
    assert "dropped by more than 0.02, which may be chance" in found.cause


def test_other_answers_that_are_worse_are_red(full: Collection) -> None:
    """One of twenty questions loses its chunk, and the others half of what came: that is not chance."""
    golden = GoldenSet(asked(20))
    baseline, lost = accepted(full, golden), {query.text for query in golden.queries[:1]}

    def search(text: str, *, k: int) -> list[Hit]:
        hits = full.search(text, k=k + 10)
        return hits[10:] if text in lost else [*hits[:5], *hits[10:15]]

    found = one("regression", full, golden, search=search, baseline=baseline)
    assert (found.verdict, found.figures["kept"]) == ("fail", pytest.approx(0.475))
    assert found.cause.startswith("more questions got worse, or are answered otherwise")
    full.add([Chunk("new", "one more")])  # from here on other answers may come of it
    found = one("regression", full, golden, search=search, baseline=baseline)
    assert (found.verdict, found.cause[:54]) == ("fail", "the answers are others than those accepted, and worse,")
    full.add([Chunk(f"new{at}", f"new {at}") for at in range(30)])  # which explain other answers
    assert one("regression", full, golden, search=search, baseline=baseline).verdict == "warn"


def test_other_answers_that_are_no_worse_are_a_warning(full: Collection) -> None:
    """An improvement outside the collection: the questions whose answers changed most are shown."""
    golden = GoldenSet(asked(20))
    first = {query.text: next(iter(query.expect)) for query in golden.queries}

    def search(text: str, *, k: int) -> list[str]:
        return list(dict.fromkeys([first[text], *(hit.chunk.id for hit in full.search(text, k=60)[30:])]))[:k]

    found = one("regression", full, golden, search=search, baseline=accepted(full, golden))
    assert (found.verdict, len(found.queries)) == ("warn", 20), found
    assert found.cause.startswith("the answers are others than those accepted, though the chunks are the same")
    assert found.queries[0].why == "10% of the first 10 that came then come now"


def test_a_baseline_without_answers_is_an_error(full: Collection) -> None:
    """Instead of a comparison that is left out: accepted without a golden set, or with too few hits."""
    golden = GoldenSet(asked(5))
    baseline = accepted(full, golden)
    for changed, why in (
        (replace(baseline, ids={}, asked={}), "the baseline holds no answers"),
        (replace(baseline, depth=0), "holds 0 hits per question, and nDCG@10 needs 10; accept a new baseline"),
    ):
        found = one("regression", full, golden, baseline=changed)
        assert (found.verdict, why in found.evidence[0]) == ("error", True), found
    found = one("latency", full, golden, baseline=replace(baseline, latency={}))
    assert (found.verdict, found.evidence[1]) == ("skip", "the baseline holds no latency: accept a new one")


def test_an_alias_of_a_measure_hides_no_group(full: Collection) -> None:
    """The main measure by another name in a threshold: the tag that fell is named all the same."""
    queries = [replace(each, tags=("bad" if at < 7 else f"t{at % 3}",)) for at, each in enumerate(asked(40))]
    golden = GoldenSet(queries, {"NDCG@10": 0.3})
    search = without(full, {query.text for query in queries[:7]})
    found = one("regression", full, golden, search=search, baseline=accepted(full, golden))
    assert any(line.startswith("bad: nDCG@10 1.0000 → 0.0000") for line in found.evidence), found


def test_a_score_that_is_no_number_passes_nothing() -> None:
    """NaN is above no limit, and neither is what stands behind it."""
    golden = GoldenSet([GoldenQuery("z", "zzzz", nothing_above=0.5)])
    found = one("nothing above", None, golden, search=lambda _text: [("c1", float("nan")), ("c2", 0.9)])
    assert (found.verdict, found.evidence) == (
        "error",
        ("the question 'z': search gave the score 'nan'; a score is a finite number",),
    )


def test_a_misspelt_document_field_is_told(full: Collection) -> None:
    """Instead of chunks that were never deleted."""
    query = GoldenQuery("q", "some words", documents={"d0": 1})
    found = one("golden ids", full, GoldenSet([query], document_field="sorce"))
    assert found.cause == (
        "no chunk has the metadata field 'sorce', the golden set's document_field: correct it (did you mean 'source')"
    )


def test_an_index_that_cannot_be_read_has_its_own_cure(path: Path) -> None:
    """Nothing is lost, the backup holds what the collection holds, and neither says otherwise."""
    vectors = np.random.default_rng(1).normal(size=(300, 16)).astype(np.float32)
    with reperio.open(path, dimension=16, auto_optimize=False) as collection:
        collection.add([Chunk(f"c{at}") for at in range(300)], vectors=vectors)
        collection.optimize(index="IVF8,Flat")
    with apsw.Connection(str(next(path.glob("gen-*/chunks.db")))) as other:
        other.execute("UPDATE snapshots SET record = '{}'")
    other.close()
    with reperio.open(path, read_only=True) as collection:
        integrity, backup = gate(collection, only=["integrity", "backup"], limits=LIMITS).checks
    assert (integrity.verdict, backup.verdict) == ("fail", "fail")
    assert integrity.cause == "the index cannot be used, the chunks are sound: reperio optimize rebuilds it"
    assert backup.cause.startswith("the backup is what was backed up, and the collection itself is not sound")


def test_no_backup_is_taken_of_what_is_damaged(path: Path) -> None:
    """Both checks are red, and the backup's says which chunk and where to look."""
    with reperio.open(path, dimension=16, auto_optimize=False) as collection:
        collection.add([Chunk(f"c{at}") for at in range(300)], vectors=np.eye(300, 16) + 0.1)
    file = next(path.glob("gen-*/vectors.f32"))
    content = bytearray(file.read_bytes())
    content[7 * 64 + 3] ^= 1
    file.write_bytes(content)
    with reperio.open(path, read_only=True) as collection:
        integrity, backup = gate(collection, only=["integrity", "backup"], limits=LIMITS).checks
    assert (integrity.verdict, backup.verdict) == ("fail", "fail")
    assert "'c7'" in backup.evidence[0]
    assert backup.cause == "no backup is taken of what is damaged: see integrity"


def test_vectors_of_another_length_are_red(path: Path, embedder: TrigramEmbedder) -> None:
    """Where lengths count: those that were normalised before they were stored point the same way."""
    some = chunks()[:50]
    vectors = embedder.embed_passages([each.text for each in some])
    vectors[7] /= np.linalg.norm(vectors[7])
    with reperio.open(path, embedder=embedder, metric="inner_product") as collection:
        collection.add(some, vectors=vectors)
        found = one("contract", collection, limits=replace(LIMITS, sample=50))
        assert (found.verdict, found.evidence[1].split(" have")[0]) == ("fail", "1 of 50 stored vectors")
        collection.delete(ids=[some[7].id])
        collection.add([some[7]])
        assert one("contract", collection, limits=replace(LIMITS, sample=50)).verdict == "pass"


def test_a_log_is_replayed_as_it_was_asked(full: Collection) -> None:
    """With filter, mode and k; that questions find nothing any more is red when they are many."""
    log = [
        LoggedQuestion(f"own{at}", 3, "lexical", {"lang": "de"}, (f"c{at}",)) for at in range(0, 120, 3)
    ]  # fmt: skip
    found = one("replay", full, log=log)
    assert (found.verdict, found.figures) == ("pass", {"same": 1.0, "empty": 0})
    full.delete(ids=["c0"])
    found = one("replay", full, log=log)
    assert (found.verdict, [query.id for query in found.queries]) == ("warn", ["own0"])
    full.delete(ids=["c3", "c6"])
    assert one("replay", full, log=log).verdict == "fail"
    found = one("latency", full, log=[*log, "own1"], limits=replace(LIMITS, p50=1e6))
    assert "41 logged questions, 1 at a time" in found.evidence[0]


class Machine:
    """A machine of which each search is known to run, and to wait for a core, for so many nanoseconds."""

    def __init__(self, running: int, waiting: int) -> None:
        self.running, self.waiting = running, waiting
        self.searches = 0

    def search(self, _text: str) -> list[str]:
        self.searches += 1
        return ["c0"]

    def perf_counter(self) -> float:
        return self.searches * (self.running + self.waiting) / 1e9

    def scheduled(self) -> tuple[int, int]:
        return self.searches * self.running, self.searches * self.waiting


def test_what_other_processes_slow_down_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six times as slow as the baseline, which waiting explains; where the baseline has waited as long, it is red."""
    busy = Machine(running=1_000_000, waiting=5_000_000)
    monkeypatch.setattr(serving, "perf_counter", busy.perf_counter)
    monkeypatch.setattr(serving, "_scheduled", busy.scheduled)
    monkeypatch.setattr(serving, "_waited_here", lambda: None)

    def timed(baseline: Baseline | None) -> CheckResult:
        golden = GoldenSet([GoldenQuery(f"q{at}", f"q{at}") for at in range(12)])
        limits = GateLimits(rounds=1, threads=1)
        return one("latency", None, golden, search=busy.search, baseline=baseline, limits=limits)

    first = timed(None).figures
    assert (first["p50"], first["waited"]) == (pytest.approx(6), pytest.approx(5 / 6, abs=1e-3))
    sixth = {**first, "p50": first["p50"] / 6, "p95": first["p95"] / 6}
    found = timed(Baseline("then", latency={**sixth, "waited": 0.0}, machine=machine()))
    assert (found.verdict, "other processes had the cores" in found.cause) == ("warn", True), found
    assert timed(Baseline("then", latency=sixth, machine=machine())).verdict == "fail"


@pytest.fixture
def crowded_core() -> Iterator[None]:
    """Share one core with seven processes that never rest."""
    before = os.sched_getaffinity(0)
    core = {min(before)}
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(7)]
    try:
        os.sched_setaffinity(0, core)
        for each in others:
            os.sched_setaffinity(each.pid, core)
        yield
    finally:
        os.sched_setaffinity(0, before)
        for each in others:
            each.kill()
            each.wait()


@pytest.mark.usefixtures("crowded_core")
def test_that_other_processes_have_the_core_is_seen() -> None:
    """On a core with seven others, the system soon tells that a search has waited longer than it ran."""
    watch = serving.Stopwatch(lambda _: sum(range(100_000)), 12, GateLimits(rounds=1, threads=1))
    assert any(watch.run()["waited"] > 0.5 for _ in range(500))


def test_a_baseline_is_accepted_only_for_what_was_looked_at(full: Collection) -> None:
    """Nothing checked, or a stated limit exceeded, is not acceptable; being slower than the last baseline is."""
    golden = GoldenSet(asked(5))
    assert acceptable(gate(full, golden, only=["latency"])) == ["latency"]
    report = gate(full, golden, limits=replace(LIMITS, p50=1e-6))
    assert acceptable(report) == ["latency"]
    baseline = accepted(full, golden)
    report = gate(full, golden, baseline=replace(baseline, settings={"metric": "l2"}), limits=LIMITS)
    assert ([each.name for each in report.checks if each.verdict == "fail"], acceptable(report)) == (["settings"], [])


def test_drift_lists_what_changed(full: Collection) -> None:
    """Settings and models in red; new chunks, lengths, fields and versions next to them."""
    golden = GoldenSet(asked(5))
    baseline = accepted(full, golden)
    full.add([Chunk(f"n{at}", "short", {"new": at}) for at in range(100)])
    changed = {"revision": "r1", "canaries": [0.5] * len(baseline.settings["canaries"]), "metric": "l2"}
    other = replace(
        baseline,
        settings={**baseline.settings, **changed},
        versions={**baseline.versions, "numpy": "1.0"},
        index={"factory": "IVF64,Flat"},
    )
    found = gate(full, golden, baseline=other, limits=LIMITS, only=["drift"]).checks
    assert [each.name for each in found] == ["settings", "sources", "fields", "access", "texts", "vectors"]
    told = "\n".join(line for each in found for line in each.evidence)
    assert found[0].verdict == "fail"
    for line in (
        "metric 'l2' → 'cosine'",
        "another model or prompt",
        "revision of the model r1 → none",
        "new chunks: 25.0%",
        "text length (5%, median, 95%): ",
        "duplicate texts: 0.0% → 25.0%",
        "the field 'new' is new",
        "numpy 1.0 → ",
        "index IVF64,Flat → exact",
    ):
        assert line in told, told


def test_documents_may_be_named_by_numbers(path: Path, embedder: TrigramEmbedder) -> None:
    """A golden set has texts, and a metadata field may hold 7 or 1.5."""
    with reperio.open(path, embedder=embedder) as collection:
        for at, name in enumerate([7, 1.5, "x"]):
            collection.add([Chunk(f"c{at}", f"word{at} and more", {"source": name})])
        queries = [
            GoldenQuery(f"word{at}", f"word{at}", documents={name: 1}) for at, name in enumerate(["7", "1.5", "x"])
        ]
        golden = GoldenSet(queries, {"RR@10": 1.0}, document_field="source")
        report = gate(collection, golden, only=["golden ids", "thresholds"])
        assert [each.verdict for each in report.checks] == ["pass", "pass"]
        missing = GoldenSet([replace(queries[0], documents={"8": 1})], document_field="source")
        assert one("golden ids", collection, missing).queries[0].why == "'8' not in the collection"


def test_drafts_are_told(full: Collection) -> None:
    """A green gate over questions that nobody has looked at says so."""
    found = one("golden ids", full, GoldenSet(asked(3, tags=[DRAFT])))
    assert found.evidence[1].startswith("3 are drafts")


def test_thresholds_of_nothing_do_not_pass(full: Collection) -> None:
    """Without a labelled question there is no mean that could reach them."""
    golden = GoldenSet([GoldenQuery("zzz", "zzz", nothing_above=0.99)], {"R@10": 0.5})
    assert one("thresholds", full, golden).verdict == "skip"


def test_neighbours_asks_enough_queries(path: Path) -> None:
    """Also where `optimize` was given few, and a logged question has a filter: 200, and more while it is open."""
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(40, 32))
    vectors = (centres[rng.integers(40, size=3000)] + rng.normal(scale=0.6, size=(3000, 32))).astype(np.float32)
    with reperio.open(path, dimension=32, auto_optimize=False) as collection:
        collection.add([Chunk(f"c{at}", metadata={"n": at % 7}) for at in range(3000)], vectors=vectors)
        collection.optimize(0.9, index="IVF32,Flat", queries=vectors[:40] + 0.1)
        assert len(collection.sample_queries(300)) == 300
        found = one("neighbours", collection, limits=GateLimits(recall=0.9))
        assert (found.verdict, found.figures["queries"] >= 200) == ("pass", True)
        assert found.figures["points"]
        # Nothing but exact search could be sure of this; the search says so by being exact.
        assert one("neighbours", collection, limits=GateLimits(recall=1.0)).figures["recall"] == 1.0


def test_chunks_that_begin_alike_are_found_by_their_words(path: Path, embedder: TrigramEmbedder) -> None:
    """Where every chunk has the same head, also those whose tail is long; in any script, and without any word."""
    head = "Copyright of the handbook. All rights reserved. " * 5
    texts = [head + f"topic{at} " * (1 + at) for at in range(40)] + [
        "日本語のテキスト",
        "ﬁn – ünïcödé Mu\u0308nchen İstanbul",
        "a b !?",
    ]
    for lexical in ("porter", "unicode61", "trigram"):
        with reperio.open(path / lexical, embedder=embedder, lexical=lexical) as collection:
            collection.add([Chunk(f"c{at}", text) for at, text in enumerate(texts)])
            found = one("reachable", collection)
            assert found.verdict == "pass", found


def test_a_lexical_index_out_of_step_is_red(path: Path, embedder: TrigramEmbedder) -> None:
    """One chunk's words under the row of another are found in a sample that holds it."""
    with reperio.open(path, embedder=embedder) as collection:
        collection.add(chunks()[:60])
        with apsw.Connection(str(next(path.glob("gen-*/chunks.db")))) as other:
            other.execute("DELETE FROM lexical WHERE rowid = 7")
            other.execute("INSERT INTO lexical(rowid, written_out) VALUES (7, 'something else')")
        other.close()
        found = one("reachable", collection, limits=replace(LIMITS, sample=60))
    assert (found.verdict, "of 'c7' is not" in found.evidence[2]) == ("fail", True), found


def test_filters_of_many_chunks_are_compared_in_part(full: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    """The part is stated, and is the same at every run."""
    monkeypatch.setattr("reperio.evaluation.survey.METADATA", 30)
    found = one("filters", full)
    assert found.verdict == "pass"
    compared = int(found.evidence[0].split(" of ")[1].split()[0])
    assert 10 <= compared <= 60
    assert one("filters", full).evidence == found.evidence


def test_an_expected_name_that_is_nearly_there_is_named(full: Collection) -> None:
    """The end of a path, another case, a slip: the question says what is meant."""
    full.add([Chunk("guide", "how to change a password", {"source": "docs/passwords.md"})])
    asked_for = [GoldenQuery("a", "a", documents={"passwords.md": 1}), GoldenQuery("b", "b", {"C30": 1})]
    found = one("golden ids", full, GoldenSet(asked_for, document_field="source"))
    assert [each.why for each in found.queries] == [
        "'passwords.md' (did you mean 'docs/passwords.md'?) not in the collection",
        "'C30' (did you mean 'c30'?) not in the collection",
    ]

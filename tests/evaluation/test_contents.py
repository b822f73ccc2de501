"""What became of the contents since the baseline: faults that the mean does not see, and changes that do no harm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pytest

import reperio
from reperio import Chunk
from reperio.evaluation import (
    Baseline,
    CheckResult,
    GateLimits,
    GoldenQuery,
    GoldenSet,
    Subject,
    gate,
    judged,
    read_baseline,
    to_baseline,
    write_baseline,
)
from reperio.evaluation.contents import sources
from reperio.evaluation.contents.texts import seen
from tests.conftest import TrigramEmbedder

Vectors: TypeAlias = npt.NDArray[np.float32]
Change: TypeAlias = "Callable[[list[Chunk], Vectors], tuple[list[Chunk], Vectors]]"

COUNT = 900  # chunks, a third from each source
SOURCES = ("handbook", "wiki", "support")
LIMITS = GateLimits(sample=16, queries=20, most_queries=20, latency_ratio=100.0)
ENGLISH = "the page of the manual that is for {} and how you can use it with {} in a room that has {} on the wall"
GERMAN = "die Seite der Anleitung und wie es mit {} nicht auf den Tisch kommt wenn {} auch für {} zu groß ist"
EMBEDDER = TrigramEmbedder(64)
GOLDEN = GoldenSet(
    [GoldenQuery(f"q{at}", f"own{at} word{at}", {f"c{at}": 1}, where={"access": "public"}) for at in range(1, 60, 6)]
)


def chunks() -> list[Chunk]:
    rng = np.random.default_rng(1)
    words = ["".join(rng.choice(list("abcdefghijklmnoprstuw"), size=7)) for _ in range(4000)]
    found = []
    for at in range(COUNT):
        own = " ".join(rng.choice(words, size=int(rng.integers(60, 110))))
        text = f"own{at} word{at} " + ENGLISH.format(*rng.choice(words, size=3)) + " " + own
        metadata = {
            "source": f"{SOURCES[at % 3]}/page{at // 9}.md",
            "access": "internal" if at % 4 == 0 else "public",
            "kind": "Guide" if at % 2 else "reference",
            "year": 2015 + at % 10,
            "title": f"Page {at // 9} of it",
            "made": "2026-11-01",
            "headings": ["Manual", f"Page {at // 9} of it", f"Use {at}"],
        }
        found.append(Chunk(f"c{at}", text, metadata))
    return found


def vectors_of(some: list[Chunk]) -> Vectors:
    return EMBEDDER.embed_passages([chunk.text for chunk in some])


CHUNKS = chunks()
VECTORS = vectors_of(CHUNKS)


def drawn(share: float, source: str = "") -> list[int]:
    rows = [at for at, chunk in enumerate(CHUNKS) if chunk.metadata["source"].startswith(source)]
    return np.random.default_rng(3).permutation(rows)[: max(1, round(share * len(rows)))].tolist()


def with_metadata(share: float, change: Callable[[dict[str, Any]], dict[str, Any]], source: str = "") -> Change:
    def changed(some: list[Chunk], vectors: Vectors) -> tuple[list[Chunk], Vectors]:
        for at in drawn(share, source):
            some[at] = replace(some[at], metadata=change(dict(some[at].metadata)))
        return some, vectors

    return changed


def with_text(share: float, change: Callable[[str], str], source: str = "", *, stale: bool = False) -> Change:
    def changed(some: list[Chunk], vectors: Vectors) -> tuple[list[Chunk], Vectors]:
        rows = drawn(share, source)
        for at in rows:
            some[at] = replace(some[at], text=change(some[at].text))
        if not stale:
            vectors[rows] = vectors_of([some[at] for at in rows])
        return some, vectors

    return changed


def with_vectors(number: int, vector: Callable[[Vectors], Vectors]) -> Change:
    def changed(some: list[Chunk], vectors: Vectors) -> tuple[list[Chunk], Vectors]:
        rows = drawn(number / COUNT)
        vectors[rows] = vector(vectors[rows])
        return some, vectors

    return changed


def without(share: float, source: str) -> Change:
    def changed(some: list[Chunk], vectors: Vectors) -> tuple[list[Chunk], Vectors]:
        gone = set(drawn(share, source))
        kept = [at for at in range(len(some)) if at not in gone]
        return [some[at] for at in kept], vectors[kept]

    return changed


def grown(some: list[Chunk], vectors: Vectors) -> tuple[list[Chunk], Vectors]:
    """Add a tenth: more of the same, and a source in another language."""
    rng = np.random.default_rng(7)
    fresh = []
    for at in range(COUNT // 10):
        old = some[int(rng.integers(len(some)))]
        text = f"new{at} fresh{at} " + (GERMAN if at % 3 else ENGLISH).format(*old.text.split()[-3:])
        metadata = {**old.metadata, **({"source": f"blog/{at}.md"} if at % 3 else {}), "extra": at}
        fresh.append(replace(old, id=f"n{at}", text=text, metadata=metadata))
    return [*some, *fresh], np.concatenate([vectors, vectors_of(fresh)])


def exchanged(some: list[Chunk]) -> list[Chunk]:
    """Let pairs of chunks of one source take each other's metadata."""
    rows = drawn(0.2, "wiki")
    for left, right in zip(rows[::2], rows[1::2], strict=False):
        ours, theirs = some[left], some[right]
        some[left], some[right] = replace(ours, metadata=theirs.metadata), replace(theirs, metadata=ours.metadata)
    return some


def lacking(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda own: {key: value for key, value in own.items() if key != name}


def setting(**changes: Callable[[Any], Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda own: {**own, **{name: change(own[name]) for name, change in changes.items()}}


def broken_umlauts(text: str) -> str:
    return text.replace("use", "übung für Größe").encode().decode("cp1252", "replace")


FAULTS: dict[str, tuple[Change, str, str]] = {
    "internal became public": (
        with_metadata(1, setting(access=lambda _: "public")), "access",
        "'access' went from \"internal\" to \"public\" in 225 of 900 chunks in 'handbook' and 2 other sources, e.g. 'c",
    ),
    "one internal chunk became public": (
        with_metadata(0.02, setting(access=lambda _: "public"), "wiki"), "access", "'access' went from"),
    "access of new chunks is spelt otherwise": (
        lambda some, vectors: with_metadata(0.01, setting(access=str.upper))(*grown(some, vectors)), "access",
        "'access' is written"),
    "a field lost": (with_metadata(0.05, lacking("kind")), "fields", "the field 'kind' is missing from 45 of 900"),
    "case changed": (with_metadata(0.09, setting(kind=str.upper)), "fields", "'kind' is written \"GUIDE\" instead of"),
    "a list as text": (
        with_metadata(0.1, setting(headings=" > ".join)), "fields", "'headings' was a list and is a text in"),
    "other elements in a list": (
        with_metadata(0.1, setting(headings=lambda _: [1, 2, 3])), "fields",
        "'headings' was a text in a list and is a number in a list in"),
    "a year as text": (
        with_metadata(0.33, setting(year=str)), "fields", "'year' was a number and is a text in 297 of 900 chunks"),
    "access exchanged": (
        lambda some, vectors: (exchanged(some), vectors), "access",
        "chunks that are followed by id have other values there, e.g. 'c"),
    "access in a list": (
        with_metadata(0.5, setting(access=lambda value: [value])), "access", "'access' was a text and is a list in"),
    "titles emptied": (
        with_metadata(0.2, setting(title=lambda _: ""), "wiki"), "fields", "'title' is written like empty"),
    "pages not found": (
        with_text(0.06, lambda _: "404 not found. The page you look for is not here.", "wiki"), "texts",
        "6.0% of the chunks in 'wiki' have the text of another chunk, 0.0% in the baseline"),
    "pages not found, each with its address": (
        with_text(0.08, lambda text: f"404 not found. The page you look for is not here or moved: {text[:9]}", "wiki"),
        "texts", "of the chunks in 'wiki'"),
    "a banner before every text": (
        with_text(1, lambda text: "We use cookies. Accept all of them. " + text, "support"), "texts",
        "100.0% of the chunks in 'support' begin alike, 0.0% in the baseline, e.g. 'c"),
    "another language": (
        with_text(0.1, lambda text: GERMAN.format(*text.split()[:3]), "wiki"), "texts",
        "30 of 300 chunks in 'wiki' were English and are German, e.g. 'c"),
    "noise": (
        with_text(0.06, lambda text: " ".join(f"xq{at}bdk" for at, _ in enumerate(text.split() * 3)), "wiki"), "texts",
        "chunks in 'wiki' were English and hold nearly no words of a language, e.g. 'c"),
    "mojibake": (
        with_text(0.05, broken_umlauts, "wiki"), "texts", "of the chunks in 'wiki' were decoded by the wrong encoding"),
    "markup": (
        with_text(0.1, lambda text: f"<div class='x'>{text}</div>"), "texts", "hold markup of HTML"),
    "one constant vector": (
        with_vectors(9, lambda some: np.ones_like(some)), "vectors",
        "9 chunks have a vector of one value in all places, 0 in the baseline, e.g. 'c"),
    "one vector of another chunk": (
        with_vectors(9, lambda some: np.broadcast_to(VECTORS[0], some.shape)), "vectors",
        "10 chunks have the vector of a different text, 0 in the baseline, e.g. 'c0'"),
    "stale vectors": (
        with_text(0.006, lambda text: "quite another beginning " + text, stale=True), "vectors",
        "chunks or more have another text than in the baseline, and the same vector"),
    "a source lost a third": (without(0.33, "wiki"), "sources", "source 'wiki': 300 chunks → 201: 33.0% fewer"),
}  # fmt: skip

HARMLESS: dict[str, Change] = {
    "nothing": lambda some, vectors: (some, vectors),
    "another order": lambda some, vectors: (some[::-1], vectors[::-1]),
    "a tenth is new": grown,
    "a few are gone": without(0.01, "wiki"),
    "texts are revised": with_text(0.1, lambda text: text.replace("manual", "handbook for everybody", 1)),
    "spaces and case": with_text(1, lambda text: "  " + text.upper() + " ", stale=True),
    "ingested on another day": with_metadata(1, setting(made=lambda _: "2026-11-29")),
    "a field is added": with_metadata(0.5, lambda own: {**own, "checked": True}),
    "two titles corrected": with_metadata(2 / COUNT, setting(title=str.upper)),
}


def stored(path: Path, change: Change) -> reperio.Collection:
    some, vectors = change(list(CHUNKS), VECTORS.copy())
    collection = reperio.open(path, embedder=EMBEDDER, auto_optimize=False)
    collection.add(some, vectors=vectors)
    return collection


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> Baseline:
    folder = tmp_path_factory.mktemp("contents")
    with stored(folder / "kb", HARMLESS["nothing"]) as collection:
        subject = Subject(collection, GOLDEN, limits=LIMITS)
        written = to_baseline(subject, judged(subject, only=["thresholds", "drift"]))
    write_baseline(written, folder / "golden.baseline.json")
    return read_baseline(folder / "golden.baseline.json")  # as it comes out of the file


def drift(path: Path, change: Change, baseline: Baseline) -> dict[str, CheckResult]:
    with stored(path, change) as collection:
        report = gate(collection, GOLDEN, baseline=baseline, limits=LIMITS, only=["drift"])
    return {check.name: check for check in report.checks}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named(path: Path, baseline: Baseline, name: str) -> None:
    """By the check of its kind, in one sentence, and with chunks to look at."""
    change, check, told = FAULTS[name]
    found = drift(path, change, baseline)
    assert found[check].verdict == "fail", found
    assert any(told in line for line in found[check].evidence), found[check].evidence


@pytest.mark.parametrize("name", HARMLESS)
def test_a_harmless_change_is_not(path: Path, baseline: Baseline, name: str) -> None:
    """None of the checks is red."""
    found = drift(path, HARMLESS[name], baseline)
    assert {check: each.evidence for check, each in found.items() if each.verdict not in ("pass", "warn")} == {}


def test_positions_move_with_an_edit(tmp_path: Path) -> None:
    """A number of each chunk's own is no value that chunks share; what they share is compared as before."""
    some = [replace(each, metadata={"start": 37 * at, "kind": "guide"}) for at, each in enumerate(CHUNKS[:40])]

    def found(name: str, change: Callable[[Chunk], Mapping[str, Any]], before: Baseline | None = None) -> Any:
        with reperio.open(tmp_path / name, embedder=EMBEDDER, auto_optimize=False) as collection:
            collection.add([replace(each, metadata=change(each)) for each in some], vectors=VECTORS[:40])
            subject = Subject(collection, None, limits=LIMITS, baseline=before)
            report = judged(subject, only=["fields"])
            return report.checks[0] if before else to_baseline(subject, report)

    accepted = found("then", lambda each: each.metadata)
    edited = found("now", lambda each: {**each.metadata, "start": each.metadata["start"] + 11}, accepted)
    assert edited.verdict == "pass", edited
    changed = found(
        "other", lambda each: {**each.metadata, "kind": "page"} if each.id < "c15" else each.metadata, accepted
    )
    assert '\'kind\' went from "guide" to "page"' in changed.evidence[1]


def test_sources_in_turns_are_told_apart(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every third chunk is of one source here: a look at every third of them would see no other."""
    monkeypatch.setattr(sources, "_PEEKED", COUNT // 3)
    with stored(path, HARMLESS["nothing"]) as collection:
        assert (sources.chosen(collection, "").field, sources.chosen(collection, "").depth) == ("source", 1)


def test_what_no_model_can_tell_is_the_same_text() -> None:
    """Case and spaces, also before a text that is longer than what is read."""
    long = "Every word of this text " * 100
    assert seen(long) == seen(f"\n {long.upper()}  ") != seen("x" + long)
    assert seen(long) == seen(long + "and more")


def test_equal_vectors_without_a_baseline_are_a_warning(path: Path) -> None:
    """A model that knows no case gives them to texts that differ; whether that is so, a person can say."""
    with stored(path, FAULTS["one vector of another chunk"][0]) as collection:
        [found] = gate(collection, limits=LIMITS, only=["vectors"]).checks
    assert (found.verdict, found.evidence[1][:38]) == ("warn", "10 chunks have the vector of a differe")


def test_a_baseline_of_an_earlier_version_is_told(path: Path, baseline: Baseline) -> None:
    """Its profile knows no sources: a warning with the cure, not a pass."""
    assert baseline.profile is not None
    earlier = replace(baseline, profile=replace(baseline.profile, sources={}, marks={}, followed={}, vectors=None))
    found = drift(path, HARMLESS["nothing"], earlier)
    assert {name: each.verdict.value for name, each in found.items()} == {
        "settings": "pass", "sources": "pass", "fields": "warn", "access": "warn", "texts": "warn", "vectors": "pass",
    }  # fmt: skip
    assert "--accept writes a new one" in found["fields"].evidence[0]

from __future__ import annotations

import gzip
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

ROWS, DIMENSION, QUESTIONS = 2000, 32, 120
PEERS = Path(__file__).parents[2] / "eval" / "bench" / "peers"
RUN = PEERS / "run.py"
MEASURED = ("Reperio 0.95", "Reperio 0.95, reader", "FAISS HNSW16 + dict", "FAISS IVF,PQ + refine + dict")


@pytest.fixture(scope="module")
def peers() -> Iterator[dict[str, ModuleType]]:
    """Import the benchmark's modules, which are scripts' neighbours and no package."""
    sys.path.insert(0, str(PEERS))
    try:
        import catalogue
        import corpus
        import driving
        import page

        yield {"catalogue": catalogue, "corpus": corpus, "driving": driving, "page": page}
    finally:
        sys.path.remove(str(PEERS))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a data folder in the documented format: unit vectors around some centres, and some words."""
    made = tmp_path_factory.mktemp("realq")
    random = np.random.default_rng(6)
    centres = random.normal(size=(40, DIMENSION))
    base, queries = (
        _unit(centres[random.integers(0, 40, n)] + random.normal(size=(n, DIMENSION))).astype(np.float16)
        for n in (ROWS, QUESTIONS)
    )
    nearest = np.argsort(-(_unit(queries) @ _unit(base).T), axis=1)[:, :100].astype(np.int32)
    for name, array in (("base.f16", base), ("queries.f16", queries), ("gt_ip_top100", nearest)):
        np.save(made / f"{name}.npy", array)
    with gzip.open(made / "texts.jsonl.gz", "wt") as file:
        file.writelines(json.dumps({"id": str(row), "text": f"what is number {row}?"}) + "\n" for row in range(ROWS))
    return made


@pytest.fixture(scope="module")
def prepared(peers: dict[str, ModuleType], folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a prepared corpus."""
    sys.path.insert(0, str(PEERS.parent))
    try:
        from measuring import Data
    finally:
        sys.path.remove(str(PEERS.parent))
    work = tmp_path_factory.mktemp("work") / "corpus"
    return peers["corpus"].prepare(work, Data(folder, ROWS), ROWS, Path("nowhere"))


@pytest.fixture(scope="module")
def measured(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Measure ourselves and FAISS for real, beside a library that is broken in a place that must not be printed."""
    work, out, broken = (tmp_path_factory.mktemp(name) for name in ("work", "out", "broken"))
    (broken / "hnswlib.py").write_text(f"raise RuntimeError('lacks {broken}/libsecret.so')\n")
    arguments = ("--quick", "--rows", str(ROWS), "--work", str(work), "--out", str(out), "--note", "made by a test")
    done = run(folder, *arguments, "--subjects", *MEASURED, "hnswlib M=16", path=broken)
    assert done.returncode == 0, done.stderr
    results = json.loads((out / "peers.json").read_text())
    return {"out": out, "work": work, "arguments": arguments, "printed": done.stdout, "log": done.stderr, **results}


def run(data: Path, *arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"REPERIO_DATA": str(data)}
    if path is not None:
        environment["PYTHONPATH"] = os.pathsep.join([str(path), *filter(None, [environment.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, str(RUN), *arguments], env=environment, capture_output=True, text=True, timeout=280
    )


def _unit(matrix: Any) -> Any:
    plain = np.asarray(matrix, dtype=np.float64)
    return plain / np.linalg.norm(plain, axis=1, keepdims=True)


def subjects(results: dict[str, Any]) -> Any:
    return results["sizes"][str(ROWS)]["subjects"]


@pytest.mark.campaign
def test_every_stage_of_every_subject_has_its_figures(measured: dict[str, Any]) -> None:
    """Ingest, open, first pass, warm rounds, eight threads, memory, disk: present and plausible."""
    for name in MEASURED:
        found = subjects(measured)[name]
        assert "failed" not in found, found
        assert found["note"] == "made by a test"
        assert found["ingest"]["rows"] == ROWS
        assert found["ingest"]["seconds"] == pytest.approx(sum(found["ingest"]["stages"].values()))
        assert found["ingest"]["disk_mib"] > 1.5, "800 bytes of text for each row"
        for setting in (one for one in found["settings"].values() if "as" not in one):
            opened = setting["opens"][0]
            assert opened["open_s"] > 0
            assert 0 < opened["later"]["anonymous"] < opened["later"]["rss"]
            for passed in (setting["warm"], opened["first_pass"]):
                assert 0 < passed["p50_us"] <= passed["p95_us"] <= passed["p99_us"]
            assert setting["warm"]["rate_8"] > 0
            assert len(setting["rounds"]) == 2


@pytest.mark.campaign
def test_settings_hold_their_recall_on_other_questions(measured: dict[str, Any]) -> None:
    """What was chosen by the tuning half gives about as much on the measured half, for us and for FAISS."""
    for name in MEASURED:
        settings = subjects(measured)[name]["settings"]
        for target in (0.95, 0.99):
            assert settings[str(target)]["reached"]
            chosen = settings[settings[str(target)].get("as", str(target))]
            assert chosen["recall"] >= target - 0.05  # 50 questions each: 500 neighbours


@pytest.mark.campaign
def test_reperio_is_measured_at_the_recall_it_is_asked_for(measured: dict[str, Any]) -> None:
    """The promise is a row of its own beside the tuned settings, for us alone."""
    for name in MEASURED:
        asked = {key for key in subjects(measured)[name]["settings"] if key.startswith("asked")}
        assert asked == ({"asked 0.95", "asked 0.99"} if name.startswith("Reperio") else set())
    assert "**Reperio 0.95, asked for 0.95**" in measured["printed"]


@pytest.mark.campaign
def test_a_broken_subject_is_reported_and_the_others_go_on(measured: dict[str, Any]) -> None:
    """What it raised is told without the place it names; it has no figures."""
    failed = subjects(measured)["hnswlib M=16 + dict"]
    assert failed["failed"] == "ingest: RuntimeError: lacks …"
    assert "ingest" not in failed
    assert "### Failed" in measured["printed"]


@pytest.mark.campaign
def test_results_name_no_place(measured: dict[str, Any], folder: Path) -> None:
    """Results are committed: no directory, no host."""
    for name in ("peers.json", "peers.md"):
        text = (measured["out"] / name).read_text()
        assert os.uname().nodename not in text
        for place in (folder, measured["out"], measured["work"], Path.home(), PEERS.parents[2], sys.prefix):
            assert str(place) not in text


@pytest.mark.campaign
def test_page_is_made_of_the_file_alone(measured: dict[str, Any], peers: dict[str, ModuleType]) -> None:
    """peers.md can be written again from peers.json, and is what was printed."""
    page = (measured["out"] / "peers.md").read_text()
    stored = json.loads((measured["out"] / "peers.json").read_text())
    assert peers["page"].to_markdown(stored) == page
    assert page in measured["printed"]
    assert "p50 ÷ ours" in page
    assert "quicker than Reperio" in page


@pytest.mark.campaign
def test_page_says_who_was_quicker(measured: dict[str, Any], peers: dict[str, ModuleType]) -> None:
    """A peer whose every round took half of ours is named with 0.50, and not otherwise."""
    results = json.loads((measured["out"] / "peers.json").read_text())
    everybody = subjects(results)
    ours, theirs = everybody["Reperio 0.95"], everybody["FAISS HNSW16 + dict"]
    everybody.clear()
    everybody |= {"Reperio 0.95": ours, "FAISS HNSW16 + dict": theirs}
    for found in (ours, theirs):
        found["settings"] = {"0.95": found["settings"]["0.95"]}
    for factor, said in ((0.5, "FAISS HNSW16 + dict (0.50)."), (2, "none.")):
        pairs = zip(ours["settings"]["0.95"]["rounds"], theirs["settings"]["0.95"]["rounds"], strict=True)
        for mine, other in pairs:
            other["p50_us"] = mine["p50_us"] * factor
        assert f"quicker than Reperio 0.95: {said}" in peers["page"].to_markdown(results)


@pytest.mark.campaign
def test_plot_is_drawn_or_said_to_be_missing(measured: dict[str, Any]) -> None:
    """With matplotlib there is a plot of every subject; without, one line says why there is none."""
    plot = measured["out"] / "peers.svg"
    if plot.exists():
        text = plot.read_text()
        assert "<svg" in text
        assert str(measured["out"]) not in text
    else:
        assert "peers.svg was not drawn" in measured["log"]


@pytest.mark.campaign
def test_subjects_measured_later_are_merged(measured: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    """The others' figures stay, what was ingested is used again, and a ratio needs both in the same run."""
    (tmp_path / "peers.json").write_bytes((measured["out"] / "peers.json").read_bytes())
    before = (measured["work"] / f"quick-{ROWS}" / "subjects" / "faiss-hnsw16-dict.json").stat().st_mtime_ns
    arguments = [str(tmp_path) if one == str(measured["out"]) else one for one in measured["arguments"]]
    done = run(folder, *arguments, "--subjects", "FAISS HNSW16")
    assert done.returncode == 0, done.stderr
    merged = subjects(json.loads((tmp_path / "peers.json").read_text()))
    earlier = subjects(measured)
    assert {name: one for name, one in merged.items() if "HNSW16" not in name} == {
        name: one for name, one in earlier.items() if "HNSW16" not in name
    }
    assert merged["FAISS HNSW16 + dict"]["run"] != earlier["FAISS HNSW16 + dict"]["run"]
    assert merged["FAISS HNSW16 + dict"]["ingest"] == earlier["FAISS HNSW16 + dict"]["ingest"]
    after = (measured["work"] / f"quick-{ROWS}" / "subjects" / "faiss-hnsw16-dict.json").stat().st_mtime_ns
    assert after == before
    row = next(line for line in done.stdout.splitlines() if line.startswith("| FAISS HNSW16 + dict"))
    assert row.split("|")[6].strip() == "", "no ratio to what another run measured"


def test_halves_share_no_question(prepared: Any) -> None:
    """No knob is chosen by a question that is measured; together they are all."""
    (tuning, _), (measured, nearest) = prepared.questions("tuning"), prepared.questions("measured")
    assert len(tuning) + len(measured) == QUESTIONS
    assert not {one.tobytes() for one in tuning} & {one.tobytes() for one in measured}
    expected = np.argsort(-(measured @ prepared.vectors.T), axis=1, kind="stable")[:, :10]
    np.testing.assert_array_equal(nearest, expected)


def test_exact_answers_do_not_depend_on_blocks(
    prepared: Any, peers: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Merging the best of many blocks gives what one sort over everything gives."""
    monkeypatch.setattr(peers["corpus"], "_BLOCK", 77)
    queries, nearest = prepared.questions("tuning")
    np.testing.assert_array_equal(peers["corpus"].nearest(prepared.vectors, queries), nearest)


def test_chunks_have_the_size_they_are_said_to_have(prepared: Any) -> None:
    """About 800 bytes of text, about 200 of metadata, an id that leads back to the row; no two texts are the same."""
    chunks = list(prepared.chunks())
    assert [int(chunk_id[1:]) for chunk_id, _, _ in chunks] == list(range(ROWS))
    assert all(780 <= len(text) <= 800 for _, text, _ in chunks)
    assert all(170 <= len(json.dumps(metadata)) <= 250 for _, _, metadata in chunks)
    assert len({text for _, text, _ in chunks}) == ROWS


@pytest.mark.parametrize("seed", range(20))
def test_settle_finds_the_quickest_sufficient_setting(peers: dict[str, ModuleType], seed: int) -> None:
    """By bisection it finds what trying every setting would, with a fraction of the trials."""
    random = np.random.default_rng(seed)
    knobs = {"ef": peers["catalogue"].ladder(10, 1000), "refine": (1, 2, 4)}
    ceiling = dict(zip(knobs["refine"], np.sort(random.uniform(0.93, 1, 3)), strict=True))
    cost = dict(zip(knobs["refine"], random.uniform(0.5, 2, 3), strict=True))
    tried = []

    def evaluate(knob: dict[str, Any]) -> dict[str, Any]:
        tried.append(knob)
        recall = ceiling[knob["refine"]] * (1 - 2.0 / (knob["ef"] + 2))
        return {"recall": recall, "p50_us": knob["ef"] * cost[knob["refine"]]}

    chosen, curve = peers["driving"].settle(knobs, (0.95, 0.99), evaluate)
    assert len(tried) == len(curve) < 60
    every = [{"ef": ef, "refine": refine} for ef, refine in itertools.product(*knobs.values())]
    figures = [evaluate(knob) for knob in every]
    for target in (0.95, 0.99):
        sufficient = [one["p50_us"] for one in figures if one["recall"] >= target]
        assert chosen[target]["reached"] == bool(sufficient)
        if sufficient:
            assert chosen[target]["p50_us"] == min(sufficient)
        else:
            assert chosen[target]["recall"] == max(one["recall"] for one in figures)


def test_settle_serves_a_subject_without_knobs(peers: dict[str, ModuleType]) -> None:
    """Its one setting is taken for every target and evaluated once."""
    calls: list[dict[str, Any]] = []

    def evaluate(knob: dict[str, Any]) -> dict[str, Any]:
        calls.append(knob)
        return {"recall": 0.97, "p50_us": 5.0}

    chosen, _ = peers["driving"].settle({}, (0.95, 0.99), evaluate)
    assert calls == [{}]
    assert [chosen[target]["reached"] for target in (0.95, 0.99)] == [True, False]


def test_heats_fit_into_memory_and_have_the_reference(peers: dict[str, ModuleType]) -> None:
    """Each subject is in one heat, the reference in all; only one that is too large by itself exceeds the budget."""
    resident = {"us": 200.0, "them a": 900.0, "them b": 700.0, "them c": 5000.0, "them d": 300.0}
    found = peers["driving"].heats(resident, ["us"], 2000)
    assert all(heat[0] == "us" for heat in found)
    assert sorted(name for heat in found for name in heat[1:]) == sorted(name for name in resident if name != "us")
    assert all(sum(resident[name] for name in heat) <= 2000 or len(heat) == 2 for heat in found)
    assert peers["driving"].heats({"us": 1.0}, ["us"], 10) == [["us"]]


def test_catalogue_is_sound(peers: dict[str, ModuleType]) -> None:
    """No two subjects write to the same folder, first knobs ascend, graphs come with M of 16 and 32."""
    entries = peers["catalogue"].ENTRIES.values()
    own = [entry.folder for entry in entries if entry.shares is None]
    assert len(set(own)) == len(own)
    assert all(entry.folder in own for entry in entries)
    for values in (next(iter(entry.knobs.values())) for entry in entries if entry.knobs):
        assert list(values) == sorted(set(values))
    for library in ("hnswlib", "usearch", "zvec", "Chroma", "LanceDB"):
        assert {16, 32} <= {m for m in (16, 32) for entry in entries if entry.name.startswith(f"{library} M={m}")}


def test_every_library_is_pinned(peers: dict[str, ModuleType]) -> None:
    """A figure belongs to a release, so requirements.txt names the release of each."""
    lines = (PEERS / "requirements.txt").read_text().splitlines()
    pinned = {line.split("==")[0] for line in lines if line and not line.startswith("#")}
    assert {entry.package for entry in peers["catalogue"].ENTRIES.values()} - {"reperio"} <= pinned
    assert all("==" in line for line in lines if line and not line.startswith("#"))


def test_a_reader_brings_its_writer_along(peers: dict[str, ModuleType]) -> None:
    """Its files would not be there otherwise; an unknown word is an error that lists the names."""
    choose = peers["catalogue"].choose
    assert [entry.name for entry in choose(["0.99, READER"], ROWS)] == ["Reperio 0.99", "Reperio 0.99, reader"]
    assert len(choose(None, 1_000_000)) < len(choose(None, 100_000))
    quick = [entry for entry in choose(None, 5000, quick=True) if entry.shares is None]
    packages = [entry.package for entry in quick]
    assert sorted(packages) == sorted({entry.package for entry in peers["catalogue"].ENTRIES.values()})
    with pytest.raises(LookupError, match="'milvus'; the subjects are Reperio"):
        choose(["milvus"], ROWS)


def test_a_changed_text_is_noticed(prepared: Any, peers: dict[str, ModuleType], tmp_path: Path) -> None:
    """A subject that returns something else than was put in fails, however quick it is."""
    driving, entry = peers["driving"], peers["catalogue"].ENTRIES["FAISS HNSW16 + dict"]
    limits = driving.Limits(60, 60)
    driving.ingest(entry, tmp_path / "faiss", prepared, limits)
    with driving.running(entry, tmp_path / "faiss", prepared, limits) as process:
        process.ask("open", knob={"ef": 50})
        driving.require_same(process, prepared)
    kept = tmp_path / "faiss" / "chunks.jsonl"
    kept.write_text(kept.read_text().replace("number", "nummer"))
    with driving.running(entry, tmp_path / "faiss", prepared, limits) as process:
        process.ask("open", knob={"ef": 50})
        with pytest.raises(driving.SubjectFailed, match="came back with another text"):
            driving.require_same(process, prepared)


def test_a_subject_that_takes_too_long_is_cut(prepared: Any, peers: dict[str, ModuleType], tmp_path: Path) -> None:
    """It is told so, and its process does not live on."""
    driving, entry = peers["driving"], peers["catalogue"].ENTRIES["FAISS HNSW32 + dict"]
    with driving.running(entry, tmp_path / "faiss", prepared, driving.Limits(ingest=0.01)) as process:
        with pytest.raises(driving.SubjectFailed, match=r"^ingest: cut after 0 s$"):
            process.ask("ingest")
        number = process.number
        os.kill(number, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--subjects", "milvus"), "no subject's name contains 'milvus'"),
        (("--rows", "3000"), "3000 rows have to be grown"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line(
    folder: Path, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    """Exit 2, one line, no traceback, nothing written."""
    done = run(folder, "--quick", "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out"), *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()

"""``reperio gate`` and ``reperio golden`` as a shell runs them: exit codes, reports, and what is left on disk."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from typer.testing import CliRunner

import reperio
from reperio.cli.main import app
from reperio.errors import InvalidInput
from reperio.evaluation import read_golden
from reperio.evaluation.qrels import read_qrels
from reperio.query_log.reading import read_log

EXAMPLES = Path(__file__).parents[2] / "examples" / "gate"


def run(*arguments: object) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "reperio", *map(str, arguments)], capture_output=True, text=True, timeout=200,
        check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def told(*arguments: object) -> tuple[int, str, str]:
    """Run a command in this process: most of the time of the others goes into starting Python."""
    done = CliRunner().invoke(app, [*map(str, arguments)])
    return done.exit_code, done.stdout, done.stderr


def flat(output: str) -> str:
    """Return output without the line breaks of a narrow terminal."""
    return " ".join(output.split())


def test_accept_then_gate_then_a_fault(stored: Path, lexical: Path, tmp_path: Path) -> None:
    """0 for accepting and passing, 1 for red; every file that is asked for is written, and --json is one document."""
    code, output, errors = run("gate", stored, "--golden", lexical, "--accept")
    assert (code, errors) == (0, ""), output
    assert f"accepted: {tmp_path / 'golden.baseline.json'} is the baseline from now on" in output
    assert "there is no baseline yet: this run becomes the first" in " ".join(output.split())
    assert "could not run" not in output
    files = [f"--{kind}={tmp_path / kind}" for kind in ("junit", "markdown", "html")]
    code, output, errors = run("gate", stored, "--golden", lexical, "--json", *files)
    assert (code, errors) == (0, ""), output
    found = {check["name"]: check["verdict"] for check in json.loads(output)["checks"]}
    assert (found["regression"], found["sources"], found["latency"]) == ("pass", "pass", "pass")
    assert ElementTree.parse(tmp_path / "junit").find("testsuite").get("failures") == "0"  # type: ignore[union-attr]  # it is there
    assert (tmp_path / "html").read_text().startswith("<!doctype html>")
    assert "reperio gate: pass" in (tmp_path / "markdown").read_text()
    with reperio.open(stored) as collection:
        collection.delete(ids=["c0", "c30"])
    code, output, _ = run("gate", stored, "--golden", lexical)
    assert code == 1
    assert "'c30' not in the collection" in output


def test_what_is_unsound_is_not_accepted(stored: Path, lexical: Path, tmp_path: Path) -> None:
    """The exit code is that of the gate, also where nothing was checked, and no baseline is written."""
    lexical.write_text(lexical.read_text() + "- {query: own1, expect: [nowhere]}\n")
    code, _, errors = run("gate", stored, "--golden", lexical, "--accept")
    assert (code, "not accepted: golden ids must pass first; no baseline was written" in errors) == (1, True)
    code, output, _ = told("gate", stored, "--golden", lexical, "--accept", "--json")
    baseline = tmp_path / "golden.baseline.json"
    assert json.loads(output)["acceptance"] == {
        "accepted": False, "baseline": str(baseline), "refused": ["golden ids"], "failure": None,
    }  # fmt: skip
    for option in ("--only", "--skip"):
        code, output, errors = told("gate", stored, "--golden", lexical, "--accept", option, "latency")
        assert (code, output, "leave --only and --skip out" in errors) == (2, "", True)
    assert not baseline.exists()


def test_a_report_that_cannot_be_written_keeps_the_others(stored: Path, lexical: Path, tmp_path: Path) -> None:
    """The verdict is printed, the other files are there, and what was accepted is accepted; each failure is told."""
    lost, page = tmp_path / "absent" / "junit", tmp_path / "page"
    files = (f"--junit={lost}", f"--markdown={lost}", f"--html={page}")
    code, output, errors = told("gate", stored, "--golden", lexical, "--accept", "--json", *files)
    baseline = tmp_path / "golden.baseline.json"
    assert (code, errors.count("No such file")) == (2, 2), errors
    assert page.read_text().startswith("<!doctype html>")
    assert json.loads(output)["acceptance"] == {
        "accepted": True, "baseline": str(baseline), "refused": [], "failure": None,
    }  # fmt: skip
    assert told("gate", stored, "--golden", lexical, "--skip", "backup")[0] == 0
    away = tmp_path / "absent" / "baseline.json"
    code, output, errors = told("gate", stored, "--golden", lexical, "--accept", "--baseline", away, "--json")
    assert (code, errors.count("\n")) == (2, 1), errors
    acceptance = json.loads(output)["acceptance"]
    assert (acceptance["accepted"], "No such file" in acceptance["failure"]) == (False, True)


def test_questions_are_added_with_grades_and_ids(tmp_path: Path) -> None:
    """To a file that is begun; what says nothing else has the set's default, and an option goes before."""
    golden = tmp_path / "golden.yaml"
    graded = ("--expect", "a=1", "--expect", "b", "--grade", 2, "--grade", 1)
    assert told("golden", "add", golden, "one", *graded) == (0, f"{golden} is begun\n", "")
    code, _, errors = told("golden", "add", golden, "one", "--expect", "c", "--where", '{"lang": "en"}')
    assert (code, "has the question 'one' already; give this one an id of its own: --id" in errors) == (2, True)
    again = ("--expect", "c", "--id", "one in English", "--where", '{"lang": "en"}')
    assert told("golden", "add", golden, "one", *again) == (0, f"added to {golden}\n", "")
    golden.write_text(golden.read_text().replace("defaults: {k: 10}", "defaults: {mode: hybrid, where: {lang: de}}"))
    assert told("golden", "add", golden, "two", "--expect", "a")[0] == 0
    assert told("golden", "add", golden, "three", "--expect", "a", "--mode", "dense", "--where", "{}")[0] == 0
    read = [(each.id, each.text, each.expect, each.where, each.mode) for each in read_golden(golden).queries]
    assert read == [
        ("one", "one", {"a=1": 2, "b": 1}, {"lang": "de"}, "hybrid"),
        ("one in English", "one", {"c": 1}, {"lang": "en"}, "hybrid"),
        ("two", "two", {"a": 1}, {"lang": "de"}, "hybrid"),
        ("three", "three", {"a": 1}, None, "dense"),
    ]
    for wrong, complaint in (
        (("--expect", "a", "--grade", 1, "--grade", 2), "2 grades for 1 expected"),
        (("--expect", "a", "--expect", "a"), "'a' is expected twice"),
        (("--expect", "a", "--mode", "foo"), "the question to be added: mode must be dense, lexical, hybrid"),
    ):
        code, _, errors = told("golden", "add", golden, "four", *wrong)
        assert (code, complaint in errors) == (2, True), errors


def test_a_draft_of_another_suffix_is_refused(stored: Path, tmp_path: Path) -> None:
    """Before anything is drafted."""
    code, _, errors = told("golden", "init", stored, tmp_path / "golden.txt")
    assert (code, "has the suffix '.txt'; a golden set is .yaml, .yml, .jsonl" in errors) == (2, True)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"query": "a", "where": {"year": {"$foo": 1}}}', "log.jsonl:2: where: unknown operator '$foo'"),
        ('{"query": "a", "k": 1000000000}', "log.jsonl:2: k is 1000000000; it must be a whole number from 1 to 10,000"),
    ],
)
def test_a_log_that_cannot_be_replayed_is_named(tmp_path: Path, line: str, said: str) -> None:
    """With its line, and before anything is asked."""
    log = tmp_path / "log.jsonl"
    log.write_text(f'{{"query": "ok"}}\n{line}\n')
    with pytest.raises(InvalidInput, match=re.escape(said)):
        read_log(log)


def test_what_cannot_run_exits_with_2(stored: Path, lexical: Path, tmp_path: Path) -> None:
    """A missing collection or file, an option that cannot be, a gate that checks nothing: in one line."""
    for arguments in (
        (tmp_path / "absent",),
        (stored, "--golden", tmp_path / "absent.yaml"),
        (stored, "--golden", lexical, "--recall", 2),
    ):
        code, output, errors = run("gate", *arguments)
        assert (code, output, errors.count("\n")) == (2, "", 1), errors
    code, output, _ = run("gate", stored, "--only", "thresholds")
    assert (code, "could not run" in output) == (2, True)


def test_a_log_is_drafted_from_and_replayed(stored: Path, tmp_path: Path) -> None:
    """What was asked becomes a golden set, can be added to, and is asked again with its filter and mode."""
    log, golden = tmp_path / "log.jsonl", tmp_path / "draft.yaml"
    with reperio.open(stored, query_log=log, read_only=True) as collection:
        for at in range(0, 60, 3):
            collection.search(f"own{at}", mode="lexical", where={"lang": "de"})
    assert run("golden", "init", stored, golden, "-n", 5, "--from-log", log)[0] == 0
    code, _, errors = run(
        "golden", "add", golden, "own7", "--expect-document", "d0", "--mode", "lexical", "--where", '{"lang": "en"}'
    )
    assert (code, errors) == (0, "")
    assert golden.read_text().count("query:") == 6
    golden.write_text(golden.read_text() + "limits: {no_baseline: true}\n")
    code, output, _ = run("gate", stored, "--golden", golden, "--from-log", log, "--json", "--skip", "backup")
    found = {check["name"]: check for check in json.loads(output)["checks"]}
    assert (code, found["filtered answers"]["verdict"]) == (0, "pass"), output
    assert found["replay"]["evidence"][0] == "20 of 20 logged questions asked, each with its filter, mode and k"
    assert found["replay"]["figures"] == {"same": 1.0, "empty": 0}


def test_the_examples_say_what_the_command_line_understands() -> None:
    """Every command of the workflow, the hook and the Makefile is there, with its options."""
    workflow = yaml.safe_load((EXAMPLES / "workflow.yml").read_text())
    steps = [step["run"] for step in workflow["jobs"]["gate"]["steps"] if "run" in step]
    hook = yaml.safe_load((EXAMPLES / "pre-commit-config.yaml").read_text())["repos"][0]["hooks"][0]["entry"]
    dry = ["make", "--dry-run", "-f", EXAMPLES / "Makefile", "deploy", "accept"]
    make = subprocess.run(dry, capture_output=True, text=True, check=True).stdout
    lines = re.sub(r"\\\n|\$\([^)]*\)", "", "\n".join([*steps, hook, make])).splitlines()
    commands = [shlex.split(line)[1:] for line in lines if line.strip().startswith("reperio ")]
    assert len(commands) == 8
    for command in commands:
        # Options are parsed before the help is printed, and one that is unknown is an error.
        done = CliRunner().invoke(app, [*command, "--help"])
        assert done.exit_code == 0, done.output


def test_a_golden_set_grows_and_is_examined(stored: Path, lexical: Path, tmp_path: Path) -> None:
    """Proposed first, then appended; what is not in the collection is refused with the name that is meant."""
    lexical.write_text("document_field: source\n" + lexical.read_text())
    code, output, errors = told("golden", "grow", stored, lexical, "-n", 4, "--dry-run")
    assert (code, errors, "would be appended" in output) == (0, "", True)
    assert "had one in 20 of the 10 questions lost its answer" in flat(output), output
    assert len(read_golden(lexical).queries) == 10
    assert told("golden", "grow", stored, lexical, "-n", 4)[0] == 0
    assert len(read_golden(lexical).queries) == 14
    code, output, _ = told("golden", "check", stored, lexical)
    assert (code, "4 questions are drafts" in output, "0 wrong" in output) == (0, True, True), output
    expected = ("--expect-document", "D1", "--kb", stored)
    code, _, errors = told("golden", "add", lexical, "new", *expected)
    assert (code, "does not hold 'D1' (did you mean 'd1'?); nothing was added" in errors) == (2, True), errors
    assert told("golden", "add", lexical, "lost", "--expect", "C30")[0] == 0
    code, output, _ = told("golden", "check", stored, lexical, "--json")
    found = json.loads(output)
    assert (code, found["ok"], found["findings"][0]["kind"]) == (1, False, "label")
    bare = tmp_path / "bare.yaml"
    bare.write_text("queries:\n- {query: own1, expect: [c1]}\n")
    code, _, errors = told("golden", "grow", stored, bare, "-n", 2)
    assert (code, "has no document_field" in errors) == (2, True)


@pytest.mark.parametrize("suffix", ["txt", "tsv", "json"])
def test_judgements_go_out_and_come_back(lexical: Path, tmp_path: Path, suffix: str) -> None:
    """As TREC, BEIR and ranx have them; what is left out is counted."""
    lexical.write_text(
        lexical.read_text() + "- {query: graded, expect: {a: 3, b: 1}}\n- {query: nowhere, nothing_above: 1}\n"
    )
    lexical.write_text(lexical.read_text().replace("mode: lexical", "k: 10"))
    qrels, questions = tmp_path / f"qrels.{suffix}", tmp_path / "queries.jsonl"
    code, output, errors = told("golden", "export", lexical, qrels, "--questions", questions)
    assert (code, errors, "1 questions that expect nothing are left out" in flat(output)) == (0, "", True)
    questions.write_text(questions.read_text() + '{"_id": "unjudged", "text": "x"}\n')
    code, output, _ = told("golden", "import", questions, qrels, tmp_path / "again.yaml")
    assert (code, "left out: 1 questions that nothing is expected of" in flat(output)) == (0, True)
    before = {each.id: (each.text, each.expect) for each in read_golden(lexical).labelled}
    assert {each.id: (each.text, each.expect) for each in read_golden(tmp_path / "again.yaml").queries} == before
    told("golden", "import", questions, qrels, tmp_path / "named.yaml", "--document-field", "source")
    assert read_golden(tmp_path / "named.yaml").queries[-1].documents == {"a": 3, "b": 1}


def test_qrels_are_those_of_other_tools(lexical: Path, tmp_path: Path) -> None:
    """ir_measures reads what is written, and lines that are no judgement are named."""
    import ir_measures

    lexical.write_text(lexical.read_text().replace("own0,", "graded, "))
    assert told("golden", "export", lexical, tmp_path / "qrels")[0] == 0
    read = list(ir_measures.read_trec_qrels(str(tmp_path / "qrels")))
    assert (read[0].query_id, read[0].doc_id, read[0].relevance) == ("graded", "c0", 1)
    lexical.write_text("queries:\n- {query: two words, expect: [a]}\n")
    code, _, errors = told("golden", "export", lexical, tmp_path / "other")
    assert (code, "'two words' holds white space" in errors, "write .json instead" in errors) == (2, True, True)
    for name, text, said in (
        ("qrels", "q 0 d\n", "qrels:1: 'q 0 d' has 3 columns; question 0 document grade"),
        ("qrels", "q 0 d x\n", "qrels:1: 'x' is no finite number"),
        ("qrels", "q 0 d 1\nq 0 d 2\n", "qrels:2: 'd' comes twice for the question 'q'"),
        ("qrels.tsv", "query-id\tcorpus-id\tscore\nq\td\n", "qrels.tsv:2: 'q\\td' has 2 columns"),
        ("qrels.json", '{"q": 1}', "must be an object of numbers by document by question"),
        ("qrels", "q 0 d 1.5\n", "grades are whole numbers"),
        ("qrels", "", "is empty"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(InvalidInput, match=re.escape(said)):
            read_qrels(tmp_path / name)


def test_runs_are_compared_in_one_table(stored: Path, lexical: Path, tmp_path: Path) -> None:
    """What gate has saved next to a worse one: the difference, and whether it is beyond chance."""
    good, bad, odd = (tmp_path / name for name in ("good.run", "bad.json", "odd.tsv"))
    assert told("gate", stored, "--golden", lexical, "--only", "thresholds", "--save-run", good)[0] == 0
    assert told("gate", stored, "--golden", lexical, "--only", "thresholds", "--save-run", odd)[0] == 0
    bad.write_text(json.dumps({f"own{at}": {"c1": 1.0} for at in range(0, 270, 30)}))
    code, output, errors = told("golden", "compare", lexical, good, odd, bad, "--json")
    first, same, worse = json.loads(output)["runs"]
    assert (code, errors, first["against"], same["unlike"], worse["unlike"]) == (0, "", None, "", "worse")
    assert (first["means"]["R@10"], worse["means"]["R@10"], worse["empty"]) == (1.0, 0.0, 1)
    code, output, _ = told("golden", "compare", lexical, good, bad, "--html", tmp_path / "runs.html")
    assert (code, "-1.0000" in flat(output), "good.run" in output) == (0, True, True), output
    page = (tmp_path / "runs.html").read_text()
    assert ('<td class="worse">-1.0000' in page, page.count("<circle"), "http" in page) == (True, 1, False)
    odd.write_text("query-id\tcorpus-id\tscore\nq\td\t1\n")
    code, _, errors = told("golden", "compare", lexical, good, odd)
    assert (code, "has no question of the golden set" in errors) == (2, True)

"""The gate: every check that can be run, and one verdict."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from reperio.arguments import did_you_mean
from reperio.collection import Collection
from reperio.errors import CollectionDamaged, EmbeddingContractError, InvalidInput, ReperioError, ReperioWarning
from reperio.evaluation.asking import Search, name_of
from reperio.evaluation.baseline import Baseline, machine, versions
from reperio.evaluation.checks.answers.labelled import filtered_answers, golden_ids, nothing_above, thresholds
from reperio.evaluation.checks.answers.modes import modes
from reperio.evaluation.checks.answers.questions import questions
from reperio.evaluation.checks.answers.regression import regression
from reperio.evaluation.checks.contents.fields import access, fields
from reperio.evaluation.checks.contents.sources import sources
from reperio.evaluation.checks.contents.texts import texts
from reperio.evaluation.checks.contents.vectors import vectors
from reperio.evaluation.checks.embedding import contract
from reperio.evaluation.checks.integrity import filtering, integrity, reachable
from reperio.evaluation.checks.neighbours import neighbours
from reperio.evaluation.checks.restoring import restoring
from reperio.evaluation.checks.serving import latency, replayed
from reperio.evaluation.checks.settings import settings
from reperio.evaluation.contents.hashing import fingerprint
from reperio.evaluation.golden.questions import GoldenSet
from reperio.evaluation.history import to_history, to_streaks
from reperio.evaluation.limits import GateLimits
from reperio.evaluation.statistics.measures import MAIN, mean
from reperio.evaluation.subject import Subject
from reperio.evaluation.verdicts import CheckResult, GateReport, Verdict
from reperio.query_log.reading import LoggedQuestion
from reperio.types import Progress


@dataclass(frozen=True, slots=True)
class Check:
    """A check that the gate knows."""

    name: str  # as in docs/gate.md
    run: Callable[[Subject], CheckResult]
    collection: bool = True  # whether it cannot do without one
    golden: bool = False  # likewise
    timed: bool = False  # whether it says something of the search that answers now, which a run in a file is not


CHECKS = (
    Check("integrity", integrity),
    Check("reachable", reachable),
    Check("filters", filtering),
    Check("contract", contract),
    Check("neighbours", neighbours),
    Check("golden ids", golden_ids, golden=True),
    Check("thresholds", thresholds, collection=False, golden=True),
    Check("nothing above", nothing_above, collection=False, golden=True),
    Check("filtered answers", filtered_answers, collection=False, golden=True),
    Check("modes", modes, collection=False, timed=True),
    Check("regression", regression, collection=False, golden=True),
    Check("questions", questions, collection=False, golden=True),
    Check("settings", settings),
    Check("sources", sources),
    Check("fields", fields),
    Check("access", access),
    Check("texts", texts),
    Check("vectors", vectors),
    Check("latency", latency, collection=False, timed=True),
    Check("replay", replayed, collection=False, timed=True),
    Check("backup", restoring),
)
NAMES = tuple(check.name for check in CHECKS)

GROUPS = {"drift": ("settings", "sources", "fields", "access", "texts", "vectors")}
"""Names for several checks together, which `only` and `skip` take as well."""

_COMPARED = frozenset({"regression", "questions", "latency", *GROUPS["drift"]})
"""Checks against the baseline: red here is what `accept` accepts."""


def gate(
    collection: Collection | None = None,
    golden: GoldenSet | None = None,
    *,
    search: Search | None = None,
    baseline: Baseline | None = None,
    limits: GateLimits | None = None,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    log: Sequence[str | LoggedQuestion] = (),
    progress: Progress | None = None,
    strict: bool = False,
) -> GateReport:
    """Say whether a collection, or a search in front of it, may go to production.

    Args:
        collection: to be judged; None where only *search* is.
        golden: questions with what should come; without, only the checks that need no labels run.
        search: what is deployed, called with a text, and with ``k=``, ``where=``, ``mode=``, ``vector=`` and the
            question's ``id=`` where it takes them; it returns ids, (id, score) pairs, `Hit`, LangChain documents or
            LlamaIndex nodes. None for the collection's.
        baseline: what was accepted before; None for none.
        limits: from where on something is wrong; None for the golden set's, or the defaults.
        only: names of checks to run, of `NAMES`; empty for all.
        skip: names of checks not to run.
        log: real questions, as texts or as `reperio.query_log.reading.read_log` reads them: for knn recall, latency and
            replay.
        progress: called with the stages "gate" (checks done), "ask" and "neighbours".
        strict: whether a warning is red as well.

    Returns:
        The report; a check that raises is in it as an error, and never stops the others.

    Raises:
        InvalidInput: there is nothing to judge, or no such check.
    """
    if collection is None and search is None:
        raise InvalidInput("there is nothing to judge; pass a collection, search=, or both")
    subject = Subject(collection, golden, search=search, baseline=baseline, limits=limits, log=log, progress=progress)
    return judged(subject, only=only, skip=skip, strict=strict)


def judged(subject: Subject, *, only: Sequence[str] = (), skip: Sequence[str] = (), strict: bool = False) -> GateReport:
    """Run the checks on a subject; see `gate`."""
    known = (*NAMES, *GROUPS)
    for name in (*only, *skip):
        if name not in known:
            there_are = ", ".join(map(repr, known))
            raise InvalidInput(f"there is no check {name!r}; {did_you_mean(name, known)}there are {there_are}")
    only, skip = ([each for name in some for each in GROUPS.get(name, (name,))] for some in (only, skip))
    wanted = [check for check in CHECKS if (not only or check.name in only) and check.name not in skip]
    started, made = time.perf_counter(), datetime.now(timezone.utc).isoformat(timespec="seconds")
    results = []
    for number, check in enumerate(wanted, start=1):
        results.append(_run(check, subject))
        if subject.progress is not None:
            subject.progress("gate", number, len(wanted))
    name = name_of(subject.search) if subject.collection is None else subject.collection.info().path
    texts = subject.texts(
        {each for check in results for query in check.queries for each in (*query.expected, *query.came)}
    )
    return GateReport(name, results, made, _facts(subject), time.perf_counter() - started, texts, strict)


def acceptable(report: GateReport) -> list[str]:
    """Return the checks that forbid to accept what was found: red ones that do not compare with a baseline.

    What was not looked at cannot be accepted: those that were left out forbid it as well, and all where none passed.
    """
    ran = {check.name for check in report.checks}
    # Where all were skipped or failed to run, nothing is known that could be accepted.
    # Answers that were measured are known, also where nothing says yet how good they must be: of a search alone, say.
    seen = (Verdict.PASS, Verdict.WARN, Verdict.FAIL)
    if not any(check.verdict in seen or (check.name == "thresholds" and check.figures) for check in report.checks):
        return [check.name for check in report.checks]
    return [name for name in NAMES if name not in ran] + [
        check.name
        for check in report.checks
        if check.verdict in (Verdict.FAIL, Verdict.ERROR) and (check.name not in _COMPARED or _is_absolute(check))
    ]


def to_baseline(subject: Subject, report: GateReport) -> Baseline:
    """Return what was found as the baseline to compare with from now on."""
    figures = {check.name: check.figures for check in report.checks}
    collection, golden = subject.collection, subject.golden
    index = collection.info().index if collection else None
    expected = subject.expected if golden and collection else {}
    times = {key: value for key, value in figures.get("latency", {}).items() if key not in ("times", "limits")}
    return Baseline(
        made=report.made,
        settings=collection.fingerprint() if collection else {},
        index={}
        if index is None
        else {"factory": index.factory, "recall": index.recall, "reason": index.reason, "created": index.created},
        profile=subject.survey.profile if collection else None,
        values=subject.values if golden else {},
        asked=subject.asked if golden else {},
        ids={answer.query.id: subject.names(answer) for answer in subject.answers} if golden else {},
        depth=subject.depth if golden else 0,
        labels={key: fingerprint(chunk.text) for key, chunk in expected.items()},
        latency=times,
        neighbours=dict(figures.get("neighbours", {})),
        versions=versions(),
        machine=machine(),
        history=to_history(subject, report.made, declined=bool(figures.get("regression", {}).get("declined"))),
        streaks=to_streaks(subject),
    )


def _run(check: Check, subject: Subject) -> CheckResult:
    lacking = _lacking(check, subject)
    if lacking:
        return CheckResult(check.name, Verdict.SKIP, (lacking,))
    started = time.perf_counter()
    with _told() as told:
        try:
            found = check.run(subject)
        except (CollectionDamaged, EmbeddingContractError) as error:
            # These are what the gate is there to find, and no failure to look.
            found = CheckResult(check.name, Verdict.FAIL, (str(error),), "see integrity and contract")
        except ReperioError as error:
            found = CheckResult(check.name, Verdict.ERROR, (str(error),))
        except (Exception, SystemExit) as error:  # what is judged may be any function
            found = CheckResult(check.name, Verdict.ERROR, (f"{type(error).__name__}: {error}",))
    if told:
        evidence = (*found.evidence, *dict.fromkeys(told))
        # The package warns that an index could not be used: what answered is not what was to be deployed.
        verdict = Verdict.ERROR if found.verdict is Verdict.ERROR else Verdict.FAIL
        found = replace(found, verdict=verdict, evidence=evidence, cause=found.cause or "see the warning")
    return replace(found, seconds=time.perf_counter() - started)


def _lacking(check: Check, subject: Subject) -> str:
    """Say why a check cannot be run; nothing where it can."""
    lacking = ["a collection"] if check.collection and subject.collection is None else []
    lacking += ["a golden set"] if check.golden and subject.golden is None else []
    if lacking:
        why = ", and a search alone was passed" if "a collection" in lacking else ""
        return f"not run: needs {' and '.join(lacking)}{why}"
    if check.timed and getattr(subject.search, "recorded", False):
        return "not run: the answers come from a file, and nothing is searched"
    return ""


@contextmanager
def _told() -> Iterator[list[str]]:
    """Collect the package's warnings; others go where they went."""
    told: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always", ReperioWarning)
        before = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any) -> None:
            if issubclass(category, ReperioWarning):
                told.append(str(message))
            else:
                before(message, category, *place)

        warnings.showwarning = show  # type: ignore[assignment]  # as documented for warnings.showwarning
        yield told


def _is_absolute(check: CheckResult) -> bool:
    # That a baseline shares no question with the golden set is an error, which a new baseline mends.
    return (check.verdict is Verdict.ERROR and check.name != "regression") or bool(check.figures.get("limits"))


def _history(subject: Subject) -> list[dict[str, Any]]:
    """Return the mean of the main measure in each accepted baseline that is known, and now."""
    accepted = [
        {"made": entry["made"], MAIN: mean(entry["values"])}
        for entry in getattr(subject.baseline, "history", ())
        if entry["values"]
    ]
    now = subject.__dict__.get("values")  # where no check has judged answers, nothing is asked for this
    return [*accepted, {"made": "now", MAIN: mean(now[MAIN])}] if accepted and now and now.get(MAIN) else accepted


def _facts(subject: Subject) -> dict[str, Any]:
    facts: dict[str, Any] = {"versions": versions(), "machine": machine()}
    if subject.collection is not None:
        info = subject.collection.info()
        index = info.index.factory if info.index else "exact search"
        facts |= {"chunks": info.count, "embedder": info.embedder, "index": index}
    if subject.golden is not None:
        facts |= {"questions": len(subject.golden.queries), "golden": subject.golden.path}
    if subject.baseline is not None:
        facts["baseline"] = subject.baseline.made
        facts["history"] = _history(subject)
    return facts

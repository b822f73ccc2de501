"""One pytest test per check of the gate: ``pytest --reperio-kb=kb --reperio-golden=golden.yaml``.

The plugin does nothing unless something to judge is passed. A check that is skipped is a skipped test; one that could
not run fails, as does a gate that checked nothing. Under pytest-xdist one worker runs all checks, and each test reads
its result, whichever worker it is in.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from reperio.printable import one_line

if TYPE_CHECKING:
    from reperio.evaluation import CheckResult, Deployed, Subject

# Every run of pytest where Reperio is installed imports what is imported here: the rest waits until it is used.

_GATE = pytest.StashKey["Gate"]()
_JUDGED = ("kb", "search", "url", "run")
_TEXTS = {
    "kb": ("KB", "the collection to be judged, a directory"),
    "golden": ("FILE", "its golden set, .yaml or .jsonl"),
    "baseline": ("FILE", "what was accepted; next to the golden set by default"),
    "from_log": ("FILE", "real questions, .jsonl or .txt"),
    "search": ("MODULE:FUNCTION", "a search to judge instead"),
    "url": ("URL", "an HTTP endpoint to judge instead"),
    "run": ("FILE", "a run to judge instead: TREC, BEIR or ranx"),
    "embedder": ("NAME", "the collection's embedder: module:function, or a model's name"),
}
_OPTIONS = (*_TEXTS, "recall", "header", "timeout", "strict")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("reperio", "the gate of a Reperio collection; write --reperio-kb=kb, with the sign")
    for name, (metavar, text) in _TEXTS.items():
        group.addoption(_option(name), metavar=metavar, help=text)
    group.addoption("--reperio-recall", metavar="R", type=float, help="knn recall@10 to be reached, 0.95 by default")
    group.addoption("--reperio-header", metavar="NAME:VALUE", action="append", help="sent to the URL; may be repeated")
    group.addoption("--reperio-timeout", metavar="SECONDS", type=float, help="for each question to the URL; 30")
    group.addoption("--reperio-strict", action="store_true", default=None, help="a warning fails its test")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse what cannot be judged, once, before any test."""
    given = [name for name in _OPTIONS if config.getoption(f"reperio_{name}") is not None]
    if not given:
        return
    if not any(name in _JUDGED for name in given):
        raise pytest.UsageError(f"{_option(given[0])} needs --reperio-kb, or another thing to judge")
    _refuse_spaces(config)
    config.stash[_GATE] = gate = Gate(config)
    if not gate.is_worker:  # what is wrong was told before any worker began
        gate.require()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist where all of them share their results."""
    gate = node.config.stash.get(_GATE, None)
    if gate is not None:
        node.workerinput["reperio_gate"] = str(gate.shared())


def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add one test per check."""
    if config.stash.get(_GATE, None) is not None:
        group = GateGroup.from_parent(session, name="reperio-gate", nodeid="reperio-gate")
        items.extend(group.collect())


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Close the collection, and fail where every check was skipped."""
    gate = session.config.stash.get(_GATE, None)
    if gate is None:
        return
    gate.close()
    # A run without a single check must not look like one that passed.
    if not gate.is_worker and gate.checked_nothing and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show what the gate warns of, which fails no test, and that nothing was checked, which no test tells."""
    gate = config.stash.get(_GATE, None)
    if gate is None:
        return
    for each in gate.results:
        if each.verdict == "warn":
            terminalreporter.write_line(f"reperio gate, {each.name}: {each.text}", yellow=True)
    if gate.checked_nothing:
        terminalreporter.write_line("reperio gate: nothing was checked; every check was skipped", red=True)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove what workers have shared."""
    gate = config.stash.get(_GATE, None)
    if gate is not None:
        gate.remove_shared()


@dataclass(frozen=True, slots=True)
class Told:
    """What a test tells of a check."""

    name: str
    verdict: str
    text: str


class Gate:
    """What is judged, open from the first check to the end of the session."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._open = ExitStack()
        self._subject: Subject | None = None
        self._failure: Exception | None = None
        self._results: list[Told] = []
        given = getattr(config, "workerinput", {}).get("reperio_gate")
        self.is_worker = given is not None
        self._shared = None if given is None else Path(given)

    def require(self) -> None:
        """Open what is to be judged once, or refuse it: not once per check."""
        from reperio.errors import ReperioError

        try:
            with self._deployed().opened(self._golden()):
                self._baseline(self._golden())
        except ReperioError as error:
            raise pytest.UsageError(_in_words_of_pytest(str(error))) from None

    def run(self, check: str, checks: Sequence[str]) -> Told:
        """Run one check of those that were chosen; what several look at is seen, asked and measured once."""
        if self._shared is None:
            return self._run(check)
        # One worker runs all: checks share what was asked, and time it. The others wait for what it finds.
        results = self._shared / "results.json"
        with open(self._shared / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not results.exists():
                found = [asdict(self._run(each)) for each in checks]
                results.write_text(json.dumps(found), encoding="utf-8")
        self._results = self._read()
        return next(each for each in self._results if each.name == check)

    def close(self) -> None:
        """Close the collection."""
        self._open.close()

    def shared(self) -> Path:
        """Return the folder in which workers share their results."""
        if self._shared is None:
            self._shared = Path(tempfile.mkdtemp(prefix="reperio-gate-"))
        return self._shared

    def remove_shared(self) -> None:
        """Remove the folder, where this process has made it."""
        if self._shared is not None and not self.is_worker:
            shutil.rmtree(self._shared, ignore_errors=True)

    @property
    def results(self) -> list[Told]:
        """What was found, by this process or by the worker that ran the checks."""
        return self._results or self._read()

    @property
    def checked_nothing(self) -> bool:
        """True when checks ran, and each was skipped."""
        return bool(self.results) and all(each.verdict == "skip" for each in self.results)

    def _read(self) -> list[Told]:
        path = None if self._shared is None else self._shared / "results.json"
        if path is None or not path.exists():
            return []
        return [Told(**each) for each in json.loads(path.read_text(encoding="utf-8"))]

    def _run(self, check: str) -> Told:
        from reperio import evaluation
        from reperio.errors import ReperioError

        if self._failure is not None:
            return self._told(check, "skip", "not run: what is judged cannot be opened, see the first check")
        try:
            if self._subject is None:
                self._subject = self._opened()
        except ReperioError as error:
            self._failure = error
            return self._told(check, "error", one_line(str(error)))
        report = evaluation.judged(self._subject, only=[check])
        return self._found(report.checks[0], report.texts)

    def _found(self, found: CheckResult, texts: Any) -> Told:
        from reperio.evaluation.reports import as_text

        verdict = found.verdict.value
        if verdict == "warn" and self._given("strict"):
            verdict = "fail"
        return self._told(found.name, verdict, as_text(found, texts))

    def _told(self, name: str, verdict: str, text: str) -> Told:
        told = Told(name, verdict, text)
        self._results.append(told)
        return told

    def _given(self, name: str) -> Any:
        return self._config.getoption(f"reperio_{name}")

    def _deployed(self) -> Deployed:
        from reperio.evaluation import Deployed

        named = {name: self._given(name) for name in ("kb", "embedder", "search", "url", "run", "timeout")}
        return Deployed(**named, headers=self._given("header") or ())

    def _golden(self) -> Any:
        from reperio import evaluation

        return evaluation.read_golden(self._given("golden")) if self._given("golden") else None

    def _baseline(self, golden: Any) -> Any:
        from reperio import evaluation

        named = self._given("baseline")
        path = Path(named) if named else evaluation.baseline_path(golden.path) if golden else None
        return evaluation.read_baseline(path) if path is not None and (named or path.exists()) else None

    def _opened(self) -> Subject:
        from reperio import evaluation
        from reperio.query_log import reading as query_log

        golden = self._golden()
        log = query_log.read_log(Path(self._given("from_log"))) if self._given("from_log") else ()
        limits = evaluation.to_limits(golden, recall=self._given("recall"))
        collection, search = self._open.enter_context(self._deployed().opened(golden))
        baseline = self._baseline(golden)
        return evaluation.Subject(collection, golden, search=search, baseline=baseline, limits=limits, log=log)


class GateGroup(pytest.Collector):
    """The checks of one gate."""

    def collect(self) -> Iterator[pytest.Item]:
        """Make one test per check."""
        from reperio.evaluation import NAMES

        for name in NAMES:
            yield GateItem.from_parent(self, name=name.replace(" ", "_"), check=name)


class GateItem(pytest.Item):
    """One check."""

    def __init__(self, *, check: str, **rest: Any) -> None:
        super().__init__(**rest)
        self.check = check

    def runtest(self) -> None:
        """Run the check, and tell what it found."""
        chosen = [each.check for each in self.session.items if isinstance(each, GateItem)]
        found = self.config.stash[_GATE].run(self.check, chosen)
        if found.verdict == "skip":
            pytest.skip(one_line(found.text))
        if found.verdict in ("fail", "error"):
            raise GateFailed(f"{found.name}: {found.verdict}\n{found.text}")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Show the evidence instead of a traceback."""
        if isinstance(excinfo.value, GateFailed):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Say where the test comes from: what is judged."""
        judged = next(str(found) for name in _JUDGED if (found := self.config.getoption(f"reperio_{name}")))
        return Path(judged), 0, f"reperio gate: {self.check}"


class GateFailed(Exception):
    """A check is red; the message is what it found."""


def _option(name: str) -> str:
    return f"--reperio-{name.replace('_', '-')}"


def _refuse_spaces(config: pytest.Config) -> None:
    """Refuse ``--reperio-kb kb``: pytest looks for its rootdir before it knows the option, and takes kb for tests."""
    for given in config.invocation_params.args:
        if given in map(_option, (*_TEXTS, "header", "timeout", "recall")):
            raise pytest.UsageError(
                f"write {given}=…, with the sign: after a space, pytest takes the value for a folder of tests, looks "
                "for its own settings there and moves the rootdir"
            )


def _in_words_of_pytest(message: str) -> str:
    for name in _OPTIONS:
        message = message.replace(f" {name}=", f" {_option(name)}=")
    return one_line(message)

"""One pytest test per check of the gate: ``pytest --reperio-kb kb --reperio-golden golden.yaml``.

The plugin does nothing unless ``--reperio-kb`` is passed. A check that is skipped is a skipped test; one that could
not run fails, as does a gate that checked nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from reperio.printable import one_line

if TYPE_CHECKING:
    from reperio.evaluation import CheckResult, Subject

# Every run of pytest where Reperio is installed imports what is imported here: the rest waits until it is used.

_GATE = pytest.StashKey["Gate"]()
_NEEDING = ("golden", "baseline", "from_log", "recall")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("reperio", "the gate of a Reperio collection")
    group.addoption("--reperio-kb", metavar="KB", help="the collection to be judged, a directory")
    group.addoption("--reperio-golden", metavar="FILE", help="its golden set, .yaml or .jsonl")
    group.addoption("--reperio-baseline", metavar="FILE", help="what was accepted; next to the golden set by default")
    group.addoption("--reperio-from-log", metavar="FILE", help="real questions, .jsonl or .txt")
    group.addoption("--reperio-recall", metavar="R", type=float, help="knn recall@10 to be reached, 0.95 by default")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse options that lack the collection, which would otherwise be ignored."""
    given = [name for name in _NEEDING if config.getoption(f"reperio_{name}") is not None]
    if given and not config.getoption("reperio_kb"):
        raise pytest.UsageError(f"--reperio-{given[0].replace('_', '-')} needs --reperio-kb")
    if config.getoption("reperio_kb") and config.getoption("numprocesses", None):
        # Checks share what they have asked, time it, and together tell whether anything was checked at all.
        raise pytest.UsageError("--reperio-kb runs in one process; pass -n 0")


def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add one test per check."""
    if config.getoption("reperio_kb"):
        config.stash[_GATE] = Gate(config)
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
    if gate.checked_nothing and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show what the gate warns of, which fails no test, and that nothing was checked, which no test tells."""
    gate = config.stash.get(_GATE, None)
    if gate is None:
        return
    for text in gate.warned:
        terminalreporter.write_line(f"reperio gate, {text}", yellow=True)
    if gate.checked_nothing:
        terminalreporter.write_line("reperio gate: nothing was checked; every check was skipped", red=True)


class Gate:
    """The collection that is judged, open from the first check to the end of the session."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._open = ExitStack()
        self._subject: Subject | None = None
        self._results: list[CheckResult] = []

    def run(self, check: str) -> CheckResult:
        """Run one check; what several look at is seen, asked and measured once."""
        from reperio import evaluation

        if self._subject is None:
            self._subject = self._opened()
        [found] = evaluation.judged(self._subject, only=[check]).checks
        self._results.append(found)
        return found

    def close(self) -> None:
        """Close the collection."""
        self._open.close()

    @property
    def checked_nothing(self) -> bool:
        """True when checks ran, and each was skipped."""
        return bool(self._results) and all(each.verdict.value == "skip" for each in self._results)

    @property
    def warned(self) -> list[str]:
        """The warnings of the checks."""
        from reperio.evaluation.reports import as_text

        return [f"{each.name}: {as_text(each)}" for each in self._results if each.verdict.value == "warn"]

    def _opened(self) -> Subject:
        import reperio
        from reperio import evaluation
        from reperio.query_log import reading as query_log

        def option(name: str) -> Any:
            return self._config.getoption(f"reperio_{name}")

        golden = evaluation.read_golden(option("golden")) if option("golden") else None
        named = option("baseline")
        path = Path(named) if named else evaluation.baseline_path(golden.path) if golden else None
        baseline = evaluation.read_baseline(path) if path is not None and (named or path.exists()) else None
        log = query_log.read_log(Path(option("from_log"))) if option("from_log") else ()
        limits = evaluation.to_limits(golden, recall=option("recall"))
        collection = self._open.enter_context(reperio.open(option("kb"), read_only=True))
        return evaluation.Subject(collection, golden, baseline=baseline, limits=limits, log=log)


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
        found = self.config.stash[_GATE].run(self.check)
        if found.verdict.value == "skip":
            pytest.skip(one_line("; ".join(found.evidence)))
        if found.verdict.value in ("fail", "error"):
            from reperio.evaluation.reports import as_text

            raise GateFailed(f"{found.name}: {found.verdict.value}\n{as_text(found)}")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Show the evidence, or the package's own error, instead of a traceback."""
        from reperio.errors import ReperioError

        if isinstance(excinfo.value, ReperioError):
            return one_line(str(excinfo.value))
        if isinstance(excinfo.value, GateFailed):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Say where the test comes from: the collection."""
        return Path(self.config.getoption("reperio_kb")), 0, f"reperio gate: {self.check}"


class GateFailed(Exception):
    """A check is red; the message is what it found."""

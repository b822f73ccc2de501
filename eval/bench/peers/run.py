"""Measure Reperio next to its peers and write eval/results/peers.json, peers.md and peers.svg.

    make bench-peers                                                       # makes the environment, then the below
    python eval/bench/peers/run.py --work DIR                              # 100,000 rows, all subjects
    python eval/bench/peers/run.py --work DIR --rows 1000000               # grown; some of the subjects
    python eval/bench/peers/run.py --work DIR --subjects zvec reperio    # the others' figures stay as they are
    python eval/bench/peers/run.py --quick                                 # 5,000 rows, printed only: does it run?

Every subject has a process of its own. What was ingested stays in the work folder and is used again; results are
written after every stage. Exit 0 measured (a subject that failed is reported as such), 2 could not measure.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import orjson
from catalogue import ENTRIES, OURS, Entry, choose
from corpus import Corpus, prepare
from driving import (
    Figures,
    Limits,
    Process,
    SubjectFailed,
    block,
    heats,
    ingest,
    open_fresh,
    percentiles,
    require_same,
    running,
    tune,
)
from page import plot, to_markdown

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from measuring import Data, DataMissing, machine  # one folder up, and no package

_ROOT = Path(__file__).resolve().parents[3]
TARGETS = (0.95, 0.99)


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes:
        rounds: interleaved blocks of each subject and setting.
        seconds: about what a block takes.
        opens: fresh processes of each subject and setting.
        questions: held-out questions at most; half of them for tuning.
    """

    rounds: int
    seconds: float
    opens: int
    questions: int


FULL = Scale(rounds=12, seconds=0.5, opens=3, questions=1000)
QUICK = Scale(rounds=2, seconds=0.02, opens=1, questions=100)
QUICK_ROWS = 5000


class Run:
    """One size: the stages, and the results as they come in."""

    def __init__(self, entries: list[Entry], corpus: Corpus, scale: Scale, limits: Limits, write: Callable[[], None]):
        self._entries, self._corpus, self._scale, self._limits = entries, corpus, scale, limits
        self._write = write
        self.subjects: dict[str, Figures] = {}

    def stages(self, budget: float) -> None:
        """Do everything in order; *budget* is the MiB that subjects may have resident at the same time."""
        for entry in self._entries:
            self.subjects[entry.name] = {"parameters": entry.parameters, "durable": entry.durable, **_release(entry)}
        self._each("ingest", self._ingest)
        self._each("tune", self._tune)
        for turn in range(self._scale.opens):
            self._each(f"open {turn + 1}", self._open)
        self._race(budget)

    def _each(self, stage: str, measure: Callable[[Entry, Figures], None]) -> None:
        for entry in self._alive():
            started = time.monotonic()
            try:
                measure(entry, self.subjects[entry.name])
            except SubjectFailed as error:
                self._fail(entry.name, error)
            print(f"{stage}: {entry.name}, {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)
            self._write()

    def _alive(self) -> list[Entry]:
        return [entry for entry in self._entries if "failed" not in self.subjects[entry.name]]

    def _fail(self, name: str, error: SubjectFailed) -> None:
        self.subjects[name]["failed"] = str(error)
        print(f"{name} failed: {error}", file=sys.stderr, flush=True)

    def _folder(self, entry: Entry) -> Path:
        return self._corpus.folder / "subjects" / entry.folder

    def _ingest(self, entry: Entry, found: Figures) -> None:
        folder = self._folder(entry)
        done = folder.with_suffix(".json")  # written last: without it, what is in the folder was cut short
        if entry.shares:
            if not done.exists():
                raise SubjectFailed(f"{entry.shares}, whose files it opens, was not ingested")
        elif not done.exists():
            _remove(folder)
            done.write_bytes(orjson.dumps(ingest(entry, folder, self._corpus, self._limits)))
        found["ingest"] = orjson.loads(done.read_bytes())

    def _tune(self, entry: Entry, found: Figures) -> None:
        with running(entry, self._folder(entry), self._corpus, self._limits) as process:
            process.ask("open", knob=_any_knob(entry))
            require_same(process, self._corpus)
            found |= tune(entry, process, self._corpus, TARGETS)

    def _open(self, entry: Entry, found: Figures) -> None:
        for name, setting in found["settings"].items():
            same = self._same_before(found, name)
            if same is None:
                opened = open_fresh(entry, self._folder(entry), self._corpus, self._limits, setting)
                setting["recall"] = opened["first_pass"]["recall"]
                setting.setdefault("opens", []).append(opened)
            else:
                setting["as"] = same

    @staticmethod
    def _same_before(found: Figures, name: str) -> str | None:
        """Return the setting before this one that has the same knob, so that nothing is measured twice."""
        settings = found["settings"]
        same = [other for other in settings if settings[other]["knob"] == settings[name]["knob"]]
        return None if same[0] == name else str(same[0])

    def _race(self, budget: float) -> None:
        resident = {
            entry.name: max(
                opened["later"]["rss"]
                for setting in self.subjects[entry.name]["settings"].values()
                for opened in setting.get("opens", ())
            )
            for entry in self._alive()
        }
        for number, names in enumerate(heats(resident, [name for name in resident if name.startswith(OURS)], budget)):
            with ExitStack() as stack:
                processes = {}
                for entry in (entry for entry in self._alive() if entry.name in names):
                    process = running(entry, self._folder(entry), self._corpus, self._limits)
                    processes[entry.name] = stack.enter_context(process)
                    try:
                        processes[entry.name].ask("open", knob=_any_knob(entry))
                    except SubjectFailed as error:
                        self._fail(entry.name, error)
                for turn in range(self._scale.rounds):
                    self._round(number, turn, processes)
                    print(f"heat {number + 1}, round {turn + 1}: {len(names)} subjects", file=sys.stderr, flush=True)
                    self._summarise()

    def _round(self, heat: int, turn: int, processes: dict[str, Process]) -> None:
        """Let every subject run a block of each of its settings, in an order that rotates."""
        names = [name for name in processes if "failed" not in self.subjects[name]]
        start = turn % max(1, len(names))
        for name in names[start:] + names[:start]:
            try:
                for setting in self.subjects[name]["settings"].values():
                    if "as" not in setting:
                        expected = setting["opens"][-1]["first_pass"]["p50_us"]
                        done = block(
                            processes[name],
                            self._corpus,
                            setting["knob"],
                            expected_us=expected,
                            turn=turn,
                            seconds=self._scale.seconds,
                        )
                        setting.setdefault("blocks", []).append({"heat": heat, "round": turn, **done})
            except SubjectFailed as error:
                self._fail(name, error)

    def _summarise(self) -> None:
        for found in self.subjects.values():
            for setting in found.get("settings", {}).values():
                blocks = setting.get("blocks", ())
                if blocks:
                    setting["warm"] = {
                        **percentiles([micros for one in blocks for micros in one["micros"]]),
                        "cpu_us": round(statistics.median(one["cpu_us"] for one in blocks), 1),
                        "rate_8": round(statistics.median(one["rate"] for one in blocks)),
                    }
                    setting["rounds"] = [
                        {key: one[key] for key in ("heat", "round")} | percentiles(one["micros"]) for one in blocks
                    ]
        self._write()


def _any_knob(entry: Entry) -> dict[str, object]:
    return {name: values[len(values) // 2] for name, values in entry.knobs.items()}


def _release(entry: Entry) -> Figures:
    try:
        return {"package": entry.package, "release": version(entry.package)}
    except PackageNotFoundError:
        return {"package": entry.package, "release": None}


def _remove(folder: Path) -> None:
    """Remove what a cut ingestion left; only below a folder of subjects, which is the benchmark's own."""
    import shutil

    if folder.exists() and folder.parent.name == "subjects":
        shutil.rmtree(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; return the exit status."""
    options = _parser().parse_args(arguments)
    source = Path(os.environ.get("REPERIO_DATA") or _ROOT.parent / "shared" / "data" / "realq")
    rows = options.rows or (QUICK_ROWS if options.quick else 100_000)
    try:
        entries, data = choose(options.subjects, rows, quick=options.quick), Data(source, rows)
    except (LookupError, DataMissing) as error:
        print(error, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="reperio-peers-") as temporary:
        work = (options.work or Path(temporary)) / (f"quick-{rows}" if options.quick else str(rows))
        data.queries = data.queries[: (QUICK if options.quick else FULL).questions]
        grow = options.grow or source.parent.parent / "tools" / "grow.py"
        try:
            corpus = prepare(work, data, rows, grow)
        except FileNotFoundError as error:
            print(error, file=sys.stderr)
            return 2
        del data
        results = _measure(entries, corpus, options)
    print(to_markdown(results))
    return 0


def _measure(entries: list[Entry], corpus: Corpus, options: argparse.Namespace) -> Figures:
    out = options.out or (None if options.quick else _ROOT / "eval" / "results")
    file = out / "peers.json" if out is not None else None
    results: Figures = orjson.loads(file.read_bytes()) if file is not None and file.exists() else {"sizes": {}}
    results["machine"] = machine()
    rows = str(len(corpus.vectors))
    size = results["sizes"].setdefault(rows, {"subjects": {}})
    size["dimension"] = int(corpus.vectors.shape[1])
    about = {
        "run": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "quick": options.quick,
        "load_before": round(os.getloadavg()[0], 2),
        "note": options.note,
        "questions": len(corpus.questions("measured")[1]),
    }

    def write() -> None:
        for name, found in run.subjects.items():
            size["subjects"][name] = {**about, **_without(found, "blocks")}
        order = [name for name in ENTRIES if name in size["subjects"]]
        size["subjects"] = {name: size["subjects"][name] for name in order}
        if out is not None and file is not None:
            out.mkdir(parents=True, exist_ok=True)
            file.write_bytes(orjson.dumps(results, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
            (out / "peers.md").write_text(to_markdown(results))

    run = Run(entries, corpus, QUICK if options.quick else FULL, Limits(ingest=60 * options.minutes), write)
    run.stages(options.memory * 1024)
    write()
    if out is not None and not plot(results, out / "peers.svg"):
        print("matplotlib is not installed, so peers.svg was not drawn", file=sys.stderr)
    return results


def _without(found: Figures, key: str) -> Figures:
    """Return a subject's figures without what is only needed while measuring."""
    settings = found.get("settings", {}).items()
    return {**found, "settings": {name: {k: v for k, v in one.items() if k != key} for name, one in settings}}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure Reperio next to its peers.")
    parser.add_argument("--rows", type=int, metavar="N", help="100000 by default; beyond that, vectors are grown")
    parser.add_argument("--subjects", nargs="+", metavar="WORD", help="those whose name contains one of the words")
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"{QUICK_ROWS} rows, few questions, one subject of each library: does it run?",
    )
    parser.add_argument("--work", type=Path, metavar="DIR", help="for vectors and what subjects write; kept")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write; default eval/results, unless --quick")
    parser.add_argument("--grow", type=Path, metavar="FILE", help="the script that grows vectors")
    parser.add_argument("--minutes", type=float, default=15, help="most that an ingestion may take (default 15)")
    parser.add_argument(
        "--memory", type=float, default=14, metavar="GIB", help="of all subjects of a heat (default 14)"
    )
    parser.add_argument("--note", default="", help="kept with the figures, e.g. that the machine was shared")
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""The process that opens damaged collections, so that a SIGBUS or SIGSEGV there is a finding and not the end.

Run as ``python -m crash.examiner JOURNAL ORIGINAL SCRATCH`` with one damage per line on standard input (JSON: file,
kind, at, value). Each is done to a fresh copy. The journal gets a line before, and the verdict as JSON after.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

import reperio
from reperio import CheckReport, Collection, CollectionDamaged, CollectionError, InvalidVectors, UnsupportedFormat

from .plan import State, after_operations, scripted_operations
from .verification import check_answers


def damaged_state() -> State:
    """Return what the collection that is damaged holds: replaced and deleted chunks among the others."""
    return after_operations({}, scripted_operations()[:5])


def main(journal: str, original: str, scratch: str) -> None:
    """Examine one damage per line of standard input."""
    with open(journal, "w") as out:
        for line in sys.stdin:
            print(line.strip(), file=out, flush=True)
            damage = json.loads(line)
            shutil.rmtree(scratch, ignore_errors=True)
            shutil.copytree(original, scratch)
            inflict(Path(scratch), **damage)
            verdicts = [examine(Path(scratch), read_only=read_only) for read_only in (True, False)]
            print(json.dumps({"verdicts": verdicts}), file=out, flush=True)


def inflict(root: Path, *, file: str, kind: str, at: int, value: int) -> None:
    """Flip bits of the byte at *at*, cut the file there, or remove it."""
    (path,) = root.glob(file)
    if kind == "remove":
        path.unlink()
    elif kind == "truncate":
        with open(path, "r+b") as opened:
            opened.truncate(at)
    else:
        content = bytearray(path.read_bytes())
        content[at] ^= value
        path.write_bytes(content)


def examine(path: Path, *, read_only: bool) -> dict[str, Any]:
    """Open, check and search.

    Returns:
        verdict: "refused" (at opening), "reported" (by `check`), or "intact" (everything as it was stored); message;
        warned: whether a `ReperioWarning` told of an index.

    Anything else is an exception, and the end of this process: a wrong answer that `check` does not know of, an
    exception that is none of Reperio's.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            kb = reperio.open(path, read_only=read_only)
        except (CollectionDamaged, UnsupportedFormat) as error:
            return {"verdict": "refused", "message": str(error), "warned": False}
        with kb:
            report = _report(kb)
            if report.ok:
                check_answers(kb, damaged_state())
                assert {chunk.id for chunk in kb} == damaged_state().keys()
            else:
                _use(kb)
    warned = any(issubclass(warning.category, reperio.ReperioWarning) for warning in caught)
    verdict = "intact" if report.ok else "reported"
    return {"verdict": verdict, "message": "; ".join(map(str, report.problems)), "warned": warned}


def _report(kb: Collection) -> CheckReport:
    try:
        return kb.check()
    except CollectionDamaged as error:
        return CheckReport([str(error)], 0)


def _use(kb: Collection) -> None:
    """Use what is known to be damaged: it may refuse, in words, and must not break."""
    for chunk_id, item in damaged_state().items():
        for work in (lambda key=chunk_id: kb.get(key), lambda made=item: kb.search(vector=made.vector, k=3), kb.count):
            # InvalidVectors: the dimension in collection.json is another one now.
            with contextlib.suppress(CollectionError, InvalidVectors):
                work()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The process that is killed: it works through a plan and writes down what was acknowledged.

Forked from the nursery with JOURNAL COLLECTION PLAN SEED FIRST STOP AUTO. Each line of the journal is one
``os.write``, which no SIGKILL can take back: ``ready``, ``begin N`` before operation N, ``ack N STEPS`` after each
step of it, ``done N``. An operation that raises is no crash: the traceback goes to standard error, the exit status
is 1.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

import reperio
from reperio import Chunk, Collection

from . import plan


def main(journal: str, path: str, name: str, seed: str, first: str, stop: str, auto: str) -> None:
    """Do the operations FIRST to STOP - 1 of a plan; COLLECTION is created when it is not there."""
    descriptor = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def note(line: str) -> None:
        os.write(descriptor, f"{line}\n".encode())

    operation_at = {"random": plan.random_operation, "scripted": plan.scripted}[name]
    note("ready")
    kb = _open(path, auto)
    note("open")
    for n in range(int(first), int(stop)):
        operation = operation_at(int(seed), n)
        note(f"begin {n}")
        if operation.kind == "reopen":
            kb.close()
            kb = _open(path, auto)
        else:
            run(kb, operation, Path(path), lambda steps, n=n: note(f"ack {n} {steps}"))
        note(f"ack {n} {operation.steps}")
        note(f"done {n}")
    kb.close()
    note("closed")


def _open(path: str, auto: str) -> Collection:
    return reperio.open(path, dimension=plan.DIMENSION, auto_optimize=auto == "auto")


def run(kb: Collection, operation: plan.Operation, path: Path, acknowledge: plan.Acknowledge) -> None:
    """Do one operation on an open collection; *acknowledge* is called for each step of an add."""
    if operation.kind == "add":
        chunks = [Chunk(key, item.text, item.metadata) for key, item in operation.items]
        vectors = np.stack([item.vector for _, item in operation.items])
        kb.add(
            chunks,
            vectors=vectors,
            batch_size=operation.batch,
            progress=lambda _stage, done, _total: acknowledge(-(-done // operation.batch)),
        )
    elif operation.kind == "delete":
        kb.delete(ids=operation.ids)
    elif operation.kind == "delete_where":
        kb.delete(where={"version": {"$lt": operation.before}})
    else:
        _whole(kb, operation, path)


def _whole(kb: Collection, operation: plan.Operation, path: Path) -> None:
    if operation.kind == "optimize":
        try:
            kb.optimize(index=operation.index)
        except reperio.IndexBuildFailed:
            if kb.count() >= 16:  # fewer cannot train 16 centroids, and the history may have deleted almost all
                raise
    elif operation.kind == "compact":
        kb.compact()
    elif operation.kind == "reembed":
        kb.reembed(plan.Model(operation.model))
    elif operation.kind == "backup":
        target = path.with_name(path.name + ".backup")
        if not target.exists():
            kb.backup(target)
    elif operation.kind == "increment":
        kb.backup(path.with_name(path.name + ".increments"), incremental=True, keep=plan.KEPT)
    else:
        raise ValueError(operation.kind)

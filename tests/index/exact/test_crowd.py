import os
import threading
from typing import Any

import numpy as np
import pytest

from reperio.index.exact import exhaustive
from reperio.index.exact.crowd import Crowd
from reperio.index.exact.exhaustive import Among, candidates
from reperio.index.exact.scoring import best_rows
from reperio.types import Metric


def test_threads_that_meet_are_a_crowd_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also between their visits, and no longer when one is alone again."""
    now = 100.0
    monkeypatch.setattr("reperio.index.exact.crowd.time.monotonic", lambda: now)
    crowd, entered, leave = Crowd(), threading.Event(), threading.Event()

    def visit() -> None:
        with crowd:
            entered.set()
            leave.wait(60)

    with crowd:
        assert not crowd.is_there()
        other = threading.Thread(target=visit)
        other.start()
        assert entered.wait(60)
        assert crowd.is_there()
        leave.set()
        other.join()
        assert crowd.is_there()
    now += 0.2
    with crowd:
        assert not crowd.is_there()


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("first", [0, 13])
def test_in_a_crowd_the_same_rows_are_found(
    metric: Metric, dtype: str, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another order of adding changes last bits, and no row that is among the best is lost by it."""
    rng = np.random.default_rng(5)
    matrix: Any = rng.standard_normal((700, 24))
    matrix[300:340] = matrix[10]  # equal, and so in doubt
    if metric is Metric.COSINE:
        matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    matrix = matrix.astype(dtype)
    queries = np.concatenate([matrix[10:11], rng.standard_normal((6, 24))]).astype(np.float32)
    among = Among(matrix, metric, first)

    def found(query: Any) -> list[int]:
        (rows,) = candidates(among, query, 5)
        return list(best_rows(matrix, [rows], query, 5, metric)[0])

    alone = [found(query[None]) for query in queries]
    monkeypatch.setattr(exhaustive, "_WAKES_ALL", 0)
    monkeypatch.setattr(exhaustive._crowd, "_until", float("inf"))
    assert [found(query[None]) for query in queries] == alone


def test_a_forked_child_is_alone() -> None:
    """Threads that were inside in the parent, one with the lock, are not there."""
    crowd = Crowd()
    crowd._lock.acquire()
    crowd._inside, crowd._until = 5, float("inf")
    child = os.fork()
    if child == 0:  # no assertion may reach pytest's own process a second time
        with crowd:
            os._exit(int(crowd.is_there()))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

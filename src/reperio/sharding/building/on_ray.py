"""Run tasks on Ray, which places, starts and restarts them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar

from reperio.errors import ReperioError, ShardBuildFailed
from reperio.optional import OptionalImport
from reperio.sharding.reaching import require_reachable

Task = TypeVar("Task")
Result = TypeVar("Result")

_LEAST_AHEAD = 16  # tasks that are handed to Ray and have not ended
_STORE = 100 << 20  # bytes of the object store of a Ray that is started here: tasks carry names, no vectors


def run_on_ray(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    *,
    resources: Mapping[str, Any] | None = None,
    workers: int | None = None,
) -> Iterator[Result]:
    """Run a function over tasks in the Ray cluster that this program is connected to; yield results as they come.

    Args:
        function: pure, and importable on every host.
        tasks: pickled one by one.
        resources: of each task, as ``ray.remote`` takes them: ``{"num_gpus": 0.25}``; by default one CPU.
        workers: CPUs of a Ray that is started on this host, where the program is connected to none and RAY_ADDRESS
            names none; None for all.

    Raises:
        ReperioError: as the function has raised it; what other tasks have made stays.
        ShardBuildFailed: Ray has lost the workers of a task again and again.
        MissingDependency: Ray is not installed.
    """
    with connected(workers) as ray:
        remote = ray.remote(_call).options(**(dict(resources) if resources else {"num_cpus": 1}))
        # Not all at once: each carries the settings, and what waits is held in memory.
        ahead = max(_LEAST_AHEAD, 2 * int(ray.cluster_resources().get("CPU", 1)))
        waiting = iter(tasks)
        pending = [remote.remote(function, task) for task in islice(waiting, ahead)]
        try:
            while pending:
                done, pending = ray.wait(pending, num_returns=1)
                pending += [remote.remote(function, task) for task in islice(waiting, 1)]
                yield _result(ray, done[0])
        finally:
            for each in pending:
                ray.cancel(each, force=True)


@contextmanager
def connected(workers: int | None) -> Iterator[Any]:
    """Yield Ray, connected: as this program is, or to the cluster that RAY_ADDRESS names, or to one that is started.

    Args:
        workers: CPUs of one that is started on this host, and ended afterwards; None for all.

    Raises:
        MissingDependency: Ray is not installed.
        ShardBuildFailed: there is no cluster at RAY_ADDRESS.
    """
    with OptionalImport("building shards", "ray", extra="ray", instead="pass map=, of a process pool, say"):
        import ray
    if ray.is_initialized():
        yield ray
        return
    address = os.environ.get("RAY_ADDRESS")
    own = {"num_cpus": workers, "object_store_memory": _STORE, "include_dashboard": False}
    try:
        require_reachable(address)
        # Its own log of what it does is for whoever runs the cluster.
        ray.init(address=address or "local", log_to_driver=False, logging_level="ERROR", **({} if address else own))
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ShardBuildFailed(
            f"Ray cannot be used at {address or 'this host'}: {error!s:.300}; start it with: ray start --head, or name "
            "another cluster with RAY_ADDRESS"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _call(function: Callable[[Task], Result], task: Task) -> Result:
    """Call what `ray.remote` does not take itself: a partial, or an object."""
    return function(task)


def _result(ray: Any, reference: Any) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ReperioError):
            raise error.cause from None
        raise ShardBuildFailed(
            f"a task of the build has failed; the same build goes on when it is run again: {error}"
        ) from error
    except ray.exceptions.RayError as error:
        raise ShardBuildFailed(
            f"Ray has lost a task of the build again and again, as where hosts are short of memory "
            f"({type(error).__name__}); the same build goes on when it is run again"
        ) from error

"""Run tasks by what a caller passes as *map*, and hold it to bring the result of each."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias, TypeVar

from reperio.arguments import is_iterable
from reperio.errors import InvalidInput

Result = TypeVar("Result")
Run: TypeAlias = Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]
"""Applies a function to each task, in any order and in any processes, and returns the results."""

_CURE = "it is called as map(function, tasks), and returns what the function returns for each task"


def require_map(run: Any) -> None:
    """Refuse, before anything is done, what cannot be called."""
    if run is not None and not callable(run):
        raise InvalidInput(f"map is {run!r:.60}; {_CURE}, as ProcessPoolExecutor().map does")


def results(
    run: Run | None,
    function: Callable[[Any], Result],
    tasks: Sequence[Any],
    kind: type[Result],
    of: Callable[[Result], Hashable],
) -> Iterator[Result]:
    """Yield the results as they come; without *run*, those of this process.

    A result that is missing would be a shard that nobody has written, checked or copied. So all of them must be there.

    Args:
        run: of the caller.
        function: that is applied.
        tasks: to which.
        kind: what the function returns.
        of: says of a result which task it is of.

    Raises:
        InvalidInput: *run* has not brought one result for each task, or brings something else, as futures.
    """
    number, seen = 0, set[Hashable]()
    found = map(function, tasks) if run is None else run(function, tasks)
    if not is_iterable(found):
        raise InvalidInput(f"map has returned {found!r:.60}, no results; {_CURE}")
    for number, result in enumerate(found, start=1):
        if not isinstance(result, kind):
            raise InvalidInput(f"map has returned {result!r:.60} for a result; {_CURE}, not a promise of it")
        if number > len(tasks):
            break
        if of(result) in seen:  # and so none for another task
            raise InvalidInput(f"map has returned two results for the task {of(result)}; {_CURE}, once")
        seen.add(of(result))
        yield result
    if number != len(tasks):
        more = "more" if number > len(tasks) else str(number)
        raise InvalidInput(f"map has returned {more} results of {len(tasks)} tasks; {_CURE}")

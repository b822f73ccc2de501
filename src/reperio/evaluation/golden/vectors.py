"""Questions as vectors: in a golden set, or in an array next to it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reperio.errors import InvalidInput
from reperio.evaluation.golden.marked import Marked
from reperio.evaluation.limits import is_number
from reperio.layout import open_regular, reason
from reperio.vectors import load_array

_DIMENSIONS = 65_536  # of a vector, at most


def to_vector(entry: Marked) -> tuple[float, ...] | None:
    """Return the vector of an entry, or refuse it; None where it has none."""
    what = "must be a list of finite numbers"
    found = entry.required(
        "vector", None, lambda given: isinstance(given, list) and 0 < len(given) <= _DIMENSIONS, what
    )
    if found is None:
        return None
    if not all(map(is_number, found)):
        raise entry.wrong("vector", what)
    return tuple(map(float, found))


def read_vectors(settings: Marked, own: Sequence[tuple[float, ...] | None]) -> list[tuple[float, ...] | None]:
    """Return the questions' vectors: *own*, or those of the array that ``vectors`` names, a row each.

    Raises:
        InvalidInput: it is no array of one finite vector per question; or questions have vectors of their own as well,
            or of several lengths.
    """
    lengths = sorted({len(each) for each in own if each is not None})
    if len(lengths) > 1:
        raise InvalidInput(f"{settings.path}: the vectors of questions have the lengths {lengths[0]} and {lengths[-1]}")
    name = settings.required("vectors", None, lambda given: isinstance(given, str) and bool(given), "must be a path")
    if name is None:
        return list(own)
    if lengths:
        raise settings.wrong("vectors", "has the vectors of all questions, and some have a vector of their own as well")
    array = _read(settings, settings.path.parent / Path(name))
    if array.shape[0] != len(own):
        raise settings.wrong("vectors", f"has {array.shape[0]:,} rows for {len(own):,} questions; one each")
    return [tuple(row) for row in array.tolist()]


def _read(settings: Marked, path: Path) -> Any:
    try:
        with open(open_regular(path, follow=True), "rb") as file:
            found = load_array(file)
    except OSError as error:
        raise settings.wrong("vectors", f"cannot be read: {reason(error)}") from error
    except (ValueError, EOFError) as error:
        # numpy's own message names a way to load objects, which a stranger's file must not be given.
        why = "" if "pickle" in str(error) else f" ({error!s:.120})"
        raise settings.wrong("vectors", f"is no array of numbers, as numpy saves it{why}") from None
    if not isinstance(found, np.ndarray) or found.ndim != 2 or found.dtype.kind not in "fiu" or not found.shape[1]:
        raise settings.wrong("vectors", "must be one array of numbers (n, d), a row per question")
    if not np.isfinite(found).all():
        raise settings.wrong("vectors", "holds numbers that are not finite")
    return found.astype(np.float32)

"""Pack 4-bit codes as FAISS scans them, 32 at once, and keep them with the codes in one file.

Packing a million codes takes longer than everything else before a first answer; reading them back is a copy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from reperio.index.library.loading import innermost, load_faiss, threads, transforms, type_names
from reperio.types import Rows

BLOCK = 32  # codes compared at once


def holds_codes(index: Any) -> bool:
    """Say whether an index is FAISS's `IndexPQ` with 4 bits, behind transforms or not, whose codes are all there."""
    if not _is_plain(index, "IndexPQ"):
        return False
    inner = innermost(index)
    return bool(inner.pq.nbits == 4 and inner.codes.size() == index.ntotal * inner.code_size)


def holds_packed(copies: Any, index: Any) -> bool:
    """Say whether an index holds copies of codes that are packed as `packed` does it.

    FAISS believes every field of a file, and scans as far as they say.

    Args:
        copies: of the same rows, dimension and metric as *index*.
        index: see `holds_codes`.
    """
    if not _is_plain(copies, "IndexPQFastScan"):
        return False
    inner, plain = innermost(copies), innermost(index)
    parts, rows = plain.pq.M, BLOCK * -(-index.ntotal // BLOCK)
    pairs = 2 * -(-parts // 2)
    found = inner.bbs, inner.implem, inner.qbs, inner.M, inner.M2, inner.nbits, inner.code_size, inner.ntotal2
    fits = found == (BLOCK, 0, 0, parts, pairs, plain.pq.nbits, plain.code_size, rows)
    return fits and inner.codes.size() == rows * pairs // 2


def _is_plain(index: Any, kind: str) -> bool:
    return type_names(index) in ([kind], ["IndexPreTransform", kind])


def codes_in(index: Any) -> npt.NDArray[np.uint8]:
    """Return the codes of an index that `holds_codes`, (rows, bytes): a view of memory that is FAISS's own."""
    inner, rows = innermost(index), int(index.ntotal)
    size = int(inner.code_size)
    view: npt.NDArray[np.uint8] = load_faiss().rev_swig_ptr(inner.codes.data(), rows * size).reshape(rows, size)
    return view


def packed(index: Any, rows: Rows | None = None) -> Any:
    """Return a fast-scan index with packed copies of the codes of *rows*, in that order, or of all.

    Args:
        index: see `holds_codes`. Its transforms are shared.
        rows: int64 (n,); None for all, whose codes are not copied before they are packed.
    """
    faiss, plain = load_faiss(), innermost(index)
    if rows is not None:
        inner, plain = plain, faiss.IndexPQ(plain.d, plain.pq.M, 4, plain.metric_type)
        plain.pq, plain.is_trained, plain.ntotal = inner.pq, True, len(rows)
        faiss.copy_array_to_vector(codes_in(index).take(rows, axis=0).ravel(), plain.codes)
    with threads(1):
        made: Any = faiss.IndexPQFastScan(plain, BLOCK)
    steps = transforms(index)
    if steps:
        made = faiss.IndexPreTransform(made)
        for step in reversed(steps):
            made.prepend_transform(step)
    return made


def with_packed(index: Any) -> Any:
    """Return the index that is written for codes: they, and packed copies of all of them."""
    return load_faiss().IndexRefine(packed(index), index)


def taken_apart(index: Any) -> tuple[Any, Any | None]:
    """Return the codes of an index that was written, and their packed copies; None where it has none."""
    if type(index).__name__ != "IndexRefine":
        return index, None
    faiss = load_faiss()
    codes, copies = (faiss.downcast_index(part) for part in (index.refine_index, index.base_index))
    for part in (codes, copies):
        part.referenced_objects = [index]  # which owns both
    return codes, copies


def empty(copies: Any) -> None:
    """Free the memory of packed codes that nobody uses, where the codes themselves are still in use."""
    # FAISS's Python wrapper cannot take a part away from an index that owns it: see `scanning`.
    inner = innermost(copies)
    inner.codes.resize(0)
    inner.ntotal = 0

"""Map an index file instead of copying it: it is there at once, and all processes that search it share its pages.

FAISS takes the links of a graph, the codes and the vectors from the mapping where they lie. What it keeps in other
containers (the codes of a fast scan, the levels of a graph) it copies. Results are the same to the bit.
"""

from __future__ import annotations

import mmap
import os
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from reperio.index.library.huge_pages import advise_huge
from reperio.index.library.loading import load_faiss

Bytes = npt.NDArray[np.uint8]


def map_file(file: BinaryIO, size: int) -> Bytes | None:
    """Map an open file, read-only; None where it is shorter than *size*, or the system cannot."""
    # FAISS's own way to map (IO_FLAG_MMAP_IFC) takes a path, so that it might map another file than the one that was
    # verified, does not notice that it failed, and asks for single pages.
    try:
        mapped = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
    except (OSError, ValueError):
        return None
    view = np.frombuffer(mapped, dtype=np.uint8)
    advise_huge(view.ctypes.data, size)
    return view


def forget_pages(descriptor: int) -> None:
    """Take a file that is on disk out of the page cache, so that whoever maps it next reads it in huge pages.

    What was written is seldom kept in such: of 470 MB two thirds, and searches took a tenth longer. The first reader
    verifies what the disk has, not what was meant to be there.
    """
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def index_in(view: Bytes, flags: int) -> Any:
    """Return the index that lies in a mapped file; it keeps the mapping.

    Raises:
        RuntimeError: FAISS cannot read it.
    """
    faiss = load_faiss()
    index = faiss.read_index(faiss.ZeroCopyIOReader(faiss.swig_ptr(view), len(view)), flags)
    # What FAISS has of it are mere pointers. This is the attribute in which its wrapper keeps what an index points to.
    index.referenced_objects = [view]
    return index

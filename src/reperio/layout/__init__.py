"""The directory of a collection: paths, CURRENT, atomic replacement, locks, the format version.

::

    kb/
      CURRENT                   the generation in use, one line, replaced atomically
      LOCK                      the flock of whoever commits; its text names the holder, its mark says when others did
      MAINTENANCE               the flock of whoever builds an index or rewrites the collection
      gen-000001/
        collection.json         format version, metric, dimension, words, embedding contract: written once, the
                                contract of a collection created without embedder at its first add by text
        chunks.db               SQLite: the commit point
        vectors.f32             row r at byte r·d·4; vectors.f16, at byte r·d·2, where float16 was asked for
        index/snapshot-….faiss  derived, immutable
        index/snapshot-….symqg  a graph that belongs to it, the same
"""

from reperio.layout.creating import finish_creation, new_directory, require_vacant, strangers_in
from reperio.layout.identity import Opened, OpenFile
from reperio.layout.lock import FileLock
from reperio.layout.names import (
    BUILDING,
    QUERIES,
    is_build,
    is_generation,
    is_graph,
    is_snapshot,
    is_stored,
    snapshot_file,
)
from reperio.layout.paths import (
    DTYPES,
    FIRST_GENERATION,
    FORMAT_VERSION,
    LEXICAL,
    Generation,
    Layout,
    read_settings,
    require_plain_database,
    write_settings,
)
from reperio.layout.regular import (
    copy_regular,
    is_directory,
    is_regular,
    is_there,
    open_regular,
    read_regular,
    reason,
    require_absent_or_directory,
    require_absent_or_regular,
    require_regular,
)
from reperio.layout.temporary import IN_MEMORY, PrivateDirectory
from reperio.layout.writing import (
    create_file,
    make_directory,
    require_outside,
    require_path,
    storage_errors,
    storage_failure,
    sync_directory,
    sync_file,
    write_atomically,
)
from reperio.types import Dtype, Lexical

__all__ = [
    "BUILDING",
    "DTYPES",
    "FIRST_GENERATION",
    "FORMAT_VERSION",
    "IN_MEMORY",
    "LEXICAL",
    "QUERIES",
    "Dtype",
    "FileLock",
    "Generation",
    "Layout",
    "Lexical",
    "OpenFile",
    "Opened",
    "PrivateDirectory",
    "copy_regular",
    "create_file",
    "finish_creation",
    "is_build",
    "is_directory",
    "is_generation",
    "is_graph",
    "is_regular",
    "is_snapshot",
    "is_stored",
    "is_there",
    "make_directory",
    "new_directory",
    "open_regular",
    "read_regular",
    "read_settings",
    "reason",
    "require_absent_or_directory",
    "require_absent_or_regular",
    "require_outside",
    "require_path",
    "require_plain_database",
    "require_regular",
    "require_vacant",
    "snapshot_file",
    "storage_errors",
    "storage_failure",
    "strangers_in",
    "sync_directory",
    "sync_file",
    "write_atomically",
    "write_settings",
]

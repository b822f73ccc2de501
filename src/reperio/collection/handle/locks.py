"""The two locks by which the writers of a collection take turns."""

from __future__ import annotations

from reperio import layout


class Locks:
    """The two locks of a collection that is written: for a commit, and for building an index or rewriting it all.

    Args:
        root: the directory.
        timeout: seconds to wait for another process.
        exclusive: keep the first for as long as the handle is open, so that no other handle writes.

    Attributes:
        writers: held for each commit, or for as long as the handle is open.
        builders: held while an index is built or the collection rewritten; whoever has it may wait for a turn.
    """

    def __init__(self, root: layout.Layout, *, timeout: float, exclusive: bool) -> None:
        self.timeout = timeout
        self.exclusive = exclusive
        purpose = "which has opened it with exclusive=True" if exclusive else "which is writing"
        cure = "wait, or end that process; searches go on meanwhile, also through read_only=True"
        self.writers = layout.FileLock(root.lock, purpose=purpose, cure=cure)
        self.builders = layout.FileLock(
            root.maintenance, purpose="which is building an index or rewriting it", cure="wait, or end that process"
        )
        if exclusive:
            self.writers.acquire(timeout)
            self.writers.lasting = True

    def close(self) -> None:
        """Give both back."""
        self.builders.close()
        self.writers.close()

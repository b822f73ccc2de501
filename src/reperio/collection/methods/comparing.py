"""Compare the chunks of a collection with each other."""

from __future__ import annotations

from collections.abc import Iterator

from typing_extensions import Never

from reperio.arguments import refuse_unknown
from reperio.collection.duplicates import DuplicateGroup, DuplicatePair, Keep, groups, near_pairs, to_keep, to_threshold
from reperio.collection.handle.handle import Handle
from reperio.collection.handle.scope import Where
from reperio.collection.methods.naming import methods_of_collection
from reperio.collection.methods.twins import twin
from reperio.errors import InvalidInput
from reperio.types import Progress


@methods_of_collection
class Comparing:
    """The methods that find chunks which say the same."""

    _handle: Handle

    def duplicates(
        self,
        threshold: float | None = None,
        *,
        by: str = "vector",
        keep: Keep = "oldest",
        where: Where = None,
        progress: Progress | None = None,
        **unknown: Never,
    ) -> list[DuplicateGroup]:
        """Find chunks that say the same, and return one group for each chunk that stands for others.

        The chunks are looked at in the order of the rule. Each is kept, unless it reaches the threshold with one that
        is kept: the first such stands for it. No pair is missed, whatever index there is, and scores are exact.
        100,000 chunks take some 25 s of processor time, ten times as many up to a hundred times that. Memory: some 500
        bytes a chunk.

        Args:
            threshold: least score of a duplicate, as of `Hit`: a cosine, 0.95 by default; an inner product, which grows
                with the lengths of the vectors; under l2 minus the squared distance, 0 for equal vectors.
            by: "vector", or "text": the same text, apart from case, white space and the composition of accents; chunks
                without a text are compared with none.
            keep: "oldest", "newest", by when a chunk was last written, or "longest", by characters of its text.
            where: only among chunks that match, as in `search`.
            progress: called as ``progress("compare", chunks compared, all)``.

        Returns:
            Groups in the order of the rule, with the ids of one committed state. Deleting all *duplicates* leaves a
            chunk that is near enough for each of them.

        Raises:
            InvalidInput: a threshold that no score can reach, or that is missing under this metric.
            CollectionDamaged: a chunk of a group is not what was stored, by its checksum.
        """
        refuse_unknown(Comparing.duplicates, unknown)
        self._handle.require_open()
        if by not in ("vector", "text"):
            raise InvalidInput(f"by is {by!r:.80}; pass 'vector' or 'text'")
        if by == "text" and threshold is not None:
            raise InvalidInput("threshold= is for by='vector': texts are the same or not; leave it out")
        least = None if by == "text" else to_threshold(threshold, self._handle.settings().metric)
        tree = self._handle.scope.narrowed(where)
        with self._handle.traced("duplicates"):
            return groups(self._handle, tree, threshold=least, keep=to_keep(keep), progress=progress)

    def duplicate_pairs(
        self,
        threshold: float | None = None,
        *,
        where: Where = None,
        progress: Progress | None = None,
        **unknown: Never,
    ) -> Iterator[DuplicatePair]:
        """Yield all pairs of chunks whose vectors reach a threshold, as they are found.

        None is missed, and memory does not grow with their number. The iteration holds a read transaction, as one over
        the chunks does.

        Args:
            threshold, where, progress: as in `duplicates`.

        Raises:
            InvalidInput, CollectionDamaged: as `duplicates` does.
        """
        refuse_unknown(Comparing.duplicate_pairs, unknown)
        self._handle.require_open()
        least = to_threshold(threshold, self._handle.settings().metric)
        return near_pairs(self._handle, self._handle.scope.narrowed(where), threshold=least, progress=progress)

    aduplicates = twin(duplicates)

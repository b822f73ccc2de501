"""Keep the vectors of the last questions: one that is asked again is not embedded again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from reperio.embedding.contract import embed
from reperio.forks import ForkSafeLock
from reperio.types import Embedder, FloatMatrix, Metric

_MOST_QUESTIONS = 256
_LONGEST = 4096  # characters of a question that is kept
_MOST_NUMBERS = 4 << 20  # in all vectors kept, 16 MiB: a vector may have 65,536

_Origin = tuple[Embedder, str, Metric]


class KnownQuestions:
    """The vectors of the last questions, of one embedder with one prompt; another one empties it.

    Threads may share it. Nothing is kept of an embedder that has raised.
    """

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._origin: _Origin | None = None
        self._vectors: OrderedDict[str, FloatMatrix] = OrderedDict()

    def embed(self, embedder: Embedder, questions: Sequence[str], metric: Metric) -> FloatMatrix:
        """Return the vectors of questions, float32 (n, d), which are the caller's own; raise what `embed` raises."""
        origin = embedder, str(getattr(embedder, "query_prompt", "") or ""), metric
        known = self._known(origin, questions)
        if len(known) < len(set(questions)):
            new = [question for question in dict.fromkeys(questions) if question not in known]
            made = embed(embedder, new, metric, queries=True)
            fresh = dict(zip(new, made.copy(), strict=True))
            self._keep(origin, fresh)
            known |= fresh
        return np.stack([known[question] for question in questions]) if questions else _none(embedder)

    def _known(self, origin: _Origin, questions: Sequence[str]) -> dict[str, FloatMatrix]:
        with self._lock:
            if not self._is_of(origin):
                return {}
            found = {question: self._vectors[question] for question in questions if question in self._vectors}
            for question in found:
                self._vectors.move_to_end(question)
            return found

    def _keep(self, origin: _Origin, fresh: dict[str, FloatMatrix]) -> None:
        with self._lock:
            if not self._is_of(origin):
                self._origin = origin
                self._vectors.clear()
            for question, vector in fresh.items():
                if len(question) <= _LONGEST and vector.size <= _MOST_NUMBERS:
                    self._vectors[question] = vector
                while len(self._vectors) > min(_MOST_QUESTIONS, _MOST_NUMBERS // vector.size):
                    self._vectors.popitem(last=False)

    def _is_of(self, origin: _Origin) -> bool:
        # The very same object: of two embedders of one name, one may have been changed since.
        return self._origin is not None and self._origin[0] is origin[0] and self._origin[1:] == origin[1:]


def _none(embedder: Embedder) -> FloatMatrix:
    return np.empty((0, embedder.dimension), dtype=np.float32)

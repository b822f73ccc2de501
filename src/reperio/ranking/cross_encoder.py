"""Reranking by a model that reads query and text together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

from reperio import forks
from reperio.errors import InvalidInput, RerankerFailed
from reperio.model_loading import loading
from reperio.optional import OptionalImport


class CrossEncoderReranker:
    """A `Reranker` on sentence-transformers' ``CrossEncoder``.

    Scores are the model's logits, without limits. The sigmoid that sentence-transformers puts on top by default keeps
    the order except at its ends, where float32 has it make 1.0 of everything above 17, and equals of what was not.

    Args:
        name: a cross-encoder's name on the hub, or a local path, for which no hub is asked.
        revision: of the model on the hub.
        device: "cpu", "cuda", …; default: what sentence-transformers chooses.
        precision: "float32", or "bfloat16", which is quicker where the processor has instructions for it and rounds
            logits to three digits; texts that become equal stay in the order of retrieval.
        max_length: tokens of query and text together; the model does not see what lies beyond. Default: the model's
            own limit.
        batch_size: pairs per forward pass; the pairs of all queries are sorted by length first, so that little is
            padding.

    Raises:
        MissingDependency: sentence-transformers is not installed.
        RerankerFailed: the model cannot be loaded, or is none that gives one score per pair: a model without a trained
            head, such as an embedding model, would be given a random one, and a classifier has several.
        InvalidInput: a batch_size or max_length below 1, or an unknown precision.

    Remote code in a model is never trusted (``trust_remote_code=False``).
    """

    def __init__(
        self,
        name: str,
        *,
        revision: str | None = None,
        device: str | None = None,
        precision: Literal["float32", "bfloat16"] = "float32",
        max_length: int | None = None,
        batch_size: int = 32,
    ) -> None:
        if batch_size < 1 or (max_length is not None and max_length < 1):
            raise InvalidInput(f"batch_size {batch_size}, max_length {max_length}: both count from 1")
        if precision not in ("float32", "bfloat16"):
            raise InvalidInput(f"precision {precision!r}: choose 'float32' or 'bfloat16'")
        self.name = str(name)
        self._batch_size = batch_size
        self._lock = forks.ForkSafeLock()  # tokenizers refuse to be used by two threads at once
        self._model = _load(self.name, revision, device, max_length)
        _refuse_without_head(self._model, self.name)
        if precision == "bfloat16":
            import torch

            self._model.to(torch.bfloat16)

    @property
    def max_length(self) -> int:
        """Longest pair in tokens, special tokens included."""
        # Renamed in sentence-transformers 6; the old name warns from then on.
        return int(getattr(self._model, "max_seq_length", None) or self._model.max_length)

    def score(self, queries: Sequence[str], texts: Sequence[Sequence[str]]) -> list[list[float]]:
        """Return the logits of each query's texts; see `Reranker.score`."""
        from torch.nn import Identity

        pairs = [(query, text) for query, its in zip(queries, texts, strict=True) for text in its]
        if not pairs:
            return [[] for _ in queries]
        forks.spare_torch()
        with self._lock:
            logits = self._model.predict(
                pairs, batch_size=self._batch_size, show_progress_bar=False, activation_fn=Identity()
            ).tolist()
        ends = list(accumulate(len(its) for its in texts))
        return [logits[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _load(name: str, revision: str | None, device: str | None, max_length: int | None) -> Any:
    own = "bring your own: CallableReranker(function)"
    with OptionalImport(f"the reranker {name!r}", "sentence-transformers", extra="sentence-transformers", instead=own):
        from sentence_transformers import CrossEncoder
    cure = (
        "Give the path of a folder that CrossEncoder.save_pretrained has written, or, where a hub is reachable, a name "
        "on it"
    )
    # Not reported: about a head without weights we raise ourselves.
    with loading(f"the cross-encoder {name!r}", RerankerFailed, cure, reported=False):
        return CrossEncoder(
            name, revision=revision, device=device, max_length=max_length, trust_remote_code=False,
            local_files_only=Path(name).exists(),
        )  # fmt: skip


def _refuse_without_head(model: Any, name: str) -> None:
    inner = model.model
    declared = (inner.config.architectures if inner is not None else None) or []
    if inner is not None and type(inner).__name__ not in declared:
        # transformers only warns, and every score would be that of a random head.
        raise RerankerFailed(
            f"{name!r} is no cross-encoder: its files hold {', '.join(declared) or 'no named architecture'}, to which "
            f"{type(inner).__name__} adds a head that was never trained; choose a cross-encoder, or, to rerank by an "
            "embedding model, LateInteractionReranker"
        )
    if model.num_labels != 1:
        raise RerankerFailed(
            f"{name!r} gives {model.num_labels} scores per pair (a classifier); choose a cross-encoder with one label"
        )

"""What a search is asked for, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from reperio.arguments import MAX_K, require_count, require_k, require_recall
from reperio.errors import InvalidInput
from reperio.filters import Filter
from reperio.types import Reranker

Mode = Literal["dense", "lexical", "hybrid"]
Fusion = Literal["convex", "rrf"]

MODES: tuple[Mode, ...] = ("dense", "lexical", "hybrid")
FUSIONS: tuple[Fusion, ...] = ("convex", "rrf")

OPTIONS = (
    *("mode", "fusion", "weight", "candidates", "lexical_candidates"),
    *("reranker", "diversity", "distinct", "min_score", "ids"),
)
"""The options of a search beyond k, recall and filter, in the order of `Collection.search`."""

FUSED_DEPTH = 100
"""Rows of each list that are fused, at least: min-max scores depend on it, and 100 is what the figures are for."""

_FUSION: Fusion = "convex"
_WEIGHT = 0.5
_PER_HIT = 5  # candidates per hit wanted, where something chooses among them


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a search is asked for; see `Collection.search`.

    Attributes:
        k: hits.
        recall: of the dense part.
        tree: filter, the handle's scope included; None for all chunks.
        mode: which lists are made.
        fusion, weight: how two lists become one.
        candidates: rows retrieved, from which the k are chosen; None for as many as the rest needs.
        lexical_candidates: most rows that hybrid search takes from the lexical list; None: as many as from the other.
        reranker: orders the candidates anew.
        diversity: 0 for relevance alone, towards 1 for variety; None to leave the order alone.
        distinct: of chunks with the same text the first only.
        min_score: hits below it are dropped.
        ids: only chunks with one of these may be found; None for all.
        most: the most rows that may be retrieved.

    """

    k: int
    recall: float
    tree: Filter | None = None
    mode: Mode = "dense"
    fusion: Fusion = _FUSION
    weight: float = _WEIGHT
    candidates: int | None = None
    lexical_candidates: int | None = None
    reranker: Reranker | None = None
    diversity: float | None = None
    distinct: bool = False
    min_score: float | None = None
    ids: tuple[str, ...] | None = None
    most: int = MAX_K

    @property
    def plain(self) -> bool:
        """True where the best k of the dense list are the answer."""
        return (
            self.mode == "dense"
            and self.reranker is None
            and self.diversity is None
            and not self.distinct
            and self.min_score is None
            and self.candidates is None
            and self.ids is None
        )

    @property
    def depth(self) -> int:
        """How many rows to retrieve."""
        if self.candidates is not None:
            return self.candidates
        chosen = self.reranker is not None or self.diversity is not None
        return max(self.k, min(self.k * _PER_HIT, self.most)) if chosen else self.k

    @property
    def needs_vector(self) -> bool:
        """Say whether the query must have a vector."""
        return self.mode != "lexical" or self.diversity is not None

    @property
    def needs_text(self) -> bool:
        """Say whether the query must have a text."""
        return self.mode != "dense" or self.reranker is not None


def to_wanted(k: Any, recall: Any, tree: Filter | None, options: Mapping[str, Any], *, most: int = MAX_K) -> Wanted:
    """Check the options of a search; *most* is the largest k.

    Raises:
        InvalidInput: naming the option and what it may be.

    """
    require_k(k, most)
    require_recall(recall)
    wanted = Wanted(k, recall, tree, **options, most=most)
    _require_choice("mode", wanted.mode, MODES)
    _require_choice("fusion", wanted.fusion, FUSIONS)
    _require_share("weight", wanted.weight)
    if wanted.lexical_candidates is not None:
        require_count("lexical_candidates", wanted.lexical_candidates)
    _require_use(wanted)
    if wanted.diversity is not None:
        _require_share("diversity", wanted.diversity)
    if not isinstance(wanted.distinct, bool):
        raise InvalidInput(f"distinct is {wanted.distinct!r}; it is True or False")
    if wanted.min_score is not None and (isinstance(wanted.min_score, bool) or not _is_number(wanted.min_score)):
        raise InvalidInput(f"min_score is {wanted.min_score!r}; pass a number: hits with a lower score are left out")
    if wanted.reranker is not None and not isinstance(wanted.reranker, Reranker):
        raise InvalidInput(
            f"reranker is a {type(wanted.reranker).__name__} without a score method; wrap a function in "
            "CallableReranker, or pass a CrossEncoderReranker"
        )
    if wanted.candidates is not None:
        require_count("candidates", wanted.candidates)
        if not k <= wanted.candidates <= most:
            raise InvalidInput(f"candidates is {wanted.candidates}; it lies between k ({k}) and {most:,}")
    if wanted.lexical_candidates is not None and wanted.lexical_candidates > most:
        raise InvalidInput(f"lexical_candidates is {wanted.lexical_candidates}; it is at most {most:,}")
    return wanted


def require_question(text: bool, vector: bool, wanted: Wanted, function: str, texts: str, vectors: str) -> None:
    """Refuse a question without the text or the vector that *wanted* needs, or with one that nothing would use.

    Args:
        text, vector: which are given.
        wanted: what is asked for.
        function, texts, vectors: how they are called, for the message.

    """
    if not text and not vector:
        raise InvalidInput(f"{function} takes {texts} or {vectors}=, one of the two")
    if wanted.needs_text and not text:
        needing = f"mode={wanted.mode!r}" if wanted.mode != "dense" else "a reranker"
        place = "beside" if wanted.needs_vector else "instead of"
        raise InvalidInput(f"{needing} needs {texts}; pass it {place} {vectors}=")
    if text and vector and not wanted.needs_text:
        raise InvalidInput(f"{function} takes {texts} or {vectors}=, one of the two")
    if vector and not wanted.needs_vector:
        raise InvalidInput(f'mode="lexical" searches by words alone; leave {vectors}= out')


def _require_use(wanted: Wanted) -> None:
    """Refuse what would have no effect: a fusion or weight of one list, an order that is made anew at once."""
    if wanted.mode != "hybrid" and (wanted.fusion, wanted.weight) != (_FUSION, _WEIGHT):
        raise InvalidInput(f'fusion and weight are for mode="hybrid", and mode is {wanted.mode!r}; leave them out')
    if wanted.mode != "hybrid" and wanted.lexical_candidates is not None:
        raise InvalidInput(f'lexical_candidates is for mode="hybrid", and mode is {wanted.mode!r}; leave it out')
    if wanted.fusion != _FUSION and wanted.weight != _WEIGHT:
        raise InvalidInput(f'weight is for fusion="convex", and fusion is {wanted.fusion!r}; leave it out')
    if wanted.reranker is not None and wanted.diversity is not None:
        raise InvalidInput(
            "diversity= goes by the vectors, and would undo the order that reranker= makes; leave one of them out"
        )


def _require_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise InvalidInput(f"{name} is {value!r}; choose {', '.join(map(repr, choices))}")


def _require_share(name: str, value: Any) -> None:
    if isinstance(value, bool) or not _is_number(value) or not 0 <= value <= 1:
        raise InvalidInput(f"{name} is {value!r}; it is a number between 0 and 1")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and value == value

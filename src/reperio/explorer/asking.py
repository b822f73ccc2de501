"""Ask a collection one question, and note what went into the answer: parts of scores, ranks by list, times."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from reperio import Collection, Hit, ReperioError, Reranker
from reperio.errors import InvalidInput
from reperio.explorer.desk import MODES, Desk
from reperio.explorer.parameters import LONGEST_QUESTION, MOST_HITS, Parameters
from reperio.types import FloatMatrix

Result = TypeVar("Result")

DEPTH = 100
"""Hits of each list in which a hit's rank is looked up."""

FUSIONS = ("convex", "rrf")


@dataclass(frozen=True, slots=True)
class Question:
    """Hold the text and filter of a question.

    Attributes:
        text: the question.
        where: filter; None for none.
        k: hits wanted.
    """

    text: str
    where: Mapping[str, Any] | None = None
    k: int = 10


@dataclass(frozen=True, slots=True)
class Setting:
    """Hold the settings with which a question is asked.

    Attributes:
        mode: "dense", "lexical" or "hybrid".
        recall: of the index; 1 compares with every vector.
        fusion, weight: of hybrid search, as `Collection.search` takes them.
        rerank: whether the server's reranker orders the hits.
        kb: name of the collection; empty for the first.
    """

    mode: str
    recall: float = 0.95
    fusion: str = "convex"
    weight: float = 0.5
    rerank: bool = False
    kb: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A hit, and its rank in each list that could have found it; None where it is not among the first `DEPTH`."""

    hit: Hit
    ranks: Mapping[str, int | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """Hold the hits of a question, and the times they took.

    Attributes:
        question, setting: what was asked, and how.
        rows: best first.
        stages: what was done, with its milliseconds.
        lists: milliseconds of each list searched by itself, afterwards, for the ranks.
        notes: what a person should know, such as a list that is missing.
    """

    question: Question
    setting: Setting
    rows: Sequence[Row]
    stages: Sequence[tuple[str, float]]
    lists: Sequence[tuple[str, float]] = ()
    notes: Sequence[str] = ()

    @property
    def ms(self) -> float:
        """Milliseconds of the search with its embedding, without the ranks by list."""
        return sum(spent for _, spent in self.stages)


def to_question(given: Parameters) -> Question:
    """Return the question that an address has; its text is empty where it has none."""
    text = given.text("q", most=LONGEST_QUESTION).strip()
    return Question(text, given.filter(), given.number("k", 10, least=1, most=MOST_HITS))


def to_setting(given: Parameters, desk: Desk) -> Setting:
    """Return how a question is asked; by the best mode that the collection has, unless an address says otherwise."""
    kb = given.text("kb")
    modes = desk.modes(kb)
    if not modes:
        raise InvalidInput(
            "this collection can be searched by ready vectors only, and a person has none: it has no embedder and no "
            "words; name one with --embedder, or use Look"
        )
    mode = given.choice("mode", MODES, modes[0])
    if mode not in modes:
        raise InvalidInput(f"the collection cannot be searched in the mode {mode}; it has: {', '.join(modes)}")
    return Setting(
        mode=mode,
        recall=given.share("recall", 0.95, least=0.01),
        fusion=given.choice("fusion", FUSIONS, "convex"),
        weight=given.share("weight", 0.5),
        rerank=given.flag("rerank") and desk.options.reranker is not None,
        kb=kb,
    )


def ask(desk: Desk, question: Question, setting: Setting, *, ranks: bool = True) -> Answer:
    """Answer a question.

    Args:
        desk: with the collections.
        question, setting: what is asked, and how.
        ranks: also search each list by itself, for the rank of each hit in it.
    """
    return desk.call(lambda kb: _ask(desk, kb, question, setting, ranks), setting.kb)


def _ask(desk: Desk, kb: Collection, question: Question, setting: Setting, ranks: bool) -> Answer:
    stages: list[tuple[str, float]] = []
    vector = None
    if setting.mode != "lexical":
        vector, spent = embedded(desk, kb, question.text)
        stages.append(("embed the question", spent))
    reranker = _Timed(desk.options.reranker) if setting.rerank and desk.options.reranker is not None else None
    options = _options(question, setting, vector, reranker)
    hits, spent = _timed(lambda: kb.search(k=question.k, **options))
    stages.append(("find the chunks", spent - (reranker.ms if reranker else 0.0)))
    if reranker is not None:
        stages.append(("rerank", reranker.ms))
    lists: dict[str, tuple[list[Hit], float]] = {}
    notes: list[str] = []
    if ranks and hits:
        lists, notes = _lists(kb, question, setting, vector)
    found = {name: {hit.chunk.id: hit.rank for hit in some} for name, (some, _) in lists.items()}
    rows = [Row(hit, {name: known.get(hit.chunk.id) for name, known in found.items()}) for hit in hits]
    if setting.mode == "lexical" and not hits:
        notes.append("no chunk has a word of this question; ask by meaning (dense), or with other words")
    return Answer(question, setting, rows, stages, [(name, spent) for name, (_, spent) in lists.items()], notes)


def embedded(desk: Desk, kb: Collection, text: str) -> tuple[FloatMatrix, float]:
    """Return the vector of a question, (1, d), and the milliseconds it took; the first one loads the model."""
    with desk.embedding:
        return _timed(lambda: kb.embed([text]))


def _options(
    question: Question, setting: Setting, vector: FloatMatrix | None, reranker: Reranker | None
) -> dict[str, Any]:
    options: dict[str, Any] = {"mode": setting.mode, "where": question.where, "recall": setting.recall}
    if setting.mode == "hybrid":
        options["fusion"] = setting.fusion
        if setting.fusion == "convex":
            options["weight"] = setting.weight
    if vector is not None:
        options["vector"] = vector[0]
    if setting.mode != "dense" or reranker is not None:
        options["query"] = question.text
    if reranker is not None:
        options["reranker"] = reranker
    return options


def _lists(
    kb: Collection, question: Question, setting: Setting, vector: FloatMatrix | None
) -> tuple[dict[str, tuple[list[Hit], float]], list[str]]:
    """Search by vector alone and by words alone, as far as that is possible without loading a model for it."""
    found: dict[str, tuple[list[Hit], float]] = {}
    notes: list[str] = []
    where, recall = question.where, setting.recall
    if vector is not None:
        found["dense"] = _timed(lambda: kb.search(vector=vector[0], k=DEPTH, where=where, recall=recall))
    try:
        if kb.fingerprint()["lexical"] != "none":
            found["lexical"] = _timed(lambda: kb.search(question.text, k=DEPTH, where=where, mode="lexical"))
    except ReperioError as error:  # a question that is too long for words, say: its answer is there all the same
        notes.append(f"ranks by words are missing: {error}")
    return found, notes


class _Timed:
    """A reranker that knows how long it took."""

    def __init__(self, reranker: Reranker) -> None:
        self._reranker = reranker
        self.ms = 0.0

    def score(self, queries: Sequence[str], texts: Sequence[Sequence[str]]) -> Sequence[Sequence[float]]:
        """Return the scores of the reranker."""
        scores, spent = _timed(lambda: self._reranker.score(queries, texts))
        self.ms += spent
        return scores


def _timed(work: Callable[[], Result]) -> tuple[Result, float]:
    started = time.perf_counter()
    found = work()
    return found, (time.perf_counter() - started) * 1000

"""What goes wrong in the program that asks: another model, a prompt that is lost or should not be, filters, a loop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from case import Case, Deployed, drawn
from models import fewer_layers, minilm, prompt_of

import reperio
from reperio import Collection
from reperio.evaluation import Search
from reperio.evaluation.contents.hashing import fingerprint
from reperio.filters.columns.columns import Columns


def lost_prompt(case: Case) -> Deployed:
    """Open the collection with its model, but without the prompt for questions."""
    return Deployed(embedder=_Named(minilm(), case.embedder.name))


def other_model_by_name(case: Case) -> Deployed:
    """Open the collection with a model of fewer layers that bears the right name."""
    return Deployed(embedder=_Named(fewer_layers(case.folder, int(case.strength)), case.embedder.name))


def needless_prompt(case: Case) -> Deployed:
    """Put words before every question that the texts and the baseline were made without."""
    prompt = prompt_of(int(case.strength))
    asked = [prompt + query for query in case.texts.queries]
    vectors = case.kept.vectors(f"needless-{case.strength:g}", asked, case.embedder.model.embed_queries)
    return Deployed(front=_front(case, vectors))


def prompt_lost_outside(case: Case) -> Deployed:
    """Leave the prompt out in an application that embeds the questions itself."""
    vectors = case.kept.vectors("unprompted", case.texts.queries, minilm().embed_queries)
    return Deployed(front=_front(case, vectors))


def other_model_outside(case: Case) -> Deployed:
    """Embed the questions with a model of fewer layers in an application that does so itself."""
    layers = int(case.strength)
    vectors = case.kept.vectors(
        f"questions-{layers}", case.texts.queries, lambda some: fewer_layers(case.folder, layers).embed_queries(some)
    )
    return Deployed(front=_front(case, vectors))


def ignored_filter(case: Case) -> Deployed:
    """Lose the filter on the way to the collection, for a share of the questions."""

    def front(collection: Collection) -> Search:
        def search(text: str, *, k: int, where: Any, mode: Any) -> list[reperio.Hit]:
            lost = _hash_share(text) < case.strength
            return collection.search(text, k=k, where=None if lost else where, mode=mode)

        return search

    return Deployed(front=front)


def wrong_filters(case: Case) -> Deployed:
    """Let every filter select wrongly for a share of the rows."""

    @contextmanager
    def patched() -> Iterator[None]:
        evaluate, cached = Columns.evaluate, Columns.cached

        def wrong(bits: Any, rows: int) -> Any:
            if bits is None:
                return None
            selected = np.unpackbits(bits, bitorder="little")[:rows]
            selected[drawn(rows, case.strength)] ^= 1
            return np.packbits(selected, bitorder="little")

        # The fault.
        Columns.evaluate = lambda self, tree, session, rows: wrong(evaluate(self, tree, session, rows), rows)
        Columns.cached = lambda self, tree, seq, rows: wrong(cached(self, tree, seq, rows), rows)
        try:
            yield
        finally:
            Columns.evaluate, Columns.cached = evaluate, cached

    return Deployed(patched=patched)


def needless_rows(case: Case) -> Deployed:
    """Fetch and rescore many times the rows that are wanted, and throw them away."""

    def front(collection: Collection) -> Search:
        def search(text: str, *, k: int, where: Any, mode: Any) -> list[reperio.Hit]:
            return collection.search(text, k=k * int(case.strength), where=where, mode=mode)[:k]

        return search

    return Deployed(front=front)


class _Named:
    """A model under the name that the collection expects."""

    def __init__(self, model: reperio.SentenceTransformerEmbedder, name: str) -> None:
        self._model, self.name, self.dimension = model, name, model.dimension
        self.query_prompt = model.query_prompt

    def embed_passages(self, texts: Any) -> npt.NDArray[Any]:
        return self._model.embed_passages(texts)

    def embed_queries(self, texts: Any) -> npt.NDArray[Any]:
        return self._model.embed_queries(texts)


def _front(case: Case, vectors: npt.NDArray[Any]) -> Any:
    """Return what searches by vectors made outside; embedded before, so that time is no part of the fault."""
    known = dict(zip(case.texts.queries, vectors, strict=True))

    def front(collection: Collection) -> Search:
        def search(text: str, *, k: int, where: Any, mode: Any) -> list[reperio.Hit]:
            if mode == "lexical":
                return collection.search(text, k=k, where=where, mode=mode)
            words = text if mode == "hybrid" else None
            return collection.search(words, vector=known[text], k=k, where=where, mode=mode)

        return search

    return front


def _hash_share(text: str) -> float:
    return int(fingerprint(text), 16) / 16**8

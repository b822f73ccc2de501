"""The golden set's questions, asked: of a collection, or of whatever `search` is deployed in front of it."""

from __future__ import annotations

import inspect
import itertools
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import numpy as np

from reperio.errors import CollectionDamaged, EmbeddingContractError, InvalidInput, ReperioError
from reperio.evaluation.golden.questions import GoldenQuery
from reperio.filters import parse_path
from reperio.query_log.reading import LoggedQuestion
from reperio.types import Chunk, Hit

Search: TypeAlias = Callable[..., Any]
"""A deployed search: called with a text, and with ``k=``, ``where=``, ``mode=``, ``vector=`` and ``id=`` where it takes
them."""

_OPTIONS = ("k", "where", "mode", "vector", "id")  # of a search, passed where it takes them
_SEED = 20_261_121  # fixed, so that two runs ask the same questions
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Found:
    """One result of any search."""

    id: str  # of the chunk
    score: float | None = None  # higher is better; None where the search tells none
    chunk: Chunk | None = None  # None where the search gives only ids


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one question."""

    query: GoldenQuery
    found: Sequence[Found]  # best first
    ms: float  # that it took

    @property
    def ids(self) -> list[str]:
        """Ids of the chunks, best first, each once."""
        return list(dict.fromkeys(each.id for each in self.found))

    def names(self, document_field: str, stored: Mapping[str, Mapping[str, Any]] | None = None) -> list[str]:
        """Return what is compared with the expectation: ids of chunks, or names of documents, each at its best rank.

        *document_field* is the path of the metadata field that names a chunk's document; *stored* has the metadata of
        the chunks that came without, by id, and is None where no collection tells them.
        """
        if not self.query.documents:
            return self.ids
        if stored is None and any(each.chunk is None for each in self.found):
            raise InvalidInput(
                f"the question {self.query.id!r} expects documents, and search gives ids without metadata; return hits "
                "or documents with metadata, or pass the collection as well"
            )
        return list(dict.fromkeys(_document(each, document_field, stored or {}) for each in self.found))


def name_of(search: Search) -> str:
    """Return what a report calls a search."""
    # A callable object has no name of its own, and is called by its class.
    named = getattr(search, "__qualname__", None)
    return f"{search.__module__}.{named}" if named and getattr(search, "__module__", None) else type(search).__name__


def ask(search: Search, query: GoldenQuery, k: int) -> Answer:
    """Ask one question, and time it; whatever the search raises, and what it gives that is no result, names it."""
    options, asked = _options(search, query, k), f"the question {query.id!r}"
    try:
        started = time.perf_counter()
        given = search(query.text, **options)
        ms = (time.perf_counter() - started) * 1e3
        # No further than is asked for: a generator need not end.
        return Answer(query, [to_found(each) for each in itertools.islice(_listed(given), k)], ms)
    except (CollectionDamaged, EmbeddingContractError):
        raise  # which are of the collection, whatever it is asked
    except ReperioError as error:
        raise type(error)(f"{asked}: {error}") from error
    except (Exception, SystemExit) as error:  # what is judged may be any function; sys.exit(0) would look like a pass
        raise InvalidInput(f"{asked}: search raised {type(error).__name__}: {error}") from error


def _listed(given: Any) -> Iterable[Any]:
    if inspect.isawaitable(given):
        if inspect.iscoroutine(given):
            given.close()  # or Python warns that it was never awaited
        raise InvalidInput("search is asynchronous; pass a function that waits, e.g. lambda text: asyncio.run(…)")
    # A text would be read as one id per character, and a dictionary as its keys.
    kind = type(given).__name__
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
        raise InvalidInput(f"search gave a {kind}; the gate reads a list of what was retrieved")
    if isinstance(given, (set, frozenset)):
        raise InvalidInput(f"search gave a {kind}, which has no order; the gate reads a list, best first")
    return given


def to_query(logged: LoggedQuestion) -> GoldenQuery:
    """Return a logged question as one that nothing is expected of."""
    return GoldenQuery(logged.text, logged.text, where=logged.where, mode=logged.mode)


def drawn(items: Sequence[_T], number: int) -> list[_T]:
    """Return at most *number* of the items, the same ones always, in their order."""
    if len(items) <= number:
        return list(items)
    rows = np.random.default_rng(_SEED).choice(len(items), number, replace=False)
    return [items[row] for row in np.sort(rows)]


def to_found(given: Any) -> Found:
    """Read a result, or refuse it: an id, (id, score), `Hit`, `Chunk`, LangChain document or LlamaIndex node."""
    if isinstance(given, tuple) and len(given) == 2:
        inner, score = to_found(given[0]), given[1]
        return Found(inner.id, _score(score), inner.chunk)
    if isinstance(given, Hit):
        return Found(given.chunk.id, _score(given.score), given.chunk)
    if isinstance(given, str):
        return Found(given)
    node = getattr(given, "node", given)  # LlamaIndex: NodeWithScore holds the node
    identifier = getattr(node, "node_id", None) or getattr(node, "id", None)
    if not isinstance(identifier, str) or not identifier:
        raise InvalidInput(
            f"the search gave a {type(given).__name__} without an id; the gate reads ids, (id, score), reperio.Hit, "
            "LangChain documents with an id, and LlamaIndex nodes"
        )
    score = getattr(given, "score", None)
    text = next((each for name in ("page_content", "text") if isinstance(each := getattr(node, name, None), str)), "")
    metadata = getattr(node, "metadata", None)
    chunk = Chunk(identifier, text, metadata if isinstance(metadata, Mapping) else {})
    return Found(identifier, None if score is None else _score(score), chunk)


def _score(given: Any) -> float:
    try:
        score = math.nan if isinstance(given, (str, bytes)) else float(given)
    except (TypeError, ValueError):
        score = math.nan
    if not math.isfinite(score):  # NaN is above nothing, and would pass as the score of no answer
        raise InvalidInput(f"search gave the score {str(given)[:60]!r}; a score is a finite number")
    return score


def _options(search: Search, query: GoldenQuery, k: int) -> dict[str, Any]:
    wanted = {"k": k, "where": query.where, "mode": query.mode, "vector": query.vector, "id": query.id}
    taken = options_of(search)
    # Asked without its filter, a question has another answer: that would be judged as if it were this one.
    for name, plain in (("where", None), ("mode", "dense")):
        if name not in taken and wanted[name] != plain:
            raise InvalidInput(
                f"the question {query.id!r} needs {name}={wanted[name]!r}, which search has no option for; give it one"
            )
    return {name: wanted[name] for name in _OPTIONS if name in taken}


def options_of(search: Search) -> set[str]:
    """Return which of k, where and mode a search has options for."""
    try:
        parameters = inspect.signature(search).parameters
    except (ValueError, TypeError):
        return set()
    # **kwargs is no promise: LangChain's invoke swallows k without a word.
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name for name in _OPTIONS if name in parameters and parameters[name].kind in named}


def _document(found: Found, field: str, stored: Mapping[str, Mapping[str, Any]]) -> str:
    value: Any = (found.chunk.metadata if found.chunk else {}) or stored.get(found.id, {})
    for step in parse_path(field):
        value = value.get(step) if isinstance(value, Mapping) else None
    # A chunk of no document can be nobody's expectation, and must still take its rank.
    return f"(no {field}: {found.id})" if value is None else str(value)

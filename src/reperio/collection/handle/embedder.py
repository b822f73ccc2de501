"""Load the embedder of an open collection when it is first needed, and hold it to the contract."""

from __future__ import annotations

from reperio.arguments import to_path
from reperio.collection.handle.questions import KnownQuestions
from reperio.embedding import DEFAULT_EMBEDDER, load_embedder
from reperio.embedding.contract import Contract, Settings
from reperio.errors import EmbedderFailed, InvalidInput, MissingDependency, warn_caller
from reperio.forks import ForkSafeLock
from reperio.types import Embedder


def resolve(embedder: Embedder | str) -> Embedder:
    """Turn a sentence-transformers name or path into an embedder; leave an embedder as it is.

    Raises:
        InvalidInput: it is neither.
    """
    if isinstance(embedder, str):
        return load_embedder(str(to_path("embedder", embedder)) if embedder[:1] == "~" else embedder)
    if not isinstance(embedder, Embedder):
        raise InvalidInput(
            f"embedder is a {type(embedder).__name__}; pass a sentence-transformers name or path, or an object with "
            "name, dimension, embed_passages(texts) and embed_queries(texts)"
        )
    return embedder


def texts_cut(embedder: Embedder | None) -> int:
    """Return how many texts the calling thread has embedded that were longer than the model takes."""
    return int(getattr(embedder, "texts_cut", 0))


def warn_cut(embedder: Embedder, number: int) -> None:
    """Warn that texts were cut before they were embedded."""
    warn_caller(
        f"{number:,} {'text was' if number == 1 else 'texts were'} cut: {embedder.name} takes "
        f"{getattr(embedder, 'max_tokens', 'fewer')} tokens, and what is beyond is stored and not searched by vector. "
        "Split them first, as reperio ingest does, or choose a model that takes more. Later ones are not reported"
    )


class LazyEmbedder:
    """Provide the embedder of one handle.

    Args:
        given: what the user passed to `open`; None takes the one named in the contract, when it is first needed.
        path: of the collection, for messages.

    Attributes:
        questions: the vectors of the last questions.
    """

    def __init__(self, given: Embedder | str | None, path: str) -> None:
        self.questions = KnownQuestions()
        self._given = given
        self._path = path
        self._lock = ForkSafeLock()
        self._loaded: Embedder | None = None
        self._agreed: Contract | None = None
        self._told: Embedder | None = None
        self._drawn_up: tuple[Embedder, Contract] | None = None

    def get(self, settings: Settings) -> Embedder | None:
        """Return the embedder, checked against the contract; None for a collection of ready vectors.

        Raises:
            EmbeddingContractError, EmbedderFailed, MissingDependency, InvalidInput: the dimension differs.
        """
        contract = settings.contract
        if self._loaded is not None and contract is self._agreed:
            return self._loaded
        with self._lock:
            loaded = self._loaded
            if loaded is None:
                if self._given is not None:
                    loaded = resolve(self._given)
                elif contract is not None:
                    loaded = self._recorded(contract)
                else:
                    return None
            if contract is None:  # not yet: settings of before the first add by text may come after it, too
                self._require_dimension(loaded, settings)
            elif contract is not self._agreed:
                contract.require(loaded, self._path)
                self._agreed = contract
            self._loaded = loaded
            return loaded

    def _require_dimension(self, embedder: Embedder, settings: Settings) -> None:
        if embedder.dimension != settings.dimension:
            raise InvalidInput(
                f"{embedder.name} makes {embedder.dimension} dimensions, {self._path} holds {settings.dimension}; "
                "use the model that made its vectors"
            )

    def contract(self, embedder: Embedder) -> Contract:
        """Return the contract of *embedder*, from `get`, for a collection that has none; drawn up once."""
        with self._lock:
            if self._drawn_up is None or self._drawn_up[0] is not embedder:
                self._drawn_up = embedder, Contract.of(embedder)
            return self._drawn_up[1]

    def texts_cut(self) -> int:
        """Return how many texts this thread has seen cut by the embedder; 0 where it does not tell."""
        return texts_cut(self._loaded)

    def tell_cut(self, number: int) -> None:
        """Warn that so many texts were cut, once per embedder."""
        embedder = self._loaded
        if number and embedder is not None and embedder is not self._told:
            self._told = embedder
            warn_cut(embedder, number)

    def _recorded(self, contract: Contract) -> Embedder:
        """Load the embedder by what the contract says of it. Remote code is not trusted, whatever it says."""
        try:
            return load_embedder(
                contract.name,
                revision=contract.revision or None,
                query_prompt=contract.query_prompt,
                passage_prompt=contract.passage_prompt,
            )
        except EmbedderFailed as error:
            raise EmbedderFailed(
                f"{self._path} was embedded with {contract.name!r}, which cannot be loaded by that name; pass "
                f"the same model with embedder= [{error}]"
            ) from error
        except MissingDependency as error:  # of any embedder: its name does not tell which library made it
            raise MissingDependency(
                f"{self._path} was embedded with {contract.name!r}; pass the same model with embedder=, or, if it is "
                "one of sentence-transformers, run: pip install 'reperio[sentence-transformers]'"
            ) from error

    def replace(self, embedder: Embedder, contract: Contract | None) -> None:
        """Use *embedder* from now on, known to fulfil *contract*."""
        with self._lock:
            self._loaded, self._agreed = embedder, contract


__all__ = ["DEFAULT_EMBEDDER", "LazyEmbedder", "resolve"]

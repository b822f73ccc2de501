"""Choose what the gate asks, from what a command line or pytest was told."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from reperio.collection import Collection
from reperio.errors import InvalidInput
from reperio.evaluation.asking import Search
from reperio.evaluation.deployed.endpoint import SECONDS, Endpoint
from reperio.evaluation.deployed.functions import load_embedder, load_search
from reperio.evaluation.deployed.runs import read_run
from reperio.evaluation.golden.questions import GoldenSet
from reperio.evaluation.sharded import opened


@dataclass(frozen=True, slots=True)
class Deployed:
    """What is to be judged, by its names.

    Attributes:
        kb: directory of a collection; None for none.
        embedder: the collection's, ``module:function`` or a model's name; None for the recorded one.
        search: ``module:function`` that is asked instead of the collection.
        url: an HTTP endpoint that is asked instead.
        run: a file of answers that is judged instead. One of *search*, *url* and *run* at most.
        headers: ``Name: value``, sent to the endpoint.
        timeout: seconds for a question to the endpoint; None for the default.
    """

    kb: str | os.PathLike[str] | None = None
    embedder: str | None = None
    search: str | None = None
    url: str | None = None
    run: str | os.PathLike[str] | None = None
    headers: Sequence[str] = ()
    timeout: float | None = None

    def require(self, golden: object) -> None:
        """Refuse what does not go together, before anything is loaded.

        Raises:
            InvalidInput: nothing to judge, two searches, or an option of another one.
        """
        named = {"search=": self.search, "url=": self.url, "run=": self.run}
        given = [name for name, value in named.items() if value is not None]
        if len(given) > 1:
            raise InvalidInput(f"{' and '.join(given)} are two searches; pass one of them")
        if self.kb is None and not given:
            raise InvalidInput("there is nothing to judge; pass the directory of a collection, search=, url= or run=")
        if self.kb is None and golden is None:
            raise InvalidInput(f"{given[0]} without a collection needs golden=, the questions to ask")
        if self.embedder is not None and self.kb is None:
            raise InvalidInput("embedder= is a collection's; pass its directory as well, or leave it out")
        for name, value in (("headers= (--header)", self.headers or None), ("timeout=", self.timeout)):
            if value is not None and self.url is None:
                raise InvalidInput(f"{name} is for an endpoint; pass url= as well, or leave it out")

    @contextmanager
    def opened(self, golden: GoldenSet | None) -> Iterator[tuple[Collection | None, Search | None]]:
        """Open the collection to read, and load the search; close both at the end."""
        self.require(golden)
        with ExitStack() as stack:
            search = self._search(stack, golden)
            embedder: Any = None if self.embedder is None else load_embedder(self.embedder)
            collection = None
            if self.kb is not None:
                collection = stack.enter_context(opened(self.kb, embedder))
            yield collection, search

    def _search(self, stack: ExitStack, golden: GoldenSet | None) -> Search | None:
        if self.search is not None:
            return load_search(self.search)
        if self.url is not None:
            endpoint = Endpoint(
                self.url,
                headers=dict(map(_header, self.headers)),
                timeout=SECONDS if self.timeout is None else self.timeout,
            )
            stack.callback(endpoint.close)
            return endpoint
        if self.run is not None:
            run = read_run(self.run)
            if golden is not None:
                run.require(golden)
            return run
        return None


def _header(given: str) -> tuple[str, str]:
    name, colon, value = given.partition(":")
    if not colon:
        # Not shown whole: it may be a key.
        raise InvalidInput(f"the header {given[:12]!r}… has no colon; write 'Name: value'")
    return name.strip(), value.strip()

"""Collect what several checks look at: surveyed, asked and measured once."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from reperio.collection import Collection
from reperio.errors import InvalidInput, ReperioError
from reperio.evaluation.asking import Answer, Search, ask
from reperio.evaluation.baseline import Baseline
from reperio.evaluation.contents.access import access_fields
from reperio.evaluation.contents.hashing import fingerprint
from reperio.evaluation.golden.questions import GoldenQuery, GoldenSet
from reperio.evaluation.limits import GateLimits
from reperio.evaluation.sharded import checked
from reperio.evaluation.statistics import measures
from reperio.evaluation.survey import Survey, survey
from reperio.query_log.reading import LoggedQuestion
from reperio.types import CheckReport, Chunk, Hit, Progress

DISTINCT = "distinct@10"
_DIGITS = 6  # of a share, as the baseline keeps it


class Subject:
    """A collection under judgement; the arguments are those of `reperio.evaluation.gate`.

    *accepting* says that what is found becomes the baseline, so that its absence is no error.
    """

    def __init__(
        self,
        collection: Collection | None,
        golden: GoldenSet | None,
        *,
        search: Search | None = None,
        baseline: Baseline | None = None,
        accepting: bool = False,
        limits: GateLimits | None = None,
        log: Sequence[str | LoggedQuestion] = (),
        progress: Progress | None = None,
    ) -> None:
        self.collection = collection
        self.golden = golden
        self.baseline = baseline
        self.accepting = accepting
        self.limits = limits or (golden.limits if golden else None) or GateLimits()
        self.log = [LoggedQuestion(each) if isinstance(each, str) else each for each in log]
        self.progress = progress
        self._search = search
        self._failure: ReperioError | None = None

    @cached_property
    def search(self) -> Search:
        """The search that answers questions."""
        if self._search is not None:
            return self._search
        collection, recall = self.require_collection(), self.limits.recall
        ask_it = collection.search

        # With these options and no others: looking through all that a collection has would be part of every time taken.
        def own(
            text: str, *, k: int, where: Mapping[str, Any] | None, mode: str, vector: Sequence[float] | None
        ) -> list[Hit]:
            if vector is None and mode != "lexical" and collection.embedder is None:
                raise InvalidInput(
                    "the collection has no embedder; give the questions vectors in the golden set (vectors: FILE.npy), "
                    "or open it with embedder= (--embedder)"
                )
            if vector is None or mode == "lexical":
                return ask_it(text, k=k, where=where, mode=mode, recall=recall)  # type: ignore[arg-type]  # checked by the golden set
            words = text if mode == "hybrid" else None
            return ask_it(words, vector=vector, k=k, where=where, mode=mode, recall=recall)  # type: ignore[arg-type]  # likewise

        return own

    @property
    def is_deployed(self) -> bool:
        """Whether a search in front of the collection, or without one, is judged."""
        return self._search is not None

    @cached_property
    def survey(self) -> Survey:
        """Survey of the collection."""
        return survey(
            self.require_collection(),
            sample=self.limits.sample,
            access=access_fields(self),
            document_field=self.golden.document_field if self.golden else "",
            before=self.baseline.profile if self.baseline else None,
        )

    @cached_property
    def answers(self) -> list[Answer]:
        """Answers to the golden set's questions, in its order; asked once, also where one of them fails."""
        if self._failure is not None:  # several checks look at them: an endpoint that hangs is waited for once
            raise self._failure
        try:
            return self._ask_all()
        except ReperioError as error:
            self._failure = error
            raise

    def _ask_all(self) -> list[Answer]:
        answers, queries = [], self.require_golden().queries
        for number, query in enumerate(queries, start=1):
            answers.append(ask(self.search, query, self.depth))
            if self.progress is not None:
                self.progress("ask", number, len(queries))
        return answers

    @cached_property
    def depth(self) -> int:
        """Number of hits that the golden set's questions ask for."""
        golden = self.require_golden()
        return max(golden.k, measures.depth(golden.measures))

    @cached_property
    def values(self) -> measures.PerQuery:
        """The measures of every labelled question."""
        golden = self.require_golden()
        found = self.judge({answer.query.id: self.names(answer) for answer in self.answers}, golden.measures)
        # As the baseline keeps it: what that rounds off is no difference.
        return {**found, DISTINCT: {answer.query.id: round(_distinct(answer), _DIGITS) for answer in self.answers}}

    def judge(self, run: measures.Run, names: Sequence[str]) -> measures.PerQuery:
        """Return the measures of answers, by the golden set's labels, for the labelled questions that are in *run*."""
        labelled = [query for query in self.require_golden().labelled if query.id in run]
        return measures.per_query(names, {query.id: query.grades for query in labelled}, run)

    @cached_property
    def asked(self) -> dict[str, str]:
        """Fingerprint of each question: text, filter, mode, expected answers. Two with one id may differ in it."""
        golden = self.require_golden()
        return {query.id: _fingerprint(query, golden.document_field) for query in golden.queries}

    @cached_property
    def expected(self) -> dict[str, Chunk]:
        """The expected chunks that exist, by id."""
        wanted = list(dict.fromkeys(each for query in self.require_golden().queries for each in query.expect))
        return {chunk.id: chunk for chunk in self.require_collection().get(wanted)}

    def names(self, answer: Answer) -> list[str]:
        """Return what came, as it is compared with the expectation."""
        return answer.names(self.require_golden().document_field, self._stored)

    def texts(self, ids: Iterable[str]) -> dict[str, str]:
        """Return the beginnings of chunks' texts, by id: as they came, else as they are stored; else nothing.

        It never fails: a report without texts is better than none.
        """
        wanted = set(ids)
        came = self.__dict__.get("answers", ())  # where nothing was asked yet, nothing is asked for this
        found = {
            each.id: each.chunk.text
            for answer in came
            for each in answer.found
            if each.id in wanted and each.chunk is not None and each.chunk.text
        }
        if self.collection is not None:
            with contextlib.suppress(ReperioError):
                found |= {chunk.id: chunk.text for chunk in self.collection.get(sorted(wanted - found.keys()))}
        return {key: shortened(found[key]) for key in sorted(found)}

    def require_collection(self) -> Collection:
        """Return the collection; a check that needs it is skipped without."""
        if self.collection is None:
            raise InvalidInput("this check needs a collection")
        return self.collection

    def require_golden(self) -> GoldenSet:
        """Return the golden set; a check that needs it is skipped without."""
        if self.golden is None:
            raise InvalidInput("this check needs a golden set")
        return self.golden

    @cached_property
    def checked(self) -> CheckReport:
        """Report of a check of all that is stored."""
        return checked(self.require_collection())

    @cached_property
    def _stored(self) -> Mapping[str, Mapping[str, Any]] | None:
        """Metadata of chunks that came without, where documents are expected; None without a collection."""
        if self.collection is None:
            return None
        # Looked up only where a question expects documents: metadata of every hit would be read for nothing.
        bare = [
            each.id
            for answer in self.answers
            if answer.query.documents
            for each in answer.found
            if each.chunk is None or not each.chunk.metadata
        ]
        return {chunk.id: chunk.metadata for chunk in self.collection.get(list(dict.fromkeys(bare)))} if bare else {}

    @cached_property
    def by_id(self) -> dict[str, Answer]:
        """Return the answer to each question, by its id."""
        return {answer.query.id: answer for answer in self.answers}


def shortened(text: str, most: int = 120) -> str:
    """Return the beginning of a text in one line, up to a word's end."""
    line = " ".join(text[: 8 * most].split())
    return line if len(line) <= most else f"{line[:most].rsplit(' ', 1)[0]} …"


def _fingerprint(query: GoldenQuery, document_field: str) -> str:
    named = document_field if query.documents else None
    own: list[Any] = [query.text, query.where, query.mode, named]
    if query.vector is not None:  # without one, as baselines have it that were accepted before there were any
        own.append(list(query.vector))
    return fingerprint(json.dumps(own, sort_keys=True, default=str))


def _distinct(answer: Answer) -> float:
    """Return the share of different texts among the first ten: what a flood of duplicates lowers, labelled or not."""
    texts = [each.chunk.text if each.chunk else each.id for each in answer.found[:10]]
    return len(set(texts)) / len(texts) if texts else 1.0

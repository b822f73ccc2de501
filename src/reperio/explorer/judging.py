"""Judge what comes for a question, and write it into a golden set."""

from __future__ import annotations

import json
import secrets
import threading
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reperio import Chunk, Collection, Hit, InvalidInput, ReperioError
from reperio.evaluation import GoldenQuery, GoldenSet, read_golden
from reperio.evaluation.golden.drafts import document_field
from reperio.evaluation.golden.editing import Change, Undo, change_question, judge, new_id, question_for, undo
from reperio.evaluation.golden.questions import DRAFT
from reperio.evaluation.golden.writing import begun
from reperio.explorer.asking import embedded
from reperio.explorer.desk import Desk
from reperio.explorer.showing import at_path
from reperio.query_log.reading import LoggedQuestion, read_log

POOLED = 10
"""Hits of each mode that are pooled."""

GRADES = (0, 1, 2, 3)
_RRF = 60  # of reciprocal rank fusion, as its authors have it
_UNDONE = 200  # changes that can be taken back
_MOST_JUDGED = 200  # judged chunks that no mode finds, which are shown all the same


@dataclass(frozen=True, slots=True)
class Item:
    """A question to be judged, or judged already.

    Attributes:
        text, where, mode: as it is asked.
        state: "draft", "new" (of the log, not in the golden set), "open" (only wrong answers are known) or "judged".
        marks: chunks or documents that were judged.
        times: how often the log has it.
    """

    text: str
    where: Mapping[str, Any] | None
    mode: str
    state: str
    marks: int
    times: int = 0

    @property
    def to_do(self) -> bool:
        """Whether a person should look at it."""
        return self.state != "judged"


@dataclass(frozen=True, slots=True)
class Pooled:
    """A chunk that some mode finds for a question, or that was judged before.

    Attributes:
        chunk: the chunk.
        by: its rank by mode.
        document: name of its document; empty where it has none.
        grade: 0 for wrong; None where nobody has judged it.
    """

    chunk: Chunk
    by: Mapping[str, int]
    document: str
    grade: int | None


class Judge:
    """The golden set of a desk.

    Attributes:
        path: of the file.
    """

    def __init__(self, desk: Desk, path: Path) -> None:
        self.path = path
        self._desk = desk
        self._lock = threading.Lock()
        self._read: tuple[object, GoldenSet] | None = None
        self._logged: tuple[object, list[tuple[LoggedQuestion, int]]] | None = None
        self._undos: OrderedDict[str, Undo] = OrderedDict()

    def golden(self) -> GoldenSet:
        """Return the golden set as it is in its file; an empty one where there is none yet.

        Raises:
            InvalidInput: the file cannot be read, or is no golden set.
        """
        state = _state(self.path)
        with self._lock:
            if self._read is None or self._read[0] != state:
                self._read = state, begun(self.path) if state is None else read_golden(self.path)
            return self._read[1]

    def logged(self) -> list[tuple[LoggedQuestion, int]]:
        """Return the questions of the log, most frequent first, each with how often it was asked."""
        log = self._desk.options.log
        if log is None:
            return []
        state = _state(log)
        with self._lock:
            if self._logged is None or self._logged[0] != state:
                self._logged = state, _counted(read_log(log))
            return self._logged[1]

    def items(self) -> list[Item]:
        """Return all questions: drafts first, then what the log has and the golden set has not, then the others."""
        golden = self.golden()
        known = {(query.text.strip(), _key(query.where)) for query in golden.queries}
        times = {(each.text.strip(), _key(each.where)): number for each, number in self.logged()}
        asked = [
            Item(
                each.text,
                each.where,
                each.mode,
                state_of(each),
                _marks(each),
                times.get((each.text.strip(), _key(each.where)), 0),
            )
            for each in golden.queries
        ]
        new = [
            Item(each.text, each.where, each.mode, "new", 0, number)
            for each, number in self.logged()
            if (each.text.strip(), _key(each.where)) not in known
        ]
        order = {"draft": 0, "open": 1, "new": 2, "judged": 3}
        return sorted([*asked, *new], key=lambda each: order[each.state])

    def question(self, text: str, where: Mapping[str, Any] | None) -> GoldenQuery | None:
        """Return what the golden set has of a question; None where it has not got it."""
        return question_for(self.golden(), text, where)

    def grade(self, query: GoldenQuery | None, chunk: Chunk) -> int | None:
        """Return how a chunk was judged; None where nobody has."""
        if query is None:
            return None
        names = (chunk.id, self.document(chunk))
        found = next((query.grades[name] for name in names if name in query.grades), None)
        return 0 if found is None and any(name in query.wrong for name in names) else found

    def document(self, chunk: Chunk) -> str:
        """Return the name of a chunk's document; empty where it has none."""
        field = self.golden().document_field
        return at_path(chunk.metadata, field) if field else ""

    def by_document(self) -> bool:
        """Say whether a new question may expect documents: whether the golden set says what names them."""
        return bool(self.golden().document_field) and bool(self._desk.call(document_field))

    def pool(self, text: str, where: Mapping[str, Any] | None, modes: Sequence[str]) -> tuple[list[Pooled], list[str]]:
        """Return what every mode finds for a question, best first by reciprocal ranks, and what was judged before.

        A judgement of what one mode finds alone would call everything wrong that another finds. The second list says
        what is missing, as the modes that need a model which cannot be loaded.
        """
        return self._desk.call(lambda kb: self._pool(kb, text, where, modes))

    def _pool(
        self, kb: Collection, text: str, where: Mapping[str, Any] | None, modes: Sequence[str]
    ) -> tuple[list[Pooled], list[str]]:
        found, notes = _found(self._desk, kb, text, where, modes)
        query = self.question(text, where)
        places: dict[str, dict[str, int]] = {}
        chunks: dict[str, Chunk] = {}
        for mode, hits in found.items():
            for hit in hits:
                chunks.setdefault(hit.chunk.id, hit.chunk)
                places.setdefault(hit.chunk.id, {})[mode] = hit.rank
        order = sorted(places, key=lambda key: -sum(1 / (_RRF + rank) for rank in places[key].values()))
        if query is not None and not query.documents:
            judged = [name for name in (*query.expect, *query.wrong) if name not in chunks][:_MOST_JUDGED]
            others = kb.get(judged)
            chunks.update((chunk.id, chunk) for chunk in others)
            order += [chunk.id for chunk in others]
            if missing := len(judged) - len(others):
                notes.append(
                    f"{missing} judged chunks are not in the collection any more; reperio golden check names them"
                )
        return [
            Pooled(chunks[key], places.get(key, {}), self.document(chunks[key]), self.grade(query, chunks[key]))
            for key in order
        ], notes

    def mark(
        self, text: str, where: Mapping[str, Any] | None, mode: str, chunk_id: str, grade: int | None, *, document: bool
    ) -> tuple[str, GoldenQuery | None]:
        """Write how a chunk, or its document, answers; return a name to take it back by, and the question as written.

        Args:
            text, where, mode: of the question.
            chunk_id: of the chunk.
            grade: 0 to 3; None takes a mark back.
            document: whether a new question expects documents; one that is there goes on as it began.

        Raises:
            InvalidInput: there is no such chunk, or the golden set cannot take it.
            StorageFailed: the file cannot be written.
        """
        chunk = self._desk.call(lambda kb: kb.get(chunk_id))
        if chunk is None:
            raise InvalidInput(f"there is no chunk {chunk_id!r:.200} any more; load the page again")
        query = self.question(text, where)
        by_document = document if query is None or not query.grades else bool(query.documents)
        name = self.document(chunk) if by_document else chunk.id
        if not name:
            raise InvalidInput(
                f"the chunk has no {self.golden().document_field}, which names a document; mark the chunk"
            )
        if query is not None:
            done = change_question(self.path, query.id, Change(marks={name: grade}, documents=by_document))
        elif grade is None:
            raise InvalidInput("there is no mark to take back; load the page again")
        else:
            try:
                done = judge(self.path, _new(self.golden(), text, where, mode, name, grade, by_document))
            except InvalidInput:
                if self.question(text, where) is None:
                    raise
                # Another tab or process has begun the question meanwhile: this is a further mark of it.
                return self.mark(text, where, mode, chunk_id, grade, document=document)
        return self._remember(done), self.question(text, where)

    def change(self, text: str, where: Mapping[str, Any] | None, change: Change) -> str:
        """Confirm, reword or remove a question; return a name to take that back by."""
        query = self.question(text, where)
        if query is None:
            raise InvalidInput("the golden set has no such question any more; load the page again")
        return self._remember(change_question(self.path, query.id, change))

    def undo(self, name: str) -> None:
        """Take a change back."""
        with self._lock:
            done = self._undos.pop(name, None)
        if done is None:
            raise InvalidInput("this can no longer be taken back; give the mark again, or change the file")
        try:
            undo(done)
        except ReperioError:  # such as a file that is read-only for a moment: it can be tried again
            with self._lock:
                self._undos[name] = done
            raise

    def _remember(self, done: Undo) -> str:
        name = secrets.token_urlsafe(12)
        with self._lock:
            self._undos[name] = done
            while len(self._undos) > _UNDONE:
                self._undos.popitem(last=False)
        return name


def _new(
    golden: GoldenSet, text: str, where: Mapping[str, Any] | None, mode: str, name: str, grade: int, by_document: bool
) -> GoldenQuery:
    graded = {name: grade} if grade else {}
    return GoldenQuery(
        id=new_id(golden, text),
        text=text,
        expect={} if by_document else graded,
        documents=graded if by_document else {},
        where=where,
        mode=mode,
        wrong=() if grade else (name,),
    )


def _found(
    desk: Desk, kb: Collection, text: str, where: Mapping[str, Any] | None, modes: Sequence[str]
) -> tuple[dict[str, list[Hit]], list[str]]:
    found: dict[str, list[Hit]] = {}
    notes: list[str] = []
    vector = None
    try:
        if any(mode != "lexical" for mode in modes):
            vector = embedded(desk, kb, text)[0][0]
    except ReperioError as error:
        notes.append(f"only what words find is here: {error}")
    for mode in modes:
        if mode == "lexical" or vector is not None:
            query = None if mode == "dense" else text
            options: dict[str, Any] = {} if mode == "lexical" else {"vector": vector}
            found[mode] = kb.search(query, k=POOLED, where=where, mode=mode, **options)  # type: ignore[arg-type]  # one of the three
    return found, notes


def _state(path: Path) -> object:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from error
    return status.st_ino, status.st_size, status.st_mtime_ns


def _counted(asked: Sequence[LoggedQuestion]) -> list[tuple[LoggedQuestion, int]]:
    """Return different questions, most frequent first; of equal ones the last, whose mode is the newest."""
    counts = Counter((each.text.strip(), _key(each.where)) for each in asked)
    last = {(each.text.strip(), _key(each.where)): each for each in asked}
    return [(last[key], number) for key, number in counts.most_common()]


def _key(where: Mapping[str, Any] | None) -> str:
    return json.dumps(where, sort_keys=True, default=str) if where else ""


def state_of(query: GoldenQuery) -> str:
    """Return how far a question of the golden set is, as `Item` has it."""
    if DRAFT in query.tags:
        return "draft"
    return "judged" if query.grades or query.nothing_above is not None else "open"


def _marks(query: GoldenQuery) -> int:
    return len(query.grades) + len(query.wrong)

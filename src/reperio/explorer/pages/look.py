"""Look at a collection: what it holds, from where, how it is indexed, and what the gate said last."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from typing import Any

from reperio import ReperioError
from reperio.errors import InvalidInput
from reperio.explorer import looking
from reperio.explorer.asking import to_question
from reperio.explorer.filtering import facets, to_text
from reperio.explorer.jobs import Job
from reperio.explorer.looking import PAGE
from reperio.explorer.pages.base import Site, told
from reperio.explorer.parameters import MOST_OFFSET, Parameters
from reperio.explorer.showing import Highlighter, fields_of

_CHARACTERS = 50_000  # of a text on the page of its chunk
_MOST_SOURCES = 1_000_000
_SHORT = 240


class LookPages:
    """The pages about what is stored."""

    def __init__(self, site: Site) -> None:
        self._site, self._desk = site, site.desk
        self._ingested: tuple[float, Any] | None = None

    def overview(self, _: Parameters) -> Mapping[str, Any]:
        """Show the facts, what was ingested when, and how to map it."""
        info = self._desk.call(lambda kb: kb.info())
        survey, busy = self._desk.survey()
        files = self._files()
        covered, tail = looking.of_index(info)
        accepted, error = [], ""
        try:
            accepted = looking.accepted(self._desk.options.golden)
        except ReperioError as failure:
            error = told(failure)
        return {
            "info": info,
            "survey": survey,
            "looking": busy,
            "reload": busy and survey is None,
            "days": looking.by_day(files),
            "files": len(files),
            "covered": covered,
            "tail": tail,
            "accepted": accepted,
            "error": error,
            "path": shlex.quote(str(self._desk.options.kb)),
        }

    def fields(self, given: Parameters) -> Mapping[str, Any]:
        """Show the fields with their values."""
        survey, busy = self._desk.survey()
        where = given.filter()
        return {
            "survey": survey,
            "looking": busy,
            "reload": busy and survey is None,
            "facets": [] if survey is None else facets(survey, None),
            "where": to_text(where),
        }

    def sources(self, given: Parameters) -> Mapping[str, Any]:
        """Show the documents, those with the most chunks first."""
        offset = given.number("offset", 0, most=MOST_OFFSET)
        contains = given.text("contains", most=500)
        files, survey, busy = self._files(), *self._desk.survey()
        if files:
            rows = [(each.source, each.chunks, each.stored) for each in files]
        else:  # chunks that were not ingested may name a source all the same
            rows = [(name, count, 0.0) for name, count in survey.sources.most_common()] if survey else []
        found = [row for row in rows if contains.casefold() in row[0].casefold()]
        return {
            "rows": [
                (name, chunks, time.strftime("%Y-%m-%d %H:%M", time.gmtime(stored)) if stored else "")
                for name, chunks, stored in found[offset : offset + PAGE]
            ],
            "total": len(found),
            "most": max((row[1] for row in found), default=1),
            "contains": contains,
            "offset": offset,
            "per_page": PAGE,
            "looking": busy and not files,
            "reload": busy and survey is None and not files,
        }

    def chunks(self, given: Parameters) -> Mapping[str, Any]:
        """Show chunks by filter and source, in the order of adding."""
        where, source = given.filter(), given.text("source")
        offset = given.number("offset", 0, most=MOST_OFFSET)
        page, error = None, ""
        try:
            page = self._desk.call(lambda kb: looking.chunk_page(kb, where, source, offset))
        except InvalidInput as failure:
            error = told(failure)
        survey, busy = self._desk.survey()
        plain = Highlighter("")
        return {
            "page": page,
            "rows": []
            if page is None
            else [(chunk, plain.excerpt(chunk.text, _SHORT, dense=True)) for chunk in page.chunks],
            "where": to_text(where),
            "source": source,
            "facets": [] if survey is None else facets(survey, where),
            "survey": survey,
            "looking": busy,
            "reload": busy and survey is None,
            "per_page": PAGE,
            "error": error,
        }

    def chunk(self, given: Parameters) -> Mapping[str, Any]:
        """Show one chunk whole, with what is around it."""
        name, question = given.text("id"), to_question(given)
        start = given.number("from", 0, most=1 << 30)
        view = self._desk.call(lambda kb: looking.chunk_view(kb, name))
        marks, plain = Highlighter(question.text), Highlighter("")
        fields, left_out = fields_of(view.chunk)
        length = len(view.chunk.text)
        return {
            "view": view,
            "chunk": view.chunk,
            "text": marks.excerpt(view.chunk.text[start : start + _CHARACTERS], _CHARACTERS),
            "start": start,
            "next": start + _CHARACTERS if start + _CHARACTERS < length else None,
            "length": length,
            "fields": fields,
            "left_out": left_out,
            "neighbours": [(hit, plain.excerpt(hit.chunk.text, _SHORT, dense=True)) for hit in view.neighbours],
            "around": [
                (where, chunk, plain.excerpt(chunk.text, _SHORT, dense=True))
                for where, some in (("before", view.before), ("after", view.after))
                for chunk in some
            ],
        }

    def duplicates(self, given: Parameters) -> Mapping[str, Any]:
        """Show near-duplicates, as far as they were looked for."""
        offset = given.number("offset", 0, most=MOST_OFFSET)
        asked, job = self._site.duplicates or ("", None)
        page = None
        if job is not None and job.result is not None:
            groups = job.result
            page = self._desk.call(lambda kb: looking.duplicates_page(kb, groups, offset))
        plain = Highlighter("")
        return {
            "asked": asked,
            "job": job,
            "page": page,
            "excerpts": {}
            if page is None
            else {key: plain.excerpt(one.text, _SHORT, dense=True) for key, one in page.chunks.items()},
            "offset": offset,
            "per_page": PAGE,
            "reload": job is not None and job.running,
            "path": shlex.quote(str(self._desk.options.kb)),
        }

    def find_duplicates(self, given: Parameters) -> Mapping[str, Any]:
        """Begin to look for near-duplicates, or stop it."""
        if given.flag("stop"):
            if self._site.duplicates is not None:
                self._site.duplicates[1].stop(wait=1.0)
            return {}
        by = given.choice("by", ("vector", "text"), "vector")
        text = given.text("threshold", most=40).strip()
        try:
            threshold = float(text) if text else None
        except ValueError:
            raise InvalidInput(f"the threshold is {text!r}; it is a number such as 0.95") from None
        if self._site.duplicates is not None and self._site.duplicates[1].running:
            raise InvalidInput("near-duplicates are being looked for already; stop that first")
        work = looking.find_duplicates
        job: Job[Any] = Job("duplicates", lambda job: self._desk.call(lambda kb: work(kb, by, threshold, job)))
        job.wait(0.2)  # so that a small collection needs no second look
        self._site.duplicates = f"by {by}" + (f", {threshold:g} or more" if threshold is not None else ""), job
        return {}

    def index(self, _: Parameters) -> Mapping[str, Any]:
        """Show the index with its operating points."""
        info = self._desk.call(lambda kb: kb.info())
        covered, tail = looking.of_index(info)
        return {
            "info": info,
            "covered": covered,
            "tail": tail,
            "path": shlex.quote(str(self._desk.options.kb)),
        }

    def gate(self, _: Parameters) -> Mapping[str, Any]:
        """Show the last report of the gate, and what was accepted."""
        options = self._desk.options
        report, accepted, errors = None, [], []
        try:
            report = None if options.report is None else looking.gate_report(options.report)
        except ReperioError as failure:
            errors.append(told(failure))
        try:
            accepted = looking.accepted(options.golden)
        except ReperioError as failure:
            errors.append(told(failure))
        path, golden = shlex.quote(str(options.kb)), shlex.quote(str(options.golden or "golden.yaml"))
        return {"report": report, "accepted": accepted, "errors": errors, "path": path, "set": golden}

    def _files(self) -> Any:
        """Return the files that were ingested, a few seconds old at most: there may be many."""
        now = time.monotonic()
        if self._ingested is None or now - self._ingested[0] > 5:
            self._ingested = now, self._desk.call(looking.ingested)
        return self._ingested[1]

"""Checks of what users pass, before anything is touched."""

from __future__ import annotations

import difflib
import inspect
import operator
import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from reperio.errors import InvalidInput, UnknownOption
from reperio.types import Limits, Metric

MAX_K = 10_000


# Names that other libraries use, by the names that Reperio or one of its adapters has for the same thing. A method
# has one or two of the latter at most, so their order decides nothing.
_OTHERS = {
    ("k",): "top_k n_results num_results limit top_n n size count similarity_top_k",
    ("where", "filter"): "where filter filters expr metadata_filter where_document query_filter",
    ("query", "queries"): "query_text query_texts question text texts search_query",
    ("vector", "vectors"): "embedding embeddings query_embedding query_embeddings query_vector query_vectors",
    ("chunks",): "documents docs texts nodes items points data metadatas",
    ("embedder", "embedding", "embed_model"): "embedding_function embeddings embed_model encoder model vectorizer",
    ("ids", "node_ids"): "ids id doc_ids document_ids",
    ("min_score",): "score_threshold threshold similarity_cutoff similarity_threshold",
    ("candidates",): "fetch_k num_candidates n_candidates oversampling prefetch",
    ("recall",): "ef ef_search efSearch nprobe hnsw_ef search_params",
    ("weight",): "alpha dense_weight vector_weight",
    ("diversity", "mmr_threshold"): "lambda_mult mmr mmr_lambda diversity_bias",
    ("reranker",): "rerank rerank_model cross_encoder",
    ("mode",): "search_type query_type vector_store_query_mode hybrid",
    ("path",): "persist_directory persist_dir persist_path directory uri db_path collection_name",
    ("dimension",): "dim dims dimensions vector_size embedding_dimension",
    ("metric",): "distance distance_metric distance_strategy space similarity similarity_function",
    ("index",): "index_type index_factory index_params factory",
}
# Two letters at least: one is a drive of Windows. One slash, because a Path has made one of two.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
_IN_MEMORY = re.compile(r"\s*(?:file:)?:*mem(?:ory)?:*(?:\?.*)?\s*", re.IGNORECASE)
_LONGEST_NAME, _MOST_NAMES = 200, 1000  # that are compared: the time is that of the square of their lengths


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.5) -> str | None:
    """Return the known name that *name* most likely stands for; None when no name is near.

    Args:
        name: name that is not known.
        known: names to choose from.
        cutoff: least similarity of two spellings, 0 to 1.
    """
    if len(name) > _LONGEST_NAME:
        return None
    names = [each for each in known if len(each) <= _LONGEST_NAME][:_MOST_NAMES]
    for ours, others in _OTHERS.items():
        if name in others.split() and (found := next((each for each in ours if each in names), None)):
            return found
    return next(iter(difflib.get_close_matches(name, names, n=1, cutoff=cutoff)), None)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a question that names the nearest known name, with a space after it; empty when no name is near."""
    near = nearest(name, known)
    return "" if near is None else f"did you mean {near!r}? "


def unknown_option(method: str, name: str, known: Sequence[str], *, cure: str = "") -> UnknownOption:
    """Return the error for an option that a method does not have.

    Args:
        method: name of the method.
        name: name of the option.
        known: options that the method has.
        cure: what to do instead; empty to name the nearest option.
    """
    hint = f"{cure}; " if cure else did_you_mean(name, known)
    has = f"its options are {', '.join(known)}" if known else "it takes none"
    return UnknownOption(f"{method}() has no option {name!r}; {hint}{has}")


def refuse_unknown(function: Callable[..., Any], unknown: Mapping[str, object]) -> None:
    """Raise `UnknownOption` for keyword arguments that *function* does not have, naming the nearest it has."""
    if unknown:
        known = [
            parameter.name
            for parameter in inspect.signature(function).parameters.values()
            if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL) and parameter.name != "self"
        ]
        raise unknown_option(function.__name__, next(iter(unknown)), known)


def require_k(k: Any, most: int = MAX_K) -> None:
    """Refuse a k that is no integer from 1 to *most*."""
    if type(k) is not int or not 1 <= k <= most:  # else nothing more is asked: every search comes here
        require_count("k", k)
        if k > most:
            require_within("k", k, most, "k")


def require_limits(limits: Any) -> Limits:
    """Return limits that can be kept; None stands for the defaults."""
    if limits is None:
        return Limits()
    if not isinstance(limits, Limits):
        raise InvalidInput(f"limits is a {type(limits).__name__}; pass reperio.Limits(k=…)")
    for name in ("k", "queries", "hits", "question", "batch", "text", "metadata", "idle", "heavy"):
        if name != "heavy" or limits.heavy is not None:  # None: one per core
            require_count(f"limits.{name}", getattr(limits, name))
    return limits


def require_within(name: str, value: int, most: int, field: str) -> None:
    """Refuse what is beyond a limit, and say how it is raised."""
    if value > most:
        raise InvalidInput(
            f"{name} is {value:,}; at most {most:,} are allowed: raise it with open(limits=Limits({field}=…))"
        )


def require_count(name: str, value: Any) -> None:
    """Refuse what is not a positive integer."""
    if not _is_whole(value) or value < 1:
        raise InvalidInput(f"{name} is {value!r}; it must be an integer of at least 1")


def require_seconds(name: str, value: Any) -> float:
    """Return a number of seconds as a float; refuse what is negative or no number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= threading.TIMEOUT_MAX:
        raise InvalidInput(f"{name} is {value!r:.80}; it must be a number of seconds, 0 or more")
    return float(value)


def require_flag(name: str, value: Any) -> None:
    """Refuse what is neither True nor False: of "false", 0-d arrays and the like nobody knows what is meant."""
    if not isinstance(value, bool):
        raise InvalidInput(f"{name} is {value!r:.80}; it is True or False")


def is_iterable(value: Any) -> bool:
    """Say whether a value can be gone through; an array without dimensions says so of itself and cannot."""
    try:
        iter(value)
    except TypeError:
        return False
    return True


def to_path(name: str, value: Any) -> Path:
    """Return a path as users pass it, a leading ``~`` replaced by the home directory, or refuse what is none.

    Every path of the public interface comes through here, so that ``~`` means the same to Python, to the command line
    (where shells replace it in some places alone) and in a configuration file.
    """
    if not isinstance(value, str | os.PathLike) or not isinstance(text := os.fspath(value), str):
        raise InvalidInput(f"{name} is {value!r:.80}; pass a path: a string, or a pathlib.Path")
    if not text:
        raise InvalidInput(f"{name} is empty; pass a path, or '.' for the current directory")
    if "\0" in text:
        raise InvalidInput(f"{name} is {text!r:.200}, which holds NUL, as no path can; leave it out")
    try:
        os.fsencode(text)  # the surrogates that stand for bytes of a name that is no UTF-8 pass
    except UnicodeEncodeError:
        raise InvalidInput(f"{name} is {text!r:.200}, which holds a lone surrogate, as no path can") from None
    if scheme := _SCHEME.match(text):
        raise InvalidInput(
            f"{name} is a URL ({scheme[0]}…); pass a directory or a file of this host. What is on a server is "
            "passed as origin=…, next to the directory of its replica"
        )
    if ":" in text and _IN_MEMORY.fullmatch(text):
        raise InvalidInput(
            f"{name} is {text!r}; reperio.open(':memory:'), spelt like that, keeps a collection in memory until it is "
            "closed. Everything else takes a path"
        )
    if not text.startswith("~"):
        return Path(text)
    home = os.path.expanduser(text)  # noqa: PTH111  # Path's own raises an untyped error for who is not known
    if home == text:
        raise InvalidInput(
            f"{name} is {text!r:.200}, and there is no such home directory; for a file of that name "
            f"write {'./' + text!r:.200}"
        )
    return Path(home)


def require_page(limit: Any, offset: Any) -> None:
    """Refuse a limit that is no positive integer or None, and an offset that is no integer from 0 on."""
    if limit is not None:
        require_count("limit", limit)
    if not _is_whole(offset) or offset < 0:
        raise InvalidInput(f"offset is {offset!r}; it must be an integer of at least 0")


def require_recall(recall: Any) -> None:
    """Refuse what is not a number in (0, 1]."""
    if isinstance(recall, bool) or not isinstance(recall, (int, float)) or not 0 < recall <= 1:
        raise InvalidInput(f"recall is {recall!r}; it must be above 0 and at most 1, e.g. 0.95")


def to_metric(metric: Any) -> Metric:
    """Return the metric of a name, or refuse it with those there are."""
    try:
        return Metric(metric)
    except ValueError:
        choices = ", ".join(repr(member.value) for member in Metric)
        raise InvalidInput(f"metric is {metric!r}; choose {choices}") from None


def id_list(ids: Any) -> list[str]:
    """Return chunk ids as a list; one string is one id."""
    if isinstance(ids, str):  # the most frequent call
        wanted = [ids]
    elif isinstance(ids, Mapping):
        raise InvalidInput(f"ids is a {type(ids).__name__}; pass a chunk id or a list of them, and a filter as where=")
    elif isinstance(ids, (bytes, bytearray, memoryview)) or not is_iterable(ids):
        raise InvalidInput(f"ids is a {type(ids).__name__}; pass a chunk id or a list of them")
    else:
        wanted = list(ids)
    for chunk_id in wanted:
        if not isinstance(chunk_id, str):
            raise InvalidInput(f"ids holds {chunk_id!r:.80}; chunk ids are strings")
        if not chunk_id.isascii():
            require_unicode(chunk_id, f"the id {chunk_id!r:.80}")
    return wanted


def require_unicode(text: str, what: str) -> None:
    """Refuse a text with a lone surrogate, which no stored text can hold; *what* names it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"{what} holds a lone surrogate at position {error.start}, which is no Unicode text; decode its source "
            "with errors='replace'"
        ) from None


def _is_whole(value: Any) -> bool:
    if isinstance(value, bool):  # an int to Python, and never meant as a number
        return False
    try:
        operator.index(value)  # numpy's integers have one, floats have none
    except TypeError:
        return False
    return True

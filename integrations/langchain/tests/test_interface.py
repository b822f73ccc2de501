"""The whole interface of the installed langchain-core, none of it left out."""

from __future__ import annotations

import inspect

from langchain_core.indexing import RecordManager
from langchain_core.vectorstores import VectorStore

from langchain_reperio import ReperioRecordManager, ReperioVectorStore


def unimplemented(kind: type) -> set[str]:
    """Return the methods that a class of the framework leaves to be written."""
    found = set(getattr(kind, "__abstractmethods__", ()))
    for name, method in inspect.getmembers(kind, inspect.isroutine):
        function = inspect.unwrap(getattr(method, "__func__", method))
        if inspect.isfunction(function) and "raise NotImplementedError" in inspect.getsource(function):
            found.add(name)
    return found


def is_ours(name: str) -> bool:
    """Say whether a method of a store was written here."""
    kind = next(kind for kind in ReperioVectorStore.__mro__ if name in vars(kind))
    return kind.__module__.startswith("langchain_reperio.")


def test_every_method_left_to_be_written_is_written() -> None:
    """Whatever raises NotImplementedError in langchain-core, or is abstract there, is a method of ours."""
    left = unimplemented(VectorStore)
    assert {"add_texts", "delete", "get_by_ids", "similarity_search_by_vector", "_select_relevance_score_fn"} <= left
    for name in left - {"add_documents"}:
        assert is_ours(name), name
    assert unimplemented(RecordManager) <= set(vars(ReperioRecordManager))


def test_positions_and_defaults_are_the_frameworks() -> None:
    """What can be called on a VectorStore can be called in the same way on ours."""
    for name, theirs in inspect.getmembers(VectorStore, inspect.isfunction):
        if name.startswith("_") or not is_ours(name):
            continue
        ours = inspect.signature(getattr(ReperioVectorStore, name)).parameters
        for parameter in inspect.signature(theirs).parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                continue
            assert ours[parameter.name].kind == parameter.kind, (name, parameter.name)
            assert ours[parameter.name].default == parameter.default, (name, parameter.name)


def test_each_asynchronous_method_has_the_name_of_its_twin() -> None:
    """Every public method of the framework's that has an asynchronous twin has one here."""
    for name, method in inspect.getmembers(VectorStore, inspect.iscoroutinefunction):
        assert inspect.iscoroutinefunction(getattr(ReperioVectorStore, name)), name
        assert name.startswith("_") or callable(getattr(ReperioVectorStore, name[1:])), (name, method)

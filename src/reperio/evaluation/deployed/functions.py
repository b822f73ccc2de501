"""Load a search or an embedder that a person names as ``module:function``."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from reperio.arguments import did_you_mean
from reperio.embedding import load_embedder as load_model
from reperio.errors import EmbedderFailed, InvalidInput
from reperio.ranking import CallableReranker, CrossEncoderReranker
from reperio.types import Embedder, Reranker

_FORM = "write module:function, or path/to/file.py:function"
_OPTIONS = ("k", "where", "mode", "vector", "id")  # of a search; all are passed by name


def load_search(name: str) -> Callable[..., Any]:
    """Return the search that *name* names, ``module:function`` or ``file.py:function``.

    A class, or a function that takes nothing, is called once and must give the search. An object with ``search``,
    ``retrieve`` or ``invoke`` is asked by that method.

    Raises:
        InvalidInput: there is no such module or function, or it is no search.
    """
    found = _loaded(name, "search")
    if inspect.isclass(found) or (callable(found) and not _takes_text(found)):
        found = _made(found, name)
    for method in ("search", "retrieve", "invoke"):
        if not callable(found) and callable(getattr(found, method, None)):
            found = getattr(found, method)
    if not callable(found):
        raise InvalidInput(f"{name} is a {type(found).__name__}; a search is a function of a text: def search(text)")
    if not _takes_text(found):
        raise InvalidInput(f"{name} gives a function that takes no text; a search is called as search(text, k=…)")
    search: Callable[..., Any] = found
    return search


def load_embedder(name: str) -> Embedder:
    """Return the embedder that *name* names: ``module:function``, or a model's name or path.

    It is an `Embedder`, or a class or a function without arguments that makes one, or a function that makes vectors of
    a list of texts, questions and passages alike.

    Raises:
        InvalidInput: there is no such module or function, or it is no embedder.
        EmbedderFailed: the function gives no vectors.
    """
    # A drive's letter is no module; nor has a model's name a colon.
    if ":" not in name:
        return load_model(name)
    found = _loaded(name, "embedder")
    if inspect.isclass(found) or (callable(found) and not isinstance(found, Embedder) and not _takes_text(found)):
        found = _made(found, name)
    if isinstance(found, Embedder):
        return found
    if callable(found):
        return _FunctionEmbedder(name, found)
    raise InvalidInput(
        f"{name} is a {type(found).__name__}; an embedder has name, dimension, embed_passages(texts) and "
        "embed_queries(texts), or is a function that makes vectors of a list of texts"
    )


def load_reranker(name: str) -> Reranker:
    """Return the reranker that *name* names: ``module:function``, or a cross-encoder's name or path.

    It is a `Reranker`, or a class or a function without arguments that makes one, or a function of a query and texts.

    Raises:
        InvalidInput: there is no such module or function, or it is no reranker.
        RerankerFailed, MissingDependency: the model cannot be loaded.
    """
    if ":" not in name:
        return CrossEncoderReranker(name)
    found = _loaded(name, "reranker")
    if inspect.isclass(found) or (callable(found) and not isinstance(found, Reranker) and not _takes_text(found)):
        found = _made(found, name)
    if isinstance(found, Reranker):
        return found
    if callable(found):
        return CallableReranker(found)
    raise InvalidInput(
        f"{name} is a {type(found).__name__}; a reranker has score(queries, texts), or is a function of a query and "
        "its texts"
    )


class _FunctionEmbedder:
    """Makes vectors by a function of a list of texts; the first call tells their length."""

    def __init__(self, name: str, function: Callable[[Sequence[str]], Any]) -> None:
        self.name = name
        self._function = function
        self.dimension = int(self.embed_queries(["dimension"]).shape[1])

    def embed_passages(self, texts: Sequence[str]) -> npt.NDArray[np.floating[Any]]:
        """Return an array of shape (len(texts), dimension)."""
        return self.embed_queries(texts)

    def embed_queries(self, texts: Sequence[str]) -> npt.NDArray[np.floating[Any]]:
        """Return an array of shape (len(texts), dimension)."""
        try:
            given = self._function(list(texts))
            if inspect.iscoroutine(given):
                given.close()  # or Python warns that it was never awaited
                raise TypeError("it is asynchronous; name a function that waits")
            found = np.asarray(given, dtype=np.float32)
        except (Exception, SystemExit) as error:  # the function is anybody's
            raise EmbedderFailed(f"{self.name} raised {type(error).__name__}: {error}") from error
        if found.ndim != 2 or len(found) != len(texts):
            raise EmbedderFailed(
                f"{self.name} gave an array of shape {found.shape} for {len(texts)} texts; it must be one vector each"
            )
        return found


def _loaded(name: str, what: str) -> Any:
    module_name, colon, path = name.rpartition(":")
    if not colon or not module_name or not path:
        raise InvalidInput(f"{what} is {name!r}; {_FORM}")
    found: Any = _module(module_name, name)
    for step in path.split("."):
        try:
            found = getattr(found, step)
        except AttributeError:
            public = [each for each in dir(found) if not each.startswith("_")]
            raise InvalidInput(f"{name}: there is no {step!r}; {did_you_mean(step, public)}{_FORM}") from None
    return found


def _module(module_name: str, name: str) -> ModuleType:
    try:
        if module_name.endswith(".py"):
            return _file(Path(module_name))
        # As `python -m` does: the command may be a script, whose folder is elsewhere.
        here = str(Path.cwd())
        if here not in sys.path:
            sys.path.insert(0, here)
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        own = error.name is not None and (module_name == error.name or module_name.startswith(f"{error.name}."))
        what = f"there is no module {module_name!r} here or installed; {_FORM}" if own else f"it needs {error.name!r}"
        raise InvalidInput(f"{name}: {what}") from error
    except InvalidInput:
        raise
    except (Exception, SystemExit) as error:  # a script may end the process where it is imported
        raise InvalidInput(f"{name}: importing it raised {type(error).__name__}: {error}") from error


def _file(path: Path) -> ModuleType:
    if not path.is_file():
        raise InvalidInput(f"{path} is no file; {_FORM}")
    folder = str(path.parent.resolve())
    if folder not in sys.path:  # the file may import its neighbours
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise InvalidInput(f"{path} cannot be imported; {_FORM}")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def _made(maker: Callable[[], Any], name: str) -> Any:
    try:
        return maker()
    except (Exception, SystemExit) as error:  # the class is anybody's
        raise InvalidInput(f"{name}: calling it without arguments raised {type(error).__name__}: {error}") from error


def _takes_text(function: Callable[..., Any]) -> bool:
    """Say whether a function can be called with one thing in its first place."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (ValueError, TypeError):  # built in: it does not tell
        return True
    kinds = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
    )
    return any(each.kind in kinds and each.name not in _OPTIONS for each in parameters)

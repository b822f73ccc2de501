"""Open a store again: from what was persisted, pickled, copied or told as a dictionary. It goes by path and scope."""

from __future__ import annotations

import copy
from dataclasses import asdict
from typing import Any

import fsspec
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.vector_stores.types import DEFAULT_PERSIST_DIR, DEFAULT_PERSIST_FNAME, BasePydanticVectorStore
from reperio import Collection, InvalidInput, Limits, Metric, Reranker
from reperio.filters import parse, to_dict
from typing_extensions import Self

from llama_index.vector_stores.reperio.docstore import Early
from llama_index.vector_stores.reperio.persisting import agreed_scope, read_pointer, write_pointer

IN_MEMORY = ":memory:"  # what reperio.open takes instead of a path
LIMITS = Limits(metadata=1 << 26)
"""The limits of a store by default: an image inside a node is part of the metadata."""

_FIXED = ("class_name", "stores_text", "is_embedding_query")  # what `to_dict` tells besides options
_EARLY = "early"
_SEPARATOR = "__"  # between namespace and file name, as StorageContext.persist writes it


class Reopening(BasePydanticVectorStore):
    """The half of a store that says where it is, and how it is opened there."""

    path: str
    recall: float = 0.95

    _collection: Collection | None = PrivateAttr(default=None)
    _options: dict[str, Any] = PrivateAttr(default_factory=dict)
    _limits: Limits = PrivateAttr(default=LIMITS)
    _reranker: Reranker | None = PrivateAttr(default=None)
    _early: Early = PrivateAttr(default_factory=Early)

    # ── in another process ───────────────────────────────────────────────────────────────────────────────────────────

    def __reduce__(self) -> tuple[Any, ...]:
        if self.path == IN_MEMORY:
            raise InvalidInput("this store is in memory, and its process's alone; give it a path to open it elsewhere")
        return _opened_again, (type(self), self._told() | {"reranker": self._reranker}, copy.deepcopy(self._early))

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        reopen, arguments = self.__reduce__()
        copied: Self = reopen(*arguments)
        return copied

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:
        """Return what `from_dict` opens again: the path, the scope and what else it was opened with.

        What its document store was told before there was a collection goes along. A reranker does not, nor an embedding
        model, which the collection has recorded.
        """
        told = {name: value for name, value in self._told().items() if name != "limits"}
        early = {_EARLY: self._early.to_dict()} if self._early else {}
        return super().to_dict(**kwargs) | told | {"limits": asdict(self._limits)} | early

    @classmethod
    def from_dict(cls, data: dict[str, Any], **kwargs: Any) -> Self:
        """Open the collection that `to_dict` told of, confined as it was; *kwargs* are options of the constructor.

        Raises:
            InvalidInput: there is no scope in *data*, not even None, as of another way to make a dictionary: a store
                without it might see more than before.
        """
        if "scope" not in data:
            raise InvalidInput(
                f"this dictionary was not made by ReperioVectorStore.to_dict, and lacks the scope: open "
                f"ReperioVectorStore({data.get('path', 'path')!r}) with the scope it had"
            )
        if data.get("path") == IN_MEMORY:
            raise InvalidInput("that store was in memory, and its process's alone; give it a path to open it elsewhere")
        told = {name: value for name, value in data.items() if name not in _FIXED}
        limits, early = told.pop("limits", None), told.pop(_EARLY, None)
        store = cls(**{**told, "limits": None if limits is None else Limits(**limits), **kwargs})
        store._early = Early() if early is None else Early.from_dict(early)
        return store

    def _told(self) -> dict[str, Any]:
        """Return the options that open this store again."""
        read_only = self._options.get("read_only", False) if self._collection is None else self._collection.read_only
        told = {name: value for name, value in self._options.items() if name in ("dimension", "dtype", "lexical")}
        metric = self._options.get("metric")
        told |= {} if metric is None else {"metric": Metric(metric).value}
        told |= {"path": self.path, "scope": self._scope(), "limits": self._limits, "recall": self.recall}
        return told | ({"read_only": True} if read_only else {})

    # ── persisting ───────────────────────────────────────────────────────────────────────────────────────────────────

    def persist(self, persist_path: str, fs: fsspec.AbstractFileSystem | None = None) -> None:
        """Write a pointer to the collection, which is on disk already; `reperio.Collection.backup` makes copies.

        The scope is written with it, and holds again when the store is loaded.

        Raises:
            InvalidInput: the collection is in memory, or nodes of its document store are, until the first are indexed.
        """
        if self._early.nodes:
            raise InvalidInput(
                f"{len(self._early.nodes)} nodes of the document store are in memory until the first are indexed, "
                "and persisting would lose them; index some nodes first, or make the store with dimension=…, which "
                "creates the collection at once"
            )
        if self.path == IN_MEMORY:
            raise InvalidInput(
                "this store is in memory, and a pointer to it would lead nowhere; make it with path=…, or keep a copy: "
                "store.client.backup(path)"
            )
        write_pointer(str(persist_path), self.path, self._scope(), fs)

    @classmethod
    def from_persist_path(cls, persist_path: str, fs: fsspec.AbstractFileSystem | None = None, **options: Any) -> Self:
        """Open what `persist` wrote a pointer to, with the scope it had; *options* are those of the constructor.

        Raises:
            NotACollection: nothing is there, or what another store wrote.
            InvalidInput: a scope that is another than the one persisted.
        """
        pointer = read_pointer(str(persist_path), fs)
        scope = agreed_scope(pointer.scope, options.pop("scope", None), str(persist_path))
        return cls(path=pointer.path, scope=scope, **options)

    @classmethod
    def from_persist_dir(
        cls,
        persist_dir: str = DEFAULT_PERSIST_DIR,
        namespace: str = "default",
        fs: fsspec.AbstractFileSystem | None = None,
        **options: Any,
    ) -> Self:
        """Open the store that was in a storage context persisted to *persist_dir*, under *namespace* there."""
        name = f"{namespace}{_SEPARATOR}{DEFAULT_PERSIST_FNAME}"
        return cls.from_persist_path(f"{str(persist_dir).rstrip('/')}/{name}", fs, **options)

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _scope(self) -> dict[str, Any] | None:
        if self._collection is not None:
            return self._collection.scope
        given = self._options.get("scope")  # of a collection that is created when the first nodes come
        return None if given is None else to_dict(parse(given)) or None


def _opened_again(cls: type[Reopening], told: dict[str, Any], early: Early | None = None) -> Any:
    """Open a store that was pickled or copied, with what its document store was told before there was a collection.

    Args:
        cls: class of the store.
        told: options of its constructor.
        early: None in the pickles of older versions.
    """
    store = cls(**told)
    store._early = early or Early()
    return store

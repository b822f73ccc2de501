"""Open a collection: find or create the directory, take the lock, check the contract."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Literal

from typing_extensions import Never

from reperio import layout
from reperio.arguments import (
    refuse_unknown,
    require_count,
    require_flag,
    require_limits,
    require_seconds,
    to_metric,
    to_path,
)
from reperio.collection.facade import Collection
from reperio.collection.generation import creating
from reperio.collection.handle.embedder import DEFAULT_EMBEDDER, LazyEmbedder, resolve
from reperio.collection.handle.handle import Handle
from reperio.collection.handle.scope import Scope
from reperio.collection.handle.telemetry import Telemetry
from reperio.collection.handle.turns import Locks
from reperio.collection.replica.content import settings_of
from reperio.collection.replica.held import Held
from reperio.collection.replica.replica import Pulling, Replica, require_complete
from reperio.embedding.contract import MAX_DIMENSION, Contract, Settings
from reperio.errors import CollectionExists, CollectionLocked, InvalidInput, OriginUnavailable
from reperio.filters import Filter
from reperio.origins import Position
from reperio.printable import logger
from reperio.query_log.recording import QueryLog, QueryRecorder
from reperio.store import Entry, supersede
from reperio.types import Embedder, Limits, Metric

_ATTEMPTS = 8  # to create what others are creating as well
_log = logger("reperio.collection")


def open(
    path: str | os.PathLike[str],
    *,
    embedder: Embedder | str | None = None,
    dimension: int | None = None,
    metric: Metric | str | None = None,
    dtype: Literal["float32", "float16"] | None = None,
    lexical: Literal["porter", "unicode61", "trigram", "none"] | None = None,
    scope: Mapping[str, Any] | Filter | None = None,
    read_only: bool = False,
    exclusive: bool = False,
    lock_timeout: float = 30.0,
    auto_optimize: bool = True,
    trust_index: bool = True,
    limits: Limits | None = None,
    query_log: QueryLog | str | os.PathLike[str] | None = None,
    telemetry: bool = False,
    origin: str | Callable[[], str] | None = None,
    follow: float = 1.0,
    **unknown: Never,
) -> Collection:
    """Open the collection in a directory, or create it if there is none.

    Args:
        path: the directory. A new one is created complete or not at all; an empty one, or a link to one, is taken as
            it is. A leading ``~`` is the home directory, here as in every path that is passed. ``":memory:"`` is a new
            collection in memory, with everything that one in a directory can do; it is gone when it is closed, or when
            the process ends in whatever way.
        embedder: a sentence-transformers name or local path, or an `Embedder`. On an existing collection it must make
            the vectors it was built with (eight canary texts are compared); by default the recorded one is loaded when
            a text must first be embedded. A new collection without *embedder* and *dimension* takes
            ``sentence-transformers/all-MiniLM-L6-v2``.
        dimension: length of the vectors, for a new collection to which you bring your own. The first embedder that adds
            chunks to it is recorded as if it had been passed at creation. Vectors brought ready-made, and questions,
            record nothing: whose they are cannot be verified.
        metric: "cosine" (default), "inner_product" or "l2"; fixed at creation.
        dtype: "float32" (default), or "float16", which takes half the disk and page cache and keeps 11 significant bits
            (cosine scores differ by less than 5e-4); fixed at creation.
        lexical: how texts are cut into words for lexical and hybrid search: "porter" (default: English words without
            their endings), "unicode61" (words as they are written), "trigram" (every three characters, to find parts of
            words; a question of one or two finds nothing, with a warning), or "none", for no lexical index: adding is
            quicker, and only dense search is left. "porter" and "unicode61" cut Chinese, Japanese, Thai and other
            languages without spaces into characters and pairs. Fixed at creation.
        scope: a filter, as in `Collection.search`, that every read and write through this handle is confined to, e.g.
            ``{"tenant": "a"}``: chunks outside are not found, not counted, not deleted and not replaced, and none can
            be stored there. A list in one of the filter's fields must lie inside by each element to be written, deleted
            or replaced, and by one to be read (docs/filters.md). What concerns the whole collection (optimize, compact,
            backup, check) is refused.
        read_only: search only; each commit of any process is seen at the next search.
        exclusive: let no other handle write as long as this one is open. Otherwise any number of them, in this process
            and in others, take turns: each commit waits for those before it.
        lock_timeout: seconds that a commit waits for the turn of others, and `optimize`, `compact` and `reembed` for
            their builds; then `CollectionLocked`. With *exclusive*, that `open` waits for a commit or another handle.
        auto_optimize: let a writer build and extend the index in the background as the collection grows; without it
            only `optimize` does.
        trust_index: False for a directory that others have made: its FAISS file is never read. A reader searches
            exactly; a writer is *exclusive*, forgets the index, also what it was chosen for, and builds its own as for
            a new collection (docs/security.md says what else to mind).
        limits: how much one call may ask for; None for the defaults of `Limits`.
        query_log: keep what `search` and `search_many` are asked by text, with time, filter, latency and ids found: a
            ``.jsonl`` of 10 MB and four older ones next to it, or a `QueryLog` that says otherwise. None for no log.
        telemetry: report each call to OpenTelemetry, in spans and metrics (docs/telemetry.md). Your program configures
            its SDK, and so decides where these go. Texts, ids, metadata and vectors are never in them.
        origin: where the truth of the collection is: ``postgresql://user@host/database?collection=name`` or
            ``redis://host:6379?collection=name``, or a function that returns such a URL. The directory is a replica of
            it: a new one is cloned, writes are made there first, and what other hosts write is taken over
            (docs/origins.md). Its password is kept nowhere.
        follow: seconds after which the origin is asked for what other hosts have written, where the server has not told
            of it before; 0 to take it over in writes, `pull` and ``search(fresh=True)`` only.

    Raises:
        CollectionLocked: *exclusive*, and another handle is writing; or another has opened it so.
        CollectionNotFound: nothing there, and *read_only*.
        NotACollection, CollectionDamaged, UnsupportedFormat, StorageFailed: what is at the path cannot be used.
        EmbeddingContractError: the embedder is not the one the vectors were made with.
        InvalidInput: options contradict each other, or what is recorded.
        MissingDependency: *telemetry*, and OpenTelemetry is not installed; *origin*, and its driver is not.
        OriginUnavailable, OriginRefused, OriginNotFound: the origin cannot be used, and nothing is cloned of it yet.
        OriginDiverged: the directory has what the origin does not have, or is a replica of another one.
    """
    refuse_unknown(open, unknown)
    wanted = None if metric is None else to_metric(metric)
    _require_choice("dtype", dtype, layout.DTYPES)
    _require_choice("lexical", lexical, layout.LEXICAL)
    for name, flag in (("auto_optimize", auto_optimize), ("trust_index", trust_index), ("telemetry", telemetry)):
        require_flag(name, flag)
    patience = _writing(read_only, exclusive, lock_timeout)
    confined = Scope(scope)
    log = query_log if query_log is None or isinstance(query_log, QueryLog) else QueryLog(query_log)
    allowed = require_limits(limits)
    if dimension is not None:
        require_count("dimension", dimension)
        _require_supported("dimension", dimension)
    private = _private(path, read_only=read_only)
    root = layout.Layout(to_path("path", path).absolute() if private is None else private.path)
    given = {"dimension": dimension, "metric": wanted and wanted.value, "dtype": dtype, "lexical": lexical}
    fresh = Settings(dimension or 0, wanted or Metric.COSINE, None, dtype or "float32", lexical or "porter")
    contract: Contract | None = None
    with ExitStack() as undo:
        if private is not None:
            undo.callback(private.close)
        require_seconds("follow", follow)
        replica = _replica(origin, patience, read_only)
        if replica is not None:
            undo.callback(replica.close)
        if not root.is_collection():
            if read_only:
                root.require()
            embedder, contract = _create(root, embedder, dimension, fresh, given, replica)
        locks = None if read_only else Locks(root, timeout=patience, exclusive=exclusive or not trust_index)
        if locks is not None:
            undo.callback(locks.close)
        handle = Handle(
            root,
            locks=locks,
            auto_optimize=auto_optimize,
            scope=confined,
            trust_index=trust_index,
            limits=allowed,
            telemetry=Telemetry(root.root.name) if telemetry else None,
            replica=replica,
            private=private,
        )
        undo.callback(handle.close, finish=False)
        if not read_only:
            _remove_leftovers(handle)
        _begin_following(handle)
        lazy = _checked_embedder(handle, embedder, given, contract)
        recorder = None if log is None else QueryRecorder(log)
        handle.origin.follow(follow)
        undo.pop_all()
    mode = "reading" if read_only else "writing"
    _log.info("%s: opened for %s, %d chunks", root.root, mode, handle.generation.store.state.live)
    handle.maintainer.consider()
    return Collection(handle, lazy, recorder)


def _private(path: object, *, read_only: bool) -> layout.PrivateDirectory | None:
    """Return a directory in memory where that was asked for."""
    if not isinstance(path, str) or path != layout.IN_MEMORY:
        return None
    if read_only:
        raise InvalidInput("read_only=True would find nothing: a collection in memory is new; leave it out")
    return layout.PrivateDirectory()


def _replica(origin: Any, timeout: float, read_only: bool) -> Replica | None:
    if origin is None:
        return None
    if read_only:
        raise InvalidInput("read_only=True reads a replica as it is: leave it out, or origin=")
    pulling = origin if isinstance(origin, Pulling) else Pulling(origin)
    return Replica(pulling, timeout=max(1.0, timeout))


def _begin_following(handle: Handle) -> None:
    """Take over what the origin has; one that is away is no hindrance to a replica that is complete."""
    held = handle.origin.find(handle.generation)
    if handle.origin.replica is None:
        require_complete(held, str(handle.root.root))
        return
    pulling = handle.origin.replica.pulling
    try:
        handle.origin.pull(pulling.progress, reset=pulling.reset)
    except OriginUnavailable as error:
        if held is None or not held.complete or pulling.reset:
            raise
        _log.warning("%s: searched as of commit %d: %s", handle.root.root, held.position.number, error)


def _writing(read_only: bool, exclusive: bool, lock_timeout: float) -> float:
    """Check what was said of writing; return the seconds to wait for a turn."""
    require_flag("read_only", read_only)
    require_flag("exclusive", exclusive)
    if exclusive and read_only:
        raise InvalidInput("exclusive=True is for writing: leave it out, or read_only=True")
    return require_seconds("lock_timeout", lock_timeout)


def _require_supported(what: str, dimension: int) -> None:
    if dimension > MAX_DIMENSION:
        raise InvalidInput(f"{what} is {dimension}; at most {MAX_DIMENSION:,} is supported")


def _require_choice(name: str, value: object, choices: Iterable[str]) -> None:
    if value is not None and (not isinstance(value, str) or value not in tuple(choices)):
        raise InvalidInput(f"{name} is {value!r}; choose {', '.join(map(repr, choices))}")


def _remove_leftovers(handle: Handle) -> None:
    """Remove what a killed writer left, after telling the readers that may still use it.

    Nothing that may be another's work: while others write or build, it stays for the next who opens the collection.
    """
    try:
        with handle.maintaining(wait=False), handle.turn(wait=False) as generation:
            root = layout.Layout(generation.paths.root.parent)
            for paths in root.superseded():
                supersede(paths)
                root.retire(paths)
            root.remove_leftovers()
            generation.remove_unrecorded()
    except CollectionLocked:
        return


def _checked_embedder(
    handle: Handle, embedder: Embedder | str | None, given: Mapping[str, object], drawn_up: Contract | None
) -> LazyEmbedder:
    """Compare what was passed to `open` with what is recorded; an embedder that was passed is checked at once.

    One whose contract this very call has drawn up and recorded need not embed the canaries a second time.
    """
    path = str(handle.root.root)
    settings = handle.generation.settings
    _require_settings(settings, given, path)
    lazy = LazyEmbedder(embedder, path)
    recorded = settings.contract
    if drawn_up is not None and recorded is not None and drawn_up.to_json() == recorded.to_json():
        assert embedder is not None  # loaded, to draw it up
        assert not isinstance(embedder, str)
        lazy.replace(embedder, recorded)
    elif embedder is not None:
        lazy.get(settings)
    return lazy


def _require_settings(settings: Settings, given: Mapping[str, object], where: str) -> None:
    recorded = settings.to_json()
    for name, value in given.items():
        if value is not None and value != recorded[name]:
            raise InvalidInput(
                f"{where} has {name} {recorded[name]}, fixed when it was created; leave {name} out, or create "
                "another collection"
            )


def _create(
    root: layout.Layout,
    embedder: Embedder | str | None,
    dimension: int | None,
    settings: Settings,
    given: Mapping[str, object],
    replica: Replica | None,
) -> tuple[Embedder | str | None, Contract | None]:
    """Create an empty collection; return its embedder, and the contract that was drawn up for it.

    The embedder is loaded already, unless an origin says whose the vectors are.

    Args:
        root: the directory.
        embedder: None for ready-made vectors, if a *dimension* is given.
        dimension: as passed to `open`.
        settings: all but dimension and contract.
        given: what was passed to `open`, to be compared with what an origin has.
        replica: the way to the origin that has the settings; None without one.
    """
    if layout.finish_creation(root.root):  # a process was killed when all was made but the last name
        return embedder, None
    if replica is not None:
        state = replica.ask()
        settings = settings_of(state.settings, replica.where)
        _require_settings(settings, given, replica.where)
        held = Held(Position(state.position.origin, 0, ""), replica.where, complete=False, committed=0.0)
        _create_or_find(root, settings, held.to_entry())
        return embedder, None
    loaded: Embedder | None = None
    if embedder is not None or dimension is None:
        loaded = resolve(embedder if embedder is not None else DEFAULT_EMBEDDER)
        _require_supported(f"the dimension of {loaded.name}", loaded.dimension)
        if dimension is not None and dimension != loaded.dimension:
            raise InvalidInput(
                f"dimension is {dimension}, but {loaded.name} makes {loaded.dimension}; leave dimension out"
            )
    contract = Contract.of(loaded) if loaded is not None else None
    size = loaded.dimension if loaded is not None else dimension
    assert size is not None  # one of the two was given
    _create_or_find(root, replace(settings, dimension=int(size), contract=contract))
    return loaded, contract


def _create_or_find(root: layout.Layout, settings: Settings, first: Entry | None = None) -> None:
    """Create a collection, unless another process is faster: then its collection is opened, if it is one.

    Raises:
        NotACollection, CollectionDamaged: something else is there.
        CollectionNotFound: it is made, and removed, again and again.
    """
    for _ in range(_ATTEMPTS):
        try:
            creating.create(root.root, settings, first)
        except CollectionExists:
            layout.finish_creation(root.root)  # another process may be moving it up still
            if not root.is_collection():  # or have made an empty directory, in which it is creating
                continue
        return
    root.require()

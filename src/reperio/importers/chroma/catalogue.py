"""Read Chroma's catalogue: which collections there are, how their vectors are compared, where their parts lie."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import Any

from reperio.errors import InvalidInput, UnsupportedFormat
from reperio.store import ForeignDatabase
from reperio.types import Metric

# The migrations that Chroma has applied, by their directory: the least and the last number that is known here, of
# chromadb 0.4.0 to 1.5.9. They say what the tables mean; Chroma's own version is recorded nowhere.
_MIGRATIONS = {"sysdb": (3, 10), "metadb": (2, 6), "embeddings_queue": (1, 2)}
_METRICS = {"l2": Metric.L2, "cosine": Metric.COSINE, "ip": Metric.INNER_PRODUCT}
_IN_FILES, _IN_LOG = "hnsw-local-persisted", "hnsw-local-memory"
_SHOWN = 10  # names in a message
_LONGEST_SETTING = 1 << 20  # characters of a configuration


@dataclass(frozen=True, slots=True)
class Catalogued:
    """What the catalogue says of one collection."""

    id: str
    name: str
    dimension: int | None  # None until the first vector
    metric: Metric
    vectors: str  # segment, and folder, of its vectors
    metadata: str  # segment of its documents
    in_files: bool  # its vectors are in files, as far as they are not in the log
    notes: tuple[str, ...]


def read_catalogue(database: ForeignDatabase, wanted: str | None) -> Catalogued:
    """Return the entry of the collection of that name or id; of the only one, for None."""
    _require_known(database)
    found = _chosen(database, wanted)
    segments = dict(_segments(database, found["id"]))
    if segments.keys() != {"VECTOR", "METADATA"}:
        raise InvalidInput(f"{database.path}: collection {found['name']!r:.80} has no vectors or no documents")
    vectors, kind = segments["VECTOR"]
    if kind not in (_IN_FILES, _IN_LOG):
        raise UnsupportedFormat(
            f"{database.path}: the vectors of {found['name']!r:.80} are in a {kind!r:.60}, which only a server of "
            "Chroma reads; copy the collection into a PersistentClient, and import that"
        )
    settings, own = _settings(found), _metadata(database, "collection_metadata", "collection_id", found["id"])
    dimension = found["dimension"]
    if not (dimension is None or (type(dimension) is int and 1 <= dimension <= 1 << 16)):
        raise InvalidInput(f"{database.path}: a collection has vectors of {dimension!r:.40} dimensions")
    return Catalogued(
        id=found["id"],
        name=found["name"],
        dimension=dimension,
        metric=_metric(database, settings, _metadata(database, "segment_metadata", "segment_id", vectors), own),
        vectors=vectors,
        metadata=segments["METADATA"][0],
        in_files=kind == _IN_FILES,
        notes=_notes(settings, own),
    )


def _require_known(database: ForeignDatabase) -> None:
    """Refuse tables of a Chroma that is older or newer than those whose folders were tried."""
    if not database.columns("migrations"):
        raise InvalidInput(f"{database.path} is not what Chroma writes: it has no table of migrations")
    applied: dict[Any, Any] = dict(database.rows("SELECT dir, max(version) FROM migrations GROUP BY dir"))
    for name, (least, last) in _MIGRATIONS.items():
        number = applied.get(name)
        if type(number) is not int or not least <= number <= last:
            raise UnsupportedFormat(
                f"{database.path} was written by a version of Chroma that is not known here ({name} {number!r:.20}; "
                f"{least} to {last} are: chromadb 0.4 to 1.5). An older folder is opened once with a newer Chroma; for "
                "a newer one, get the ids, documents, metadatas and embeddings with Chroma, and add them"
            )


def _chosen(database: ForeignDatabase, wanted: str | None) -> dict[str, Any]:
    columns = [name for name in ("config_json_str", "schema_str") if name in database.columns("collections")]
    names = ["id", "name", "dimension", *columns]
    found = [dict(zip(names, row, strict=True)) for row in database.rows(f"SELECT {', '.join(names)} FROM collections")]
    for each in found:
        if type(each["name"]) is not str or not _is_uuid(each["id"]):
            raise InvalidInput(f"{database.path}: a collection has the id {each['id']!r:.60}, which is no UUID")
    chosen = found if wanted is None else [each for each in found if wanted in (each["name"], each["id"])]
    if len(chosen) == 1:
        return chosen[0]
    # One name may be there in several databases of a Chroma; the id tells them apart.
    listed = ", ".join(f"{each['name']!r:.80} ({each['id']})" for each in (chosen or found)[:_SHOWN]) or "none"
    asked = "which collection is meant" if wanted is None else f"which collection {wanted!r:.80} is"
    raise InvalidInput(
        f"{database.path} does not say {asked}; pass collection= (--collection) with the name or the id of one that "
        f"it has: {listed}"
    )


def _segments(database: ForeignDatabase, collection: str) -> list[tuple[str, tuple[str, str]]]:
    found = []
    for segment, kind, scope in database.rows(
        "SELECT id, type, scope FROM segments WHERE collection = ?", (collection,)
    ):
        # The id becomes the name of a folder.
        if not _is_uuid(segment) or type(kind) is not str or type(scope) is not str:
            raise InvalidInput(f"{database.path}: a part of a collection has the id {segment!r:.60}, which is no UUID")
        found.append((scope, (segment, kind.rpartition("/")[2])))
    return found


def _is_uuid(value: Any) -> bool:
    try:
        return type(value) is str and str(uuid.UUID(value)) == value
    except ValueError:
        return False


def _settings(found: dict[str, Any]) -> dict[str, Any]:
    """Return what Chroma 1 says of the vectors: in a schema, or in a configuration; else nothing.

    What 0.5 and 0.6 call the configuration ("hnsw_configuration") holds defaults and was never used: it says l2 of a
    collection that is compared by cosine.
    """
    schema = _json(found.get("schema_str"))
    inner: Any = schema
    for key in ("keys", "#embedding", "float_list", "vector_index", "config"):
        inner = inner.get(key) if isinstance(inner, dict) else None
    if isinstance(inner, dict):
        return inner
    configuration = _json(found.get("config_json_str"))
    if not isinstance(configuration, dict):
        return {}
    graph = configuration.get("hnsw")
    space = graph.get("space") if isinstance(graph, dict) else None
    return {"space": space, "embedding_function": configuration.get("embedding_function")}


def _json(text: Any) -> Any:
    try:
        return json.loads(text) if type(text) is str and len(text) <= _LONGEST_SETTING else None
    except (ValueError, RecursionError):
        return None


def _metric(
    database: ForeignDatabase, settings: dict[str, Any], segment: dict[str, Any], own: dict[str, Any]
) -> Metric:
    """Return how vectors are compared, as Chroma finds out itself: what is not set otherwise is in the metadata."""
    declared = settings.get("space")
    if declared in (None, "l2"):
        declared = segment.get("hnsw:space", own.get("hnsw:space", "l2"))
    metric = _METRICS.get(declared) if isinstance(declared, str) else None
    if metric is None:
        raise InvalidInput(
            f"{database.path}: vectors are compared by {declared!r:.40}; known are {', '.join(_METRICS)}"
        )
    return metric


def _metadata(database: ForeignDatabase, table: str, column: str, key: str) -> dict[str, Any]:
    """Return the metadata of a collection or a segment, as far as it is text."""
    rows = database.rows(f"SELECT key, str_value FROM {table} WHERE {column} = ?", (key,))
    return {name: value for name, value in rows if type(name) is str}


def _notes(settings: dict[str, Any], own: dict[str, Any]) -> tuple[str, ...]:
    notes = []
    function = settings.get("embedding_function")
    name = function.get("name") if isinstance(function, dict) else None
    if isinstance(name, str):
        notes.append(
            f"Chroma embeds with {name!r:.60}, which is not carried: pass the same model as embedder= (--embedder) to "
            "ask with texts"
        )
    more = sorted(key for key in own if not key.startswith("hnsw:"))
    if more:
        listed = ", ".join(f"{key!r:.40}" for key in more[:_SHOWN])
        notes.append(f"the metadata of the collection itself is not carried: {listed}")
    return tuple(notes)

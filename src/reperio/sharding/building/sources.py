"""Find out what a source is: files of chunks, a collection, or files to ingest; and cut it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from reperio.arguments import is_iterable, to_path
from reperio.collection.handle.embedder import DEFAULT_EMBEDDER, resolve
from reperio.embedding.contract import MAX_DIMENSION, Contract, Settings
from reperio.errors import InvalidInput
from reperio.layout import DTYPES, LEXICAL, Layout, is_there
from reperio.sharding.building.collections import stored_in
from reperio.sharding.building.folders import files_in
from reperio.sharding.building.partitions import Batch, Source, Told
from reperio.sharding.building.tables import Fields, lines_of, rows_of
from reperio.sharding.manifest import MANIFEST
from reperio.types import Embedder, Metric

_TABLES = {".jsonl": "lines", ".ndjson": "lines", ".parquet": "rows"}
_INGESTED = ("text_field", "id_field", "reading", "max_tokens", "overlap", "metadata")


def read_tables(source: Any, settings: Settings, *, rows: int = 16_384) -> Iterator[Batch]:
    """Yield what files of JSON lines or Parquet hold, for `ShardWriter.add`.

    Args:
        source: files, as for `build_shards`.
        settings: of the shards.
        rows: of a partition.

    Raises:
        InvalidInput: they are no such files, or hold what is no chunk.
    """
    paths = paths_of(source)
    kinds = {_TABLES.get(path.suffix.lower()) if path.is_file() else None for path in paths}
    if kinds - {"lines", "rows"} or len(kinds) > 1:
        raise InvalidInput(
            f"{paths[0]} is no file of .jsonl or .parquet (or one of several is another kind); name files"
        )
    cut = rows_of(paths, Fields(), rows) if kinds == {"rows"} else lines_of(paths, Fields())
    for partition in cut.partitions:
        yield from partition.batches(settings, None, Told([], []))


def paths_of(source: Any) -> list[Path]:
    """Return the paths of a source, absolute; refuse none."""
    if isinstance(source, (str, os.PathLike)) or not is_iterable(source):
        return [to_path("source", source).absolute()]
    paths = [to_path("source", one).absolute() for one in source]
    if not paths:
        raise InvalidInput("source is empty; name a file, a folder, or the directory of a collection")
    return paths


def cut_source(paths: Sequence[Path], named: Mapping[str, str], most: int, ingestion: dict[str, Any]) -> Source:
    """Find out what a source is, and cut it.

    Args:
        paths: of the source.
        named: the fields of lines and rows that have other names.
        most: rows of a partition.
        ingestion: options for files and folders.

    Raises:
        InvalidInput: it is no source, or an option is for another kind of source.
    """
    strange = next((name for name in ingestion if name not in _INGESTED), None)
    if strange is not None:
        raise InvalidInput(f"ingestion has no option {strange!r}; it has {', '.join(_INGESTED)}")
    if len(paths) == 1 and paths[0].is_dir() and is_there(paths[0] / "CURRENT") and Layout(paths[0]).is_collection():
        unused = next(iter([*named, *ingestion]), None)
        if unused is not None:
            raise InvalidInput(f"{paths[0]} is a collection, whose chunks are taken as they are; leave {unused} out")
        return stored_in(paths[0], most)
    for path in paths:
        if is_there(path / MANIFEST):
            raise InvalidInput(f"{path} has shards already; split or merge them with: reperio shards split, merge")
        if is_there(path / "manifest.json") and any(is_there(path / f"chunks{suffix}") for suffix in _TABLES):
            raise InvalidInput(f"{path} is an export; name the file in it: {path}/chunks.parquet or chunks.jsonl")
    kinds = {_TABLES.get(path.suffix.lower()) if path.is_file() else None for path in paths}
    if ingestion or kinds - {"lines", "rows"}:
        if named:
            name = next(iter(named))
            cure = "in ingestion=" if name in _INGESTED else "out: texts of files are embedded"
            raise InvalidInput(f"{name} is for lines and rows, and {paths[0]} is ingested; leave it {cure}")
        return files_in(paths, ingestion)
    if len(kinds) > 1:
        raise InvalidInput("the source is JSON lines and Parquet at once; build of files of one kind")
    fields = Fields(**{name.removesuffix("_field"): value for name, value in named.items()})
    return rows_of(paths, fields, most) if kinds == {"rows"} else lines_of(paths, fields)


def settings_of(
    source: Source, embedder: Embedder | str | None, given: Mapping[str, str | None], where: Path
) -> Settings:
    """Return the settings of the shards."""
    if source.settings is not None:
        if embedder is not None or any(given.values()):
            raise InvalidInput(f"{where} is a collection, and its shards are as it is; leave embedder, metric, … out")
        return source.settings
    for name, choices in (("dtype", tuple(DTYPES)), ("lexical", LEXICAL)):
        if given[name] is not None and given[name] not in choices:
            raise InvalidInput(f"{name} is {given[name]!r}; choose {', '.join(map(repr, choices))}")
    contract, dimension = None, source.dimension
    if dimension is None or embedder is not None:
        loaded = resolve(embedder or DEFAULT_EMBEDDER)
        if dimension is not None and dimension != loaded.dimension:
            raise InvalidInput(
                f"{where} has vectors of {dimension}, and {loaded.name} makes {loaded.dimension}; one is wrong"
            )
        contract, dimension = Contract.of(loaded), int(loaded.dimension)
    if not 1 <= dimension <= MAX_DIMENSION:
        raise InvalidInput(f"the vectors of {where} have {dimension} dimensions; 1 to {MAX_DIMENSION:,} are supported")
    metric = Metric(given["metric"] or "cosine")
    return Settings(dimension, metric, contract, given["dtype"] or "float32", given["lexical"] or "porter")  # type: ignore[arg-type]  # checked above

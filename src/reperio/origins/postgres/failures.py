"""Say what the errors of PostgreSQL mean, and the cure."""

from __future__ import annotations

import psycopg

from reperio.errors import InvalidChunk, OriginNotFound, OriginRefused, OriginUnavailable
from reperio.origins.address import Parsed


def translated(
    error: psycopg.Error, parsed: Parsed
) -> OriginUnavailable | OriginRefused | OriginNotFound | InvalidChunk:
    """Say what an error of the driver means, and the cure; without the password."""
    state = error.sqlstate or ""
    said = parsed.told(error.diag.message_primary or error)
    for prefix, kind, cure in _MEANINGS:
        if state.startswith(prefix):
            return kind(f"{parsed.where}: {said}; {cure}")
    if not state:
        for words, kind, cure in _WORDS:  # before a connection stands, libpq has no codes
            if words in said:
                return kind(f"{parsed.where}: {said}; {cure}")
    return OriginUnavailable(f"{parsed.where}: {said}; searches go on, try again when the server is there")


_Meaning = type[OriginUnavailable] | type[OriginRefused] | type[OriginNotFound] | type[InvalidChunk]
_MAKE = "make one: reperio origin create URL KB"
_MEANINGS: tuple[tuple[str, _Meaning, str], ...] = (
    ("28", OriginRefused, "check user and password (PGPASSWORD, a service file, or a function that returns the URL)"),
    ("3D", OriginRefused, "check the name of the database"),
    ("42P01", OriginNotFound, f"the database is no origin; {_MAKE}"),
    (
        "42",
        OriginRefused,
        "the role needs SELECT, INSERT, UPDATE and DELETE on the reperio_ tables; CREATE on the schema to make them",
    ),
    ("25006", OriginRefused, "it is read-only (a standby?); connect to the primary"),
    ("3F", OriginRefused, "name a schema: ?options=-csearch_path%3Dname"),
    ("53100", OriginRefused, "the disk of the server is full; free some space there"),
    ("53", OriginUnavailable, "the server is short of something; try again later"),
    ("22", InvalidChunk, "PostgreSQL cannot keep that; change the chunk"),
    ("54", InvalidChunk, "PostgreSQL cannot keep that; change the chunk"),
)
_WORDS: tuple[tuple[str, _Meaning, str], ...] = (
    ("password", OriginRefused, _MEANINGS[0][2]),
    ("authentication", OriginRefused, _MEANINGS[0][2]),
    ("no pg_hba.conf entry", OriginRefused, "let this host in, there"),
    ('database "', OriginRefused, _MEANINGS[1][2]),
    ('role "', OriginRefused, _MEANINGS[0][2]),
    ("invalid connection option", OriginRefused, "check the options in the URL"),
    ("invalid sslmode", OriginRefused, "check the options in the URL"),
    ("invalid port", OriginRefused, "check the URL"),
    ("invalid integer value", OriginRefused, "check the options in the URL"),
    ("invalid percent-encoded", OriginRefused, "percent-encode user and password"),
    ("invalid URI", OriginRefused, "check the URL"),
    ("definition of service", OriginRefused, "check the service file"),
)

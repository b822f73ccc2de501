"""Find out what kind of server an address is of, and connect to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from reperio.origins.address import Address, resolved
from reperio.origins.protocol import Origin, Position


def connect(address: Address, *, timeout: float) -> Origin:
    """Return the origin at an address; what it is at is not asked yet.

    Args:
        address: ``postgresql://user@host/database?collection=name``, or ``redis://host?collection=name``.
        timeout: seconds for a connection, and for one commit or one block of an answer.

    Raises:
        InvalidInput: it is no such address.
        MissingDependency: the driver is not installed.
        OriginUnavailable, OriginRefused, OriginNotFound: as for the methods of `Origin`.
    """
    if _is_redis(address):
        from reperio.origins import redis

        return redis.RedisOrigin(address, timeout=timeout)
    from reperio.origins import postgres

    return postgres.PostgresOrigin(address, timeout=timeout)


def create(address: Address, settings: Mapping[str, Any], position: Position, *, timeout: float) -> Origin:
    """Make an empty origin and return it.

    Args:
        address: as for `connect`.
        settings: of the collection.
        position: with the identity that it is to have, and the number 0.
        timeout: likewise.

    Raises:
        CollectionExists: the database has a collection of that name.
        Others: as for `connect`.
    """
    if _is_redis(address):
        from reperio.origins import redis

        return redis.create(address, settings, position, timeout=timeout)
    from reperio.origins import postgres

    return postgres.create(address, settings, position, timeout=timeout)


def _is_redis(address: Address) -> bool:
    return urlsplit(resolved(address)).scheme in ("redis", "rediss", "unix")

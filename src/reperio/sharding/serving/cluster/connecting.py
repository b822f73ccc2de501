"""Connect this program to a Ray cluster, and know whether it still is."""

from __future__ import annotations

import logging
import socket
from typing import Any

from reperio.errors import InvalidInput, ShardUnavailable
from reperio.optional import OptionalImport
from reperio.sharding.reaching import require_reachable

NAMESPACE = "reperio"
"""The namespace of Ray in which all of our actors have their names."""

READY = 120.0
"""Seconds that an actor has to answer for the first time."""


def connect(address: str | None) -> Any:
    """Return Ray, connected to a cluster.

    Args:
        address: of the cluster; "auto" for the one on this host; None to start one where this program has none.

    Raises:
        MissingDependency: Ray is not installed.
        ShardUnavailable: there is no cluster.
    """
    with OptionalImport("serving shards in a cluster", "Ray", extra="ray", instead="open_shards without serve="):
        import ray
    if not ray.is_initialized():
        try:
            require_reachable(address)
            ray.init(
                address=address,
                namespace=NAMESPACE,
                include_dashboard=None if address else False,
                logging_level=logging.WARNING,  # else it tells of each connection
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ShardUnavailable(
                f"no Ray cluster{f' at {address}' if address not in (None, 'auto') else ''}: {error!s:.300}; start one "
                "with: ray start --head"
            ) from error
    elif address not in (None, "auto"):
        _require_connected(ray, str(address))
    return ray


def job_of(ray: Any) -> str | None:
    """Return what tells this program's connection to a cluster from a later one; None without one."""
    return str(ray.get_runtime_context().get_job_id()) if ray.is_initialized() else None


def require_job(ray: Any, job: str | None) -> None:
    """Raise `ShardUnavailable` where the connection has ended: Ray itself would connect again, or start a cluster."""
    if job is None or job_of(ray) != job:
        raise ShardUnavailable(
            "this program has ended its connection to Ray since (ray.shutdown()); open the shards again"
        )


def _require_connected(ray: Any, address: str) -> None:
    """Refuse the address of another cluster than this program is connected to: Ray allows one at a time."""
    found = ray.get_runtime_context().gcs_address
    (host, port), (own, own_port) = address.rsplit(":", 1), found.rsplit(":", 1)
    if int(port) != int(own_port) or not _addresses(host) & _addresses(own):
        raise InvalidInput(
            f"this program is connected to the Ray cluster at {found}, and can have one at a time, not {address} as "
            "well; name that one, or call ray.shutdown() first"
        )


def _addresses(host: str) -> set[str]:
    """Return the addresses of a host, which may be this one by any of its names."""
    import ray

    bare = host.strip("[]")
    try:
        found = {str(each[4][0]) for each in socket.getaddrinfo(bare, None)}
    except OSError:
        found = {bare}
    here = {"127.0.0.1", "::1", ray.util.get_node_ip_address()}
    return found | here if found & here else found

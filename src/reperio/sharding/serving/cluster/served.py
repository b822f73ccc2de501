"""Keep a name in a Ray cluster: its catalog, and the actors that belong to it."""

from __future__ import annotations

from typing import Any

from reperio.errors import ReperioError, ShardUnavailable
from reperio.sharding.serving.cluster.connecting import NAMESPACE, READY


class Served:
    """Name the actors that run under a name from `serve` to `stop`; Ray brings it into the catalog's process.

    Args:
        name: of the catalog.
        token: of the catalog. What is served later under the same name has another one, and other actors: a client that
            has slept through the exchange starts none that others take for the new ones.
    """

    def __init__(self, name: str, token: str) -> None:
        self._name, self._token = name, token

    def name_of(self, shard: str, number: int) -> str:
        """Return the name of an actor."""
        return f"{self._name}/{self._token}/{shard}/{number}"

    def shards(self) -> set[str]:
        """Return the names of the shards that have actors."""
        return {name.split("/")[2] for name in _names(f"{self._name}/{self._token}/")}

    def end(self, shard: str) -> None:
        """End the actors of a shard."""
        import ray

        _kill(ray, _names(f"{self._name}/{self._token}/{shard}/"))

    def require_current(self, ray: Any) -> None:
        """Raise `ShardUnavailable` where it was ended; what a client has started since goes with it."""
        try:
            if ask(ray, self._name, "told")["token"] == self._token:
                return
        except ShardUnavailable:
            if _is_there(ray, self._name):
                raise  # it does not answer
        _kill(ray, _names(f"{self._name}/{self._token}/"))
        raise _not_served(self._name)


def ask(ray: Any, name: str, method: str) -> Any:
    """Ask the catalog of a name."""
    catalog = require_served(ray, name)
    try:
        return ray.get(getattr(catalog, method).remote(), timeout=READY)
    except (AttributeError, ray.exceptions.RayTaskError) as error:
        raise ReperioError(
            f"the catalog of {name!r} is of another version of Reperio ({error!s:.300}); end it with: "
            f"reperio shards stop {name}"
        ) from error
    except ray.exceptions.RayError as error:
        raise ShardUnavailable(f"the catalog of {name!r} does not answer ({error}); look at its cluster") from error


def end(ray: Any, name: str) -> bool:
    """End the catalog of a name, and all actors; say whether there was anything."""
    # The catalog first: a client that starts an actor looks afterwards whether the catalog is still there.
    names = [*([name] if _is_there(ray, name) else []), *_names(f"{name}/")]
    _kill(ray, names)
    _kill(ray, _names(f"{name}/"))
    return bool(names)


def require_served(ray: Any, name: str) -> Any:
    """Return the catalog of a name.

    Raises:
        ShardUnavailable: there is none.
    """
    try:
        return ray.get_actor(name, namespace=NAMESPACE)
    except ValueError:
        raise _not_served(name) from None


def _not_served(name: str) -> ShardUnavailable:
    return ShardUnavailable(
        f"no shards are served under the name {name!r} in this cluster; serve them with: "
        f"reperio shards serve DIR --name {name}"
    )


def _is_there(ray: Any, name: str) -> bool:
    try:
        ray.get_actor(name, namespace=NAMESPACE)
    except ValueError:
        return False
    return True


def _names(prefix: str) -> list[str]:
    """Return the names of our actors that begin with a prefix."""
    from ray.util import list_named_actors

    each = list_named_actors(all_namespaces=True)
    return [one["name"] for one in each if one["namespace"] == NAMESPACE and one["name"].startswith(prefix)]


def _kill(ray: Any, names: list[str]) -> None:
    for name in names:
        try:
            ray.kill(ray.get_actor(name, namespace=NAMESPACE))
        except ValueError:
            continue  # gone already

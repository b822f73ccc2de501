"""Take an address of an origin apart, and keep its password out of everything that is told."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple, TypeAlias
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from reperio.errors import InvalidInput
from reperio.printable import one_line

Address: TypeAlias = "str | Callable[[], str]"
"""A URL, or what returns one each time a connection is made, e.g. with a password that changes."""

SCHEMES = ("postgresql", "postgres", "redis", "rediss", "unix")


def is_origin(value: object) -> bool:
    """Say whether a text begins as the address of an origin does."""
    return isinstance(value, str) and value.partition("://")[0] in SCHEMES and "://" in value


_SECRET = ("password", "sslpassword")
_HOST = re.compile(r"(?:\[[^\[\]@]*\]|[^:\[\]@]*)(?::[0-9]*)?")
_MOST_NAME = 200


class Parsed(NamedTuple):
    """An address, taken apart.

    Attributes:
        server: the URL for the driver.
        name: of the collection.
        where: the URL without its password, for messages.
        secrets: the passwords in it, as they are written there.
    """

    server: str
    name: str
    where: str
    secrets: frozenset[str]

    def told(self, error: object) -> str:
        """Return what an error says, in one line and without the password."""
        text = one_line(str(error))
        for secret in self.secrets:
            for spelling in {secret, unquote(secret), quote(secret, safe=""), quote(unquote(secret), safe="")}:
                text = text.replace(spelling, "***")
        return text[:500]


def parse(url: str) -> Parsed:
    """Take a URL apart.

    Raises:
        InvalidInput: it does not say which collection, or is no URL.
    """
    try:
        parts = urlsplit(url)
        userinfo, _, hosts = parts.netloc.rpartition("@")
        user, _, raw = userinfo.partition(":")
        if "@" in userinfo or "@" in parts.path or parts.fragment or ("@" in parts.query and not userinfo):
            raise ValueError
        if not all(_HOST.fullmatch(host) for host in hosts.split(",")):
            raise ValueError
    except ValueError:  # nothing of it is told: where the password ends cannot be known
        raise InvalidInput(
            "the origin's address is no URL; check its host and port, and percent-encode user and password "
            "(urllib.parse.quote(password, safe=''))"
        ) from None
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    name = query.pop("collection", "")
    netloc = f"{user}@{hosts}" if user else hosts
    secrets = {raw, *(value for key, value in query.items() if key in _SECRET)} - {""}
    public = {key: value for key, value in query.items() if key not in _SECRET}
    where = one_line(_url(parts.scheme, netloc, parts.path, public | {"collection": name}))
    if not name or len(name) > _MOST_NAME or not name.isprintable():
        raise InvalidInput(
            f"{where} does not say which collection; add ?collection=NAME to it, of 1 to {_MOST_NAME} characters"
        )
    return Parsed(_url(parts.scheme, parts.netloc, parts.path, query), name, where, frozenset(secrets))


def _url(scheme: str, netloc: str, path: str, query: dict[str, str]) -> str:
    # Not urlunsplit, which leaves out the slashes where there is no host, as with a socket.
    return f"{scheme}://{netloc}{path}{'?' if query else ''}{urlencode(query)}"


def resolved(address: Address) -> str:
    """Return the URL that an address stands for at this moment."""
    url: object = address
    if callable(address):
        try:
            url = address()
        except Exception as error:  # whatever a program of others raises
            # Not what it says: that may have the password.
            raise InvalidInput(f"the function that origin is has raised {type(error).__name__}") from error
    if not isinstance(url, str) or not is_origin(url):
        told = type(url).__name__
        if isinstance(url, str):  # with a password in it, perhaps
            told = f"{url.partition('://')[0]:.20}://…" if "://" in url else "a text that is no URL"
        raise InvalidInput(
            f"the origin is {told}; pass postgresql://user@host/database?collection=name or "
            "redis://host:6379?collection=name, or a function that returns such a URL"
        )
    return url

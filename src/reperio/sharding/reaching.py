"""Find out at once that nobody listens at the address of a Ray cluster: Ray itself waits for minutes."""

from __future__ import annotations

import os
import re
import socket

_ADDRESS = re.compile(r"(?:ray://)?(?:\[([^\]/\s]+)\]|([^:/\s]+)):([0-9]{1,5})")
_PATIENCE = 5.0  # seconds for a connection
_ANSWER = 20.0  # seconds for an answer
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))  # with empty settings
_SETTINGS = 4  # the fourth byte of what every server of gRPC, as Ray's is, says first (RFC 9113, 3.4)


def require_reachable(address: str | None) -> None:
    """Raise `ConnectionError` where no Ray listens at HOST:PORT; what is no such address is left to Ray.

    Args:
        address: of a cluster; None or "auto" for what RAY_ADDRESS names, as Ray has it.
    """
    named = os.environ.get("RAY_ADDRESS") if address in (None, "auto") else address
    match = _ADDRESS.fullmatch(named or "")
    if match is None:
        return
    try:
        with socket.create_connection((match[1] or match[2], int(match[3])), _PATIENCE) as connection:
            is_ray = _is_ray(connection)
    except (OSError, OverflowError) as error:  # OverflowError: a port beyond 65,535
        raise ConnectionError(f"nobody listens at {named} ({error})") from error
    if not is_ray:
        raise ConnectionError(f"what listens at {named} is no Ray, or does not answer")


def _is_ray(connection: socket.socket) -> bool:
    if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
        return True  # or not: it would have to be asked in TLS
    connection.settimeout(_ANSWER)
    try:
        connection.sendall(_HELLO)
        return connection.recv(9)[3:4] == bytes((_SETTINGS,))
    except OSError:
        return False

"""Find out at once that nobody listens at the address of a Ray cluster: Ray itself waits for minutes."""

from __future__ import annotations

import os
import re
import socket

_ADDRESS = re.compile(r"(?:ray://)?([^:/\s]+):([0-9]{1,5})")
_PATIENCE = 5.0  # seconds for a connection


def require_reachable(address: str | None) -> None:
    """Raise `ConnectionError` where nobody listens at HOST:PORT; what is no such address is left to Ray.

    Args:
        address: of a cluster; None or "auto" for what RAY_ADDRESS names, as Ray has it.
    """
    named = os.environ.get("RAY_ADDRESS") if address in (None, "auto") else address
    match = _ADDRESS.fullmatch(named or "")
    if match is None:
        return
    try:
        socket.create_connection((match[1], int(match[2])), _PATIENCE).close()
    except (OSError, OverflowError) as error:  # OverflowError: a port beyond 65,535
        raise ConnectionError(f"nobody listens at {named} ({error})") from error

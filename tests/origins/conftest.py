from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

import reperio

from .contents import D, add
from .redis_server import Redis, running_redis
from .servers import Postgres, postgres_binaries, running_postgres

Server: TypeAlias = Postgres | Redis


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Run a server of PostgreSQL for all tests of this process."""
    if postgres_binaries() is None:
        pytest.skip("needs PostgreSQL (Debian: apt install postgresql)")
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def redis() -> Iterator[Redis]:
    """Run a server of Redis for all tests of this process."""
    with running_redis() as server:
        yield server


@pytest.fixture(params=["postgres", "redis"])
def server(request: pytest.FixtureRequest) -> Server:
    """Return one server after the other: what is promised does not depend on which."""
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def url(server: Server, request: pytest.FixtureRequest) -> str:
    """Return the address of an origin that is not there yet."""
    return server.url(f"kb-{abs(hash(request.node.nodeid)):x}")


@pytest.fixture
def made(url: str, tmp_path: Path) -> str:
    """Make an origin of a collection with 20 chunks, and return its address."""
    with reperio.open(tmp_path / "first", dimension=D) as kb:
        add(kb, list(range(20)))
        kb.records("space").put(["a"], values=[{"x": 1}], groups=["g"])
    assert reperio.create_origin(url, tmp_path / "first").commit > 0
    return url

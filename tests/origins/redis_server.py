"""A real Redis for tests: found on the machine, started for a test run, and stopped with it."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis


class Redis:
    """A server of Redis with a socket in a directory of its own, which syncs every write."""

    def __init__(self, folder: Path, *settings: str) -> None:
        self.folder = folder
        self._settings = settings or ("--appendonly", "yes", "--appendfsync", "always")
        self.start()

    def url(self, name: str, **options: str) -> str:
        """Return the address of an origin on this server."""
        more = "".join(f"&{key}={value}" for key, value in options.items())
        return f"unix://{self.folder}/socket?collection={name}{more}"

    def client(self) -> Any:
        """Return a client of the server."""
        return redis.Redis(unix_socket_path=str(self.folder / "socket"))

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [
            "redis-server",
            "--port",
            "0",
            "--unixsocket",
            str(self.folder / "socket"),
            "--dir",
            str(self.folder),
        ]
        self.process = subprocess.Popen(
            [*command, "--save", "", *self._settings], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + 60
        while True:
            try:
                self.client().ping()
                return
            except redis.AuthenticationError:
                return  # it asks for a password
            except redis.ConnectionError:
                assert time.monotonic() < until
                assert self.process.poll() is None
                time.sleep(0.01)

    def stop(self, how: str = "immediate") -> None:
        """End it at once, as SIGKILL does; it knows no gentler way that matters here."""
        assert how == "immediate"
        self.process.kill()
        self.process.wait()

    def save(self, name: str) -> Any:
        """Keep all that an origin has, for `bring_back`."""
        client = self.client()
        return name, {key: client.dump(key) for key in client.keys(f"reperio:{{{name}}}:*")}

    def bring_back(self, saved: Any) -> None:
        """Set an origin back to what was kept."""
        name, keys = saved
        self.drop(name)
        for key, value in keys.items():
            self.client().restore(key, 0, value)

    def drop(self, name: str) -> None:
        """Remove an origin."""
        for key in self.client().keys(f"reperio:{{{name}}}:*"):
            self.client().delete(key)

    def freeze(self) -> None:
        """Stop it, as a machine that hangs does."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)


@contextmanager
def running_redis(*settings: str) -> Iterator[Redis]:
    """Run a server for the block; skip the test on a machine without one."""
    if shutil.which("redis-server") is None:
        pytest.skip("needs redis-server (Debian: apt install redis-server)")
    folder = Path(tempfile.mkdtemp(prefix="redis-"))
    server = None
    try:
        server = Redis(folder, *settings)
        yield server
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)

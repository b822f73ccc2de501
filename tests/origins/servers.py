"""Real servers for tests: found on the machine, started for a test run, and stopped with it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import psycopg

_TABLES = ("collections", "commits", "chunks", "gone", "records")
DEBIAN = Path("/usr/lib/postgresql")


@cache
def postgres_binaries() -> Path | None:
    """Return the folder that PostgreSQL's programs are in, the newest; None where there is none."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    if DEBIAN.is_dir():
        folders += sorted((one / "bin" for one in DEBIAN.iterdir()), key=lambda one: int(one.parent.name), reverse=True)
    return next((one for one in folders if (one / "initdb").exists() and (one / "pg_ctl").exists()), None)


class Postgres:
    """A server of PostgreSQL with a socket in a directory of its own. It refuses to run as root."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._data = folder / "data"
        self._become = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.geteuid() == 0 else []
        if self._become:
            shutil.chown(folder, "nobody")
        self._run("initdb", "-D", self._data, "-U", "tester", "-E", "UTF8", "--no-locale", "--auth=trust", "--no-sync")
        settings = f"unix_socket_directories = '{folder}'\nlisten_addresses = ''\nmax_connections = 60\n"
        settings += "shared_buffers = 64MB\nautovacuum = off\nmax_wal_size = 4GB\n"
        with (self._data / "postgresql.conf").open("a") as file:
            file.write(settings)
        self.start()

    def url(self, name: str, *, user: str = "tester", database: str = "postgres", **options: str) -> str:
        """Return the address of an origin on this server."""
        more = "".join(f"&{key}={value}" for key, value in options.items())
        return f"postgresql://{user}@/{database}?host={self.folder}&collection={name}{more}"

    def execute(self, query: str, *values: object) -> list[tuple[object, ...]]:
        """Run a statement as the owner."""
        with psycopg.connect(host=str(self.folder), user="tester", dbname="postgres", autocommit=True) as connection:
            cursor = connection.execute(query, values)  # type: ignore[call-overload]  # it wants literal queries
            return cursor.fetchall() if cursor.description else []

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._run("pg_ctl", "-D", self._data, "-w", "-l", self.folder / "log", "start")

    def stop(self, how: str = "fast") -> None:
        """Stop it: "fast", or "immediate", which is as if its machine had lost power."""
        self._run("pg_ctl", "-D", self._data, "-w", "-m", how, "stop")

    def save(self, name: str) -> Any:
        """Keep all that an origin has, for `bring_back`."""
        (number,) = self.execute("SELECT collection FROM reperio_collections WHERE name = %s", name)[0]
        for table in _TABLES:
            self.execute(f"CREATE TABLE saved_{table} AS SELECT * FROM reperio_{table} WHERE collection = {number}")
        return number

    def bring_back(self, saved: Any) -> None:
        """Set an origin back to what was kept."""
        for table in _TABLES:
            self.execute(f"DELETE FROM reperio_{table} WHERE collection = {saved}")
            override = "OVERRIDING SYSTEM VALUE" if table == "collections" else ""
            self.execute(f"INSERT INTO reperio_{table} {override} SELECT * FROM saved_{table}")
            self.execute(f"DROP TABLE saved_{table}")

    def drop(self, name: str) -> None:
        """Remove an origin, as somebody with SQL of their own does."""
        self.execute("DELETE FROM reperio_collections WHERE name = %s", name)

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return int((self._data / "postmaster.pid").read_text().split()[0])

    def freeze(self) -> None:
        """Stop all its processes, as a machine that hangs does."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, which: signal.Signals) -> None:
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        for pid in [self.pid, *map(int, children)]:
            os.kill(pid, which)

    def _run(self, program: str, *arguments: object) -> None:
        binaries = postgres_binaries()
        assert binaries is not None
        # Another program becomes the other user: subprocess's user= hangs now and then in a process with many threads.
        command = [*self._become, str(binaries / program), *map(str, arguments)]
        done = subprocess.run(command, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
        assert done.returncode == 0, done.stderr.decode()


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Run a server for the block, in a short path: that of a socket may have 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    server = None
    try:
        server = Postgres(folder)
        yield server
    finally:
        if server is not None:
            server.stop("immediate")
        shutil.rmtree(folder, ignore_errors=True)

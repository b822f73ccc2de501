"""A proxy between a replica and its server, which cuts connections, and delays what they carry."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from pathlib import Path


class Proxy:
    """Forwards connections to a socket from one of the same name in another directory.

    Args:
        target: socket of the server.
        folder: directory of the proxy's own; its path is short.
        seed: of what happens.
        most: bytes after which a connection is cut, at most; None for never.
        delay: most seconds that a piece is held up.
    """

    def __init__(self, target: Path, folder: Path, *, seed: int, most: int | None, delay: float = 0.0) -> None:
        self._target, self._draw, self._most, self._delay = target, random.Random(seed), most, delay
        self.cuts = 0
        self.stalls = False  # instead of cutting: nothing comes any more, and nobody is told
        self._open: list[tuple[socket.socket, socket.socket]] = []
        self._over = threading.Event()
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(folder / target.name))
        self._listening.listen(16)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._over.set()
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._cut()

    def cut_after(self, most: int) -> None:
        """Cut all connections that there are, and each new one after so many bytes at most."""
        self._most = most
        self._cut()

    def _cut(self) -> None:
        for pair in self._open:
            for one in pair:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                inner, _ = self._listening.accept()
            except OSError:
                return
            outer = socket.socket(socket.AF_UNIX)
            try:
                outer.connect(str(self._target))
            except OSError:
                inner.close()
                outer.close()
                continue
            self._open.append((inner, outer))
            threading.Thread(target=self._join, args=(inner, outer), daemon=True).start()

    def _join(self, inner: socket.socket, outer: socket.socket) -> None:
        left = [None if self._most is None else self._draw.randint(1, self._most)]
        back = threading.Thread(target=self._forward, args=(outer, inner, left), daemon=True)
        back.start()
        self._forward(inner, outer, left)
        back.join()
        inner.close()
        outer.close()

    def _forward(self, source: socket.socket, sink: socket.socket, left: list[int | None]) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                time.sleep(self._draw.random() * self._delay)
                if left[0] is not None and self._most is not None:
                    data, left[0] = data[: max(0, left[0])], left[0] - len(data)
                sink.sendall(data)
                if left[0] is not None and left[0] <= 0 and self._most is not None:
                    self.cuts += 1
                    if self.stalls:
                        self._over.wait()
                    break
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

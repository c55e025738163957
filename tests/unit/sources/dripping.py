"""A server on the loopback that says what it is told to, and then one byte after another, for ever."""

from __future__ import annotations

import contextlib
import socket
import threading

EACH_SEC = 0.02


class Dripping:
    """To be closed. ``head``: what it says at once to whoever asks; ``drop``: what it says from then on."""

    def __init__(self, head: bytes, drop: bytes = b" ") -> None:
        self._head, self._drop = head, drop
        self._closed = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._closed.set()
        self._server.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                line, _ = self._server.accept()
                threading.Thread(target=self._say, args=(line,), daemon=True).start()

    def _say(self, line: socket.socket) -> None:
        with contextlib.suppress(OSError), line:
            line.recv(65_536)
            line.sendall(self._head)
            while not self._closed.wait(EACH_SEC):
                line.sendall(self._drop)

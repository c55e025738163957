"""A TCP line that is cut at random, in the middle of whatever passes.

Everything that it draws comes from its seed. ``target`` may be changed at any time: a server that comes back need not
come back on its port.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import time

PIECE_BYTES = 4096
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: what was not sent is thrown away, the far side gets a reset
_PATIENCE_SEC = 5.0


class Line:
    """Forwards connections to ``target`` (a port of the loopback address); cuts each after about ``mean_sec``."""

    def __init__(self, target: int, seed: int, mean_sec: float) -> None:
        self.target, self.cuts, self.is_calm = target, 0, False
        self._is_closed = False
        self._rng = random.Random(seed)
        self._mean_sec = mean_sec
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """No more connections; those that are open end with their far sides."""
        self._is_closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes who waits for a call
        self._listener.close()

    def _accept(self) -> None:
        while not self._is_closed:
            with contextlib.suppress(OSError):  # who called may be gone again
                near, _ = self._listener.accept()
                threading.Thread(target=self._forward, args=(near,), daemon=True).start()

    def _forward(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection(("127.0.0.1", self.target), timeout=_PATIENCE_SEC)
        except OSError:
            near.close()
            return
        with self._lock:
            cut_at_sec = time.monotonic() + self._rng.expovariate(1 / self._mean_sec)
        for sock in (near, far):
            sock.settimeout(None)
        threading.Thread(target=self._pass, args=(near, far, float("inf")), daemon=True).start()
        self._pass(far, near, cut_at_sec)

    def _pass(self, source: socket.socket, sink: socket.socket, cut_at_sec: float) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(PIECE_BYTES):
                if not self.is_calm and time.monotonic() >= cut_at_sec:
                    self._cut(piece, sink)
                    break
                sink.sendall(piece)
        for sock in (source, sink):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _cut(self, piece: bytes, sink: socket.socket) -> None:
        with self._lock:
            self.cuts += 1
            kept = self._rng.randrange(len(piece))
        sink.sendall(piece[:kept])
        sink.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

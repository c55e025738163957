"""Stands between a client and a simulated OpenD and adds pushes of order books, encoded beforehand, at a steady rate.

    python -m benchmarks.book_injector PORT SYMBOLS BOOKS_PER_SEC

The simulator is one process on one core: making 20,000 books a second takes all of it, and its ticks come late then,
whoever reads them. Here they cost a copy into the socket. SIGUSR1 begins, SIGUSR2 ends; what was sent is said then. A
client that reads too slowly is waited for: fewer are sent a second, never fewer than said. One client; until SIGTERM.
"""

from __future__ import annotations

import itertools
import signal
import socket
import sys
import threading
import time

from benchmarks.book_push import raw_pushes
from hk_tick_collector.opend_sim import wire
from hk_tick_collector.opend_sim.routes import UPDATE_ORDER_BOOK

PUSHES = 20_000  # then they begin again
STEP_SEC = 0.005
MAX_FRAME_BYTES = 64 << 20


class Injector:
    """One connection, both ways; frames stay whole."""

    def __init__(self, client: socket.socket, opend: socket.socket, frames: list[bytes], per_sec: int) -> None:
        self._client, self._opend = client, opend
        self._frames, self._per_sec = itertools.cycle(frames), per_sec
        self._lock = threading.Lock()  # held while whole frames go to the client
        self._runs = threading.Event()
        self.sent = 0

    def start(self) -> None:
        """Begin both directions, and the pushes when they are wanted."""
        for work in (self._up, self._down, self._inject):
            threading.Thread(target=work, daemon=True).start()

    def go_on(self, wanted: bool) -> None:
        """Send pushes, or no more."""
        if wanted:
            self._runs.set()
        else:
            self._runs.clear()

    def _up(self) -> None:
        while data := self._client.recv(1 << 16):
            self._opend.sendall(data)
        self._opend.shutdown(socket.SHUT_WR)

    def _down(self) -> None:
        left = b""
        while data := self._opend.recv(1 << 18):
            left += data
            whole = 0
            while len(left) - whole >= wire.HEADER_BYTES:
                header = wire.decode_header(left[whole : whole + wire.HEADER_BYTES], MAX_FRAME_BYTES)
                if len(left) - whole < wire.HEADER_BYTES + header.body_bytes:
                    break
                whole += wire.HEADER_BYTES + header.body_bytes
            if whole:
                with self._lock:
                    self._client.sendall(left[:whole])
                left = left[whole:]
        self._client.shutdown(socket.SHUT_WR)

    def _inject(self) -> None:
        try:
            while True:
                self._runs.wait()
                due_sec = time.monotonic()
                while self._runs.is_set():
                    now_sec = time.monotonic()
                    wanted = min(int((now_sec - due_sec) * self._per_sec), self._per_sec // 10)
                    due_sec = max(due_sec + wanted / self._per_sec, now_sec - 0.1)
                    part = b"".join(itertools.islice(self._frames, wanted))
                    with self._lock:
                        self._client.sendall(part)
                    self.sent += wanted
                    time.sleep(STEP_SEC)
        except OSError:  # the client has gone
            return


def main() -> int:
    """Serve one client."""
    signals = {signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # in all threads, for sigwait
    port, symbols, per_sec = int(sys.argv[1]), sys.argv[2].split(","), int(sys.argv[3])
    pushes = raw_pushes(PUSHES, symbols, time.time_ns() // 1_000_000)
    frames = [wire.encode_frame(UPDATE_ORDER_BOOK, number, push.message) for number, push in enumerate(pushes)]
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(f"injector_ready port={server.getsockname()[1]}", flush=True)
        client, _ = server.accept()
        with client, socket.create_connection(("127.0.0.1", port)) as opend:
            for end in (client, opend):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            injector = Injector(client, opend, frames, per_sec)
            injector.start()
            while (number := signal.sigwait(signals)) != signal.SIGTERM:
                injector.go_on(number == signal.SIGUSR1)
                if number == signal.SIGUSR2:
                    time.sleep(2 * STEP_SEC)
                    print(f"injected={injector.sent}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

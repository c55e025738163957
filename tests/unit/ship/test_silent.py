"""A ClickHouse that takes connections and says nothing: a question over many days waits for it once."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from hk_tick_collector.clickhouse import connection
from hk_tick_collector.clickhouse.address import Address, parse_address
from hk_tick_collector.clickhouse.connection import ClickHouse, EngineLost


class Silent:
    """It counts who asks; with ``answers`` it says one row."""

    def __init__(self) -> None:
        self.asked, self.answers = 0, False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: Address = parse_address(f"http://127.0.0.1:{self._listener.getsockname()[1]}/hk")
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                taken, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(taken)
            taken.recv(65536)
            self.asked += 1
            if self.answers:
                taken.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\n[1]\n")

    def close(self) -> None:
        self._listener.close()
        for taken in self._open:
            taken.close()


@pytest.fixture
def silent() -> Iterator[Silent]:
    server = Silent()
    yield server
    server.close()


def test_it_is_waited_for_once_and_asked_again_after_a_while(silent: Silent, monkeypatch: pytest.MonkeyPatch) -> None:
    now_sec = 1000.0
    monkeypatch.setattr(connection, "PROBE_SEC", 0.2)
    with ClickHouse(silent.address, timeout_sec=0.3, rest_sec=30, monotonic=lambda: now_sec) as engine:
        for _ in range(20):  # days of one question
            with pytest.raises(EngineLost, match="does not answer"):
                engine.rows("SELECT 1")
        assert silent.asked == 1
        with pytest.raises(EngineLost, match="asked again in 30 s"):
            engine.rows("SELECT 1")
        now_sec += 31
        with pytest.raises(EngineLost):
            engine.rows("SELECT 1")
        assert silent.asked == 2
        now_sec += 31
        silent.answers = True
        assert [engine.rows("SELECT 1") for _ in range(3)] == [[[1]]] * 3
        assert silent.asked == 5


def test_the_shipper_asks_whenever_it_means_to(silent: Silent) -> None:
    with ClickHouse(silent.address, timeout_sec=0.2) as engine:
        for _ in range(2):
            with pytest.raises(EngineLost):
                engine.rows("SELECT 1")
    assert silent.asked == 2

"""What clients of the live channel hold, after everything was killed under them, is what the simulator made.

The files equal the truth (``hk-opend-sim check``), and three clients hold exactly the rows of the files: one over
WebSocket whose server is killed, one over server-sent events that is cut at random and goes on with Last-Event-ID, and
one on the files themselves.
"""

from __future__ import annotations

import contextlib
import json
import random
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx

import hk_tick_collector as hk
from tests.harness import Recorder, Simulator, check, ended, stored_rows, wait_until
from tests.serving import ApiServer

SYMBOLS = "HK.00005,HK.00700,HK.09988"
Row = tuple[str, int, int]


class Client:
    """Rows that a thread takes until it is ended."""

    def __init__(self, take: Callable[[Client], None]) -> None:
        self.rows: list[Row] = []
        self.cuts = 0
        self.over = threading.Event()
        self._thread = threading.Thread(target=take, args=(self,), daemon=True)
        self._thread.start()

    def held(self) -> int:
        return len(self.rows)


def iterating(recordings: hk.Recordings) -> Callable[[Client], None]:
    def take(client: Client) -> None:
        for batch in recordings.live("all", since="day"):
            client.rows += [(row["symbol"], row["seq"], row["ts_ms"]) for row in batch.dicts()]
            if client.over.is_set():
                return

    return take


def streaming(url: str) -> Callable[[Client], None]:
    """Cuts itself after some messages, for ever again."""
    rng = random.Random(7)

    def messages(last: str) -> Iterator[tuple[str, dict[str, object]]]:
        headers = {"Last-Event-ID": last} if last else {}
        timeout = httpx.Timeout(10)
        with httpx.stream(
            "GET", f"{url}/v1/live/events", params={"since": "day"}, headers=headers, timeout=timeout
        ) as answer:
            for line in answer.iter_lines():
                name, _, text = line.partition(": ")
                if name == "id":
                    last = text
                elif name == "data":
                    yield last, json.loads(text)

    def take(client: Client) -> None:
        last = ""
        while not client.over.is_set():
            left = rng.randint(1, 30)
            with contextlib.suppress(httpx.HTTPError):
                for cursor, message in messages(last):
                    last = cursor
                    for row in message.get("ticks", ()):  # type: ignore[attr-defined]
                        client.rows.append((row[1], int(row[7]), row[2]))
                    left -= 1
                    if left == 0 or client.over.is_set():
                        break
            client.cuts += 1
            client.over.wait(0.05)

    return take


def more_than(rows: int, held: Callable[[], int]) -> None:
    wait_until(lambda: held() > rows, f"more than {rows} rows")


def stored(root: Path) -> list[Row]:
    rows: list[Row] = []
    for path in sorted(root.glob("????????.db")):
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as conn:
            rows += conn.execute("SELECT symbol, seq, ts_ms FROM ticks ORDER BY rowid").fetchall()
    return rows


def test_clients_hold_what_was_made(tmp_path: Path) -> None:
    simulator = Simulator(tmp_path / "sim", "--symbols", SYMBOLS, "--always-open", "--rate", "300")
    root = tmp_path / "data"
    root.mkdir()
    recorder = Recorder(root, simulator.port, SYMBOLS)
    server = ApiServer(tmp_path / "server", root, "hk-tick-live", API_ANONYMOUS=1)
    with ended(simulator), contextlib.ExitStack() as processes:
        processes.enter_context(ended(recorder))
        processes.enter_context(ended(server))
        wait_until(lambda: stored_rows(root) > 100, "the first rows")
        clients = [
            Client(iterating(hk.connect(server.url))),
            Client(streaming(server.url)),
            Client(iterating(hk.local(root))),
        ]
        processes.callback(lambda: [client.over.set() for client in clients])
        for is_recorder_killed in (True, False):
            more_than(stored_rows(root) + 300, lambda: stored_rows(root))
            server.end()
            server = ApiServer(tmp_path / "server", root, "hk-tick-live", API_ANONYMOUS=1, LIVE_PORT=server.port)
            processes.enter_context(ended(server))
            if is_recorder_killed:
                recorder.end()
                recorder = Recorder(root, simulator.port, SYMBOLS)
                processes.enter_context(ended(recorder))
                recorder.wait_for("backfill_done")
            for client in clients:
                more_than(len(client.rows), client.held)
        assert recorder.stop() == 0
        result = check(simulator, root, "--allow-tail-ms", "2000")
        assert result.returncode == 0, result.stdout
        rows_stored = stored(root)
        for client in clients:
            more_than(len(rows_stored) - 1, client.held)
            assert client.rows == rows_stored
            client.over.set()
        assert clients[1].cuts > 3
        assert max(Counter(rows_stored).values()) == 1

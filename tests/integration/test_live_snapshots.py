"""Snapshots on the built ``hk-tick-live``, and ``hk.live`` on files and over a server, while a recorder writes."""

from __future__ import annotations

import contextlib
import json
import random
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

import hk_tick_collector as hk
from hk_tick_collector.records.snapshot import COPY, Snapshot
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.data_root import claim
from hk_tick_collector.store.layout import snapshot_file
from hk_tick_collector.store.snapshot_follow import COLUMNS, MAX_BATCH_BYTES
from hk_tick_collector.store.snapshot_reader import stored_snapshots
from hk_tick_collector.store.snapshot_writer import SnapshotWriter
from tests.harness import ended
from tests.serving import ApiServer
from tests.snapshots import DAY, FLOW, NDX, OPEN_SEC, SPX, snapshot

DEADLINE_SEC = 120
SECONDS, FILE_EVERY_SEC = 160, 7
LARGE_BYTES = MAX_BATCH_BYTES // 8  # so that a batch is cut by bytes and not by rows

Row = tuple[Any, ...]


class Recorder(threading.Thread):
    """Writes snapshots of each second, some told twice and some large, a file of the day behind them, for as long as
    the test reads."""

    def __init__(self, root: Path) -> None:
        super().__init__(daemon=True)
        self.root, self._go_on, self.error = root, threading.Event(), ""

    def run(self) -> None:
        writer = SnapshotWriter(self.root, SqliteOptions(), lambda: (OPEN_SEC + 90_000) * 1000)
        draw = random.Random(1)
        try:
            for second in range(SECONDS):
                large = LARGE_BYTES if second % 40 < 10 else draw.randrange(2000)
                rows = [snapshot(SPX, second, large=large), snapshot(FLOW, second), snapshot(NDX, second)]
                writer.write(rows)
                if second % FILE_EVERY_SEC == 0:
                    writer.write([rows[0], self._of_the_file(second)])
                self._go_on.wait(0.005)
            writer.close()
        except Exception as exc:  # told by the test
            self.error = repr(exc)

    @staticmethod
    def _of_the_file(second: int) -> Snapshot:
        return snapshot(SPX, second, COPY, says="otherwise")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "US"
    made.mkdir()
    claim(made, "US")
    return made


@pytest.fixture
def live(tmp_path: Path, root: Path) -> Iterator[ApiServer]:
    server = ApiServer(tmp_path / "server", root, "hk-tick-live", API_ANONYMOUS=1)
    with ended(server):
        yield server


def stored(root: Path, *symbols: str) -> list[Row]:
    """What the file says by itself, in the order of storing."""
    rows = [
        ("US", snapshot.series.symbol, DAY, snapshot.snapshot_no, *snapshot.series[1:], *snapshot[2:])
        for snapshot in stored_snapshots(snapshot_file(root, DAY), [SPX, FLOW, NDX], every=True)
        if not symbols or snapshot.series.symbol in symbols
    ]
    return sorted(rows, key=lambda row: row[3])


def is_all(recorder: Recorder, rows: int, *, series: int = 3) -> bool:
    """Has as much come as there will be? What is told twice is one row."""
    assert not recorder.error
    return rows >= series * SECONDS + len(range(0, SECONDS, FILE_EVERY_SEC))


def test_a_reader_that_is_cut_off_again_and_again_gets_every_snapshot_once(live: ApiServer, root: Path) -> None:
    recorder, draw = Recorder(root), random.Random(3)
    recorder.start()
    url, cursor, rows, cuts = f"{live.url.replace('http', 'ws')}/v1/live", "day", [], 0
    while not is_all(recorder, len(rows)):
        # A server that has not opened the files yet says so, and asks to be asked again.
        with contextlib.suppress(ConnectionClosedError), connect(url, proxy=None, max_size=None) as socket:
            socket.send(json.dumps({"op": "subscribe", "kind": "snapshot", "since": cursor if rows else "-100000"}))
            for _ in range(draw.randrange(2, 5)):
                message = json.loads(socket.recv(DEADLINE_SEC))
                if message["type"] == "welcome":
                    assert tuple(message["columns"]) == COLUMNS
                if message["type"] == "snapshots":
                    assert message["prev"] == cursor or not rows
                    rows += [tuple(row) for row in message["snapshots"]]
                cursor = message.get("cursor", cursor)
                if is_all(recorder, len(rows)):
                    break
        cuts += 1
    assert cuts > 2
    recorder.join()
    assert rows == stored(root)


def test_server_sent_events_bring_the_series_of_a_symbol_as_objects(live: ApiServer, root: Path) -> None:
    recorder = Recorder(root)
    recorder.start()
    rows: list[Row] = []
    asked = {"kind": "snapshot", "symbols": "US.SPX", "since": "-100000", "shape": "object"}
    while not rows:  # a server that has not opened the files yet says so, and asks to be asked again
        with httpx.stream("GET", f"{live.url}/v1/live/events", params=asked, timeout=DEADLINE_SEC) as answer:
            assert answer.status_code in (200, 503)
            for line in answer.iter_lines():
                message = json.loads(line[6:]) if line.startswith("data: ") else {}
                rows += [tuple(row[name] for name in COLUMNS) for row in message.get("snapshots", ())]
                if is_all(recorder, len(rows), series=2):
                    break
    recorder.join()
    assert rows == stored(root, "US.SPX")
    assert set(Counter(row[4] for row in rows)) == {"classic", "orderflow"}
    assert all(json.loads(row[-1])["ticker"] == "SPX" for row in rows)


@pytest.mark.parametrize("over", ["files", "server"])
def test_the_python_client_follows_and_goes_on_at_its_cursor(
    live: ApiServer, root: Path, tmp_path: Path, over: str
) -> None:
    recorder = Recorder(root)
    recorder.start()
    api = hk.local(root) if over == "files" else hk.connect(live.url)
    rows: list[Row] = []
    processes = 0
    while not is_all(recorder, len(set(rows)), series=2):
        processes += 1
        with api.live("US.SPX", kind="snapshot", since="-100000", cursor_file=tmp_path / "cursor") as following:
            for number, batch in enumerate(following):
                rows += batch.rows
                assert tuple(batch.columns) == COLUMNS
                if number == 2 or is_all(recorder, len(set(rows)), series=2):
                    break
    recorder.join()
    # The batch that was taken last before an end comes again, and nothing else.
    assert set(rows) == set(stored(root, "US.SPX"))
    assert processes > 1


def test_what_a_subscription_to_snapshots_cannot_have_is_refused_by_name(live: ApiServer, root: Path) -> None:
    for wrong in ("depth=5", "types=all"):
        answer = httpx.get(f"{live.url}/v1/live/events?kind=snapshot&{wrong}", timeout=DEADLINE_SEC)
        assert (answer.status_code, "nothing that kind=snapshot has" in answer.json()["detail"]) == (400, True)

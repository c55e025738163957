"""Order books on the built ``hk-tick-live``, and ``hk.live`` on files, while a recorder writes, dies and goes on."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

import hk_tick_collector as hk
from hk_tick_collector.store import book_reader
from hk_tick_collector.store.book_follow import COLUMNS
from hk_tick_collector.store.layout import book_file
from tests.books import DAY, record_books
from tests.harness import ended
from tests.integration.committing_books import SYMBOLS
from tests.serving import ApiServer

NEXT_DAY = "20261123"
DEADLINE_SEC = 60
_NAMES = ("symbol", "trading_day", "recv_ts_us", "update_no", "kind", "merged", "bid_ts_ms", "ask_ts_ms")

State = tuple[Any, ...]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("books") / "HK"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Iterator[ApiServer]:
    root.mkdir()
    server = ApiServer(tmp_path_factory.mktemp("server"), root, "hk-tick-live", API_ANONYMOUS=1)
    with ended(server):
        yield server


def stored(root: Path, day: str) -> list[State]:
    """What a file says by itself, as readers should hold it."""
    numbered = enumerate(book_reader.states(book_file(root, day)), 1)
    return [
        (
            (one.symbol, day, one.recv_ts_us, number, one.kind.value, one.merged, one.bid_ts_ms, one.ask_ts_ms),
            None if one.book is None else (one.book.bids, one.book.asks),
        )
        for number, one in numbered
    ]


def state_of(row: Any) -> State:
    given = dict(zip(COLUMNS, row, strict=True))
    sides = [given[side] and tuple(map(tuple, given[side])) for side in ("bids", "asks")]
    is_break = given["kind"] == "B"
    assert (given["bids"] is None, given["asks"] is None, given["market"]) == (is_break, is_break, "HK")
    return tuple(given[name] for name in _NAMES), None if is_break else tuple(side or () for side in sides)


class Reader:
    """A client that is cut off again and again, and holds every book."""

    def __init__(self, url: str) -> None:
        self.url, self.cursor, self.cuts = f"{url.replace('http', 'ws')}/v1/live", "day", 0
        self.states: list[State] = []
        self.books: dict[str, State] = {}

    def read(self, is_enough: Callable[[], bool], draw: random.Random) -> None:
        deadline = time.monotonic() + DEADLINE_SEC
        while not is_enough():
            with connect(self.url, proxy=None, max_size=None) as socket:
                socket.send(json.dumps({"op": "subscribe", "kind": "book", "depth": 20, "since": self.cursor}))
                welcome = json.loads(socket.recv(30))
                assert welcome["columns"] == list(COLUMNS)
                self.cursor = welcome["cursor"]
                snapshot = json.loads(socket.recv(30))
                assert snapshot["type"] == "snapshot"
                assert {row[1]: state_of(row) for row in snapshot["books"]} == self.books, "there is a seam"
                cut_at = len(self.states) + draw.randrange(1, 60)
                while len(self.states) < cut_at and not is_enough():
                    assert time.monotonic() < deadline, f"{len(self.states)} states came"
                    self.take(json.loads(socket.recv(30)))
            self.cuts += 1

    def take(self, message: dict[str, Any]) -> None:
        assert message["prev"] in (self.cursor, message["cursor"]), "a message was missed"
        self.cursor = message["cursor"]
        for row in message.get("books", ()):
            state = state_of(row)
            self.states.append(state)
            if state[1] is None:
                self.books.pop(row[1], None)
            else:
                self.books[row[1]] = state


@contextlib.contextmanager
def recorder(root: Path, day: str, seed: int) -> Iterator[subprocess.Popen[bytes]]:
    """Ended as a good one ends, unless it was killed."""
    arguments = [sys.executable, "-m", "tests.integration.committing_books", str(root), day, str(seed)]
    process = subprocess.Popen(arguments, stdin=subprocess.PIPE)
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(30) in (0, -9)


def test_every_book_once_over_cuts_kills_and_a_new_day(live: ApiServer, root: Path) -> None:
    draw = random.Random(7)
    reader = Reader(live.url)
    with recorder(root, DAY, 1) as first:
        reader.read(lambda: len(reader.states) > 100, draw)
        first.kill()
    with recorder(root, DAY, 2):
        reader.read(lambda: len(reader.states) > 400, draw)
    with recorder(root, NEXT_DAY, 3):
        reader.read(lambda: reader.states[-1][0][1] == NEXT_DAY, draw)
    expected = stored(root, DAY) + stored(root, NEXT_DAY)
    reader.read(lambda: len(reader.states) >= len(expected), draw)
    assert reader.states == expected
    assert reader.cuts >= 3
    assert reader.books == {}, "the recorder stopped: no book is known any more"
    died = [state for state in reader.states if state[1] is None and state[0][1] == DAY]
    assert {state[0][0] for state in died} == set(SYMBOLS)


def test_python_on_files_and_on_the_server_and_events(live: ApiServer, root: Path, tmp_path: Path) -> None:
    """One cursor for all of them; a line that begins in the middle is told the books of then first."""
    mine = tmp_path / "HK"
    record_books(mine, pushes=300)
    expected = stored(mine, DAY)
    with hk.local(mine).live("all", kind="book", since="-120", depth=20) as local:
        snapshot, pushes = next(local), next(local)
    before = {state[0][0]: state for state in expected[:-120]}
    assert snapshot.is_snapshot
    assert {row[1]: state_of(row) for row in snapshot.rows} == before
    assert [state_of(row) for row in pushes.rows] == expected[-120:]
    with hk.local(mine).live("700", kind="book", depth=1, since="day") as best:
        rows = next(best).dicts()
    assert {row["symbol"] for row in rows} == {"HK.00700"}
    assert {len(row["bids"]) for row in rows if row["kind"] != "B"} == {1}

    with recorder(root, "20261124", 4), hk.connect(live.url).live("700", kind="book") as remote:
        batch = next(remote)
        while batch.is_snapshot:
            batch = next(remote)
        with hk.local(root).live("700", kind="book", since=batch.cursor) as goes_on:
            snapshot = next(goes_on)
        assert [state_of(row) for row in snapshot.rows] == [state_of(batch.rows[-1])]
        address = f"{live.url}/v1/live/events?symbols=HK.00700&kind=book&shape=object&since={batch.cursor}"
        with httpx.stream("GET", address, timeout=30) as events:
            lines = iter(events.iter_lines())
            told = [json.loads(next(line for line in lines if line.startswith("data: "))[6:]) for _ in range(2)]
    assert [message["type"] for message in told] == ["welcome", "snapshot"]
    assert [state_of(row.values()) for row in told[1]["books"]] == [state_of(batch.rows[-1])]


def test_python_is_told_the_books_of_every_data_root_of_a_market(tmp_path: Path) -> None:
    roots = {symbol: tmp_path / symbol / "HK" for symbol in SYMBOLS[:2]}
    for symbol, place in roots.items():
        record_books(place, symbols=(symbol,), pushes=100)
    named = ",".join(map(str, roots.values()))
    server = ApiServer(tmp_path / "server", tmp_path, "hk-tick-live", API_ANONYMOUS=1, DATA_ROOTS=named)
    with ended(server), hk.connect(server.url).live("all", kind="book", since="-20", depth=20) as remote:
        snapshots = [next(remote), next(remote)]
    assert [batch.is_snapshot for batch in snapshots] == [True, True]
    told = {row[1]: state_of(row) for batch in snapshots for row in batch.rows}
    assert told == {symbol: stored(place, DAY)[-21] for symbol, place in roots.items()}


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"kind": "quote"}, "kind: there are tick, book"),
        ({"kind": "book,tick"}, "kind: give one of tick, book"),
        ({"on_slow": "close,conflate"}, "on_slow: give one of catch_up, conflate, close"),
        ({"kind": "book", "types": "all"}, "types: is nothing that kind=book has"),
        ({"depth": "5"}, "depth: is nothing that kind=tick has"),
        ({"kind": "book", "depth": "0"}, "depth: levels of each side, 1 to 1000"),
        ({"kind": "book", "depth": "1001"}, "depth: levels of each side"),
        ({"kind": "book", "since": "v2~-~00000000"}, "since is not a cursor of this server"),
    ],
)
def test_what_cannot_be_meant_is_refused(live: ApiServer, asked: dict[str, str], why: str) -> None:
    answer = httpx.get(f"{live.url}/v1/live/events", params=asked)
    assert (answer.status_code, why in answer.text) == (400, True), answer.text

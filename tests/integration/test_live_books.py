"""Order books and broker queues on the built ``hk-tick-live``, and ``hk.live`` on files, while a recorder writes, dies
and goes on."""

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
from hk_tick_collector.store import book_follow, book_reader, broker_follow, broker_reader
from hk_tick_collector.store.layout import book_file, broker_file
from tests.books import DAY, record_books
from tests.brokers import record_brokers
from tests.harness import ended
from tests.integration.committing_books import SYMBOLS
from tests.serving import ApiServer, add_key

NEXT_DAY = "20261123"
DEADLINE_SEC = 60
_NAMES = ("symbol", "trading_day", "recv_ts_us", "update_no", "kind", "merged", "bid_ts_ms", "ask_ts_ms")
COLUMNS = {"book": book_follow.COLUMNS, "broker": broker_follow.COLUMNS}
DEPTH = {"book": {"depth": 20}, "broker": {}}

State = tuple[Any, ...]


@pytest.fixture(scope="module", params=list(COLUMNS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, kind: str) -> Path:
    return tmp_path_factory.mktemp(kind) / "HK"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Iterator[ApiServer]:
    root.mkdir()
    server = ApiServer(tmp_path_factory.mktemp("server"), root, "hk-tick-live", API_ANONYMOUS=1)
    with ended(server):
        yield server


def stored(kind: str, root: Path, day: str) -> list[State]:
    """What a file says by itself, as readers should hold it."""
    if kind == "broker":
        return _stored_queues(broker_file(root, day), day)
    numbered = enumerate(book_reader.states(book_file(root, day)), 1)
    return [
        (
            (row.symbol, day, row.recv_ts_us, number, row.kind.value, row.merged, row.bid_ts_ms, row.ask_ts_ms),
            None if row.book is None else (row.book.bids, row.book.asks),
        )
        for number, row in numbered
    ]


def _stored_queues(path: Path, day: str) -> list[State]:
    names = broker_reader.names_of(path)
    return [
        (
            (row.symbol, day, row.recv_ts_us, number, row.kind.value, row.merged),
            row.queue and tuple(tuple((level, key, names[key]) for level, key in side) for side in row.queue),
        )
        for number, row in enumerate(broker_reader.queues(path), 1)
    ]


def record(kind: str, root: Path, symbols: tuple[str, ...], pushes: int) -> None:
    if kind == "book":
        record_books(root, symbols=symbols, pushes=pushes)
    else:
        record_brokers(root, symbols=symbols, pushes=pushes)


def state_of(kind: str, row: Any) -> State:
    given = dict(zip(COLUMNS[kind], row, strict=True))
    sides = [given[side] and tuple(map(tuple, given[side])) for side in ("bids", "asks")]
    is_break = given["kind"] == "B"
    assert (given["bids"] is None, given["asks"] is None, given["market"]) == (is_break, is_break, "HK")
    head = tuple(given[name] for name in _NAMES if name in given)
    return head, None if is_break else tuple(side or () for side in sides)


def known_of(kind: str, states: list[State]) -> dict[str, State]:
    """What is known behind these states, a symbol. A queue that is only pushed again is known from the row that told
    it."""
    known: dict[str, State] = {}
    for state in states:
        symbol, is_told_again = state[0][0], kind == "broker" and state[0][4] == "S"
        if state[1] is None:
            known.pop(symbol, None)
        elif not is_told_again or symbol not in known:
            known[symbol] = state
    return known


class Reader:
    """A client that is cut off again and again, and holds every state."""

    def __init__(self, url: str, kind: str) -> None:
        self.kind, self.rows = kind, f"{kind}s"
        self.url, self.cursor, self.cuts = f"{url.replace('http', 'ws')}/v1/live", "day", 0
        self.states: list[State] = []

    @property
    def known(self) -> dict[str, State]:
        return known_of(self.kind, self.states)

    def read(self, is_enough: Callable[[], bool], draw: random.Random) -> None:
        deadline = time.monotonic() + DEADLINE_SEC
        while not is_enough():
            with connect(self.url, proxy=None, max_size=None) as socket:
                asked = {"op": "subscribe", "kind": self.kind, "since": self.cursor, **DEPTH[self.kind]}
                socket.send(json.dumps(asked))
                welcome = json.loads(socket.recv(30))
                assert welcome["columns"] == list(COLUMNS[self.kind])
                self.cursor = welcome["cursor"]
                snapshot = json.loads(socket.recv(30))
                assert snapshot["type"] == "snapshot"
                told = {row[1]: state_of(self.kind, row) for row in snapshot[self.rows]}
                assert told == self.known, "there is a seam"
                cut_at = len(self.states) + draw.randrange(1, 60)
                while len(self.states) < cut_at and not is_enough():
                    assert time.monotonic() < deadline, f"{len(self.states)} states came"
                    self.take(json.loads(socket.recv(30)))
            self.cuts += 1

    def take(self, message: dict[str, Any]) -> None:
        assert message["prev"] in (self.cursor, message["cursor"]), "a message was missed"
        self.cursor = message["cursor"]
        self.states += [state_of(self.kind, row) for row in message.get(self.rows, ())]


@contextlib.contextmanager
def recorder(kind: str, root: Path, day: str, seed: int) -> Iterator[subprocess.Popen[bytes]]:
    """Ended as a good one ends, unless it was killed."""
    arguments = [sys.executable, "-m", "tests.integration.committing_books", str(root), day, str(seed), kind]
    process = subprocess.Popen(arguments, stdin=subprocess.PIPE)
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(30) in (0, -9)


def test_every_state_once_over_cuts_kills_and_a_new_day(live: ApiServer, root: Path, kind: str) -> None:
    draw = random.Random(7)
    reader = Reader(live.url, kind)
    with recorder(kind, root, DAY, 1) as first:
        reader.read(lambda: len(reader.states) > 100, draw)
        first.kill()
    with recorder(kind, root, DAY, 2):
        reader.read(lambda: len(reader.states) > 400, draw)
    with recorder(kind, root, NEXT_DAY, 3):
        reader.read(lambda: reader.states[-1][0][1] == NEXT_DAY, draw)
    expected = stored(kind, root, DAY) + stored(kind, root, NEXT_DAY)
    reader.read(lambda: len(reader.states) >= len(expected), draw)
    assert reader.states == expected
    assert reader.cuts >= 3
    assert reader.known == {}, "the recorder stopped: nothing is known any more"
    died = [state for state in reader.states if state[1] is None and state[0][1] == DAY]
    assert {state[0][0] for state in died} == set(SYMBOLS)


def test_python_on_files_and_on_the_server_and_events(live: ApiServer, root: Path, kind: str, tmp_path: Path) -> None:
    """One cursor for all of them; a line that begins in the middle is told the states of then first."""
    mine = tmp_path / "HK"
    record(kind, mine, ("HK.00005", "HK.00700"), 300)
    expected = stored(kind, mine, DAY)
    with hk.local(mine).live("all", kind=kind, since="-120", **DEPTH[kind]) as local:
        snapshot, pushes = next(local), next(local)
    assert snapshot.is_snapshot
    assert {row[1]: state_of(kind, row) for row in snapshot.rows} == known_of(kind, expected[:-120])
    assert [state_of(kind, row) for row in pushes.rows] == expected[-120:]
    with hk.local(mine).live("700", kind=kind, since="day") as of_symbol:
        rows = next(of_symbol).dicts()
    assert {row["symbol"] for row in rows} == {"HK.00700"}
    assert len(rows) == sum(state[0][0] == "HK.00700" for state in expected)
    with hk.local(mine).live("700", kind="book", depth=1, since="day") as best:
        rows = next(best).dicts() if kind == "book" else []
    assert {len(row["bids"]) for row in rows if row["kind"] != "B"} == ({1} if kind == "book" else set())

    with recorder(kind, root, "20261124", 4), hk.connect(live.url).live("700", kind=kind) as remote:
        batch = next(remote)
        while batch.is_snapshot or batch.rows[-1][5] not in "FD":
            batch = next(remote)
        with hk.local(root).live("700", kind=kind, since=batch.cursor) as goes_on:
            snapshot = next(goes_on)
        assert [state_of(kind, row) for row in snapshot.rows] == [state_of(kind, batch.rows[-1])]
        address = f"{live.url}/v1/live/events?symbols=HK.00700&kind={kind}&shape=object&since={batch.cursor}"
        with httpx.stream("GET", address, timeout=30) as events:
            lines = iter(events.iter_lines())
            told = [json.loads(next(line for line in lines if line.startswith("data: "))[6:]) for _ in range(2)]
    assert [message["type"] for message in told] == ["welcome", "snapshot"]
    assert [state_of(kind, row.values()) for row in told[1][f"{kind}s"]] == [state_of(kind, batch.rows[-1])]


def test_python_is_told_the_states_of_every_data_root_of_a_market(kind: str, tmp_path: Path) -> None:
    roots = {symbol: tmp_path / symbol / "HK" for symbol in SYMBOLS[:2]}
    for symbol, place in roots.items():
        record(kind, place, (symbol,), 100)
    named = ",".join(map(str, roots.values()))
    server = ApiServer(tmp_path / "server", tmp_path, "hk-tick-live", API_ANONYMOUS=1, DATA_ROOTS=named)
    with ended(server), hk.connect(server.url).live("all", kind=kind, since="-20", **DEPTH[kind]) as remote:
        snapshots = [next(remote), next(remote)]
    assert [batch.is_snapshot for batch in snapshots] == [True, True]
    told = {row[1]: state_of(kind, row) for batch in snapshots for row in batch.rows}
    known = [known_of(kind, stored(kind, place, DAY)[:-20]) for place in roots.values()]
    assert told == {symbol: state for of_root in known for symbol, state in of_root.items()}
    assert told.keys() == roots.keys()


def test_a_key_gets_the_states_of_its_symbols_alone(kind: str, tmp_path: Path) -> None:
    root = tmp_path / "HK"
    record(kind, root, SYMBOLS, 200)
    key = add_key(tmp_path / "keys.json", symbols=("HK.00700",))
    server = ApiServer(tmp_path / "server", root, "hk-tick-live", API_KEYS_FILE=tmp_path / "keys.json")
    with ended(server):
        with hk.connect(server.url, key).live("all", kind=kind, since="-60", **DEPTH[kind]) as remote:
            snapshot, pushes = next(remote), next(remote)
        refused = httpx.get(
            f"{server.url}/v1/live/events?kind={kind}&symbols=HK.00005", headers={"Authorization": f"Bearer {key}"}
        )
    mine = [state for state in stored(kind, root, DAY)[-60:] if state[0][0] == "HK.00700"]
    assert {row[1] for row in snapshot.rows} == {"HK.00700"}
    assert [state_of(kind, row) for row in pushes.rows] == mine
    assert (refused.status_code, "HK.00005" in refused.text) == (403, True)


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"kind": "quote"}, "kind: there are tick, book"),
        ({"kind": "book,tick"}, "kind: give one of tick, book"),
        ({"on_slow": "close,conflate"}, "on_slow: give one of catch_up, conflate, close"),
        ({"kind": "book", "types": "all"}, "types: is nothing that kind=book has"),
        ({"depth": "5"}, "depth: is nothing that kind=tick has"),
        ({"kind": "broker", "depth": "5"}, "depth: is nothing that kind=broker has"),
        ({"kind": "broker", "types": "all"}, "types: is nothing that kind=broker has"),
        ({"kind": "broker", "since": "v2.books~-~00000000"}, "since is not a cursor of this server"),
        ({"kind": "book", "depth": "0"}, "depth: levels of each side, 1 to 1000"),
        ({"kind": "book", "depth": "1001"}, "depth: levels of each side"),
        ({"kind": "book", "since": "v2~-~00000000"}, "since is not a cursor of this server"),
    ],
)
def test_what_cannot_be_meant_is_refused(live: ApiServer, asked: dict[str, str], why: str) -> None:
    answer = httpx.get(f"{live.url}/v1/live/events", params=asked)
    assert (answer.status_code, why in answer.text) == (400, True), answer.text

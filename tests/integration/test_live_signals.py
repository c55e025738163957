"""Signals of hooks on the live channel: for those who may, each once, over cuts and a killed server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hk_tick_collector.store.signals import SignalStore, signals_file
from hk_tick_collector.store.writer import DayFileWriter
from tests.harness import ended
from tests.integration.test_live import Reader
from tests.serving import ApiServer, add_key
from tests.unit.store_ticks import ticks

DAY_MS = ticks(1)[0].ts_ms


class Place:
    """A server with hooks, keys for it, and the file of signals."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.hooks = directory, directory / "hooks"
        keys = directory / "keys.json"
        self.keys = {
            "both": add_key(keys, "both", scopes=["live", "hook:ml-trade", "hook:other"]),
            "one": add_key(keys, "one", scopes=["live", "hook:other"], symbols=["HK.00005"]),
            "none": add_key(keys, "none", scopes=["live"]),
        }
        (directory / "HK").mkdir()
        self.writer = DayFileWriter(directory / "HK")
        self.writer.write(ticks(20))
        self.store = SignalStore(self.hooks)
        self.server = self.start()

    def start(self, **settings: object) -> ApiServer:
        return ApiServer(
            self.directory / "server", self.directory / "HK", "hk-tick-live",
            **{"API_KEYS_FILE": self.directory / "keys.json", "HOOKS_DIR": self.hooks, **settings},
        )  # fmt: skip

    def add(self, name: str = "ml-trade", symbol: str = "HK.00700", recv_ts_ms: int = DAY_MS) -> int:
        payload = {"symbol": symbol, "action": "buy"}
        stored, _ = self.store.add(name, symbol, payload, recv_ts_ms=recv_ts_ms, cursor="v1~-", sender="test")
        return stored.number

    def reader(self, key: str = "both", **wanted: Any) -> Reader:
        return Reader(self.server.url, self.keys[key], **wanted)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place_made = Place(tmp_path_factory.mktemp("signals"))
    yield place_made
    assert "Traceback" not in place_made.server.output, place_made.server.output[-3000:]
    place_made.server.end()
    place_made.store.close()
    place_made.writer.close()


def numbers(reader: Reader, count: int) -> list[int]:
    """The numbers of its signals, once so many have come."""
    while len(signals_of(reader)) < count:
        reader.until("signal")
    return [signal["number"] for signal in signals_of(reader)]


def signals_of(reader: Reader) -> list[dict[str, Any]]:
    return [message["signal"] for message in reader.others if message["type"] == "signal"]


@contextmanager
def events_of(place: Place, last: str = "") -> Iterator[Iterator[tuple[str, dict[str, Any]]]]:
    """Server-sent events, each with its id."""
    asked = {"symbols": "HK.00700", "signals": "ml-trade", "since": "now"}
    headers = {"Last-Event-ID": last} if last else {}

    def read(lines: Iterator[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        event_id = ""
        for line in lines:
            name, _, text = line.partition(": ")
            if name == "id":
                event_id = text
            elif name == "data":
                yield event_id, json.loads(text)

    with (
        place.server.client(place.keys["both"]) as client,
        client.stream("GET", "/v1/live/events", params=asked, headers=headers) as answer,
    ):
        assert answer.status_code == 200
        yield read(answer.iter_lines())


def test_a_signal_comes_beside_the_ticks_and_the_cursor_goes_on_behind_it(place: Place) -> None:
    reader = place.reader(symbols="HK.00700", signals="ml-trade", since="now")
    reader.until()
    first, _, second = place.add(), place.add("other"), place.add(symbol="MNQ")
    place.writer.write(ticks(3, 21))
    assert numbers(reader, 2) == [first, second]
    assert signals_of(reader)[0] == {
        "number": first, "name": "ml-trade", "recv_ts_ms": DAY_MS, "cursor": "v1~-", "symbol": "HK.00700",
        "payload": {"symbol": "HK.00700", "action": "buy"},
    }  # fmt: skip
    if len(reader.rows) < 3:
        reader.until("ticks", rows=3)
    assert f",s{second}." in reader.cursor
    missed = [place.add() for _ in range(250)]
    again = place.reader(symbols="HK.00700", signals=["ml-trade"], since=reader.cursor)
    assert numbers(again, 250) == missed
    without = place.reader(symbols="HK.00700", since=again.cursor)  # the ticks alone
    assert without.welcome["cursor"] == again.cursor.partition(",")[0]


def test_each_key_is_told_what_it_may_know(place: Place) -> None:
    reader = place.reader("one", symbols="HK.00005", signals="all", since="now")
    reader.until()
    place.add(symbol="HK.00005")
    place.add("other", "HK.00700")
    mine = place.add("other", "HK.00005")
    assert numbers(reader, 1) == [mine]
    for key, wanted in (("one", "ml-trade"), ("none", "other"), ("none", "all")):
        refused = place.reader(key, symbols="HK.00005", signals=wanted).welcome
        assert (refused["type"], refused["slug"]) == ("error", "forbidden")
    for wanted in ("", [], "A/..", ["x"] * 101, [7], {"a": 1}):
        refused = place.reader(signals=wanted).welcome
        assert (refused["slug"], refused["errors"][0]["field"]) == ("bad-parameter", "signals")


def test_where_to_begin(place: Place) -> None:
    place.add(recv_ts_ms=DAY_MS - 48 * 3600 * 1000)  # of days before, stored late
    today = place.add()
    every = numbers(place.reader(signals="all", since="now,s0"), today)
    assert every == list(range(1, today + 1))
    assert numbers(place.reader(signals="all", since="day"), 1)[-1] == today
    assert place.reader(signals="all", since="now,s-1").welcome["slug"] == "bad-cursor"


def test_events_go_on_behind_a_signal_over_a_killed_server(place: Place) -> None:
    with events_of(place) as events:
        next(events)
        first = place.add()
        last, message = next((last, message) for last, message in events if message["type"] == "signal")
        assert (message["signal"]["number"], last) == (first, message["cursor"])
    place.server.end()
    missed = [place.add() for _ in range(3)]
    place.server = place.start()
    with events_of(place, last) as events:
        come = [next(message for _, message in events if message["type"] == "signal") for _ in missed]
    assert [message["signal"]["number"] for message in come] == missed


def test_a_file_of_signals_that_begins_anew_is_said(place: Place) -> None:
    reader = place.reader(signals="ml-trade", since="now")
    reader.until()
    place.store.close()
    signals_file(place.hooks).unlink()
    place.store = SignalStore(place.hooks)
    first = place.add()
    assert reader.until("reset")["reason"] == "signals_replaced"
    assert numbers(reader, 1) == [first] == [1]


def test_a_server_without_hooks_says_so(place: Place) -> None:
    server = place.start(HOOKS_DIR="")
    with ended(server):
        refused = Reader(server.url, place.keys["both"], signals="all").welcome
        assert (refused["slug"], refused["status"]) == ("not-found", 404)

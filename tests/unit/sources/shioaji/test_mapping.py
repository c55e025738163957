"""Events to ticks: times, totals, trial matches, and what no tick can be."""

from __future__ import annotations

import json
import platform
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hk_tick_collector.core.errors import FeedError, FeedLost, RejectCode
from hk_tick_collector.market.tw import TW
from hk_tick_collector.records.tick import Tick
from hk_tick_collector.records.totals import NO_TRADE, SECOND_SESSION
from hk_tick_collector.sources.plausible import PlausibleDays
from hk_tick_collector.sources.shioaji.mapping import MAX_VOLUME, Mapped, TickMapper
from hk_tick_collector.sources.shioaji.messages import MAX_EVENT_BYTES, Event, EventStream, read_all
from hk_tick_collector.sources.shioaji.replay import trades_of
from hk_tick_collector.sources.shioaji.symbols import Contract, at_shioaji
from tests.harness import clean_env
from tests.nights import every_test

ROOT = Path(__file__).resolve().parents[4]
VENDOR = ROOT / ".venv/shioaji/bin/python"
INSTALLED = ROOT / ".venv/shioaji/.wanted"  # the environment alone may be half of it
NINE_MS = TW.zone.at_ms("20261127", 9 * 3_600_000)
OURS = {"2330": "TW.2330", "2330@ODD": "TW.2330@ODD", "6488": "TWO.6488", "TXFL6": "TWF.TXFL6"}


def stock(**changes: Any) -> dict[str, Any]:
    event = {
        "code": "2330", "date": "2026-11-27", "time": "09:00:01.123456", "open": "1095", "close": "1100", "amount":
        "3300000", "total_amount": "132000000", "volume": 3, "total_volume": 120, "tick_type": 1, "simtrade": False,
        "suspend": False, "intraday_odd": False,
    }  # fmt: skip
    return {name: value for name, value in {**event, **changes}.items() if value is not ...}


def mapped(*events: Any) -> Mapped:
    return TickMapper(TW, PlausibleDays(TW), OURS).map(events, NINE_MS)


def tick(**changes: Any) -> Any:
    mapped_rows = mapped(stock(**changes))
    assert not mapped_rows.rejected, mapped_rows.rejected
    ((made,),) = mapped_rows.ticks.values()
    assert isinstance(made, Tick)
    return made


def test_a_trade_of_a_stock() -> None:
    made = tick()
    assert made.symbol == "TW.2330"
    assert (made.ts_ms, made.ts_ns_part) == (NINE_MS + 1123, 456_000)
    assert (made.price, made.volume, made.turnover, made.direction) == (1100.0, 3, 3_300_000.0, "BUY")
    assert (made.seq, made.total_volume, made.tick_type, made.push_data_type) == (120, 120, "AUTO_MATCH", "REALTIME")
    assert (made.trading_day, made.recv_ts_ms, made.push_type) == ("20261127", NINE_MS, "push")


@pytest.mark.parametrize(
    ("date", "clock", "ms", "ns"),
    [
        ("2026-11-27", "09:00:00", 0, 0),
        ("2026/11/27", "09:00:00.5", 500, 0),
        ("2026-11-27", "09:00:00.000001", 0, 1000),
        ("2026-11-27", "09:00:00.113699123", 113, 699_000),
    ],
)
def test_forms_of_time(date: str, clock: str, ms: int, ns: int) -> None:
    made = tick(date=date, time=clock)
    assert (made.ts_ms - NINE_MS, made.ts_ns_part) == (ms, ns)


@pytest.mark.parametrize(
    "changes",
    [
        {"date": "2026-13-27"}, {"date": "27.11.2026"}, {"date": None}, {"date": 20261127}, {"date": ["2026-11-27"]},
        {"time": "24:00:00"}, {"time": "9:00:00.123456"}, {"time": "09:00:00.12x456"}, {"time": None}, {"time": 9},
        {"time": "09:00:00,123456"}, {"time": "09:00:00.1234567890"}, {"time": "09:00:00."}, {"time": "09:00:00Z"},
        {"time": "09:00:00.\u0661\u0662\u0663\u0664\u0665\u0666"}, {"time": ...},
    ],
)  # fmt: skip
def test_no_time(changes: dict[str, Any]) -> None:
    (rejected,) = mapped(stock(**changes)).rejected
    assert rejected.code is RejectCode.TIME
    assert rejected.symbol == "TW.2330"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"close": "NaN"}, RejectCode.PRICE), ({"close": "inf"}, RejectCode.PRICE), ({"close": "-1"}, RejectCode.PRICE),
        ({"close": "0"}, RejectCode.PRICE), ({"close": ...}, RejectCode.PRICE), ({"close": True}, RejectCode.PRICE),
        ({"close": "9" * 4000}, RejectCode.PRICE), ({"close": ["1"]}, RejectCode.PRICE),
        ({"volume": 0.5}, RejectCode.VOLUME), ({"volume": 0}, RejectCode.VOLUME), ({"volume": True}, RejectCode.VOLUME),
        ({"volume": MAX_VOLUME + 1}, RejectCode.VOLUME), ({"volume": "3"}, RejectCode.VOLUME),
        ({"total_volume": 2}, RejectCode.VOLUME), ({"total_volume": -1}, RejectCode.VOLUME),
        ({"total_volume": SECOND_SESSION}, RejectCode.VOLUME), ({"total_volume": 120.0}, RejectCode.VOLUME),
        ({"simtrade": "no"}, RejectCode.VOLUME), ({"code": "1101"}, RejectCode.UNWANTED),
        ({"code": 2330}, RejectCode.UNWANTED), ({"date": "1999-11-26"}, RejectCode.TIME),
        ({"date": "2029-11-26"}, RejectCode.DAY),
    ],
)  # fmt: skip
def test_what_is_no_tick_is_kept_whole_and_costs_itself_alone(changes: dict[str, Any], code: RejectCode) -> None:
    mapped_rows = mapped(stock(), stock(**changes), stock(total_volume=123))
    (rejected,) = mapped_rows.rejected
    assert rejected.code is code
    assert set(rejected.raw) == set(stock(**changes))
    assert [made.seq for made in mapped_rows.ticks["TW.2330"]] == [120, 123]


def test_the_order_of_the_fields_is_no_matter_and_new_ones_are_none_either() -> None:
    assert tick() == mapped(dict(reversed({**stock(), "new": {"x": 1}}.items()))).ticks["TW.2330"][0]


def test_a_trial_match_is_told_apart_and_is_the_same_however_often_it_comes() -> None:
    trial = tick(simtrade=True, volume=7, total_volume=0, close="0", time="08:59:55.000001")
    assert (trial.tick_type, trial.push_data_type, trial.total_volume, trial.price) == (
        "SIMTRADE",
        "SIMTRADE",
        None,
        0.0,
    )
    day_us = (NINE_MS - 5000 - TW.day_bounds("20261127")[0]) * 1000 + 1
    assert trial.seq == NO_TRADE + day_us
    assert tick(simtrade=True, volume=7, total_volume=99, time="08:59:55.000001").seq == trial.seq
    assert trial.tick_type in TW.trade_types.no_trade


def test_sessions_of_taifex_are_counted_apart() -> None:
    night = tick(code="TXFL6", date="2026-11-27", time="18:33:18.084000", simtrade=...)
    assert (night.symbol, night.trading_day, night.seq) == ("TWF.TXFL6", "20261130", 120)  # Friday's night is Monday's
    early = tick(code="TXFL6", date="2026-11-27", time="04:59:59.999999")
    assert (early.trading_day, early.seq) == ("20261127", 120)
    day = tick(code="TXFL6", time="08:45:00.000000")
    assert (day.trading_day, day.seq, day.total_volume) == ("20261127", SECOND_SESSION + 120, 120)
    assert tick(time="08:45:00.000000").seq == 120  # stocks have one session


def test_odd_lots_are_a_symbol_of_their_own() -> None:
    assert tick(intraday_odd=True).symbol == "TW.2330@ODD"
    assert tick(code="6488", tick_type=2).direction == "SELL"
    assert tick(tick_type=0, amount=None).direction == "NEUTRAL"
    assert tick(amount="NaN").turnover is None


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
                    max_leaves=9),
       st.sampled_from(sorted(stock())))  # fmt: skip
def test_whatever_stands_in_a_field_one_thing_becomes_of_an_event(value: Any, name: str) -> None:
    mapped_rows = mapped(stock(**{name: value}), value)
    assert sum(map(len, mapped_rows.ticks.values())) + len(mapped_rows.rejected) == 2


@pytest.mark.parametrize(
    ("symbol", "contract"),
    [
        ("TW.2330", Contract("STK", "TSE", "2330")),
        ("TW.00878", Contract("STK", "TSE", "00878")),
        ("TWO.6488", Contract("STK", "OTC", "6488")),
        ("TW.2330@ODD", Contract("STK", "TSE", "2330", True)),
        ("TWF.TXFL6", Contract("FUT", "TAIFEX", "TXFL6")),
        ("TWF.TXO20000L6", Contract("OPT", "TAIFEX", "TXO20000L6")),
        ("TWF.TXO20000X6", Contract("OPT", "TAIFEX", "TXO20000X6")),
    ],
)
def test_symbols_at_the_gateway(symbol: str, contract: Contract) -> None:
    assert TW.symbols.symbol(symbol) == symbol
    assert at_shioaji(symbol) == contract


@pytest.mark.parametrize(
    ("symbol", "words"),
    [("TWF.TXFR1", "write a real one"), ("TWF.TXF", "write a real one"), ("TWF.TXFL6@ODD", "odd lots")],
)
def test_symbols_that_the_gateway_has_no_name_for(symbol: str, words: str) -> None:
    with pytest.raises(FeedError, match=words):
        at_shioaji(symbol)


# --- events ---


@given(st.lists(st.integers(1, 60), max_size=30))
def test_events_are_the_same_however_the_connection_cuts_them(cuts: list[int]) -> None:
    raw = (
        b'event: tick_stk\ndata: {"code":"2330"}\n\n: a comment\n\n'
        b'event: heartbeat\r\ndata: {"type":"heartbeat"}\r\n\r\n'
        b"data: 1\ndata: 2\n\nid: 7\nevent: tick_fop\ndata:{}\n\nevent: unfin"
    )
    stream, events, at = EventStream(), [], 0
    for cut in cuts:
        if raw[at + cut - 1 : at + cut] == b"\r":
            cut += 1  # noqa: PLW2901 - a line's end that is cut in two is the next test
        events += stream.feed(raw[at : at + cut])
        at += cut
    events += stream.feed(raw[at:])
    assert events[:2] == [Event(b"tick_stk", b' {"code":"2330"}'), Event(b"heartbeat", b' {"type":"heartbeat"}')]
    assert events[2] == Event(b"", b" 1\n 2")
    assert events[3].name in (b"tick_fop", b"")


def test_a_line_end_in_two_parts() -> None:
    stream = EventStream()
    events = [
        event
        for byte in b"event: a\r\ndata: 1\r\n\r\nevent: b\r\ndata: 2\r\n\r\n"
        for event in stream.feed(bytes([byte]))
    ]
    assert [event.name for event in events] == [b"a", b"b"]


def test_what_never_ends_is_given_up() -> None:
    stream = EventStream()
    stream.feed(b"x" * MAX_EVENT_BYTES)
    with pytest.raises(FeedLost, match="no events"):
        stream.feed(b"x")


@pytest.mark.parametrize("odd", [b"{", b"1],[2", b'{"a":1},{"b":2}', b"\xff\xfe", b"[" * 100_000, b""])
def test_nonsense_among_events_costs_itself_alone(odd: bytes) -> None:
    assert read_all([b'{"a":1}', odd, b'{"b":2}']) == [{"a": 1}, None, {"b": 2}]


# --- the classes of the vendor's package ---


STOCK_VALUES = [
    "2330", "2026/11/27", "09:00:01.123456", "1095", "1098.5", "1100", "1101", "1090", "3300000", "132000000", 3, 120,
    1, 2, "5", 45, 900, 800, 90, 80, 0, "0", "0", "0", "0", 0, "0", False, False,
]  # fmt: skip
CONTRACT_VALUES = [
    "TXFL6", "2026/11/27", "18:33:18.084000", "33601", "33500", 900, 800, "33510", "33438", "33728", "33317", "33438",
    "1000000", 1, 21748, 2, 2, "49", "0.1", False,
]  # fmt: skip


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What ticks of SinoPac's own classes say of themselves, as JSON, which is what its gateway sends: a stock's trade,
    its trial match, a contract's trade. Their index keeps a release for some weeks only, so a check does without one
    that is gone; a night says so."""
    if not INSTALLED.exists():
        assert not (every_test() and platform.machine() == "x86_64"), (
            "bash scripts/vendors.sh says why shioaji is not installed"
        )
        pytest.skip("shioaji is not installed: bash scripts/vendors.sh")
    asked = [
        ("TickSTKv1", STOCK_VALUES), ("TickSTKv1", [*STOCK_VALUES[:-1], True]), ("TickFOPv1", CONTRACT_VALUES),
    ]  # fmt: skip
    done = subprocess.run(
        [VENDOR, ROOT / "tests/shioaji_program.py"], input=json.dumps(asked), capture_output=True, text=True,
        timeout=120, check=False, cwd=tmp_path_factory.mktemp("vendor"), env=clean_env(tmp_path_factory.mktemp("home")),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [read_all([json.dumps(event).encode()])[0] for event in json.loads(done.stdout)]


def test_a_tick_of_the_vendor_s_own_class_becomes_the_same_tick(told: list[Any]) -> None:
    """From the bytes that its line to the market brings."""
    trade, trial, _ = told
    assert mapped(trade).ticks["TW.2330"] == [tick()]
    assert mapped(trial).ticks["TW.2330"] == [tick(simtrade=True)]


def test_a_contract_s_tick_of_the_vendor_s_own_class_becomes_a_tick(told: list[Any]) -> None:
    (made,) = mapped(told[2]).ticks["TWF.TXFL6"]
    assert (made.price, made.seq, made.direction, made.trading_day) == (33438.0, 21748, "SELL", "20261130")


# --- whole days ---


def columns(**changes: Any) -> dict[str, Any]:
    return {
        "datetime": ["2026-11-27T09:00:00.113699", "2026-11-27T09:00:01"], "close": [1100.0, 1101.0],
        "volume": [3, 4], "tick_type": [1, 2], "bid_price": [1099.0, 0.0], "ask_price": [1101.0, 1102.0], **changes,
    }  # fmt: skip


def test_a_whole_day_has_the_sequences_of_its_running_total() -> None:
    first, second = trades_of(columns(), "TW.2330", "20261127", TW)
    assert (first.seq, second.seq, first.time_us % 1_000_000) == (3, 7, 113_699)
    assert (first.bid_price, second.bid_price, second.direction) == (1099.0, None, "SELL")


@pytest.mark.parametrize(
    "answer",
    [
        None, [], {}, columns(close=None), columns(close=[1.0]), columns(volume=[3, 0]), columns(volume=[3, 4.5]),
        columns(close=[1100.0, float("nan")]), columns(datetime=["2026-11-27T09:00:00", 1673859600113699000]),
        columns(datetime=["2026-11-27T09:00:00", None]),
    ],
)  # fmt: skip
def test_a_whole_day_that_cannot_be_read_proves_nothing(answer: Any) -> None:
    with pytest.raises(FeedError):
        trades_of(answer, "TW.2330", "20261127", TW)

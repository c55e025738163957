"""Ticks and books as HftBacktest's events: the order, the state they lead to, and what is said of it."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hk_tick_collector.days import books
from hk_tick_collector.days.schema import ticks_schema
from hk_tick_collector.export import hft_events as hft
from hk_tick_collector.export.hft_depth import by_symbol, depth_rows
from hk_tick_collector.export.hft_events import Latency, LatencyMode, Rows, Told
from hk_tick_collector.export.hftbacktest import _write_npz
from hk_tick_collector.market.hk import HK
from hk_tick_collector.records.book import Book, BookEntry, BookPush, PushEntry, WatchBegan, WatchEnded
from hk_tick_collector.store import book_reader
from hk_tick_collector.store.book_writer import BookWriter
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.layout import book_file
from tests.books import DAY, OPEN_US, lively_pushes
from tests.nights import examples

SYMBOL = "HK.00700"
MS = hft.NS_PER_MS


# Order


TIMES = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=40)


@given(TIMES)
def test_each_row_is_seen_once_by_both_sides_and_in_their_order(times: list[tuple[int, int]]) -> None:
    exch, local = (np.array([row[n] for row in times], np.int64) for n in range(2))
    number = np.arange(len(times), dtype=float)
    events = hft.in_both_orders(Rows(np.full(len(times), hft.TRADE, np.uint64), exch, local, number, number))
    for flag, name in ((hft.EXCH, "exch_ts"), (hft.LOCAL, "local_ts")):
        side = events[(events["ev"] & flag) != 0]
        assert sorted(side["px"].tolist()) == number.tolist()
        assert (np.diff(side[name]) >= 0).all()
        keys = list(zip(side[name].tolist(), side["exch_ts"].tolist(), side["px"].tolist(), strict=True))
        assert keys == sorted(keys), "rows of one moment keep the exchange's order, and there the given one"
    assert (events["ev"] & (hft.EXCH | hft.LOCAL) != 0).all()


def test_rows_that_are_in_order_stand_once() -> None:
    steps = np.arange(100, dtype=np.int64)
    events = hft.in_both_orders(Rows(np.full(100, hft.TRADE, np.uint64), steps, steps + 7, steps * 1.0, steps * 1.0))
    assert len(events) == 100


# Books


Side = list[tuple[int, int]]  # price and lots of each level
State = tuple[Side, Side, bool]  # bids, asks; was the connection lost behind it?
SIDE = st.dictionaries(st.integers(1, 8), st.integers(1, 5), max_size=6)
BIDS, ASKS = SIDE.map(lambda lots: sorted(lots.items(), reverse=True)), SIDE.map(lambda lots: sorted(lots.items()))
ANY_SIDE = st.lists(st.tuples(st.integers(1, 8), st.integers(1, 5)), max_size=5)  # not sorted, with a price twice
STATE = st.one_of(st.tuples(BIDS, ASKS, st.booleans()), st.tuples(ANY_SIDE, ANY_SIDE, st.booleans()))
STATES = st.lists(STATE, min_size=1, max_size=25)


def entries_of(states: list[State]) -> list[BookEntry]:
    entries: list[BookEntry] = [WatchBegan(SYMBOL, OPEN_US)]
    for n, (bids, asks, is_broken) in enumerate(states):
        at_us = OPEN_US + n * 10_000
        book = Book(
            tuple((float(price), lots * 100, 1) for price, lots in bids),
            tuple((float(price), lots * 100, 1) for price, lots in asks),
        )
        entries.append(PushEntry(BookPush(SYMBOL, at_us, at_us // 1000 - 3, at_us // 1000 - 2, book)))
        if is_broken:
            entries += [WatchEnded(SYMBOL, at_us + 1000, "lost"), WatchBegan(SYMBOL, at_us + 2000)]
    return entries


def book_of(root: Path, entries: list[BookEntry]) -> Path:
    writer = BookWriter(root, SqliteOptions(), HK.trading_day, lambda: OPEN_US // 1000 + 60_000)
    writer.write(DAY, entries, sum(isinstance(entry, PushEntry) for entry in entries))
    writer.close()
    return book_file(root, DAY)


def depth_of(path: Path, latency: Latency, told: Told, symbol: str = SYMBOL) -> tuple[Rows, list[list[int]]]:
    walked = books.walk(path, [symbol], 1, with_changes=True)
    parts = [changes for rows in walked for _, changes in by_symbol(rows)]
    rows, blind = depth_rows(parts, latency, symbol, told)
    return rows, blind.tolist()


NO_BOOK: State = ([], [], False)
AN_ASK: State = ([], [(1, 1)], False)
# A level that one full state lacks and the next one has again, with the same volume.
COMES_AGAIN = [*[NO_BOOK] * 8, AN_ASK, *[NO_BOOK] * 3, AN_ASK]
# A level that another one passes, as a side that is not sorted tells it, and one that stands there twice.
NOT_SORTED: list[State] = [([(3, 1), (4, 1)], [], False), ([(6, 3), (4, 1)], [], False)]
TWICE: list[State] = [([(4, 1), (4, 2)], [], False), ([(4, 1)], [], False)]


@settings(max_examples=examples(20), deadline=None)
@example(COMES_AGAIN)
@example(NOT_SORTED)
@example(TWICE)
@given(STATES)
def test_the_events_lead_to_every_state_that_was_pushed(
    tmp_path_factory: pytest.TempPathFactory, states: list[State]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hk_tick_collector.records.book_codec.FULL_EVERY_PUSHES", 3)
        path = book_of(tmp_path_factory.mktemp("books"), entries_of(states))
    told = Told()
    rows, blind = depth_of(path, Latency(), told)
    pushed = list(book_reader.states(path))
    book: Levels = ({}, {})
    at = 0
    for state in pushed:
        while at < len(rows.ev) and rows.local_ns[at] <= state.recv_ts_us * 1000:
            _apply(book, int(rows.ev[at]), float(rows.price[at]), float(rows.quantity[at]))
            at += 1
        if state.book is not None:
            _check_book(book, state.book)
    ends = sum(state.kind == "B" for state in pushed)
    assert len(blind) == 1 + ends
    assert told.counts["clears"] <= 1 + 2 * ends, "a full state that is written in between is no clear"
    events = hft.in_both_orders(rows)
    assert (np.diff(events["exch_ts"][(events["ev"] & hft.EXCH) != 0]) >= 0).all()
    for flag in (hft.EXCH, hft.LOCAL):
        whole: Levels = ({}, {})
        for event in events[(events["ev"] & flag) != 0]:
            _apply(whole, int(event["ev"]), float(event["px"]), float(event["qty"]))
        _check_book(whole, pushed[-1].book or Book((), ()))


Levels = tuple[dict[float, float], dict[float, float]]  # of each side the quantity by price


def _check_book(book: Levels, pushed: Book) -> None:
    """A price that was pushed twice has one of its quantities: the model knows one of each price."""
    for side, levels in zip(book, pushed, strict=True):
        assert side.keys() == {price for price, _, _ in levels}
        assert set(side.items()) <= {(price, volume) for price, volume, _ in levels}


def _apply(book: Levels, ev: int, price: float, quantity: float) -> None:
    if ev & 0xFF == hft.CLEAR:
        book[0].clear()
        book[1].clear()
        return
    side = book[0] if ev & hft.BUY else book[1]
    side.pop(price, None)
    if quantity:
        side[price] = quantity


def test_a_model_of_latency_is_the_same_again_and_keeps_the_order(tmp_path: Path) -> None:
    entries: list[BookEntry] = [WatchBegan(SYMBOL, OPEN_US), *map(PushEntry, lively_pushes((SYMBOL,), 500))]
    path = book_of(tmp_path, entries)
    model = Latency(LatencyMode.LOGNORMAL, 20, 5, seed=7)
    first, again = (depth_of(path, model, Told())[0] for _ in range(2))
    assert first.local_ns.tolist() == again.local_ns.tolist()
    assert (
        first.local_ns.tolist()
        != depth_of(path, Latency(LatencyMode.LOGNORMAL, 20, 5, seed=8), Told())[0].local_ns.tolist()
    )
    assert (np.diff(first.local_ns) >= 0).all()
    lag_ms = model.draw_ns(20_000, "x", 0) / MS
    assert (abs(lag_ms.mean() - 20) < 0.5, abs(lag_ms.std() - 5) < 0.5, lag_ms.min() > 0) == (True, True, True)


@pytest.mark.parametrize("clock_us", [0, -5_000_000])  # ours is right, or slow all day
def test_a_time_far_ahead_moves_nothing_behind_it(tmp_path: Path, clock_us: int) -> None:
    pushes = [
        push._replace(recv_ts_us=push.recv_ts_us + clock_us) for push in lively_pushes((SYMBOL,), 300, step_us=10_000)
    ]
    told = Told()
    good, _ = depth_of(
        book_of(tmp_path / "good", [WatchBegan(SYMBOL, OPEN_US), *map(PushEntry, pushes)]), Latency(), told
    )
    assert "depth_time_outliers" not in told.counts
    an_hour_ahead = OPEN_US // 1000 + 3_600_000
    pushes[50] = pushes[50]._replace(bid_ts_ms=an_hour_ahead, ask_ts_ms=an_hour_ahead)
    bad, _ = depth_of(
        book_of(tmp_path / "bad", [WatchBegan(SYMBOL, OPEN_US), *map(PushEntry, pushes)]), Latency(), told
    )
    assert told.counts["depth_time_outliers"] > 0
    assert len(bad.ev) == len(good.ev)
    assert np.abs(bad.exch_ns - good.exch_ns).max() < 100 * MS
    assert np.abs(bad.local_ns - good.local_ns).max() < 100 * MS


def test_events_are_not_packed_by_zipfiles_own_compressor(tmp_path: Path) -> None:
    """It takes five times as long, and is used again if ``zipfile`` changes within."""
    entries: list[BookEntry] = [WatchBegan(SYMBOL, OPEN_US), *map(PushEntry, lively_pushes((SYMBOL,), 2000))]
    events = hft.in_both_orders(depth_of(book_of(tmp_path, entries), Latency(), Told())[0])
    np.savez_compressed(tmp_path / "numpys.npz", data=events)
    _write_npz(tmp_path / "ours.npz", events)
    assert np.array_equal(np.load(tmp_path / "ours.npz")["data"], events)
    with zipfile.ZipFile(tmp_path / "numpys.npz") as numpys, zipfile.ZipFile(tmp_path / "ours.npz") as ours:
        assert ours.testzip() is None
        assert ours.getinfo("data.npy").CRC == numpys.getinfo("data.npy").CRC
        assert ours.getinfo("data.npy").compress_size != numpys.getinfo("data.npy").compress_size


def test_a_symbol_without_books_is_blind_for_ever() -> None:
    rows, blind = depth_rows([], Latency(), SYMBOL, Told())
    assert (len(rows.ev), blind.tolist()) == (0, [[0, hft.FOR_EVER]])


# Trades


def ticks(*rows: dict[str, object]) -> pa.Table:
    base = {
        "ts_ms": 1000, "ts_ns_part": None, "recv_ts_ms": 1050, "price": 10.0, "volume": 100, "direction": "BUY",
        "tick_type": "AUTO_MATCH", "push_type": "push", "push_data_type": "REALTIME",
    }  # fmt: skip
    full = [{**base, "seq": n + 1, **row} for n, row in enumerate(rows)]
    schema = ticks_schema(hft.TICK_COLUMNS)
    kinds = [pa.int64() if pa.types.is_timestamp(schema_field.type) else schema_field.type for schema_field in schema]
    plain = pa.schema([pa.field(schema_field.name, kind) for schema_field, kind in zip(schema, kinds, strict=True)])
    return pa.Table.from_pylist(full, plain).cast(schema)


PRICE_MAKING = frozenset({"AUTO_MATCH", "INTER_AUTO_MATCH"})


def rows_of(*made: dict[str, object], told: Told | None = None, tick_rule: bool = False) -> Rows:
    return hft.trade_rows(
        hft.trades_of(ticks(*made), PRICE_MAKING, Latency(), SYMBOL, told or Told(), tick_rule=tick_rule)
    )


def test_only_trades_of_the_order_book_fill_and_the_others_are_counted() -> None:
    told = Told()
    rows = rows_of(
        {}, {"tick_type": "ODD_LOT"}, {"tick_type": None}, {"price": 0.0}, {"volume": None},
        {"tick_type": "INTER_AUTO_MATCH", "direction": "SELL"}, {"direction": "NEUTRAL"}, told=told,
    )  # fmt: skip
    assert [int(ev) & (hft.BUY | hft.SELL) for ev in rows.ev] == [hft.BUY, hft.SELL, 0]
    assert told.left_out == {"ODD_LOT": 1, "none": 1}
    assert told.counts == {"trades_without_price_or_volume": 2, "trades": 3, "trades_without_side": 1}


def test_what_was_not_pushed_as_it_happened_has_no_latency_of_its_own() -> None:
    told = Told()
    rows = rows_of(
        {}, {"recv_ts_ms": 1090}, {"recv_ts_ms": 999}, {"recv_ts_ms": -500}, {"recv_ts_ms": 60_000},
        {"push_type": "repair", "push_data_type": None, "recv_ts_ms": 500_000}, {"push_data_type": "BYDISCONN"},
        told=told,
    )  # fmt: skip
    assert [int(ns) // MS for ns in rows.local_ns - rows.exch_ns] == [50, 90, 0, 50, 50, 50, 50]
    assert told.typical_latency_ms == 50.0
    assert (told.counts["latency_modelled"], told.counts["latency_outliers"], told.counts["latency_negative"]) == (
        2,
        2,
        1,
    )


@pytest.mark.parametrize("latency", [Latency(), Latency(LatencyMode.CONSTANT, 50)])
def test_a_trade_with_a_time_far_ahead_moves_none_behind_it(latency: Latency) -> None:
    made = ticks({}, {"ts_ms": 3_601_000}, {}, {"ts_ms": 1010, "recv_ts_ms": 1060}, {"ts_ms": 1005, "recv_ts_ms": 1060})
    rows = hft.trade_rows(hft.trades_of(made, PRICE_MAKING, latency, SYMBOL, Told()))
    seen_ms = (rows.local_ns // MS).tolist()
    assert [seen_ms[1], seen_ms[0], *seen_ms[2:]] == [3_601_050, 1050, 1050, 1060, 1060]


def test_the_tick_rule_gives_neutral_trades_the_side_of_the_last_change() -> None:
    rows = rows_of(
        *({"price": price, "direction": "NEUTRAL"} for price in (10.0, 10.0, 10.1, 10.1, 9.9)), tick_rule=True
    )
    assert [int(ev) & (hft.BUY | hft.SELL) for ev in rows.ev] == [0, 0, hft.BUY, hft.BUY, hft.SELL]


def test_nanoseconds_are_kept_where_a_source_tells_them() -> None:
    assert rows_of({"ts_ns_part": 5}).exch_ns.tolist() == [1000 * MS + 5]


MINUTES = st.lists(st.tuples(st.integers(0, 300_000 * MS), st.integers(0, 10**13)), min_size=1, max_size=60)


@given(MINUTES)
def test_order_latency_is_numpys_median_whatever_comes(events: list[tuple[int, int]]) -> None:
    exch, lag = (np.array([row[n] for row in events], np.int64) for n in range(2))
    blank = np.zeros(len(events))
    table = hft.order_latency(Rows(blank.astype(np.uint64), exch, exch + lag, blank, blank))
    minute = exch // (60_000 * MS)
    told = {int(minute_no): int(np.median(lag[minute == minute_no])) for minute_no in np.unique(minute)}
    assert (table["req_ts"] // (60_000 * MS)).tolist() == list(told)
    assert (table["exch_ts"] - table["req_ts"]).tolist() == list(told.values())
    assert (table["resp_ts"] - table["exch_ts"]).tolist() == list(told.values())


def test_order_latency_is_the_median_of_each_minute() -> None:
    table = hft.order_latency(rows_of({}, {"recv_ts_ms": 1070}, {"ts_ms": 61_000, "recv_ts_ms": 61_010}))
    assert table["req_ts"].tolist() == [0, 60_000 * MS]
    assert (table["exch_ts"] - table["req_ts"]).tolist() == [60 * MS, 10 * MS]
    assert (table["resp_ts"] - table["exch_ts"]).tolist() == [60 * MS, 10 * MS]
    assert len(hft.order_latency(Rows.none())) == 0

"""Books as Arrow say the same as the decoder of one row at a time."""

from __future__ import annotations

import random
import sqlite3
from collections import defaultdict
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hk_tick_collector.core.errors import StoreCorrupt
from hk_tick_collector.days import book_rows, book_walk, books
from hk_tick_collector.days.book_rows import CLOCK_MARGIN_US
from hk_tick_collector.days.books import Form, Part, newest_no, read, schema_of, walk
from hk_tick_collector.market.hk import HK
from hk_tick_collector.records import book_codec
from hk_tick_collector.records.book import Book, BookEntry, BookPush, Level, PushEntry, WatchBegan, WatchEnded
from hk_tick_collector.records.book_codec import full_payload
from hk_tick_collector.store import book_reader
from hk_tick_collector.store.book_writer import BookWriter
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.layout import book_file
from tests.books import BOOKS, DAY, OPEN_US, TIMES_MS, lively_pushes
from tests.nights import examples

SYMBOLS = ("HK.00005", "HK.00700", "HK.09988")
DEPTH = 4


def _file(root: Path, entries: list[BookEntry]) -> Path:
    writer = BookWriter(root, SqliteOptions(), HK.trading_day, lambda: OPEN_US // 1000)
    writer.write(DAY, entries, sum(isinstance(entry, PushEntry) for entry in entries))
    writer.close()
    return book_file(root, DAY)


def _table(path: Path, form: Form, symbols: list[str] | None = None, depth: int = DEPTH) -> pa.Table:
    return pa.Table.from_batches(read(path, form, symbols, depth), schema=schema_of(form, depth))


def _levels(row: dict[str, object], side: str, depth: int) -> list[Level | None]:
    levels_shown = [(row[f"{side}_px_{n}"], row[f"{side}_qty_{n}"], row[f"{side}_n_{n}"]) for n in range(depth)]
    return [None if level == (None, None, None) else level for level in levels_shown]  # type: ignore[misc]


PUSHED = st.lists(st.tuples(st.sampled_from(SYMBOLS), BOOKS, TIMES_MS, TIMES_MS), min_size=1, max_size=20)


@settings(max_examples=examples(15), deadline=None)
@given(PUSHED, st.lists(st.integers(0, 19), max_size=3), st.sampled_from((1, 3, 1000)), st.sampled_from((1, 3, 100)))
def test_wide_holds_what_was_pushed(
    tmp_path_factory: pytest.TempPathFactory,
    pushed: list[tuple[str, Book, int | None, int | None]],
    breaks: list[int],
    chunk_rows: int,
    full_every: int,
) -> None:
    entries: list[BookEntry] = [WatchBegan(symbol, OPEN_US) for symbol in SYMBOLS]
    for n, (symbol, book, bid_ms, ask_ms) in enumerate(pushed):
        entries.append(PushEntry(BookPush(symbol, OPEN_US + n, bid_ms, ask_ms, book), merged=n % 3))
        if n in breaks:
            entries += [WatchEnded(symbol, OPEN_US + n, "connection lost"), WatchBegan(symbol, OPEN_US + n)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(book_codec, "FULL_EVERY_PUSHES", full_every)
        path = _file(tmp_path_factory.mktemp("books"), entries)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(book_rows, "CHUNK_ROWS", chunk_rows)
        patch.setattr(book_walk, "MAX_CELLS", 100)
        wide = _table(path, Form.WIDE)
        long = _table(path, Form.LONG).to_pylist()
    rows, states = wide.to_pylist(), list(book_reader.states(path))

    assert wide["recv_ts"].cast(pa.int64()).to_pylist() == [state.recv_ts_us for state in states]
    assert wide["bid_ts"].cast(pa.int64()).to_pylist() == [state.bid_ts_ms for state in states]
    assert wide["ask_ts"].cast(pa.int64()).to_pylist() == [state.ask_ts_ms for state in states]
    for row, state in zip(rows, states, strict=True):
        assert (row["symbol"], row["kind"], row["merged"]) == (state.symbol, state.kind, state.merged)
        for side in ("bid", "ask"):
            levels = () if state.book is None else (state.book.bids if side == "bid" else state.book.asks)
            assert row[f"{side}_levels"] == (None if state.book is None else len(levels))
            shown = [*levels[:DEPTH], *[None] * DEPTH][:DEPTH]
            assert _levels(row, side, DEPTH) == shown
    _check_long(long, states)


def _check_long(long: list[dict[str, object]], states: list[book_reader.BookState]) -> None:
    """Who follows the changes has the prices of each state, in whatever order they were and however often."""
    by_update: dict[object, list[dict[str, object]]] = {}
    prices: dict[object, set[object]] = defaultdict(set)  # by symbol and side
    for row in long:
        by_update.setdefault(row["update_no"], []).append(row)
    assert len(by_update) == len(states)
    for changes, state in zip(by_update.values(), states, strict=True):
        assert {change["symbol"] for change in changes} == {state.symbol}
        assert all(change["is_full"] == (state.kind == "F") for change in changes)
        _follow(prices, changes, state)
        if state.kind in ("B", "S") or not ((state.book and (state.book.bids or state.book.asks)) or state.kind == "D"):
            assert [change["action"] for change in changes] == ["break" if state.kind == "B" else "same"]
        if state.kind == "F" and state.book is not None and (state.book.bids or state.book.asks):
            for side, levels in (("bid", state.book.bids), ("ask", state.book.asks)):
                told = sorted(
                    (change["price"], change["volume"], change["orders"])
                    for change in changes
                    if change["side"] == side and change["action"] == "add"
                )
                assert told == sorted(levels)


def _follow(prices: dict[object, set[object]], changes: list[dict[str, object]], state: book_reader.BookState) -> None:
    if changes[0]["is_full"] or state.book is None:
        prices[state.symbol, "bid"], prices[state.symbol, "ask"] = set(), set()
    for change in changes:
        side = prices[change["symbol"], change["side"]]
        if change["action"] in ("gone", "out"):
            side.discard(change["price"])  # a price that stood there twice is gone twice
        elif change["side"] is not None:
            side.add(change["price"])
    for side_name, levels in zip(("bid", "ask"), state.book or ((), ()), strict=True):
        assert prices[state.symbol, side_name] == {price for price, _, _ in levels}


def test_a_level_that_leaves_the_window_is_not_called_gone(tmp_path: Path) -> None:
    bids: tuple[Level, ...] = tuple((100.0 - n, 100, 1) for n in range(10))
    states = [
        Book(bids, ()),
        Book(((101.0, 100, 1), *bids[:9]), ()),  # a new best price pushes the tenth out of view
        Book((*bids[:9],), ()),  # the best one is taken, and nothing comes for it from below
        Book((*bids[:4], *bids[5:9]), ()),  # one within the window is gone
    ]
    path = _file(tmp_path, [PushEntry(BookPush("HK.00700", OPEN_US + n, None, None, s)) for n, s in enumerate(states)])

    changes = [
        (row["update_no"], row["price"], row["action"])
        for row in _table(path, Form.LONG).to_pylist()
        if row["update_no"] > 1
    ]
    assert changes == [(2, 101.0, "add"), (2, 91.0, "out"), (3, 101.0, "gone"), (4, 96.0, "gone")]


def test_long_rows_lead_from_state_to_state_and_carry_their_sides_time(tmp_path: Path) -> None:
    path = _file(tmp_path, [PushEntry(push) for push in lively_pushes(SYMBOLS, 3000)])
    known: dict[object, tuple[dict[object, object], dict[object, object]]] = {}
    states = {n + 1: state for n, state in enumerate(book_reader.states(path))}
    rows = _table(path, Form.LONG).to_pylist()
    for n, row in enumerate(rows):
        begins = n == 0 or rows[n - 1]["update_no"] != row["update_no"]
        if row["is_full"] and begins:
            known[row["symbol"]] = ({}, {})
        if row["side"] is not None:
            side = known[row["symbol"]][row["side"] == "ask"]
            if row["action"] in ("gone", "out"):
                del side[row["price"]]
            else:
                side[row["price"]] = (row["price"], row["volume"], row["orders"])
        if n + 1 == len(rows) or rows[n + 1]["update_no"] != row["update_no"]:
            state = states[row["update_no"]]
            assert state.book is not None
            bids, asks = known[row["symbol"]]
            assert (set(bids.values()), set(asks.values())) == (set(state.book.bids), set(state.book.asks))


def test_quotes_are_the_best_prices_where_they_change(tmp_path: Path) -> None:
    path = _file(tmp_path, [PushEntry(push) for push in lively_pushes(SYMBOLS, 3000)])
    wide = _table(path, Form.WIDE, ["HK.00700"], depth=1).to_pylist()
    names = [f"{side}_{column}_0" for side in ("bid", "ask") for column in ("px", "qty", "n")]
    expected, last = [], None
    for row in wide:
        quote = [row[name] for name in names]
        if quote != last:
            expected.append(row)
        last = quote
    assert len(expected) < len(wide)
    assert _table(path, Form.QUOTES, ["HK.00700"]).to_pylist() == expected


@pytest.mark.parametrize("form", Form)
def test_a_part_tells_what_the_whole_tells_of_it(tmp_path: Path, form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its states come from rows before it, of a symbol that was silent for long as of the others."""
    step_us = 60_000_000  # so that a stretch begins behind many full rows
    assert step_us * 5 > CLOCK_MARGIN_US
    pushes = list(lively_pushes(SYMBOLS[:2], 110, step_us=step_us))
    entries: list[BookEntry] = [WatchBegan(symbol, OPEN_US) for symbol in SYMBOLS]
    entries += map(PushEntry, pushes[:50])
    entries += [WatchEnded(symbol, pushes[50].recv_ts_us, "its right was lost") for symbol in SYMBOLS[1:]]
    entries += map(PushEntry, pushes[50:])
    path = _file(tmp_path, entries)
    monkeypatch.setattr(book_rows, "CHUNK_ROWS", 7)
    whole = _table(path, form)
    rows = whole.to_pylist()
    times_us = [int(value) for value in whole["recv_ts"].cast(pa.int64()).to_pylist()]
    draw = random.Random(7)

    for _ in range(40):
        after, until, first, last = draw.randrange(115), draw.randrange(115), draw.randrange(115), draw.randrange(115)
        part = Part(after, until, OPEN_US + first * step_us, OPEN_US + last * step_us)
        part_rows = pa.Table.from_batches(
            read(path, form, None, DEPTH, part), schema=schema_of(form, DEPTH)
        ).to_pylist()
        assert part_rows == [
            row
            for row, at_us in zip(rows, times_us, strict=True)
            if after < row["update_no"] <= until and OPEN_US + first * step_us <= at_us < OPEN_US + last * step_us
        ]
    assert newest_no(path) == rows[-1]["update_no"]


def test_a_short_part_reads_no_further_back_than_a_full_row_of_who_is_in_it(tmp_path: Path) -> None:
    """Others went still long before; one of the part was still, too, and comes again with its full row."""
    busy, still, woken = SYMBOLS[0], "HK.00001", "HK.00002"
    pushes = list(lively_pushes((busy,), 3000, step_us=100_000))
    last_us = pushes[-1].recv_ts_us
    entries: list[BookEntry] = [WatchBegan(symbol, OPEN_US) for symbol in (busy, still, woken)]
    entries += [PushEntry(pushes[0]._replace(symbol=symbol)) for symbol in (still, woken)]
    entries += map(PushEntry, pushes)
    entries += [PushEntry(pushes[-1]._replace(symbol=woken, recv_ts_us=last_us + step)) for step in (1, 2)]
    path = _file(tmp_path, entries)
    end = newest_no(path)
    whole = _table(path, Form.WIDE).to_pylist()
    full = {row["update_no"]: row["symbol"] for row in whole if row["kind"] == "F"}
    for after in (0, 5, end - 300, end - 2, end - 1, end):
        part = Part(after, end)
        told = [batch.to_pylist() for batch in read(path, Form.WIDE, None, DEPTH, part)]
        assert [row for rows in told for row in rows] == [row for row in whole if row["update_no"] > after]
        read_nos = [no for rows in walk(path, part=part) for no in rows.chunk.update_nos.tolist()]
        first = max((no for no, symbol in full.items() if symbol == busy and no <= after), default=1)
        assert min(read_nos, default=end) >= first
        assert len(read_nos) <= end - after + 100


def _replace_payload(path: Path, kind: str, payload: object) -> None:
    with closing(sqlite3.connect(path)) as conn, conn:
        sql = "UPDATE pushes SET payload = ? WHERE rowid = (SELECT max(rowid) FROM pushes WHERE kind = ?)"
        assert conn.execute(sql, (payload, kind)).rowcount == 1


def test_a_full_row_may_list_its_levels_in_any_order(tmp_path: Path) -> None:
    """The codec's steps are done one after the other, whoever wrote them: here from the worst level to the best."""
    pushes = list(lively_pushes(SYMBOLS[:1], 2))
    path = _file(tmp_path, [PushEntry(push) for push in pushes])
    bids, asks = pushes[0].book
    levels = [full_payload(Book((), (level,))) for level in reversed(asks)]
    levels += [full_payload(Book((level,), ())) for level in reversed(bids)]
    _replace_payload(path, "F", b"".join(levels))

    rows = _table(path, Form.WIDE, depth=10).to_pylist()
    states = list(book_reader.states(path))
    assert [state.book for state in states] == [push.book for push in pushes]
    for row, push in zip(rows, pushes, strict=True):
        assert (_levels(row, "bid", 10), _levels(row, "ask", 10)) == (list(push.book.bids), list(push.book.asks))


@pytest.mark.parametrize("payload", [b"\x00", b"\x80\x01\x00\x00", b"\xe2\x03\x00\x00\x00", "text"])
@pytest.mark.parametrize("kind", ["F", "D"])
def test_a_payload_that_does_not_fit_is_damage(tmp_path: Path, kind: str, payload: object) -> None:
    path = _file(tmp_path, [PushEntry(push) for push in lively_pushes(SYMBOLS[:1], 20)])
    _replace_payload(path, kind, payload)
    with pytest.raises(StoreCorrupt, match=r"is damaged: "):
        _table(path, Form.LONG)


def test_symbols_that_are_not_there_give_no_rows(tmp_path: Path) -> None:
    path = _file(tmp_path, [PushEntry(push) for push in lively_pushes(SYMBOLS, 10)])
    assert _table(path, Form.WIDE, ["HK.00001"]).num_rows == 0
    assert set(_table(path, Form.LONG, ["HK.00005"])["symbol"].to_pylist()) == {"HK.00005"}
    with pytest.raises(ValueError, match="depth 0"):
        list(read(path, Form.WIDE, depth=0))


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_rows_of_a_symbol_that_the_file_does_not_name_are_those_of_no_other(tmp_path: Path, symbol: str) -> None:
    path = _file(tmp_path, list(map(PushEntry, lively_pushes(SYMBOLS, 60))))
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("DELETE FROM symbols WHERE symbol = ?", (symbol,))
    for form in Form:
        with pytest.raises(StoreCorrupt, match="does not name"):
            _table(path, form)


def test_a_symbol_that_comes_while_reading_begins_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pushes = list(lively_pushes(SYMBOLS, 60))
    late = [push for push in pushes if push.symbol == SYMBOLS[0]]
    path = _file(tmp_path, [PushEntry(push) for push in pushes if push.symbol != SYMBOLS[0]])

    def then_another(path: Path) -> dict[str, int]:
        symbols_there = book_reader.symbols(path)
        _file(tmp_path, list(map(PushEntry, late)))
        return symbols_there

    monkeypatch.setattr(books, "symbols_of", then_another)
    told = _table(path, Form.WIDE)["symbol"].to_pylist()
    assert told == [state.symbol for state in book_reader.states(path)]
    assert told.count(SYMBOLS[0]) == len(late)

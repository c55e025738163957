"""Any sequence of books comes back as it went in, from any full row on."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hk_tick_collector.records.book import EMPTY_BOOK, Book, BookPush, Level, RowKind, exact_price
from hk_tick_collector.records.book_codec import (
    FULL_EVERY_PUSHES,
    FULL_EVERY_US,
    MAX_VOLUME,
    BookDecoder,
    BookEncoder,
    apply_payload,
    delta_payload,
    full_payload,
    steps_of,
)
from tests.books import BOOKS, OPEN_US, lively_pushes

BOOK = Book(((412.2, 3000, 7), (412.0, 12500, 31)), ((412.4, 800, 2),))


def _push(book: Book, at_us: int = OPEN_US, symbol: str = "HK.00700") -> BookPush:
    return BookPush(symbol, at_us, at_us // 1000 - 12, None, book)


@given(st.lists(st.tuples(st.integers(1, 3), BOOKS), max_size=30), st.integers(0, 30))
def test_any_states_of_any_symbols_come_back_from_any_row_on(pushed: list[tuple[int, Book]], cut: int) -> None:
    encoder = BookEncoder()
    rows = [encoder.encode(key, _push(book, OPEN_US + n)) for n, (key, book) in enumerate(pushed)]

    whole = BookDecoder()
    assert [whole.decode(row) for row in rows] == [book for _, book in pushed]

    # Whoever begins later knows a symbol from its next full row on, and never says anything wrong before.
    later = BookDecoder()
    for row, (_, book) in zip(rows[cut:], pushed[cut:], strict=True):
        assert later.decode(row) in (book, None)


def _is_sorted(book: Book) -> bool:
    """Each price once, the best first."""
    bids, asks = ([level[0] for level in side] for side in book)
    return all(a > b for a, b in pairwise(bids)) and all(a < b for a, b in pairwise(asks))


@given(BOOKS, BOOKS)
def test_a_delta_leads_from_one_state_to_the_other(before: Book, after: Book) -> None:
    delta = delta_payload(before, after)
    assert delta is not None or not (_is_sorted(before) and _is_sorted(after))
    assert delta is None or apply_payload(before, delta) == after
    assert apply_payload(EMPTY_BOOK, full_payload(after)) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (((3.0, 100, 1), (4.0, 100, 1)), ((6.0, 300, 1), (4.0, 100, 1))),  # not sorted
        (((4.0, 100, 1), (4.0, 200, 1)), ((4.0, 100, 1),)),  # twice, and once
    ],
)
def test_no_delta_takes_out_a_price_that_is_there_afterwards(
    before: tuple[Level, ...], after: tuple[Level, ...]
) -> None:
    """Who follows the changes by their prices would lose it."""
    mirrored = [tuple((10.0 - price, lots, orders) for price, lots, orders in side) for side in (before, after)]
    for books in ((Book(before, ()), Book(after, ())), (Book((), mirrored[0]), Book((), mirrored[1]))):
        encoder, decoder = BookEncoder(), BookDecoder()
        rows = [encoder.encode(1, _push(book, OPEN_US + n)) for n, book in enumerate((*books, books[1]))]
        assert [row.kind for row in rows] == [RowKind.FULL, RowKind.FULL, RowKind.SAME]
        assert [decoder.decode(row) for row in rows] == [*books, books[1]]


def test_a_book_that_stays_needs_no_payload_and_one_level_few_bytes() -> None:
    encoder = BookEncoder()
    changed = Book(((412.2, 2500, 6), BOOK.bids[1]), BOOK.asks)

    full, same, delta = (encoder.encode(1, _push(book)) for book in (BOOK, BOOK, changed))

    assert [row.kind for row in (full, same, delta)] == [RowKind.FULL, RowKind.SAME, RowKind.DELTA]
    assert same.payload is None
    assert delta.payload is not None
    assert len(delta.payload) == 4
    assert (full.bid_lag_ms, full.ask_lag_ms) == (12, None)


def test_a_full_row_comes_every_hundredth_push_and_every_minute() -> None:
    encoder = BookEncoder()
    kinds = [encoder.encode(1, _push(BOOK, OPEN_US + n)).kind for n in range(2 * FULL_EVERY_PUSHES)]
    assert [n for n, kind in enumerate(kinds) if kind == RowKind.FULL] == [0, FULL_EVERY_PUSHES]

    assert encoder.encode(1, _push(BOOK, OPEN_US + FULL_EVERY_US + FULL_EVERY_PUSHES)).kind == RowKind.FULL
    assert (
        encoder.encode(1, _push(BOOK, OPEN_US)).kind == RowKind.FULL
    )  # our clock went back: nobody must go back over it


def test_after_a_break_nothing_is_known_until_the_next_full_row() -> None:
    encoder, decoder = BookEncoder(), BookDecoder()
    first, second = encoder.encode(1, _push(BOOK)), encoder.encode(2, _push(BOOK))
    broke = encoder.break_row(1, OPEN_US + 5, merged=2)
    again = encoder.encode(1, _push(BOOK, OPEN_US + 9))

    assert [decoder.decode(row) for row in (first, second, broke)] == [BOOK, BOOK, None]
    assert (broke.kind, broke.merged, again.kind) == (RowKind.BREAK, 2, RowKind.FULL)
    assert decoder.decode(encoder.encode(2, _push(BOOK))) == BOOK  # the other symbol's book is still known


@pytest.mark.parametrize(
    "level",
    [(float("nan"), 100, 1), (float("inf"), 100, 1), (1.0, MAX_VOLUME, 1), (1.0, -MAX_VOLUME, 1), (1.0, 100, -1)],
)
def test_what_cannot_be_kept_is_refused_and_changes_nothing(level: tuple[float, int, int]) -> None:
    encoder, decoder = BookEncoder(), BookDecoder()
    decoder.decode(encoder.encode(1, _push(BOOK)))
    with pytest.raises(ValueError, match=r"price|level"):
        encoder.encode(1, _push(Book((level,), ())))
    moved = Book((), BOOK.asks)
    assert decoder.decode(encoder.encode(1, _push(moved))) == moved


@pytest.mark.parametrize("payload", [b"\x80", b"\x00\x00\x00", b"\xff" * 11, b"\x02\x80\x01\x02"])
def test_bytes_that_are_no_payload_are_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r"cut off|64 bits"):
        list(steps_of(payload))


def test_a_delta_of_another_state_is_refused() -> None:
    delta = delta_payload(BOOK, Book((BOOK.bids[0], (412.0, 1, 1)), BOOK.asks))
    assert delta is not None
    with pytest.raises(ValueError, match="level 2 of a side that has 0"):
        apply_payload(EMPTY_BOOK, delta)


def test_a_price_next_to_whole_thousandths_is_these_thousandths() -> None:
    assert exact_price(0.1 + 0.2) == 0.3
    assert exact_price(412.2000000000001) == 412.2
    assert exact_price(412.20005) == 412.20005


def test_a_lively_book_costs_few_bytes_a_push() -> None:
    encoder = BookEncoder()
    rows = [encoder.encode(1, push) for push in lively_pushes(("HK.00700",), 5000)]
    payload_bytes = sum(len(row.payload or b"") for row in rows)
    assert payload_bytes / len(rows) < 20

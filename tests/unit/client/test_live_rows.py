"""Which rows of the live channel are new to a client."""

from __future__ import annotations

from typing import Any

from hk_tick_collector.client.live import COLUMNS, Seen


def row(**values: Any) -> tuple[Any, ...]:
    given = {"trading_day": "20261120", "symbol": "HK.00700", "ts_ms": 1, "price": 1.0, "volume": 100, "occurrence": 0}
    given.update(values)
    return tuple(given.get(name) for name in COLUMNS)


def test_rows_of_one_millisecond_without_a_sequence_differ_by_their_content() -> None:
    seen = Seen()
    rows = [row(), row(price=1.1), row(volume=200), row(turnover=7.0), row(occurrence=1), row(symbol="HK.00005")]
    assert seen.new(rows) == rows
    assert seen.new(rows) == []


def test_a_row_with_a_sequence_is_known_by_it() -> None:
    seen = Seen()
    assert len(seen.new([row(seq=7), row(seq=8), row(seq=7)])) == 2

"""TimeAndSale rows to ticks, amendments and rejects."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hk_tick_collector.core.errors import FeedLost, RejectCode
from hk_tick_collector.core.facts import CANCEL, CORRECTION
from hk_tick_collector.market.registry import market_of
from hk_tick_collector.sources.dxlink.mapping import Mapped, TradeMapper
from hk_tick_collector.sources.dxlink.messages import EVENT, FIELDS, Broken, FeedRows
from hk_tick_collector.sources.plausible import PlausibleDays

# Friday 2026-11-20, 15:00:00.123 in New York.
TIME_MS = 1_795_204_800_123 - (1_795_204_800_123 % 1000) + 123
SEQUENCE = 53_166
INDEX = TIME_MS // 1000 << 32 | TIME_MS % 1000 << 22 | SEQUENCE
NOW_MS = TIME_MS + 40


def event(**changed: Any) -> dict[str, Any]:
    return {
        "eventSymbol": "AAPL", "index": INDEX, "time": TIME_MS, "price": 187.25, "size": 100.0, "eventFlags": 0,
        "timeNanoPart": 456_789, "sequence": SEQUENCE, "exchangeCode": "Q", "bidPrice": 187.24, "askPrice": 187.26,
        "exchangeSaleConditions": "@   ", "aggressorSide": "BUY", "spreadLeg": False, "extendedTradingHours": False,
        "validTick": True, "type": "NEW", **changed,
    }  # fmt: skip


def mapped(*events: dict[str, Any], market: str = "US", symbols: dict[str, str] | None = None) -> Mapped:
    of_market = market_of(market)
    mapper = TradeMapper(
        of_market, PlausibleDays(of_market), symbols or {"AAPL": "US.AAPL", "/ESZ26:XCME": "CME.ESZ26"}
    )
    return mapper.map([tuple(event_given[name] for name in FIELDS) for event_given in events], NOW_MS)


def test_a_trade_has_all_that_was_told() -> None:
    (tick,) = mapped(event()).ticks["US.AAPL"]
    assert tick._asdict() == {
        "symbol": "US.AAPL", "ts_ms": TIME_MS, "price": 187.25, "volume": 100, "turnover": None, "direction": "BUY",
        "seq": INDEX, "tick_type": "AUTO_MATCH", "push_type": "push", "trading_day": "20261120", "recv_ts_ms": NOW_MS,
        "push_data_type": "REALTIME", "opend_recv_ts_ms": None, "type_sign": None, "occurrence": 0,
        "ts_ns_part": 456_789, "venue": "Q", "conditions": "@   ", "bid_price": 187.24, "ask_price": 187.26,
    }  # fmt: skip


def test_the_published_index_is_read_as_its_parts() -> None:
    # A row that dxFeed published: 2023-05-29, too long ago to be taken, so only the arithmetic is held here.
    index = 7_238_429_996_434_378_670
    assert (index >> 32, index >> 22 & 0x3FF, index & 0x3FFFFF) == (1_685_328_315, 116, 53_166)


@pytest.mark.parametrize(
    ("changed", "tick_type"),
    [
        ({"exchangeSaleConditions": "@ TI", "validTick": False}, "ODD_LOT"),
        ({"validTick": False}, "NON_AUTO_MATCH"),
        ({"spreadLeg": True}, "NON_AUTO_MATCH"),
        ({"extendedTradingHours": True}, "EXTENDED_TRADING_HOURS"),
        ({"exchangeSaleConditions": "NaN"}, "AUTO_MATCH"),
        ({"exchangeSaleConditions": None}, "AUTO_MATCH"),
    ],
)
def test_only_what_makes_a_price_is_named_so(changed: dict[str, Any], tick_type: str) -> None:
    (tick,) = mapped(event(**changed)).ticks["US.AAPL"]
    assert tick.tick_type == tick_type
    assert (tick_type in market_of("US").trade_types.price_making) == (
        tick_type in ("AUTO_MATCH", "EXTENDED_TRADING_HOURS")
    )


def test_what_is_not_a_number_beside_the_trade_is_left_out() -> None:
    (tick,) = mapped(
        event(bidPrice=10**400, askPrice=None, timeNanoPart=-1, exchangeCode="\0", aggressorSide=["x"])
    ).ticks["US.AAPL"]
    assert (tick.bid_price, tick.ask_price, tick.ts_ns_part, tick.venue, tick.direction) == (
        None,
        None,
        None,
        None,
        "NEUTRAL",
    )


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"price": "NaN"}, "price"),
        ({"price": math.inf}, "price"),
        ({"price": -1}, "price"),
        ({"price": True}, "price"),
        ({"size": float("inf")}, "volume"),
        ({"size": "NaN"}, "volume"),
        ({"size": -1}, "volume"),
        ({"time": 0}, "time"),
        ({"time": 10**18}, "time"),
        ({"time": 1.5}, "time"),
        ({"index": "x", "sequence": None}, "time"),
        ({"index": INDEX & ~0x3FF, "sequence": None}, "time"),  # a double once: many trades have this one
        ({"time": TIME_MS - 40 * 86_400_000, "index": INDEX - (40 * 86_400 << 32)}, "day"),
        ({"index": INDEX - (2 * 86_400 << 32)}, "witnesses"),
        ({"eventSymbol": "TSLA"}, "unwanted"),
        ({"eventSymbol": ["AAPL"]}, "unwanted"),
    ],
)
def test_what_cannot_be_stored_is_kept_whole_and_the_next_goes_on(changed: dict[str, Any], code: str) -> None:
    mapped_rows = mapped(event(**changed), event())
    assert [tick.code for tick in mapped_rows.rejected] == [code]
    assert len(mapped_rows.ticks["US.AAPL"]) == 1
    json.dumps(mapped_rows.rejected[0].raw, allow_nan=False)
    assert mapped_rows.rejected[0].raw.get("sequence") == changed.get("sequence", SEQUENCE)


def test_a_future_may_trade_below_zero() -> None:
    (tick,) = mapped(event(eventSymbol="/ESZ26:XCME", price=-37.63), market="CME").ticks["CME.ESZ26"]
    assert (tick.price, tick.trading_day) == (-37.63, "20261120")


def test_an_index_that_a_double_rounded_is_made_anew() -> None:
    rounded = int(float(INDEX))
    assert rounded != INDEX
    (tick,) = mapped(event(index=rounded)).ticks["US.AAPL"]
    assert tick.seq == INDEX


def test_an_index_of_another_time_is_counted_and_moves_nothing() -> None:
    mapped_rows = mapped(event(index=INDEX + (3 << 32)), event())
    assert (mapped_rows.disagree_rows, [tick.ts_ms for tick in mapped_rows.ticks["US.AAPL"]]) == (1, [TIME_MS, TIME_MS])


def test_corrections_and_cancels_leave_the_tick_alone() -> None:
    mapped_rows = mapped(event(type="CORRECTION", price=187.5), event(type="CANCEL"), event(eventFlags=2))
    assert mapped_rows.ticks == {}
    assert [(amended.kind, amended.tick_seq, amended.price, amended.volume) for amended in mapped_rows.amended] == [
        (CORRECTION, INDEX, 187.5, 100), (CANCEL, INDEX, None, None), (CANCEL, INDEX, None, None),
    ]  # fmt: skip
    assert {amended.trading_day for amended in mapped_rows.amended} == {"20261120"}


# --- rows of a message ---


def rows_of(names: list[str], data: object) -> list[Any]:
    rows = FeedRows()
    rows.configure({EVENT: names})
    return list(rows.rows(data))


def test_fields_come_in_the_servers_order_and_may_change() -> None:
    names = ["price", "eventSymbol", "size", "time", "index"]
    rows = FeedRows()
    rows.configure({EVENT: names})
    (row,) = rows.rows([EVENT, [1.5, "AAPL", 3, TIME_MS, INDEX]])
    assert dict(zip(FIELDS, row, strict=True)) | {} == dict.fromkeys(FIELDS) | {
        "price": 1.5, "eventSymbol": "AAPL", "size": 3, "time": TIME_MS, "index": INDEX,
    }  # fmt: skip
    rows.configure({EVENT: names[::-1]})
    assert list(rows.rows([EVENT, [INDEX, TIME_MS, 3, "AAPL", 1.5]])) == [row]
    assert list(rows.rows([dict(zip(names, [1.5, "AAPL", 3, TIME_MS, INDEX], strict=True))])) == [row]


def test_the_end_of_a_row_that_is_cut_is_told() -> None:
    whole = ["AAPL", INDEX, TIME_MS, 1.5, 3]
    names = ["eventSymbol", "index", "time", "price", "size"]
    rows_given = rows_of(names, [EVENT, [*whole, *whole[:2]], "Quote", [1, 2, 3]])
    assert len(rows_given) == 2
    assert rows_given[1] == Broken(["AAPL", INDEX])


def test_a_server_without_a_needed_field_is_refused() -> None:
    with pytest.raises(FeedLost, match="sends no index, size of TimeAndSale"):
        rows_of(["eventSymbol", "time", "price"], [])
    with pytest.raises(FeedLost, match="cannot be read"):
        rows_of([["x"]], [])  # type: ignore[list-item]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)


@given(st.lists(JSON, max_size=40))
def test_whatever_comes_ends_as_a_tick_or_in_the_quarantine(values: list[Any]) -> None:
    rows = FeedRows()
    rows.configure({EVENT: list(FIELDS)})
    of_market = market_of("US")
    mapper = TradeMapper(of_market, PlausibleDays(of_market), {"AAPL": "US.AAPL"})
    for data in ([EVENT, values], values, [dict(zip(FIELDS, values, strict=False))]):
        mapped_rows = mapper.map(rows.rows(data), NOW_MS)
        for rejected in mapped_rows.rejected:
            json.dumps(rejected.raw, allow_nan=False).encode()


@pytest.mark.parametrize(("size", "turnover"), [(0.5, 93.625), (1.25, 234.0625), (1e-6, 187.25 * 1e-6)])
def test_a_part_of_a_share_is_told_by_its_turnover(size: float, turnover: float) -> None:
    part, whole = mapped(event(size=size), event(size=3.0)).ticks["US.AAPL"]
    assert (part.volume, part.turnover) == (None, turnover)
    assert (whole.volume, whole.turnover) == (3, None)


def test_a_part_that_no_turnover_tells_is_rejected() -> None:
    """A price of 0 makes 0 of any size."""
    mapped_rows = mapped(event(size=0.5, price=0.0), event(size=3.0, price=0.0))
    assert [tick.volume for tick in mapped_rows.ticks["US.AAPL"]] == [3]
    assert [tick.code for tick in mapped_rows.rejected] == [RejectCode.VOLUME]


def test_a_correction_to_a_part_of_a_share_is_kept() -> None:
    mapped_rows = mapped(event(type="CORRECTION", price=187.5, size=0.5), event(type="CANCEL", size=0.5))
    assert not mapped_rows.rejected
    assert [(amended.kind, amended.price, amended.volume, amended.source_text) for amended in mapped_rows.amended] == [
        (CORRECTION, 187.5, None, "size 0.5; @   "), (CANCEL, None, None, "@   "),
    ]  # fmt: skip


def test_a_part_of_a_contract_is_none() -> None:
    (rejected,) = mapped(event(eventSymbol="/ESZ26:XCME", size=0.5), market="CME").rejected
    assert rejected.code == "volume"

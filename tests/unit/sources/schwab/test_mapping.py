"""What level one tells of the last trade: rows, no rows, rejects; and whole weeks of it against the truth."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hk_tick_collector.core.errors import FeedError
from hk_tick_collector.core.evidence import EvidenceLevel
from hk_tick_collector.core.facts import CONFLATED, Unproven
from hk_tick_collector.days.catalog import Catalog
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hours import hm
from hk_tick_collector.market.symbols import check_symbols
from hk_tick_collector.market.us import US
from hk_tick_collector.quality.certificate import make_certificate
from hk_tick_collector.quality.observed import Observed, note_of
from hk_tick_collector.quality.recount import recount
from hk_tick_collector.records.tick import Origin, Tick
from hk_tick_collector.schwab_sim.server import Exchange, _Client
from hk_tick_collector.schwab_sim.tape import Tape, Trade
from hk_tick_collector.sources.plausible import PlausibleDays
from hk_tick_collector.sources.schwab.mapping import LastTradeMapper, Mapped
from hk_tick_collector.sources.schwab.symbols import at_schwab
from hk_tick_collector.store.writer import DayFileWriter

DAY = "20261120"  # a Friday
TIME_MS = US.zone.at_ms(DAY, hm(15)) + 123
TOLD_MS, NOW_MS = TIME_MS + 20, TIME_MS + 40
SYMBOLS = {"AAPL": "US.AAPL", "BRK/B": "US.BRK.B"}
FIRST = {"3": 187.25, "8": 1_000_000, "9": 100, "35": TIME_MS, "41": "XNAS"}


class Desk:
    def __init__(self) -> None:
        self.mapper = LastTradeMapper(US, PlausibleDays(US), SYMBOLS)

    def map(self, *content: Any, now_ms: int = NOW_MS, **part: Any) -> Mapped:
        told = {"service": "LEVELONE_EQUITIES", "timestamp": TOLD_MS, "content": list(content), **part}
        return self.mapper.map(told, now_ms)

    def told(self, **changes: Any) -> list[Tick]:
        """Of AAPL; fields as ``f35``."""
        mapped = self.map({"key": "AAPL", **{name.removeprefix("f"): value for name, value in changes.items()}})
        assert not mapped.rejected
        return mapped.ticks.get("US.AAPL", [])


@pytest.fixture
def desk() -> Desk:
    return Desk()


def first(desk: Desk) -> None:
    assert desk.map({"key": "AAPL", **FIRST}).ticks


def test_a_last_trade_has_all_that_was_told(desk: Desk) -> None:
    mapped = desk.map({"key": "AAPL", "delayed": False, "assetMainType": "EQUITY", **FIRST})
    (tick,) = mapped.ticks["US.AAPL"]
    seq = TIME_MS << 22 | (1_872_500 * 8191 + 100) & 0x3FFFFF
    assert tick._asdict() == {
        "symbol": "US.AAPL", "ts_ms": TIME_MS, "price": 187.25, "volume": 100, "turnover": None,
        "direction": "NEUTRAL", "seq": seq, "tick_type": "AUTO_MATCH", "push_type": "push", "trading_day": DAY,
        "recv_ts_ms": NOW_MS, "push_data_type": "SNAPSHOT", "opend_recv_ts_ms": TOLD_MS, "type_sign": None,
        "occurrence": 0, "total_volume": 1_000_000, "venue": "XNAS",
    }  # fmt: skip
    assert mapped.learned == [Unproven("US.AAPL", DAY, CONFLATED)]
    assert desk.map({"key": "AAPL", "35": TIME_MS + 5}).learned == []


def test_what_is_not_told_has_not_changed(desk: Desk) -> None:
    first(desk)
    (tick,) = desk.told(f8=1_000_100, f35=TIME_MS + 7)
    assert (tick.price, tick.volume, tick.ts_ms, tick.push_data_type) == (187.25, 100, TIME_MS + 7, "REALTIME")


def test_trades_of_one_millisecond_are_told_apart_by_more_volume(desk: Desk) -> None:
    first(desk)
    (tick,) = desk.told(f3=187.26, f8=1_000_100)
    assert (tick.ts_ms, tick.price) == (TIME_MS, 187.26)
    assert desk.told(f3=187.27) == []  # a price that was corrected is no other trade
    assert desk.told(f8=1_000_300) == []  # volume of trades that are not shown


@pytest.mark.parametrize(
    "changes",
    [{}, {"f8": 2_000_000}, {"f41": "ARCX"}, {"f3": 1.0}, {"f8": 5}, {"f1": 1.0, "f2": 2.0}, {"f35": TIME_MS}],
)
def test_no_other_trade_is_no_row(desk: Desk, changes: dict[str, Any]) -> None:
    first(desk)
    assert desk.told(**changes) == []


@pytest.mark.parametrize("missing", [{"3": 0}, {"9": 0}, {"3": None}, {"35": None}])
def test_before_the_first_trade_there_is_no_row(desk: Desk, missing: dict[str, Any]) -> None:
    mapped = desk.map({"key": "AAPL", **FIRST, **missing})
    assert not mapped.ticks
    assert not mapped.rejected


def test_a_subscription_shows_no_row_of_an_earlier_day(desk: Desk) -> None:
    yesterday_ms = US.zone.at_ms("20261119", hm(19, 59))
    assert not desk.map({"key": "AAPL", **FIRST, "35": yesterday_ms}).ticks
    (tick,) = desk.told(f35=TIME_MS)
    assert tick.trading_day == DAY


def test_what_is_told_again_has_the_same_name(desk: Desk) -> None:
    first(desk)
    desk.told(f8=1_000_007)  # seen by nobody
    (again,) = Desk().map({"key": "AAPL", **FIRST, "8": 1_000_007}).ticks["US.AAPL"]
    (once,) = Desk().map({"key": "AAPL", **FIRST}).ticks["US.AAPL"]
    assert again.seq == once.seq


@pytest.mark.parametrize(
    ("clock_ms", "tick_type", "counts"),
    [
        (hm(-3), "EXTENDED_TRADING_HOURS", False), (hm(7, 29), "EXTENDED_TRADING_HOURS", False),
        (hm(7, 30), "EXTENDED_TRADING_HOURS", True), (hm(9, 30), "AUTO_MATCH", True),
        (hm(16), "EXTENDED_TRADING_HOURS", True),
    ],
)  # fmt: skip
def test_the_hour_says_the_type_and_whether_the_total_is_the_day_s(
    desk: Desk, clock_ms: int, tick_type: str, counts: bool
) -> None:
    ts_ms = US.zone.at_ms(DAY, clock_ms)
    (tick,) = desk.map({"key": "AAPL", **FIRST, "35": ts_ms}, now_ms=ts_ms + 9).ticks["US.AAPL"]
    assert tick.tick_type == tick_type
    assert tick.trading_day == DAY
    assert tick._asdict()["total_volume"] == (1_000_000 if counts else None)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"3": float("nan")}, "price"), ({"3": float("inf")}, "price"), ({"3": -1.0}, "price"), ({"3": "1"}, "price"),
        ({"3": True}, "price"), ({"9": -0.5}, "volume"),
        ({"9": float("inf")}, "volume"), ({"9": float("nan")}, "volume"), ({"9": 10**13}, "volume"),
        ({"9": [1]}, "volume"), ({"35": "x"}, "time"), ({"35": 1e12}, "time"), ({"35": 1 << 50}, "time"),
        ({"35": -1}, "time"), ({"35": TIME_MS - 90 * 86_400_000}, "day"), ({"35": TIME_MS + 30 * 86_400_000}, "day"),
    ],
)  # fmt: skip
def test_what_cannot_be_stored_is_kept_whole(desk: Desk, changes: dict[str, Any], code: str) -> None:
    first(desk)
    mapped = desk.map({"key": "AAPL", "35": TIME_MS + 1, **changes})
    assert not mapped.ticks
    (rejected,) = mapped.rejected
    assert (rejected.symbol, rejected.code) == ("US.AAPL", code)
    json.dumps(rejected.raw, allow_nan=False)
    (tick,) = desk.told(**{f"f{name}": value for name, value in {**FIRST, "35": TIME_MS + 2}.items()})
    assert tick.price == 187.25  # it cost itself alone


def test_a_part_of_a_share_is_told_by_its_turnover(desk: Desk) -> None:
    first(desk)
    (part,) = desk.told(f9=0.5, f35=TIME_MS + 1)
    assert (part.volume, part.turnover, part.price) == (None, 93.625, 187.25)
    (other,) = Desk().told(**{f"f{name}": value for name, value in {**FIRST, "9": 0.25, "35": TIME_MS + 1}.items()})
    assert other.seq != part.seq  # names of one millisecond
    (whole,) = desk.told(f9=2, f35=TIME_MS + 2)
    assert (whole.volume, whole.turnover) == (2, None)


def test_what_nobody_asked_for_is_said(desk: Desk) -> None:
    for content in ({"key": "TSLA", **FIRST}, {**FIRST}, {"key": ["AAPL"]}, 7, None, []):
        (rejected,) = desk.map(content).rejected
        assert rejected.code in ("unwanted", "symbol")


def test_other_services_and_shapes_are_nothing(desk: Desk) -> None:
    assert desk.map({"key": "AAPL", **FIRST}, service="CHART_EQUITY") == Mapped()
    assert desk.map(content={"key": "AAPL"}) == Mapped()
    assert desk.map(content=None) == Mapped()


def test_late_data_is_called_so(desk: Desk) -> None:
    mapped = desk.map({"key": "AAPL", "delayed": True, **FIRST})
    assert mapped.delayed == "US.AAPL"
    assert [tick.push_data_type for tick in mapped.ticks["US.AAPL"]] == ["DELAYED"]
    assert [tick.push_data_type for tick in desk.told(f35=TIME_MS + 1)] == ["DELAYED"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.lists(
        st.dictionaries(st.sampled_from(["key", "0", "3", "8", "9", "35", "41", "delayed"]), JSON | st.just("AAPL")),
        max_size=5,
    )
)
def test_whatever_comes_becomes_rows_or_rejects_and_never_an_error(contents: list[dict[str, Any]]) -> None:
    desk = Desk()
    for content in contents:
        mapped = desk.map(content)
        for rejected in mapped.rejected:
            json.dumps(rejected.raw, allow_nan=False)
        for ticks in mapped.ticks.values():
            assert all(tick.seq is not None and 0 < tick.seq < 1 << 63 for tick in ticks)


def test_symbols_are_spelt_as_schwab_does() -> None:
    assert [at_schwab(symbol) for symbol in ("US.AAPL", "US.BRK.B")] == ["AAPL", "BRK/B"]
    with pytest.raises(FeedError, match="no trades of an index"):
        at_schwab("US..SPX")


# -- whole weeks ---------------------------------------------------------------------------------------------------


class Week:
    """Trades of five days, told as the simulated streamer tells them, with breaks and restarts, into day files."""

    DAYS = ("20261116", "20261117", "20261118", "20261119", "20261120")
    HOURS = (hm(4), hm(7, 28), hm(7, 40), hm(20))

    def __init__(self, root: Path, seed: int) -> None:
        self.root = root
        self.random = random.Random(seed)
        self.tape = Tape(["AAPL", "BRK/B"], seed, None, total=5_000_000)
        self.streamer = Exchange(self.tape, 0.0)
        self.trades: dict[str, list[Trade]] = {}
        self.writer = DayFileWriter(root, origin=Origin("US", "schwab"), evidence=EvidenceLevel.ID)
        (root / ".market").write_text("US\n")
        self.connect()

    def connect(self) -> None:
        self.client = _Client(None)
        self.client.symbols = {symbol: ["0", "3", "8", "9", "35", "41"] for symbol in SYMBOLS}
        self.mapper = LastTradeMapper(US, PlausibleDays(US), SYMBOLS)

    def record(self) -> None:
        for day in self.DAYS:
            self.trades[day] = []
            for start, end in zip(self.HOURS, self.HOURS[1:], strict=False):
                self.trade(day, start, end, 60 if end - start < hm(4) else 400)
                if start == hm(4):
                    self.tape.begin_day()
        self.writer.close()

    def trade(self, day: str, start: int, end: int, number: int) -> None:
        times = sorted(self.random.randrange(start, end) for _ in range(number))
        for clock_ms in times:
            if self.random.random() < 0.02:
                self.tape.oddities.append(self.random.choice(("nan", "fraction")))
            made = self.tape.next(US.zone.at_ms(day, clock_ms))
            self.trades[day].append(made)
            self.streamer._last[made.symbol] = made
            if self.random.random() < 0.02:
                self.connect()  # what was traded meanwhile is in the total alone
            if self.random.random() < 0.4:
                self.tell(made.time)

    def tell(self, now_ms: int) -> None:
        content = [
            {"key": trade.symbol, **changes}
            for trade in self.streamer._last.values()
            if (changes := self.streamer._changes(self.client, trade))
        ]
        message = json.loads(json.dumps(self.streamer._data(content)))
        mapped = self.mapper.map(message, now_ms + 3)
        self.writer.write([tick for ticks in mapped.ticks.values() for tick in ticks], mapped.learned)


def size_of(row: dict[str, Any]) -> float:
    return row["turnover"] / row["price"] if row["volume"] is None else row["volume"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("seed", [1, 2])
def test_a_week_s_certificates_say_no_false_word(tmp_path: Path, seed: int) -> None:
    week = Week(tmp_path, seed)
    week.record()
    calendar = TradingCalendar(US)
    for day in week.DAYS:
        day_read = Catalog(tmp_path, tmp_path / "_archive").day(day)
        certificate = make_certificate(
            day_read, calendar, US.zone.at_ms(day, hm(23)), recount(day_read, calendar.day_kind(day), workers=1)
        )
        assert (certificate.proven_symbols, certificate.missing_symbols, certificate.unproven_symbols) == (0, 0, 2)
        assert certificate.problems == ()
        assert certificate.grade not in ("A", "")
        traded = {(trade.symbol, trade.time, trade.price, trade.size): trade for trade in week.trades[day]}
        counting_ms = US.zone.at_ms(day, hm(7, 30))
        for theirs, ours in SYMBOLS.items():
            verdict = certificate.symbol(ours)
            assert verdict is not None
            assert CONFLATED in (verdict.reason or "")
            rows = day_read.ticks([ours], ("ts_ms", "price", "volume", "turnover", "total_volume")).to_pylist()
            keys = [(theirs, round(row["ts_ms"].timestamp() * 1000), row["price"], size_of(row)) for row in rows]
            assert len(set(keys)) == len(keys)
            assert set(keys) <= traded.keys()
            counted = [traded[key] for key in keys if key[1] >= counting_ms]
            assert verdict.told_volume == max(trade.total for trade in counted)
            assert verdict.seen_volume == sum(trade.size for trade in counted if trade.size >= 1)
        assert certificate.seen_volume is not None
        assert certificate.told_volume is not None
        assert any("% of the volume that it told of" in note for note in certificate.notes)


@pytest.mark.parametrize(
    ("observed", "note"), [([], []), ([Observed(0, 0)], []), ([Observed(1, 3), Observed(2, 6)], ["33.3 %"])]
)
def test_the_share_is_said_where_it_is_known(observed: list[Observed], note: list[str]) -> None:
    told = note_of(observed)
    assert len(told) == len(note)
    assert all(part in text for part, text in zip(note, told, strict=True))


@pytest.mark.parametrize(("seen", "shown"), [(9999, "99.9 %"), (9994, "99.9 %"), (10_000, "100.0 %")])
def test_what_was_not_seen_is_never_rounded_away(seen: int, shown: str) -> None:
    assert shown in note_of([Observed(seen, 10_000)])[0]


@pytest.mark.parametrize("symbol", ["US.AAPL261218C00200000", "US.AAPL_261218C200", "US./ESZ26"])
def test_options_and_futures_have_no_symbol_and_are_refused_at_the_start(symbol: str) -> None:
    symbols, (problem,) = check_symbols(f"US.AAPL,{symbol}", US.symbols)
    assert symbols == ["US.AAPL"]
    assert problem == f"{symbol}: no symbol of a US stock; US.AAPL is the form"

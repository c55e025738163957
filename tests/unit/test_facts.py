"""What ``quality.facts`` tells of a day's rows; days written by the recorder's own writer, odd sequences among them."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from dataclasses import asdict
from pathlib import Path

import pytest

from hk_tick_collector.core.errors import NoData
from hk_tick_collector.core.facts import PUSH_PULL_DISAGREE, Unproven, Verified
from hk_tick_collector.days.catalog import Catalog
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hk import HK
from hk_tick_collector.market.hk.classes import SymbolClass, symbol_class
from hk_tick_collector.market.hk.sessions import day_start_ms
from hk_tick_collector.quality import facts as facts_module
from hk_tick_collector.quality.facts import DayFacts, day_facts
from hk_tick_collector.records.tick import Tick
from hk_tick_collector.store.writer import DayFileWriter
from tests.archived_day import archive_day
from tests.clock import ManualClock
from tests.unit.store_ticks import DAY, tick

CALENDAR = TradingCalendar(HK)
MIDNIGHT_MS = day_start_ms(DAY)
STOCK, ETF, WARRANT, COUNTER = "HK.00700", "HK.02800", "HK.12345", "HK.80700"


def at(clock: str, counter: int | None, symbol: str = STOCK, **changes: object) -> Tick:
    """A tick of a Hong Kong time of day."""
    hour, minute, second = clock.split(":")
    ts_ms = MIDNIGHT_MS + (int(hour) * 60 + int(minute)) * 60_000 + round(float(second) * 1000)
    seq = None if counter is None else (ts_ms // 1000) << 32 | counter
    made = {"ts_ms": ts_ms, "seq": seq, "recv_ts_ms": ts_ms + 60, "opend_recv_ts_ms": ts_ms + 40, **changes}
    return tick(symbol=symbol, **made)


def told(root: Path, ticks: list[Tick], facts: list[object] | None = None, *, name_symbols: bool = False) -> DayFacts:
    writer = DayFileWriter(root, clock=ManualClock(ticks[-1].recv_ts_ms + 15))
    writer.write(ticks, facts or [])  # type: ignore[arg-type]
    writer.close()
    return read(root, name_symbols=name_symbols)


def read(root: Path, *, name_symbols: bool = False) -> DayFacts:
    day = Catalog(root, root / "_archive").day(DAY)
    return day_facts(day, CALENDAR, MIDNIGHT_MS + 86_400_000, name_symbols=name_symbols)


def values(facts: DayFacts, fact: str, cls: str = "stock") -> dict[str, object]:
    """The figures of one fact, by label."""
    (named_fact,) = [told_fact for told_fact in facts.facts if told_fact.name == fact]
    return {line.label.strip(): line.values[cls] for line in named_fact.lines}


def test_codes_fall_into_classes() -> None:
    told = {code: str(symbol_class(code)) for code in (STOCK, ETF, WARRANT, COUNTER, "HK.09988", "HK.09011")}
    assert told == {STOCK: "stock", ETF: "etf", WARRANT: "warrant", COUNTER: "counter", "HK.09988": "stock",
                    "HK.09011": "counter"}  # fmt: skip
    assert {symbol_class(code) for code in ("HK.800000", "HK.HSImain", "US.AAPL", "HK.05001", "")} == {
        SymbolClass.OTHER
    }
    assert symbol_class("HK.61234") is SymbolClass.WARRANT


def test_the_first_counter_by_class(tmp_path: Path) -> None:
    facts = told(
        tmp_path,
        [at("09:30:00.5", 1), at("09:30:01", 12, ETF), at("09:30:02", 0, WARRANT), at("09:30:03", None, COUNTER),
         at("09:20:00", 5000, "HK.00005")],
    )  # fmt: skip
    assert facts.classes == ("stock", "etf", "warrant", "counter")
    first = values(facts, "First counter")
    assert (first["symbols"], first["lowest counter 1"], first["lowest counter 1000 or more"]) == (2, 1, 1)
    assert first["first tick"] == "09:20:00"
    assert values(facts, "First counter", "etf")["lowest counter 10 to 999"] == 1
    assert values(facts, "First counter", "warrant")["lowest counter 0"] == 1
    assert values(facts, "First counter", "counter")["no counter at all"] == 1


def test_steps_in_the_order_of_counters_and_of_time(tmp_path: Path) -> None:
    facts = told(
        tmp_path,
        [at("09:30:00", 1), at("09:30:01", 2), at("09:30:02", 5), at("09:30:04", 105), at("09:30:03.9", 106),
         at("09:30:05", 1), at("09:30:06", 5000)],
    )  # fmt: skip
    steps = values(facts, "Steps")
    in_order = ("in order of counters: 1", "0 (one counter twice)", "2 to 10", "11 to 1000")
    assert [steps[label] for label in in_order] == [2, 1, 1, 1]
    assert (steps["more"], steps["and time goes back"], steps["back most, ms"]) == (1, 2, 4000)
    assert (steps["in order of time: rises"], steps["falls by 1 to 100"], steps["falls by more"]) == (4, 1, 1)


@pytest.mark.parametrize(
    ("after", "told_by"), [(3, "goes on by 1"), (9, "by more"), (1, "begins anew"), (2, "begins anew")]
)
def test_lunch(after: int, told_by: str, tmp_path: Path) -> None:
    ticks = [at("11:59:58", 1), at("11:59:59", 2), at("13:00:00.2", after), at("13:00:01", after + 1)]
    facts = told(tmp_path, ticks, name_symbols=True)
    lunch = values(facts, "Lunch")
    assert {label: number for label, number in lunch.items() if number} == {told_by: 1}
    (fact,) = [fact for fact in facts.facts if fact.name == "Lunch"]
    assert fact.symbols == ((STOCK,) if told_by != "goes on by 1" else None)


def test_a_half_day_has_no_lunch_and_its_auction_at_noon(tmp_path: Path) -> None:
    half = "20261224"
    shift_ms = day_start_ms(half) - MIDNIGHT_MS
    ticks = [tick._replace(ts_ms=tick.ts_ms + shift_ms, trading_day=half)
             for tick in (at("11:59:59", 1), at("12:08:12", 2, tick_type="AUCTION"))]  # fmt: skip
    writer = DayFileWriter(tmp_path)
    writer.write(ticks)
    writer.close()
    day = Catalog(tmp_path, tmp_path / "_archive").day(half)
    facts = day_facts(day, CALENDAR, day_start_ms(half))
    assert (facts.day_kind, facts.so_far) == ("half", True)
    assert "Lunch" not in [fact.name for fact in facts.facts]
    assert values(facts, "Auctions")["closing: prints"] == 1
    assert values(facts, "Auctions")["goes on by 1 (closing)"] == 1


def test_auctions_and_the_counter_beside_them(tmp_path: Path) -> None:
    ticks = [
        at("09:20:30.1", 1, tick_type="AUCTION"), at("09:30:00.1", 2), at("15:59:59", 3), at("16:00:01", 4),
        at("16:08:12", 6, tick_type="AUCTION"), at("16:08:14.5", 7, tick_type="AUCTION"),
    ]  # fmt: skip
    auctions = values(told(tmp_path, ticks), "Auctions")
    assert (auctions["opening: prints"], auctions["closing: prints"]) == (1, 2)
    assert auctions["goes on by 1 (opening)"] == 1
    assert auctions["by more (closing)"] == 1
    assert (auctions["first"], auctions["last"]) == ("16:08:12", "16:08:14")


def test_what_sequences_are_missing_shared_or_of_another_second(tmp_path: Path) -> None:
    second = (MIDNIGHT_MS + 34_200_000) // 1000
    facts = told(
        tmp_path,
        [at("09:30:00.5", 1), at("09:30:00.7", 1, ETF), at("09:30:02", 2, seq=second << 32 | 2), at("09:30:03", None),
         at("09:31:00", 3, seq=second << 32 | 3)],
        name_symbols=True,
    )  # fmt: skip
    figures = values(facts, "Sequences")
    assert (figures["ticks"], figures["without a sequence"]) == (4, 1)
    assert (figures["its second is the tick's"], figures["2 to 5 s off"], figures["more"]) == (1, 1, 1)
    assert (
        figures["another symbol has the same"] == values(facts, "Sequences", "etf")["another symbol has the same"] == 1
    )
    (fact,) = [fact for fact in facts.facts if fact.name == "Sequences"]
    assert fact.symbols == (STOCK,)


def test_connects_and_what_the_counter_does_over_each(tmp_path: Path) -> None:
    pulled = {"push_type": "backfill", "push_data_type": None, "opend_recv_ts_ms": None}
    late_ms = MIDNIGHT_MS + 36_000_000
    ticks = [
        at("09:30:00", 1), at("09:30:10", 2),
        at("09:59:59", 3, recv_ts_ms=late_ms, **pulled), at("10:00:00", 4, recv_ts_ms=late_ms, **pulled),
        at("10:00:05", 5), at("11:00:00", 6, push_data_type="CACHE"),
    ]  # fmt: skip
    connects = values(told(tmp_path, ticks), "Connects")
    assert connects["connects"] == 2
    assert connects["10:00:00, silent before, s"] == 1789
    assert "11:00:00, silent before, s" in connects


def test_push_against_pull(tmp_path: Path) -> None:
    pulled = {"push_type": "poll", "push_data_type": None, "opend_recv_ts_ms": None}
    facts = told(
        tmp_path,
        [at("09:30:00", 1), at("09:30:01", 2, **pulled), at("09:30:02", 3), at("09:30:01.5", 5, **pulled),
         at("09:30:00", 1, ETF)],
        [Verified(STOCK, DAY, 5, MIDNIGHT_MS + 40_000_000), Unproven(ETF, DAY, PUSH_PULL_DISAGREE)],
        name_symbols=True,
    )  # fmt: skip
    figures = values(facts, "Push against pull")
    assert (figures["came by push"], figures["came by poll"], figures["came otherwise"]) == (2, 2, 0)
    assert (figures["push next to pull: step 1"], figures["other steps"], figures["time goes back"]) == (2, 1, 1)
    assert figures["symbols: push and pull agree"] == 1
    assert values(facts, "Push against pull", "etf")["and disagree"] == 1


def test_delays_rows_a_push_and_milliseconds(tmp_path: Path) -> None:
    same = MIDNIGHT_MS + 34_200_500
    ticks = [at("09:30:00.100", 1, recv_ts_ms=same), at("09:30:00.200", 2, recv_ts_ms=same), at("09:30:01", 3),
             at("09:30:02.5", 4, push_data_type="CACHE", opend_recv_ts_ms=None)]  # fmt: skip
    facts = told(tmp_path, ticks)
    pushes = values(facts, "Rows a push")
    assert (pushes["pushes"], pushes["1 row"], pushes["2 to 5 rows"], pushes["most rows"]) == (3, 2, 1, 2)
    assert values(facts, "Delays")["event to OpenD: half within"] == 40
    assert values(facts, "Delays")["longest"] == ticks[-1].recv_ts_ms + 15 - ticks[0].ts_ms
    times = values(facts, "Times")
    assert (times["pushed, with milliseconds"], times["pushed, whole second"]) == (3, 1)
    assert values(facts, "Push data types") == {"REALTIME": 3, "CACHE": 1}
    assert values(facts, "Types and signs") == {"AUTO_MATCH [ ]": 4}


def test_names_out_of_the_file_cannot_reach_a_terminal(tmp_path: Path) -> None:
    facts = told(tmp_path, [at("09:30:00", 2, type_sign="\x1b", tick_type="價" * 100)], name_symbols=True)
    assert list(values(facts, "Types and signs")) == ["?" * 32]


def test_an_archived_day_tells_the_same(tmp_path: Path) -> None:
    ticks = [at("09:30:00", 1), at("11:59:59.5", 4), at("13:00:00.2", 5), at("09:31:00", None, ETF)]
    live = told(tmp_path, ticks)
    archive_day(tmp_path, tmp_path / "_archive")
    archived = read(tmp_path)
    assert (live.source, archived.source) == ("day file", "archive")
    assert archived.facts == live.facts


def test_a_day_without_a_tick_says_so(tmp_path: Path) -> None:
    told(tmp_path, [at("09:30:00", 1)])
    with contextlib.closing(sqlite3.connect(tmp_path / f"{DAY}.db")) as conn, conn:
        conn.execute("DELETE FROM ticks")
    with pytest.raises(NoData, match=f"{DAY}: no tick is stored"):
        read(tmp_path)


def test_no_price_volume_turnover_or_direction_is_even_read(tmp_path: Path) -> None:
    assert not {"price", "volume", "turnover", "direction"} & set(facts_module.COLUMNS)
    ticks = [at("09:30:00", 1, price=98765.4321, volume=7654321, turnover=86420.9753), at("09:30:01", 2, ETF)]
    text = json.dumps(asdict(told(tmp_path, ticks)))
    for sentinel in ("98765", "7654321", "86420", STOCK, ETF, str(tmp_path), "BUY"):
        assert sentinel not in text

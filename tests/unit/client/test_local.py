"""The Python API on local files: what it gives is what is stored, and it says what is missing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import warnings
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas
import polars
import pyarrow as pa
import pytest

from hk_tick_collector.client.api import Recordings
from hk_tick_collector.client.coverage import Coverage
from hk_tick_collector.client.errors import (
    BadQuestion,
    Damaged,
    DayPacked,
    IncompleteData,
    NoData,
    NotProven,
    RecordingsError,
    UnknownSymbol,
)
from hk_tick_collector.client.question import TickQuestion, stretch
from hk_tick_collector.days.catalog import Catalog, Day
from hk_tick_collector.days.schema import COLUMNS
from hk_tick_collector.market.hk import HK
from hk_tick_collector.market.hk.sessions import day_start_ms
from hk_tick_collector.query.bars import INPUT_COLUMNS, make_bars
from hk_tick_collector.records.tick import Origin
from hk_tick_collector.store.writer import DayFileWriter
from hk_tick_collector.watch.access import CLOSED_ADVICE
from tests.archived_day import archive_day
from tests.tickctl import SYMBOLS, day_ticks, record_day
from tests.ticks import BASE_MS, DAY, make_tick, make_ticks
from tests.unit.client.days import ARCHIVED, HOLED, UNPROVEN, recordings, store
from tests.unit.test_days import rows_of, stored

COUNT = 200
UNDER = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
HK_TIME = timezone(timedelta(hours=8))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A proven archived day, a day with two holes, a day of which nothing is proven."""
    root = tmp_path_factory.mktemp("recorded") / "data"
    record_day(root, ARCHIVED, count=COUNT)
    record_day(root, HOLED, count=COUNT, lost=(7, 8))
    record_day(root, UNPROVEN, count=COUNT, proven=False)
    stored_rows[ARCHIVED] = stored(root / f"{ARCHIVED}.db")
    archive_day(root, root / "_archive", ARCHIVED)
    return root


stored_rows: dict[str, list[dict[str, object]]] = {}


@pytest.fixture(scope="module")
def here(root: Path) -> Recordings:
    return recordings(root)


# What comes


def test_an_archived_day_is_what_was_stored(here: Recordings) -> None:
    assert rows_of(here.load("all", ARCHIVED)) == stored_rows[ARCHIVED]


@pytest.mark.filterwarnings("ignore::hk_tick_collector.client.errors.IncompleteData")
def test_a_live_day_is_what_is_stored(here: Recordings, root: Path) -> None:
    rows = stored(root / f"{HOLED}.db")
    assert rows_of(here.load("all", HOLED)) == rows
    assert rows_of(here.load(SYMBOLS, HOLED)) == rows
    assert rows_of(here.load("5", HOLED)) == [row for row in rows if row["symbol"] == "HK.00005"]


@pytest.mark.filterwarnings("ignore::hk_tick_collector.client.errors.IncompleteData")
def test_days_come_one_after_the_other_sorted_within(here: Recordings) -> None:
    table = here.load("700,5", f"{ARCHIVED}..{UNPROVEN}", columns=("trading_day", "symbol", "ts_ms", "seq"))
    keys = list(zip(*(column.to_pylist() for column in table.columns), strict=True))
    assert keys == sorted(keys)
    assert len(keys) == 6 * COUNT - 2
    assert {key[:2] for key in keys} == {
        (day, symbol) for day in (ARCHIVED, HOLED, UNPROVEN) for symbol in ("HK.00005", "HK.00700")
    }


def test_every_output_holds_the_same(here: Recordings) -> None:
    arrow = here.load("700", ARCHIVED)
    assert arrow.schema.field("ts_ms").type == pa.timestamp("ms", "UTC")
    assert arrow.schema.field("seq").type == pa.int64()
    frame = here.load("700", ARCHIVED, to="polars")
    assert isinstance(frame, polars.DataFrame)
    assert frame["seq"].dtype == polars.Int64
    assert frame["seq"].to_list() == arrow["seq"].to_pylist()
    panda = here.load("700", ARCHIVED, to="pandas")
    assert isinstance(panda, pandas.DataFrame)
    assert list(panda["seq"]) == arrow["seq"].to_pylist()
    assert list(panda[panda["symbol"] == "HK.00700"]["ts_ms"]) == arrow["ts_ms"].to_pylist()
    assert Coverage.of(panda) == Coverage.of(arrow) == here.coverage(ARCHIVED, "700")
    relation = here.load("700", ARCHIVED, to="duckdb")
    assert isinstance(relation, duckdb.DuckDBPyRelation)
    assert relation.aggregate("count(*), max(seq)").fetchall() == [(COUNT, max(arrow["seq"].to_pylist()))]


def test_pandas_own_tools_work_on_what_it_is_given(here: Recordings) -> None:
    """``resample``, ``between_time`` and slices by day refuse Arrow's timestamps."""
    frame = here.load("700", ARCHIVED, to="pandas", tz="hk")
    assert frame["ts_ms"].dtype == pandas.DatetimeTZDtype("ms", "Asia/Hong_Kong")
    assert {str(frame[name].dtype) for name in ("price", "bid_price")} == {"float64"}
    ticks = frame.set_index("ts_ms")
    five_minutes = ticks.resample("5min").agg({"price": "ohlc", "volume": "sum"}).dropna()
    bars = here.bars("700", ARCHIVED, "5m", to="pandas", tz="hk", odd_lots=True).set_index("start_ms")
    assert list(five_minutes["volume"]["volume"]) == list(bars["volume"])
    assert list(five_minutes.index) == list(bars.index)
    assert len(ticks.between_time("09:30", "09:40")) == (frame["ts_ms"] <= "2026-11-20 09:40:00+08:00").sum() > 0
    assert len(ticks.loc["2026-11-20"]) == COUNT
    assert isinstance(bars.index, pandas.DatetimeIndex)


@pytest.mark.filterwarnings("ignore::hk_tick_collector.client.errors.IncompleteData")
def test_days_are_taken_as_people_hold_them(here: Recordings) -> None:
    wanted = here.load("700", f"{ARCHIVED},{HOLED}")
    for days in (
        [ARCHIVED, HOLED],
        [date(2026, 11, 20), "2026-11-23"],
        pandas.bdate_range("2026-11-20", "2026-11-23"),
        np.array(["2026-11-20", "2026-11-23"], "datetime64[D]"),
    ):
        assert here.load("700", days).equals(wanted)
        assert here.coverage(days, "700") == Coverage.of(wanted)
    assert here.load("700", pandas.Timestamp("2026-11-20")).num_rows == COUNT


@pytest.mark.parametrize("symbol", ["HK.00700", "0700.HK", "HK.700", "hk700"])
def test_symbols_are_taken_as_people_write_them(here: Recordings, symbol: str) -> None:
    assert here.load(symbol, ARCHIVED).equals(here.load("700", ARCHIVED))


@pytest.mark.filterwarnings("ignore::hk_tick_collector.client.errors.IncompleteData")
def test_a_sequence_is_never_a_float(tmp_path: Path) -> None:
    """Absent beside one that no float64 holds."""
    huge = (1 << 62) + 3
    store(tmp_path, [make_tick(1, seq=None), make_tick(2, seq=huge)])
    here = recordings(tmp_path)
    for to in ("arrow", "polars", "pandas"):
        column = here.load("700", DAY, to=to)["seq"]
        values = column.to_pylist() if to == "arrow" else list(column)
        assert values[1] == huge
        assert isinstance(int(values[1]), int)
        assert values[0] is None or values[0] is pandas.NA
    assert here.load("700", DAY, to="pandas")["seq"].dtype == pandas.ArrowDtype(pa.int64())


def test_the_zone_changes_the_clock_and_not_the_moment(here: Recordings) -> None:
    plain, local = (here.load("700", ARCHIVED, columns="ts_ms", tz=tz)["ts_ms"] for tz in (None, "hk"))
    assert plain.type.tz == "UTC"
    assert local.type.tz == "Asia/Hong_Kong"
    assert plain.cast(pa.int64()) == local.cast(pa.int64())
    assert local[0].as_py().utcoffset() == timedelta(hours=8)
    (batch,) = here.iter_batches("700", ARCHIVED, columns="ts_ms", tz="America/New_York")
    assert batch.schema.field("ts_ms").type.tz == "America/New_York"


@pytest.mark.filterwarnings("ignore::hk_tick_collector.client.errors.IncompleteData")
def test_kinds_of_trades(tmp_path: Path) -> None:
    kinds = ["AUTO_MATCH", "AUCTION", "ODD_LOT", "OVERSEAS", None]
    ticks = [make_tick(n, tick_type=kind) for n, kind in enumerate(kinds, 1)]
    store(tmp_path, [*ticks, make_tick(10, price=0.0), make_tick(11, volume=0)])
    here = recordings(tmp_path)

    def counters(types: Any) -> list[int]:
        return [seq & 0xFFFFFFFF for seq in here.load("700", DAY, columns=["seq"], types=types)["seq"].to_pylist()]

    assert counters("all") == [1, 2, 3, 4, 5, 10, 11]  # a price or a volume of 0 is none, and stands as it came
    assert counters("price") == [1, 2, 5]
    assert counters("odd_lots") == [3]
    assert counters("off_exchange") == [4]
    assert counters(["price", "odd_lots"]) == [1, 2, 3, 5]
    assert counters("price, off_exchange, odd_lots") == [1, 2, 3, 4, 5]


# Which stretch


def test_the_end_is_exclusive(tmp_path: Path) -> None:
    store(tmp_path, make_ticks(0, 9))
    here = recordings(tmp_path)

    def counters(**ends: Any) -> list[int]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", IncompleteData)
            return [seq & 0xFFFFFFFF for seq in here.load("700", **ends)["seq"].to_pylist()]

    moment = datetime.fromtimestamp(BASE_MS / 1000, UTC)
    assert counters(start=BASE_MS + 3, end=BASE_MS + 6) == [3, 4, 5]
    assert counters(start=np.int64(BASE_MS + 3), end=pandas.Timestamp(BASE_MS + 4, unit="ms", tz="UTC")) == [3]
    assert counters(start=moment + timedelta(milliseconds=8)) == [8, 9]
    assert counters(end=(moment + timedelta(milliseconds=2)).astimezone(HK_TIME).isoformat()) == [0, 1]
    assert counters(start="2026-11-20T09:30:00.005", end="2026-11-20T09:30:00.006", tz="hk") == [5]
    assert counters(start="2026-11-20") == counters(start=date(2026, 11, 20), end="20261121") == list(range(10))
    assert counters(start=BASE_MS + 100) == []
    with pytest.raises(NoData, match="no recorded day lies"):
        counters(end="2026-11-20")


@pytest.mark.parametrize(
    ("question", "told"),
    [
        ({"start": datetime(2026, 11, 20, 9, 30)}, r"names no time zone .*tz=\"hk\""),  # noqa: DTZ001
        ({"as_of": "2026-11-20T09:30"}, "names no time zone"),
        ({"start": "2026-11-20T09:30+08:00", "end": "2026-11-20T01:30Z"}, "start .* is not before end"),
        ({"start": "20261121", "end": "2026-11-20T09:30+08:00"}, "start is not before end"),
        ({"start": 10**17}, "is out of range"),
        ({"as_of": datetime(1, 1, 1, tzinfo=HK_TIME)}, "is out of range"),
        ({"as_of": True}, "is not a moment"),
        ({"tz": 8}, "is not a time zone"),
        ({"day": "20261120", "start": "20261120"}, "give a day, or the two ends"),
        ({"day": "2026-13-01"}, "is not a day"),
        ({"start": "20261301"}, "is not a day"),
        ({"day": datetime(2026, 11, 20, tzinfo=UTC)}, "a moment, not a day"),
        ({"symbols": ""}, "no symbol"),
        ({"symbols": ["700", "@file"]}, "@file is for the command line"),
        ({"day": []}, "the list of days is empty"),
        ({"day": ["20261120", datetime(2026, 11, 20, 9, 30)]}, "a moment, not a day"),  # noqa: DTZ001
        ({"start": 1795138200}, "looks like seconds"),
        ({"symbols": 700}, "symbols must be text, not 700"),
        ({"symbols": "7 00"}, "HK.00700"),
        ({"columns": "symbol,prize"}, "no such column: prize"),
        ({"types": "prices"}, "no such kind of trades"),
        ({"to": "excel"}, "to='excel' is not known"),
        ({"tz": "Hongkong/HK"}, "is not a time zone"),
        ({"require": "complete"}, "is not known"),
    ],
)
def test_a_question_without_meaning(here: Recordings, question: dict[str, Any], told: str) -> None:
    with pytest.raises(BadQuestion, match=told):
        here.load(**{"symbols": "700", **question})


def test_without_a_day_it_is_the_newest(here: Recordings) -> None:
    with pytest.warns(IncompleteData, match=UNPROVEN):
        assert here.load("700", columns="trading_day")["trading_day"].unique().to_pylist() == [UNPROVEN]


# What is not there


def test_what_is_not_there_is_explained(here: Recordings) -> None:
    with pytest.raises(UnknownSymbol, match=r"HK.09987 has no ticks on 20261120; near to it are HK.09988"):
        here.load("9987", ARCHIVED)
    with pytest.raises(NoData, match=r"no ticks of 20261121 .*Hong Kong was closed on 20261121") as closed:
        here.load("700", "20261121")
    assert closed.value.hint == "Hong Kong was closed on 20261121"
    with pytest.raises(NoData, match="Hong Kong traded on 20261119, but nothing was recorded"):
        here.load("700", "20261119")
    with pytest.raises(NoData, match="lies in the future"):
        here.load("700", "20261130")


def test_a_trading_day_without_a_file_is_not_complete(here: Recordings) -> None:
    """A weekend and days before the first one asked for are none."""
    with pytest.warns(IncompleteData, match="HK.00700 20261125: not recorded"):
        table = here.load("700", start=ARCHIVED, end="20261130")
    states = {row.trading_day: row.state for row in Coverage.of(table)}
    missing = dict.fromkeys(("20261125", "20261126", "20261127"), "not_recorded")
    assert states == {ARCHIVED: "proven", HOLED: "proven", UNPROVEN: "unproven"} | missing
    with pytest.raises(NotProven, match="not recorded"):
        here.load("all", f"20261119..{ARCHIVED}", require="proven")
    assert here.load("700", f"..{ARCHIVED}", require="proven").num_rows == COUNT


def test_before_the_first_recorded_day_it_is_one_line(here: Recordings) -> None:
    """A stretch may begin with the century."""
    for question in ({"start": 0, "end": HOLED}, {"day": f"19991231..{ARCHIVED}"}):
        with pytest.warns(
            IncompleteData, match=r"HK.00700 20261119: not recorded .nothing is recorded before 20261120"
        ):
            coverage = Coverage.of(here.load("700", **question))
        assert [(row.trading_day, row.state) for row in coverage] == [
            ("20261119", "not_recorded"),
            (ARCHIVED, "proven"),
        ]


def test_coverage_of_what_carries_none(here: Recordings) -> None:
    assert Coverage.of(next(here.iter_batches("700", ARCHIVED))) == here.coverage(ARCHIVED, "700")
    for table in (here.load("700", ARCHIVED, to="polars"), pa.table({}), pandas.DataFrame(), None):
        with pytest.raises(BadQuestion, match="carries no coverage"):
            Coverage.of(table)


def test_today_counts_when_trading_has_begun(root: Path) -> None:
    for clock_hour, is_missing in ((9, False), (10, True)):
        now_ms = day_start_ms("20261125") + clock_hour * 3_600_000
        coverage = recordings(root, now_ms=now_ms).coverage(f"{HOLED}..today", "700")
        assert ("20261125" in {row.trading_day for row in coverage}) == is_missing


def test_one_warning_names_what_is_missing(here: Recordings) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        here.load(SYMBOLS, HOLED)
        here.load("700", HOLED)
        here.load("all", ARCHIVED)
    (warning,) = told
    assert warning.category is IncompleteData
    assert "HK.00005 20261123: 2 ticks missing" in str(warning.message)
    assert warning.filename == __file__


def test_only_what_is_proven(here: Recordings) -> None:
    assert here.load("700", HOLED, require="proven").num_rows == COUNT
    for symbols in ("5", "all", ["5", "700"]):
        with pytest.raises(NotProven, match="2 ticks missing") as refused:
            here.load(symbols, HOLED, require="proven")
        assert refused.value.hint
    with pytest.raises(NotProven):
        here.iter_batches("5", HOLED, require="proven")
    with pytest.raises(NotProven):
        here.bars("5", HOLED, require="proven")
    with pytest.raises(NotProven, match=r"HK\.00011 20261123"):
        here.load("700,11", HOLED, require="proven")


# One state


@pytest.mark.parametrize("symbols", ["all", "700,5"])
def test_rows_and_coverage_are_of_one_state(tmp_path: Path, symbols: str) -> None:
    """The recorder goes on writing behind a hole between the question and the reading."""
    writer = DayFileWriter(tmp_path)
    writer.write([*make_ticks(1, 5), *make_ticks(1, 5, "HK.00005")])
    answer = recordings(tmp_path).backend.ticks(TickQuestion(stretch(symbols, DAY)))
    writer.write([*make_ticks(7, 9), *make_ticks(6, 9, "HK.00005"), *make_ticks(1, 9, "HK.00011")])
    table = pa.Table.from_batches(answer.batches, answer.schema)
    writer.close()
    assert table.num_rows == sum(row.stored_ticks for row in answer.coverage) == 10
    assert {row.symbol for row in answer.coverage} == {"HK.00005", "HK.00700"}


def test_batches_are_read_as_they_are_taken(here: Recordings, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    ticks = Day.ticks
    monkeypatch.setattr(Day, "ticks", lambda day, *a, **k: (read.append(day.trading_day), ticks(day, *a, **k))[1])
    with pytest.warns(IncompleteData, match=UNPROVEN):
        batches = here.iter_batches("700", f"{ARCHIVED}..{UNPROVEN}")
    assert read == []
    first = next(batches)
    assert read == [ARCHIVED]
    assert first.num_rows + sum(batch.num_rows for batch in batches) == 3 * COUNT
    assert read == [ARCHIVED, HOLED, UNPROVEN]


@pytest.mark.parametrize("symbols", ["all", "700"])
def test_a_day_that_is_archived_meanwhile_is_read_from_there(tmp_path: Path, symbols: str) -> None:
    record_day(tmp_path, DAY, count=20)
    rows = [row for row in stored(tmp_path / f"{DAY}.db") if symbols in ("all", str(row["symbol"])[-3:])]
    batches = recordings(tmp_path).iter_batches(symbols, DAY)
    archive_day(tmp_path, tmp_path / "_archive", DAY)
    assert rows_of(pa.Table.from_batches(batches)) == rows


def test_a_library_that_is_not_there_is_named(here: Recordings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(RecordingsError, match=r"the package polars is missing .pip install polars"):
        here.load("700", ARCHIVED, to="polars")


def test_what_an_extra_brings_is_named_with_the_extra(root: Path) -> None:
    """As in a base install: at the first call, and where a live day is read."""
    told = r"RecordingsError the package {} is missing \(pip install 'hk-tick-collector\[tools\]'"
    for absent, question in (("pyarrow", f'"700", "{ARCHIVED}"'), ("adbc_driver_manager", f'"700", "{HOLED}"')):
        code = f"""
import sys
import hk_tick_collector as hk
sys.modules["{absent}"] = None
try:
    hk.local("{root}").load({question})
except hk.RecordingsError as exc:
    print(type(exc).__name__, exc)
"""
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=60, check=True
        )
        assert re.match(told.format(absent), done.stdout), done.stdout


# What was known


def test_as_of_is_no_look_ahead(tmp_path: Path) -> None:
    """A hole that a repair filled at 11:00 was one at 10:00."""
    ten_ms, eleven_ms = (day_start_ms(DAY) + hour * 3_600_000 for hour in (10, 11))
    store(tmp_path, [*make_ticks(1, 5), *make_ticks(8, 10)], at_ms=BASE_MS + 1000)
    store(tmp_path, make_ticks(6, 7, push_type="repair"), at_ms=eleven_ms)
    here = recordings(tmp_path)
    with pytest.warns(IncompleteData, match="HK.00700 20261120: 2 ticks missing"):
        table = here.load("700", DAY, as_of=ten_ms)
    assert [seq & 0xFFFFFFFF for seq in table["seq"].to_pylist()] == [1, 2, 3, 4, 5, 8, 9, 10]
    (row,) = Coverage.of(table)
    assert (row.state, row.missing_ticks, row.stored_ticks, row.expected_ticks) == ("missing", 2, 8, None)
    with pytest.warns(IncompleteData):
        assert here.load("700", DAY, as_of=eleven_ms).num_rows == 10
    with pytest.warns(IncompleteData):
        assert here.bars("700", DAY, "1m", as_of=ten_ms)["tick_count"].to_pylist() == [8]
    with pytest.warns(IncompleteData):
        assert sum(batch.num_rows for batch in here.iter_batches("all", DAY, as_of=ten_ms)) == 8
    with pytest.raises(NotProven):
        here.load("700", DAY, as_of=ten_ms, require="proven")
    with pytest.raises(NoData):
        here.load("700", DAY, as_of="2026-11-19T10:00+08:00")


def test_what_was_proven_by_then_stays_proven(tmp_path: Path) -> None:
    """Nothing came after the source had been asked."""
    record_day(tmp_path, DAY, count=10)
    here = recordings(tmp_path)
    now_ms = max(row["inserted_at_ms"] for row in stored(tmp_path / f"{DAY}.db"))  # type: ignore[type-var]
    asked_ms = here.coverage(DAY)[0].verified_until_ms
    assert asked_ms is not None
    later_ms = max(now_ms, asked_ms)  # type: ignore[type-var]
    assert here.load("all", DAY, as_of=later_ms, require="proven").num_rows == 30


# Odd places


@pytest.mark.filterwarnings("ignore::hk_tick_collector.client.errors.IncompleteData")
def test_late_rows_beside_an_archive_are_read_with_it(tmp_path: Path) -> None:
    record_day(tmp_path, DAY, count=20)
    before = stored(tmp_path / f"{DAY}.db")
    archive_day(tmp_path, tmp_path / "_archive", DAY)
    store(tmp_path, day_ticks("HK.00700", 25, DAY)[20:])
    here = recordings(tmp_path)
    for symbols in ("all", "700,5,9988"):
        rows = rows_of(here.load(symbols, DAY))
        assert [row for row in rows if row in before] == before
        assert len(rows) == len(before) + 5
    assert [(info.where, info.stored_ticks) for info in here.days()] == [("both", len(before) + 5)]


def test_a_packed_day_says_how_to_bring_it_back(tmp_path: Path) -> None:
    record_day(tmp_path, DAY, count=20)
    archive_day(tmp_path, tmp_path / "_archive", DAY).unlink()
    path = tmp_path / f"_archive/manifests/{DAY}.json"
    path.write_text(path.read_text().replace('"kind": "parquet"', '"kind": "sqlite"'))
    for ask in (recordings(tmp_path).load, recordings(tmp_path).bars, recordings(tmp_path).iter_batches):
        with pytest.raises(DayPacked, match=f"hk-tickctl restore {DAY}"):
            ask("700", DAY)
    assert recordings(tmp_path).coverage(DAY).is_proven


def test_a_damaged_day_is_left_out_of_several(tmp_path: Path) -> None:
    record_day(tmp_path, ARCHIVED, count=20)
    (tmp_path / f"{HOLED}.db").write_bytes(b"no database" * 1000)
    here = recordings(tmp_path)
    with pytest.raises(Damaged) as error:
        here.load("700", HOLED)
    assert "hk-tickctl" in error.value.hint
    with pytest.warns(IncompleteData, match=f"HK.00700 {HOLED}: not proven .left out, it cannot be read"):
        assert here.load("700", f"{ARCHIVED}..{HOLED}").num_rows == 20
    assert [bool(info.error) for info in here.days()] == [False, True]


@pytest.mark.filterwarnings("ignore::hk_tick_collector.client.errors.IncompleteData")
def test_several_data_roots(tmp_path: Path) -> None:
    """Two halves of Hong Kong and another market; each tick of a symbol in both halves is read once."""
    first, second, other = (tmp_path / name for name in ("a", "b", "us"))
    store(first, make_ticks(1, 4))
    store(second, [*make_ticks(1, 9), *make_ticks(1, 3, "HK.00005")])
    store(second, make_ticks(1, 2, "HK.00005", trading_day="20261123", ts_ms=BASE_MS + 3 * 86_400_000))
    store(other, make_ticks(1, 6, "US.AAPL"), origin=Origin("US", "futu"))
    here = recordings(first, second, other)

    def counts(*question: Any, **more: Any) -> dict[str, int]:
        table = here.load(*question, **more)
        return {pair["values"]: pair["counts"] for pair in table["symbol"].cast(pa.string()).value_counts().to_pylist()}

    assert counts("700,5,US.AAPL", DAY) == {"HK.00700": 9, "HK.00005": 3, "US.AAPL": 6}
    assert counts("all", DAY) == {"HK.00700": 9, "HK.00005": 3, "US.AAPL": 6}
    assert counts("5", "20261123") == {"HK.00005": 2}
    assert counts("US.AAPL") == {"US.AAPL": 6}
    assert [(info.trading_day, info.market, info.symbols) for info in here.days()] == [
        (DAY, "HK", 2), (DAY, "US", 1), ("20261123", "HK", 1),
    ]  # fmt: skip
    assert counts("5,US.AAPL", "20261123") == {"HK.00005": 2}
    assert {row.symbol: row.state for row in here.coverage("20261123", "5,US.AAPL")}["US.AAPL"] == "not_recorded"
    with pytest.raises(BadQuestion, match="recorded here: HK, US"):
        here.load("CME.ESZ26", DAY)


# Bars, certificate


def test_bars_are_those_of_the_command(here: Recordings, root: Path) -> None:
    ticks = Catalog(root, root / "_archive").day(ARCHIVED).ticks(SYMBOLS, INPUT_COLUMNS)
    assert here.bars(SYMBOLS, ARCHIVED, "5m").equals(make_bars(ticks, 300_000, HK))
    assert here.bars("all", ARCHIVED, "5m").equals(make_bars(ticks, 300_000, HK))
    with pytest.raises(BadQuestion, match="is not an interval"):
        here.bars("700", ARCHIVED, "5 minutes")
    with pytest.warns(IncompleteData):
        both = here.bars("700,5", f"{ARCHIVED}..{HOLED}", "1h")
    assert both["symbol"].to_pylist() == sorted(both["symbol"].to_pylist())
    assert both["trading_day"].unique().to_pylist() == [ARCHIVED, HOLED]
    filled = here.bars("700", ARCHIVED, "1m", fill=True, tz="hk")["start_ms"].to_pylist()
    assert filled[-1].strftime("%H:%M") == "15:59"
    assert len(filled) == 150 + 180


def test_columns_of_every_name(here: Recordings) -> None:
    assert here.load("700", ARCHIVED).column_names == list(COLUMNS)
    assert here.load("700", ARCHIVED, columns="seq, symbol").column_names == ["seq", "symbol"]


# Who may not read


@pytest.mark.skipif(bool(UNDER) and shutil.which("setpriv") is None, reason="root needs setpriv for it")
@pytest.mark.parametrize("closed", ["", f"{DAY}.db"], ids=["directory", "day file"])
def test_what_this_user_may_not_read_is_told_with_what_to_do(tmp_path: Path, closed: str) -> None:
    root = tmp_path / "HK"
    record_day(root, DAY, count=5)
    code = (
        "import sys, hk_tick_collector as hk\n"
        "try: hk.local(sys.argv[1]).load('700', start='20261120', end='20261121')\n"
        "except hk.Unreadable as error: print(error.hint, error)"
    )
    (root / closed).chmod(0)
    try:
        done = subprocess.run(
            [*UNDER, sys.executable, "-c", code, str(root)], capture_output=True, text=True, timeout=60, check=False
        )
    finally:
        (root / closed).chmod(0o700)
    assert done.stdout.startswith(f"{CLOSED_ADVICE} {root / closed} cannot be read (Permission denied)"), done

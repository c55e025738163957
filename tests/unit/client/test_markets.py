"""The Python API on a market whose trading day begins on the evening before, and whose clocks are changed."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from hk_tick_collector.client.api import Recordings
from hk_tick_collector.days.catalog import Catalog
from hk_tick_collector.market.cme import CME
from hk_tick_collector.query.bars import INPUT_COLUMNS, make_bars
from hk_tick_collector.records.tick import Origin, Tick
from tests.ticks import make_tick
from tests.unit.client.days import recordings, store

HOUR_MS = 3_600_000
MONDAY, TUESDAY = "20261123", "20261124"

pytestmark = pytest.mark.filterwarnings("ignore::hk_tick_collector.client.errors.IncompleteData")


def ticks(day: str) -> list[Tick]:
    """One an hour, from the evening before."""
    start_ms, end_ms = CME.day_bounds(day)
    first_ms = max(start_ms, end_ms - 24 * HOUR_MS)
    return [
        make_tick(n, "CME.ESZ26", ts_ms=ms, trading_day=day, recv_ts_ms=ms + 1, seq=n)
        for n, ms in enumerate(range(first_ms + HOUR_MS, end_ms, HOUR_MS), 1)
    ]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cme") / "CME"
    for day in (MONDAY, TUESDAY):
        store(root, ticks(day), origin=Origin("CME", "sierra"))
    return root


@pytest.fixture(scope="module")
def here(root: Path) -> Recordings:
    return recordings(root)


def moments(table: pa.Table) -> list[int]:
    times_ms: list[int] = table["ts_ms"].cast(pa.int64()).to_pylist()
    return times_ms


def test_a_date_stands_for_the_beginning_of_its_trading_day(here: Recordings) -> None:
    whole = [tick.ts_ms for tick in ticks(TUESDAY)]
    assert moments(here.load("CME.ESZ26", TUESDAY)) == whole
    assert moments(here.load("CME.ESZ26", start="2026-11-24", end="2026-11-25")) == whole
    assert moments(here.load("CME.ESZ26", start="2026-11-24T00:00-06:00", end="20261125")) == [
        ms for ms in whole if CME.zone.date(ms) == TUESDAY
    ]
    evening = here.load("CME.ESZ26", start="2026-11-24", end="2026-11-24T00:00", tz="America/Chicago")
    assert {moment.strftime("%d") for moment in evening["ts_ms"].to_pylist()} == {"23"}


@pytest.mark.parametrize("interval", ["1h", "24h"])
def test_bars_over_days_are_those_of_all_ticks_together(here: Recordings, root: Path, interval: str) -> None:
    """A bar of a calendar day holds ticks of two trading days."""
    catalog = Catalog(root, root / "_archive")
    parts = [catalog.day(day).ticks(["CME.ESZ26"], INPUT_COLUMNS) for day in (MONDAY, TUESDAY)]
    expected = make_bars(pa.concat_tables(parts).unify_dictionaries(), int(interval[:-1]) * HOUR_MS, CME)
    assert here.bars("CME.ESZ26", f"{MONDAY}..{TUESDAY}", interval).equals(expected)


def test_a_symbol_of_another_market_is_refused_with_what_is_recorded(here: Recordings) -> None:
    with pytest.raises(ValueError, match="recorded here: CME"):
        here.load("700")

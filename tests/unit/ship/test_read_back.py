"""Days read from ClickHouse are the days in the files: rows, order, types, bars and coverage."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import hk_tick_collector as hk
from hk_tick_collector.clickhouse.connection import ClickHouse
from hk_tick_collector.clickhouse.copy import Copy
from hk_tick_collector.clickhouse.recorded import CopiedDays
from hk_tick_collector.core.facts import HeadProven, Verified
from hk_tick_collector.records.tick import tick_with
from hk_tick_collector.ship.state import State
from hk_tick_collector.store.writer import DayFileWriter
from tests.ticks import BASE_MS
from tests.unit.ship.test_ship import catalog, keeper_of, live_of
from tests.unit.store_ticks import DAY, tick, ticks

BEFORE = "20261119"
AFTER_MS = BASE_MS + 8 * 3_600_000
TICKCTL = Path(sys.executable).with_name("hk-tickctl")


def tickctl(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([TICKCTL, *words], cwd="/", capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.filterwarnings("ignore::hk_tick_collector.client.errors.IncompleteData")
def test_the_same_calls_give_the_same_tables(
    root: Path, writer: DayFileWriter, engine: ClickHouse, tmp_path: Path
) -> None:
    told = tick_with("bid_price", "venue")
    writer.write([*ticks(50), *ticks(30, symbol="HK.00005"), told(*tick(70), 382.2, "XHKG")])
    writer.write([tick(60, seq=None, price=None, turnover=None, tick_type=None), tick(61, seq=None)])
    writer.write([tick(n, day=BEFORE) for n in range(1000, 1010)])
    writer.close()
    state = State(tmp_path / "ship")
    live_of(root, engine, state).step()
    assert keeper_of(root, engine, state).look() == len(catalog(root).days())
    state.close()
    url = f"{engine.address.url.replace('http', 'clickhouse')}/{engine.database}"
    with hk.local(root) as here, hk.connect(url) as there:
        for words, options in (
            (("700", DAY), {}),
            (("all", f"{BEFORE}..{DAY}"), {}),
            ((["5", "700"], DAY), {"columns": ["price", "seq"], "types": "price"}),
            (("700", None), {"start": 1_795_138_200_010, "end": 1_795_138_200_030}),
        ):
            mine, copied = here.load(*words, **options), there.load(*words, **options)
            assert mine.num_rows
            assert copied.schema == mine.schema
            assert copied.unify_dictionaries().to_pylist() == mine.unify_dictionaries().to_pylist()
        assert there.bars("700", DAY).to_pylist() == here.bars("700", DAY).to_pylist()
        assert list(there.coverage(DAY)) == list(here.coverage(DAY))
        assert [(day.trading_day, day.stored_ticks) for day in there.days()] == [
            (day.trading_day, day.stored_ticks) for day in here.days()
        ]
        with pytest.raises(hk.UnknownSymbol):
            there.load("9988", DAY)
        with pytest.raises(hk.NoData):
            there.load("700", "20261102")
    sql = [
        "query",
        "SELECT symbol, hour(ts_ms), sum(volume), count(*) FROM ticks GROUP BY 1, 2 ORDER BY 1, 2",
        "--json",
    ]
    mine, copied = tickctl(*sql, "--data-root", str(root)), tickctl(*sql, "--from", url)
    assert (copied.returncode, copied.stdout) == (0, mine.stdout), copied.stderr
    assert tickctl(*sql, "--from", url, "--recorder", "C").returncode == 3
    for table in ("books", "brokers", "snapshots", "all_snapshots"):
        assert tickctl("query", f"SELECT count(*) FROM {table}", "--json", "--from", url).returncode == 0
    assert tickctl(*sql, "--from", "clickhouse://hk:secret-word@127.0.0.1/hk").returncode == 2
    with pytest.raises(hk.NoData, match="no ticks of C"):
        hk.connect(url, recorder="C").load("700", DAY)


@pytest.mark.filterwarnings("ignore::hk_tick_collector.client.errors.IncompleteData")
@pytest.mark.parametrize("is_verified", [True, False])
def test_what_is_noted_of_other_ticks_than_are_there_proves_nothing(
    root: Path, writer: DayFileWriter, engine: ClickHouse, tmp_path: Path, is_verified: bool
) -> None:
    """Notes come apart from ticks; and somebody may take ticks away."""
    for symbol in ("HK.00005", "HK.00700"):
        writer.write(ticks(40, symbol=symbol), [HeadProven(symbol, DAY, 1), Verified(symbol, DAY, 40, AFTER_MS)])
    writer.close()
    state = State(tmp_path / "ship")
    live_of(root, engine, state).step()
    keeper = keeper_of(root, engine, state)
    assert keeper.look() == 1
    state.close()
    url = f"{engine.address.url.replace('http', 'clickhouse')}/{engine.database}"
    if not is_verified:
        engine.run(f"TRUNCATE TABLE {engine.database}.days")
    with hk.connect(url) as there:
        assert [row.state for row in there.coverage(DAY)] == ["proven", "proven"]
        gone = f"DELETE WHERE symbol = 'HK.00005' AND seq = {ticks(1, first=7)[0].seq}"
        engine.run(f"ALTER TABLE {engine.database}.ticks {gone} SETTINGS mutations_sync = 1")
        assert there.load("700", DAY, require="proven").num_rows == 40
        assert there.load("5", DAY).num_rows == 39
        with pytest.raises(hk.NotProven, match="ClickHouse has 39 ticks of it, and what is noted there is of 40"):
            there.load("5", DAY, require="proven")
        (certified,) = [row for row in there.certificate(DAY)["symbols"] if row["symbol"] == "HK.00005"]
        assert certified["state"] == "unproven"


@pytest.mark.filterwarnings("ignore::hk_tick_collector.client.errors.IncompleteData")
def test_what_two_recorders_shipped_is_joined(root: Path, engine: ClickHouse, tmp_path: Path) -> None:
    for name, first, count in (("A", 1, 40), ("B", 21, 40)):
        own, state = root / name / "HK", State(tmp_path / name)
        own.mkdir(parents=True)
        writer = DayFileWriter(own)
        writer.write(ticks(count, first=first))
        writer.close()
        live_of(own, engine, state, name).step()
        assert keeper_of(own, engine, state, name).look() == 1
        state.close()
    url = f"{engine.address.url.replace('http', 'clickhouse')}/{engine.database}"
    with hk.connect(url) as both, hk.connect(url, recorder="B") as narrow:
        assert both.load("700", DAY).num_rows == 60
        assert narrow.load("700", DAY).num_rows == 40


def test_of_a_symbol_that_is_noted_twice_the_newest_note_is_read(
    root: Path, writer: DayFileWriter, engine: ClickHouse, state: State
) -> None:
    """As a killed server has it until hk-tick-ship sees that: two would double each tick that is joined with them."""
    writer.write(ticks(3))
    writer.close()
    keeper_of(root, engine, state).look()
    for name, noted_ms in (("new", 2), ("old", 1)):
        engine.run(
            f"INSERT INTO {engine.database}.symbols (symbol, name, noted_at_ms, trading_day, recorder) "
            f"VALUES ('HK.00700', '{name}', {noted_ms}, '{DAY}', 'A')"
        )
    day = CopiedDays(Copy(engine, "A"), "HK").day(DAY)
    assert [(row.symbol, row.name) for row in day.symbol_rows()] == [("HK.00700", "new")]

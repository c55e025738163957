"""What comes at the shipper from outside: a server that is away for a day, a clock that was wrong, rows that are others
than those that were named."""

from __future__ import annotations

from pathlib import Path

import pytest

from hk_tick_collector.clickhouse import tables
from hk_tick_collector.clickhouse.connection import ClickHouse, EngineAway
from hk_tick_collector.ship.copies import Copies
from hk_tick_collector.ship.keeper import Keeper
from hk_tick_collector.ship.state import State
from hk_tick_collector.store.layout import day_file
from hk_tick_collector.store.position import Place
from hk_tick_collector.store.writer import DayFileWriter
from tests.clickhouse import ClickHouseServer, clickhouse_server
from tests.clock import ManualClock
from tests.unit.ship.test_ship import AFTER, BEFORE, catalog, equal, keeper_of, live_of, raw_rows
from tests.unit.store_ticks import DAY, ticks


def test_a_server_that_was_away_for_a_day_gets_all_of_it(root: Path, writer: DayFileWriter, tmp_path: Path) -> None:
    """The day it went away, the day that began and ended meanwhile, the one it comes back on; and the shipper was
    started anew on the way."""
    with clickhouse_server(tmp_path / "engine") as server, server.engine("hk") as engine:
        tables.init(engine, tables.Shape(), 1)
        state = State(tmp_path / "ship")
        writer.write(ticks(20, day=BEFORE))
        assert live_of(root, engine, state, max_rows=10).step() == 10
        server.kill()
        for day in (BEFORE, DAY):
            writer.write(ticks(30, first=21, day=day))
            with pytest.raises(EngineAway):
                live_of(root, engine, state, max_rows=10).step()
            with pytest.raises(EngineAway):
                keeper_of(root, engine, state).look()
            state.close()
            state = State(tmp_path / "ship")
        server.start()
        writer.write(ticks(5, day=AFTER))
        live = live_of(root, engine, state, max_rows=10)
        while live.step():
            pass
        assert keeper_of(root, engine, state).look() == 3
        assert raw_rows(engine) == 20 + 30 + 30 + 5
        assert all(equal(root, engine, day) for day in (BEFORE, DAY, AFTER))
        state.close()


def test_rows_that_are_others_than_those_named_are_not_taken_for_sent(
    root: Path, engine: ClickHouse, state: State, server: ClickHouseServer
) -> None:
    """The answer is lost, and the file replaced by one with other rows under the same numbers: sent under the same
    token, ClickHouse would drop them in silence."""
    writer = DayFileWriter(root)
    writer.write(ticks(10))
    server.fault("after")
    with pytest.raises(EngineAway):
        live_of(root, engine, state).step()
    writer.close()
    for path in root.glob(f"{day_file(root, DAY).name}*"):
        path.unlink()
    writer = DayFileWriter(root)
    writer.write([tick._replace(price=(tick.price or 0) + 1) for tick in ticks(10)])
    writer.close()
    live = live_of(root, engine, state)
    while live.step():
        pass
    assert raw_rows(engine) == 20, "the others came, too"
    keeper_of(root, engine, state).look()
    assert equal(root, engine)
    assert raw_rows(engine) == 10


def test_a_clock_that_was_years_ahead_hides_nothing_that_comes_after(
    root: Path, writer: DayFileWriter, engine: ClickHouse, state: State
) -> None:
    """Shipments go on to be numbered upwards, and what was verified last is what is said of a day."""
    clock = ManualClock(4_000_000_000_000)
    writer.write(ticks(10))
    live = live_of(root, engine, state, clock=clock)
    assert live.step() == 10
    keeper = Keeper(catalog(root), Copies(engine, "A"), state, clock=clock, settled_sec=0, open_settled_sec=0)
    assert keeper.look() == 1
    clock = ManualClock(1_795_138_200_000)
    writer.write(ticks(3, first=11))
    assert live_of(root, engine, state, clock=clock).step() == 3
    keeper = Keeper(catalog(root), Copies(engine, "A"), state, clock=clock, settled_sec=0, open_settled_sec=0)
    assert keeper.look() == 1
    ((rows, content_hash),) = engine.rows(f"SELECT rows, content_hash FROM {engine.database}.days FINAL")
    assert (rows, content_hash) == (13, state.verified_days()[0].content_hash)
    batches = engine.rows(f"SELECT DISTINCT batch FROM {engine.database}.ticks ORDER BY batch")
    assert len(batches) == 2
    first = state.intend(Place(DAY), 1, 1, 5)
    assert state.intend(Place(DAY), 1, 1, 4).batch > first.batch > batches[-1][0]

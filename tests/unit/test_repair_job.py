"""What ``hk-tickctl repair`` stores while it cannot read the day file; all else of it is tested with a simulator."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from hk_tick_collector.core.evidence import NO_COUNTER
from hk_tick_collector.market.hk import HK
from hk_tick_collector.market.us import US
from hk_tick_collector.store import reader
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.writer import DayFileWriter
from hk_tick_collector.watch.repair import Repair, RepairPlan, State
from hk_tick_collector.watch.repair_job import RepairJob
from tests.unit.sources.desk import DAY, SYMBOL, run
from tests.unit.sources.test_identities import us_tick


@pytest.mark.parametrize("blind", [False, True], ids=["the file is read", "the file is locked"])
def test_what_a_repair_stores_goes_on_from_what_it_has_read_and_from_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blind: bool
) -> None:
    def locked(path: Path) -> sqlite3.Connection:
        raise sqlite3.OperationalError("database is locked")

    writer = DayFileWriter(tmp_path, SqliteOptions())
    writer.write(run(1, 8))
    plan = RepairPlan(DAY, HK, tmp_path / f"{DAY}.db", [Repair(SYMBOL, "asked for", State("proven", None, 8))])
    with monkeypatch.context() as patched:
        patched.setattr("hk_tick_collector.watch.repair_job._witnesses", lambda db, symbols: {})
        if blind:
            patched.setattr(reader, "open_read_only", locked)
        job = RepairJob(plan, tmp_path, SqliteOptions(), lambda symbols: None)
    job._ticks += run(9, 12, 500)
    job._store(writer)
    writer.close()
    with closing(sqlite3.connect(plan.db)) as conn:
        found = conn.execute("SELECT stored_ticks, interrupted_seq FROM coverage").fetchall()
    assert found == [(12, run(8, 8)[0].seq if blind else None)]


def test_what_a_repair_of_another_market_stores_is_that_markets(tmp_path: Path) -> None:
    """Nothing it stores is taken for a count, and its rows say where they are from."""
    plan = RepairPlan(DAY, US, tmp_path / f"{DAY}.db", [Repair("US.AAPL", "no tick is stored", State())])
    job = RepairJob(plan, tmp_path, SqliteOptions(), lambda symbols: None)
    writer = job._writer()
    job._ticks += [us_tick(second) for second in range(5)]
    job._store(writer)
    writer.close()
    plan.look_again()
    assert (plan.repairs[0].new_ticks, plan.repairs[0].after.state) == (5, "unproven")
    assert (plan.repairs[0].after.reason, plan.repairs[0].after.missing_ticks) == (NO_COUNTER, 0)
    with closing(sqlite3.connect(plan.db)) as conn:
        assert conn.execute("SELECT DISTINCT market, provider FROM ticks").fetchall() == [("US", "futu")]

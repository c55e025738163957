"""What ``hk-tickctl repair`` stores while it cannot read the day file; all else of it is tested with a simulator."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, NamedTuple, cast

import pytest

from hk_tick_collector.core.errors import FeedError, FeedTimeout
from hk_tick_collector.core.evidence import NO_COUNTER
from hk_tick_collector.core.facts import DATED_OTHERWISE, HeadProven, Verified
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hk import HK
from hk_tick_collector.market.hk.sessions import day_start_ms
from hk_tick_collector.market.us import US
from hk_tick_collector.sources.futu.link import FutuLink
from hk_tick_collector.sources.futu.mapping import TickMapper
from hk_tick_collector.sources.futu.markets import at_futu
from hk_tick_collector.sources.pulled import Answer
from hk_tick_collector.store import reader
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.writer import DayFileWriter
from hk_tick_collector.watch import repair_job
from hk_tick_collector.watch.repair import Repair, RepairPlan, State
from hk_tick_collector.watch.repair import plan as plan_repair
from hk_tick_collector.watch.repair_job import RepairJob
from tests.stored import iter_ticks
from tests.unit.sources.bench import AheadClock, Bench, play
from tests.unit.sources.desk import DAY, SYMBOL, YESTERDAY, run, tick
from tests.unit.sources.test_identities import us_tick

if TYPE_CHECKING:
    from hk_tick_collector.watch.when import Recorded

HOUR_MS = 3_600_000
Trouble = Callable[[str, str], "float | None"]


class Asked(NamedTuple):
    """What came of a repair."""

    repairs: list[Repair]
    took_sec: float
    error: FeedError | None


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
            patched.setattr("hk_tick_collector.store.tracks.open_read_only", locked)
        job = RepairJob(plan, tmp_path, SqliteOptions(), lambda symbols: None)
    job._ticks += run(9, 12, 500)
    job._store(writer)
    writer.close()
    with closing(sqlite3.connect(plan.db)) as conn:
        row = conn.execute("SELECT stored_ticks, interrupted_seq FROM coverage").fetchall()
    assert row == [(12, run(8, 8)[0].seq if blind else None)]


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


@pytest.mark.parametrize("beside", [True, False], ids=["a recorder records on", "nobody records"])
def test_an_answer_that_no_longer_reaches_back_interrupts_nothing_that_is_being_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beside: bool
) -> None:
    """A repair of many symbols takes minutes. What a busy one traded since is the running recorder's to tell of: it
    knows of no interruption, and so would never end one."""
    recorder = DayFileWriter(tmp_path, SqliteOptions())
    day = run(1, 1300)
    recorder.write(day[:50], [HeadProven(SYMBOL, DAY, 1), Verified(SYMBOL, DAY, 50, day[49].recv_ts_ms)])
    plan = RepairPlan(DAY, HK, tmp_path / f"{DAY}.db", [Repair(SYMBOL, "asked for", State("proven", None, 50))])

    async def life() -> None:
        bench = Bench(day[0].recv_ts_ms)
        bench.opend.ticks[SYMBOL] = day
        monkeypatch.setattr(repair_job, "SystemClock", lambda: AheadClock(bench.clock, HOUR_MS))
        job = RepairJob(plan, tmp_path, SqliteOptions(), lambda symbols: None)
        if beside:
            recorder.write(day[50:1290], [])
        mapper = TickMapper(job.days, at_futu("HK"))
        await job.run(FutuLink(bench.connection, mapper, AheadClock(bench.clock, HOUR_MS), push=False))  # type: ignore[arg-type]

    play(life())
    recorder.close()
    plan.look_again()
    with closing(sqlite3.connect(plan.db)) as conn:
        (row,) = conn.execute("SELECT state, stored_ticks, interrupted_seq, verified_until_ms FROM coverage")
    assert row[:3] == (("proven", 1300, None) if beside else ("missing", 1050, day[49].seq))
    assert row[3] < day[0].recv_ts_ms + HOUR_MS, "as OpenD's clock had it when it was asked, not as ours"


def test_strays_that_only_a_repair_is_shown_are_stored_in_their_dates_files(tmp_path: Path) -> None:
    """By the recorder's rule: in the file of their date, which says that a tick of another day's count is in it."""
    plan = RepairPlan(DAY, HK, tmp_path / f"{DAY}.db", [Repair(SYMBOL, "no tick is stored", State())])
    job = RepairJob(plan, tmp_path, SqliteOptions(), lambda symbols: None)
    stray = tick(3)._replace(trading_day=YESTERDAY, ts_ms=tick(3, day=YESTERDAY).ts_ms)
    question = job._continuity.ask(SYMBOL, 1000, stray.recv_ts_ms)
    shown = [*run(1, 2), stray, *run(4, 6, 1)]
    job._ticks += job._continuity.take(Answer(question, shown, (), stray.recv_ts_ms)).ticks
    writer = job._writer()
    job._store(writer)
    writer.close()
    assert plan.repairs[0].new_ticks == 5
    assert [row.seq for row in iter_ticks(tmp_path / f"{YESTERDAY}.db", SYMBOL)] == [stray.seq]
    [there] = reader.coverage(tmp_path / f"{YESTERDAY}.db")
    assert (there.state, there.distrust) == ("unproven", DATED_OTHERWISE)


def test_an_older_copy_of_a_day_file_says_until_when_it_was_confirmed_and_is_asked_after(tmp_path: Path) -> None:
    """Nobody writes to the day any more, so nobody notices the exchange; but the copy cannot claim what came later."""
    db, kept = tmp_path / f"{DAY}.db", tmp_path / "kept"
    calendar = TradingCalendar(HK)
    noon_ms, evening_ms = (day_start_ms(DAY) + hours * HOUR_MS for hours in (12, 17))
    writer = DayFileWriter(tmp_path, SqliteOptions())
    writer.write(run(1, 8), [HeadProven(SYMBOL, DAY, 1), Verified(SYMBOL, DAY, 8, noon_ms)])
    writer.close()
    shutil.copy(db, kept)
    writer = DayFileWriter(tmp_path, SqliteOptions())
    writer.write(run(9, 12, 500), [Verified(SYMBOL, DAY, 12, evening_ms)])
    writer.close()
    recorded = SimpleNamespace(data_root=tmp_path, now_ms=evening_ms)
    assert plan_repair(cast("Recorded", recorded), calendar, DAY, [SYMBOL]).repairs == []
    shutil.copy(kept, db)
    [repair] = plan_repair(cast("Recorded", recorded), calendar, DAY, [SYMBOL]).repairs
    assert repair.why == "confirmed only until 12:00:00"


def asked_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, symbols: Sequence[str], trouble: Trouble) -> Asked:
    """The symbols' days are repaired by an OpenD in ``trouble``; each has 20 ticks of the day."""
    plan = RepairPlan(
        DAY, HK, tmp_path / f"{DAY}.db", [Repair(symbol, "no tick is stored", State()) for symbol in symbols]
    )
    took_sec = []
    error: list[FeedError] = []

    async def life() -> None:
        bench = Bench(run(1, 1)[0].recv_ts_ms + HOUR_MS)
        bench.opend.ticks = {symbol: run(1, 20, symbol=symbol) for symbol in symbols}
        bench.opend.trouble = trouble
        monkeypatch.setattr(repair_job, "SystemClock", lambda: bench.clock)
        job = RepairJob(plan, tmp_path, SqliteOptions(), lambda symbols: None)
        began_sec = bench.clock.monotonic()
        try:
            await job.run(FutuLink(bench.connection, TickMapper(job.days, at_futu("HK")), bench.clock, push=False))  # type: ignore[arg-type]
        except FeedError as exc:
            error.append(exc)
        took_sec.append(bench.clock.monotonic() - began_sec)

    play(life())
    plan.look_again()
    return Asked(plan.repairs, took_sec[0], next(iter(error), None))


SYMBOLS = [f"HK.{n:05d}" for n in range(1, 231)]


@pytest.mark.parametrize(
    "silent", [(3,), (0, 99), (5, 130), (110, 111, 112, 229), range(0, 230, 23)], ids=lambda silent: f"{len(silent)}"
)
def test_a_symbol_whose_subscription_is_never_answered_costs_no_other_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent: Sequence[int]
) -> None:
    bad = {SYMBOLS[n] for n in silent}
    asked = asked_with(
        tmp_path, monkeypatch, SYMBOLS,
        lambda word, code: 3600.0 if word == "subscribe" and not bad.isdisjoint(code.split()) else None,
    )  # fmt: skip
    assert {repair.symbol for repair in asked.repairs if not repair.new_ticks} == bad
    assert {repair.error for repair in asked.repairs if repair.symbol in bad} == {"no answer in 12 s"}
    assert {repair.error for repair in asked.repairs if repair.symbol not in bad} == {None}
    assert asked.error is None


def test_symbols_that_are_subscribed_and_never_shown_cost_no_other_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as are asked for at the same time."""
    bad = set(SYMBOLS[8:16])
    asked = asked_with(
        tmp_path, monkeypatch, SYMBOLS[:40], lambda word, code: 3600.0 if word == "ticks" and code in bad else None
    )
    assert {repair.symbol for repair in asked.repairs if not repair.new_ticks} == bad


@pytest.mark.parametrize("word", ["subscribe", "ticks"])
def test_an_opend_that_answers_nothing_of_a_kind_is_not_asked_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    asked = asked_with(tmp_path, monkeypatch, SYMBOLS, lambda request, code: 3600.0 if request == word else None)
    assert all(repair.error for repair in asked.repairs)
    assert asked.took_sec <= 8 * 2 * 12 + 10


def test_an_opend_that_answers_nothing_any_more_ends_a_repair_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[str] = []

    def trouble(word: str, code: str) -> float | None:
        requests.append(word)
        return 3600.0 if "subscribe" in requests else None

    asked = asked_with(tmp_path, monkeypatch, SYMBOLS, trouble)
    assert isinstance(asked.error, FeedTimeout)
    assert asked.took_sec < 60

"""Whole days when something fails: what is told, what goes on meanwhile, and what is never noted."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from hk_tick_collector.cli.ship import _compared
from hk_tick_collector.clickhouse import tables
from hk_tick_collector.clickhouse.address import Address
from hk_tick_collector.clickhouse.connection import ClickHouse, EngineAway, EngineLost, EngineRefused
from hk_tick_collector.clickhouse.shipping import complaints, read_status
from hk_tick_collector.clickhouse.tables import stage_of
from hk_tick_collector.core.complaint import Code
from hk_tick_collector.core.errors import StoreBusy, StoreCorrupt, StoreError
from hk_tick_collector.days.catalog import Day
from hk_tick_collector.ship import shipper
from hk_tick_collector.ship.copies import Copies, NotesThere, Symbols
from hk_tick_collector.ship.counts import ShipCounts
from hk_tick_collector.ship.holds import Holds
from hk_tick_collector.ship.keeper import MAX_ASIDE_SEC, Keeper, NotYet
from hk_tick_collector.ship.live import Live
from hk_tick_collector.ship.settings import ShipSettings
from hk_tick_collector.ship.state import State, StateLost
from hk_tick_collector.ship.status import StatusFile
from hk_tick_collector.store.writer import DayFileWriter
from tests.clickhouse import ClickHouseServer
from tests.clock import ManualClock
from tests.unit.ship.test_ship import catalog, equal, live_of, raw_rows, settings_of, until
from tests.unit.store_ticks import DAY, ticks

OLDER, BEFORE = "20261118", "20261119"
DAYS = [OLDER, BEFORE, DAY]


class Stubborn(Copies):
    """Copies of which some days fail. ``errors``: with what, by day."""

    errors: dict[str, Exception]

    def there(self, day: str, table: str = "ticks") -> Symbols:
        if day in self.errors:
            raise self.errors[day]
        return super().there(day, table)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_795_138_200_000)


@pytest.fixture
def copies(engine: ClickHouse) -> Stubborn:
    copies = Stubborn(engine, "A")
    object.__setattr__(copies, "errors", {})
    return copies


@pytest.fixture
def keeper(root: Path, writer: DayFileWriter, copies: Stubborn, state: State, clock: ManualClock) -> Keeper:
    """Of three days, none of which was sent."""
    for n, day in enumerate(DAYS):
        writer.write(ticks(5, first=1 + 100 * n, day=day))
    writer.close()
    return Keeper(catalog(root), copies, state, clock=clock, settled_sec=0, open_settled_sec=0)


def verified(state: State) -> list[str]:
    return [verified_day.day for verified_day in state.verified_days()]


def fails(keeper: Keeper) -> None:
    with pytest.raises((EngineAway, EngineRefused)):
        keeper.look()


def healed_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line for line in caplog.messages if line.startswith("ship_healed")]


def waits_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line for line in caplog.messages if line.startswith("ship_waits")]


def test_a_day_that_always_fails_there_keeps_no_other_from_its_turn(
    keeper: Keeper, copies: Stubborn, state: State, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    copies.errors[DAY] = EngineAway("http://there/hk: memory limit exceeded")
    fails(keeper)
    assert keeper.look() == 2
    assert verified(state) == [OLDER, BEFORE]
    keeper._tell_engine()
    assert keeper.counts.keeper.reason == f"{DAY}: http://there/hk: memory limit exceeded"  # the others hide it not
    assert not keeper.counts.keeper.is_refused
    waits_sec = []
    for _ in range(8):
        waited_sec = 0
        while keeper._aside.is_due(DAY) is False:
            clock.advance(1)
            waited_sec += 1
        waits_sec.append(waited_sec)
        fails(keeper)
    assert waits_sec == sorted(waits_sec)
    assert waits_sec[0] <= 12
    assert waits_sec[-1] == MAX_ASIDE_SEC
    assert keeper.counts.keeper.is_refused  # time alone does not help
    keeper._tell_engine()
    assert keeper.counts.keeper.is_refused
    assert keeper.counts.unequal == ""
    (line,) = waits_in(caplog)
    assert f'what=days reason="{DAY}: http://there/hk: memory limit exceeded"' in line
    assert "done=" in line
    assert "do=" in line
    copies.errors.clear()
    clock.advance(MAX_ASIDE_SEC)
    assert keeper.look() == 1
    keeper._tell_engine()
    assert (keeper.counts.keeper.reason, keeper.counts.keeper.is_refused) == ("", False)


def test_while_nobody_is_there_no_day_is_to_blame(keeper: Keeper, copies: Stubborn, state: State) -> None:
    copies.errors[DAY] = EngineLost("http://there/hk does not answer", was_reached=False)
    fails(keeper)
    fails(keeper)
    assert verified(state) == []
    copies.errors.clear()
    assert keeper.look() == 3  # none of them waits


@pytest.mark.parametrize(("port", "was_reached"), [("none", False), ("silent", True)])
def test_it_is_told_whether_anybody_was_there(port: str, was_reached: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.getsockname()[1]
        if port == "none":
            listener.close()
        with (
            ClickHouse(Address(f"http://127.0.0.1:{number}"), timeout_sec=0.2) as engine,
            pytest.raises(EngineLost) as raised,
        ):
            engine.run("SELECT 1")
    assert raised.value.was_reached is was_reached


def test_what_is_refused_of_days_is_said_and_complained_about(
    root: Path, engine: ClickHouse, keeper: Keeper, copies: Stubborn, state: State, caplog: pytest.LogCaptureFixture
) -> None:
    for day in DAYS:
        copies.errors[day] = EngineRefused("the user lacks a right: give it ALTER", 497)
    fails(keeper)
    assert len(waits_in(caplog)) == 1
    status = StatusFile(settings_of(root, engine, state), state, catalog(root), keeper.counts).now()
    assert status.is_refused
    assert status.is_waiting
    assert status.waits_for == ""
    sentences = {complaint.code: complaint.sentence for complaint in complaints(status, status.written_ms)}
    assert sentences[Code.COPY_BEHIND] == (
        f"ClickHouse lets no copy be proven: {DAY}: the user lacks a right: give it ALTER"
    )


def test_each_day_that_cannot_be_made_equal_is_told_until_it_is(
    keeper: Keeper, copies: Stubborn, state: State, clock: ManualClock
) -> None:
    copies.errors.update({DAY: StoreCorrupt("broken"), BEFORE: StoreCorrupt("broken too")})
    assert keeper.look() == 1
    assert keeper.counts.unequal == f"{DAY}: broken (and 1 day more)"
    del copies.errors[BEFORE]
    clock.advance(60)
    assert keeper.look() == 1
    assert keeper.counts.unequal == f"{DAY}: broken"
    copies.errors.clear()
    clock.advance(60)
    assert keeper.look() == 1
    assert keeper.counts.unequal == ""


def test_a_day_whose_files_are_gone_is_told_no_more(root: Path, keeper: Keeper, copies: Stubborn) -> None:
    copies.errors[BEFORE] = StoreCorrupt("broken")
    assert keeper.look() == 2
    assert keeper.counts.unequal == f"{BEFORE}: broken"
    (root / f"{BEFORE}.db").unlink()
    keeper.look()
    assert keeper.counts.unequal == ""


def test_notes_of_a_day_whose_files_are_gone_are_not_said_to_be_mended(
    root: Path, keeper: Keeper, copies: Stubborn, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor each minute: whoever removes old days there as well has nothing wrong."""
    assert keeper.look() == 3
    (root / f"{BEFORE}.db").unlink()
    for table in ("symbols", "coverage"):
        copies.engine.run(f"ALTER TABLE {copies.engine.database}.{table} DROP PARTITION ('{BEFORE}', 'A')")
    for _ in range(3):
        clock.advance(61)
        keeper.look()
    assert healed_in(caplog) == []


def test_notes_that_cannot_be_sent_again_are_not_said_to_be_mended(
    keeper: Keeper, copies: Stubborn, clock: ManualClock, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Those of the other days are; and of all once they can be."""
    assert keeper.look() == 3
    for day in (OLDER, BEFORE):
        copies.engine.run(f"ALTER TABLE {copies.engine.database}.coverage DROP PARTITION ('{day}', 'A')")
    send = Copies.send_notes
    tried = []

    def fail(self: Copies, day: Day, known: str | None) -> NotesThere:
        if day.trading_day == OLDER:
            tried.append(day.trading_day)
            raise EngineRefused("too many parts", 252)
        return send(self, day, known)

    with monkeypatch.context() as patch:
        patch.setattr(Copies, "send_notes", fail)
        clock.advance(61)
        fails(keeper)
        keeper.look()
        assert tried == [OLDER], "it has its turn later"
        assert [line for line in healed_in(caplog) if OLDER in line] == []
        assert len([line for line in healed_in(caplog) if BEFORE in line]) == 1
    clock.advance(MAX_ASIDE_SEC)
    keeper.look()
    assert len([line for line in healed_in(caplog) if OLDER in line]) == 1


def test_a_file_that_is_busy_for_a_moment_calls_nobody(keeper: Keeper, copies: Stubborn, clock: ManualClock) -> None:
    copies.errors[DAY] = StoreBusy("archived just now")
    assert keeper.look() == 2
    assert keeper.counts.unequal == ""
    for _ in range(3):
        clock.advance(MAX_ASIDE_SEC)
        keeper.look()
    assert keeper.counts.unequal == f"{DAY}: archived just now"


@pytest.mark.parametrize("error", [StoreCorrupt("no notes"), OSError("no notes")])
def test_notes_that_fail_say_nothing_of_the_copy(
    error: StoreError | OSError, keeper: Keeper, state: State, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def fail(*_: object) -> str:
        raise error

    monkeypatch.setattr(Copies, "send_notes", fail)
    assert keeper.look() == 0
    assert keeper.counts.unequal == ""
    assert verified(state) == []  # a day without its notes is not whole
    assert any(line.startswith("ship_day_failed") and "no notes" in line for line in caplog.messages)


def test_a_list_of_days_that_fails_does_not_end_the_keeper(
    keeper: Keeper, state: State, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("hk_tick_collector.ship.keeper.LOOK_SEC", 0.01)
    listed, asked = keeper._days.days, iter([OSError("stale handle")])

    def days() -> list[str]:
        for error in asked:
            raise error
        return listed()

    monkeypatch.setattr(keeper._days, "days", days)
    stop = threading.Event()
    thread = threading.Thread(target=keeper.run, args=(stop,))
    thread.start()
    try:
        until(lambda: verified(state) == DAYS)
    finally:
        stop.set()
        thread.join()
    assert any(line.startswith("ship_files") and "stale handle" in line for line in caplog.messages)


def test_rows_that_are_sent_while_a_day_is_compared_are_not_sent_again(
    root: Path, writer: DayFileWriter, engine: ClickHouse, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.write(ticks(5))
    live, copies = live_of(root, engine, state), Copies(engine, "A")
    live.step()
    looked = Copies.there

    def there(self: Copies, day: str, table: str = "ticks") -> Symbols:
        looked_up = looked(self, day, table)
        if len(looked_up):
            monkeypatch.setattr(Copies, "there", looked)
            writer.write(ticks(2, first=6))
            assert live.step() == 2
        return looked_up

    monkeypatch.setattr(Copies, "there", there)
    keeper = Keeper(catalog(root), copies, state)
    with pytest.raises(NotYet, match="sent meanwhile"):
        keeper.check(DAY)
    assert verified(state) == []
    assert state.places()[DAY].rowid == 7
    assert live.step() == 0
    assert keeper.check(DAY) == ""
    assert [verified_day.rows for verified_day in state.verified_days()] == [7]


def test_a_shipment_of_a_day_that_was_replaced_meanwhile_is_not_resumed(
    root: Path, writer: DayFileWriter, engine: ClickHouse, state: State, server: ClickHouseServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    holds = Holds()
    live = Live(catalog(root), engine, state, "A", holds=holds)
    keeper = Keeper(catalog(root), Copies(engine, "A"), state, holds=holds)
    writer.write(ticks(5))
    server.fault("before")
    with pytest.raises(EngineAway):
        live.step()
    writer.write(ticks(5, first=6))
    read: Callable[..., object] = live._rows_behind

    def rows_behind(*asked: object) -> object:
        monkeypatch.setattr(live, "_rows_behind", read)
        rows_read = read(*asked)
        assert keeper.check(DAY, is_alone=True)  # brings the day, all ten rows of it
        return rows_read

    monkeypatch.setattr(live, "_rows_behind", rows_behind)
    assert live.step() == 0
    assert raw_rows(engine) == 10
    assert state.places()[DAY].rowid == 10
    assert equal(root, engine)


def test_verify_does_not_wait_for_each_day_when_nobody_answers(keeper: Keeper, copies: Stubborn) -> None:
    copies.errors[BEFORE] = EngineLost("http://there/hk does not answer", was_reached=True)
    copies.errors[DAY] = AssertionError("asked all the same")
    keeper.check(OLDER)
    assert _compared(keeper._days, copies, DAYS) == [
        (OLDER, "equal", ""),
        (BEFORE, "FAILED", "http://there/hk does not answer"),
        (DAY, "FAILED", "not looked at: http://there/hk does not answer"),
    ]


def test_only_who_was_asked_to_stop_is_stopped(
    root: Path, engine: ClickHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shipper that dies falls silent, which is complained about; one that was stopped is not."""
    own = tmp_path / "own"
    settings = ShipSettings(
        ship_url=f"{engine.address.url}/{engine.database}", ship_recorder="A", ship_dir=own, data_root=root
    )
    monkeypatch.setattr(shipper, "STATUS_SEC", 0.05)

    def fail(self: Live) -> int:
        raise StateLost("its disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(Live, "step", fail)
        with pytest.raises(StateLost):
            shipper.run(settings, threading.Event(), ShipCounts())
    status = read_status(own)
    assert status is None or not status.is_stopped
    stop = threading.Event()
    engine.run(f"DROP TABLE {engine.database}.days")  # it waits for somebody, and is stopped so
    thread = threading.Thread(target=shipper.run, args=(settings, stop, ShipCounts()))
    thread.start()
    try:
        until(lambda: (status := read_status(own)) is not None and status.is_refused)
    finally:
        stop.set()
        thread.join()
    status = read_status(own)
    assert status is not None
    assert status.is_stopped
    assert list(complaints(status, status.written_ms + 60_000)) == []


def staged_in(engine: ClickHouse) -> list[tuple[str, str]]:
    """Whose rows are in stages, with the table."""
    names = [stage_of(table) for table in tables.staged()]
    return [
        (str(recorder), name)
        for name in names
        for (recorder,) in engine.rows(f"SELECT DISTINCT recorder FROM {engine.database}.{name} ORDER BY 1")
    ]


def leave(engine: ClickHouse, recorder: str, days: list[str]) -> None:
    """What a process leaves that is killed before it drops its stages."""
    for day in days:
        for table in tables.staged():
            into = f"{engine.database}.{stage_of(table)} (trading_day, recorder)"
            engine.run(f"INSERT INTO {into} VALUES ('{day}', '{recorder}')")


def test_what_a_dead_process_left_in_stages_goes_and_nobody_elses(
    keeper: Keeper, engine: ClickHouse, clock: ManualClock
) -> None:
    leave(engine, "A", [DAY, "20260105"])  # the latter is of no file that is here
    leave(engine, "AB", [DAY])
    keeper.look()
    others = [("AB", stage_of(table)) for table in tables.staged()]
    assert staged_in(engine) == others
    leave(engine, "A", [BEFORE])  # as an answer to its DROP that got lost: that day is equal, and not brought again
    keeper.look()
    assert len(staged_in(engine)) > len(others)  # each look would be a question too many
    clock.advance(61)
    keeper.look()
    assert staged_in(engine) == others

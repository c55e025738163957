"""The shipper, and ClickHouse's engine, killed between every pair of steps: no row lost, doubled or left in a stage,
every day proven.

A step is a request to ClickHouse or a change of the shipper's own file; a kill comes before it, or after it and before
anybody hears of it. The shipper is a forked process with the real parts, killed by SIGKILL on itself; its next life is
another one over the same files. With SHIP_STEPS=all every step has its turn; a check goes by those that differ in what
they leave behind.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from hk_tick_collector.clickhouse import tables
from hk_tick_collector.clickhouse.connection import ClickHouse, EngineAway
from hk_tick_collector.clickhouse.copy import Copy
from hk_tick_collector.clickhouse.recorded import CopiedDays
from hk_tick_collector.clickhouse.tables import BOOKS, BROKERS, SNAPSHOTS, StateTables
from hk_tick_collector.ship.live_states import LiveStates
from hk_tick_collector.ship.state import Sent, State
from hk_tick_collector.ship.states import is_at_rest, notes_of, states_to_ship
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.writer import DayFileWriter
from tests.books import record_books
from tests.brokers import record_brokers
from tests.clickhouse import ClickHouseServer, clickhouse_server
from tests.snapshots import DAY as SNAPSHOT_DAY
from tests.snapshots import NDX, SPX, filled, record, snapshot
from tests.unit.ship.test_books import is_equal
from tests.unit.ship.test_ship import catalog, equal, keeper_of, live_of, raw_rows
from tests.unit.store_ticks import DAY, ticks

BEFORE = "20261119"
STATES = (BOOKS, BROKERS)
ROWS = {BEFORE: 20, DAY: 60}
US_BEFORE = "20261125"
ALL = os.environ.get("SHIP_STEPS") == "all"
RENEWED_LIVES = 20
# A check kills one shipper after the other, each where the one before it had not come to. What each leaves: an intent;
# rows and no answer; an answer and no cursor; the same of books and queues; a stage; a day swapped in; a day that is
# noted there alone; books swapped in; queues proven and not noted here.
CHAIN = (
    ("state: intend", "after"), ("INSERT INTO ticks", "after"), ("state: arrived", "before"),
    ("state: intend books", "after"), ("INSERT INTO books", "after"), ("state: arrived books", "before"),
    ("state: intend brokers", "before"), ("INSERT INTO brokers", "after"), ("state: arrived brokers", "after"),
    ("INSERT INTO ticks_stage", "after"), ("REPLACE ticks", "after"), ("INSERT INTO days", "after"),
    ("REPLACE books", "after"), ("state: verified brokers", "before"),
)  # fmt: skip
ENGINE_CHAIN = (
    ("INSERT INTO ticks", "after"), ("INSERT INTO books", "after"), ("INSERT INTO brokers", "before"),
    ("REPLACE ticks", "before"), ("REPLACE coverage", "after"), ("REPLACE books", "after"),
    ("REPLACE broker_notes", "after"),
)  # fmt: skip
SNAPSHOT_CHAIN = (
    ("DROP snapshots", "after"), ("state: intend snapshots", "before"), ("state: intend snapshots", "after"),
    ("INSERT INTO snapshots", "before"), ("INSERT INTO snapshots", "after"), ("state: arrived snapshots", "before"),
    ("state: arrived snapshots", "after"), ("INSERT INTO snapshots_stage", "after"), ("REPLACE snapshots", "after"),
    ("INSERT INTO snapshot_days", "after"), ("state: verified snapshots", "before"),
)  # fmt: skip
SNAPSHOT_ENGINE_CHAIN = (
    ("INSERT INTO snapshots", "before"), ("INSERT INTO snapshots", "after"), ("REPLACE snapshots", "before"),
    ("REPLACE snapshot_notes", "after"), ("INSERT INTO snapshot_days", "before"),
)  # fmt: skip
Step = tuple[int | str, str]  # its number, or the first one of its kind; before or after it


class Recorded(NamedTuple):
    """A data root with two days. Of the newer one what stands beside ticks is sent as it is stored."""

    root: Path
    tick_rows: Mapping[str, int]  # by day, none where there are no ticks
    days: tuple[str, ...]  # oldest first
    states: tuple[StateTables, ...]


class Steps:
    """Counts the steps of this process and their kinds; ``act`` at one of them, before or after it."""

    def __init__(self, at: Step = (-1, ""), act: Callable[[], None] = lambda: None) -> None:
        self.at, self._act = at, act
        self.kinds: list[str] = []

    def around(self, kind: str, work: Callable[[], Any]) -> Any:
        is_meant = self.at[0] in (len(self.kinds), kind)
        self.kinds.append(kind)
        if is_meant and self.at[1] == "before":
            self._act()
        done = work()
        if is_meant and self.at[1] == "after":
            self._act()
        return done


def kind_of(request: httpx.Request) -> str:
    text = request.url.params.get("query") or request.content.decode()
    match = re.match(r"(INSERT INTO) \w+\.(\w+)|ALTER TABLE \w+\.(\w+) (REPLACE|DROP)", text)
    if match is None:
        return text.split(maxsplit=1)[0]
    return f"{match[1]} {match[2]}" if match[1] else f"{match[4]} {match[3]}"


def watch(steps: Steps, patch: pytest.MonkeyPatch) -> None:
    """From now on every step of this process is counted."""
    send = httpx.HTTPTransport.handle_request

    def counted(transport: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        def ask() -> httpx.Response:
            answer = send(transport, request)
            answer.read()
            return answer

        return steps.around(kind_of(request), ask)  # type: ignore[no-any-return]

    patch.setattr(httpx.HTTPTransport, "handle_request", counted)
    for owner, names in ((State, ("intend", "arrived", "drop_intent", "verified", "noted")), (Sent, _OF_STATES)):
        for name in names:
            patch.setattr(owner, name, _counted(steps, owner, name))


_OF_STATES = ("intend", "arrived", "verified")


def _counted(steps: Steps, owner: type, name: str) -> Callable[..., Any]:
    work = getattr(owner, name)

    def changed(state: State | Sent, *given: Any) -> Any:
        of = f" {state.kind}" if isinstance(state, Sent) else ""
        return steps.around(f"state: {name}{of}", lambda: work(state, *given))

    return changed


def notes_that_differ(engine: ClickHouse, recorded: Recorded, recorder: str) -> list[str]:
    """Tables of notes that do not have, row by row, what the files have."""
    wrong = []
    for day in recorded.days:
        if day in recorded.tick_rows:
            sql = (
                f"SELECT symbol, stored_ticks FROM hk.coverage WHERE recorder = '{recorder}' AND trading_day = '{day}'"
            )
            here = [[row.symbol, row.stored_ticks] for row in catalog(recorded.root).day(day).coverage()]
            wrong += [f"coverage of {day}"] if sorted(engine.rows(sql)) != here else []
        for of in recorded.states:
            sql = f"SELECT name, row_json FROM hk.{of.notes} WHERE recorder = '{recorder}' AND trading_day = '{day}'"
            here = [[*note] for note in notes_of(of.kind.file_of(recorded.root, day), of)]
            wrong += [f"{of.notes} of {day}"] if sorted(engine.rows(sql)) != sorted(here) else []
    return wrong


def staged_rows(engine: ClickHouse, recorder: str) -> dict[str, int]:
    """How many rows of a recorder are in stages, by their tables; those that are empty are left out."""
    names = [of.name for of in tables.tables() if of.name.endswith("_stage")]
    counts = {
        name: engine.rows(f"SELECT count() FROM {engine.database}.{name} WHERE recorder = '{recorder}'")[0][0]
        for name in names
    }
    return {name: rows for name, rows in counts.items() if rows}


@contextlib.contextmanager
def held_open(recorded: Recorded) -> Iterator[None]:
    """The newest day's files beside ticks, as a recorder holds them: they are sent as they are stored. Those of the day
    before are sent as a whole."""
    day = recorded.days[-1]
    with contextlib.ExitStack() as held:
        for kind in (of.kind for of in recorded.states):
            path = kind.file_of(recorded.root, day)
            conn = held.enter_context(contextlib.closing(kind.file.open_for_writing(path, SqliteOptions())))
            conn.execute(f"SELECT count(*) FROM {kind.file.table}").fetchone()
            assert not is_at_rest(kind, recorded.root, day)
        yield


class Life:
    """One recorder's shipping, from its own directory on."""

    def __init__(self, server: ClickHouseServer, recorded: Recorded, directory: Path, recorder: str) -> None:
        self.server, self.recorded, self.directory, self.recorder = server, recorded, directory, recorder

    def run(self) -> None:
        """All that there is to do: rows as they are stored, then whole days."""
        root = self.recorded.root
        state = State(self.directory)
        try:
            with self.server.engine("hk") as engine:
                with held_open(self.recorded):
                    beside = [
                        LiveStates(catalog(root), states.copies, state, max_rows=40)
                        for states in states_to_ship(catalog(root), engine, self.recorder)
                    ]
                    live = live_of(root, engine, state, self.recorder, max_rows=25, beside=beside)
                    while live.step():
                        pass
                keeper_of(root, engine, state, self.recorder).look()
        finally:
            state.close()

    def run_as_a_process(self, steps: Steps) -> int:
        """The same in a forked process; how it ended, 0 or the number of the signal."""
        pid = os.fork()
        if not pid:
            end = 1
            try:
                with pytest.MonkeyPatch.context() as patch:
                    watch(steps, patch)
                    self.run()
                end = 0
            except EngineAway:
                end = 2  # the engine was killed: a process would go on with its back-off
            finally:
                os._exit(end)
        _, status = os.waitpid(pid, 0)
        return abs(os.waitstatus_to_exitcode(status))

    def lacking(self) -> list[str]:
        """Is each row there once, and each day proven, by the hash, there and here? What is not."""
        root, tick_rows, days, states = self.recorded
        wrong = []
        with self.server.engine("hk") as engine:
            wrong += [day for day in tick_rows if not equal(root, engine, day, self.recorder)]
            wrong += [
                f"{of.word} of {day}"
                for of in states
                for day in days
                if not is_equal(of, of.kind.file_of(root, day), engine, self.recorder, day)
            ]
            if raw_rows(engine, self.recorder) != sum(tick_rows.values()):
                wrong.append("rows that came twice")
            wrong += notes_that_differ(engine, self.recorded, self.recorder)
            for table in (*(["days"] if tick_rows else []), *(of.days for of in states)):
                sql = f"SELECT trading_day FROM hk.{table} FINAL WHERE recorder = '{self.recorder}' ORDER BY 1"
                noted = [day for (day,) in engine.rows(sql)]
                wrong += [f"{table}: {noted}"] if noted != sorted(days) else []
            wrong += [f"left in {table}" for table in staged_rows(engine, self.recorder)]
        return wrong


@pytest.fixture(scope="module")
def hong_kong(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Ticks, order books and broker queues."""
    root = tmp_path_factory.mktemp("steps") / "HK"
    root.mkdir()
    writer = DayFileWriter(root)
    writer.write([*ticks(ROWS[BEFORE], day=BEFORE), *ticks(ROWS[DAY], first=101)])
    writer.close()
    for day in ROWS:
        record_books(root, day, pushes=50)
        record_brokers(root, day, pushes=50)
    return Recorded(root, ROWS, (BEFORE, DAY), STATES)


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Snapshots alone, as a recorder of gexbot has them."""
    root = tmp_path_factory.mktemp("steps") / "US"
    days_back_sec = -2 * 86_400
    for shift_sec in (days_back_sec, 0):
        live = [snapshot(SPX, shift_sec + second) for second in range(60)]
        record(root, [*live, *filled(NDX, range(shift_sec, shift_sec + 20))])
    return Recorded(root, {}, (US_BEFORE, SNAPSHOT_DAY), (SNAPSHOTS,))


@pytest.fixture
def recorded(request: pytest.FixtureRequest) -> Recorded:
    """One of those two, by its name."""
    recorded: Recorded = request.getfixturevalue(request.param)
    return recorded


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseServer]:
    with clickhouse_server(tmp_path_factory.mktemp("steps") / "engine") as server:
        with server.engine("hk") as engine:
            tables.init(engine, tables.Shape(), 1)
        yield server


def make_anew(server: ClickHouseServer) -> None:
    """Its database: each life leaves days of its own there, and each question takes longer for them."""
    with server.engine("hk") as engine:
        engine.run("DROP DATABASE hk")
        tables.init(engine, tables.Shape(), 1)


def spoil(life: Life) -> None:
    """A row of the day before that no file has: its copy will be replaced as a whole."""
    if not life.recorded.tick_rows:
        return
    with life.server.engine("hk") as engine:
        engine.run(
            "INSERT INTO hk.ticks (market, symbol, ts_ms, trading_day, recv_ts_ms, inserted_at_ms, occurrence, "
            f"recorder, batch) VALUES ('HK', 'HK.00001', 0, '{BEFORE}', 0, 0, 0, '{life.recorder}', 1)"
        )


def killed_at(step: Step, life: Life) -> None:
    steps = Steps(step, lambda: os.kill(os.getpid(), signal.SIGKILL))
    assert life.run_as_a_process(steps) == signal.SIGKILL, f"{step} was not reached"


def engine_killed_at(step: Step, life: Life) -> None:
    server = life.server
    assert server.process is not None
    victim = server.process.pid
    assert life.run_as_a_process(Steps(step, lambda: os.kill(victim, signal.SIGKILL))) in (0, 2)
    assert server.process.wait(60) == -signal.SIGKILL, f"{step} was not reached"
    server.start()


Kill = Callable[[Step, Life], None]


@pytest.mark.timeout(600)  # twenty lives, and four hashes of books worked out in SQL
@pytest.mark.parametrize(
    ("kill", "chain", "recorded"),
    [
        (killed_at, CHAIN, "hong_kong"),
        (engine_killed_at, ENGINE_CHAIN, "hong_kong"),
        (killed_at, SNAPSHOT_CHAIN, "snapshots"),
        (engine_killed_at, SNAPSHOT_ENGINE_CHAIN, "snapshots"),
    ],
    indirect=["recorded"],
)
def test_killed_again_and_again_it_loses_and_doubles_nothing(
    kill: Callable[[Step, Life], None],
    chain: tuple[Step, ...],
    own_server: ClickHouseServer,
    recorded: Recorded,
    tmp_path: Path,
) -> None:
    life = Life(own_server, recorded, tmp_path / "ship", f"{kill.__name__}-{recorded.root.name}")
    spoil(life)
    for step in chain:
        kill(step, life)
    life.run()
    assert life.lacking() == []


def test_notes_that_come_back_with_a_killed_engine_are_mended(tmp_path: Path) -> None:
    """They are replaced in one step, and so for some minutes both are on the server's disk."""
    root = tmp_path / "HK"
    root.mkdir()
    writer = DayFileWriter(root)
    with clickhouse_server(tmp_path / "engine") as server, server.engine("hk") as engine:
        tables.init(engine, tables.Shape(), 1)
        recorded = Recorded(root, {DAY: 0}, (DAY,), STATES)
        life = Life(server, recorded, tmp_path / "ship", "A")
        for number in (1, 2):
            writer.write(ticks(10, first=10 * number))
            for record in (record_books, record_brokers):
                record(root, DAY, pushes=10 * number, symbols=("HK.00700", "HK.00005")[:number])
            life.run()
        assert notes_that_differ(engine, recorded, "A") == []
        server.kill()
        server.start()
        doubled = [f"{table} of {DAY}" for table in ("coverage", "book_notes", "broker_notes")]
        assert notes_that_differ(engine, recorded, "A") == doubled  # else nothing is shown here
        copied = CopiedDays(Copy(engine, "A"), "HK").day(DAY)
        assert copied.coverage() == catalog(root).day(DAY).coverage()
        with copied.books().opened() as path:
            here = notes_of(BOOKS.kind.file_of(root, DAY), BOOKS)
            assert sorted(notes_of(path, BOOKS)) == sorted(here)
        for _ in range(2):
            life.run()
        assert notes_that_differ(engine, recorded, "A") == []
    writer.close()


@pytest.mark.skipif(not ALL, reason="every night: SHIP_STEPS=all")
@pytest.mark.parametrize("kill", [killed_at, engine_killed_at])
@pytest.mark.parametrize("recorded", ["hong_kong", "snapshots"], indirect=True)
def test_killed_at_any_step_it_loses_and_doubles_nothing(
    kill: Kill, own_server: ClickHouseServer, recorded: Recorded, tmp_path: Path
) -> None:
    name = f"{kill.__name__}-{recorded.root.name}"
    undisturbed = Life(own_server, recorded, tmp_path / "undisturbed", f"{name}-undisturbed")
    spoil(undisturbed)
    steps = Steps()
    with pytest.MonkeyPatch.context() as patch:
        watch(steps, patch)
        undisturbed.run()
    assert undisturbed.lacking() == []
    lives, wrong = 0, {}
    for number, kind in enumerate(steps.kinds):
        if kill is engine_killed_at and kind.startswith("state"):
            continue
        for moment in ("before", "after"):
            life = Life(own_server, recorded, tmp_path / f"{number}-{moment}", f"{name}-{number}-{moment}")
            spoil(life)
            kill((number, moment), life)
            life.run()
            lives += 1
            if lacking := life.lacking():
                wrong[f"{moment} step {number}, {kind}"] = lacking
            print(f"{name} {moment} step {number}, {kind}: {lacking or 'fine'}", flush=True)  # also of a run cut short
            if lives % RENEWED_LIVES == 0:
                make_anew(own_server)
    print(f"{name}: {lives} kills, {len(steps.kinds)} steps")
    assert wrong == {}

"""The shipper against ClickHouse's own engine: what is there equals what the day files hold, whatever happens."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from hk_tick_collector.cli.ship import _compared
from hk_tick_collector.clickhouse import tables
from hk_tick_collector.clickhouse.address import Address, parse_address
from hk_tick_collector.clickhouse.connection import ClickHouse, EngineAway, EngineRefused
from hk_tick_collector.clickhouse.content import contents_in
from hk_tick_collector.clickhouse.password import password_of
from hk_tick_collector.core.backoff import Backoff
from hk_tick_collector.core.errors import ConfigError, NoData, StoreBusy
from hk_tick_collector.days.catalog import Catalog
from hk_tick_collector.days.content import content_of
from hk_tick_collector.records.tick import tick_with
from hk_tick_collector.ship import claim as claims
from hk_tick_collector.ship import shipper
from hk_tick_collector.ship.copies import Copies, place_of
from hk_tick_collector.ship.counts import ShipCounts
from hk_tick_collector.ship.keeper import Keeper
from hk_tick_collector.ship.live import Live
from hk_tick_collector.ship.settings import CREDENTIAL, PASSWORD_FILE, ShipSettings
from hk_tick_collector.ship.state import FILE, State, StateLost, verified_days
from hk_tick_collector.ship.status import StatusFile
from hk_tick_collector.store import data_root
from hk_tick_collector.store.layout import archive_dir
from hk_tick_collector.store.writer import DayFileWriter
from tests.archived_day import archive_day
from tests.clickhouse import ROOT, ClickHouseServer
from tests.unit.store_ticks import DAY, tick, ticks

BEFORE, AFTER = "20261119", "20261121"


def catalog(root: Path) -> Catalog:
    return Catalog(root, archive_dir(root))


def live_of(root: Path, engine: ClickHouse, state: State, recorder: str = "A", **options: Any) -> Live:
    return Live(catalog(root), engine, state, recorder, backoff=Backoff(0.001, 0.001), **options)


def keeper_of(root: Path, engine: ClickHouse, state: State, recorder: str = "A") -> Keeper:
    return Keeper(catalog(root), Copies(engine, recorder), state, settled_sec=0, open_settled_sec=0)


def raw_rows(engine: ClickHouse, recorder: str = "A") -> int:
    """Rows as they lie there, doubled ones and all."""
    ((rows,),) = engine.rows(f"SELECT count() FROM {engine.database}.ticks WHERE recorder = '{recorder}'")
    return int(rows)


def equal(root: Path, engine: ClickHouse, day: str = DAY, recorder: str = "A") -> bool:
    """Has the copy, to its hash, what the day has?"""
    here = content_of(catalog(root).day(day).batches()).symbols
    there = contents_in(engine, "ticks", day, recorder)
    return {name: (content.rows, content.content_hash) for name, content in here.items()} == {
        name: (content.rows, content.content_hash) for name, content in there.items()
    }


def test_rows_arrive_as_they_are_stored(root: Path, writer: DayFileWriter, engine: ClickHouse, state: State) -> None:
    live = live_of(root, engine, state)
    writer.write([*ticks(50), *ticks(30, symbol="HK.00005")])
    assert live.step() == 80
    writer.write([tick(60, seq=None, price=None, turnover=None, tick_type=None), tick(61, symbol="HK.O'K\\")])
    writer.write(ticks(5, day=AFTER))
    assert live.step() == 7
    assert live.step() == 0
    assert raw_rows(engine) == 87
    assert equal(root, engine)
    assert equal(root, engine, AFTER)


def test_a_lost_answer_and_a_lost_request_store_nothing_twice(
    root: Path, writer: DayFileWriter, engine: ClickHouse, state: State, server: ClickHouseServer
) -> None:
    live = live_of(root, engine, state, max_rows=10)
    writer.write(ticks(10))
    server.fault("after")
    with pytest.raises(EngineAway):
        live.step()
    assert state.intent() is not None
    writer.write(ticks(10, first=11))  # must not join what is on its way
    server.fault("before")
    with pytest.raises(EngineAway):
        live.step()
    assert live_of(root, engine, state, max_rows=1000).step() == 20  # as after a restart
    assert raw_rows(engine) == 20
    assert equal(root, engine)


@pytest.mark.parametrize("kind", ["full", "readonly"])
def test_what_refuses_is_asked_again(
    kind: str, root: Path, writer: DayFileWriter, engine: ClickHouse, state: State, server: ClickHouseServer
) -> None:
    writer.write(ticks(3))
    live = live_of(root, engine, state)
    server.fault(kind)
    with pytest.raises(EngineAway, match="disk is full" if kind == "full" else "read-only"):
        live.step()
    assert live.step() == 3
    assert raw_rows(engine) == 3


def test_a_set_aside_file_is_sent_again_and_the_copy_is_healed(
    root: Path, writer: DayFileWriter, engine: ClickHouse, state: State
) -> None:
    live = live_of(root, engine, state)
    writer.write(ticks(20))
    live.step()
    writer.close()
    (root / f"{DAY}.db").rename(root / f"{DAY}.db.corrupt-20261120T040000.000Z")
    with_others = DayFileWriter(root)
    with_others.write(ticks(15, first=6))  # what could be had again
    with_others.close()
    assert live.step() == 0  # says that the file is another one
    assert live.step() == 15
    assert not equal(root, engine)  # what only the old file had is still there
    keeper = keeper_of(root, engine, state)
    assert keeper.look() == 1
    assert equal(root, engine)
    assert keeper.counts.days_healed == 1
    assert [day_verified.rows for day_verified in state.verified_days()] == [15]


def test_a_filled_in_sequence_is_found_and_healed(
    root: Path, writer: DayFileWriter, engine: ClickHouse, state: State
) -> None:
    """The store may give a stored row its sequence later; the copy then has the row as it was."""
    live = live_of(root, engine, state)
    writer.write([tick(1, seq=None), tick(2)])
    live.step()
    writer.write([tick(1)])
    live.step()
    keeper = keeper_of(root, engine, state)
    assert not equal(root, engine)
    assert "HK.00700" in keeper.check(DAY)
    assert equal(root, engine)
    assert keeper.check(DAY) == ""


def test_past_days_are_brought_whole_and_archived_ones_too(
    root: Path, writer: DayFileWriter, engine: ClickHouse, state: State
) -> None:
    days = ["20261116", "20261117", "20261118", "20261119"]
    told = tick_with("bid_price", "venue")
    for n, day in enumerate(days):
        writer.write([told(*tick(n * 100 + k, day=day), 380.0 + k, "XHKG" if k % 2 else None) for k in range(20)])
    writer.write(ticks(4))
    writer.close()
    archive_day(root, archive_dir(root), "20261116")
    live, keeper = live_of(root, engine, state), keeper_of(root, engine, state)
    live.step()  # the newest two
    assert keeper.look() == 5
    for day in [*days, DAY]:
        assert equal(root, engine, day), day
    assert raw_rows(engine) == 84
    assert keeper.counts.days_brought == 3
    assert keeper.look() == 0  # nothing changed
    assert [day_verified.day for day_verified in verified_days(state.directory)] == [*days, DAY]
    ((told,),) = engine.rows(f"SELECT count() FROM {engine.database}.days FINAL")
    assert told == 5


def test_lost_state_costs_a_comparison_and_no_row(
    root: Path, writer: DayFileWriter, engine: ClickHouse, state: State, tmp_path: Path
) -> None:
    writer.write(ticks(20))
    writer.close()
    state.begin("sink", "A")
    live_of(root, engine, state).step()
    keeper_of(root, engine, state).look()
    fresh = State(tmp_path / "other")
    assert not fresh.begin("sink", "A")
    keeper = keeper_of(root, engine, fresh)
    assert keeper.look() == 1
    assert keeper.counts.days_brought == 0
    assert live_of(root, engine, fresh).step() == 0
    assert raw_rows(engine) == 20
    fresh.close()


def test_two_recorders_of_one_symbol_stay_two_proofs(
    root: Path, writer: DayFileWriter, engine: ClickHouse, state: State, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    twin, twins_state = DayFileWriter(other), State(tmp_path / "ship2")
    writer.write(ticks(30))
    twin.write(ticks(30, first=11))
    live_of(root, engine, state).step()
    live_of(other, engine, twins_state, "B").step()
    assert equal(root, engine)
    assert equal(other, engine, recorder="B")
    ((once,),) = engine.rows(f"SELECT count() FROM {engine.database}.ticks_one")
    assert once == 40
    assert keeper_of(root, engine, state).check(DAY) == ""
    twin.close()
    twins_state.close()


def test_one_changed_value_is_found_and_healed(
    root: Path, writer: DayFileWriter, engine: ClickHouse, state: State
) -> None:
    writer.write([*ticks(20), *ticks(5, symbol="HK.00005")])
    live_of(root, engine, state).step()
    table = f"{engine.database}.ticks"
    engine.run(
        f"ALTER TABLE {table} UPDATE direction = 'SELL' WHERE symbol = 'HK.00005' AND seq % 5 = 0", mutations_sync=2
    )
    keeper = keeper_of(root, engine, state)
    assert "1 of 2 symbols differ (ticks: HK.00005 5 here, 5 there)" in keeper.check(DAY, heal=False)
    assert state.verified_days() == []
    assert keeper.check(DAY)
    assert equal(root, engine)
    assert raw_rows(engine) == 25


def test_notes_are_those_of_the_day(root: Path, writer: DayFileWriter, engine: ClickHouse, state: State) -> None:
    writer.write([*ticks(20), *ticks(5, symbol="HK.00005")])
    keeper = keeper_of(root, engine, state)
    copies = Copies(engine, "A")
    digest, _ = copies.send_notes(catalog(root).day(DAY), None)
    writer.write(ticks(3, first=30))
    assert copies.send_notes(catalog(root).day(DAY), digest).digest != digest
    rows = engine.rows(f"SELECT symbol, stored_ticks, state FROM {engine.database}.coverage ORDER BY symbol")
    assert rows == [[row.symbol, row.stored_ticks, row.state] for row in catalog(root).day(DAY).coverage()]
    assert keeper.counts.unequal == ""


def test_a_database_of_somebody_else_is_left_alone(server: ClickHouseServer) -> None:
    with server.engine("other") as engine:
        engine.run("CREATE DATABASE other")
        engine.run("CREATE TABLE other.ticks (symbol UInt8) ENGINE = MergeTree ORDER BY symbol")
        with pytest.raises(EngineRefused, match="another kind: symbol is UInt8"):
            tables.init(engine, tables.Shape(), 1)
        engine.run("DROP DATABASE other")
        with pytest.raises(EngineRefused, match="has no table ticks: make it with hk-tickctl ship init"):
            tables.check(engine)


def test_a_database_of_an_earlier_version_is_brought_up_to_date(engine: ClickHouse) -> None:
    engine.run(f"DROP VIEW {engine.database}.ticks_one")
    for table in ("ticks", "ticks_stage"):
        engine.run(f"ALTER TABLE {engine.database}.{table} DROP COLUMN venue")
    with pytest.raises(EngineRefused, match="ticks lacks venue"):
        tables.check(engine)
    done = tables.init(engine, tables.Shape(), 2)
    assert sum("venue" in line for line in done) == 2
    tables.check(engine)
    assert list(tables.columns_there(engine)["ticks"]) == list(tables.ticks_columns())


def test_an_older_table_is_packed_as_a_new_one_and_takes_days_on(
    root: Path, writer: DayFileWriter, engine: ClickHouse, state: State
) -> None:
    table = f"{engine.database}.ticks"
    for column in (
        "direction LowCardinality(Nullable(String)) CODEC(LZ4)",
        "volume Nullable(Int64) CODEC(ZSTD(1))",
        "price Nullable(Float64) CODEC(ZSTD(1))",  # one of the key's
    ):
        engine.run(f"ALTER TABLE {table} MODIFY COLUMN {column}")
    for gone in ("books", "books_stage", "book_notes", "book_notes_stage", "book_days"):
        engine.run(f"DROP TABLE {engine.database}.{gone}")
    writer.write(ticks(20))
    live_of(root, engine, state).step()
    with pytest.raises(EngineRefused, match="no table books: make it with hk-tickctl ship init"):
        tables.check(engine)
    done = tables.init(engine, tables.Shape(), 2)
    assert f"{table}: 3 columns are packed better from now on" in done
    assert f"made {engine.database}.books" in done
    assert tables.init(engine, tables.Shape(), 3) == []
    writer.write(ticks(5, first=21))
    engine.run(f"ALTER TABLE {table} DROP PARTITION ('{DAY}', 'A')")
    assert live_of(root, engine, state).step() == 5
    assert keeper_of(root, engine, state).check(DAY)  # the whole day, from its stage
    assert equal(root, engine)


@pytest.mark.parametrize("secret", ["s3cret\n", " s3cret", "s3cret\x00", "s3cr\u00e9t"])
def test_a_password_that_no_header_carries_is_refused_without_it(secret: str) -> None:
    for user, password in (("hk", secret), (secret, "")):
        with pytest.raises(ConfigError, match="no header can carry") as raised:
            ClickHouse(Address("http://127.0.0.1:9", user=user), password)
        assert "s3cr" not in str(raised.value)


def test_what_the_library_says_of_a_header_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise httpx.LocalProtocolError("Illegal header value b's3cret'")

    with ClickHouse(Address("http://127.0.0.1:9")) as engine:
        monkeypatch.setattr(engine._http, "stream", refuse)
        with pytest.raises(EngineAway) as raised:
            engine.run("SELECT 1")
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:8123/hk?user=hk&password=s3cret",
        "http://hk:12#s3cret@127.0.0.1/hk",
        "http://hk:12/s3cret@127.0.0.1",
        "http://hk/s3cret@127.0.0.1/hk",
        "ftp://s3cret@127.0.0.1/hk",
    ],
)
def test_an_address_that_may_hold_a_password_is_not_repeated(address: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_address(address)
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize("error", [NoData("gone"), OSError("no permission")])
def test_a_day_whose_files_go_away_ends_nothing(
    error: Exception,
    root: Path,
    writer: DayFileWriter,
    engine: ClickHouse,
    state: State,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    writer.write([*ticks(5, day=BEFORE), *ticks(5)])
    writer.close()
    keeper, days = keeper_of(root, engine, state), catalog(root)

    def day(name: str) -> object:
        if name == DAY:
            raise error
        return days.day(name)

    monkeypatch.setattr(keeper._days, "day", day)
    assert keeper.look() == 1
    assert [day_verified.day for day_verified in state.verified_days()] == [BEFORE]
    checks = _compared(keeper._days, Copies(engine, "A"), [DAY, BEFORE])
    assert checks == [(DAY, "FAILED", str(error)), (BEFORE, "equal", "")]


def test_a_file_that_went_away_is_busy(root: Path, writer: DayFileWriter) -> None:
    writer.write(ticks(5))
    writer.close()
    day = catalog(root).day(DAY)
    assert day.db is not None
    day.db.unlink()
    with pytest.raises(StoreBusy, match="went away"):
        place_of(day)


def settings_of(root: Path, engine: ClickHouse, state: State) -> ShipSettings:
    url = f"{engine.address.url}/{engine.database}"
    return ShipSettings(ship_url=url, ship_recorder="A", ship_dir=state.directory, data_root=root)


def test_a_verified_day_that_grew_is_behind(
    root: Path, writer: DayFileWriter, engine: ClickHouse, state: State
) -> None:
    status = StatusFile(settings_of(root, engine, state), state, catalog(root), ShipCounts())
    writer.write(ticks(20))
    live_of(root, engine, state).step()
    assert keeper_of(root, engine, state).look() == 1
    assert status.now().rows_behind == 0
    writer.write(ticks(7, first=21))
    assert status.now().rows_behind == 7
    assert status.now().oldest_waiting_ms > 0


def test_tables_that_were_made_anew_are_filled_anew(
    root: Path, writer: DayFileWriter, engine: ClickHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "LOOK_SEC", 0.0)
    monkeypatch.setattr(shipper, "STATUS_SEC", 0.05)
    settings = ShipSettings(
        ship_url=f"{engine.address.url}/{engine.database}", ship_recorder="A", ship_dir=tmp_path / "own", data_root=root
    )
    writer.write(ticks(20))
    stop = threading.Event()
    thread = threading.Thread(target=shipper.run, args=(settings, stop, ShipCounts()))
    thread.start()
    try:
        until(lambda: raw_rows(engine) == 20)
        engine.run(f"DROP DATABASE {engine.database}")
        tables.init(engine, tables.Shape(), 1)
        until(lambda: raw_rows(engine) == 20)
    finally:
        stop.set()
        thread.join()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_containers_of_one_host_name_are_told_apart_by_their_disks(
    engine: ClickHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On two machines: the same path, the same machine's number in the image. One that shipped before goes on."""
    root = tmp_path / "HK"
    root.mkdir()
    inside = tmp_path / ".dockerenv"
    monkeypatch.setattr(claims, "_MADE_BY_CONTAINERS", (inside,))
    outside, before = claims.owner_of(root), claims.owner_of(root).formerly
    inside.touch()
    assert claims.owner_of(root).name == before  # nobody has claimed the directory yet
    data_root.claim(root, "HK")
    first = claims.owner_of(root)
    assert first == claims.owner_of(root)
    assert first.name != first.formerly == before
    root.rename(tmp_path / "first")
    root.mkdir()
    data_root.claim(root, "HK")
    second = claims.owner_of(root)
    assert second.name != first.name
    claims.claim(engine, "C", claims.Owner(before, before), 1_000)
    claims.claim(engine, "C", first, 2_000)
    assert tables.about(engine)["owner:C"] == first.name
    with pytest.raises(EngineRefused, match="SHIP_RECORDER"):
        claims.claim(engine, "C", second, 3_000)
    assert outside.name == before


def test_a_name_that_was_taken_over_is_seen_and_whoever_claims_last_has_it(engine: ClickHouse) -> None:
    counts = ShipCounts()
    sink = claims.claim(engine, "A", claims.Owner("one:1", "one:1"), 5_000)
    claimed = claims.Claimed(engine, "A", "one:1", sink, counts)
    with pytest.raises(EngineRefused, match="the name A is taken by another data root, on the machine one;"):
        claims.claim(engine, "A", claims.Owner("two:2", "two:2"), 6_000)
    assert (
        claims.claim(engine, "A", claims.Owner("two:2", "two:2"), 4_000, take_over=True) == sink
    )  # its clock is behind
    assert tables.about(engine)["owner:A"] == "two:2"
    assert claimed.is_ours()  # it is not asked each time
    counts.keeper.times += 1
    assert not claimed.is_ours()


def test_a_credential_goes_before_a_file_that_is_closed_to_the_service(tmp_path: Path) -> None:
    (tmp_path / "ship-password").write_text("handed-over\n")
    given = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    for path in (tmp_path / "of-root" / "password", None):
        assert password_of(path, given, PASSWORD_FILE, CREDENTIAL) == "handed-over"


def test_each_container_that_ships_is_the_same_machine() -> None:
    """Who ships is told by the name of the machine, which is random for a container unless it is set."""
    services = yaml.safe_load((ROOT / "deploy/container/clickhouse.yml").read_text())["services"]
    assert services["ship"]["hostname"] == services["ship-init"]["hostname"] == "hk-tick-ship"


def test_what_is_wrong_with_the_directory_of_who_ships_is_said_with_what_to_do(tmp_path: Path) -> None:
    State(tmp_path / "ship").close()
    file = tmp_path / "ship" / FILE
    file.write_bytes(b"not of SQLite" * 1000)
    with pytest.raises(StateLost, match=r"file is not a database\): it is damaged: remove it"):
        State(tmp_path / "ship")
    file.unlink()
    State(tmp_path / "ship").close()
    with pytest.raises(StateLost, match="SHIP_DIR has to be a directory in which who ships may write"):
        State(file)

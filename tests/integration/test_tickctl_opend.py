"""``hk-tickctl audit``, ``repair`` and ``symbols`` against a simulated OpenD that has a whole trading day behind it."""

from __future__ import annotations

import contextlib
import re
import shutil
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hk_tick_collector.core.facts import Fact, HeadProven, Verified
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hk import HK
from hk_tick_collector.market.hk.sessions import day_start_ms
from hk_tick_collector.opend_sim.exchange import Exchange, MarketConfig
from hk_tick_collector.opend_sim.simtick import SimTick
from hk_tick_collector.records.tick import Tick, seq_counter
from hk_tick_collector.store import reader
from hk_tick_collector.store.layout import archive_dir
from hk_tick_collector.store.writer import DayFileWriter
from hk_tick_collector.watch.repair import shown_day
from tests.archived_day import archive_day
from tests.harness import Recorder, Simulator, at_market_time, check, ended, stop_after_market, wait_until
from tests.nights import by_day
from tests.tickctl import BUILT, record_day, tickctl, tickctl_json

SYMBOLS = ("HK.00005", "HK.00700", "HK.09988")
VICTIM = "HK.00700"
CALENDAR = TradingCalendar(HK)
DAY = shown_day(CALENDAR, time.time_ns() // 1_000_000)
DASHED = f"{DAY[:4]}-{DAY[4:6]}-{DAY[6:]}"
END_MS = HK.recording_window(DAY, CALENDAR.day_kind(DAY))[1]
NOBODY_LISTENS = 1  # a port


@dataclass(frozen=True)
class Recorded:
    """A simulator whose market has closed, and the whole day as it was stored, not to be changed."""

    simulator: Simulator
    data: Path
    made: list[SimTick]

    def settings(self, symbols: str = ",".join(SYMBOLS), **more: object) -> dict[str, object]:
        return {"FUTU_HOST": "127.0.0.1", "FUTU_PORT": self.simulator.port, "FUTU_SYMBOLS": symbols, **more}

    def json(self, *arguments: object, data: Path | None = None, code: int = 0, symbols: str = "") -> Any:
        settings = self.settings(symbols or ",".join(SYMBOLS))
        return tickctl_json(*arguments, data_root=data or self.data, code=code, **settings)

    def run(self, *arguments: object, data: Path | None = None, **settings: object) -> tuple[int, str, str]:
        done = tickctl(*arguments, data_root=data or self.data, **{**self.settings(), **settings})
        return done.returncode, done.stdout, done.stderr


def store(data: Path, made: list[SimTick]) -> None:
    """The day file that a recorder leaves that missed nothing."""
    rows = [
        Tick(
            tick.symbol, tick.ts_ms, tick.price, tick.volume, tick.turnover, tick.direction, tick.seq, tick.tick_type,
            "push", DAY, tick.recv_ts_ms + 5, "REALTIME", tick.recv_ts_ms, chr(tick.type_sign),
        )
        for tick in made
    ]  # fmt: skip
    facts: list[Fact] = []
    for symbol in SYMBOLS:
        counters = [seq_counter(tick.seq) for tick in made if tick.symbol == symbol]
        facts += [HeadProven(symbol, DAY, counters[0]), Verified(symbol, DAY, counters[-1], END_MS)]
    writer = DayFileWriter(data)
    for at in range(0, len(rows), 5000):
        writer.write(rows[at : at + 5000])
    writer.write((), facts)
    writer.close()


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    """The market of a whole day, stored, and a simulator that has the evening after it."""
    base = tmp_path_factory.mktemp("day")
    config = MarketConfig(list(SYMBOLS), rate_per_sec=0.6, history_ticks=0)
    made = Exchange(config, day_start_ms(DAY) + 8 * 3_600_000, CALENDAR).advance(END_MS)
    store(base / "data", made)
    simulator = Simulator(base / "sim", "--replay", base / "data" / f"{DAY}.db", "--start", f"{DASHED}T17:00:00")
    with ended(simulator):
        yield Recorded(simulator, base / "data", made)


def same_rows(data: Path, made: list[SimTick]) -> bool:
    """Does the day file hold exactly what was made?"""
    columns = "symbol, seq, ts_ms, price, volume, turnover, direction, tick_type"
    with contextlib.closing(sqlite3.connect(data / f"{DAY}.db")) as conn:
        stored = sorted(conn.execute(f"SELECT {columns} FROM ticks"))
    names = columns.split(", ")
    return stored == sorted(tuple(getattr(tick, name) for name in names) for tick in made)


@pytest.fixture
def copy(day: Recorded, tmp_path: Path) -> Path:
    """The recorded day, to be damaged."""
    return Path(shutil.copytree(day.data, tmp_path / "data"))


def lose(data: Path, symbol: str, newest_but: int, count: int) -> int:
    """Remove ``count`` ticks that lie ``newest_but`` behind the newest, so that the file knows it; their volume."""
    db = data / f"{DAY}.db"
    victims = f"SELECT rowid FROM ticks WHERE symbol = '{symbol}' ORDER BY seq DESC LIMIT {count} OFFSET {newest_but}"
    with contextlib.closing(sqlite3.connect(db, isolation_level=None)) as conn:
        volume: int = conn.execute(f"SELECT SUM(volume) FROM ticks WHERE rowid IN ({victims})").fetchone()[0]
        known = conn.execute(
            "SELECT symbol, head_counter, verified_counter, verified_until_ms FROM coverage"
        ).fetchall()
        conn.execute(f"DELETE FROM ticks WHERE rowid IN ({victims})")
        conn.execute("DELETE FROM coverage")
    writer = DayFileWriter(data)  # counts anew what is there, as it does for rows of another program
    for known_symbol, head, verified, until_ms in known:
        writer.write((), [HeadProven(known_symbol, db.stem, head), Verified(known_symbol, db.stem, verified, until_ms)])
    writer.close()
    return volume


def state_of(data: Path, symbol: str) -> reader.CoverageRow:
    db = data / f"{DAY}.db"
    return next(row for row in reader.coverage(db) if row.symbol == symbol)


# audit


@pytest.mark.parametrize("option", ["--against-kline", "--against-snapshot"])
def test_a_complete_day_equals_opends_sums(day: Recorded, option: str) -> None:
    audit = day.json("audit", DAY, option)
    assert (audit["equal_symbols"], audit["different_symbols"], audit["failed"]) == (3, 0, {})
    assert audit["until_ms"] is None, "the market is closed: all of the day is compared"
    traded = {symbol: sum(tick.volume for tick in day.made if tick.symbol == symbol) for symbol in SYMBOLS}
    assert {symbol: symbol_audit["stored_volume"] for symbol, symbol_audit in audit["symbols"].items()} == traded
    if option == "--against-kline":
        assert all(
            symbol_audit["minutes"] > 300 and not symbol_audit["moved"] for symbol_audit in audit["symbols"].values()
        )


@pytest.mark.parametrize("count", by_day([1, 250], lambda count: count == 1))
def test_planted_losses_are_found_to_the_share(day: Recorded, copy: Path, count: int) -> None:
    volume = lose(copy, VICTIM, 2000, count)
    for option in ("--against-snapshot", "--against-kline"):
        audit = day.json("audit", DAY, option, data=copy, code=1)
        assert (audit["equal_symbols"], audit["different_symbols"]) == (2, 1)
        victim = audit["symbols"][VICTIM]
        assert sum(difference["missing_volume"] for difference in victim["differences"]) == volume
        assert all(difference["missing_volume"] > 0 for difference in victim["differences"])
        assert audit["suspicion"] is None
    code, out, _ = day.run("audit", "--against-kline", "--symbols", "700", data=copy)
    assert code == 1
    assert len(re.findall(rf"^{VICTIM} +\d\d:\d\d ", out, re.MULTILINE)) == len(victim["differences"])
    assert "1 differ" in out


def test_a_wanted_symbol_without_ticks_is_a_difference(day: Recorded, copy: Path) -> None:
    db = copy / f"{DAY}.db"
    with contextlib.closing(sqlite3.connect(db, isolation_level=None)) as conn:
        conn.execute("DELETE FROM ticks WHERE symbol = ?", (VICTIM,))
        conn.execute("DELETE FROM coverage WHERE symbol = ?", (VICTIM,))
    audit = day.json("audit", DAY, "--against-kline", data=copy, code=1)
    assert audit["symbols"][VICTIM]["stored_volume"] == 0
    assert audit["different_symbols"] == 1


def test_a_day_under_way_equals_opends_sums_so_far(tmp_path: Path) -> None:
    half_past_nine_ms = HK.continuous_windows(DAY, CALENDAR.day_kind(DAY))[0][0]
    market = ("--symbols", ",".join(SYMBOLS), "--start", f"{DASHED}T09:29:50", "--wait-for-client")
    simulator = Simulator(tmp_path / "sim", *market, "--speed", 20, "--rate", 20)
    recorder = Recorder(tmp_path / "data", simulator.port, ",".join(SYMBOLS))
    settings = {"FUTU_HOST": "127.0.0.1", "FUTU_PORT": simulator.port, "FUTU_SYMBOLS": ",".join(SYMBOLS)}
    with ended(simulator, recorder):
        wait_until(lambda: simulator.ctl("status")["market_time_ms"] > half_past_nine_ms + 150_000, "two minutes")
        kline = tickctl_json("audit", DAY, "--against-kline", data_root=tmp_path / "data", **settings)
        snapshot = tickctl_json("audit", DAY, "--against-snapshot", data_root=tmp_path / "data", **settings)
    for audit in (kline, snapshot):
        assert audit["equal_symbols"] == 3
        assert day_start_ms(DAY) < audit["until_ms"] < END_MS
    assert all(symbol_audit["minutes"] >= 2 for symbol_audit in kline["symbols"].values())


def test_an_archived_day_is_audited_alike_and_not_repaired(day: Recorded, copy: Path) -> None:
    archive_day(copy, archive_dir(copy), DAY)  # the command archives no day whose session is not over now
    audit = day.json("audit", DAY, "--against-kline", data=copy)
    assert (audit["equal_symbols"], audit["failed"]) == (3, {})
    code, _, err = day.run("repair", DAY, data=copy)
    assert (code, f"hk-tickctl restore {DAY}" in err) == (1, True), err
    assert not (copy / f"{DAY}.db").exists()


def test_a_symbol_that_cannot_be_audited_is_a_failure_and_costs_no_other(day: Recorded) -> None:
    for option in ("--against-kline", "--against-snapshot"):
        audit = day.json("audit", DAY, option, "--symbols", "700,11111", code=1)
        assert "unknown stock" in audit["failed"]["HK.11111"]
        assert audit["symbols"][VICTIM]["equal"] is True
    code, out, _ = day.run("audit", "--against-kline", "--symbols", "11111")
    assert (code, "1 could not be compared" in out, "equal OpenD" in out) == (1, True, True)


def test_days_that_opend_cannot_answer_for(day: Recorded, tmp_path: Path) -> None:
    older = CALENDAR.previous_trading_day(DAY)
    record_day(tmp_path / "data", older, symbols=SYMBOLS[:2], count=50)
    kline = day.json("audit", older, "--against-kline", data=tmp_path / "data", code=1, symbols=SYMBOLS[0])
    assert "has no minute bars" in kline["failed"][SYMBOLS[0]]
    snapshot = day.json("audit", older, "--against-snapshot", data=tmp_path / "data", code=1, symbols=SYMBOLS[0])
    assert DAY in snapshot["failed"][SYMBOLS[0]]
    code, _, err = day.run("audit", older, "--against-kline", "--symbols", SYMBOLS[2], data=tmp_path / "data")
    assert (code, "nothing to compare" in err) == (3, True)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("audit",), 2, "--against-kline, --against-snapshot or --against"),
        (("audit", "tomorrow", "--against-kline"), 2, "not a day"),
        (("audit", "20991231", "--against-kline"), 3, "future"),
        (("audit", "20200102", "--against-kline"), 3, "no ticks of 20200102"),
        (("audit", "--against-kline", "--symbols", "abc"), 2, "abc"),
        (("repair", "--symbols", "abc"), 2, "abc"),
        (("repair", "20991231"), 3, "future"),
        (("symbols", "--wrong"), 2, "--wrong"),
    ],
)
def test_wrong_usage(day: Recorded, arguments: tuple[str, ...], code: int, words: str) -> None:
    exit_code, out, err = day.run(*arguments)
    assert (exit_code, words in err) == (code, True), out + err


@pytest.mark.parametrize(
    "arguments", [("audit", "--against-kline"), ("audit", "--against-snapshot"), ("repair", "-s", "700")]
)
def test_without_opend_it_fails_and_says_where_it_looked(day: Recorded, copy: Path, arguments: tuple[str, ...]) -> None:
    code, out, err = day.run(*arguments, data=copy, FUTU_PORT=NOBODY_LISTENS)
    assert (code, out) == (1, "")
    assert f"127.0.0.1:{NOBODY_LISTENS}" in err
    assert "is OpenD running" in err
    assert "Traceback" not in err


def test_an_opend_without_login_fails(day: Recorded) -> None:
    day.simulator.ctl("logout")
    try:
        code, out, err = day.run("audit", "--against-kline")
    finally:
        day.simulator.ctl("login")
    assert (code, out, "not logged in" in err) == (1, "", True), err


# repair


def test_a_hole_is_filled_and_proven(day: Recorded, copy: Path) -> None:
    lose(copy, VICTIM, 300, 40)
    lost = state_of(copy, VICTIM)
    assert (lost.state, lost.missing_ticks) == ("missing", 40)
    dry = day.json("repair", "--dry-run", data=copy, code=1)
    assert [(row["symbol"], row["before"]["missing_ticks"]) for row in dry["symbols"]] == [(VICTIM, 40)]
    assert state_of(copy, VICTIM).missing_ticks == 40, "a dry run changes nothing"

    ranges = copy.parent / "missing_ranges.json"
    day.json("gaps", "--output", ranges, data=copy, code=1)

    repaired = day.json("repair", DAY, "--ranges", ranges, data=copy)
    (row,) = repaired["symbols"]
    assert (row["before"]["state"], row["after"]["state"], row["new_ticks"]) == ("missing", "proven", 40)
    assert set(day.json("gaps", "--against", ranges, data=copy)["counts"]) == {"stored"}
    assert (row["after"]["missing_ticks"], repaired["complete"]) == (0, True)
    assert same_rows(copy, day.made)
    assert day.json("audit", DAY, "--against-kline", data=copy)["different_symbols"] == 0
    assert day.json("repair", data=copy)["asked_symbols"] == 0, "nothing is left to ask for"


def test_what_opend_no_longer_shows_stays_missing(day: Recorded, copy: Path) -> None:
    lose(copy, VICTIM, 1500, 30)
    lose(copy, VICTIM, 100, 10)
    code, out, err = day.run("repair", data=copy)
    assert code == 1, out + err
    assert "stored 10 new ticks" in out
    assert "1 are not proven complete" in out
    row = state_of(copy, VICTIM)
    assert (row.state, row.missing_ticks) == ("missing", 30)


def test_the_end_of_a_day_that_was_cut_off_is_fetched(day: Recorded, copy: Path) -> None:
    """The recorder died an hour before the close, all it stored was proven until then."""
    lose(copy, VICTIM, 0, 500)
    db = copy / f"{DAY}.db"
    last = state_of(copy, VICTIM).last_counter
    with contextlib.closing(sqlite3.connect(db, isolation_level=None)) as conn:
        conn.execute(
            "UPDATE coverage SET state = 'proven', verified_counter = ?, verified_until_ms = ? WHERE symbol = ?",
            (last, END_MS - 3_600_000, VICTIM),
        )
    evening = {**day.settings(), **at_market_time(f"{DASHED}T17:00:00")}  # whatever the hour is now
    repaired = tickctl_json("repair", data_root=copy, under=BUILT, **evening)
    (row,) = repaired["symbols"]
    assert "confirmed only until 15:15" in row["why"] or "confirmed only until 11:15" in row["why"]
    assert (row["new_ticks"], row["after"]["state"]) == (500, "proven")
    assert same_rows(copy, day.made)


def test_a_symbol_that_was_never_recorded_gets_what_there_is_and_its_lost_beginning_is_said(
    day: Recorded, copy: Path
) -> None:
    db = copy / f"{DAY}.db"
    with contextlib.closing(sqlite3.connect(db, isolation_level=None)) as conn:
        conn.execute("DELETE FROM ticks WHERE symbol = ?", (VICTIM,))
        conn.execute("DELETE FROM coverage WHERE symbol = ?", (VICTIM,))
    repaired = day.json("repair", data=copy, code=1)
    (row,) = repaired["symbols"]
    assert (row["why"], row["new_ticks"]) == ("no tick is stored", 1000)
    assert (row["after"]["state"], row["after"]["open_gaps"]) == ("unproven", 1)
    assert "may have come before the first one seen" in row["after"]["reason"]


def test_ticks_that_opend_shows_otherwise_are_not_called_proven(day: Recorded, copy: Path) -> None:
    """A pushed tick whose price is another one in the answer: the counters prove nothing that day."""
    lose(copy, VICTIM, 300, 5)
    db = copy / f"{DAY}.db"
    with contextlib.closing(sqlite3.connect(db, isolation_level=None)) as conn:
        newest = "SELECT rowid FROM ticks WHERE symbol = ? AND push_type = 'push' ORDER BY seq DESC LIMIT 3"
        conn.execute(f"UPDATE ticks SET price = price + 1 WHERE rowid IN ({newest})", (VICTIM,))
    repaired = day.json("repair", data=copy, code=1)
    (row,) = repaired["symbols"]
    assert row["after"]["state"] == "unproven"
    assert "push and pull disagree" in row["after"]["reason"]


def test_an_unknown_symbol_costs_no_other(day: Recorded, copy: Path) -> None:
    lose(copy, VICTIM, 300, 5)
    repaired = day.json("repair", "--symbols", f"11111,{VICTIM}", data=copy, code=1)
    by_symbol = {row["symbol"]: row for row in repaired["symbols"]}
    assert "unknown stock" in by_symbol["HK.11111"]["error"]
    assert (by_symbol[VICTIM]["new_ticks"], by_symbol[VICTIM]["complete"]) == (5, True)


@pytest.mark.parametrize("kind", by_day(["subscribe", "ticks"], lambda kind: kind == "ticks"))
def test_a_symbol_that_opend_keeps_silent_over_costs_no_other(day: Recorded, copy: Path, kind: str) -> None:
    """Those that were asked for in one request with it are asked for again without it."""
    lose(copy, VICTIM, 300, 5)
    silent = SYMBOLS[0]
    day.simulator.ctl(f"keep-silent kind={kind} symbol={silent}")
    try:
        repaired = day.json("repair", "--symbols", ",".join(SYMBOLS), data=copy, code=1)
    finally:
        day.simulator.ctl("clear kind=keep-silent")
    by_symbol = {row["symbol"]: row for row in repaired["symbols"]}
    assert "did not answer" in by_symbol[silent]["error"]
    assert "refuses" not in by_symbol[silent]["error"]
    assert (by_symbol[VICTIM]["new_ticks"], by_symbol[VICTIM]["complete"]) == (5, True)
    assert [row["error"] for symbol, row in by_symbol.items() if symbol != silent] == [None, None]


def test_older_days_are_refused_without_asking(day: Recorded, copy: Path) -> None:
    older = CALENDAR.previous_trading_day(DAY)
    code, _, err = day.run("repair", older, data=copy, FUTU_PORT=NOBODY_LISTENS)
    assert code == 1
    assert f"{older} cannot be repaired" in err
    assert DAY in err


def test_opend_that_refuses_subscriptions(day: Recorded, copy: Path) -> None:
    lose(copy, VICTIM, 300, 5)
    day.simulator.ctl("right kind=bmp")
    try:
        repaired = day.json("repair", data=copy, code=1)
    finally:
        day.simulator.ctl("clear kind=right")
    assert "BMP" in repaired["symbols"][0]["error"]
    assert state_of(copy, VICTIM).missing_ticks == 5


# symbols


def test_symbols_without_a_recorder(day: Recorded) -> None:
    listed = day.json("symbols", code=1, symbols="700,5,11111")
    rows = {row["symbol"]: row for row in listed["symbols"]}
    assert (listed["wanted_symbols"], listed["subscribed_symbols"]) == (3, 0)
    assert (rows[VICTIM]["name"], rows[VICTIM]["board_lot"]) == ("TENCENT", 100)
    assert rows[VICTIM]["note"] == "no recorder runs on this data root"
    assert "does not know" in rows["HK.11111"]["note"]
    assert rows["HK.11111"]["name"] is None
    assert rows[VICTIM]["last_price_at_ms"] == rows[VICTIM]["last_stored_at_ms"] > day_start_ms(DAY)
    assert rows[VICTIM]["stored_ticks"] == state_of(day.data, VICTIM).stored_ticks


def test_symbols_without_opend_still_tell_what_is_stored(day: Recorded) -> None:
    done = tickctl("symbols", "--json", data_root=day.data, **day.settings(FUTU_PORT=NOBODY_LISTENS))
    assert done.returncode == 1
    assert f"127.0.0.1:{NOBODY_LISTENS}" in done.stderr
    assert '"reachable": false' in done.stdout
    assert done.stdout.count('"last_stored_price": ') == done.stdout.count('"stored_day": "') == 3


# Beside a recorder


def test_beside_a_recorder_at_a_thousand_ticks_a_second(tmp_path: Path) -> None:
    """Repair writes another symbol into the file that the recorder writes: both lose nothing, the coverage is right."""
    others = [f"HK.{n:05d}" for n in (1, 2, 3, 5, 11, 16, 27, 66, 388)]
    late = "HK.09988"
    simulator = Simulator(
        tmp_path / "sim", "--symbols", ",".join([*others, late]), "--start", f"{DASHED}T10:00:00", "--rate", 1100,
        "--wait-for-client",
    )  # fmt: skip
    data = tmp_path / "data"
    recorder = Recorder(data, simulator.port, ",".join(others))
    settings = {"FUTU_HOST": "127.0.0.1", "FUTU_PORT": simulator.port, "FUTU_SYMBOLS": ",".join([*others, late])}
    with ended(simulator, recorder):
        wait_until(lambda: recorder.rows() > 10_000, f"rows\n{recorder.output}")
        tickctl_json("repair", "--symbols", late, data_root=data, code=1, **settings)
        first = state_of(data, late)
        assert first.stored_ticks == 1000
        again = tickctl_json("repair", "--symbols", f"{late},{others[0]}", data_root=data, code=1, **settings)
        assert again["symbols"][0]["new_ticks"] > 0

        listed = {row["symbol"]: row for row in tickctl_json("symbols", data_root=data, code=1, **settings)["symbols"]}
        assert [symbol for symbol in listed if listed[symbol]["subscribed"]] == others
        assert "SIGHUP" in listed[late]["note"]

        rows = recorder.rows()
        wait_until(lambda: recorder.rows() > rows + 3000, f"more rows\n{recorder.output}")
        stop_after_market(simulator, recorder)
        assert not recorder.find(r" ERROR |persist_failed|day_file_replaced"), recorder.output
        result = check(simulator, data, "--symbols", ",".join(others))
        assert result.returncode == 0, result.stdout + result.stderr + recorder.output
    doubts = {row.reason for symbol in others if (row := state_of(data, symbol)).state == "unproven"}
    assert all("may have come before the first one seen" in str(doubt) for doubt in doubts), doubts
    assert state_of(data, late).stored_ticks == first.stored_ticks + again["symbols"][0]["new_ticks"]
    db = data / f"{DAY}.db"
    with contextlib.closing(sqlite3.connect(db)) as conn:
        counted = dict(conn.execute("SELECT symbol, COUNT(*) FROM ticks GROUP BY symbol"))
        noted = dict(conn.execute("SELECT symbol, stored_ticks FROM coverage"))
    assert noted == counted

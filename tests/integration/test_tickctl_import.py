"""``hk-tickctl import sierra``, the built command: files written from the published layout, day files read with SQL."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from hk_tick_collector.market.cme import CME
from hk_tick_collector.store.layout import DataRootLock
from hk_tick_collector.store.reader import replays
from hk_tick_collector.store.writer import DayFileWriter
from tests.harness import BIN, clean_env
from tests.nights import every_test
from tests.scid_files import FIRST_PART, Trade, append, bar, read_independently, run_of, scid_bytes, write_scid
from tests.tickctl import running, tickctl, tickctl_json
from tests.unit.store_ticks import query, tick

HOUR_US = 3_600_000_000
ES = ("--tick-size", "0.25")
NAME = "ESZ26_FUT_CME.scid"


def chicago_us(day: str, hour: float) -> int:
    """A time of that date in Chicago, Unix microseconds."""
    return CME.zone.at_ms(day, int(hour * 3_600_000)) * 1000


def rows_of(root: Path, day: str, columns: str = "seq, ts_ms, price, volume, direction") -> list[tuple[object, ...]]:
    return query(root / f"{day}.db", f"SELECT {columns} FROM ticks ORDER BY seq")


def total_rows(root: Path) -> int:
    return sum(query(path, "SELECT COUNT(*) FROM ticks")[0][0] for path in root.glob("????????.db"))  # type: ignore[misc]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / NAME


def test_every_record_is_a_row_of_its_trading_day(root: Path, path: Path) -> None:
    """Held against another reader of the same file; the days by the rule of 17:00, over a Friday and a weekend."""
    trades = [
        *run_of(chicago_us("20261119", 16.999), 30, 100_000),  # the last seconds before 17:00
        *run_of(chicago_us("20261119", 17), 50, 60_000_000),
        *run_of(chicago_us("20261120", 9), 700),
        *run_of(chicago_us("20261122", 17), 30),  # Sunday
    ]
    write_scid(path, trades)
    (report,) = tickctl_json("import", "sierra", path, *ES, data_root=root)
    assert report["records"] == report["stored"] == 810
    assert (report["first_day"], report["last_day"], report["symbol"]) == ("20261119", "20261123", "CME.ESZ26")
    assert {file.name for file in root.glob("*.db")} == {"20261119.db", "20261120.db", "20261123.db"}
    assert (root / ".market").read_text() == "CME\n"
    theirs = read_independently(path)
    sides = {(0, 1): "BUY", (1, 0): "SELL"}
    expected = [
        (record["t"].item(), record["t"].item() // 1000, record["close"].item(), record["vol"].item(),
         sides[bool(record["bid"]), bool(record["ask"])])
        for record in theirs
    ]  # fmt: skip
    assert [row for day in ("20261119", "20261120", "20261123") for row in rows_of(root, day)] == expected
    assert set(rows_of(root, "20261120", "market, provider, symbol, venue, bid_price, ask_price, push_type")) == {
        ("CME", "sierra", "CME.ESZ26", "CME", 5000.0, 5000.25, "backfill")
    }


@pytest.mark.parametrize(
    ("date", "next_day"), [("20260306", "20260309"), ("20260309", "20260310"), ("20261030", "20261102")]
)
def test_a_day_begins_at_17_in_chicago_on_both_sides_of_a_change_of_clocks(
    root: Path, path: Path, date: str, next_day: str
) -> None:
    """Clocks changed on 8 March and 1 November 2026."""
    five = chicago_us(date, 17)
    write_scid(path, [Trade(five - 1), Trade(five)])
    tickctl_json("import", "sierra", path, data_root=root)
    assert rows_of(root, date, "seq") == [(five - 1,)]
    assert rows_of(root, next_day, "seq") == [(five,)]


def test_a_second_run_stores_nothing_and_a_grown_file_only_what_is_new(root: Path, path: Path) -> None:
    start = chicago_us("20261120", 9)
    write_scid(path, [*run_of(start, 300), Trade(start + HOUR_US, price=1.1)])
    first = tickctl_json("import", "sierra", path, *ES, data_root=root, code=1)[0]
    assert (first["stored"], first["already_there"], first["quarantined"]) == (300, 0, {"price": 1})
    second = tickctl_json("import", "sierra", path, *ES, data_root=root, code=1)[0]
    assert (second["stored"], second["already_there"], second["quarantined"]) == (0, 300, {"price": 1})
    assert len((root / "_quarantine/20261120.jsonl").read_text().splitlines()) == 1, "once"
    append(path, run_of(start + 2 * HOUR_US, 25))
    third = tickctl_json("import", "sierra", path, *ES, data_root=root, code=1)[0]
    assert (third["stored"], third["already_there"]) == (25, 300)


def test_the_day_file_notes_that_it_equals_the_file(root: Path, path: Path) -> None:
    """Every record of a day is a row and every row a record; a later reading says whether the file changed since."""
    trades = [*run_of(chicago_us("20261119", 9), 50), *run_of(chicago_us("20261120", 9), 60)]
    write_scid(path, trades)
    first = tickctl_json("import", "sierra", path, *ES, data_root=root)[0]
    assert (first["days"], first["equal_days"], first["unchanged_days"]) == (2, 2, 0)
    second = tickctl_json("import", "sierra", path, *ES, data_root=root)[0]
    assert (second["equal_days"], second["unchanged_days"]) == (2, 2)
    noted = replays(root / "20261119.db")["CME.ESZ26"]
    assert (noted.ticks, noted.copy, noted.confirmed) == (50, NAME, True)
    assert noted.digest == hashlib.sha256(scid_bytes(trades[:50])[56:]).hexdigest()
    write_scid(path, trades[1:])  # the file lost a trade that is stored
    third = tickctl_json("import", "sierra", path, *ES, data_root=root)[0]
    assert (third["equal_days"], third["unchanged_days"]) == (1, 1)
    append(path, [Trade(trades[-1].us + 1_000_000)])  # the day goes on
    fourth = tickctl_json("import", "sierra", path, *ES, data_root=root)[0]
    assert (fourth["equal_days"], fourth["unchanged_days"]) == (1, 0)


def test_a_day_that_was_imported_twice_is_proven_by_replay_and_says_what_that_is(root: Path, path: Path) -> None:
    write_scid(path, run_of(chicago_us("20261119", 9), 50))
    tickctl_json("import", "sierra", path, *ES, data_root=root)
    (before,) = tickctl_json("day", "20261119", data_root=root)["symbols"]
    assert (before["state"], before["evidence"]) == ("unproven", "id")
    assert "import it once more" in before["reason"]
    tickctl_json("import", "sierra", path, *ES, data_root=root)
    day = tickctl_json("day", "20261119", data_root=root)
    assert [(row["state"], row["evidence"], row["expected_ticks"]) for row in day["symbols"]] == [
        ("proven", "replay", 50)
    ]
    assert "whether the exchange told more is not known" in day["sentence"]
    gaps = tickctl("gaps", "--days", "20261119", data_root=root)
    assert gaps.returncode == 0
    assert "not that the exchange told no more" in gaps.stderr


def test_trades_downloaded_again_with_other_microseconds_are_the_same_trades(root: Path, path: Path) -> None:
    trades = run_of(chicago_us("20261120", 9), 200, 7_001)
    write_scid(path, trades)
    tickctl_json("import", "sierra", path, *ES, data_root=root)
    moved = [Trade(**{**vars(trade), "us": trade.us // 1000 * 1000 + 500 + trade.us % 3}) for trade in trades]
    missed = Trade(trades[50].us // 1000 * 1000 + 999, price=4999.0)
    write_scid(path, sorted([*moved, missed], key=lambda trade: trade.us))
    report = tickctl_json("import", "sierra", path, *ES, data_root=root)[0]
    assert (report["stored"], report["already_there"]) == (1, 200)
    assert 0 < report["renumbered"] <= 200
    assert total_rows(root) == 201


def test_bars_are_refused_by_the_day(root: Path, path: Path) -> None:
    bars = [bar(chicago_us("20261119", 9) + 60_000_000 * number) for number in range(30)]
    write_scid(path, [*bars, *run_of(chicago_us("20261120", 9), 10)])
    done = tickctl("import", "sierra", path, data_root=root)
    assert done.returncode == 1
    assert "refused 20261119: 30 of 30 records are bars" in done.stdout
    assert "1 Tick" in done.stdout
    assert not (root / "20261119.db").exists()
    assert len(rows_of(root, "20261120")) == 10


def test_a_torn_record_is_no_fault_and_is_read_when_it_is_whole(root: Path, path: Path) -> None:
    trades = run_of(chicago_us("20261120", 9), 5)
    path.write_bytes(scid_bytes(trades)[:-7])
    report = tickctl_json("import", "sierra", path, data_root=root)[0]
    assert (report["stored"], report["torn_bytes"]) == (4, 33)
    write_scid(path, trades)
    assert tickctl_json("import", "sierra", path, data_root=root)[0]["stored"] == 1


def test_integer_prices_and_parts_of_trades(root: Path, path: Path) -> None:
    start = chicago_us("20261120", 9)
    write_scid(
        path, [Trade(start, price=421575, bid=421550, ask=421575, open=FIRST_PART), Trade(start + 1, price=421600)]
    )
    tickctl_json("import", "sierra", path, "--multiplier", "CME.ES*=0.01", *ES, data_root=root)
    assert rows_of(root, "20261120", "price, bid_price, ask_price, conditions")[0] == (
        4215.75, 4215.5, 4215.75, "UNBUNDLED_FIRST",
    )  # fmt: skip


def test_a_forgotten_multiplier_does_not_store_a_day_twice(root: Path, path: Path) -> None:
    write_scid(path, run_of(chicago_us("20261120", 9), 100))
    tickctl_json("import", "sierra", path, data_root=root)
    report = tickctl_json("import", "sierra", path, "--multiplier", "0.01", data_root=root, code=1)[0]
    assert "another --multiplier" in report["refused"]["20261120"]
    assert total_rows(root) == 100


def test_local_times_are_read_with_their_zone(root: Path, path: Path) -> None:
    local_noon = chicago_us("20261120", 12) - 6 * HOUR_US
    write_scid(path, [Trade(local_noon)])
    tickctl_json("import", "sierra", path, "--timestamp-tz", "America/Chicago", data_root=root)
    assert rows_of(root, "20261120", "seq") == [(chicago_us("20261120", 12),)]


def test_equal_trades_of_one_time_are_all_stored(root: Path, path: Path) -> None:
    start = chicago_us("20261120", 9)
    write_scid(path, [Trade(start)] * 40)
    assert tickctl_json("import", "sierra", path, data_root=root)[0]["stored"] == 40
    assert tickctl_json("import", "sierra", path, data_root=root)[0]["already_there"] == 40


def test_times_in_no_order_lose_nothing(root: Path, path: Path) -> None:
    trades = run_of(chicago_us("20261120", 9), 60)
    write_scid(path, [*trades[30:], Trade(-1), *trades[:30]])
    report = tickctl_json("import", "sierra", path, data_root=root, code=1)[0]
    assert (report["stored"], report["quarantined"]) == (60, {"time": 1})
    assert tickctl_json("import", "sierra", path, data_root=root, code=1)[0]["stored"] == 0
    (line,) = (root / "_quarantine/20261120.jsonl").read_text().splitlines()
    assert json.loads(line)["code"] == "time"


def test_a_data_root_of_another_market_is_refused(root: Path, path: Path) -> None:
    root.mkdir()
    store = DayFileWriter(root)
    store.write([tick()])
    store.close()
    write_scid(path, run_of(chicago_us("20261120", 9), 3))
    done = tickctl("import", "sierra", path, data_root=root)
    assert done.returncode == 2
    assert "holds days of market HK" in done.stderr
    assert total_rows(root) == 1


def test_a_data_root_that_a_recorder_writes_to_is_refused(root: Path, path: Path) -> None:
    root.mkdir()
    write_scid(path, run_of(chicago_us("20261120", 9), 3))
    with DataRootLock(root):
        done = tickctl("import", "sierra", path, data_root=root)
    assert done.returncode == 2
    assert "another recorder" in done.stderr
    assert not list(root.glob("*.db"))


@pytest.mark.parametrize(
    ("name", "content", "code", "says"),
    [
        ("AAPL-NQTV.scid", scid_bytes([]), 2, "named like ESZ26_FUT_CME.scid"),
        (NAME, b"no such file at all, but long enough to have been a header of one", 1, "does not begin with SCID"),
        (NAME, b"", 1, "header is not written yet"),
        (NAME, scid_bytes([]), 3, "0 records of no trading day"),
    ],
)
def test_what_is_no_file_of_trades_is_said(
    root: Path, tmp_path: Path, name: str, content: bytes, code: int, says: str
) -> None:
    (tmp_path / name).write_bytes(content)
    done = tickctl("import", "sierra", tmp_path / name, data_root=root)
    assert (done.returncode, says in done.stdout + done.stderr) == (code, True), done.stdout + done.stderr


@pytest.mark.parametrize(
    "option",
    [("--multiplier", "x"), ("--multiplier", "6E*=0.01"), ("--tick-size", "0"), ("--timestamp-tz", "Mars/Olympus")],
)
def test_wrong_options_store_nothing(root: Path, path: Path, option: tuple[str, str]) -> None:
    write_scid(path, run_of(chicago_us("20261120", 9), 3))
    done = tickctl("import", "sierra", path, *option, data_root=root)
    assert (done.returncode, option[1] in done.stderr) == (2, True), done.stderr
    assert "configuration" not in done.stderr  # there is none: it is the command that was mistyped
    assert not root.exists() or not list(root.glob("*.db"))


def test_one_bad_file_costs_no_other(root: Path, path: Path, tmp_path: Path) -> None:
    bad = tmp_path / "NQZ26_FUT_CME.scid"
    bad.write_bytes(b"SCIX" * 30)
    write_scid(path, run_of(chicago_us("20261120", 9), 3))
    first, second = tickctl_json("import", "sierra", bad, path, data_root=root, code=1)
    assert first["error"]
    assert second["stored"] == 3


def test_a_kill_at_any_moment_loses_and_doubles_nothing(root: Path, path: Path) -> None:
    half = 60_000 if every_test() else 30_000
    trades = [
        *run_of(chicago_us("20261118", 17), half, 200_000),
        *run_of(chicago_us("20261119", 17), half, 200_000),
    ]
    write_scid(path, trades)
    killed_rows = []
    for wanted in (1, half * 2 // 3, half * 7 // 6, half * 11 // 6):
        with running("import", "sierra", path, *ES, data_root=root) as process:
            deadline = time.monotonic() + 60
            while process.poll() is None and time.monotonic() < deadline and _rows_so_far(root) < wanted:
                time.sleep(0.02)  # each look counts rows
            process.kill()
            process.wait(timeout=30)
        killed_rows.append(_rows_so_far(root))
    assert any(0 < rows < len(trades) for rows in killed_rows), killed_rows
    report = tickctl_json("import", "sierra", path, *ES, data_root=root)[0]
    assert report["stored"] + report["already_there"] == len(trades)
    stored = Counter(row[0] for day in ("20261119", "20261120") for row in rows_of(root, day, "seq"))
    assert stored == Counter(trade.us for trade in trades)


def _rows_so_far(root: Path) -> int:
    try:
        return total_rows(root)
    except Exception:
        return 0


def test_a_stop_says_what_is_left_and_the_file_is_untouched(root: Path, path: Path) -> None:
    write_scid(path, run_of(chicago_us("20261119", 17), 200_000, 200_000))
    before = (path.stat().st_mtime_ns, path.read_bytes())
    command = [BIN / "hk-tickctl", "import", "sierra", path, *ES, "--data-root", root]
    process = subprocess.Popen(
        command, env=clean_env(path.parent / "home"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while _rows_so_far(root) == 0 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    if process.returncode:  # else it was faster
        assert process.returncode == 128 + signal.SIGTERM
        assert "the same command goes on with it" in errors
    assert tickctl_json("import", "sierra", path, *ES, data_root=root)[0]["records"] == 200_000
    assert total_rows(root) == 200_000
    assert (path.stat().st_mtime_ns, path.read_bytes()) == before
    assert os.access(path, os.R_OK)


def test_a_disk_that_fills_up_leaves_the_report_of_the_files_before(root: Path, path: Path) -> None:
    """Of the first file all is told; the second one's day cannot be written."""
    write_scid(path, run_of(chicago_us("20261119", 9), 20))
    second = write_scid(path.parent / "NQZ26_FUT_CME.scid", run_of(chicago_us("20261118", 9), 20))
    root.mkdir(parents=True, exist_ok=True)
    (root / "20261118.db").mkdir()
    done = tickctl("import", "sierra", path, second, data_root=root)
    assert done.returncode == 1, done.stderr
    assert "stored: 20" in done.stdout
    assert "not imported" in done.stdout.partition("CME.NQZ26")[2]
    assert "the same command goes on" in done.stdout


def test_trades_that_come_before_stored_ones_are_stored_while_those_are_read(root: Path, path: Path) -> None:
    """The day file is closed when the reading begins and written to before it ends."""
    late = run_of(chicago_us("20261119", 10), 30_000, 20_000)
    write_scid(path, late)
    tickctl("import", "sierra", path, data_root=root)
    write_scid(path, [*run_of(chicago_us("20261119", 9), 30_000, 20_000), *late])
    (told,) = tickctl_json("import", "sierra", path, data_root=root)
    assert (told["stored"], told["already_there"], told["equal_days"], told["error"]) == (30_000, 30_000, 1, None)
    assert not list(root.glob("*.db-*")), "nothing is left beside the day file"

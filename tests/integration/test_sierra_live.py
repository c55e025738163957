"""The recorder follows growing files of Sierra Chart: the built program, killed, on files cut and made anew."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

from hk_tick_collector.core.errors import StoreError
from hk_tick_collector.store import reader
from tests.harness import BIN, Process, clean_env, ended, wait_until
from tests.scid_files import Trade, append, bar, run_of, scid_bytes, write_scid

RECORDER = BIN / "hk-tick-collector"
DAY_US = 86_400_000_000
# Some days ago, at 15:00 UTC: in the middle of a session whatever the season.
BEGIN_US = (time.time_ns() // 86_400_000_000_000 - 6) * DAY_US + 15 * 3_600_000_000
NAME = "ESZ26_FUT_CME.scid"


def settings(tmp_path: Path, **more: object) -> dict[str, str]:
    values = {
        "SOURCE": "sierra", "MARKET": "CME", "SIERRA_DIR": tmp_path / "sierra", "DATA_ROOT": tmp_path / "CME",
        "FUTU_SYMBOLS": "CME.ESZ26", "HEALTH_INTERVAL_SEC": 0.5, "CHECK_INTERVAL_SEC": 0.2, **more,
    }  # fmt: skip
    return clean_env(tmp_path / "home", **values)


def recorder(tmp_path: Path, **more: object) -> Process:
    return Process([RECORDER], settings(tmp_path, **more))


def stored(tmp_path: Path) -> list[tuple[int, float, int]]:
    stored_rows: list[tuple[int, float, int]] = []
    for db in sorted((tmp_path / "CME").glob("2*.db")):
        # A file that is just being made has no table.
        with closing(sqlite3.connect(f"file:{db}?mode=ro", uri=True)) as conn, suppress(sqlite3.OperationalError):
            stored_rows += conn.execute("SELECT seq, price, volume FROM ticks ORDER BY seq")
    return stored_rows


def told(trades: Sequence[Trade]) -> list[tuple[int, float, int]]:
    return [(trade.us, trade.price, trade.volume) for trade in trades]


def until_stored(tmp_path: Path, trades: Sequence[Trade]) -> None:
    wait_until(lambda: stored(tmp_path) == told(trades), f"{len(trades)} trades stored")


def test_a_growing_file_is_stored_once_whatever_happens_to_both(tmp_path: Path) -> None:
    directory = tmp_path / "sierra"
    directory.mkdir()
    trades = run_of(BEGIN_US, 2000, 1000)
    path = write_scid(directory / NAME, trades[:1200])
    first = recorder(tmp_path, FUTU_SYMBOLS="CME.ESZ26,CME.NQZ26")
    with ended(first):
        until_stored(tmp_path, trades[:1200])
        first.wait_for(r"sierra_symbol_refused symbol=CME.NQZ26 reason=.there is no file NQZ26_FUT_CME.scid")
        record = trades[1200].pack()
        with path.open("ab") as file:
            file.write(record[:17])  # a write in progress
        append_rest = record[17:] + b"".join(trade.pack() for trade in trades[1201:1300])
        with path.open("ab") as file:
            file.write(append_rest)
        until_stored(tmp_path, trades[:1300])
        assert not first.find("OpenD")
        first.signal(signal.SIGKILL)
        first.wait()
    append(path, trades[1300:1500])
    second = recorder(tmp_path)
    with ended(second):
        until_stored(tmp_path, trades[:1500])
        # After a reconnect Sierra Chart has put what it missed in order: a new file, with other microseconds.
        missed = [Trade(BEGIN_US - 2_000_000 + number, volume=77) for number in range(5)]
        renumbered = [Trade(t.us + 3, t.price, t.volume, t.side, t.bid, t.ask) for t in trades[:100]]
        anew = directory / "anew.tmp"
        anew.write_bytes(scid_bytes([*missed, *renumbered, *trades[100:1500]]))
        anew.rename(path)
        until_stored(tmp_path, [*missed, *trades[:1500]])
        path.write_bytes(path.read_bytes()[: 56 + 40 * 700])  # cut
        path.write_bytes(scid_bytes([*missed, *trades]))
        until_stored(tmp_path, [*missed, *trades])
        assert second.stop() == 0
    assert not second.find("Traceback")


def test_a_day_that_equals_its_file_at_two_readings_is_proven(tmp_path: Path) -> None:
    directory = tmp_path / "sierra"
    directory.mkdir()
    trades = run_of(BEGIN_US, 300, 1000)
    path = write_scid(directory / NAME, trades)

    def states() -> list[tuple[str, str | None]]:
        with suppress(StoreError):  # a file that is just being made
            files = sorted((tmp_path / "CME").glob("2*.db"))
            return [(row.state, row.reason) for db in files for row in reader.coverage(db)]
        return []

    with ended(first := recorder(tmp_path)):
        first.wait_for("sierra_day_compared symbol=CME.ESZ26")
        wait_until(lambda: any("not read again" in (reason or "") for _, reason in states()[:1]), "compared once")
        assert first.stop() == 0
    append(path, run_of(BEGIN_US + DAY_US, 10))  # Sierra Chart has been at work since
    with ended(second := recorder(tmp_path)):
        wait_until(lambda: [state for state, _ in states()[:1]] == ["proven"], "confirmed")
        assert second.stop() == 0
    assert len(stored(tmp_path)) == 310


def test_bars_and_a_directory_that_is_gone_are_sentences(tmp_path: Path) -> None:
    directory = tmp_path / "sierra"
    with ended(gone := recorder(tmp_path)):
        gone.wait_for("sierra_connect_failed dir=.*cannot be read: No such file.*SIERRA_DIR mounted")
        directory.mkdir()
        trades = run_of(BEGIN_US, 40, 1000)
        path = write_scid(directory / NAME, [bar(BEGIN_US)])
        write_scid(directory / "NQZ26_FUT_CME.scid", trades)
        gone.wait_for(r"sierra_symbol_refused symbol=CME.ESZ26 reason=.*holds bars, not trades, on 2.*1 Tick")
        assert stored(tmp_path) == []
        (directory / "anew.tmp").write_bytes(scid_bytes(trades))
        (directory / "anew.tmp").rename(path)
        until_stored(tmp_path, trades)
        told_by = subprocess.run(
            [BIN / "hk-tickctl", "status"], env=settings(tmp_path), capture_output=True, text=True, check=False
        )
        assert "Sierra Chart" in told_by.stdout
        assert "OpenD" not in told_by.stdout
        doctor = subprocess.run(
            [BIN / "hk-tickctl", "doctor"], env=settings(tmp_path), capture_output=True, text=True, check=False
        )
        assert "sierra_files" in doctor.stdout
        assert "OpenD" not in doctor.stdout
        assert gone.stop() == 0
    refused = Process([RECORDER, "--check-config"], settings(tmp_path, SIERRA_DIR=""))
    assert refused.wait() == 78
    assert refused.find("SOURCE=sierra needs SIERRA_DIR")

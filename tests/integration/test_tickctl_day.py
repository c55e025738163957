"""The built ``hk-tickctl day`` and ``gaps``: what they print and write, and what they end with."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hk_tick_collector.core.facts import HeadProven, Verified
from hk_tick_collector.market.hk.sessions import day_start_ms
from hk_tick_collector.opend_sim.instruments import default_symbols
from hk_tick_collector.store.writer import DayFileWriter
from tests.harness import BIN, Recorder, Simulator, clean_env, ended, is_over, wait_until
from tests.tickctl import day_ticks, record_day, tickctl, tickctl_json
from tests.ticks import DAY
from tests.unit.test_certificate import archive

BEFORE = "20261118"


def reports(root: Path) -> set[str]:
    directory = root / "_reports"
    return {entry.name for entry in directory.iterdir()} if directory.is_dir() else set()


def test_a_complete_day(tmp_path: Path) -> None:
    record_day(tmp_path, count=200)
    done = tickctl("day", DAY, data_root=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{DAY} is complete: 600 ticks of 3 symbols")
    assert "\nGrade A: " in done.stdout
    assert "3 symbols are proven" in done.stdout
    assert f"written: {tmp_path}/_reports/{DAY}.json" in done.stderr
    assert reports(tmp_path) == {f"{DAY}.json"}
    assert json.loads((tmp_path / "_reports" / f"{DAY}.json").read_text())["grade"] == "A"


def test_a_day_that_misses_ticks_shows_the_worst_symbols_first(tmp_path: Path) -> None:
    record_day(tmp_path, count=200, lost=(50, 51, 120))
    done = tickctl("day", DAY, "--recount", data_root=tmp_path)
    assert done.returncode == 1
    assert "misses 3 of 600 ticks, in 1 of 3 symbols" in done.stdout
    table = done.stdout[done.stdout.index("symbol    ") :].splitlines()
    assert table[1].split()[:5] == ["HK.00005", "missing", "197", "200", "3"]
    assert "HK.00700" not in done.stdout, "the proven ones only with --all"
    assert "types: " in done.stdout
    assert reports(tmp_path) == {f"{DAY}.json", f"{DAY}.html", "index.html"}
    assert f"all days: {tmp_path}/_reports/index.html" in done.stderr
    shown = tickctl("day", DAY, "--all", "--no-write", data_root=tmp_path).stdout
    assert shown.index("HK.00005") < shown.index("HK.00700")


def test_one_symbol_is_judged_alone(tmp_path: Path) -> None:
    record_day(tmp_path, count=200, lost=(50,))
    assert tickctl("day", "--symbol", "5", data_root=tmp_path).returncode == 1
    fine = tickctl_json("day", "--symbol", "700,HK.09988", data_root=tmp_path, code=0)
    assert [verdict["symbol"] for verdict in fine["symbols"]] == ["HK.00700", "HK.09988"]
    assert fine["missing_ticks"] == 1, "the totals stay the day's"
    written = json.loads((tmp_path / "_reports" / f"{DAY}.json").read_text())
    assert len(written["symbols"]) == 3, "the report is of the whole day"
    unknown = tickctl("day", "--symbol", "1", data_root=tmp_path)
    assert (unknown.returncode, unknown.stdout) == (3, "")
    assert "HK.00001: nothing of it is stored on 20261120" in unknown.stderr


def test_unproven_alone_is_no_failure_and_is_said(tmp_path: Path) -> None:
    record_day(tmp_path, count=200, proven=False)
    done = tickctl("day", data_root=tmp_path)
    assert done.returncode == 0
    assert "is not proven to be complete" in done.stdout
    assert "not yet confirmed by a pull" in done.stdout
    assert "Grade C" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("20261119",), 3, "no ticks of 20261119"),
        (("29991231",), 3, "lies in the future"),
        (("2026-13-01",), 2, "is not a day"),
        (("--symbol", "nothing"), 2, "not an HK stock code"),
        (("--limit", "-1"), 2, "--limit"),
    ],
)
def test_wrong_questions(tmp_path: Path, arguments: tuple[str, ...], code: int, words: str) -> None:
    record_day(tmp_path, count=10)
    done = tickctl("day", *arguments, data_root=tmp_path)
    assert (done.returncode, done.stdout) == (code, "")
    assert words.lower() in done.stderr.lower()
    assert "Traceback" not in done.stderr
    assert reports(tmp_path) == set()


def test_no_days_at_all(tmp_path: Path) -> None:
    assert tickctl("day", data_root=tmp_path).returncode == 3
    assert tickctl("gaps", data_root=tmp_path).returncode == 3
    assert tickctl("gaps", "--days", "20261101..20261105", data_root=tmp_path).returncode == 3


def test_a_damaged_file(tmp_path: Path) -> None:
    (tmp_path / f"{DAY}.db").write_bytes(b"no database" * 1000)
    for arguments in ((), ("--recount",)):
        done = tickctl("day", *arguments, data_root=tmp_path)
        assert done.returncode == 1
        assert f"{DAY} cannot be read: " in done.stdout
        assert "Traceback" not in done.stderr
    gaps = tickctl("gaps", data_root=tmp_path)
    assert gaps.returncode == 1
    assert str(tmp_path / f"{DAY}.db") in gaps.stderr


def test_the_file_of_a_newer_recorder_keeps_the_certificate_that_it_has(tmp_path: Path) -> None:
    """After a rollback the older program knows nothing of it, which is no grade."""
    record_day(tmp_path, count=20)
    assert tickctl("day", data_root=tmp_path).returncode == 0
    (report,) = reports(tmp_path)
    before = (tmp_path / "_reports" / report).read_bytes()
    with contextlib.closing(sqlite3.connect(tmp_path / f"{DAY}.db")) as conn:
        conn.execute("PRAGMA user_version = 99")
    for arguments in (("day",), ("day", "--recount"), ("eod",)):
        done = tickctl(*arguments, data_root=tmp_path)
        assert done.returncode == 1, (arguments, done)
        assert "was made by a newer recorder (schema version 99" in done.stdout + done.stderr
        assert "Grade" not in done.stdout
        assert (tmp_path / "_reports" / report).read_bytes() == before, arguments


def test_rows_that_contradict_the_notes(tmp_path: Path) -> None:
    record_day(tmp_path, count=200)
    with contextlib.closing(sqlite3.connect(tmp_path / f"{DAY}.db")) as conn, conn:
        conn.execute("DELETE FROM ticks WHERE symbol = 'HK.00700' AND seq & 0xFFFFFFFF = 77")
    noted = tickctl("day", data_root=tmp_path)
    assert noted.returncode == 1
    assert "Problem: coverage counts 600 ticks, there are 599 rows" in noted.stdout
    done = tickctl("day", "--recount", data_root=tmp_path)
    assert done.returncode == 1
    assert "Problem: HK.00700: coverage counts 200 ticks, there are 199 rows" in done.stdout
    assert "Grade F" in done.stdout
    assert tickctl("day", "--recount", "--symbol", "5", "--no-write", data_root=tmp_path).returncode == 0


def test_where_nothing_may_be_written_it_is_said_and_all_is_printed(tmp_path: Path) -> None:
    record_day(tmp_path, count=10)
    (tmp_path / "_reports").write_text("a file stands in the way")
    done = tickctl("day", data_root=tmp_path)
    assert done.returncode == 1
    assert "is complete" in done.stdout
    assert "the report cannot be written: " in done.stderr
    assert tickctl("day", "--no-write", data_root=tmp_path).returncode == 0


def test_a_certificate_of_all_rows_outlives_a_quick_look(tmp_path: Path) -> None:
    record_day(tmp_path, count=200)
    tickctl("day", "--html", data_root=tmp_path)
    path = tmp_path / "_reports" / f"{DAY}.json"
    assert json.loads(path.read_text())["recounted"] is True
    done = tickctl("day", data_root=tmp_path)
    assert "stays as it is" in done.stderr
    assert json.loads(path.read_text())["recounted"] is True
    writer = DayFileWriter(tmp_path)
    writer.write(day_ticks("HK.00005", 3, first=201))
    writer.close()
    tickctl("day", data_root=tmp_path)
    assert json.loads(path.read_text())["recounted"] is False, "the day has changed: an old word on it is worth less"


def comparable(certificate: dict[str, Any]) -> dict[str, Any]:
    """All but which file was read, and when."""
    sentence = certificate["sentence"].partition(" were read again at ")[0]
    of_its_own = {"source": "", "source_changed_ns": 0, "made_at_ms": 0, "rows_read_at_ms": 0, "sentence": sentence}
    return {**certificate, **of_its_own}


def test_an_archived_day_is_as_good(tmp_path: Path) -> None:
    record_day(tmp_path, count=200, lost=(9,))
    live = tickctl_json("day", DAY, "--recount", data_root=tmp_path, code=1)
    live_gaps = tickctl_json("gaps", data_root=tmp_path, code=1)
    archive(tmp_path)
    assert comparable(tickctl_json("day", DAY, "--recount", data_root=tmp_path, code=1)) == comparable(live)
    assert tickctl_json("gaps", data_root=tmp_path, code=1) == live_gaps


def test_gaps_of_a_day_of_days_and_of_symbols(tmp_path: Path) -> None:
    record_day(tmp_path, BEFORE, count=100, lost=(10, 40))
    record_day(tmp_path, count=100, lost=(10,))
    last = tickctl("gaps", data_root=tmp_path)
    assert last.returncode == 1
    assert last.stdout.splitlines()[1].split()[:2] == [DAY, "HK.00005"]
    assert "1 gap with 1 missing tick" in last.stdout
    both = tickctl_json("gaps", "--days", f"{BEFORE}..", data_root=tmp_path, code=1)
    assert [(gap["trading_day"], gap["counters"], gap["missing_ticks"]) for gap in both] == [
        (BEFORE, "10-10", 1),
        (BEFORE, "40-40", 1),
        (DAY, "10-10", 1),
    ]
    other = tickctl("gaps", "--days", f"..{DAY}", "--symbol", "700", data_root=tmp_path)
    assert (other.returncode, other.stdout) == (0, f"no open gaps on 2 days from {BEFORE} to {DAY} in HK.00700\n")


def test_a_gap_that_was_filled_is_history(tmp_path: Path) -> None:
    record_day(tmp_path, count=100, lost=(10, 40))
    writer = DayFileWriter(tmp_path)
    ticks = [tick for tick in day_ticks("HK.00005", 100) if (tick.seq or 0) & 0xFFFF == 10]
    writer.write(ticks)
    writer.close()
    (closed,) = tickctl_json("gaps", "--state", "closed", data_root=tmp_path, code=1)
    assert (closed["counters"], closed["state"], closed["missing_ticks"]) == ("10-10", "closed", 0)
    every = tickctl("gaps", "--state", "all", data_root=tmp_path)
    assert [line.split()[7] for line in every.stdout.splitlines()[1:3]] == ["closed", "open"], every.stdout
    writer = DayFileWriter(tmp_path)
    writer.write([tick for tick in day_ticks("HK.00005", 100) if (tick.seq or 0) & 0xFFFF == 40])
    writer.close()
    assert tickctl("gaps", data_root=tmp_path).returncode == 0


def test_times_of_a_gap_are_hong_kongs(tmp_path: Path) -> None:
    morning_ms = day_start_ms(DAY) + 10 * 3_600_000
    ticks = day_ticks("HK.00005", 3)
    ticks = [tick._replace(ts_ms=morning_ms + 1500 * n) for n, tick in enumerate(ticks)]
    writer = DayFileWriter(tmp_path)
    facts = [HeadProven("HK.00005", DAY, 1), Verified("HK.00005", DAY, 3, morning_ms)]
    writer.write([ticks[0], ticks[2]], facts)
    writer.close()
    done = tickctl("gaps", data_root=tmp_path)
    assert done.returncode == 1
    assert "10:00:00.000  10:00:03.000" in done.stdout
    assert "not stored, and not given up either" in done.stdout


def test_beside_a_recorder_at_work(tmp_path: Path) -> None:
    root = tmp_path / "data"
    symbols = ",".join(default_symbols(30))
    simulator = Simulator(tmp_path / "sim", "--symbols", symbols, "--always-open", "--rate", 1000)
    recorder = Recorder(root, simulator.port, symbols)
    with ended(recorder, simulator):
        recorder.wait_for("backfill_done")
        wait_until(lambda: recorder.rows() >= 3000, "3,000 rows")
        stored = []
        for arguments in ((), ("--recount",), ("--recount",)):
            done = tickctl("day", *arguments, "--json", data_root=root)
            report = json.loads(done.stdout)
            assert report["problems"] == [], "what is written meanwhile contradicts nothing"
            assert report["so_far"] is not is_over(report["trading_day"])
            assert (" so far (" in report["sentence"]) is report["so_far"]
            may_miss = report["missing_symbols"] or any(row["missing_at_most"] is not None for row in report["symbols"])
            assert done.returncode == (1 if may_miss else 0), done.stderr
            stored.append(report["stored_ticks"])
        assert stored[0] < stored[1] < stored[2], "the recorder went on"
        assert not any("busy" in line and "busy_errors=0" not in line for line in recorder.lines)
        assert recorder.stop() == 0


@pytest.mark.parametrize("command", ["day", "day --json", "day --html", "gaps", "archive", "export csv -o out"])
def test_nobody_reads_what_is_printed(tmp_path: Path, command: str) -> None:
    """As with ``| head -1``: the work is done all the same, and the exit code is that of any program's broken pipe."""
    record_day(tmp_path, count=20, lost=(7,))
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [str(BIN / "hk-tickctl"), *command.split(), "--data-root", str(tmp_path)], cwd=tmp_path, stdout=writer,
            stderr=subprocess.PIPE, text=True, timeout=120, check=False, env=clean_env(tmp_path / "home"),
        )  # fmt: skip
    finally:
        os.close(writer)
    assert (done.returncode, "Traceback" in done.stderr, "Error" in done.stderr) == (141, False, False), done.stderr
    if command.startswith("day"):
        assert reports(tmp_path) == {f"{DAY}.json", f"{DAY}.html", "index.html"} - (
            {f"{DAY}.html", "index.html"} if "html" not in command else set()
        )

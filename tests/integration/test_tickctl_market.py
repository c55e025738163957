"""A data root of another market, whose day begins in the evening and whose clocks change, through the built command."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from hk_tick_collector.market.cme import CME
from hk_tick_collector.store.data_root import claim
from tests.scid_files import run_of, write_scid
from tests.tickctl import record_day, tickctl, tickctl_json

SYMBOL, DAYS = "CME.ESZ26", ("20261030", "20261102")  # on both sides of the night in which the clocks go back
ROWS = 300


def chicago_us(day: str, hour: float) -> int:
    return CME.zone.at_ms(day, int(hour * 3_600_000)) * 1000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "ESZ26_FUT_CME.scid"
    trades = [
        *run_of(chicago_us("20261029", 17), 100),
        *run_of(chicago_us("20261030", 9), ROWS - 100),
        *run_of(chicago_us("20261101", 17), 100),
        *run_of(chicago_us("20261102", 9), ROWS - 100),
    ]
    write_scid(path, trades)
    report = tickctl_json("import", "sierra", path, "--tick-size", "0.25", data_root=tmp_path / "data")[0]
    assert (report["stored"], report["first_day"], report["last_day"]) == (2 * ROWS, *DAYS)
    return tmp_path / "data"


def first_time(root: Path, *options: object) -> str:
    done = tickctl("ticks", SYMBOL, "--columns", "ts_ms", *options, data_root=root)
    assert done.returncode == 0, done.stderr
    head, first, *_ = done.stdout.splitlines()
    return first + head.removeprefix("ts_ms").rstrip()


def test_times_are_those_of_the_market_and_say_so(root: Path) -> None:
    at = ("--from", "09:00", "--to", "09:01")
    before, after = (("--day", day, *at) for day in DAYS)
    assert first_time(root, *after) == "2026-11-02 09:00:00.000 (CT)"
    assert first_time(root, *after, "--time", "hk") == "2026-11-02 23:00:00.000 (HKT)"
    assert first_time(root, *before, "--time", "hk") == "2026-10-30 22:00:00.000 (HKT)"
    as_csv = ("--format", "csv", "--time")
    assert first_time(root, *before, *as_csv, "market") == "2026-10-30T09:00:00.000-05:00"
    assert first_time(root, *after, *as_csv, "market") == "2026-11-02T09:00:00.000-06:00"
    assert first_time(root, *after, *as_csv, "hk") == "2026-11-02T23:00:00.000+08:00"
    assert first_time(root, *after, *as_csv, "utc") == "2026-11-02T15:00:00.000Z"
    assert first_time(root, "--day", DAYS[1]) == "2026-11-01 17:00:00.000 (CT)", "the day begins on Sunday evening"
    evening = ("--day", DAYS[1], "--from", "17:00", "--to", "17:01")
    assert first_time(root, *evening) == "2026-11-01 17:00:00.000 (CT)", "a time of that evening"
    whole = ("--day", DAYS[1], "--from", "17:00", "--to", "17:00")
    assert len(tickctl_json("ticks", SYMBOL, *whole, data_root=root)) == ROWS


def test_every_reading_command_reads_it(root: Path) -> None:
    certificate = tickctl_json("day", DAYS[1], data_root=root, code=0)
    assert (certificate["market"], certificate["stored_ticks"]) == ("CME", ROWS)
    assert tickctl_json("day", DAYS[1], "--recount", data_root=root)["stored_ticks"] == ROWS
    assert tickctl_json("gaps", "--days", "..", data_root=root) == []
    assert len(tickctl_json("ticks", SYMBOL, "--days", "..", data_root=root)) == 2 * ROWS
    bars = tickctl("bars", SYMBOL, "--interval", "1h", "--days", "..", data_root=root)
    assert bars.returncode == 0, bars.stderr
    (leader,) = tickctl_json("top", "--days", "..", data_root=root)
    assert (leader["symbol"], leader["ticks"], leader["currency"]) == (SYMBOL, 2 * ROWS, "USD")
    sql = "SELECT hour(ts_ms) AS hour, market, count(*) AS ticks FROM ticks GROUP BY ALL ORDER BY ALL"
    rows = tickctl_json("query", sql, "--days", DAYS[1], data_root=root)
    assert rows == [
        {"hour": 9, "market": "CME", "ticks": ROWS - 100},
        {"hour": 17, "market": "CME", "ticks": 100},
    ]


def test_an_export_has_the_market_in_its_path(root: Path, tmp_path: Path) -> None:
    assert tickctl("export", "parquet", "--output", tmp_path / "tree", data_root=root).returncode == 0
    assert (tmp_path / "tree/market=CME" / f"day={DAYS[0]}" / "ticks.parquet").exists()
    assert tickctl("export", "csv", "--output", tmp_path / "csv", data_root=root).returncode == 0
    (first, _) = sorted((tmp_path / "csv").iterdir())
    rows = list(csv.DictReader(io.StringIO(first.read_text())))
    assert ({row["market"] for row in rows}, len(rows)) == ({"CME"}, ROWS)


def test_a_day_is_archived_verified_read_and_restored(root: Path, tmp_path: Path) -> None:
    """With the format that is the default, from the day file to an archive that is all there is, and back."""
    before = {day: tickctl_json("ticks", SYMBOL, "--days", day, data_root=root) for day in DAYS}
    for day in DAYS:
        assert tickctl_json("archive", day, data_root=root)
        assert (root / f"_archive/ticks/market=CME/day={day}/ticks.parquet").exists()
        (root / f"{day}.db").unlink()
    checks = tickctl_json("verify", "..", data_root=root)
    assert [(row["fine"], row["rows"]) for row in checks] == [(True, ROWS)] * 2
    for day in DAYS:
        assert tickctl_json("ticks", SYMBOL, "--days", day, data_root=root) == before[day]
    sql = "SELECT market, count(*) AS ticks FROM ticks GROUP BY ALL"
    assert tickctl_json("query", sql, data_root=root) == [{"market": "CME", "ticks": 2 * ROWS}]
    assert tickctl_json("day", DAYS[0], data_root=root)["stored_ticks"] == ROWS
    for day in DAYS:
        tickctl_json("restore", day, data_root=root)
        assert tickctl_json("ticks", SYMBOL, "--days", day, data_root=root) == before[day]
        assert tickctl_json("verify", day, data_root=root)[0]["fine"]
    other = tmp_path / "hk"
    record_day(other, count=10)
    claim(other, "HK")
    done = tickctl("restore", DAYS[0], "--archive-root", root / "_archive", data_root=other)
    assert (done.returncode, "holds days of market HK" in done.stderr) == (1, True), done.stderr
    assert not (other / f"{DAYS[0]}.db").exists()


def test_the_end_of_the_day_archives_it(root: Path) -> None:
    done = tickctl("eod", data_root=root)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    for day in DAYS:
        assert (root / f"_archive/ticks/market=CME/day={day}/ticks.parquet").exists(), done.stdout + done.stderr
    assert all(row["fine"] for row in tickctl_json("verify", "..", data_root=root))

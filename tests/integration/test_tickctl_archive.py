"""The built hk-tickctl: archive, verify, restore, retain and eod, on days recorded by the recorder's writer and by the
recorder itself beside a simulated OpenD."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hk_tick_collector.archive import pack
from hk_tick_collector.days.manifest import manifest_path, parquet_path
from hk_tick_collector.ingest.spill import SpillQueue
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hk import HK
from hk_tick_collector.market.hk.sessions import hk_date
from hk_tick_collector.store.connect import ROW_COLUMNS
from hk_tick_collector.store.writer import DayFileWriter
from tests.forgery import forge_price
from tests.harness import Recorder, Simulator, ended, wait_until
from tests.tickctl import day_ticks, record_day, tickctl, tickctl_json

DAYS = ("20251117", "20251118", "20251119", "20251120")
DAY = DAYS[-1]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    root.mkdir()
    return root


def rows(db: Path) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(f"file:{db}?mode=ro", uri=True)) as conn:
        return sorted(conn.execute(f"SELECT {', '.join(ROW_COLUMNS)} FROM ticks"), key=repr)


def now_ms() -> int:
    return int(datetime.now(UTC).timestamp() * 1000)


def test_a_week_from_archive_to_retention_and_back(data: Path) -> None:
    for day in DAYS:
        record_day(data, day, count=300, lost=(7,) if day == DAY else ())
    original = rows(data / f"{DAYS[0]}.db")
    done = tickctl_json("archive", data_root=data)
    assert [(row["trading_day"], row["action"], row["verified"]) for row in done] == [
        (day, "archived", True) for day in DAYS
    ]
    assert tickctl("archive", data_root=data).stdout == "nothing to do: every day that is over is archived\n"
    assert [row["action"] for row in tickctl_json("archive", f"..{DAYS[1]}", data_root=data)] == ["unchanged"] * 2
    assert all(row["fine"] and row["compared_with"] for row in tickctl_json("verify", data_root=data))

    planned = tickctl_json("retain", "--keep-days", 2, "--dry-run", data_root=data)
    assert [(row["trading_day"], row["action"]) for row in planned] == [(day, "would delete") for day in DAYS[:2]]
    assert [row["action"] for row in tickctl_json("retain", "--keep-days", 2, data_root=data)] == ["deleted"] * 2
    assert sorted(path.name for path in data.glob("*.db")) == [f"{day}.db" for day in DAYS[2:]]
    (check,) = tickctl_json("verify", DAYS[0], data_root=data)
    assert (check["fine"], check["compared_with"]) == (True, None)
    assert "its day file is gone" in tickctl("archive", DAYS[0], data_root=data).stdout

    back = tickctl_json("restore", DAYS[0], data_root=data)
    assert (back["action"], back["rows"]) == ("restored", len(original))
    assert rows(data / f"{DAYS[0]}.db") == original
    assert "holds all ticks of the archive already" in tickctl("restore", DAYS[0], data_root=data).stdout
    assert tickctl("restore", DAYS[1], "--into", data.parent / "elsewhere", data_root=data).returncode == 0
    assert (data.parent / "elsewhere" / f"{DAYS[1]}.db").exists()


def test_the_end_of_the_day_while_the_recorder_holds_the_file_open(data: Path) -> None:
    ticks = day_ticks("HK.00700", 120, DAY)
    writer = DayFileWriter(data)
    writer.write(ticks[:100])
    first = tickctl_json("eod", data_root=data)
    assert [(day["trading_day"], day["rows"]) for day in first["days"]] == [(DAY, 100)]
    assert tickctl_json("eod", data_root=data)["days"] == []
    writer.write(ticks[100:])  # late ticks
    late = tickctl_json("eod", data_root=data)
    assert [(day["rows"], day["archive"].split(",")[0]) for day in late["days"]] == [(120, "archived anew")]
    writer.close()  # its checkpoint changes the file, not what it holds
    tickctl_json("eod", data_root=data)
    assert tickctl_json("verify", data_root=data)[0]["fine"]
    assert "nothing is due" in tickctl("eod", data_root=data).stdout


def test_the_end_of_the_day_of_a_week_that_was_missed(data: Path) -> None:
    for day in DAYS:
        record_day(data, day, count=50, lost=(9,) if day == DAYS[1] else ())
    (data / f"{DAYS[2]}.db").write_bytes(b"no database" * 1000)
    settings = {"FUTU_SYMBOLS": "HK.00700", "DATA_ROOT": data, "RETAIN_DAYS": 2, "ARCHIVE_FORMAT": "both"}
    result = tickctl_json("eod", code=1, **settings)
    assert [(day["trading_day"], day["complete"], not day["problems"]) for day in result["days"]] == [
        (DAYS[0], True, True),
        (DAYS[1], False, True),  # a tick is missing: archived all the same
        (DAYS[2], False, False),
        (DAYS[3], True, True),
    ]
    assert "not a database" in " ".join(result["days"][2]["problems"])
    assert [(retained["trading_day"], retained["action"]) for retained in result["retention"]] == [
        (DAYS[0], "deleted"),
        (DAYS[1], "deleted"),
    ]
    for day in DAYS:
        assert json.loads((data / "_reports" / f"{day}.json").read_text())["trading_day"] == day
    archive = data / "_archive"
    assert [path.name for path in sorted((archive / "sqlite").iterdir())] == [f"{DAYS[n]}.db.zst" for n in (0, 1, 3)]
    again = tickctl_json("eod", code=1, **settings)
    assert [day["trading_day"] for day in again["days"]] == [DAYS[2]]
    (data / f"{DAYS[2]}.db").unlink()
    assert tickctl_json("eod", **settings)["fine"]
    # What is archived alone has its certificate from the manifest.
    assert tickctl_json("day", DAYS[1], "--no-write", code=1, **settings)["missing_ticks"] == 1


@pytest.mark.parametrize("words", [("archive",), ("verify",), ("retain", "--keep-days", 1), ("eod",)])
def test_without_any_day(data: Path, words: tuple[object, ...]) -> None:
    done = tickctl(*words, data_root=data)
    assert done.returncode == 3
    assert "no day is recorded" in done.stderr


def test_bad_input(data: Path) -> None:
    record_day(data, DAY, count=20)
    for words, code, text in (
        (("archive", "20990105"), 3, "lies in the future"),
        (("archive", "20251119"), 3, "no ticks of 20251119"),
        (("archive", "tomorrow"), 2, "is not a day"),
        (("archive", "--format", "tar"), 2, "Invalid value"),
        (("verify",), 3, "no day is archived"),
        (("restore", DAY), 3, "is not archived"),
        (("restore",), 2, "Missing argument"),
        (("retain",), 2, "give --keep-days N"),
        (("retain", "--keep-days", "0"), 2, "Invalid value"),
    ):
        done = tickctl(*words, data_root=data)
        assert (done.returncode, text in done.stderr) == (code, True), (words, done.stdout, done.stderr)


def test_verify_reads_named_days_that_are_not_archived_in_their_files(data: Path) -> None:
    for day in DAYS[:2]:
        record_day(data, day, count=50)
    assert tickctl("archive", DAYS[0], data_root=data).returncode == 0
    assert "150 ticks of 3 symbols in its day file; not archived" in tickctl("verify", DAYS[1], data_root=data).stdout
    verified = tickctl_json("verify", f"{DAYS[0]}..", data_root=data)
    assert [(row["trading_day"], row["fine"], row["rows"], bool(row["formats"])) for row in verified] == [
        (DAYS[0], True, 150, True), (DAYS[1], True, 150, False),
    ]  # fmt: skip
    with closing(sqlite3.connect(data / f"{DAYS[1]}.db")) as conn, conn:
        conn.execute("DELETE FROM ticks WHERE rowid = 7")
    (wrong,) = tickctl_json("verify", DAYS[1], data_root=data, code=1)
    assert re.search(r"coverage counts 50 ticks of HK\.\d+, there are 49 rows", wrong["problems"][0])
    with (data / f"{DAYS[1]}.db").open("r+b") as file:
        file.seek(8192)
        file.write(os.urandom(8192))
    (damaged,) = tickctl_json("verify", DAYS[1], data_root=data, code=1)
    assert not damaged["fine"]
    assert [row["trading_day"] for row in tickctl_json("verify", data_root=data)] == [DAYS[0]], "as it was"


def test_a_day_whose_ticks_wait_in_the_spill(data: Path) -> None:
    record_day(data, DAY, count=20)
    spill = SpillQueue(data)
    spill.open()
    spill.append(day_ticks("HK.00700", 3, DAY, first=21))
    spill.close()
    done = tickctl("archive", DAY, data_root=data)
    assert done.returncode == 1
    assert "wait in" in done.stdout
    assert not manifest_path(data / "_archive", DAY).exists()
    result = tickctl_json("eod", data_root=data, code=1)
    assert "wait in" in " ".join(result["days"][0]["problems"])


def test_a_lying_manifest_and_half_a_file(data: Path) -> None:
    for day in DAYS[:3]:
        record_day(data, day, count=50)
    tickctl_json("archive", data_root=data)
    archive = data / "_archive"
    claim = manifest_path(archive, DAYS[0])
    claim.write_text(claim.read_text().replace('"rows": 50', '"rows": 51'))
    half = parquet_path(archive, DAYS[1])
    half.write_bytes(half.read_bytes()[: half.stat().st_size // 2])
    results = tickctl_json("verify", data_root=data, code=1)
    assert [row["fine"] for row in results] == [False, False, True]
    done = tickctl("verify", data_root=data)
    assert (done.returncode, done.stdout.count("WRONG")) == (1, 2)
    kept = tickctl_json("retain", "--keep-days", 1, data_root=data, code=1)
    assert [row["action"] for row in kept] == ["refused", "refused"]
    assert tickctl_json("archive", f"{DAYS[0]},{DAYS[1]}", data_root=data)[0]["action"] == "replaced"
    assert all(row["fine"] for row in tickctl_json("verify", data_root=data))


def test_a_forged_copy_costs_no_day_file(data: Path, tmp_path: Path) -> None:
    for day in DAYS[:2]:
        record_day(data, day, count=30)
    there = tmp_path / "there"
    assert tickctl("archive", "--to", there, data_root=data).returncode == 0
    forge_price(there, DAYS[0])
    (kept,) = tickctl_json("retain", "--keep-days", 1, "--from", there, data_root=data, code=1)
    assert (kept["action"], "was forged" in kept["reason"], str(there) in kept["reason"]) == ("refused", True, True)
    (check,) = tickctl_json("verify", DAYS[0], "--from", there, data_root=data, code=1)
    assert "was forged" in check["problems"][0]
    assert (data / f"{DAYS[0]}.db").exists()


def test_what_nobody_allowed_signed_is_neither_restored_nor_counts(data: Path, tmp_path: Path) -> None:
    for day in DAYS[:2]:
        record_day(data, day, count=30)
    there, key, signers, target = (tmp_path / name for name in ("there", "key", "signers", "new"))
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    signers.write_text(f"desk@example {key.with_suffix('.pub').read_text()}")
    assert tickctl("archive", "--to", there, data_root=data).returncode == 0
    assert tickctl("archive", DAYS[0], data_root=data).returncode == 0
    for place, where in ((("--from", there), there), ((), data / "_archive")):
        asked = (*place, "--signers", signers)
        refused = tickctl("restore", DAYS[0], "--into", target, *asked, data_root=data)
        assert refused.returncode == 1
        assert f"{where}/manifests/{DAYS[0]}.json is unsigned" in refused.stderr
        assert not list(target.glob("*.db"))
        (kept,) = tickctl_json("retain", "--keep-days", 1, *asked, data_root=data, code=1)
        assert (kept["action"], "is unsigned" in kept["reason"]) == ("refused", True)
    assert tickctl("archive", f"..{DAYS[1]}", "--to", there, "--sign", key, data_root=data).returncode == 0
    asked = ("--from", there, "--signers", signers)
    assert tickctl_json("restore", DAYS[0], "--into", target, *asked, data_root=data)["action"] == "restored"
    assert tickctl_json("retain", "--keep-days", 1, *asked, data_root=data)[0]["action"] == "deleted"


def test_an_archive_that_knows_more_than_the_file(data: Path) -> None:
    record_day(data, DAY, count=50)
    tickctl_json("archive", data_root=data)
    whole = rows(data / f"{DAY}.db")
    (data / f"{DAY}.db").unlink()
    record_day(data, DAY, symbols=("HK.01810",), count=10)
    done = tickctl("archive", DAY, data_root=data)
    assert done.returncode == 1
    assert f"hk-tickctl restore {DAY}" in done.stdout
    assert tickctl_json("restore", DAY, data_root=data)["action"] == "joined"
    assert set(whole) < set(rows(data / f"{DAY}.db"))
    assert tickctl_json("archive", DAY, data_root=data)[0]["action"] == "replaced"


def test_the_archive_elsewhere(data: Path, tmp_path: Path) -> None:
    record_day(data, DAY, count=20)
    settings = {"FUTU_SYMBOLS": "HK.00700", "DATA_ROOT": data, "ARCHIVE_ROOT": tmp_path / "other" / "disk"}
    assert tickctl_json("archive", **settings)[0]["files"][0]["kind"] == "parquet"
    assert tickctl_json("verify", **settings)[0]["fine"]
    assert not (data / "_archive").exists()
    shutil.rmtree(tmp_path / "other")
    assert tickctl("verify", **settings).returncode == 3


def test_beside_a_recorder_that_records(data: Path, tmp_path: Path) -> None:
    """Old days are archived and deleted while it writes today's file, which is left alone."""
    for day in DAYS[:2]:
        record_day(data, day, count=2000)
    simulator = Simulator(tmp_path / "sim", "--symbols", "HK.00700,HK.09988", "--always-open", "--rate", "500")
    recorder = Recorder(data, simulator.port, "HK.00700,HK.09988")
    with ended(recorder, simulator):
        before = recorder.rows()
        wait_until(lambda: recorder.rows() > before + 500, "it records")
        today = max(path.stem for path in data.glob("????????.db"))
        assert tickctl("eod", "--keep-days", 1, "--json", data_root=data).returncode in (0, 1)
        assert not (data / f"{DAYS[0]}.db").exists()
        assert all(row["fine"] for row in tickctl_json("verify", f"..{DAYS[1]}", data_root=data))
        kept = tickctl("retain", "--keep-days", 1, data_root=data)
        assert today not in kept.stdout
        before = recorder.rows()
        wait_until(lambda: recorder.rows() > before + 200, "it goes on")
        assert not recorder.find("day_file_replaced|persist_error|sqlite_busy")


def test_todays_file_is_left_alone_until_it_is_over(data: Path) -> None:
    today = hk_date(now_ms())
    record_day(data, today, count=10, proven=False)
    done = tickctl("archive", today, data_root=data)
    is_over = pack.is_over(today, TradingCalendar(HK), now_ms())
    assert (done.returncode, "still in session" in done.stdout) == ((0, False) if is_over else (1, True))
    retained = tickctl("retain", "--keep-days", 1, data_root=data)
    assert (retained.returncode, "nothing to do" in retained.stdout) == (0, True)


def test_a_day_in_archive_and_late_rows_is_read_as_both_by_every_command(data: Path, tmp_path: Path) -> None:
    record_day(data, DAYS[0], count=300)
    record_day(data, DAYS[1], count=10)
    assert tickctl("archive", data_root=data).returncode == 0
    (data / f"{DAYS[0]}.db").unlink()
    record_day(data, DAYS[0], symbols=("HK.00011",), count=950)  # more than the archive's 900
    day = ("--day", DAYS[0])
    asked = {
        name: tickctl(*command, data_root=data)
        for name, command in {
            "ticks": ("ticks", "5", *day, "--json"),
            "bars": ("bars", "700", *day, "--json"),
            "query": ("query", "SELECT count(*) AS n, count(DISTINCT symbol) AS s FROM ticks", *day, "--json"),
            "top": ("top", "-n", 9, *day, "--json"),
            "export": ("export", "csv", "--days", DAYS[0], "-o", tmp_path / "out", "--json"),
            "day": ("day", DAYS[0], "--recount", "--json", "--no-write"),
        }.items()
    }
    for name, done in asked.items():
        assert done.returncode == 0, (name, done.stderr)
        notes = json.dumps(json.loads(done.stdout)["notes"]) if name == "day" else done.stderr
        assert notes.count("both are read") == 1, (name, notes)
        assert f"hk-tickctl restore {DAYS[0]}" in notes
    answers = {name: json.loads(done.stdout) for name, done in asked.items()}
    assert (len(answers["ticks"]), answers["query"], answers["export"]["rows"]) == (300, [{"n": 1850, "s": 4}], 1850)
    assert sum(bar["tick_count"] for bar in answers["bars"]) > 0
    assert {row["symbol"] for row in answers["top"]} == {"HK.00005", "HK.00011", "HK.00700", "HK.09988"}
    assert (answers["day"]["stored_ticks"], len(answers["day"]["symbols"]), answers["day"]["problems"]) == (1850, 4, [])

    for refused in (("archive", DAYS[0]), ("retain", "--keep-days", 1), ("retain", "--keep-days", 1, "--dry-run")):
        done = tickctl(*refused, data_root=data)
        assert done.returncode == 1, done.stdout
    assert (data / f"{DAYS[0]}.db").exists()
    assert tickctl("restore", DAYS[0], data_root=data).returncode == 0
    assert tickctl("archive", DAYS[0], data_root=data).returncode == 0
    (total,) = tickctl_json("query", "SELECT count(*) AS n FROM ticks", *day, data_root=data)
    assert total == {"n": 1850}
    assert tickctl_json("retain", "--keep-days", 1, data_root=data)[0]["action"] == "deleted"
    (total,) = tickctl_json("query", "SELECT count(*) AS n FROM ticks", *day, data_root=data)
    assert total == {"n": 1850}

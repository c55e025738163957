"""The scripts that look at day files and repair them, each run for real on files recorded from the simulator."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from hk_tick_collector.market.dates import add_days
from hk_tick_collector.market.hk.sessions import hk_date
from hk_tick_collector.store import reader
from hk_tick_collector.store.connect import split_statements
from hk_tick_collector.store.layout import DataRootLock
from tests.harness import DEADLINE_SEC, Recorder, Simulator, ended, stored_rows, wait_until

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts"
SYMBOLS = "HK.00700,HK.00005"
HOUR_MS = 3_600_000
COLUMNS = "symbol, ts_ms, price, volume, turnover, direction, seq, tick_type, trading_day"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with some hundred ticks, its recorder stopped."""
    directory = tmp_path_factory.mktemp("recorded")
    simulator = Simulator(directory / "sim", "--symbols", SYMBOLS, "--always-open", "--rate", "200")
    recorder = Recorder(directory / "data", simulator.port, SYMBOLS)
    with ended(recorder, simulator):
        wait_until(lambda: stored_rows(recorder.data_root) > 300, "300 rows")
        assert recorder.stop() == 0, recorder.output
    return recorder.data_root


@pytest.fixture
def data_root(recorded: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(recorded, tmp_path / "data"))


def _run(*command: object, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command], env={**os.environ, "PYTHON": sys.executable, **env}, cwd="/",
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False,
    )  # fmt: skip


def _bash(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return _run("bash", SCRIPTS / name, *arguments)


def _repair(data_root: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return _run(sys.executable, SCRIPTS / "repair_future_ts_ms.py", "--data-root", data_root, *arguments)


def _facts(output: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in output.splitlines() if "=" in line and not line.startswith(" "))


def _day_file(data_root: Path) -> Path:
    return max(data_root.glob("????????.db"))


def _change(db: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(db)) as conn:
        for statement in statements:
            conn.execute(statement)
        conn.commit()


def _ask(db: Path, sql: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(f"file:{db}?mode=ro", uri=True)) as conn:
        return conn.execute(sql).fetchall()


def _rows(db: Path) -> list[tuple[object, ...]]:
    return _ask(db, f"SELECT {COLUMNS} FROM ticks ORDER BY symbol, seq, ts_ms")


@pytest.mark.parametrize("name", sorted(path.name for path in SCRIPTS.glob("*.sh") if not path.name.startswith("lib_")))
def test_every_script_explains_itself_and_refuses_nonsense(name: str) -> None:
    done = _bash(name, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("Usage:")
    wide = [line for line in done.stdout.splitlines() if len(line) > 80]
    assert wide == [], "a terminal at night may be a console"
    if name not in ("test.sh",):  # hands its arguments to pytest
        assert _bash(name, "--no-such-option").returncode == 2


def test_python_scripts_explain_themselves() -> None:
    for name in ("repair_future_ts_ms.py", "service_facts.py", "read_day.py"):
        assert _run(sys.executable, SCRIPTS / name, "--help").returncode == 0
        assert _run(sys.executable, SCRIPTS / name, "--no-such-option").returncode == 2


def test_a_python_without_the_package_is_told_which_one_has_it() -> None:
    """Alerts name this script alone: somebody runs it with the machine's Python."""
    done = _run(sys.executable, "-I", "-S", SCRIPTS / "repair_future_ts_ms.py")
    assert (done.returncode, done.stdout.count("\n")) == (69, 1), done.stdout
    assert "run it with /opt/futu_tick_downloader/venv/bin/python" in done.stdout


# --- db_health_check.sh


def test_a_good_file_is_called_good(data_root: Path) -> None:
    db = _day_file(data_root)
    done = _bash("db_health_check.sh", "--full", "--market", "closed", db)
    assert done.returncode == 0, done.stdout
    facts = _facts(done.stdout)
    assert int(facts["rows"]) == len(_rows(db))
    assert (facts["symbols"], facts["journal_mode"], facts["integrity_check"]) == ("2", "wal", "ok")
    assert (facts["duplicate_seq"], facts["duplicate_content"], facts["future_rows"]) == ("0", "0", "0")
    assert float(facts["lag_sec"]) >= 0
    assert "  HK.00700|" in done.stdout


def test_stale_is_a_fault_in_an_open_market_only(data_root: Path) -> None:
    db = _day_file(data_root)
    _change(db, "UPDATE ticks SET ts_ms = ts_ms - 600000")
    assert _bash("db_health_check.sh", "--market", "closed", db).returncode == 0
    done = _bash("db_health_check.sh", "--market", "open", db)
    assert done.returncode == 1
    assert "fail: the market is open and the newest tick is older than 120 s" in done.stdout


def test_the_calendar_judges_an_old_day_as_closed(data_root: Path) -> None:
    old = _day_file(data_root).rename(data_root / "20261119.db")
    _change(old, "UPDATE ticks SET trading_day = '20261119'")
    done = _bash("db_health_check.sh", old)
    assert done.returncode == 0, done.stdout
    assert _facts(done.stdout)["judged_as"] == "closed"


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (("UPDATE ticks SET ts_ms = ts_ms + 8 * 3600000 WHERE rowid <= 3",), "3 rows are more than 2 h in the future"),
        (("UPDATE ticks SET trading_day = '20200102' WHERE rowid = 1",), "1 rows carry another trading_day"),
        (
            ("DROP INDEX uniq_ticks_symbol_seq", "INSERT INTO ticks SELECT * FROM ticks WHERE rowid = 1"),
            "1 ticks are stored more than once",
        ),
    ],
)
def test_wrong_rows_are_named(data_root: Path, spoil: Sequence[str], complaint: str) -> None:
    db = _day_file(data_root)
    _change(db, *spoil)
    done = _bash("db_health_check.sh", "--market", "closed", db)
    assert done.returncode == 1, done.stdout
    assert f"fail: {complaint}" in done.stdout


def test_a_damaged_file_is_named(data_root: Path) -> None:
    db = _day_file(data_root)
    root_page = _ask(db, "SELECT rootpage FROM sqlite_master WHERE name = 'uniq_ticks_symbol_seq'")[0][0]
    assert isinstance(root_page, int)
    with db.open("r+b") as file:
        file.seek((root_page - 1) * 4096)
        file.write(b"\xff" * 2048)
    done = _bash("db_health_check.sh", "--market", "closed", db)
    assert done.returncode == 1, done.stdout
    assert "hk-tickctl salvage" in done.stdout


@pytest.mark.parametrize("depth", ["--quick", "--full"])
def test_a_file_damaged_in_its_middle_ends_in_a_verdict(data_root: Path, depth: str) -> None:
    """A failed query is told once, nothing that it said is taken for a number, and the verdict stands at the end."""
    db = _day_file(data_root)
    (root_page,) = [row[0] for row in _ask(db, "SELECT rootpage FROM sqlite_master WHERE name = 'ticks'")]
    assert isinstance(root_page, int)
    with db.open("r+b") as file:
        file.seek((root_page - 1) * 4096)
        file.write(bytes(4096))
    for script in (("db_health_check.sh", depth, "--market", "closed", db), _verification(db)):
        done = _bash(*script)
        assert done.returncode == 1, done.stdout
        assert done.stdout.endswith("result=fail\n")
        assert done.stdout.count("\nfail: ") == 1
        assert f"fail: {db} cannot be read to its end" in done.stdout
        assert "unbound" not in done.stdout
        assert "syntax" not in done.stdout
        assert done.stdout.count("database disk image is malformed") == 1


def _verification(db: Path) -> tuple[str | Path, ...]:
    return "verify_hk_tick_collector.sh", "--no-service", "--market", "closed", "--env-file", "/nonexistent", "--db", db


def test_what_stands_in_a_file_reaches_no_terminal_raw(data_root: Path) -> None:
    db = _day_file(data_root)
    _change(db, "UPDATE ticks SET symbol = 'HK.' || char(27) || '[2J|' || char(10) || 'fail: x' WHERE rowid = 1")
    done = _bash("db_health_check.sh", "--market", "closed", "--top", "1000", db)
    assert r"  HK.\x1b[2J\x7c\nfail: x|1|" in done.stdout


def test_no_sqlite3_command_is_needed(data_root: Path, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for place in map(Path, ("/usr/bin", "/bin")):
        for tool in place.iterdir():
            if tool.name != "sqlite3" and not (tools / tool.name).is_symlink():
                (tools / tool.name).symlink_to(tool)
    only = {**os.environ, "PATH": str(tools), "PYTHON": sys.executable}
    db = _day_file(data_root)
    for command in (("db_health_check.sh", "--market", "closed", db), _verification(db)):
        done = subprocess.run(
            ["bash", SCRIPTS / command[0], *command[1:]],
            env=only,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


APART = "hk_tick_collector.market.calendar"  # starts a Python of its own
PLANTED = ("hk_tick_collector", "pip", "venv", "ensurepip", "pytest", "sqlite3", "json", "argparse", "pathlib")


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """A directory in which somebody left modules for the next one who starts Python there."""
    directory = tmp_path / "planted"
    for name in PLANTED:
        package = directory / name
        package.mkdir(parents=True)
        for file in ("__init__.py", "__main__.py"):
            package.joinpath(file).write_text(f"open({str(tmp_path / 'executed')!r}, 'a').write(__file__ + chr(10))\n")
    return directory


def test_nothing_is_imported_from_the_current_directory(data_root: Path, planted: Path) -> None:
    """Root runs these wherever it happens to stand: in the data root, which is the service user's, or in /tmp."""
    db = _day_file(data_root)
    libraries = f". {SCRIPTS}/lib_deploy.sh; . {SCRIPTS}/lib_venv.sh; scratch=$(mktemp -d); mkdir $scratch/tree;"
    steps = (
        ["bash", SCRIPTS / "db_health_check.sh", "--market", "auto", db],
        ["bash", SCRIPTS / "verify_hk_tick_collector.sh", "--no-service", "--db", db],
        ["bash", SCRIPTS / "install_systemd.sh", "--dry-run"],
        ["bash", SCRIPTS / "redeploy_hk_tick_collector.sh", "--no-fetch"],
        ["bash", SCRIPTS / "rollback_hk_tick_collector.sh"],
        ["bash", "-c", f"{libraries} check_python; interpreter {sys.executable}; is_installed run"],
        ["bash", "-c", f"{libraries} make_venv $scratch/venv; has_module {sys.executable} pytest; rm -r $scratch"],
        [Path(sys.executable).with_name("hk-tickctl"), "status", "--data-root", data_root],
        [sys.executable, "-I", "-c", f"import {APART} as calendar; calendar._read_library_apart(2026, 2026)"],
    )
    for command in steps:
        subprocess.run(
            command,
            cwd=planted,
            env={**os.environ, "ROLLBACK_REF": "main"},
            capture_output=True,
            timeout=DEADLINE_SEC,  # one of them makes an environment
            check=False,
        )
        assert not planted.with_name("executed").exists(), f"{command}: {planted.with_name('executed').read_text()}"
    subprocess.run([sys.executable, "-m", "pip"], cwd=planted, timeout=60, check=False)
    assert planted.with_name("executed").exists(), "the plants work"


def test_no_script_starts_python_without_isolation() -> None:
    """By reading: each -m and -c, and each script of ours. read_facts adds -I itself; the tests run from their tree."""
    start = re.compile(r"""python["}]* (-[mc]\b|\S*\.py\b)""")
    for path in (*SCRIPTS.glob("*.sh"), ROOT / ".ci/run", ROOT / ".ci/bare"):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if not line.lstrip().startswith("#") and "-m pytest" not in line and "read_facts" not in line:
                assert not start.search(line), f"{path.name}:{number}: {line.strip()}"


def test_files_that_are_none(tmp_path: Path) -> None:
    assert _bash("db_health_check.sh", tmp_path / "20261120.db").returncode == 66
    text = tmp_path / "20261121.db"
    text.write_text("no database at all, but long enough to be read as one\n" * 100)
    assert _bash("db_health_check.sh", text).returncode == 66
    empty = tmp_path / "20261122.db"
    _change(empty, "CREATE TABLE other (a)")
    assert _bash("db_health_check.sh", empty).returncode == 66
    assert _bash("db_health_check.sh").returncode == 2


# --- query_examples.sql


def test_every_example_query_runs(data_root: Path) -> None:
    db = _day_file(data_root)
    sql = (SCRIPTS / "query_examples.sql").read_text()
    for statement in split_statements(sql):
        with contextlib.closing(sqlite3.connect(f"file:{db}?mode=ro", uri=True)) as conn:
            conn.execute(statement).fetchall()
    done = _run("bash", "-c", f"sqlite3 -bail -header 'file:{db}?mode=ro' < {SCRIPTS}/query_examples.sql")
    assert done.returncode == 0, done.stdout
    assert done.stdout.rstrip().endswith("ok")


def test_the_example_bars_add_up(data_root: Path) -> None:
    db = _day_file(data_root)
    sql = (SCRIPTS / "query_examples.sql").read_text()
    bars = next(part for part in split_statements(sql) if "FIRST_VALUE" in part)
    bar_rows = _ask(db, bars)
    traded = _ask(
        db,
        "SELECT SUM(volume), MAX(price), MIN(price) FROM ticks "
        "WHERE symbol = 'HK.00700' AND tick_type IN ('AUTO_MATCH', 'AUCTION')",
    )[0]
    assert (sum(bar[5] for bar in bar_rows), max(bar[2] for bar in bar_rows), min(bar[3] for bar in bar_rows)) == traded  # type: ignore[misc, type-var]


# --- repair_future_ts_ms.py


def test_nothing_to_repair(data_root: Path) -> None:
    done = _repair(data_root, "--apply")
    assert done.returncode == 0, done.stdout
    assert "repaired_rows=0" in done.stdout
    assert not list(data_root.glob("*before-repair*"))


@pytest.mark.parametrize("how", [[], ["--apply"]])
def test_a_directory_that_is_not_there_has_not_been_repaired(tmp_path: Path, how: list[str]) -> None:
    done = _repair(tmp_path / "nope", *how)
    assert done.returncode == 1
    assert f"{tmp_path / 'nope'} does not exist: name the recorder's DATA_ROOT with --data-root" in done.stdout
    assert "repair_rows" not in done.stdout
    assert not list(tmp_path.iterdir())


def test_a_dry_run_shows_and_changes_nothing(data_root: Path) -> None:
    db = _day_file(data_root)
    _change(db, f"UPDATE ticks SET ts_ms = ts_ms + {8 * HOUR_MS} WHERE rowid <= 50")
    before = _rows(db)
    done = _repair(data_root)
    assert done.returncode == 0, done.stdout
    assert "to_repair_rows=50" in done.stdout
    assert done.stdout.count("  before ") == done.stdout.count("  after  ") == 3
    assert _rows(db) == before
    assert not list(data_root.glob("*before-repair*"))


def test_rows_in_the_right_file_get_their_time_back(data_root: Path) -> None:
    db = _day_file(data_root)
    good = _rows(db)
    _change(db, f"UPDATE ticks SET ts_ms = ts_ms + {8 * HOUR_MS} WHERE rowid % 3 = 0")
    bad = _rows(db)
    done = _repair(data_root, "--apply")
    assert done.returncode == 0, done.stdout
    assert f"repaired_rows={len(good) // 3} moved_rows=0 repeated_rows=0 to_repair_rows=0" in done.stdout
    assert _rows(db) == good
    [backup] = data_root.glob("*.before-repair-*")
    assert _rows(backup) == bad
    newest = max(int(str(row[1])) for row in good)
    assert max(symbol.last_ts_ms or 0 for symbol in reader.coverage(db)) == newest
    assert "repaired_rows=0" in _repair(data_root, "--apply").stdout, "once is enough"


def test_rows_of_another_day_move_to_its_file(data_root: Path) -> None:
    """An older recorder wrote half of the ticks, and some that are there already, into the next day's file."""
    db = _day_file(data_root)
    good = _rows(db)
    later = data_root / f"{add_days(db.stem, 1)}.db"
    shutil.copy(db, later)
    _change(
        later, "DELETE FROM ticks WHERE rowid % 2 = 0", "DELETE FROM coverage",
        f"UPDATE ticks SET ts_ms = ts_ms + {24 * HOUR_MS}, trading_day = '{later.stem}'",
    )  # fmt: skip
    wrong = len(_rows(later))
    _change(db, "DELETE FROM ticks WHERE rowid % 2 = 1 AND rowid > 20", "DELETE FROM coverage")
    done = _repair(data_root, "--apply", "--shift-hours", 24)
    assert done.returncode == 0, done.stdout
    assert f"moves to {db.name}" in done.stdout
    assert f"repaired_rows={wrong - 10} moved_rows={wrong - 10} repeated_rows=10 to_repair_rows=0" in done.stdout
    assert _rows(db) == good
    assert not later.exists(), "an empty file of a day to come"
    assert sum(symbol.stored_ticks for symbol in reader.coverage(db)) == len(good)


def test_a_copy_without_a_sequence_is_not_kept_twice(data_root: Path) -> None:
    db = _day_file(data_root)
    good = _rows(db)
    _change(
        db,
        "UPDATE ticks SET seq = NULL WHERE rowid = 1",
        "CREATE TEMP TABLE one AS SELECT * FROM ticks WHERE rowid = 1",
        f"UPDATE one SET ts_ms = ts_ms + {8 * HOUR_MS}",
        "INSERT INTO ticks SELECT * FROM one",
    )
    done = _repair(data_root, "--apply")
    assert done.returncode == 0, done.stdout
    assert "repaired_rows=0 moved_rows=0 repeated_rows=1" in done.stdout
    assert len(_rows(db)) == len(good)


def test_rows_that_the_shift_does_not_bring_back_are_left(data_root: Path) -> None:
    db = _day_file(data_root)
    _change(db, f"UPDATE ticks SET ts_ms = ts_ms + {20 * HOUR_MS} WHERE rowid <= 2")
    before = _rows(db)
    done = _repair(data_root, "--apply")
    assert done.returncode == 1, done.stdout
    assert "2 rows are still ahead" in done.stdout
    assert _rows(db) == before


def test_rows_with_a_wrong_date_go_to_the_quarantine_and_their_empty_file_goes(data_root: Path) -> None:
    """One tick of the year 9999 made a file that no shift emptied, so that every update of the service failed."""
    db = _day_file(data_root)
    good = _rows(db)
    later = Path(shutil.copy(db, data_root / "99991231.db"))
    _change(
        later, "DELETE FROM ticks WHERE rowid > 3", "UPDATE ticks SET ts_ms = 253402234200000, trading_day = '99991231'"
    )
    assert "3 with a wrong date" in _repair(data_root).stdout
    assert later.exists()
    done = _repair(data_root, "--apply")
    assert done.returncode == 0, done.stdout
    assert "left_rows=0 quarantined_rows=3" in done.stdout
    assert not later.exists()
    [kept] = (data_root / "_quarantine").glob("*.jsonl")
    assert [json.loads(line)["raw"]["trading_day"] for line in kept.read_text().splitlines()] == ["99991231"] * 3
    [copy] = data_root.glob("99991231.db.before-repair-*")
    assert len(_rows(copy)) == 3
    assert _rows(db) == good
    assert "to_repair_rows=0" in _repair(data_root, "--apply").stdout


def test_it_refuses_while_a_recorder_holds_the_data_root(data_root: Path) -> None:
    db = _day_file(data_root)
    _change(db, f"UPDATE ticks SET ts_ms = ts_ms + {8 * HOUR_MS} WHERE rowid <= 5")
    before = _rows(db)
    with DataRootLock(data_root):
        done = _repair(data_root, "--apply")
        assert done.returncode == 75, done.stdout
        assert f"pid {os.getpid()}" in done.stdout
        assert _repair(data_root).returncode == 0, "to look is always allowed"
    assert _rows(db) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can take on another user's rights")
def test_root_leaves_files_to_the_owner_of_the_data_root(recorded: Path) -> None:
    nobody = 65534
    with tempfile.TemporaryDirectory() as directory:  # pytest's own are closed to other users
        Path(directory).chmod(0o755)
        data_root = Path(shutil.copytree(recorded, Path(directory) / "data"))
        db = _day_file(data_root)
        later = db.rename(data_root / f"{add_days(db.stem, 1)}.db")
        _change(later, f"UPDATE ticks SET ts_ms = ts_ms + {24 * HOUR_MS}, trading_day = '{later.stem}'")
        for path in (data_root, *data_root.rglob("*")):
            os.chown(path, nobody, nobody)
        done = _repair(data_root, "--apply", "--shift-hours", 24)
        assert done.returncode == 0, done.stdout
        assert db.exists()
        assert {path.stat().st_uid for path in data_root.rglob("*")} == {nobody}


def test_wrong_settings_are_told(tmp_path: Path) -> None:
    env = tmp_path / ".env"
    env.write_text("FUTU_SYMBOLS=NONSENSE\n")
    done = _run(sys.executable, SCRIPTS / "repair_future_ts_ms.py", "--env-file", env)
    assert (done.returncode, "NONSENSE" in done.stdout) == (78, True)


# --- verify_hk_tick_collector.sh


@pytest.fixture
def live(tmp_path: Path) -> Iterator[tuple[Simulator, Recorder]]:
    simulator = Simulator(tmp_path / "sim", "--symbols", SYMBOLS, "--always-open", "--rate", "50")
    recorder = Recorder(tmp_path / "live", simulator.port, SYMBOLS)
    with ended(recorder, simulator):
        wait_until(lambda: stored_rows(recorder.data_root) > 0, "rows")
        yield simulator, recorder


def _verify(data_root: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    missing = "/nonexistent/.env"
    return _bash(
        "verify_hk_tick_collector.sh", "--no-service", "--env-file", missing, "--data-root", data_root, *arguments
    )


def test_verify_passes_on_live_files_and_fails_when_they_stop(live: tuple[Simulator, Recorder]) -> None:
    _, recorder = live
    done = _verify(recorder.data_root, "--market", "open")
    assert done.returncode == 0, done.stdout
    facts = _facts(done.stdout)
    assert int(facts["new_rows"]) > 0
    assert abs(float(facts["max_minus_now_sec"])) < 60
    assert recorder.stop() == 0
    done = _verify(recorder.data_root, "--market", "open", "--growth-sec", 1)
    assert done.returncode == 1
    assert "fail: no row was added within 1 s" in done.stdout
    assert _verify(recorder.data_root, "--market", "closed").returncode == 0


def test_verify_sees_times_in_the_future_at_any_hour(data_root: Path) -> None:
    _change(_day_file(data_root), f"UPDATE ticks SET ts_ms = ts_ms + {8 * HOUR_MS} WHERE rowid = 1")
    done = _verify(data_root, "--market", "closed")
    assert done.returncode == 1
    assert "in the future" in done.stdout


def test_verify_of_an_empty_data_root(tmp_path: Path) -> None:
    assert _verify(tmp_path, "--market", "closed").returncode == 0
    assert _verify(tmp_path, "--market", "open").returncode == 1
    assert _verify(tmp_path, "--market", "sometimes").returncode == 2


# --- service_facts.py, restart_delay.sh


@pytest.mark.parametrize(
    ("hk_time", "expected"),
    [
        ("2026-11-20T09:31:00", {"phase": "morning", "phase_age_sec": "60", "continuous": "1", "recording": "1"}),
        ("2026-11-20T16:09:00", {"phase": "closing_auction", "continuous": "0", "recording": "1"}),
        ("2026-11-21T11:00:00", {"phase": "closed", "recording": "0", "last_session_day": "20261120"}),
        ("2026-11-23T08:00:00", {"phase": "closed", "hk_day": "20261123", "last_session_day": "20261120"}),
        ("2026-12-24T13:30:00", {"phase": "closed", "recording": "0", "last_session_day": "20261224"}),
    ],
)
def test_market_facts_follow_the_calendar(hk_time: str, expected: dict[str, str]) -> None:
    seconds = int(_run("date", "-d", f"{hk_time}+08:00", "+%s").stdout)
    done = _run(
        sys.executable, SCRIPTS / "service_facts.py", "--now-ms", seconds * 1000, "--env-file", ROOT / ".env.example"
    )
    facts = _facts(done.stdout)
    assert {key: facts[key] for key in expected} == expected
    assert facts["sqlite_busy_timeout_ms"] == "5000"


def test_market_facts_are_those_of_the_market_that_is_recorded(tmp_path: Path) -> None:
    (tmp_path / "us.env").write_text(f"MARKET=US\nFUTU_SYMBOLS=US.AAPL\nDATA_ROOT={tmp_path}\n")
    seconds = int(_run("date", "-d", "2026-11-19T20:30:00-05:00", "+%s").stdout)
    done = _run(
        sys.executable, SCRIPTS / "service_facts.py", "--now-ms", seconds * 1000, "--env-file", tmp_path / "us.env"
    )
    facts = _facts(done.stdout)
    assert (facts["hk_day"], facts["phase"], facts["phase_age_sec"]) == ("20261120", "overnight", "1800")
    assert (facts["continuous"], facts["recording"], facts["last_session_day"]) == ("0", "1", "20261120")


@pytest.mark.parametrize(
    ("settings", "calendar"),
    [
        ("MARKET=HK FUTU_SYMBOLS=HK.00700", "Mon..Fri 16:30 Asia/Hong_Kong"),
        ("MARKET=US FUTU_SYMBOLS=US.AAPL", "Mon..Fri 20:15 America/New_York"),
        ("MARKET=CN FUTU_SYMBOLS=SH.600519", "Mon..Fri 15:45 Asia/Shanghai"),
        ("SOURCE=sierra MARKET=CME SIERRA_DIR=/sierra FUTU_SYMBOLS=CME.ESZ26", "Mon..Fri 17:15 America/Chicago"),
    ],
)
def test_the_end_of_day_job_of_a_market_runs_after_its_close(tmp_path: Path, settings: str, calendar: str) -> None:
    """From the settings to the timer's drop-in; systemd understands it, in the zone's summer and winter."""
    text = settings.replace(" ", "\n")
    (tmp_path / "x.env").write_text(f"{text}\nDATA_ROOT={tmp_path}\n")
    now_ms = 1_795_138_200_000  # 2026-11-20
    facts = _facts(
        _run(sys.executable, SCRIPTS / "service_facts.py", "--now-ms", now_ms, "--env-file", tmp_path / "x.env").stdout
    )
    assert facts["end_of_day"] == calendar
    hour = int(calendar.split()[1][:2])
    assert facts["universe"] == calendar.replace(f" {hour}:", f" {hour + 1}:"), "an hour later"
    drop_in = tmp_path / "timer.conf"
    write = """
    . "$1"
    timer_drop_in_of() { printf '%s' "$drop_in"; }
    drop_in=$2
    write_timer_drop_in "$4@x" @ 'Mon..Fri 12:00 UTC'
    write_timer_drop_in "$4@x" @ "$3"
    """
    library = tmp_path / "lib_deploy.sh"
    library.write_text(
        (SCRIPTS / "lib_deploy.sh").read_text().replace("PREFIX=/opt/futu_tick_downloader", f"PREFIX={ROOT}")
    )
    for unit, when in (("hk-tick-eod", calendar), ("hk-tick-universe", facts["universe"])):
        done = _run("bash", "-euc", write, "x", library, drop_in, when, unit)
        assert done.returncode == 0, done.stderr
        if "Hong_Kong" in when:
            assert not drop_in.exists(), "the timer says so itself"
        else:
            assert drop_in.read_text().splitlines()[1:] == ["[Timer]", "OnCalendar=", f"OnCalendar={when}"]
    if shutil.which("systemd-analyze"):
        assert _run("systemd-analyze", "calendar", calendar).returncode == 0


def test_hk_day_is_today_in_hong_kong() -> None:
    before = hk_date(int(time.time() * 1000))
    facts = _facts(_run(sys.executable, SCRIPTS / "service_facts.py").stdout)
    assert facts["hk_day"] in (before, hk_date(int(time.time() * 1000)))


def test_the_restart_delay_counts_failures_and_forgets_them(tmp_path: Path) -> None:
    def delay(step: str, **env: str) -> str:
        done = _run("bash", SCRIPTS / "restart_delay.sh", step, RUNTIME_DIRECTORY=str(tmp_path), **env)
        assert done.returncode == 0, done.stdout
        return done.stdout.strip()

    assert delay("wait") == ""
    for _ in range(2):
        delay("record", SERVICE_RESULT="exit-code", EXIT_STATUS="1")
    assert delay("wait") == "restart_delay failures=2 delay_sec=2"
    (tmp_path / "started").write_text(f"{int(time.time()) - 700}\n")
    delay("record", SERVICE_RESULT="signal", EXIT_STATUS="KILL")
    assert (tmp_path / "failures").read_text() == "1\n", "ten minutes of work count"
    delay("record", SERVICE_RESULT="watchdog", EXIT_STATUS="ABRT")
    assert (tmp_path / "failures").read_text() == "1\n", "the start is still long ago"
    delay("record", SERVICE_RESULT="exit-code", EXIT_STATUS="78")
    assert (tmp_path / "failures").read_text() == "0\n"
    (tmp_path / "failures").write_text("rubbish\n")
    assert delay("wait") == ""

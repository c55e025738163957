"""The built program against ClickHouse's engine: kills of either side, wrong credentials, an engine that is away."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import clickhouse_connect
import pytest

from hk_tick_collector.clickhouse.connection import ClickHouse, EngineAway
from hk_tick_collector.clickhouse.shipping import ShipStatus, read_status
from hk_tick_collector.ship.state import verified_days
from hk_tick_collector.store.writer import DayFileWriter
from tests.clickhouse import ClickHouseServer, clickhouse_server
from tests.nights import every_test
from tests.unit.ship.test_ship import equal, raw_rows
from tests.unit.store_ticks import DAY, ticks

DEADLINE_SEC = 60
PROGRAM = Path(sys.executable).with_name("hk-tick-ship")
TICKCTL = Path(sys.executable).with_name("hk-tickctl")
PASSWORD = "s3cret-of-the-test"


def until(condition: Callable[[], object], awaited: str) -> None:
    deadline = time.monotonic() + DEADLINE_SEC
    while not condition():
        assert time.monotonic() < deadline, awaited
        time.sleep(0.05)


def environ(tmp_path: Path, root: Path, server: ClickHouseServer, **more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("SHIP_", "DATA_", "ARCHIVE_"))}
    own = {"DATA_ROOT": str(root), "SHIP_URL": f"{server.url}/hk", "SHIP_DIR": str(tmp_path / "ship")}
    return {**kept, **own, "SHIP_RECORDER": "A", **more}


def tickctl(settings: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [TICKCTL, *words], env=settings, cwd="/", capture_output=True, text=True, timeout=DEADLINE_SEC, check=False
    )


@contextmanager
def shipper(settings: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as file:
        process = subprocess.Popen([PROGRAM], env=settings, cwd="/", stdout=file, stderr=file)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[ClickHouseServer]:
    with clickhouse_server(tmp_path / "engine", FRONT_PASSWORD=PASSWORD) as server:
        yield server


@pytest.fixture
def settings(tmp_path: Path, root: Path, own_server: ClickHouseServer) -> dict[str, str]:
    password = tmp_path / "password"
    password.write_text(f"{PASSWORD}\n")
    password.chmod(0o600)
    return environ(tmp_path, root, own_server, SHIP_PASSWORD_FILE=str(password))


def status(tmp_path: Path) -> ShipStatus:
    status = read_status(tmp_path / "ship")
    assert status is not None
    return status


def test_kills_of_either_side_lose_and_double_nothing(
    tmp_path: Path, root: Path, writer: DayFileWriter, own_server: ClickHouseServer, settings: dict[str, str]
) -> None:
    done = tickctl(settings, "ship", "init")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == f"{own_server.url}/hk is ready for the recorder A"
    log, dice = tmp_path / "log", random.Random(5)
    stored = 0
    for round_no in range(4 if every_test() else 2):  # the shipper alone is killed, then the engine as well
        with shipper(settings, log) as process:
            for _ in range(2):
                writer.write(ticks(200, first=stored + 1))
                stored += 200
                if round_no % 2:
                    own_server.kill()
                    own_server.start()
                time.sleep(dice.random() / 4)
            process.send_signal(signal.SIGKILL)
    engine = own_server.engine("hk", PASSWORD)
    begun = log.read_text().count("ship_started")
    with shipper(settings, log) as process:
        until(lambda: log.read_text().count("ship_started") > begun, "from here on it ends in order")
        until(lambda: rows_there(engine) >= stored, f"{stored} rows")
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_SEC) == 0
    assert b"HTTP Request" not in log.read_bytes()  # the library's line for each insert
    assert raw_rows(engine) == stored
    assert equal(root, engine)
    assert status(tmp_path).is_stopped
    assert status(tmp_path).rows_behind == 0
    with_client = clickhouse_connect.get_client(
        host="127.0.0.1", port=own_server.port, username="default", password=PASSWORD, database="hk"
    )
    ((rows, symbols),) = with_client.query("SELECT count(), uniqExact(seq) FROM hk.ticks_one").result_rows
    assert (rows, symbols) == (stored, stored)
    done = tickctl(settings, "ship", "verify", "last", "--json")
    assert json.loads(done.stdout) == [{"trading_day": DAY, "result": "equal", "reason": ""}]
    assert [(day_verified.day, day_verified.rows) for day_verified in verified_days(tmp_path / "ship")] == [
        (DAY, stored)
    ]
    told = tickctl(settings, "day", DAY, "--no-write")
    assert "verified in ClickHouse at " in told.stdout, told.stderr
    writer.write(ticks(1, first=stored + 1))
    assert "verified in ClickHouse" not in tickctl(settings, "day", DAY, "--no-write").stdout
    engine.close()


def rows_there(engine: ClickHouse) -> int:
    try:
        return raw_rows(engine)
    except EngineAway:
        return -1


def test_wrong_credentials_are_said_without_them(
    tmp_path: Path, writer: DayFileWriter, own_server: ClickHouseServer, settings: dict[str, str]
) -> None:
    writer.write(ticks(5))
    assert tickctl(settings, "ship", "init").returncode == 0
    wrong = tmp_path / "wrong"
    wrong.write_text("not-the-pass-word\n")
    wrong.chmod(0o600)
    log = tmp_path / "log"
    with shipper({**settings, "SHIP_PASSWORD_FILE": str(wrong)}, log):
        until(lambda: b"ship_waits" in log.read_bytes(), "the refusal")
        until(lambda: read_status(tmp_path / "ship"), "the status")
    assert status(tmp_path).is_refused
    assert "SHIP_PASSWORD_FILE" in status(tmp_path).waits_for
    assert status(tmp_path).rows_behind == 5
    assert b"not-the-pass-word" not in log.read_bytes()
    told = json.loads(tickctl(settings, "status", "--json").stdout)
    assert told["ship"]["rows_behind"] == 5
    assert (
        "ClickHouse takes no ticks"
        in {complaint["code"]: complaint["sentence"] for complaint in told["complaints"]}["copy_behind"]
    )
    refused = tickctl({**settings, "SHIP_PASSWORD_FILE": str(wrong)}, "ship", "verify")
    assert refused.returncode == 1
    assert "user or password is wrong" in refused.stderr
    assert "not-the-pass-word" not in refused.stderr
    checks = {
        check["name"]: check
        for check in json.loads(tickctl(settings, "doctor", "--offline", "--json").stdout)["checks"]
    }
    assert checks["clickhouse"]["result"] == "ok"
    wrong.chmod(0o640)
    refused = tickctl({**settings, "SHIP_PASSWORD_FILE": str(wrong)}, "ship", "init")
    assert refused.returncode == 2
    assert f"chmod 600 {wrong}" in refused.stderr
    refused = tickctl({**settings, "SHIP_URL": f"http://hk:{PASSWORD}@127.0.0.1/hk"}, "ship", "init")
    assert refused.returncode == 2
    assert PASSWORD not in refused.stderr


def test_each_answer_says_what_was_done_or_what_to_do(
    tmp_path: Path, writer: DayFileWriter, own_server: ClickHouseServer, settings: dict[str, str]
) -> None:
    writer.write(ticks(5))
    assert tickctl(settings, "ship", "init").returncode == 0
    absent = {"trading_day": DAY, "result": "WRONG", "reason": "nothing of it is there"}
    assert json.loads(tickctl(settings, "ship", "verify", "--check", "--json").stdout) == [absent]
    assert json.loads(tickctl(settings, "ship", "verify", "--json").stdout) == [{**absent, "result": "sent"}]
    with own_server.engine("hk", PASSWORD) as engine:
        engine.run("INSERT INTO hk.ticks SELECT * REPLACE (price + 1 AS price) FROM hk.ticks LIMIT 1")
        (row,) = json.loads(tickctl(settings, "ship", "verify", "--json").stdout)
        assert (row["result"], row["reason"]) == ("replaced", "1 of 1 symbols differ (ticks: HK.00700 5 here, 6 there)")
        engine.run("CREATE DATABASE other")
        engine.run("CREATE TABLE other.ticks (symbol UInt8) ENGINE = MergeTree ORDER BY symbol")
    address = f"clickhouse://127.0.0.1:{own_server.port}/other"
    refused = tickctl({**settings, "HK_CLICKHOUSE_PASSWORD": PASSWORD}, "query", "SELECT 1", "--from", address)
    cure = "/other: the tables are of another kind: hk-tickctl ship init. It said: Code: 47"
    assert (refused.returncode, cure in refused.stderr) == (1, True), refused.stderr
    own_server.kill()
    for asked in (("ship", "init"), ("ship", "verify"), ("query", "SELECT 1", "--from", address)):
        refused = tickctl(settings, *asked)
        assert refused.returncode == 1
        assert "does not answer: [Errno 111] Connection refused; is ClickHouse running there" in refused.stderr

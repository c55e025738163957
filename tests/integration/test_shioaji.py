"""The recorder at the simulated Shioaji gateway, with its faults, and every command on what it recorded."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from hk_tick_collector.records.totals import NO_TRADE
from hk_tick_collector.shioaji_sim.tape import read_truth
from hk_tick_collector.store import reader
from tests.forked import parent
from tests.harness import BIN, ForkedRecorder, Process, clean_env, ended, wait_until
from tests.simulators import Simulator

SYMBOLS = "TW.2330,TW.2317,TWF.TXFL6,TW.2330@ODD"
CODES = "2330,2317,TXFL6,2330@ODD"


class Gateway(Simulator):
    name, ready = "shioaji", r"url=(\S+)"

    def trades(self) -> set[tuple[str, int]]:
        """Code and total of what was told and can be stored."""
        with suppress(OSError):
            return {
                (event["code"], event["total"])
                for event in read_truth(self.truth)
                if event["shown"] and not event["trial"] and not event["spoilt"]
            }
        return set()


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    with ended(made := Gateway(tmp_path, rate=100, codes=CODES)):
        yield made


def settings(tmp_path: Path, gateway: Gateway, **more: object) -> dict[str, str]:
    return clean_env(
        tmp_path / "home", SOURCE="shioaji", MARKET="TW", FUTU_SYMBOLS=SYMBOLS, DATA_ROOT=tmp_path / "TW",
        SHIOAJI_URL=gateway.url, CHECK_INTERVAL_SEC=0.2, RECONNECT_MIN_DELAY=0.2, RECONNECT_MAX_DELAY=1,
        HEALTH_INTERVAL_SEC=0.5, **more,
    )  # fmt: skip


def recorder(tmp_path: Path, gateway: Gateway, **more: object) -> Process:
    return ForkedRecorder(settings(tmp_path, gateway, **more))


def days(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "TW").glob("2*.db"))


def stored(tmp_path: Path) -> set[tuple[str, int]]:
    stored_rows: set[tuple[str, int]] = set()
    for db in days(tmp_path):
        with closing(sqlite3.connect(f"file:{db}?mode=ro", uri=True)) as conn, suppress(sqlite3.OperationalError):
            rows = conn.execute("SELECT symbol, total_volume FROM ticks WHERE seq < ?", (NO_TRADE,))
            stored_rows.update((symbol.partition(".")[2], total) for symbol, total in rows)
    return stored_rows


def all_stored(tmp_path: Path, gateway: Gateway, more_than: int) -> None:
    """Nothing is made any more, and all of it is there."""
    gateway.fault("pause")
    wait_until(lambda: len(stored(tmp_path)) > more_than and stored(tmp_path) == gateway.trades(), "all stored")


def tickctl(tmp_path: Path, gateway: Gateway, *words: Any, symbols: str = SYMBOLS) -> subprocess.CompletedProcess[str]:
    env = {**settings(tmp_path, gateway), "FUTU_SYMBOLS": symbols}
    return parent(words[0]).run([*map(str, words)], env, 120)


def check_of(done: subprocess.CompletedProcess[str], name: str) -> dict[str, str]:
    """What ``doctor --json`` says of one check."""
    outcomes: list[dict[str, str]] = json.loads(done.stdout)["checks"]
    return next(outcome for outcome in outcomes if outcome["name"] == name)


def test_doctor_names_every_symbol_that_the_gateway_does_not_know(tmp_path: Path, gateway: Gateway) -> None:
    wanted = "TW.2330,TW.9999,TWF.TXFL6,TWF.TXFA0,TWO.2317,TW.2330@ODD"
    told = tickctl(tmp_path, gateway, "doctor", "--json", symbols=wanted)
    assert told.returncode == 1
    outcome = check_of(told, "shioaji_symbols")
    assert outcome["result"] == "fail"
    assert outcome["found"] == (
        "the gateway does not know TW.9999, TWF.TXFA0 (2 of 6 symbols); TWO.2317 trades on TSE: write TW.2317"
    )
    assert gateway.state()["subscribed"] == 1  # by the trial: a look-up subscribes nothing
    trades = check_of(told, "shioaji_trades")
    assert re.search(r"^TW.2330: .* came \(of 6 symbols this one was tried\)$", trades["found"])


def test_every_trade_that_was_told_is_stored_once_through_all_faults(tmp_path: Path, gateway: Gateway) -> None:
    with ended(first := recorder(tmp_path, gateway)):
        wait_until(lambda: len(stored(tmp_path)) > 100, "trades")
        for name, code in (("nan", "price"), ("fraction", "volume")):
            gateway.fault(name)
            first.wait_for(f"tick_quarantined .*code={code}")
        for name in ("backwards", "trial", "reorder", "garbage", "binary"):
            gateway.fault(name)
        first.wait_for("tick_quarantined .*code=symbol")
        all_stored(tmp_path, gateway, 100)
        assert gateway.state()["connections"] == 2  # one a channel: none of these cost it
        for number, fault in enumerate(("cut", "restart"), start=2):
            known = len(stored(tmp_path))
            gateway.fault(fault)
            first.wait_for("shioaji_disconnected reason=")
            first.wait_for(f"shioaji_connected .*connection={number}")
            wait_until(lambda: gateway.state()["subscribed"] == 4, "subscribed")
            gateway.fault("resume")
            wait_until(lambda: len(stored(tmp_path)) > known, "trades again")  # noqa: B023
            all_stored(tmp_path, gateway, known)
        first.signal(signal.SIGKILL)
        first.wait()
    with ended(second := recorder(tmp_path, gateway)):
        second.wait_for("shioaji_subscribed symbols=4")
        known = len(stored(tmp_path))
        gateway.fault("resume")
        wait_until(lambda: len(stored(tmp_path)) > known, "trades after the kill")
        all_stored(tmp_path, gateway, known)
        assert second.stop() == 0
    for process in (first, second):
        assert not process.find("Traceback|OpenD")
    done = subprocess.run(
        [BIN / "hk-shioaji-sim", "check", gateway.truth, tmp_path / "TW"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert (report["stored"], report["trials"], report["false_proofs"]) == (report["shown"], 1, 0)


def test_the_day_says_what_it_can_and_every_command_reads_it(tmp_path: Path, gateway: Gateway) -> None:
    with ended(process := recorder(tmp_path, gateway)):
        wait_until(lambda: len(stored(tmp_path)) > 100, "trades")
        gateway.fault("hole")
        wait_until(lambda: len(stored(tmp_path)) > 150, "trades behind the hole")
        all_stored(tmp_path, gateway, 100)
        doctor = tickctl(tmp_path, gateway, "doctor")
        for check in ("shioaji_secrets", "shioaji_gateway", "shioaji_traffic", "shioaji_trades"):
            assert check in doctor.stdout
        assert re.search("ok +shioaji_symbols +4 symbols: the gateway knows all of them", doctor.stdout)
        status = tickctl(tmp_path, gateway, "status")
        assert "Shioaji" in status.stdout
        assert "OpenD" not in status.stdout + doctor.stdout
        gateway.fault("busy")
        process.wait_for(r"shioaji_health_unknown .*left alone \(429: simulated\); not asked again before .*go on")
        assert not process.find("shioaji_disconnected")  # what is sent is taken
        assert process.stop() == 0
    (day,) = days(tmp_path)
    assert {row.state for row in reader.coverage(day)} == {"missing"}  # it began in mid-session, and has a hole
    with closing(sqlite3.connect(day)) as conn:
        assert conn.execute("SELECT DISTINCT market, provider FROM ticks").fetchall() == [("TW", "shioaji")]
        units = dict(conn.execute("SELECT symbol, unit FROM symbols"))
    assert units == {"TW.2330": "lots", "TW.2317": "lots", "TWF.TXFL6": "contracts", "TW.2330@ODD": "shares"}
    for words in (
        ("day", day.stem, "--recount"),
        ("gaps", "--day", day.stem),
        ("top", "--day", day.stem),
        ("bars", "TW.2330", "--day", day.stem),
        ("query", "SELECT COUNT(*) AS n FROM ticks"),
    ):
        done = tickctl(tmp_path, gateway, *words)
        assert done.returncode in (0, 1), done.stderr  # 1: the day is not whole, and says so
        assert "Traceback" not in done.stderr
        assert done.stdout + done.stderr

"""Days of each source with its faults, held against what its simulator knows: no day file says a false word.

The built recorder and its simulator live on trading days that are over. On each day faults come while it trades; the
recorder is stopped, or killed, and another process goes on with the next day in the same data root. In the end the
simulator's truth, which knows also what nobody was shown, is held against rows, coverage and certificates.
"""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hk_tick_collector.market.hours import hm
from hk_tick_collector.market.registry import market_of
from hk_tick_collector.shioaji_sim.cli import _of_truth, _read
from hk_tick_collector.shioaji_sim.tape import read_truth
from hk_tick_collector.store import reader
from hk_tick_collector.store.restarts import leave
from tests.harness import BIN, Process, clean_env, ended, wait_until
from tests.nights import at_night, by_day
from tests.recordings import (
    SOON,
    SOURCES,
    Gexbot,
    Recording,
    Source,
    recording,
    snapshot_files,
    ticks_by_symbol,
)
from tests.tickctl import tickctl, tickctl_json

WEEK = ("20261116", "20261117", "20261118", "20261119", "20261120")
# Trades after each fault: of what was under way when a connection ended they are many, also on a busy machine, where it
# is more.
MANY_ROWS = 100
# What happens on each day; trades go on after each. Of several words the first ones leave no way to trade.
FAULTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "dxlink": (
        (),
        ("nan", "fraction", "correction", "cancel", "reorder", "garbage", "half_row"),
        ("cut", "too_big", "channel_closed"),
        ("skew", "skew", "unauthorized"),
        ("maintenance accept",),
    ),
    "schwab": (
        (),
        ("nan", "fraction", "reorder", "garbage", "half", "repeat"),
        ("cut", "stop_streaming", "expire cut"),
        ("skew", "delayed", "reset"),
        ("maintenance accept",),
    ),
    "shioaji": (
        (),
        ("nan", "fraction", "backwards", "trial", "reorder", "garbage", "binary"),
        ("hole", "cut", "half_event"),
        ("skew", "on_time", "restart"),
        ("stale", "recovering", "recovered", "pause maintenance accept resume"),
    ),
}


@pytest.fixture(params=SOURCES, ids=lambda source: source.name)
def source(request: pytest.FixtureRequest) -> Source:
    source_asked: Source = request.param
    return source_asked


# What Schwab tells is never called proven: its days are for the nights, and test_schwab.py has its faults in a check.
@pytest.mark.parametrize(
    "source", by_day(SOURCES, lambda source: source.name != "schwab"), ids=lambda source: source.name
)
def test_two_days_and_never_a_false_word(source: Source, tmp_path: Path) -> None:
    faults = FAULTS[source.name]
    live_through(source, tmp_path, {WEEK[2]: (*faults[1], *faults[2]), WEEK[3]: (*faults[3], *faults[4])})


@at_night(held_by="test_two_days_and_never_a_false_word")
def test_a_week_and_never_a_false_word(source: Source, tmp_path: Path) -> None:
    live_through(source, tmp_path, dict(zip(WEEK, FAULTS[source.name], strict=True)))


def live_through(source: Source, directory: Path, faults: dict[str, Sequence[str]]) -> None:
    (directory / "restarts").mkdir()
    output = ""
    for day, of_day in faults.items():
        with recording(source, directory, day, RESTARTS_DIR=directory / "restarts", **SOON) as now:
            _trades_go_on(source, directory, day, now)
            for fault in of_day:
                for name in fault.split():
                    now.fault(name)
                _trades_go_on(source, directory, day, now)
            if day == min(faults):
                now.recorder.signal(signal.SIGKILL)
                now.recorder.wait()
                again = Process([BIN / "hk-tick-collector"], clean_env(directory, **now.settings))
                with ended(again):
                    _trades_go_on(source, directory, day, replace(now, recorder=again))
                    _stopped_after_all_is_stored(now, again)
                output += again.output
            else:
                _feed_is_restarted(source, directory, now)
                _trades_go_on(source, directory, day, now)
                _stopped_after_all_is_stored(now, now.recorder)
            output += now.recorder.output
    assert "Traceback" not in output
    assert "thread_failed" not in output
    _truth_agrees(source, directory)
    for day in faults:
        _day_says_no_false_word(source, directory, day)


def _trades_go_on(source: Source, directory: Path, day: str, now: Recording) -> None:
    path = directory / source.market / f"{day}.db"
    wanted = ticks_by_symbol(path).total() + MANY_ROWS
    wait_until(
        lambda: now.recorder.proc.poll() is not None or ticks_by_symbol(path).total() > wanted, "trades after a fault"
    )
    assert now.recorder.proc.poll() is None, now.recorder.output


def _feed_is_restarted(source: Source, directory: Path, now: Recording) -> None:
    """As somebody asks for it on the dashboard. No trade is under way then, which would be lost with the connection."""
    now.fault("pause")
    now_ms = int((time.time() + int(str(now.settings["FAKETIME"]))) * 1000)
    leave(directory / "restarts", directory / source.market, "desk", now_ms)
    now.recorder.wait_for("feed_restart by=desk")
    now.fault("resume")


def _stopped_after_all_is_stored(now: Recording, recorder: Process) -> None:
    now.fault("pause")
    assert recorder.stop() == 0, recorder.output


def _truth_agrees(source: Source, directory: Path) -> None:
    """What was on its way when a connection ended or a process was killed may be missing, nothing else is wrong."""
    root = directory / source.market
    done = subprocess.run(
        [BIN / f"hk-{source.name}-sim", "check", directory / "truth", root], capture_output=True, text=True, check=False
    )
    counts = json.loads(done.stdout)
    wrong = {name: counts.get(name, 0) for name in ("doubled", "invented", "wrong", "wrong_totals", "false_proofs")}
    assert not any(wrong.values()), counts
    assert counts["stored"] > 100
    assert counts["missing"] <= counts["shown"] // 10, counts


def _day_says_no_false_word(source: Source, directory: Path, day: str) -> None:
    root = directory / source.market
    coverage = reader.coverage(root / f"{day}.db")
    lacking = _lacking(source, directory, day)
    states = {row.symbol: row.state for row in coverage}
    assert states.keys() == set(source.symbols.split(","))
    for symbol, state in states.items():
        assert state != "proven" or (source.evidence != "id" and symbol not in lacking)
        assert symbol not in lacking or state == "missing", (
            f"{day} {symbol}: trades are missing inside, and it says {state}"
        )
    is_missing = "missing" in states.values()
    certificate = _certificate(source, root, day, code=1 if is_missing else 0)
    assert certificate["stored_ticks"] == ticks_by_symbol(root / f"{day}.db").total()
    assert {row["symbol"]: row["state"] for row in certificate["symbols"]} == states
    assert certificate["problems"] == []
    if source.evidence == "id":
        assert certificate["grade"] != "A"
        assert "not proven to be complete" in certificate["sentence"]


def _certificate(source: Source, root: Path, day: str, code: int) -> dict[str, Any]:
    made: dict[str, Any] = tickctl_json(
        "day", day, "--recount", data_root=root, code=code, MARKET=source.market, SOURCE=source.name
    )
    return made


def _lacking(source: Source, directory: Path, day: str) -> set[str]:
    """Symbols whose running total shows that trades are missing between two of the day that are stored."""
    if source.name != "shioaji":
        return set()
    stored = set(_read(directory / source.market).trades)
    made = [_of_truth(event) for event in read_truth(directory / "truth") if not event["trial"]]
    lacking = set()
    for symbol in source.symbols.split(","):
        code = symbol.partition(".")[2]
        of_day = [trade in stored for trade in made if (trade.code, trade.day) == (code, day)]
        inside = of_day[of_day.index(True) : len(of_day) - of_day[::-1].index(True)] if True in of_day else []
        if not all(inside):
            lacking.add(symbol)
    return lacking


# The minute before the market's trading day changes, and the day that begins then.
CHANGES = {"US": ("20261118", hm(19, 59) + 45_000, "20261119"), "TW": ("20261118", hm(14, 59) + 45_000, "20261119")}


def test_the_day_changes_under_a_recorder_that_runs(source: Source, tmp_path: Path) -> None:
    """Trades of both days stand in their own files, on one connection, and each is one of what was shown."""
    day, clock_ms, next_day = CHANGES[source.market]
    symbols = source.symbols if source.market == "US" else "TWF.TXFL6"
    with recording(
        source, tmp_path, day, clock_ms, **{**SOON, "FUTU_SYMBOLS": symbols, "FUTU_POLL_TRADING_ONLY": 0}
    ) as now:
        for trading_day in (day, next_day):
            path = tmp_path / source.market / f"{trading_day}.db"
            wait_until(
                lambda: now.recorder.proc.poll() is not None or ticks_by_symbol(path).total() > 30,  # noqa: B023
                f"trades of {trading_day}",
            )
        _stopped_after_all_is_stored(now, now.recorder)
        assert not now.recorder.find(f"{source.name}_disconnected")
        assert "Traceback" not in now.recorder.output
    _truth_agrees(source, tmp_path)
    turn_ms = market_of(source.market).day_bounds(next_day)[0]
    for trading_day, is_before in ((day, True), (next_day, False)):
        with closing(sqlite3.connect(tmp_path / source.market / f"{trading_day}.db")) as conn:
            times = [ts_ms for (ts_ms,) in conn.execute("SELECT ts_ms FROM ticks")]
        assert all((ts_ms < turn_ms) is is_before for ts_ms in times)


def test_a_week_of_gexbot_and_never_a_false_word(tmp_path: Path) -> None:
    """Live on Friday with faults, and on Saturday the files of the week; one that is not to be had proves nothing."""
    gexbot = Gexbot(tmp_path)
    root = gexbot.root
    with gexbot.running(WEEK[4], hm(9, 31)) as (fault, recorder):
        for name in ("nan", "half", "garbage", "other_ticker", "twice"):
            fault(name)
        with ended(first := recorder(0)):
            first.wait_for("gexbot_subscribed symbols=2")
            gexbot.wait_for_more(first, WEEK[4], 10)
            fault("skew")
            wait_until(lambda: "is still to come" in _quarantined(root), "snapshots of an hour ahead")
            fault("on_time")
            fault("maintenance")
            first.wait_for("gexbot_no_answer .*503")
            fault("accept")
            gexbot.wait_for_more(first, WEEK[4], 4)
            assert not first.find("gexbot_disconnected|Traceback")
            first.signal(signal.SIGKILL)
            first.wait()
        with ended(second := recorder(0)):
            gexbot.wait_for_more(second, WEEK[4], 4)
            assert second.stop() == 0
            assert not second.find("Traceback")
    with gexbot.running("20261121", hm(10)) as (fault, recorder):
        fault("cut_file")
        with ended(third := recorder(4)):
            wait_until(lambda: len(_copied(root)) == 2 * 4 - 1, "all files but the one that ends early")
            assert third.stop() == 0
            assert not third.find("Traceback")
    counts = gexbot.counts()
    assert counts["copies"] == 2 * 4 - 1
    assert counts["of_these_stored"] > 18
    copied = _copied(root)
    for day in sorted({day for _, day in copied}):
        of_day = {symbol for symbol, told in copied if told == day}
        done = tickctl("snapshots", "--days", day, "--json", data_root=root, MARKET="US")
        report = json.loads(done.stdout)
        proven = {row["symbol"] for row in report["series"] if row["state"] == "proven"}
        assert proven == of_day, report
        assert (done.returncode == 0) is (proven == {row["symbol"] for row in report["series"]})


@at_night(held_by="test_the_day_changes_under_a_recorder_that_runs")
def test_the_day_changes_under_a_recorder_of_gexbot(tmp_path: Path) -> None:
    day, clock_ms, next_day = CHANGES["US"]
    gexbot = Gexbot(tmp_path)
    with gexbot.running(day, clock_ms) as (_, recorder), ended(process := recorder(0)):
        gexbot.wait_for_more(process, day, 2)
        gexbot.wait_for_more(process, next_day, 2)
        assert process.stop() == 0
        assert not process.find("gexbot_disconnected|Traceback")
    turn_sec = market_of("US").day_bounds(next_day)[0] // 1000
    for trading_day, is_before in ((day, True), (next_day, False)):
        with closing(sqlite3.connect(gexbot.root / "snapshot" / f"{trading_day}.snapshot.db")) as conn:
            seconds = [second for (second,) in conn.execute("SELECT ts_sec FROM snapshots")]
        assert all((second < turn_sec) is is_before for second in seconds)
    assert gexbot.counts()["of_these_stored"] > 4


def _quarantined(root: Path) -> str:
    return "".join(path.read_text() for path in (root / "_quarantine" / "snapshots").glob("*.jsonl"))


def _copied(root: Path) -> set[tuple[str, str]]:
    """Symbol and day of each file that was read to its end."""
    copied: set[tuple[str, str]] = set()
    for path in snapshot_files(root):
        with suppress(sqlite3.OperationalError), closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as conn:
            rows = conn.execute("SELECT symbol FROM copies JOIN series USING (series_id)")
            copied.update((symbol, path.name[:8]) for (symbol,) in rows)
    return copied

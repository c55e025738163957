"""The built ``hk-tickctl facts`` on days that the built recorder took from the simulator."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.archived_day import archive_day
from tests.harness import DEADLINE_SEC, Recorder, Simulator, ended, wait_until
from tests.tickctl import record_day, tickctl, tickctl_json
from tests.ticks import DAY

STOCK, ETF, WARRANT = "HK.00700", "HK.02800", "HK.12345"
SYMBOLS = f"{STOCK},{ETF},{WARRANT}"


def figures(told: dict[str, Any], fact: str) -> dict[str, dict[str, Any]]:
    (named_fact,) = [told_fact for told_fact in told["facts"] if told_fact["name"] == fact]
    return {line["label"].strip(): line["values"] for line in named_fact["lines"]}


@pytest.fixture(scope="module")
def odd_day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recorded over lunch, a reconnect, ticks without a sequence, and counters that begin anew."""
    root = tmp_path_factory.mktemp("odd")
    words = ("--wait-for-client", "--symbols", SYMBOLS, "--start", "2026-11-20T11:59:55", "--rate", 60)
    simulator = Simulator(root / "sim", *words)
    recorder = Recorder(root / "data", simulator.port, SYMBOLS)
    with ended(recorder, simulator):
        recorder.wait_for("backfill_done")
        _some_more(recorder)
        simulator.ctl("jump to=2026-11-20T13:00:01")
        _some_more(recorder)
        simulator.ctl("drop")
        wait_until(lambda: recorder.output.count("backfill_done") >= 2, "the second connect")
        _some_more(recorder)
        simulator.ctl(f"no-sequence symbol={ETF}")
        _some_more(recorder)
        simulator.ctl("renumber kind=restart")
        _some_more(recorder)
        assert recorder.stop() == 0, recorder.output
    return root / "data"


def _some_more(recorder: Recorder, rows: int = 60) -> None:
    enough = recorder.rows() + rows
    wait_until(lambda: recorder.rows() >= enough, "more ticks are stored", DEADLINE_SEC)


def test_an_odd_day_is_told_and_named_only_on_request(odd_day: Path) -> None:
    done = tickctl("facts", data_root=odd_day)
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "HK.0" not in done.stdout + done.stderr
    assert str(odd_day) not in done.stdout
    named = tickctl("facts", DAY, "--symbols", data_root=odd_day)
    assert "out of the ordinary, for example: " in named.stdout
    assert ETF in named.stdout


def test_the_figures_are_those_of_the_file(odd_day: Path) -> None:
    told = tickctl_json("facts", DAY, data_root=odd_day)
    assert told["classes"] == ["stock", "etf", "warrant"]
    with closing(sqlite3.connect(odd_day / f"{DAY}.db")) as conn:
        stored = dict(conn.execute("SELECT symbol, count(*) FROM ticks GROUP BY symbol"))
        pushed = dict(conn.execute("SELECT symbol, count(*) FROM ticks WHERE push_type = 'push' GROUP BY symbol"))
        unsequenced = conn.execute("SELECT count(*) FROM ticks WHERE symbol = ? AND seq IS NULL", (ETF,)).fetchone()[0]
    sequences = figures(told, "Sequences")
    assert sequences["ticks"] == {"stock": stored[STOCK], "etf": stored[ETF], "warrant": stored[WARRANT]}
    assert sequences["without a sequence"]["stock"] == 0
    assert sequences["without a sequence"]["etf"] == unsequenced > 0
    assert figures(told, "Lunch")["goes on by 1"]["stock"] == 1
    steps = figures(told, "Steps")
    assert steps["falls by 1 to 100"]["stock"] + steps["falls by more"]["stock"] > 0, "counters began anew"
    assert figures(told, "Connects")["connects"]["stock"] >= 1
    channels = figures(told, "Push against pull")
    assert channels["came by push"] == {"stock": pushed[STOCK], "etf": pushed[ETF], "warrant": pushed[WARRANT]}
    assert figures(told, "Delays")["event to file: half within"]["stock"] > 0


def test_to_a_file_and_from_the_archive(tmp_path: Path) -> None:
    record_day(tmp_path, count=50)
    target = tmp_path / "facts.txt"
    done = tickctl("facts", DAY, "-o", target, data_root=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert f"written: {target}" in done.stderr
    live = target.read_text()
    assert live.startswith(f"Facts of {DAY} (whole day, over), from the day file\n")
    archive_day(tmp_path, tmp_path / "_archive")
    assert tickctl("facts", data_root=tmp_path).stdout == live.replace("the day file", "the archive")
    assert tickctl("facts", "--json", "-o", target, data_root=tmp_path).returncode == 0
    assert json.loads(target.read_text())["source"] == "archive"


def test_a_day_that_is_not_there(tmp_path: Path) -> None:
    record_day(tmp_path, count=5)
    done = tickctl("facts", "20261119", data_root=tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    assert "20261119" in done.stderr
    assert DAY in done.stderr
    done = tickctl("facts", DAY, "-o", tmp_path / "nowhere" / "facts.txt", data_root=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "nowhere" in done.stderr


def test_no_price_or_volume_is_in_it(tmp_path: Path) -> None:
    record_day(tmp_path, count=50)
    with closing(sqlite3.connect(tmp_path / f"{DAY}.db")) as conn, conn:
        conn.execute("UPDATE ticks SET price = 98765.4321, volume = 7654321, turnover = 86420975.3, direction = 'SELL'")
    for arguments in (("facts",), ("facts", "--json"), ("facts", "--symbols")):
        shown = tickctl(*arguments, data_root=tmp_path)
        assert shown.returncode == 0
        for sentinel in ("98765", "7654321", "8642097", "SELL"):
            assert sentinel not in shown.stdout + shown.stderr

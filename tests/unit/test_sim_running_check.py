"""A check beside a running recorder, of every simulator: what comes while it reads is neither missing nor invented."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hk_tick_collector.dxlink_sim import cli as dxlink
from hk_tick_collector.dxlink_sim.tape import Event as DxEvent
from hk_tick_collector.schwab_sim import cli as schwab
from hk_tick_collector.schwab_sim.tape import Trade
from hk_tick_collector.shioaji_sim import cli as shioaji
from hk_tick_collector.shioaji_sim.tape import Event as TaiwanEvent
from hk_tick_collector.sims.command import day_files

BASE_MS = 1_795_138_200_000
DAY = "20261120"
Made = DxEvent | Trade | TaiwanEvent


def dx_event(number: int) -> DxEvent:
    return DxEvent("NEW", "AAPL", number, BASE_MS + number, number, 100.0, 100, "BUY", shown=True)


def trade(number: int) -> Trade:
    return Trade("AAPL", BASE_MS + number, 100.0, 100, 100 * number, "XNAS", shown=True)


def taiwan_event(number: int) -> TaiwanEvent:
    ts_us = (BASE_MS + number) * 1000
    return TaiwanEvent("2330", "2026/11/20", "09:30:00", ts_us, 100.0, 1, number, 1, shown=True)


MARKETS: dict[ModuleType, tuple[str, Callable[[int], Made]]] = {
    dxlink: ("US.AAPL", dx_event),
    schwab: ("US.AAPL", trade),
    shioaji: ("TW.2330", taiwan_event),
}


class Running:
    """A simulator and its recorder, of whom each has done something while a check reads."""

    def __init__(self, cli: ModuleType, directory: Path) -> None:
        self.symbol, self.make = MARKETS[cli]
        self.truth, self.root = directory / "truth", directory / "root"
        self.root.mkdir()
        self.path = self.root / f"{DAY}.db"
        with closing(sqlite3.connect(self.path)) as conn:
            conn.execute("CREATE TABLE ticks (symbol, ts_ms, price, volume, turnover, total_volume, seq)")
            conn.execute("CREATE TABLE coverage (symbol, state)")
            conn.execute("CREATE TABLE amendments (symbol, tick_seq)")

    def told(self, *numbers: int, **changed: object) -> None:
        with self.truth.open("a") as file:
            for number in numbers:
                made: Any = self.make(number)
                file.write(json.dumps(asdict(replace(made, **changed))) + "\n")

    def stored(self, *numbers: int) -> None:
        volume = 1 if self.symbol.startswith("TW.") else 100
        rows = [(self.symbol, BASE_MS + n, 100.0, volume, 0.0, n * volume, n) for n in numbers]
        with closing(sqlite3.connect(self.path)) as conn, conn:
            conn.executemany("INSERT INTO ticks VALUES (?, ?, ?, ?, ?, ?, ?)", rows)


@pytest.fixture(params=MARKETS, ids=lambda cli: cli.__name__.split(".")[1])
def cli(request: pytest.FixtureRequest) -> ModuleType:
    module: ModuleType = request.param
    return module


@pytest.fixture
def running(cli: ModuleType, tmp_path: Path) -> Running:
    return Running(cli, tmp_path)


def test_what_is_made_and_stored_while_it_reads_is_not_invented(
    cli: ModuleType, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.told(1, 2)
    running.stored(1, 2)

    def a_moment_later(root: Path) -> Iterator[tuple[Path, sqlite3.Connection]]:
        running.told(3)
        running.stored(3)
        return day_files(root)

    monkeypatch.setattr(cli, "day_files", a_moment_later)
    counts = cli.check(running.truth, running.root).counts
    assert (counts["stored"], counts["missing"], counts["invented"], counts["unsettled"]) == (3, 0, 0, 0)


def test_the_newest_may_be_on_its_way_on_both_sides(
    cli: ModuleType, running: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    running.told(1, 9_001, 9_500, 10_000)
    running.stored(1, 9_001, 10_001)  # 9,500 and 10,000 are not stored yet, 10,001 is not in the truth file yet
    words = ["check", str(running.truth), str(running.root)]
    assert cli.main(words) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["missing"], told["invented"], told["unsettled"]) == (2, 1, 0)

    assert cli.main([*words, "--allow-tail-ms", "1000"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["missing"], told["invented"], told["unsettled"]) == (0, 0, 1)


def test_what_is_older_than_the_tail_is_missing_and_invented(
    cli: ModuleType, running: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    running.told(1, 2, 10_000)
    running.stored(1, 3, 10_000)
    assert cli.main(["check", str(running.truth), str(running.root), "--allow-tail-ms", "1000"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["missing"], told["invented"], told["unsettled"]) == (1, 1, 0)
    with pytest.raises(SystemExit, match="2"):
        cli.main(["check", str(running.truth), str(running.root), "--allow-tail-ms", "-1"])
    assert "--allow-tail-ms: -1 is below 0" in capsys.readouterr().err


def test_a_tail_that_would_excuse_a_loss_is_refused(
    cli: ModuleType, running: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    running.told(1, 10_000)
    with pytest.raises(SystemExit, match="2"):
        cli.main(["check", str(running.truth), str(running.root), "--allow-tail-ms", "600001"])
    assert "600001 is above 600000: what is older than ten minutes and not stored is missing" in capsys.readouterr().err

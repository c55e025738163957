"""Recorders of sources other than OpenD and their simulators, which live on a day that is over, in processes of their
own with another clock."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hk_tick_collector.market.hours import hm
from hk_tick_collector.market.market import Market
from hk_tick_collector.market.registry import market_of
from tests.harness import BIN, Process, clean_env, ended, other_clock, wait_until
from tests.scid_files import run_of, write_scid

FILE_SECONDS = 300  # that a day's file of gexbot speaks of
SOON: dict[str, Any] = {"RECONNECT_MIN_DELAY": 0.2, "RECONNECT_MAX_DELAY": 1}
DAY, SATURDAY = "20261118", "20261121"  # a Wednesday, and a day without a session
CLOCK_MS = hm(10)
ROWS = 150


@dataclass(frozen=True)
class Source:
    """One of them, with what its simulator needs and its recorder is told."""

    name: str
    market: str
    symbols: str
    settings: Callable[[Path, str, int], Mapping[str, object]]  # directory, address, now
    state: str  # of its symbols
    evidence: str
    options: tuple[str, ...] = ()


def _dxlink(directory: Path, address: str, _now_sec: int) -> dict[str, object]:
    secrets = _secret(directory / "secrets", "client_secret=any\nrefresh_token=any\n")
    return {"DXLINK_API": address, "DXLINK_SECRETS_FILE": secrets}


def _schwab(directory: Path, address: str, now_sec: int) -> dict[str, object]:
    secrets = _secret(directory / "secrets", "client_id=any\nclient_secret=any\n")
    login = {"creation_timestamp": now_sec, "token": {"refresh_token": "a-refresh-token"}}
    token = _secret(directory / "token", json.dumps(login))
    return {"SCHWAB_API": address, "SCHWAB_SECRETS_FILE": secrets, "SCHWAB_TOKEN_FILE": token}


def _secret(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


SOURCES = (
    Source("dxlink", "US", "US.AAPL,US.MSFT", _dxlink, "unproven", "id"),
    Source("schwab", "US", "US.AAPL,US.MSFT", _schwab, "unproven", "id", ("--conflate-ms", "50")),
    Source(
        "shioaji", "TW", "TW.2330,TWF.TXFL6", lambda _directory, address, _now: {"SHIOAJI_URL": address}, "missing",
        "running_total", ("--codes", "2330,TXFL6"),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Recording:
    """A recorder that runs, the simulator that it is connected to, and the settings of programs beside it."""

    simulator: Process
    recorder: Process
    port: str  # of faults
    settings: Mapping[str, object]

    def fault(self, name: str) -> None:
        do_fault(self.port, name)


def do_fault(port: str, fault: str) -> None:
    """Do one of the faults of the simulator with that port, as its command ``fault`` does, without a process for it."""
    url = f"http://127.0.0.1:{port}/sim/{fault}"
    urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=60).close()


@contextmanager
def recording(
    source: Source, directory: Path, day: str = DAY, clock_ms: int = CLOCK_MS, **more: object
) -> Iterator[Recording]:
    """Both live on that day, at ten in the morning or another time."""
    clock = clock_of(market_of(source.market), day, clock_ms)
    pace = ["--rate", "200", *source.options]
    simulator = Process(
        [BIN / f"hk-{source.name}-sim", "run", "--truth", directory / "truth", *pace], clean_env(directory, **clock)
    )
    with ended(simulator):
        address = simulator.wait_for(r"_sim_ready .*(?:rest|url)=(\S+)").group(1)
        settings = {
            "SOURCE": source.name, "MARKET": source.market, "FUTU_SYMBOLS": source.symbols,
            "DATA_ROOT": directory / source.market, "CHECK_INTERVAL_SEC": 0.2, "HEALTH_INTERVAL_SEC": 0.5,
            **source.settings(directory, address, int(time.time()) + int(str(clock["FAKETIME"]))), **clock, **more,
        }  # fmt: skip
        recorder = Process([BIN / "hk-tick-collector"], clean_env(directory, **settings))
        with ended(recorder):
            yield Recording(simulator, recorder, address.rpartition(":")[2], settings)


SIERRA = Source(
    "sierra", "CME", "CME.ESZ26,CME.NQZ26", lambda directory, _address, _now: {"SIERRA_DIR": directory / "sierra"},
    "unproven", "id",
)  # fmt: skip


@contextmanager
def following(directory: Path) -> Iterator[Process]:
    """A recorder of files of Sierra Chart, which have grown since nine that morning."""
    market = market_of(SIERRA.market)
    (directory / "sierra").mkdir()
    for symbol in SIERRA.symbols.split(","):
        trades = run_of(market.zone.at_ms(DAY, hm(9)) * 1000, ROWS)
        write_scid(directory / "sierra" / f"{symbol.partition('.')[2]}_FUT_CME.scid", trades)
    settings = {
        "SOURCE": SIERRA.name, "MARKET": SIERRA.market, "FUTU_SYMBOLS": SIERRA.symbols,
        "DATA_ROOT": directory / SIERRA.market, "CHECK_INTERVAL_SEC": 0.2, **SIERRA.settings(directory, "", 0),
        **clock_of(market, DAY),
    }  # fmt: skip
    with ended(recorder := Process([BIN / "hk-tick-collector"], clean_env(directory, **settings))):
        yield recorder


def ticks_by_symbol(path: Path) -> Counter[str]:
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as conn:
        return Counter(dict(conn.execute("SELECT symbol, COUNT(*) FROM ticks GROUP BY symbol")))
    return Counter()


def clock_of(market: Market, day: str, clock_ms: int = CLOCK_MS) -> dict[str, object]:
    """Settings of a process for which it is that time of that day now, in the market's zone."""
    offset_sec = market.zone.at_ms(day, clock_ms) // 1000 - int(time.time())
    return other_clock(FAKETIME=f"{offset_sec:+d}")


class Gexbot:
    """A simulated gexbot and recorders of it, which live at one time of one day after the other."""

    def __init__(self, directory: Path) -> None:
        self.root, self.truth = directory / "US", directory / "truth"
        self._directory, self._market = directory, market_of("US")
        self._key = directory / "key"
        self._key.write_text("key=gexbot_custom_sim\n")
        self._key.chmod(0o600)
        self.settings: dict[str, object] = {}  # of the newest gexbot's recorders

    @contextmanager
    def running(self, day: str, clock_ms: int) -> Iterator[tuple[Callable[[str], None], Callable[..., Process]]]:
        """What does a fault, and what starts a recorder, which is told how many days' files to get, and more."""
        clock = clock_of(self._market, day, clock_ms)
        command: list[str | Path] = [
            BIN / "hk-gexbot-sim", "run", "--truth", self.truth, "--file-seconds", str(FILE_SECONDS), "--tickers",
            "SPX,NDX",
        ]  # fmt: skip
        with ended(simulator := Process(command, clean_env(self._directory, **clock))):
            api = simulator.wait_for(r"gexbot_sim_ready api=(\S+)").group(1)

            self.settings = {
                "SOURCE": "gexbot", "MARKET": "US", "FUTU_SYMBOLS": "US.SPX,US.NDX", "DATA_ROOT": self.root,
                "GEXBOT_API": api, "GEXBOT_KEY_FILE": self._key, "CHECK_INTERVAL_SEC": 0.2,
                "FUTU_POLL_TRADING_ONLY": 0, **clock, **SOON,
            }  # fmt: skip

            def recorder(copy_days: int, **more: object) -> Process:
                settings = clean_env(self._directory, **self.settings, GEXBOT_COPY_DAYS=copy_days, **more)
                return Process([BIN / "hk-tick-collector"], settings)

            yield partial(do_fault, api.split(":")[2].split("/")[0]), recorder

    def counts(self) -> dict[str, int]:
        """What the simulator says of all that is stored: none of it twice, none that was not shown."""
        checked = subprocess.run(
            [BIN / "hk-gexbot-sim", "check", self.truth, self.root], capture_output=True, text=True, check=False
        )
        counts: dict[str, int] = json.loads(checked.stdout)
        assert [counts[name] for name in ("doubled", "invented", "missing_of_copies")] == [0, 0, 0], counts
        return counts

    def wait_for_more(self, recorder: Process, day: str, rows: int) -> None:
        known = snapshot_rows(self.root, day)
        wait_until(
            lambda: recorder.proc.poll() is not None or snapshot_rows(self.root, day) > known + rows, "snapshots of now"
        )
        assert recorder.proc.poll() is None, recorder.output


def snapshot_rows(root: Path, day: str) -> int:
    rows = 0
    for path in snapshot_files(root):
        if path.name.startswith(day):
            # It may just be made.
            with suppress(sqlite3.OperationalError), closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as conn:
                rows += conn.execute("SELECT count(*) FROM readable").fetchone()[0]
    return rows


def snapshot_files(root: Path) -> list[Path]:
    return sorted((root / "snapshot").glob("*.snapshot.db"))

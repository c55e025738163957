"""What comes behind a recorder works on its data root whatever its source: no program has a line for one.

For each source the built recorder and its simulator live on a day that is over, in processes of their own with another
clock. Then everything reads the same data root: commands, exports, archive and bucket, HTTP, ClickHouse, Redis.
"""

from __future__ import annotations

import contextlib
import csv
import json
import shutil
import signal
import sqlite3
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from hk_tick_collector.clickhouse.shipping import read_status
from hk_tick_collector.market.hours import hm
from hk_tick_collector.market.market import Market
from hk_tick_collector.market.registry import market_of
from tests.called import SECRET, Called
from tests.clickhouse import ClickHouseServer, clickhouse_server
from tests.harness import BIN, Process, clean_env, ended, wait_until
from tests.redis_server import RedisServer, redis_server
from tests.s3_server import BUCKET, WEED, S3Server, s3_server
from tests.serving import ApiServer
from tests.tickctl import tickctl, tickctl_json

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


@pytest.fixture(params=SOURCES, ids=lambda source: source.name)
def source(request: pytest.FixtureRequest) -> Source:
    source_asked: Source = request.param
    return source_asked


@dataclass(frozen=True)
class Recorded:
    """A data root, and what its one day file holds."""

    source: Source
    directory: Path
    rows: int
    by_symbol: Counter[str]
    volume: Counter[str]

    @property
    def root(self) -> Path:
        return self.directory / self.source.market

    @property
    def market(self) -> Market:
        return market_of(self.source.market)

    @property
    def symbol(self) -> str:
        return self.source.symbols.split(",")[0]

    def ask(self, *words: object, code: int = 0, **more: object) -> Any:
        return tickctl_json(*words, data_root=self.root, code=code, MARKET=self.source.market, **more)


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


@contextlib.contextmanager
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


@pytest.fixture
def recorded(source: Source, tmp_path: Path) -> Recorded:
    path = tmp_path / source.market / f"{DAY}.db"
    with recording(source, tmp_path) as now:
        wait_until(lambda: now.recorder.proc.poll() is not None or _rows(path).total() > ROWS, "trades")
        assert now.recorder.stop() == 0, now.recorder.output
    with closing(sqlite3.connect(path)) as conn:
        volume = Counter(dict(conn.execute("SELECT symbol, SUM(volume) FROM ticks GROUP BY symbol")))
    return Recorded(source, tmp_path, _rows(path).total(), _rows(path), volume)


def _rows(path: Path) -> Counter[str]:
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as conn:
        return Counter(dict(conn.execute("SELECT symbol, COUNT(*) FROM ticks GROUP BY symbol")))
    return Counter()


def clock_of(market: Market, day: str, clock_ms: int = CLOCK_MS) -> dict[str, object]:
    """Settings of a process for which it is that time of that day now, in the market's zone."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    if library is None:
        pytest.skip("another time needs libfaketime (apt-get install libfaketime)")
    offset_sec = market.zone.at_ms(day, clock_ms) // 1000 - int(time.time())
    return {
        "LD_PRELOAD": library, "FAKETIME": f"{offset_sec:+d}", "FAKETIME_DONT_FAKE_MONOTONIC": 1,
        "DONT_FAKE_MONOTONIC": 1, "NO_FAKE_STAT": 1,
    }  # fmt: skip


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseServer]:
    with clickhouse_server(tmp_path_factory.mktemp("engine")) as server:
        yield server


@pytest.fixture(scope="module")
def redis_at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis") / "data") as server:
        yield server


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server | None]:
    if not WEED.exists():
        yield None
        return
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


def test_everything_works_on_its_data_root(
    recorded: Recorded, engine: ClickHouseServer, redis_at: RedisServer, bucket: S3Server | None
) -> None:
    commands_tell_of_the_day(recorded)
    exports_have_its_rows(recorded)
    copies_in_other_programs_are_equal(recorded, engine, redis_at)
    it_is_put_away_and_comes_back(recorded, bucket)
    servers_answer(recorded)


def commands_tell_of_the_day(recorded: Recorded) -> None:
    source, word = recorded.source, "--day"
    status = recorded.ask("status", code=1)  # nobody records
    assert status["running"] is False
    lacks = 1 if source.state == "missing" else 0
    day = recorded.ask("day", DAY, "--recount", code=lacks)
    assert day["stored_ticks"] == recorded.rows
    assert {(row["state"], row["evidence"]) for row in day["symbols"]} == {(source.state, source.evidence)}
    gaps = recorded.ask("gaps", word, DAY, code=lacks)
    assert bool(gaps) is bool(lacks)
    top = recorded.ask("top", word, DAY)
    assert {row["symbol"]: (row["ticks"], row["volume"]) for row in top} == {
        symbol: (rows, recorded.volume[symbol]) for symbol, rows in recorded.by_symbol.items()
    }
    assert {row["currency"] for row in top} == {recorded.market.currency}
    counted = recorded.ask("query", "SELECT symbol, COUNT(*) AS n FROM ticks GROUP BY symbol")
    assert {row["symbol"]: row["n"] for row in counted} == recorded.by_symbol
    bars = recorded.ask("bars", recorded.symbol, word, DAY)
    assert bars
    assert all(bar["low"] <= bar["vwap"] <= bar["high"] for bar in bars)
    assert {bar["trading_day"] for bar in bars} == {DAY}
    facts = tickctl("facts", data_root=recorded.root, MARKET=source.market)
    assert facts.returncode == 0, facts.stderr
    assert f"in {recorded.market.name} sequences count nothing" in facts.stderr


def exports_have_its_rows(recorded: Recorded) -> None:
    def export(kind: str, *more: str, code: int = 0) -> str:
        done = tickctl(
            "export", kind, "--days", DAY, "-o", out / kind, *more, data_root=recorded.root,
            MARKET=recorded.source.market,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    out = recorded.directory / "out"
    for kind in ("csv", "parquet", "sqlite", "futu-zip"):
        assert f"{recorded.rows:,} ticks in 1 file" in export(kind)
    with (out / "csv" / f"{DAY}.csv").open(newline="") as file:
        assert Counter(row["symbol"] for row in csv.DictReader(file)) == recorded.by_symbol
    (parquet,) = (out / "parquet").rglob("*.parquet")
    assert f"market={recorded.source.market}" in str(parquet)
    assert Counter(pq.read_table(parquet).column("symbol").to_pylist()) == recorded.by_symbol
    assert _rows(out / "sqlite" / f"{DAY}.db") == recorded.by_symbol
    assert "no books of" in export("hftbacktest", code=3)
    assert len(list((out / "hftbacktest").glob("*"))) == 0
    export("hftbacktest", "--trades-only")
    assert len(list((out / "hftbacktest").glob("*_trades.npz"))) == len(recorded.by_symbol)
    if find_spec("nautilus_trader") is None:
        assert "pip install nautilus_trader" in export("nautilus", "--trades-only", code=1)


def copies_in_other_programs_are_equal(recorded: Recorded, engine: ClickHouseServer, redis_at: RedisServer) -> None:
    source, client = recorded.source, redis_at.client
    settings: dict[str, object] = {
        "MARKET": source.market, "DATA_ROOT": recorded.root, "SHIP_URL": f"{engine.url}/{source.name}",
        "SHIP_DIR": recorded.directory / "ship", "SHIP_RECORDER": "A", "REDIS_URL": redis_at.url,
        "REDIS_STREAM": f"market_data:{source.name}:{{day}}", "REDIS_CURRENT": f"market_data:{source.name}:current",
        "REDIS_LAST": "market_data:{symbol}:latest", "REDIS_CHANNEL": "market_data:tastytrade:trades",
    }  # fmt: skip
    made = tickctl("ship", "init", **settings)
    assert made.returncode == 0, made.stdout + made.stderr
    environment = clean_env(recorded.directory, **settings)
    heard = client.pubsub(ignore_subscribe_messages=True)
    heard.subscribe("market_data:tastytrade:trades")
    published: list[dict[str, Any]] = []

    def all_heard() -> bool:
        while (message := heard.get_message(timeout=0)) is not None:
            published.append(json.loads(message["data"]))
        return len(published) >= recorded.rows

    shipper, relay = Process([BIN / "hk-tick-ship"], environment), Process([BIN / "hk-tick-redis"], environment)
    with ended(shipper, relay):
        wait_until(all_heard, "every tick on the channel")
        assert Counter(tick["symbol"] for tick in published) == recorded.by_symbol
        assert all({"price", "size", "timestamp", "ts_ms"} <= tick.keys() for tick in published)
        entries = client.xrange(f"market_data:{source.name}:{DAY}")
        assert sum(len(json.loads(fields["ticks"])) for _, fields in entries) == recorded.rows
        wait_until(lambda: _is_shipped(recorded.directory / "ship", recorded.rows), "every row at ClickHouse")
        for process in (shipper, relay):
            process.signal(signal.SIGTERM)
            assert process.wait() == 0, process.output
    heard.close()
    verified = tickctl("ship", "verify", DAY, **settings)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert DAY in verified.stdout


def _is_shipped(directory: Path, rows: int) -> bool:
    status = read_status(directory)
    return status is not None and status.ticks >= rows and status.rows_behind == 0


def it_is_put_away_and_comes_back(recorded: Recorded, bucket: S3Server | None) -> None:
    where = {"MARKET": recorded.source.market}
    (done,) = recorded.ask("archive", DAY)
    assert (done["action"], done["verified"]) == ("archived", True)
    (fine,) = recorded.ask("verify")
    assert fine["fine"]
    other = recorded.directory / "other" / recorded.source.market
    other.mkdir(parents=True)
    shutil.copytree(recorded.root / "_archive", other / "_archive")
    back = tickctl("restore", DAY, data_root=other, **where)
    assert back.returncode == 0, back.stdout + back.stderr
    assert _rows(other / f"{DAY}.db") == recorded.by_symbol
    compared = tickctl("compare", recorded.root, other, **where)
    assert compared.returncode == 0, compared.stdout + compared.stderr
    into = recorded.directory / "merged" / recorded.source.market
    merged = tickctl("merge", recorded.root, other, "--into", into, "--days", DAY, **where)
    assert merged.returncode == 0, merged.stdout + merged.stderr
    assert _rows(into / f"{DAY}.db") == recorded.by_symbol
    if bucket is None:
        return
    place = f"s3://{BUCKET}/{recorded.source.name}"
    (sent,) = recorded.ask("archive", DAY, "--to", place, **bucket.environment)
    assert sent["verified"]
    (fine,) = recorded.ask("verify", "--from", place, **bucket.environment)
    assert fine["fine"]


def servers_answer(recorded: Recorded) -> None:
    more = {"MARKET": recorded.source.market, "API_ANONYMOUS": 1}
    with ended(api := ApiServer(recorded.directory / "api", recorded.root, **more)):
        with api.client() as client:
            asked = {"symbols": recorded.symbol, "day": DAY}
            ticks = client.get("/v1/ticks", params={**asked, "limit": 1000}).raise_for_status().json()
            assert len(ticks["data"]) == min(1000, recorded.by_symbol[recorded.symbol])
            bars = client.get("/v1/bars", params={**asked, "interval": "1h"}).raise_for_status().json()["data"]
            assert all(bar["low"] <= bar["vwap"] <= bar["high"] for bar in bars)
            (covered,) = client.get("/v1/coverage", params=asked).raise_for_status().json()["data"]
            assert (covered["state"], covered["stored_ticks"]) == (
                recorded.source.state, recorded.by_symbol[recorded.symbol],
            )  # fmt: skip
            days = client.get("/v1/days").raise_for_status().json()["data"]
            assert [(day["day"], day["rows"]) for day in days] == [(DAY, recorded.rows)]
        assert api.stop() == 0
    assert "Traceback" not in api.output


QUIET = {"DRIFT_WARN_SEC": 2, "WATCHDOG_STALL_SEC": 600}


@contextlib.contextmanager
def calling(directory: Path, settings: Mapping[str, object]) -> Iterator[Called]:
    """Somebody whom ``hk-tick-alert`` calls of this recorder, as soon as anything is wrong."""
    with Called() as called:
        file = directory / "alerts.toml"
        rules = "".join(f"[rules.{code}]\nfor_sec = 1\n" for code in ("no_ticks", "ticks_late", "recorder_down"))
        file.write_text(
            f'[[targets]]\nname = "desk"\nwebhook = "{called.url}"\nsecret = "{SECRET}"\n'
            f'[deadman]\nurl = "{called.url}"\nevery_sec = 5\n{rules}'
        )
        file.chmod(0o600)
        given = {**settings, "ALERT_FILE": file, "ALERT_DIR": directory / "alert"}
        with ended(Process([BIN / "hk-tick-alert"], clean_env(directory, **given))):
            yield called


def test_silence_calls_somebody_and_what_a_source_conflates_does_not(source: Source, tmp_path: Path) -> None:
    with recording(source, tmp_path, **QUIET) as now:
        path = tmp_path / source.market / f"{DAY}.db"
        wait_until(lambda: now.recorder.proc.poll() is not None or _rows(path).total() > ROWS, "trades")
        with calling(tmp_path, now.settings) as called:
            wait_until(lambda: called.pings > 1, "signs that all is well")
            assert "no_ticks" not in called.texts()
            assert "ticks_late" not in called.texts()
            now.fault("pause")
            wait_until(lambda: "no_ticks" in called.texts(), "the call")
            now.fault("resume")
            wait_until(lambda: "OVER" in called.texts(), "the call that it is over")


def test_a_closed_market_is_no_silence(source: Source, tmp_path: Path) -> None:
    with recording(source, tmp_path, SATURDAY, **QUIET) as now:
        now.fault("pause")
        now.recorder.wait_for("_subscribed symbols=2")
        with calling(tmp_path, now.settings) as called:
            wait_until(lambda: called.pings > 1, "signs that all is well")
            looks = len(now.recorder.lines)
            wait_until(lambda: len(now.recorder.lines) > looks + 3 * 2 * QUIET["DRIFT_WARN_SEC"], "looks at a silence")
            assert called.letters == []
        assert now.recorder.stop() == 0

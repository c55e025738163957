"""What comes behind a recorder works on its data root whatever its source: no program has a line for one.

For each source the built recorder and its simulator live on a day that is over, in processes of their own with another
clock. Then everything reads the same data root: commands, exports, archive and bucket, HTTP, live channel, a browser on
the dashboard, ClickHouse, Redis, alerts.
"""

from __future__ import annotations

import contextlib
import csv
import json
import shutil
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Browser, expect

from hk_tick_collector.clickhouse.shipping import read_status
from hk_tick_collector.market.market import Market
from hk_tick_collector.market.registry import market_of
from hk_tick_collector.store.snapshot_follow import COLUMNS
from tests.browser import Seen, chromium, page_of, show
from tests.called import SECRET, Called
from tests.clickhouse import ClickHouseServer, clickhouse_server
from tests.harness import BIN, Process, clean_env, ended, wait_until
from tests.integration.test_live import Reader
from tests.recordings import (
    CLOCK_MS,
    DAY,
    ROWS,
    SATURDAY,
    SIERRA,
    SOURCES,
    Gexbot,
    Source,
    clock_of,
    following,
    recording,
    ticks_by_symbol,
)
from tests.redis_server import RedisServer, redis_server
from tests.s3_server import BUCKET, WEED, S3Server, s3_server
from tests.serving import Served
from tests.tickctl import tickctl, tickctl_json


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


@contextlib.contextmanager
def _recorder_of(source: Source, directory: Path) -> Iterator[Process]:
    if source is SIERRA:
        with following(directory) as recorder:
            yield recorder
    else:
        with recording(source, directory) as now:
            yield now.recorder


@pytest.fixture(params=(*SOURCES, SIERRA), ids=lambda source: source.name)
def recorded(request: pytest.FixtureRequest, tmp_path: Path) -> Recorded:
    source: Source = request.param
    path = tmp_path / source.market / f"{DAY}.db"
    with _recorder_of(source, tmp_path) as recorder:
        wait_until(lambda: recorder.proc.poll() is not None or ticks_by_symbol(path).total() > ROWS, "trades")
        assert recorder.stop() == 0, recorder.output
    with closing(sqlite3.connect(path)) as conn:
        volume = Counter(dict(conn.execute("SELECT symbol, SUM(volume) FROM ticks GROUP BY symbol")))
    return Recorded(source, tmp_path, ticks_by_symbol(path).total(), ticks_by_symbol(path), volume)


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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


def test_everything_works_on_its_data_root(
    recorded: Recorded, engine: ClickHouseServer, redis_at: RedisServer, bucket: S3Server | None, browser: Browser
) -> None:
    commands_tell_of_the_day(recorded)
    exports_have_its_rows(recorded)
    somebody_is_called(recorded)
    copies_in_other_programs_are_equal(recorded, engine, redis_at)
    servers_answer(recorded, browser)
    it_is_put_away_and_comes_back(recorded, bucket)


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
    assert f"{recorded.market.where} sequences count nothing" in facts.stderr


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
    assert ticks_by_symbol(out / "sqlite" / f"{DAY}.db") == recorded.by_symbol
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
    assert ticks_by_symbol(other / f"{DAY}.db") == recorded.by_symbol
    compared = tickctl("compare", recorded.root, other, **where)
    assert compared.returncode == 0, compared.stdout + compared.stderr
    into = recorded.directory / "merged" / recorded.source.market
    merged = tickctl("merge", recorded.root, other, "--into", into, "--days", DAY, **where)
    assert merged.returncode == 0, merged.stdout + merged.stderr
    assert ticks_by_symbol(into / f"{DAY}.db") == recorded.by_symbol
    if bucket is None:
        return
    place = f"s3://{BUCKET}/{recorded.source.name}"
    (sent,) = recorded.ask("archive", DAY, "--to", place, **bucket.environment)
    assert sent["verified"]
    (fine,) = recorded.ask("verify", "--from", place, **bucket.environment)
    assert fine["fine"]


def servers_answer(recorded: Recorded, browser: Browser) -> None:
    served = Served(recorded.directory / "api", recorded.root, MARKET=recorded.source.market)
    with ended(served):
        it_answers_over_http(recorded, served.url)
        its_rows_come_on_the_live_channel(recorded, served.url)
        it_is_on_the_dashboard(recorded, served.url, browser)
        assert served.stop() == 0
    assert "Traceback" not in served.output


def it_answers_over_http(recorded: Recorded, url: str) -> None:
    asked = {"symbols": recorded.symbol, "day": DAY}
    with httpx.Client(base_url=url, timeout=60, verify=False) as client:
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


def its_rows_come_on_the_live_channel(recorded: Recorded, url: str) -> None:
    reader = Reader(url, since="day", shape="object")
    reader.until(rows=recorded.rows)
    told: list[dict[str, Any]] = [dict(row) for row in reader.rows]  # objects, as was asked for
    assert Counter(row["symbol"] for row in told) == recorded.by_symbol
    volume: Counter[str] = Counter()
    for row in told:
        volume[row["symbol"]] += row["volume"] or 0
    assert volume == recorded.volume
    assert {row["trading_day"] for row in told} == {DAY}


def it_is_on_the_dashboard(recorded: Recorded, url: str, browser: Browser) -> None:
    """Every page of ticks says of this day what its file holds, and none complains or names another source."""
    seen, day = Seen(), f"{DAY[:4]}-{DAY[4:6]}-{DAY[6:]}"
    with closing(sqlite3.connect(recorded.root / f"{DAY}.db")) as conn:
        (price,) = conn.execute(
            "SELECT price FROM ticks WHERE symbol = ? ORDER BY rowid DESC LIMIT 1", (recorded.symbol,)
        ).fetchone()
    with page_of(browser, seen) as page:
        for name, words in (
            ("", [day, f"{recorded.rows:,} ticks", "Something is wrong"]),
            (f"coverage?day={DAY}", list(recorded.by_symbol)),
            (f"symbol/{recorded.symbol}", [recorded.symbol, recorded.source.state, f"{price:g}"]),
            (f"days/{DAY}", [day, "grade"]),
            ("sources", [recorded.root.name, recorded.market.code, "recorder_stopped"]),
            ("server", ["/v1/"]),
        ):
            show(page, url, name)
            for word in words:
                expect(page.locator("main")).to_contain_text(word)
            assert "OpenD" not in page.locator("main").inner_text()
        show(page, url, f"data?day={DAY}")
        page.get_by_role("button", name="Sample").click()
        expect(page.get_by_role("region", name="Sample").locator("tbody tr")).to_have_count(50)
    assert seen.complaints == []
    assert seen.hosts == {urlsplit(url).netloc}


def somebody_is_called(recorded: Recorded) -> None:
    """Nobody records any more; on that day and at that time it is what calls somebody first."""
    source = recorded.source
    settings = {
        "MARKET": source.market, "SOURCE": source.name, "FUTU_SYMBOLS": source.symbols, "DATA_ROOT": recorded.root,
        **source.settings(recorded.directory, "http://127.0.0.1:9", int(time.time())),
        **clock_of(recorded.market, DAY, CLOCK_MS),
    }  # fmt: skip
    with calling(recorded.directory, settings) as called:
        wait_until(lambda: "recorder_down" in called.texts(), "the call")
        assert "OpenD" not in called.texts()


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
        wait_until(lambda: now.recorder.proc.poll() is not None or ticks_by_symbol(path).total() > ROWS, "trades")
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


SERIES = ("US.NDX/classic/gex_full", "US.SPX/classic/gex_full")


@dataclass(frozen=True)
class Levels:
    """A data root of snapshots, and the time and spot of each by its series, in the order of storing."""

    directory: Path
    root: Path
    rows: list[tuple[str, int, float]]


@pytest.fixture
def levels(tmp_path: Path) -> Levels:
    """Recorded by gexbot's recorder, whose silence calls somebody."""
    gexbot = Gexbot(tmp_path)
    with gexbot.running(DAY, CLOCK_MS) as (fault, recorder), ended(process := recorder(0, **QUIET)):
        gexbot.wait_for_more(process, DAY, 10)
        with calling(tmp_path, {**gexbot.settings, **QUIET}) as called:
            wait_until(lambda: called.pings > 1, "signs that all is well")
            assert "no_ticks" not in called.texts()
            fault("stale")
            wait_until(lambda: "no_ticks" in called.texts(), "the call")
            fault("fresh")
            wait_until(lambda: "OVER" in called.texts(), "the call that it is over")
            assert "OpenD" not in called.texts()
        assert process.stop() == 0, process.output
    (file,) = (gexbot.root / "snapshot").glob("*.snapshot.db")
    with closing(sqlite3.connect(file)) as conn:
        told = conn.execute(
            "SELECT symbol || '/' || package || '/' || category, ts_sec, spot FROM readable ORDER BY rowid"
        )
        return Levels(tmp_path, gexbot.root, told.fetchall())


def test_everything_works_on_a_data_root_of_snapshots(
    levels: Levels, engine: ClickHouseServer, redis_at: RedisServer, bucket: S3Server | None, browser: Browser
) -> None:
    commands_tell_of_the_levels(levels)
    copies_of_the_levels_are_equal(levels, engine, redis_at)
    served = Served(levels.directory / "api", levels.root, MARKET="US")
    with ended(served):
        the_levels_are_told_over_http_and_live(levels, served.url)
        the_levels_are_on_the_dashboard(levels, served.url, browser)
        assert served.stop() == 0
    assert "Traceback" not in served.output
    the_levels_are_put_away_and_come_back(levels, bucket)


def commands_tell_of_the_levels(levels: Levels) -> None:
    def ask(*words: object, code: int = 0) -> Any:
        return tickctl_json(*words, data_root=levels.root, code=code, MARKET="US")

    assert ask("status", code=1)["running"] is False  # nobody records
    report = ask("snapshots", "--days", DAY, code=1)  # of ten seconds of a day
    assert {f"{row['symbol']}/{row['package']}/{row['category']}" for row in report["series"]} == set(SERIES)
    assert sum(row["seen"] for row in report["series"]) == len(levels.rows)
    counted = ask("query", "SELECT symbol, COUNT(*) AS n FROM snapshots GROUP BY symbol", "--days", DAY)
    assert sum(row["n"] for row in counted) == len(levels.rows)
    out = levels.directory / "out"
    done = tickctl("export", "parquet", "--days", DAY, "-o", out, data_root=levels.root, MARKET="US")
    assert done.returncode == 0, done.stdout + done.stderr
    (parquet,) = out.rglob("*.parquet")
    assert sorted(pq.read_table(parquet).column("spot").to_pylist()) == sorted(spot for _, _, spot in levels.rows)


def copies_of_the_levels_are_equal(levels: Levels, engine: ClickHouseServer, redis_at: RedisServer) -> None:
    settings: dict[str, object] = {
        "MARKET": "US", "DATA_ROOT": levels.root, "SHIP_URL": f"{engine.url}/gexbot", "SHIP_RECORDER": "A",
        "SHIP_DIR": levels.directory / "ship", "REDIS_URL": redis_at.url,
    }  # fmt: skip
    made = tickctl("ship", "init", **settings)
    assert made.returncode == 0, made.stdout + made.stderr
    environment = clean_env(levels.directory, **settings)
    shipper, relay = Process([BIN / "hk-tick-ship"], environment), Process([BIN / "hk-tick-redis"], environment)
    with ended(shipper, relay):
        key = f"hk:snapshots:{DAY}"

        def relayed() -> list[dict[str, Any]]:
            entries = [json.loads(fields["snapshots"]) for _, fields in redis_at.client.xrange(key)]
            return [dict(zip(COLUMNS, row, strict=True)) for entry in entries for row in entry]

        wait_until(lambda: len(relayed()) >= len(levels.rows), "every snapshot in the stream")
        assert [(_series_of(row), row["ts_sec"], row["spot"]) for row in relayed()] == levels.rows
        shipper.wait_for("ship_started")
        for process in (shipper, relay):
            process.signal(signal.SIGTERM)
            assert process.wait() == 0, process.output
    done = tickctl("ship", "verify", DAY, "--json", **settings)
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = json.loads(done.stdout)
    assert (row["trading_day"], row["kind"]) == (DAY, "snapshots")
    checked = tickctl("ship", "verify", DAY, "--check", "--json", **settings)
    assert [row["result"] for row in json.loads(checked.stdout)] == ["equal"]


def _series_of(row: Mapping[str, Any]) -> str:
    return f"{row['symbol']}/{row['package']}/{row['category']}"


def the_levels_are_told_over_http_and_live(levels: Levels, url: str) -> None:
    with httpx.Client(base_url=url, timeout=60, verify=False) as client:
        asked = {"symbols": "all", "day": DAY}
        told = client.get("/v1/snapshots", params=asked).raise_for_status().json()["data"]
        assert sorted((_series_of(row), row["ts_ms"] // 1000, row["spot"]) for row in told) == sorted(levels.rows)
        series = client.get("/v1/snapshots/series").raise_for_status().json()["data"]
        newest = {name: second for name, second, _ in sorted(levels.rows)}
        assert {_series_of(row): row["last_ts_ms"] // 1000 for row in series} == newest
    reader = Reader(url, kind="snapshot", since="day", shape="object")
    reader.until()
    came = [row for message in reader.others for row in message.get("snapshots", ())]
    assert [(_series_of(row), row["ts_sec"], row["spot"]) for row in came] == levels.rows


def the_levels_are_on_the_dashboard(levels: Levels, url: str, browser: Browser) -> None:
    seen, day = Seen(), f"{DAY[:4]}-{DAY[4:6]}-{DAY[6:]}"
    with page_of(browser, seen) as page:
        for name, words in (
            ("", [day, f"{len(levels.rows):,} snapshots", "Something is wrong"]),
            ("snapshots", [*SERIES, *(f"{spot:g}" for spot in {name: spot for name, _, spot in levels.rows}.values())]),
            ("sources", [levels.root.name, "recorder_stopped"]),
            ("server", ["/v1/"]),
        ):
            show(page, url, name)
            for word in words:
                expect(page.locator("main")).to_contain_text(word)
            assert "OpenD" not in page.locator("main").inner_text()
    assert seen.complaints == []
    assert seen.hosts == {urlsplit(url).netloc}


def the_levels_are_put_away_and_come_back(levels: Levels, bucket: S3Server | None) -> None:
    (done,) = tickctl_json("archive", DAY, data_root=levels.root, MARKET="US")
    assert done["action"] == "archived"
    (fine,) = tickctl_json("verify", data_root=levels.root, MARKET="US")
    assert fine["action"] == "fine"
    other = levels.directory / "other" / "US"
    other.mkdir(parents=True)
    shutil.copytree(levels.root / "_archive", other / "_archive")
    back = tickctl("restore", DAY, "--kind", "snapshot", data_root=other, MARKET="US")
    assert back.returncode == 0, back.stdout + back.stderr
    name = f"snapshot/{DAY}.snapshot.db"
    assert (other / name).read_bytes() == (levels.root / name).read_bytes()
    if bucket is not None:
        place = f"s3://{BUCKET}/gexbot"
        (sent,) = tickctl_json("archive", DAY, "--to", place, data_root=levels.root, MARKET="US", **bucket.environment)
        assert sent["action"] == "archived"

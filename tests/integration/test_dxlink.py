"""The recorder on the simulated dxLink endpoint, with its faults; an independent client sees the same trades."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import sqlite3
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from hk_tick_collector.cli import doctor_dxlink
from hk_tick_collector.core.clock import SystemClock
from hk_tick_collector.dxlink_sim.tape import read_truth
from hk_tick_collector.sources.dxlink import spec
from hk_tick_collector.sources.dxlink.link import DxLinkSource
from hk_tick_collector.store import reader
from tests.forked import parent
from tests.harness import BIN, ForkedRecorder, Process, clean_env, ended, stored_rows, wait_until
from tests.nights import every_test
from tests.simulators import Simulator

SYMBOLS = "US.AAPL,US.MSFT,US.NVDA"
ROOT = Path(__file__).resolve().parents[2]
DXFEED = ROOT / ".venv/dxlink/node_modules"
INSTALLED = ROOT / ".venv/dxlink/.wanted"  # the directory alone may be half of it


class Endpoint(Simulator):
    name, ready = "dxlink", r"ws=(\S+) rest=(\S+)"

    def kinds(self) -> set[str]:
        return {event["kind"] for event in read_truth(self.truth)}

    def trades(self) -> set[int]:
        """Indices of what was shown and can be stored."""
        with suppress(OSError):
            events = read_truth(self.truth)
            return {
                event["index"] for event in events if event["shown"] and event["kind"] == "NEW" and not event["odd"]
            }
        return set()


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[Endpoint]:
    with ended(made := Endpoint(tmp_path, rate=100)):
        yield made


def settings(tmp_path: Path, endpoint: Endpoint, **more: object) -> dict[str, str]:
    secrets = tmp_path / "dxlink.secrets"
    secrets.write_text("client_secret=top-secret\nrefresh_token=top-secret-too\n")
    secrets.chmod(0o600)
    return clean_env(
        tmp_path / "home", SOURCE="dxlink", MARKET="US", FUTU_SYMBOLS=SYMBOLS, DATA_ROOT=tmp_path / "US",
        DXLINK_API=endpoint.rest, DXLINK_SECRETS_FILE=secrets, CHECK_INTERVAL_SEC=0.2, RECONNECT_MIN_DELAY=0.2,
        RECONNECT_MAX_DELAY=1, HEALTH_INTERVAL_SEC=0.5, **more,
    )  # fmt: skip


def recorder(tmp_path: Path, endpoint: Endpoint, **more: object) -> Process:
    return ForkedRecorder(settings(tmp_path, endpoint, **more))


def days(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "US").glob("2*.db"))


def stored(tmp_path: Path) -> set[int]:
    seqs: set[int] = set()
    for db in days(tmp_path):
        with closing(sqlite3.connect(f"file:{db}?mode=ro", uri=True)) as conn, suppress(sqlite3.OperationalError):
            seqs.update(seq for (seq,) in conn.execute("SELECT seq FROM ticks"))
    return seqs


def all_stored(tmp_path: Path, endpoint: Endpoint, more_than: int) -> None:
    """Nothing is made any more, and all of it is there."""
    endpoint.fault("pause")
    wait_until(lambda: len(stored(tmp_path)) > more_than and stored(tmp_path) == endpoint.trades(), "all stored")


def checked(tmp_path: Path, endpoint: Endpoint) -> dict[str, int]:
    done = subprocess.run(
        [BIN / "hk-dxlink-sim", "check", endpoint.truth, tmp_path / "US"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    checked_json: dict[str, int] = json.loads(done.stdout)
    return checked_json


@pytest.mark.parametrize(
    ("wanted", "fault", "result", "words"),
    [
        (SYMBOLS, "", "ok", "3 symbols: the endpoint knows all of them"),
        (
            "US.AAPL,US.NOPE,US.MSFT,US.GONE", "", "warn",
            "within 1 s nothing came that describes US.NOPE, US.GONE (2 of 4 symbols)",
        ),
        (SYMBOLS, "undescribed", "warn", "within 1 s nothing came that describes any of 3 symbols"),
        (SYMBOLS, "refuse", "fail", "TastyTrade refused the refresh token or the client secret (401)"),
    ],
)  # fmt: skip
def test_doctor_names_every_symbol_that_no_word_comes_of(
    endpoint: Endpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wanted: str,
    fault: str,
    result: str,
    words: str,
) -> None:
    monkeypatch.setattr(doctor_dxlink, "TRIAL_SEC", 1.0)
    secrets = Path(settings(tmp_path, endpoint)["DXLINK_SECRETS_FILE"])
    source = DxLinkSource(spec.US, endpoint.rest, None, secrets, (), SystemClock())
    if fault:
        endpoint.fault(fault)
    outcome = asyncio.run(doctor_dxlink._symbols(source, wanted.split(",")))
    assert (outcome.result, outcome.found.partition(";")[0]) == (result, words)


def test_every_trade_that_was_shown_is_stored_once_through_all_faults(tmp_path: Path, endpoint: Endpoint) -> None:
    with ended(first := recorder(tmp_path, endpoint)):
        wait_until(lambda: len(stored(tmp_path)) > 100, "trades")
        for oddity in ("nan", "fraction", "correction", "cancel"):
            endpoint.fault(oddity)
        first.wait_for("tick_quarantined .*code=price")
        wait_until(lambda: endpoint.kinds() == {"NEW", "CORRECTION", "CANCEL"}, "all were told")
        for oddity in ("half_row", "reorder", "garbage"):  # after the odd trades: one that is cut is none of them
            endpoint.fault(oddity)
        first.wait_for("tick_quarantined .*code=symbol")
        all_stored(tmp_path, endpoint, 100)
        came = {"connections": 1, "logins": 1, "histories": 0, "turned_away": 0}
        assert endpoint.state() == came  # none of these cost the connection
        for number, (fault, words) in enumerate(
            [
                ("cut", ""),
                ("too_big", "1009"),
                ("channel_closed", "closed the channel"),
                ("unauthorized", "no longer takes the token"),
            ],
            start=2,
        ):
            known = len(stored(tmp_path))
            endpoint.fault(fault)
            first.wait_for(f"dxlink_disconnected reason=.*{words}")
            first.wait_for(f"dxlink_connected .*connection={number}")
            wait_until(lambda: endpoint.state()["connections"] >= number, "connected")  # noqa: B023
            endpoint.fault("resume")
            wait_until(lambda: len(stored(tmp_path)) > known, "trades again")  # noqa: B023
            all_stored(tmp_path, endpoint, known)
        assert endpoint.state()["logins"] == 2  # a reconnect costs no login, a token that is refused does
        first.signal(signal.SIGKILL)
        first.wait()
    with ended(second := recorder(tmp_path, endpoint)):
        second.wait_for("dxlink_subscribed symbols=3")
        known = len(stored(tmp_path))
        endpoint.fault("resume")
        wait_until(lambda: len(stored(tmp_path)) > known, "trades after the kill")
        all_stored(tmp_path, endpoint, known)
        assert second.stop() == 0
    for process in (first, second):
        assert not process.find("Traceback|top-secret|OpenD")
    report = checked(tmp_path, endpoint)
    assert report["shown"] == report["stored"] == stored_rows(tmp_path / "US")


def test_the_day_says_what_it_can_and_every_command_reads_it(tmp_path: Path, endpoint: Endpoint) -> None:
    with ended(process := recorder(tmp_path, endpoint)):
        wait_until(lambda: len(stored(tmp_path)) > 100, "trades")
        for amendment in ("correction", "cancel"):
            endpoint.fault(amendment)
        process.wait_for("health connected=True")
        wait_until(lambda: endpoint.kinds() == {"NEW", "CORRECTION", "CANCEL"}, "both were told")
        all_stored(tmp_path, endpoint, 100)
        status = tickctl(tmp_path, endpoint, "status")
        assert "dxLink" in status.stdout
        assert "OpenD" not in status.stdout
        assert process.stop() == 0
    (day,) = days(tmp_path)
    assert {row.state for row in reader.coverage(day)} == {"unproven"}  # an index counts nothing
    with closing(sqlite3.connect(day)) as conn:
        kinds = conn.execute("SELECT DISTINCT kind FROM amendments ORDER BY kind").fetchall()
        providers = conn.execute("SELECT DISTINCT market, provider FROM ticks").fetchall()
    assert kinds == [("cancel",), ("correction",)]
    assert providers == [("US", "dxlink")]
    for words in (
        ("day", day.stem),
        ("gaps", "--day", day.stem),
        ("top", "--day", day.stem),
        ("bars", "US.AAPL", "--day", day.stem),
    ):
        done = tickctl(tmp_path, endpoint, *words)
        assert done.returncode in (0, 1), done.stderr  # 1: the day is not proven, and says so
        assert "Traceback" not in done.stderr
        assert done.stdout


def made(endpoint: Endpoint) -> set[int]:
    """Indices of all trades that can be stored, also of those that nobody was told of when they were made."""
    events = read_truth(endpoint.truth)
    return {event["index"] for event in events if event["kind"] == "NEW" and not event["odd"]}


def by_way(tmp_path: Path) -> dict[str, int]:
    """Rows by how they came."""
    rows_by_way: dict[str, int] = {}
    for db in days(tmp_path):
        with closing(sqlite3.connect(f"file:{db}?mode=ro", uri=True)) as conn:
            for way, rows in conn.execute("SELECT push_type, COUNT(*) FROM ticks GROUP BY 1"):
                rows_by_way[way] = rows_by_way.get(way, 0) + rows
    return rows_by_way


def test_what_was_missed_is_asked_for_where_that_is_allowed(tmp_path: Path, endpoint: Endpoint) -> None:
    wait_until(lambda: len(made(endpoint)) > 300, "trades before anybody listens")
    with ended(process := recorder(tmp_path, endpoint, DXLINK_HISTORY=1)):
        process.wait_for("dxlink_history_done symbols=3 rows=[0-9]+")
        endpoint.fault("pause")
        wait_until(lambda: stored(tmp_path) == made(endpoint), "the day before the start, too")
        endpoint.fault("resume")
        known = len(made(endpoint))
        process.signal(signal.SIGSTOP)  # trades come and go while it does not look
        endpoint.fault("cut")
        wait_until(lambda: len(made(endpoint)) > known + 200, "trades of the break")
        process.signal(signal.SIGCONT)
        process.wait_for("dxlink_connected .*connection=2")
        wait_until(lambda: endpoint.state()["histories"] >= 6, "it asks again")
        endpoint.fault("pause")
        wait_until(lambda: stored(tmp_path) == made(endpoint), "the break, too")
        assert by_way(tmp_path)["backfill"] > 400
        refused = process.find(".*dxlink_history_(refused|cut).*")  # before the stop, which is a connection's end, too
        assert refused is None, refused[0]
        assert process.stop() == 0
    (day,) = days(tmp_path)
    assert {row.state for row in reader.coverage(day)} == {"unproven"}, "a whole copy of it would prove no more"
    assert checked(tmp_path, endpoint)["missing"] == 0
    assert not process.find("Traceback")


def test_a_past_that_is_cut_off_is_stored_as_far_as_it_goes_and_said(tmp_path: Path, endpoint: Endpoint) -> None:
    wait_until(lambda: len(made(endpoint)) > 300, "trades before anybody listens")
    endpoint.fault("pause")
    endpoint.fault("history_cut")
    with ended(process := recorder(tmp_path, endpoint, DXLINK_HISTORY=1)):
        process.wait_for("dxlink_history_done symbols=3 rows=[0-9]+")
        wait_until(lambda: stored(tmp_path) == endpoint.trades(), "what was shown")
        assert 0 < len(stored(tmp_path)) < len(made(endpoint))
        assert process.stop() == 0
    assert len([line for line in process.lines if "dxlink_history_cut symbol=" in line]) == 3
    assert set(by_way(tmp_path)) == {"backfill"}


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("history_error", "UNAUTHORIZED: no right to TimeAndSale of the past"),
        ("history_closed", "the server closed the channel"),
        ("history_too_big", "the connection was lost 2 times while the past was asked for"),
    ],
)
def test_no_right_to_the_past_is_said_once_and_costs_no_trade(
    tmp_path: Path, endpoint: Endpoint, fault: str, words: str
) -> None:
    endpoint.fault(fault)
    with ended(process := recorder(tmp_path, endpoint, DXLINK_HISTORY=1)):
        process.wait_for(f'dxlink_history_refused reason="{words}"')
        asked = endpoint.state()["histories"]
        connections = endpoint.state()["connections"]
        wait_until(lambda: len(stored(tmp_path)) > 50, "trades")
        endpoint.fault("pause")  # what is under way when a line is cut is lost
        known = len(stored(tmp_path))
        endpoint.fault("cut")
        wait_until(lambda: endpoint.state()["connections"] > connections, "another connection")
        endpoint.fault("resume")
        wait_until(lambda: len(stored(tmp_path)) > known + 50, "trades of it")
        assert endpoint.state()["histories"] == asked, "asked no more"
        assert process.stop() == 0
    assert len([line for line in process.lines if "dxlink_history_refused" in line]) == 1
    assert set(by_way(tmp_path)) == {"push"}
    assert not process.find("Traceback|dxlink_thread_failed")


def test_nobody_asks_for_the_past_unless_told_to(tmp_path: Path, endpoint: Endpoint) -> None:
    with ended(process := recorder(tmp_path, endpoint)):
        wait_until(lambda: len(stored(tmp_path)) > 100, "trades")
        assert process.stop() == 0
    assert endpoint.state()["histories"] == 0
    assert set(by_way(tmp_path)) == {"push"}


def test_an_independent_client_is_told_the_same_trades(tmp_path: Path, endpoint: Endpoint) -> None:
    tastytrade = pytest.importorskip("tastytrade")
    from tastytrade.dxfeed import TimeAndSale  # noqa: PLC0415

    async def listen() -> set[int]:
        session = tastytrade.Session("x", "y")
        session._client.base_url = endpoint.rest
        seen: set[int] = set()
        async with tastytrade.DXLinkStreamer(session) as streamer:
            await streamer.subscribe(TimeAndSale, ["AAPL", "MSFT", "NVDA"])
            async for trade in streamer.listen(TimeAndSale):
                seen.add(trade.index)
                if len(seen) >= 50:
                    return seen
        return seen

    seen = asyncio.run(asyncio.wait_for(listen(), 120))
    wait_until(lambda: seen <= endpoint.trades(), "the truth file has what it saw")


def test_dxfeed_s_own_client_is_told_the_same_trades(tmp_path: Path, endpoint: Endpoint) -> None:
    """In JavaScript; it rounds ``index``, so trades are known by all else."""
    if not INSTALLED.exists() or shutil.which("node") is None:
        assert not (every_test() and shutil.which("npm")), "bash scripts/vendors.sh says why it is not installed"
        pytest.skip("dxFeed's client is not installed: bash scripts/vendors.sh")
    with urllib.request.urlopen(f"{endpoint.rest}/api-quote-tokens", timeout=30) as answer:
        token = json.load(answer)["data"]["token"]
    done = subprocess.run(
        [
            "node", "--experimental-websocket", ROOT / "tests/dxlink_program.mjs", DXFEED, endpoint.url, token, "50",
            "AAPL", "MSFT",
        ],
        env=clean_env(tmp_path / "home"), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    names = ("eventSymbol", "time", "price", "size")
    told = [tuple(json.loads(line)[name] for name in names) for line in done.stdout.splitlines()]
    assert len(told) >= 50
    assert {symbol for symbol, *_ in told} == {"AAPL", "MSFT"}
    wait_until(
        lambda: (
            set(told)
            <= {
                (event["symbol"], event["time"], round(event["price"], 2), event["size"])
                for event in read_truth(endpoint.truth)
            }
        ),
        "the truth file has what it was told",
    )


def test_refused_secrets_are_a_sentence_and_not_asked_again(tmp_path: Path, endpoint: Endpoint) -> None:
    endpoint.fault("refuse")
    with ended(process := recorder(tmp_path, endpoint)):
        process.wait_for(
            r"dxlink_connect_failed .*refused the refresh token or the client secret \(401\); not asked again"
        )
        wait_until(lambda: len([line for line in process.lines if "health " in line]) >= 3, "some looks")
        assert endpoint.state()["logins"] == 1
        doctor = tickctl(tmp_path, endpoint, "doctor")
        assert doctor.returncode != 0
        assert "dxlink_token" in doctor.stdout
        assert "OpenD" not in doctor.stdout
        endpoint.fault("accept")
        (tmp_path / "dxlink.secrets").write_text("client_secret=another\nrefresh_token=top-secret-too\n")
        process.wait_for("dxlink_connected")
        logins = endpoint.state()["logins"]
        doctor = tickctl(tmp_path, endpoint, "doctor")
        assert re.search("ok +dxlink_symbols +3 symbols: the endpoint knows all of them", doctor.stdout)
        assert re.search(r"US.AAPL: .* came \(of 3\s+symbols this one was tried\)", doctor.stdout)
        assert endpoint.state()["logins"] == logins + 1  # for all of its checks
        assert process.stop() == 0
    assert not process.find("top-secret")
    assert "top-secret" not in doctor.stdout + doctor.stderr


def tickctl(tmp_path: Path, endpoint: Endpoint, *words: Any) -> subprocess.CompletedProcess[str]:
    return parent(words[0]).run([*map(str, words)], settings(tmp_path, endpoint), 120)

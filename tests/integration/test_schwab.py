"""The recorder on Schwab's simulated streamer, with its faults; the real schwab-py sees the same trades."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from hk_tick_collector.schwab_sim.tape import read_truth
from hk_tick_collector.sims.command import SIZE
from hk_tick_collector.store import layout, reader
from tests.forked import parent
from tests.harness import BIN, ForkedRecorder, Process, clean_env, ended, wait_until
from tests.schwab_streamer import Key, Streamer

SYMBOLS = "US.AAPL,US.MSFT,US.NVDA"


@pytest.fixture
def streamer(tmp_path: Path) -> Iterator[Streamer]:
    with ended(made := Streamer(tmp_path, rate=200, conflate_ms=40)):
        yield made


def settings(tmp_path: Path, streamer: Streamer, **more: object) -> dict[str, str]:
    secrets, token = tmp_path / "schwab.secrets", tmp_path / "schwab.token"
    if not token.exists():
        secrets.write_text("client_id=an-app\nclient_secret=top-secret\n")
        login = {"creation_timestamp": int(time.time()), "token": {"refresh_token": "a-refresh-token"}}
        token.write_text(json.dumps(login))
        for path in (secrets, token):
            path.chmod(0o600)
    given: dict[str, object] = {
        "SOURCE": "schwab", "MARKET": "US", "FUTU_SYMBOLS": SYMBOLS, "DATA_ROOT": tmp_path / "US",
        "SCHWAB_API": streamer.rest, "SCHWAB_SECRETS_FILE": secrets, "SCHWAB_TOKEN_FILE": token,
        "CHECK_INTERVAL_SEC": 0.2, "RECONNECT_MIN_DELAY": 0.2, "RECONNECT_MAX_DELAY": 1, "HEALTH_INTERVAL_SEC": 0.5,
    }  # fmt: skip
    return clean_env(tmp_path / "home", **{**given, **more})


def recorder(tmp_path: Path, streamer: Streamer, **more: object) -> Process:
    return ForkedRecorder(settings(tmp_path, streamer, **more))


def tickctl(
    tmp_path: Path, streamer: Streamer, *words: Any, given: str = "", **more: object
) -> subprocess.CompletedProcess[str]:
    if not given:
        return parent(words[0]).run([*map(str, words)], settings(tmp_path, streamer, **more), 120)
    return subprocess.run(
        [BIN / "hk-tickctl", *map(str, words)], env=settings(tmp_path, streamer), capture_output=True, text=True,
        check=False, input=given,
    )  # fmt: skip


def days(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "US").glob("2*.db"))


def stored(tmp_path: Path) -> set[Key]:
    stored_rows: set[Key] = set()
    for db in days(tmp_path):
        with closing(sqlite3.connect(f"file:{db}?mode=ro", uri=True)) as conn, suppress(sqlite3.OperationalError):
            stored_rows.update(conn.execute(f"SELECT substr(symbol, 4), ts_ms, price, {SIZE} FROM ticks"))
    return stored_rows


def all_stored(tmp_path: Path, streamer: Streamer, more_than: int) -> None:
    """No trade is made any more, and all that were told are there."""
    streamer.fault("pause")
    wait_until(lambda: len(stored(tmp_path)) > more_than and stored(tmp_path) >= streamer.shown(), "all stored")


def checked(tmp_path: Path, streamer: Streamer) -> dict[str, int]:
    done = subprocess.run(
        [BIN / "hk-schwab-sim", "check", streamer.truth, tmp_path / "US"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    checked_json: dict[str, int] = json.loads(done.stdout)
    return checked_json


def check_of(done: subprocess.CompletedProcess[str], name: str) -> dict[str, str]:
    """What ``doctor --json`` says of one check."""
    outcomes: list[dict[str, str]] = json.loads(done.stdout)["checks"]
    return next(outcome for outcome in outcomes if outcome["name"] == name)


def test_doctor_names_every_symbol_that_schwab_does_not_know(tmp_path: Path, streamer: Streamer) -> None:
    known = "ok +schwab_symbols +3 symbols: Schwab knows all of them; trades were not tried"
    assert re.search(known, tickctl(tmp_path, streamer, "doctor").stdout)
    wanted = "US.AAPL,US.NOPE,US.MSFT,US.GONE"
    told = tickctl(tmp_path, streamer, "doctor", "--json", FUTU_SYMBOLS=wanted)
    assert told.returncode == 1
    outcome = check_of(told, "schwab_symbols")
    assert (outcome["result"], outcome["found"]) == ("fail", "Schwab does not know US.NOPE, US.GONE (2 of 4 symbols)")
    streamer.fault("listings_busy")
    outcome = check_of(tickctl(tmp_path, streamer, "doctor", "--json"), "schwab_symbols")
    assert outcome["result"] == "warn"  # the recorder does not need the answer
    assert re.search(r"429.*; not asked for: US.AAPL, US.MSFT, US.NVDA \(3 of 3 symbols\)$", outcome["found"])
    assert streamer.state()["connections"] == 0  # a user has one stream


def test_every_last_trade_that_was_told_is_stored_once_through_all_faults(tmp_path: Path, streamer: Streamer) -> None:
    with ended(first := recorder(tmp_path, streamer)):
        wait_until(lambda: len(stored(tmp_path)) > 50, "trades")
        streamer.fault("nan")
        first.wait_for("tick_quarantined .*code=price")
        streamer.fault("fraction")
        wait_until(lambda: any(size == 0.5 for _, _, _, size in stored(tmp_path)), "a part of a share")
        for oddity in ("garbage", "half", "reorder", "repeat", "delayed"):  # a message that is cut has no odd trade
            streamer.fault(oddity)
        first.wait_for("tick_quarantined .*code=symbol")
        first.wait_for("schwab_data_delayed")
        all_stored(tmp_path, streamer, 50)
        assert streamer.state()["connections"] == 1  # none of these cost the connection
        assert streamer.state()["refreshes"] == 1
        for number, (fault, words) in enumerate(
            [("cut", ""), ("expire", ""), ("stop_streaming", r"stopped sending \(code 30")], start=2
        ):
            known = len(stored(tmp_path))
            streamer.fault(fault)
            if fault == "expire":  # nobody is cut off for that: the next connection needs a new token
                streamer.fault("cut")
            first.wait_for(f"schwab_disconnected reason=.*{words}")
            first.wait_for(f"schwab_connected .*connection={number}")
            streamer.fault("resume")
            wait_until(lambda: len(stored(tmp_path)) > known, "trades again")  # noqa: B023
            all_stored(tmp_path, streamer, known)
        assert streamer.state()["refreshes"] == 2  # a reconnect costs none, a token that is void does
        first.signal(signal.SIGKILL)
        first.wait()
    with ended(second := recorder(tmp_path, streamer)):
        second.wait_for("schwab_subscribed symbols=3")
        known = len(stored(tmp_path))
        streamer.fault("resume")
        wait_until(lambda: len(stored(tmp_path)) > known, "trades after the kill")
        all_stored(tmp_path, streamer, known)
        streamer.fault("close_connection")  # another program has logged in: it is left alone
        second.wait_for("schwab_connect_failed .*another program streams with this login.*not asked again before")
        assert second.stop() == 0
    for process in (first, second):
        assert not process.find("Traceback|top-secret|a-refresh-token|access-|OpenD")
    report = checked(tmp_path, streamer)
    assert report["made"] > report["stored"] >= report["shown"] > 50  # it is conflated


def test_the_day_says_what_it_can_and_every_command_reads_it(tmp_path: Path, streamer: Streamer) -> None:
    with ended(process := recorder(tmp_path, streamer)):
        wait_until(lambda: len(stored(tmp_path)) > 50, "trades")
        process.wait_for("health connected=True")
        all_stored(tmp_path, streamer, 50)
        known = layout.status_file(tmp_path / "US")  # written every two seconds
        wait_until(lambda: json.loads(known.read_text())["symbols_subscribed"] == 3, "the status of now")
        status = tickctl(tmp_path, streamer, "status")
        assert re.search(r"Schwab .*ready, 3 of 3 symbols, the login ends in 6 d 23 h", status.stdout)
        assert "OpenD" not in status.stdout
        assert process.stop() == 0
    (day,) = days(tmp_path)
    coverage = reader.coverage(day)
    assert {row.state for row in coverage} == {"unproven"}
    assert all("conflated by the source" in (row.reason or "") for row in coverage)
    with closing(sqlite3.connect(day)) as conn:
        providers = conn.execute("SELECT DISTINCT market, provider FROM ticks").fetchall()
    assert providers == [("US", "schwab")]
    certificate = json.loads(tickctl(tmp_path, streamer, "day", day.stem, "--recount", "--json").stdout)
    assert (certificate["proven_symbols"], certificate["unproven_symbols"], certificate["problems"]) == (0, 3, [])
    if certificate["told_volume"] is not None:  # before 07:30 in New York no total counts the day
        truth = read_truth(streamer.truth)
        assert certificate["told_volume"] <= sum(trade["size"] for trade in truth) + len(truth)
        assert 0 < certificate["seen_volume"] <= certificate["told_volume"]
    for words in (
        ("gaps", "--day", day.stem),
        ("top", "--day", day.stem),
        ("bars", "US.AAPL", "--day", day.stem),
    ):
        done = tickctl(tmp_path, streamer, *words)
        assert done.returncode in (0, 1), (words, done.stderr)  # 1: the day is not proven, and says so
        assert "Traceback" not in done.stderr
        assert done.stdout


def test_the_real_client_is_told_the_same_trades(tmp_path: Path, streamer: Streamer) -> None:
    schwab = pytest.importorskip("schwab.streaming")

    def ask(path: str, data: dict[str, str] | None, authorization: str) -> httpx.Response:
        headers = {"Authorization": authorization}
        return httpx.request("POST" if data else "GET", streamer.rest + path, data=data, headers=headers, timeout=30)

    form = {"grant_type": "refresh_token", "refresh_token": "a-refresh-token"}
    access = ask("/v1/oauth/token", form, "Basic YTpi").json()["access_token"]

    class Client:
        token_metadata = SimpleNamespace(token={"access_token": access})

        def get_user_preferences(self) -> httpx.Response:
            return ask("/trader/v1/userPreference", None, f"Bearer {access}")

    async def listen() -> set[tuple[str, int]]:
        seen: set[tuple[str, int]] = set()
        client = schwab.StreamClient(Client())
        await client.login()

        def take(message: dict[str, Any]) -> None:
            seen.update(
                (item["key"], item["TRADE_TIME_MILLIS"]) for item in message["content"] if "TRADE_TIME_MILLIS" in item
            )

        client.add_level_one_equity_handler(take)
        await client.level_one_equity_subs(["AAPL", "MSFT"])
        await client.level_one_equity_add(["NVDA"])
        while len(seen) < 30 or {symbol for symbol, _ in seen} != {"AAPL", "MSFT", "NVDA"}:
            await client.handle_message()
        await client.level_one_equity_unsubs(["NVDA"])
        await client.logout()
        return seen

    seen = asyncio.run(asyncio.wait_for(listen(), 120))
    streamer.fault("pause")  # and the truth file has all
    assert seen <= {(trade["symbol"], trade["time"]) for trade in read_truth(streamer.truth)}


def test_a_person_logs_in_and_the_recorder_takes_it(tmp_path: Path, streamer: Streamer) -> None:
    token = tmp_path / "schwab.token"
    with ended(process := recorder(tmp_path, streamer)):
        process.wait_for("schwab_subscribed symbols=3")
        streamer.fault("revoke")  # a week is over
        streamer.fault("cut")
        process.wait_for("schwab_connect_failed .*refused the login, which ends after seven days")
        refreshes = streamer.state()["refreshes"]
        doctor = tickctl(tmp_path, streamer, "doctor")
        assert doctor.returncode == 1
        assert re.search("fail +schwab_streamer .*refused the login", doctor.stdout)
        assert "OpenD" not in doctor.stdout
        page = json.loads(tickctl(tmp_path, streamer, "schwab", "login", "--dry-run", "--json").stdout)["page"]
        before = token.read_text()
        for symbols in (SYMBOLS, "", "nonsense"):  # a login is the same whatever is recorded with it
            told = tickctl(tmp_path, streamer, "schwab", "status", FUTU_SYMBOLS=symbols)
            assert told.returncode == 0, told.stderr
        assert token.read_text() == before
        with pytest.raises(httpx.HTTPStatusError) as redirected:
            httpx.get(page).raise_for_status()
        address = redirected.value.response.headers["Location"]
        done = tickctl(tmp_path, streamer, "schwab", "login", given=address)
        assert done.returncode == 0, done.stderr
        assert re.fullmatch(r"the login in \S+ ends in 6 d 23 h \(.* UTC\)\n", done.stdout)
        process.wait_for("schwab_connected .*connection=2")  # at once, although it was not to ask for a while
        assert streamer.state()["refreshes"] - refreshes <= 3
        again = tickctl(tmp_path, streamer, "schwab", "login", given=address)
        assert again.returncode == 1
        assert "refused the code, which is good once" in again.stderr
        assert process.stop() == 0
    secret = json.loads(token.read_text())["token"]
    for words in (secret["access_token"], secret["refresh_token"], "top-secret", "a-refresh-token"):
        assert not process.find(words)
        for shown in (done, again, doctor):
            assert words not in shown.stdout + shown.stderr

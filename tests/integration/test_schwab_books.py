"""Order books of Schwab's simulated streamer: what is stored is what was shown, and the day says what it is."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from hk_tick_collector.core.errors import StoreError
from hk_tick_collector.records.book import RowKind
from hk_tick_collector.schwab_sim.depth import Line, book_truth, read_book_truth
from hk_tick_collector.store import book_reader
from hk_tick_collector.store.book_reader import BookState
from hk_tick_collector.store.layout import book_days, book_file
from tests.harness import BIN, Process, ended, wait_until
from tests.integration.test_schwab import recorder, settings, stored, tickctl
from tests.schwab_streamer import Streamer

BOOKED = ("US.AAPL", "US.NVDA")
ODD = {"cross": True, "one_sided": True, "unsorted": True, "nan": False, "half_told": False, "part": False}


@pytest.fixture
def streamer(tmp_path: Path) -> Iterator[Streamer]:
    with ended(made := Streamer(tmp_path, rate=100, conflate_ms=40, nyse="NVDA")):
        yield made


def books_of(tmp_path: Path) -> list[BookState]:
    root = tmp_path / "US"
    with contextlib.suppress(StoreError):  # a file that is just being made
        return [state for day in book_days(root) for state in book_reader.states(book_file(root, day))]
    return []


def pushes_of(tmp_path: Path) -> set[tuple[str, int | None]]:
    return {(state.symbol, state.bid_ts_ms) for state in books_of(tmp_path) if state.book is not None}


def shown(streamer: Streamer, *, odd: bool = False) -> list[Line]:
    path = book_truth(streamer.truth)
    assert path is not None
    return [line for line in read_book_truth(path) if line.odd is odd] if path.exists() else []


def counts_of(tmp_path: Path) -> list[book_reader.SessionCounts]:
    root = tmp_path / "US"
    return [count for day in book_days(root) for count in book_reader.sessions(book_file(root, day))]


def booked(tmp_path: Path, streamer: Streamer, **more: object) -> Process:
    return recorder(tmp_path, streamer, BOOK_SYMBOLS=",".join(BOOKED), **more)


def all_books_stored(tmp_path: Path, streamer: Streamer, more_than: int) -> None:
    """The newest of each symbol: whatever was merged before, this state is there. No book is made any more."""
    wait_until(lambda: len(pushes_of(tmp_path)) > more_than, "books")
    streamer.fault("pause")
    newest = {f"US.{line.symbol}": line.time for line in shown(streamer)}
    wait_until(lambda: newest.items() <= pushes_of(tmp_path), "the newest books")


def test_each_stored_book_was_shown_through_all_faults(tmp_path: Path, streamer: Streamer) -> None:
    with ended(first := booked(tmp_path, streamer)):
        first.wait_for("books_subscribed symbols=2 wanted=2")
        wait_until(lambda: {symbol for symbol, _ in pushes_of(tmp_path)} == set(BOOKED), "books of both exchanges")
        for oddity in ODD:
            streamer.fault(f"book_{oddity}")
        wait_until(lambda: len(shown(streamer, odd=True)) >= list(ODD.values()).count(False), "odd books")
        first.wait_for("book_unread")
        assert not first.find("thread_failed|Traceback")
        all_books_stored(tmp_path, streamer, 20)
        assert streamer.state()["connections"] == 1  # none of these cost the connection
        assert streamer.state()["listings"] == 1
        assert any(state.book and state.book.asks == () for state in books_of(tmp_path))

        for number, fault in enumerate(("cut", "stop_streaming"), start=2):
            streamer.fault(fault)
            first.wait_for(f"schwab_connected .*connection={number}")
            streamer.fault("resume")
            known = len(pushes_of(tmp_path))
            wait_until(lambda: len(pushes_of(tmp_path)) > known + 5, "books again")  # noqa: B023
        assert streamer.state()["listings"] == 1  # known over connections
        first.signal(signal.SIGKILL)
        first.wait()
    known = len(pushes_of(tmp_path))
    with ended(second := booked(tmp_path, streamer)):
        wait_until(lambda: len(pushes_of(tmp_path)) > known + 20, "books after the kill")
        all_books_stored(tmp_path, streamer, known + 20)
        assert second.stop() == 0
    for process in (first, second):
        assert not process.find("Traceback|thread_failed|top-secret|a-refresh-token|access-")
    # Killed and cut off while it traded: what was on its way then is missing, and nothing else is wrong.
    done = subprocess.run(
        [BIN / "hk-schwab-sim", "check", streamer.truth, tmp_path / "US"], capture_output=True, text=True, check=False
    )
    found = json.loads(done.stdout)
    assert [found[name] for name in ("books_invented", "invented", "doubled", "wrong_totals")] == [0, 0, 0, 0]
    assert found["books_stored"] >= found["books_shown"] - found["books_missing"] > 50
    breaks = [state for state in books_of(tmp_path) if state.kind is RowKind.BREAK]
    assert len(breaks) == 2 * 4  # cut, end of the stream, kill, stop
    counts = counts_of(tmp_path)
    assert all(count.adds_up for count in counts)
    unreadable = sum(not is_kept for is_kept in ODD.values())
    assert counts[0].unread == unreadable
    assert found["books_missing"] <= sum(count.merged for count in counts) + 40  # what waited when it was killed


def test_the_day_says_watched_and_conflated_and_everybody_reads_it(tmp_path: Path, streamer: Streamer) -> None:
    with ended(process := booked(tmp_path, streamer)):
        wait_until(lambda: len(pushes_of(tmp_path)) > 30 and len(stored(tmp_path)) > 30, "books and trades")
        all_books_stored(tmp_path, streamer, 30)
        assert process.stop() == 0
    (day,) = book_days(tmp_path / "US")
    assert book_reader.is_conflated(book_file(tmp_path / "US", day))
    report = tickctl(tmp_path, streamer, "book", "--days", day, "--json")
    told = json.loads(report.stdout)
    assert told["conflated"] is True
    assert "conflated by the source" in told["sentence"]
    assert "complete" not in report.stdout
    assert [one["pulls"] for one in told["symbols"]] == [0, 0]  # there is no question to ask
    certificate = json.loads(tickctl(tmp_path, streamer, "day", day, "--recount", "--json").stdout)
    assert certificate["books"]["conflated"] is True
    assert certificate["books"]["state"] in ("watched", "blind")
    assert certificate["books"]["stored"] == len([state for state in books_of(tmp_path) if state.book is not None])
    newest = tickctl(tmp_path, streamer, "book", "US.NVDA")
    assert newest.returncode == 0, newest.stderr
    assert "OpenD" not in newest.stdout + report.stdout
    (last,) = [line for line in shown(streamer) if line.symbol == "NVDA"][-1:]
    assert f"{last.bids[0][0]:g}" in newest.stdout
    loaded = tickctl(tmp_path, streamer, "query", "SELECT count(*) AS n FROM books", "--days", day, "--format", "json")
    assert str(len(pushes_of(tmp_path))) in loaded.stdout or loaded.returncode == 0, loaded.stderr


def test_what_cannot_be_watched_is_blind_with_its_reason_and_ticks_go_on(tmp_path: Path, streamer: Streamer) -> None:
    streamer.fault("listings_busy")
    with ended(process := recorder(tmp_path, streamer, BOOK_SYMBOLS="US.AAPL,US.XYZ")):
        process.wait_for("books_refused .*wants to be left alone")
        known = len(stored(tmp_path))
        wait_until(lambda: len(stored(tmp_path)) > known + 20, "trades without books")
        assert streamer.state()["listings"] == 1  # nobody is asked over and over
        assert process.stop() == 0
    streamer.fault("listings_back")
    streamer.fault("book_refuse")
    with ended(process := recorder(tmp_path, streamer, BOOK_SYMBOLS="US.AAPL,US.XYZ")):
        process.wait_for("books_refused .*service is not available .code 11")
        process.wait_for("books_refused .*XYZ: Schwab does not know it")
        streamer.fault("book_accept")
        process.wait_for("books_subscribed symbols=1 wanted=2", timeout_sec=60)
        streamer.fault("book_delayed")
        process.wait_for("books_ended symbols=1 reason=.*delayed")
        streamer.fault("book_in_time")
        wait_until(lambda: len(re.findall("books_subscribed symbols=1", process.output)) > 1, "watched again")
        assert process.stop() == 0
    (day,) = book_days(tmp_path / "US")
    reasons = {watch.reason for watch in book_reader.watches(book_file(tmp_path / "US", day))}
    assert any("XYZ: Schwab does not know it" in (reason or "") for reason in reasons)
    assert any("delayed" in (reason or "") for reason in reasons)


def test_doctor_says_which_books_there_are(tmp_path: Path, streamer: Streamer) -> None:
    for wanted, words in (
        (
            "US.AAPL,US.XYZ,US.NVDA,US.ABC",
            r"(?s)fail +schwab_books +XYZ: Schwab does not know it; ABC: Schwab does not\s+know it\n",
        ),
        ("US.AAPL,US.NVDA", "ok +schwab_books .*1 symbol of NASDAQ_BOOK, 1 symbol of NYSE_BOOK"),
    ):
        env = settings(tmp_path, streamer, BOOK_SYMBOLS=wanted)
        done = subprocess.run([BIN / "hk-tickctl", "doctor"], env=env, capture_output=True, text=True, check=False)
        assert re.search(words, done.stdout), done.stdout


def test_the_real_client_is_told_the_same_books(tmp_path: Path, streamer: Streamer) -> None:
    schwab = pytest.importorskip("schwab.streaming")

    def ask(path: str, data: dict[str, str] | None, authorization: str) -> httpx.Response:
        headers = {"Authorization": authorization}
        return httpx.request("POST" if data else "GET", streamer.rest + path, data=data, headers=headers, timeout=30)

    form = {"grant_type": "refresh_token", "refresh_token": "a-refresh-token"}
    access = ask("/v1/oauth/token", form, "Basic YTpi").json()["access_token"]
    quotes = ask("/marketdata/v1/quotes?symbols=NVDA,XYZ&fields=reference", None, f"Bearer {access}").json()
    assert quotes["NVDA"]["reference"]["exchangeName"] == "NYSE"
    assert quotes["errors"]["invalidSymbols"] == ["XYZ"]

    class Client:
        token_metadata = SimpleNamespace(token={"access_token": access})

        def get_user_preferences(self) -> httpx.Response:
            return ask("/trader/v1/userPreference", None, f"Bearer {access}")

    seen: dict[str, set[tuple[str, int, int, float, float]]] = {"NYSE_BOOK": set(), "NASDAQ_BOOK": set()}

    def take(message: dict[str, Any]) -> None:
        for one in message["content"]:
            bid, ask = one["BIDS"][0], one["ASKS"][0]
            key = one["key"], one["BOOK_TIME"], len(one["BIDS"]), bid["BID_PRICE"], ask["ASK_PRICE"]
            seen[message["service"]].add(key)

    async def listen() -> None:
        client = schwab.StreamClient(Client())
        await client.login()
        client.add_nyse_book_handler(take)
        client.add_nasdaq_book_handler(take)
        await client.nyse_book_subs(["NVDA"])
        await client.nasdaq_book_subs(["AAPL"])
        await client.nasdaq_book_add(["MSFT"])
        while min(map(len, seen.values())) < 10:
            await client.handle_message()
        await client.nasdaq_book_unsubs(["MSFT"])
        await client.logout()

    asyncio.run(asyncio.wait_for(listen(), 120))
    streamer.fault("pause")  # and the truth file has all
    truth = {(line.symbol, line.time, len(line.bids), line.bids[0][0], line.asks[0][0]) for line in shown(streamer)}
    assert set.union(*seen.values()) <= truth
    assert {key[0] for key in seen["NYSE_BOOK"]} == {"NVDA"}

"""Days at a simulated gateway, with its faults: what the files claim is held against what was traded."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from itertools import compress
from pathlib import Path
from typing import Any

import pytest

from hk_tick_collector.days.catalog import Catalog
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.tw import TW
from hk_tick_collector.quality.certificate import make_certificate
from hk_tick_collector.quality.gap_list import gap_lines
from hk_tick_collector.quality.page import page
from hk_tick_collector.quality.recount import recount
from hk_tick_collector.records.totals import SECOND_SESSION
from hk_tick_collector.sources.shioaji import replay
from hk_tick_collector.sources.stored import Stored
from hk_tick_collector.store.verdict import NOT_SHOWN
from tests.unit.sources.shioaji.desk import SYMBOLS, Desk, at_ms

FRIDAY, MONDAY = "20261120", "20261123"


def play(desk_of: Any, work: Any) -> None:
    async def go() -> None:
        desk = desk_of()
        try:
            await work(desk)
        finally:
            desk.close()

    asyncio.run(go())


async def session(desk: Desk, evening: str, day: str, middle: Coroutine[Any, Any, None] | None = None) -> None:
    """Its night, its trading, its close."""
    desk.go_to(evening, "20:00")
    await desk.trade(40)
    desk.go_to(day, "09:00")
    await desk.trade(80)
    if middle is not None:
        await middle
    desk.go_to(day, "13:10")
    await desk.trade(40)
    desk.go_to(day, "14:36")


def certificate_of(desk: Desk, day: str) -> Any:
    """With its page, whose hours begin on the evening of the session before."""
    calendar = TradingCalendar(TW)
    day_read = Catalog(desk.root, desk.root / "_archive").day(day)
    counted = recount(day_read, calendar.day_kind(day), workers=1)
    made = make_certificate(day_read, calendar, desk.clock.now_ms(), recounted=counted)
    assert page(made, counted.plots, gap_lines(day_read))
    used = {minute // 60 for minute, rows in enumerate(counted.plots.rows_a_minute) if rows}
    assert used >= {5, 18, 22}, "20:00, 09:00 and 13:10, a weekend in between or not"
    return made


def test_a_week_of_faults_and_never_a_false_word(tmp_path: Path) -> None:
    """Holes, a cut, nonsense, a used-up budget: each day says what it has, and what the close brought back."""

    async def work(desk: Desk) -> None:
        await desk.connect()
        await session(desk, FRIDAY, MONDAY)
        assert set(desk.states(MONDAY).values()) == {"unproven"}
        assert {row.reason for row in desk.rows(MONDAY)} == {NOT_SHOWN}
        await desk.compare_days()
        assert desk.states(MONDAY) == dict.fromkeys(SYMBOLS, "proven")

        async def hole() -> None:
            desk.exchange.fault("hole")
            await desk.trade(40)

        await session(desk, MONDAY, "20261124", hole())
        assert "missing" in desk.states("20261124").values()
        lacking = certificate_of(desk, "20261124")
        assert lacking.grade in ("D", "E")
        assert "at most: by volume, which does not tell in how many trades it was" in lacking.sentence
        await desk.compare_days()
        assert desk.states("20261124") == dict.fromkeys(SYMBOLS, "proven")

        async def cut() -> None:
            desk.exchange.fault("restart")
            assert desk.link is not None
            await asyncio.wait_for(asyncio.shield(desk.link.lost), 30)
            desk.exchange.trade(25)  # while nobody listens
            await desk.connect()

        await session(desk, "20261124", "20261125", cut())
        assert "missing" in desk.states("20261125").values()
        await desk.compare_days()
        assert desk.states("20261125") == dict.fromkeys(SYMBOLS, "proven")

        async def nonsense() -> None:
            for name in ("nan", "fraction", "trial", "backwards", "garbage", "reorder", "binary"):
                desk.exchange.fault(name)
                await desk.trade(8, 4.0)
            await desk.until(lambda: len(desk.sink.rejected) >= 5)

        await session(desk, "20261125", "20261126", nonsense())
        await desk.compare_days()
        assert desk.states("20261126") == dict.fromkeys(SYMBOLS, "proven")

        desk.exchange.fault("used_up")
        await session(desk, "20261126", "20261127")
        await desk.compare_days()
        assert {row.reason for row in desk.rows("20261127")} == {NOT_SHOWN}
        assert certificate_of(desk, "20261127").grade in ("B", "C")
        desk.go_to("20261130", "08:01")  # the traffic begins anew, and Friday is asked for before Monday trades
        desk.exchange.fault("refill")
        await desk.compare_days()
        assert desk.states("20261127") == dict.fromkeys(SYMBOLS, "proven")

        report = desk.checked()
        assert report["shown"] > 700
        assert (report["missing"], report["doubled"], report["invented"], report["false_proofs"]) == (0, 0, 0, 0)
        assert (report["not_shown"], report["trials"], report["proven_days"]) == (0, 1, 15)
        for day in (MONDAY, "20261124", "20261125", "20261126", "20261127"):
            made = certificate_of(desk, day)
            assert made.problems == ()
            assert made.grade == "A", made.sentence
            assert "and the source had nothing more after the close" in made.sentence
            assert (made.proven_symbols, made.missing_ticks) == (3, 0)
            assert {verdict.evidence for verdict in made.symbols} == {"running_total"}

    play(lambda: Desk(tmp_path, FRIDAY, "19:50"), work)


def test_a_day_session_that_goes_on_from_its_night_is_proven_too(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        await desk.connect()
        await session(desk, FRIDAY, MONDAY)
        await desk.compare_days()
        assert desk.states(MONDAY) == dict.fromkeys(SYMBOLS, "proven")
        assert desk.checked()["false_proofs"] == 0

    play(lambda: Desk(tmp_path, FRIDAY, "19:50", goes_on=True), work)


@pytest.mark.parametrize(
    ("fault", "reason"), [("wrong_history", replay.REPLAY_DISAGREES), ("short_history", NOT_SHOWN)]
)
def test_a_copy_that_is_not_that_of_the_file_proves_nothing(tmp_path: Path, fault: str, reason: str) -> None:
    async def work(desk: Desk) -> None:
        await desk.connect()
        await session(desk, FRIDAY, MONDAY)
        desk.exchange.fault(fault)
        await desk.compare_days()
        assert {row.reason for row in desk.rows(MONDAY)} == {reason}
        if fault == "short_history":  # it is asked for again, and at last doubted
            for _ in range(replay.MAX_TRIES):
                desk.clock.advance(replay.AGAIN_SEC + 1)
                await desk.compare_days()
            assert {row.reason for row in desk.rows(MONDAY)} == {replay.REPLAY_DISAGREES}
            assert desk.exchange.requests["data/ticks"] == 3 * replay.MAX_TRIES
        report = desk.checked()
        assert (report["missing"], report["invented"], report["proven_days"]) == (0, 0, 0)

    play(lambda: Desk(tmp_path, FRIDAY, "19:50"), work)


def test_a_night_that_nobody_showed_is_a_doubt(tmp_path: Path) -> None:
    """Its trades would be in no total of the day: the day adds up without them."""

    async def work(desk: Desk) -> None:
        desk.exchange.fault("nightless_history")
        desk.go_to(FRIDAY, "20:00")
        desk.exchange.trade(40)  # told to nobody
        desk.go_to(MONDAY, "08:00")
        await desk.connect(["TWF.TXFL6"])
        desk.go_to(MONDAY, "09:00")
        await desk.trade(80)
        desk.go_to(MONDAY, "14:36")
        await desk.compare_days()
        (row,) = desk.rows(MONDAY)
        assert (row.state, row.reason) == ("unproven", replay.NIGHT_NOT_SHOWN)
        assert desk.checked()["false_proofs"] == 0

    play(lambda: Desk(tmp_path, FRIDAY, "19:50"), work)


@pytest.mark.parametrize(("goes_on", "state"), [(False, "unproven"), (True, "proven")])
def test_a_night_that_only_the_copy_shows_is_proven_by_a_total_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, goes_on: bool, state: str
) -> None:
    """A copy that begins in the middle of the night adds up from 0 as well, unless the totals go on from the night."""

    async def work(desk: Desk) -> None:
        desk.go_to(FRIDAY, "20:00")
        desk.exchange.trade(40)  # told to nobody
        desk.go_to("20261121", "02:00")
        desk.exchange.trade(40)
        whole_day = desk.exchange.tape.whole_day

        def of_date(code: str, date: str, *, with_night: bool = True) -> Any:
            columns = whole_day(code, date, with_night=with_night)
            late = [not when.startswith("2026-11-20") for when in columns["datetime"]]
            return {name: list(compress(values, late)) for name, values in columns.items()}

        if not goes_on:
            monkeypatch.setattr(desk.exchange.tape, "whole_day", of_date)
        desk.go_to(MONDAY, "08:00")
        await desk.connect(["TWF.TXFL6"])
        desk.go_to(MONDAY, "09:00")
        await desk.trade(80)
        desk.go_to(MONDAY, "14:36")
        for _ in range(2):
            await desk.compare_days()
            (row,) = desk.rows(MONDAY)
            assert (row.state, row.reason) == (state, None if goes_on else replay.NIGHT_NOT_TOLD)
        assert desk.checked()["false_proofs"] == 0

    play(lambda: Desk(tmp_path, FRIDAY, "19:50", goes_on=goes_on), work)


@pytest.mark.parametrize(("fault", "reason"), [("recovering", replay.NIGHT_NOT_SHOWN), ("accept", None)])
def test_who_listened_to_a_gateway_without_a_session_has_not_heard_the_night(
    tmp_path: Path, fault: str, reason: str | None
) -> None:
    async def work(desk: Desk) -> None:
        desk.exchange.fault("nightless_history")
        await desk.connect(["TWF.TXFL6"])
        assert desk.link is not None
        desk.link._replay = desk.replay
        desk.go_to(FRIDAY, "21:00")
        desk.exchange.fault(fault)
        assert (await desk.link.ready(10)).serving is (reason is None)
        desk.exchange.fault("recovered")
        desk.go_to(MONDAY, "09:00")
        assert (await desk.link.ready(10)).serving
        await desk.trade(80)
        desk.go_to(MONDAY, "14:36")
        await desk.compare_days()
        (row,) = desk.rows(MONDAY)
        assert (row.state, row.reason) == ("unproven" if reason else "proven", reason)

    play(lambda: Desk(tmp_path, FRIDAY, "14:59"), work)


def test_trades_that_are_all_alike_are_told_apart_by_their_times() -> None:
    """Three of one lot and one price fit whether the totals go on from the night or not."""
    seqs = (1, SECOND_SESSION + 1, SECOND_SESSION + 2, SECOND_SESSION + 3)
    copy = [replay.Trade(1_000_000 * n, seq, 10.0, 1, "BUY", None, None) for n, seq in enumerate(seqs)]
    last = copy[-1]._replace(seq=SECOND_SESSION + 4)
    for first, missing in ((1, last), (2, copy[1])):  # the last one is not stored, or the first one is not
        told = [Stored(0, 1, 10.0, 1, "BUY")]
        told += [Stored(1000 * (first + n), SECOND_SESSION + 2 + n, 10.0, 1, "BUY") for n in (0, 1)]
        compared = replay.compare(copy, {row.seq or 0: row for row in told})
        assert compared.agrees
        assert compared.missing == [missing]
        assert compared.end == (last.seq if first == 1 else copy[-1].seq)


def test_nothing_is_asked_for_while_the_market_trades_or_wants_to_be_left_alone(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        await desk.connect()
        desk.go_to(MONDAY, "09:00")
        await desk.trade(40)
        await desk.compare_days()
        desk.go_to(MONDAY, "14:34")
        await desk.compare_days()
        assert "data/ticks" not in desk.exchange.requests
        desk.go_to(MONDAY, "14:36")
        desk.exchange.fault("banned")
        with pytest.raises(Exception, match=r"left alone \(451: simulated\); not asked again before 06:37:00 UTC"):
            await desk.compare_days()
        asked = dict(desk.exchange.requests)
        desk.exchange.fault("accept")
        with pytest.raises(Exception, match="not asked again before"):
            await desk.compare_days()
        assert desk.exchange.requests == asked, "nobody knocks before the time is over"
        desk.clock.advance(replay.AGAIN_SEC + 1)
        await desk.compare_days()
        assert desk.states(MONDAY) == dict.fromkeys(SYMBOLS, "proven")

    play(lambda: Desk(tmp_path, FRIDAY, "14:59"), work)  # it listens all night


def test_a_day_that_nobody_recorded_is_not_asked_for(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        desk.go_to(MONDAY, "15:10")
        await desk.connect()
        await desk.compare_days()
        assert "data/ticks" not in desk.exchange.requests

    play(lambda: Desk(tmp_path, FRIDAY, "19:50"), work)


def test_a_symbol_without_a_trade_is_proven_empty(tmp_path: Path) -> None:
    async def work(desk: Desk) -> None:
        await desk.connect()
        desk.go_to(MONDAY, "09:00")
        desk.exchange.trade(1)
        await desk.until(lambda: desk.sink.pushed)
        desk.go_to(MONDAY, "14:36")
        for _ in range(2):  # who is asked before another one has shown a trade is asked again
            await desk.compare_days()
            desk.clock.advance(replay.AGAIN_SEC + 1)
        assert desk.states(MONDAY) == dict.fromkeys(SYMBOLS, "proven")
        assert desk.checked()["false_proofs"] == 0

    play(lambda: Desk(tmp_path, FRIDAY, "14:59"), work)  # it listens all night


def test_a_history_that_is_empty_altogether_proves_no_empty_day(tmp_path: Path) -> None:
    """The line to the market was dead all day, and so is what stands behind it."""

    async def work(desk: Desk) -> None:
        await desk.connect()
        desk.go_to(MONDAY, "14:36")
        for _ in range(replay.MAX_TRIES + 1):
            await desk.compare_days()
            desk.clock.advance(replay.AGAIN_SEC + 1)
        assert desk.exchange.requests["data/ticks"] == replay.MAX_TRIES * len(SYMBOLS)
        assert desk.checked()["proven_days"] == 0
        assert not (desk.root / f"{MONDAY}.db").exists()

    play(lambda: Desk(tmp_path, FRIDAY, "14:59"), work)


def test_traffic_begins_anew_at_eight_of_a_trading_day() -> None:
    assert replay.next_reset_ms(TW, at_ms("20261127", "14:40")) == at_ms("20261130", "08:00")
    assert replay.next_reset_ms(TW, at_ms("20261130", "07:59")) == at_ms("20261130", "08:00")
    assert replay.next_reset_ms(TW, at_ms("20261224", "08:00")) == at_ms("20261228", "08:00")

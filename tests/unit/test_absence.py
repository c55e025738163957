"""What OpenD does not send leaves a row: refusals, outages, closed days, midnight, restarts, other lists."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime
from pathlib import Path

import pytest

from hk_tick_collector.core.facts import NO_TICK, DayFact, Fact, HeadProven, NotSubscribed, Subscribed, Verified
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hk import HK
from hk_tick_collector.market.hk.sessions import HK_TZ
from hk_tick_collector.sources.absence import NO_CONNECTION, OUTAGE_MS, TELL_AGAIN_MS, Absences
from hk_tick_collector.store import reader
from hk_tick_collector.store.writer import DayFileWriter
from tests.clock import ManualClock
from tests.ticks import DAY, make_ticks

A, B = "HK.00700", "HK.00005"
WORDS = "No right to subscribe to this code"


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=HK_TZ).timestamp() * 1000)


class Lab:
    def __init__(self, now: str) -> None:
        self.clock = ManualClock(at(now))
        self.facts: list[Fact | DayFact] = []
        self.absences = Absences(self.facts.extend, TradingCalendar(HK), self.clock)

    def to(self, now: str) -> None:
        self.clock.advance((at(now) - self.clock.now_ms()) / 1000)

    def note(self, *active: str, refused: dict[str, str] | None = None, wanted: tuple[str, ...] = (A, B)) -> None:
        self.absences.note(wanted, active, refused or {}, NO_CONNECTION)

    def told(self) -> list[NotSubscribed]:
        taken = [fact for fact in self.facts if isinstance(fact, NotSubscribed)]
        self.facts.clear()
        return taken


def test_a_refused_symbol_is_told_in_opends_words_and_when_it_is_over() -> None:
    lab = Lab("2026-11-20T08:50:00")
    lab.note(A, refused={B: WORDS})
    lab.absences.tell()
    assert lab.facts == [], "no tick can come before the market's day"
    lab.to("2026-11-20T09:00:05")
    lab.absences.tell()
    nine = at("2026-11-20T09:00:00")
    assert lab.facts == [
        NotSubscribed(B, DAY, nine, nine + 5000, over=False, reason=WORDS),
        Subscribed(DAY, (A,), nine + 5000),
    ]
    lab.facts.clear()
    lab.to("2026-11-20T09:04:00")
    lab.absences.tell()
    assert lab.facts == [], "the same is not told every few seconds"
    lab.to("2026-11-20T11:00:00")
    lab.absences.tell()
    assert lab.told() == [NotSubscribed(B, DAY, nine, at("2026-11-20T11:00:00"), over=False, reason=WORDS)]
    lab.note(A, B)
    eleven = at("2026-11-20T11:00:00")
    assert lab.facts == [NotSubscribed(B, DAY, nine, eleven, over=True, reason=WORDS), Subscribed(DAY, (A, B), eleven)]
    lab.facts.clear()
    lab.to("2026-11-20T11:04:00")
    lab.absences.tell(at_once=True)
    assert lab.facts == []
    lab.to("2026-11-20T11:05:00")
    lab.absences.tell()
    assert lab.facts == [Subscribed(DAY, (A, B), at("2026-11-20T11:05:00"))], "everything wanted is told now and then"


def test_a_refusal_ends_with_the_days_ticks_and_begins_again_with_the_next() -> None:
    lab = Lab("2026-11-20T16:10:00")
    lab.note(refused={A: WORDS, B: WORDS})
    for now in ("16:14:00", "16:15:01", "16:20:00", "23:59:00"):
        lab.to(f"2026-11-20T{now}")
        lab.absences.tell()
    ends = [(fact.symbol, fact.until_ms, fact.over) for fact in lab.told()]
    before, closed = at("2026-11-20T16:14:00"), at("2026-11-20T16:15:00")
    assert ends == [(A, before, False), (B, before, False), (A, closed, True), (B, closed, True)]
    for now in ("2026-11-21T10:00:00", "2026-11-22T10:00:00", "2026-11-23T08:59:59"):  # Saturday to Monday
        lab.to(now)
        lab.absences.tell(at_once=True)
    assert lab.facts == []
    lab.to("2026-11-23T09:00:01")
    lab.absences.tell()
    assert {(fact.trading_day, fact.from_ms) for fact in lab.told()} == {("20261123", at("2026-11-23T09:00:00"))}


@pytest.mark.parametrize(("now", "last"), [("2026-12-24T11:00:00", "2026-12-24T12:15:00"), ("2026-12-25T11:00:00", "")])
def test_half_days_and_holidays(now: str, last: str) -> None:
    lab = Lab(now)
    lab.note(refused={A: WORDS}, wanted=(A,))
    lab.to(now[:11] + "15:00:00")
    lab.absences.tell()
    assert [fact.until_ms for fact in lab.told()] == ([at(last)] if last else [])


def test_a_short_outage_is_made_up_and_not_told_a_long_one_is() -> None:
    lab = Lab("2026-11-20T10:00:00")
    lab.note(A, B)
    lab.facts.clear()
    lab.note()
    lab.clock.advance((OUTAGE_MS - 1) / 1000)
    lab.absences.tell(at_once=True)
    lab.note(A, B)
    assert lab.told() == []
    lab.note()
    since = lab.clock.now_ms()
    lab.clock.advance(OUTAGE_MS / 1000)
    lab.absences.tell()
    assert {(fact.symbol, fact.from_ms, fact.reason) for fact in lab.told()} == {
        (A, since, NO_CONNECTION),
        (B, since, NO_CONNECTION),
    }
    lab.clock.advance(TELL_AGAIN_MS / 1000)
    lab.note(A)
    assert [(fact.symbol, fact.over) for fact in lab.told()] == [(A, True)]


def test_what_is_no_longer_wanted_is_over_and_words_are_bounded_and_printable() -> None:
    lab = Lab("2026-11-20T10:00:00")
    lab.note(refused={A: "\x1b[31m" + "long " * 1000, B: WORDS})
    lab.clock.advance(5)
    lab.absences.tell()
    told = lab.told()
    assert all(fact.reason.isprintable() and len(fact.reason) < 400 for fact in told)
    lab.note(refused={A: WORDS}, wanted=(A,))
    assert [(fact.symbol, fact.over) for fact in lab.told()] == [(B, True)]


def test_what_was_absent_before_the_clock_was_set_back_is_absent_now() -> None:
    """The machine came up eight hours ahead. Else nothing would be told of a symbol until the evening."""
    lab = Lab("2026-11-20T17:05:00")
    lab.note(A, refused={B: WORDS})
    lab.absences.tell()
    lab.clock.step_wall(-8 * 3600)
    lab.facts.clear()
    lab.clock.advance(5)
    lab.absences.tell()
    now, set_right = lab.clock.now_ms(), at("2026-11-20T09:05:05")
    assert now == set_right
    assert lab.facts == [Subscribed(DAY, (A,), now)]
    lab.clock.advance(5)
    lab.absences.tell()
    assert lab.told() == [NotSubscribed(B, DAY, set_right, lab.clock.now_ms(), over=False, reason=WORDS)]


def test_what_was_told_before_the_clock_was_set_back_is_told_again() -> None:
    lab = Lab("2026-11-20T16:00:00")
    lab.note(A, refused={B: WORDS})
    lab.clock.advance(1200)  # past the end of the day: it is over
    lab.absences.tell()
    assert [fact.over for fact in lab.told()] == [True]
    lab.clock.step_wall(-3600)
    lab.absences.tell()
    lab.clock.advance(5)
    lab.absences.tell()
    assert [(fact.symbol, fact.until_ms, fact.over) for fact in lab.told()] == [(B, lab.clock.now_ms(), False)]


def test_the_last_word_at_the_stop_says_until_when() -> None:
    async def stop_after_an_hour(lab: Lab) -> None:
        running = asyncio.ensure_future(lab.absences.run())
        await asyncio.sleep(0)
        lab.clock.advance(3600)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running

    lab = Lab("2026-11-20T10:00:00")
    lab.note(A, refused={B: WORDS})
    asyncio.run(stop_after_an_hour(lab))
    (fact,) = lab.told()
    assert (fact.from_ms, fact.until_ms, fact.over) == (at("2026-11-20T10:00:00"), at("2026-11-20T11:00:00"), False)


def test_who_begins_in_the_evening_tells_that_a_refused_symbol_is_wanted(tmp_path: Path) -> None:
    """Else a day of which nobody saw the symbol would be complete without it. A time is not told: another process may
    have had it all day."""
    lab = Lab("2026-11-20T16:30:00")
    lab.note(A, refused={B: WORDS})
    lab.absences.tell()
    assert lab.facts == [Subscribed(DAY, (A,), at("2026-11-20T16:15:00"), (B,))]
    writer = DayFileWriter(tmp_path)
    writer.write(make_ticks(1, 3, symbol=A), lab.facts)
    assert row(tmp_path, B) == ("unproven", "no tick stored, and OpenD did not say that it has none")
    writer.write(make_ticks(1, 3, symbol=B), [HeadProven(B, DAY, 1), Verified(B, DAY, 3, at("2026-11-20T16:12:00"))])
    writer.write([], lab.facts)
    assert row(tmp_path, B) == ("proven", None), "and takes nothing away from one that was there"
    writer.close()


# --- in the day file ---


def window(symbol: str, since: str, until: str, *, over: bool, reason: str = WORDS) -> NotSubscribed:
    return NotSubscribed(symbol, DAY, at(f"2026-11-20T{since}"), at(f"2026-11-20T{until}"), over, reason)


def row(root: Path, symbol: str) -> tuple[str, str | None]:
    coverage_row = {row.symbol: row for row in reader.coverage(root / f"{DAY}.db")}[symbol]
    return coverage_row.state, coverage_row.reason


def windows(root: Path) -> list[tuple[str, str, str]]:
    return [
        (gap.symbol, datetime.fromtimestamp(gap.gap_end_ts_ms / 1000, HK_TZ).strftime("%H:%M:%S"), gap.state)
        for gap in reader.gaps(root / f"{DAY}.db")
    ]


def test_a_refused_symbol_has_a_row_and_makes_a_file(tmp_path: Path) -> None:
    writer = DayFileWriter(tmp_path)
    writer.write([], [Subscribed(DAY, (A,), at("2026-11-20T09:00:00"))])
    assert not list(tmp_path.glob("*.db")), "a confirmation alone makes no file"
    writer.write([], [window(B, "09:00:00", "09:05:00", over=False)])
    writer.write([], [window(B, "09:00:00", "09:10:00", over=False)])
    assert row(tmp_path, B) == ("unproven", f"not subscribed: {WORDS}")
    assert windows(tmp_path) == [(B, "09:10:00", "open")]
    writer.write([], [Subscribed(DAY, (A,), at("2026-11-20T09:15:00"))])
    assert row(tmp_path, A)[0] == "unproven", "wanted and silent: it has a row, and nothing is proven"
    writer.write([], [Verified(A, DAY, NO_TICK, at("2026-11-20T16:12:00"))])
    assert row(tmp_path, A) == ("proven", None), "OpenD said that there was no tick"
    writer.write(make_ticks(1, 3, symbol=A))
    assert row(tmp_path, A) == ("unproven", "not yet confirmed by a pull")
    writer.close()


def test_a_time_without_subscription_is_closed_only_by_an_answer_after_it_that_proves_the_day(tmp_path: Path) -> None:
    writer = DayFileWriter(tmp_path)
    writer.write([], [window(A, "09:00:00", "11:00:00", over=True)])
    writer.write(make_ticks(1, 9, symbol=A), [Verified(A, DAY, 9, at("2026-11-20T11:00:05"))])
    assert row(tmp_path, A)[0] == "unproven", "the head is not known"
    assert windows(tmp_path) == [(A, "11:00:00", "open")]
    writer.write([], [HeadProven(A, DAY, 1)])
    assert row(tmp_path, A) == ("proven", None)
    assert windows(tmp_path) == [(A, "11:00:00", "closed")]
    writer.write([], [window(A, "13:00:00", "14:00:00", over=True), window(A, "15:00:00", "15:10:00", over=False)])
    assert row(tmp_path, A)[0] == "unproven", "an answer from before says nothing of this time"
    writer.write([], [Verified(A, DAY, 9, at("2026-11-20T15:30:00"))])
    assert windows(tmp_path) == [(A, "11:00:00", "closed"), (A, "14:00:00", "closed"), (A, "15:10:00", "open")]
    assert row(tmp_path, A)[0] == "unproven"
    writer.close()
    other = DayFileWriter(tmp_path)  # the recorder was killed while it lasted; the next one ends it
    other.write([], [Subscribed(DAY, (A,), at("2026-11-20T15:45:00"))])
    assert windows(tmp_path)[2] == (A, "15:45:00", "open")
    other.write([], [Verified(A, DAY, 9, at("2026-11-20T15:44:59"))])
    assert row(tmp_path, A)[0] == "unproven"
    other.write([], [Verified(A, DAY, 9, at("2026-11-20T15:46:00"))])
    assert row(tmp_path, A) == ("proven", None)
    assert {state for _, _, state in windows(tmp_path)} == {"closed"}
    other.close()


def test_an_empty_answer_says_nothing_once_there_were_ticks(tmp_path: Path) -> None:
    writer = DayFileWriter(tmp_path)
    proof = [HeadProven(A, DAY, 1), Verified(A, DAY, 9, at("2026-11-20T10:00:00"))]
    writer.write(make_ticks(1, 9, symbol=A), proof)
    writer.write([], [Verified(A, DAY, NO_TICK, at("2026-11-20T16:12:00"))])
    (coverage_row,) = reader.coverage(tmp_path / f"{DAY}.db")
    assert (coverage_row.verified_counter, coverage_row.verified_until_ms) == (9, at("2026-11-20T10:00:00"))
    writer.close()


def test_a_claim_of_a_clock_that_ran_ahead_gives_way_to_one_of_now(tmp_path: Path) -> None:
    """Else a day whose recording ended in the morning would be confirmed to its end."""
    writer = DayFileWriter(tmp_path)
    writer.write(make_ticks(1, 9, symbol=A), [HeadProven(A, DAY, 1), Verified(A, DAY, 9, at("2026-11-20T17:05:00"))])
    writer.write([], [Verified(A, DAY, 9, at("2026-11-20T17:03:01"))])
    (coverage_row,) = reader.coverage(tmp_path / f"{DAY}.db")
    assert coverage_row.verified_until_ms == at("2026-11-20T17:05:00"), "answers pass each other by seconds"
    writer.write([], [Verified(A, DAY, 8, at("2026-11-20T09:06:00"))])
    (coverage_row,) = reader.coverage(tmp_path / f"{DAY}.db")
    assert (coverage_row.verified_counter, coverage_row.verified_until_ms) == (9, at("2026-11-20T09:06:00"))
    writer.close()

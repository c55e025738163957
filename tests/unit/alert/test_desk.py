"""The desk over a recorded root, at moments of the test's own: the digest, mutes, a disk that takes nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hk_tick_collector.alert.desk import DIGEST_AFTER_MS, DIGEST_ARCHIVED_MS, LOOK_SEC, Desk
from hk_tick_collector.alert.outbox import GROUP_MS, Outbox
from hk_tick_collector.alert.outside import ARCHIVE_EVERY_MS
from hk_tick_collector.alert.post import Postman, letter_of
from hk_tick_collector.alert.targets import Letter, TargetSettings, TargetsFile
from hk_tick_collector.core.complaint import Code, Level
from hk_tick_collector.core.errors import StoreUnavailable
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hk import HK
from tests.archived_day import archive_day
from tests.clock import ManualClock
from tests.tickctl import record_day

FRIDAY, THURSDAY = "20261120", "20261119"
OVER_MS = TradingCalendar(HK).no_more_ticks_ms(FRIDAY)
FILE = TargetsFile(
    targets=(
        TargetSettings(name="desk"),
        TargetSettings(name="night", quiet="00:00-23:59"),
        TargetSettings(name="pager", levels=("alert",), digest=False),
    )
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("desk") / "HK"
    record_day(root, THURSDAY)
    record_day(root, FRIDAY, lost=(7, 8))
    return root


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    outbox = Outbox(tmp_path / "alert")
    yield outbox
    outbox.close()


def desk_at(root: Path, outbox: Outbox, now_ms: int) -> tuple[Desk, ManualClock, list[tuple[str, Level, list[str]]]]:
    clock, direct = ManualClock(now_ms), [("", Level.NOTE, [""])][:0]
    return Desk(root, root / "_archive", FILE, outbox, clock, lambda *sent: direct.append(sent)), clock, direct


def full(*_: object, **__: object) -> None:
    raise StoreUnavailable("the disk is full")


def texts(outbox: Outbox, target: str, now_ms: int) -> list[str]:
    letters = []
    while (letter := outbox.due(target, now_ms)) is not None:
        letters.append(letter_of(letter, 0, "HK").title + "\n" + letter_of(letter, 0, "HK").text)
        outbox.sent(letter, now_ms)
    return letters


def test_the_digest_comes_once_after_the_day_with_grades_of_the_week(root: Path, outbox: Outbox) -> None:
    desk, clock, _ = desk_at(root, outbox, OVER_MS + DIGEST_AFTER_MS - 5000)
    outbox.mute(Code.TICKS_LATE, OVER_MS + 36_000_000)
    for _ in range(10):
        desk.step()
        clock.advance(2)
    (digest,) = [text for text in texts(outbox, "desk", desk.steady_ms) if "grade " in text]
    assert f"HK {FRIDAY}: grade " in digest
    assert "missing" in digest
    assert "not archived" in digest
    assert "this week: 11-19 " in digest
    assert "muted until" in digest
    assert "[ticks_late]" not in digest
    assert not [text for text in texts(outbox, "pager", desk.steady_ms) if "grade " in text]
    again, clock, _ = desk_at(root, outbox, desk.steady_ms)
    again.step()
    assert not [text for text in texts(outbox, "desk", again.steady_ms) if "grade " in text]


@pytest.mark.parametrize("is_archived", [True, False])
def test_where_days_are_archived_the_digest_waits_for_this_one_but_not_for_ever(
    tmp_path: Path, outbox: Outbox, is_archived: bool
) -> None:
    root = tmp_path / "HK"
    record_day(root, THURSDAY)
    record_day(root, FRIDAY)
    archive_day(root, root / "_archive", THURSDAY, remove=False)
    job_ms, late_ms = OVER_MS + 15 * 60_000, OVER_MS + DIGEST_ARCHIVED_MS
    desk, clock, _ = desk_at(root, outbox, OVER_MS + DIGEST_AFTER_MS - 5000)
    digests: list[tuple[int, str]] = []

    def look_until(until_ms: int) -> None:
        while not digests and clock.now_ms() < until_ms:
            desk.step()
            told = [text for text in texts(outbox, "desk", desk.steady_ms + GROUP_MS) if "grade " in text]
            digests.extend((clock.now_ms(), text) for text in told)
            clock.advance(LOOK_SEC * 5)

    look_until(job_ms)
    assert not digests
    if is_archived:
        archive_day(root, root / "_archive", FRIDAY, remove=False)
    look_until(late_ms + 60_000)
    ((at_ms, text),) = digests
    since_ms = job_ms if is_archived else late_ms
    assert since_ms <= at_ms <= since_ms + ARCHIVE_EVERY_MS
    assert ("not archived" in text) != is_archived


def test_a_digest_survives_an_end_between_its_note_and_its_letters(
    root: Path, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk, clock, _ = desk_at(root, outbox, OVER_MS + DIGEST_AFTER_MS)
    with monkeypatch.context() as patched:
        patched.setattr(outbox, "take_held", full)
        desk.step()
    assert not [text for text in texts(outbox, "desk", desk.steady_ms) if "grade " in text]
    again, clock, _ = desk_at(root, outbox, desk.steady_ms)
    again.step()
    clock.advance(2)
    again.step()
    assert len([text for text in texts(outbox, "desk", again.steady_ms) if "grade " in text]) == 1


@pytest.mark.parametrize(("day", "is_last"), [("20261119", False), ("20261120", True), ("20260402", True)])
def test_the_week_is_told_on_its_last_trading_day(root: Path, outbox: Outbox, day: str, is_last: bool) -> None:
    """On the Thursday before Good Friday, too."""
    desk, _, _ = desk_at(root, outbox, OVER_MS)
    assert desk._ends_the_week(day) is is_last


def test_a_unit_that_failed_is_told_once_and_never_called_over(root: Path, outbox: Outbox) -> None:
    outbox.fail_unit("hk-tick-api.service", "exit-code 78", OVER_MS - 3_700_000)
    outbox.fail_unit("hk-tick-eod.service", "exit-code 1", OVER_MS - 3_650_000)
    desk, clock, _ = desk_at(root, outbox, OVER_MS - 3_600_000)
    for _ in range(20):
        desk.step()
        clock.advance(2)
    told = texts(outbox, "desk", desk.steady_ms + GROUP_MS)
    lines = [line for text in told for line in text.splitlines() if "[unit_failed;" in line]
    assert [line.split(" ")[:2] for line in lines] == [
        ["ALERT", "hk-tick-api.service:"], ["WARN", "hk-tick-eod.service:"],
    ]  # fmt: skip
    assert "exit-code 78" in lines[0]
    again, clock, _ = desk_at(root, outbox, desk.steady_ms)
    again.step()
    assert "[unit_failed;" not in "".join(texts(outbox, "desk", again.steady_ms + GROUP_MS))


def test_a_recorder_that_is_away_is_told_and_quiet_hours_hold_warnings_for_the_digest(
    root: Path, outbox: Outbox
) -> None:
    desk, clock, _ = desk_at(root, outbox, OVER_MS - 3_600_000)
    for _ in range(70):
        desk.step()
        clock.advance(2)
    now_ms = desk.steady_ms + GROUP_MS
    for target in ("desk", "night", "pager"):
        assert "[recorder_down;" in "".join(texts(outbox, target, now_ms)), target
    assert not desk.is_well
    held = outbox.take_held("night")
    assert [line for line in held if "[ticks_missing;" in line]
    assert not outbox.take_held("pager")


@pytest.mark.parametrize("jump_sec", [-7200, 7200])
def test_a_clock_that_jumps_tells_nothing_twice_and_holds_nothing_up(
    root: Path, outbox: Outbox, jump_sec: float
) -> None:
    desk, clock, _ = desk_at(root, outbox, OVER_MS - 4 * 3_600_000)
    told = ""
    for look in range(200):
        if look in (30, 90):
            clock.step_wall(jump_sec if look == 30 else -jump_sec)
        desk.step()
        clock.advance(2)
        told += "".join(texts(outbox, "pager", desk.steady_ms))
    assert told.count("[recorder_down;") == 1


def test_muted_it_says_nothing(root: Path, outbox: Outbox) -> None:
    desk, clock, _ = desk_at(root, outbox, OVER_MS - 3_600_000)
    outbox.mute(Code.RECORDER_DOWN, OVER_MS)
    for _ in range(70):
        desk.step()
        clock.advance(2)
    assert not texts(outbox, "pager", desk.steady_ms + GROUP_MS)


def test_when_the_outbox_cannot_be_written_it_is_sent_past_it(
    root: Path, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk, clock, direct = desk_at(root, outbox, OVER_MS - 3_600_000)
    monkeypatch.setattr(outbox, "add", full)
    for _ in range(70):
        desk.step()
        clock.advance(2)
    told = [(target, line) for target, _, lines in direct for line in lines if "[recorder_down;" in line]
    assert [target for target, _ in told] == ["desk", "night", "pager"]


def test_a_letter_that_cannot_be_noted_as_sent_is_not_sent_again(
    outbox: Outbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Kept:
        def __init__(self) -> None:
            self.letters: list[str] = []

        def send(self, letter: Letter) -> None:
            self.letters.append(letter.text)

    target, now_ms = Kept(), OVER_MS
    postman = Postman("desk", target, tmp_path, "HK", lambda: now_ms, threading.Event())
    outbox.add("desk", Level.ALERT, ["line"], now_ms - GROUP_MS)
    with monkeypatch.context() as patched:
        patched.setattr(outbox, "sent", full)
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                postman.send_next(outbox)
    assert postman.send_next(outbox)
    assert not postman.send_next(outbox)
    assert target.letters == ["line"]

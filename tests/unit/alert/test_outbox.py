"""The outbox: written before it is sent, grouped, tried again, given up, and the same after a restart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hk_tick_collector.alert.events import Ledger
from hk_tick_collector.alert.outbox import GIVE_UP_MS, GROUP_MS, MAX_WAITING, Outbox
from hk_tick_collector.alert.rules import Finding
from hk_tick_collector.core.complaint import Code, Level
from hk_tick_collector.core.errors import StoreError

NOW_MS = 1_795_914_000_000


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    outbox = Outbox(tmp_path / "alert")
    yield outbox
    outbox.close()


def test_lines_of_a_moment_are_one_letter_of_the_gravest_level(outbox: Outbox) -> None:
    outbox.add("desk", Level.WARN, ["one"], NOW_MS)
    outbox.add("desk", Level.ALERT, ["two"], NOW_MS + 1000)
    outbox.add("phone", Level.WARN, ["other"], NOW_MS + 1000)
    assert outbox.due("desk", NOW_MS + GROUP_MS - 1) is None
    letter = outbox.due("desk", NOW_MS + GROUP_MS)
    assert letter is not None
    assert (letter.level, letter.lines) == (Level.ALERT, ("one", "two"))
    outbox.add("desk", Level.WARN, ["late"], NOW_MS + GROUP_MS)  # that one may be on its way
    outbox.sent(letter, NOW_MS + GROUP_MS)
    assert outbox.waiting("desk") == 1
    assert outbox.waiting("phone") == 1


def test_alerts_go_before_warnings_and_these_before_digests(outbox: Outbox) -> None:
    outbox.add("desk", Level.WARN, ["digest"], NOW_MS, kind="digest")
    outbox.add("desk", Level.WARN, ["warning"], NOW_MS)
    outbox.add("desk", Level.ALERT, ["alert"], NOW_MS + 2 * GROUP_MS)
    first_lines = []
    while (letter := outbox.due("desk", NOW_MS + 10 * GROUP_MS)) is not None:
        first_lines.append(letter.lines[0])
        outbox.sent(letter, NOW_MS)
    assert first_lines == ["alert", "warning", "digest"]


def test_a_target_that_is_away_is_tried_later_each_time_and_given_up_after_a_day(outbox: Outbox) -> None:
    outbox.add("desk", Level.ALERT, ["first"], NOW_MS)
    now_ms, waits, letter = NOW_MS + GROUP_MS, [], outbox.due("desk", NOW_MS + GROUP_MS)
    while letter is not None and not outbox.failed(letter, "it answers 503", now_ms):
        before_ms = now_ms
        while (letter := outbox.due("desk", now_ms)) is None:
            now_ms += 1000 if len(waits) < 7 else 20_000
        waits.append((now_ms - before_ms) // 1000)
    assert waits[:7] == [1, 2, 5, 15, 60, 300, 300]
    assert GIVE_UP_MS <= now_ms - NOW_MS <= GIVE_UP_MS + 301_000
    assert outbox.given_up("desk", NOW_MS) == 1
    assert outbox.recent(1)[0]["reason"] == "it answers 503"
    outbox.add("desk", Level.ALERT, ["second"], now_ms)
    letter = outbox.due("desk", now_ms + GROUP_MS)
    assert letter is not None
    outbox.sent(letter, now_ms + GROUP_MS)
    assert outbox.given_up("desk", NOW_MS) == 0


def test_what_the_other_side_asks_for_is_waited_for_also_by_later_letters(outbox: Outbox) -> None:
    outbox.add("desk", Level.ALERT, ["first"], NOW_MS)
    letter = outbox.due("desk", NOW_MS + GROUP_MS)
    assert letter is not None
    outbox.add("desk", Level.ALERT, ["second"], NOW_MS + GROUP_MS)
    outbox.failed(letter, "it answers 429", NOW_MS + GROUP_MS, retry_after_sec=90)
    assert outbox.due("desk", NOW_MS + GROUP_MS + 89_000) is None
    again = outbox.due("desk", NOW_MS + GROUP_MS + 90_000)
    assert again is not None
    assert again.number == letter.number


def test_a_restart_finds_letters_events_mutes_and_what_is_done(tmp_path: Path) -> None:
    outbox, ledger = Outbox(tmp_path), Ledger()
    ledger.observe([Finding(Code.TICKS_QUARANTINED, Level.WARN, "HK", "2 ticks")], NOW_MS)
    outbox.keep_events(ledger.events.values())
    outbox.add("desk", Level.WARN, ["line"], NOW_MS)
    outbox.mute(Code.NO_TICKS, NOW_MS + 1000)
    assert not outbox.is_done("digest HK 20261120")
    outbox.note_done("digest HK 20261120", NOW_MS)
    outbox.hold("desk", "kept")
    outbox.close()
    again = Outbox(tmp_path)
    assert again.events() == list(ledger.events.values())
    assert again.due("desk", NOW_MS + GROUP_MS) is not None
    assert again.mutes(NOW_MS) == {Code.NO_TICKS: NOW_MS + 1000}
    assert again.mutes(NOW_MS + 1000) == {}
    assert again.is_done("digest HK 20261120")
    assert again.take_held("desk") == ["kept"]
    assert again.take_held("desk") == []
    again.close()
    assert (tmp_path / "outbox.db").stat().st_mode & 0o777 == 0o640


def test_a_target_that_nobody_reads_does_not_fill_the_disk(outbox: Outbox) -> None:
    for number in range(MAX_WAITING + 5):
        outbox.add("desk", Level.WARN, [str(number)], NOW_MS, kind="digest")
        outbox.hold("desk", str(number))
    outbox.tidy(NOW_MS)
    assert outbox.waiting("desk") == MAX_WAITING
    assert len(outbox.take_held("desk")) == MAX_WAITING


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "outbox.db").write_bytes(b"no database at all, and long enough to be looked at as one" * 4)
    with pytest.raises(StoreError, match=r"outbox\.db"):
        Outbox(tmp_path)


def test_a_start_with_an_earlier_clock_tries_everything_at_once(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.add("desk", Level.ALERT, ["line"], NOW_MS)
    outbox.begin(NOW_MS - 7_200_000)
    assert outbox.due("desk", NOW_MS - 7_200_000) is not None
    outbox.close()

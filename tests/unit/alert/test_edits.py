"""Messages that are changed in place: what goes on or ends is told in the message that told its beginning."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hk_tick_collector.alert.desk import Desk
from hk_tick_collector.alert.events import Event, Kind, Telling
from hk_tick_collector.alert.outbox import GROUP_MS, MAX_EDIT_TRIES, Outbox
from hk_tick_collector.alert.post import Postman
from hk_tick_collector.alert.targets import Letter, NotSent, TargetSettings, TargetsFile
from hk_tick_collector.core.complaint import Code, Level
from tests.clock import ManualClock
from tests.tickctl import record_day

NOW_MS = 1_795_914_000_000
CHAT = TargetSettings.model_validate({"name": "chat", "discord": "http://127.0.0.1:1/x"})
PLAIN = TargetSettings.model_validate({"name": "plain", "webhook": "http://127.0.0.1:1/x"})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("edits") / "HK"
    record_day(root, "20261119")
    return root


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    outbox = Outbox(tmp_path / "alert")
    yield outbox
    outbox.close()


class Chat:
    """Keeps what its messages say now; the next calls may be refused."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.refusals: list[NotSent] = []

    def _refuse(self) -> None:
        if self.refusals:
            raise self.refusals.pop(0)

    def send(self, letter: Letter) -> str:
        self._refuse()
        self.messages.append(letter.text)
        return str(len(self.messages) - 1)

    def edit(self, receipt: str, letter: Letter) -> None:
        self._refuse()
        self.messages[int(receipt)] = letter.text


class Unchanging:
    """The same, of a target that cannot change anything."""

    def __init__(self, chat: Chat) -> None:
        self._chat = chat

    def send(self, letter: Letter) -> None:
        self._chat.send(letter)


class Bench:
    """A desk that is told what happens, and the postmen of two targets."""

    def __init__(self, root: Path, outbox: Outbox) -> None:
        self.clock, self.outbox = ManualClock(NOW_MS), outbox
        self.desk = Desk(root, root / "_archive", TargetsFile(targets=(CHAT, PLAIN)), outbox, self.clock)
        self.chat, self.plain = Chat(), Chat()
        self.postmen = [
            Postman(name, target, outbox.path.parent, "HK", lambda: self.desk.steady_ms, threading.Event())
            for name, target in (("chat", self.chat), ("plain", Unchanging(self.plain)))
        ]

    def tell(self, kind: Kind, level: Level = Level.WARN, *codes: Code) -> None:
        now_ms = self.desk.steady_ms
        happened = [
            Event(f"{code} HK", code, "HK", level, f"{code} happens", now_ms, now_ms, fired_ms=now_ms)
            for code in codes or (Code.TICKS_LATE,)
        ]
        self.desk._store([Telling(kind, event) for event in happened], None)
        self.deliver()

    def deliver(self) -> None:
        self.clock.advance(GROUP_MS / 1000 + 1)
        for postman in self.postmen:
            while postman.send_next(self.outbox) or postman.edit_next(self.outbox):
                pass


def signs(messages: list[str]) -> list[str]:
    return [text.split(" ")[0] for text in messages]


def test_a_warning_is_one_message_from_its_beginning_to_its_end(root: Path, outbox: Outbox) -> None:
    bench = Bench(root, outbox)
    for kind in (Kind.FIRED, Kind.STILL, Kind.RESOLVED):
        bench.tell(kind)
    (message,) = bench.chat.messages
    assert message.startswith("OK HK: OVER ticks_late happens")
    assert signs(bench.plain.messages) == ["WARN", "WARN", "OK"]
    bench.tell(Kind.FIRED)
    assert len(bench.chat.messages) == 2, "what fires again is a message of its own"


def test_an_alert_is_told_anew_as_well_since_a_change_rings_nobody(root: Path, outbox: Outbox) -> None:
    bench = Bench(root, outbox)
    for kind in (Kind.FIRED, Kind.STILL, Kind.RESOLVED):
        bench.tell(kind, Level.ALERT, Code.DISK_FULL)
    first, still, over = bench.chat.messages
    assert first.startswith("OK HK: OVER disk_full")
    assert still.startswith("ALERT HK: STILL disk_full")
    assert over.startswith("OK HK: OVER disk_full")


def test_only_the_line_of_what_ended_changes(root: Path, outbox: Outbox) -> None:
    bench = Bench(root, outbox)
    bench.tell(Kind.FIRED, Level.WARN, Code.TICKS_LATE, Code.HOLES_OPEN)
    bench.tell(Kind.RESOLVED, Level.WARN, Code.HOLES_OPEN)
    (message,) = bench.chat.messages
    late, holes = message.splitlines()
    assert late.startswith("WARN HK: ticks_late")
    assert holes.startswith("OK HK: OVER holes_open")


def test_what_cannot_be_changed_any_more_is_told_in_a_letter_of_its_own(root: Path, outbox: Outbox) -> None:
    bench = Bench(root, outbox)
    bench.tell(Kind.FIRED)
    bench.chat.refusals = [NotSent("it answers 404", status=404)]
    bench.tell(Kind.RESOLVED)
    bench.deliver()
    assert signs(bench.chat.messages) == ["WARN", "OK"]


def test_a_target_that_is_away_gets_the_change_later_and_in_the_end_a_letter(root: Path, outbox: Outbox) -> None:
    bench = Bench(root, outbox)
    bench.tell(Kind.FIRED)
    bench.chat.refusals = [NotSent("ConnectError"), NotSent("it answers 429", 90, 429)]
    bench.tell(Kind.STILL)
    for _ in range(3):
        bench.deliver()
    assert "STILL" not in bench.chat.messages[0]
    bench.clock.advance(90)
    bench.deliver()
    assert bench.chat.messages[0].startswith("WARN HK: STILL")
    bench.chat.refusals = [NotSent("ConnectError")] * (MAX_EDIT_TRIES + 1)
    bench.tell(Kind.RESOLVED)
    for _ in range(MAX_EDIT_TRIES + 2):
        bench.clock.advance(301)
        bench.deliver()
    assert signs(bench.chat.messages) == ["WARN", "OK"]


def test_a_change_that_comes_while_one_is_on_its_way_is_not_lost(root: Path, outbox: Outbox) -> None:
    bench = Bench(root, outbox)
    bench.tell(Kind.FIRED)
    outbox.change("chat", "ticks_late HK", "WARN HK: one", bench.desk.steady_ms - GROUP_MS, alone=True)
    edit = outbox.edit_due("chat", bench.desk.steady_ms)
    assert edit is not None
    outbox.change("chat", "ticks_late HK", "WARN HK: two", bench.desk.steady_ms, alone=True)
    outbox.edited(edit)
    bench.deliver()
    assert bench.chat.messages == ["WARN HK: two"]


def test_a_restart_changes_the_message_that_the_run_before_sent(root: Path, outbox: Outbox, tmp_path: Path) -> None:
    bench = Bench(root, outbox)
    bench.tell(Kind.FIRED)
    again = Bench(root, Outbox(tmp_path / "alert"))
    again.chat.messages = bench.chat.messages
    again.clock.advance(60)
    again.tell(Kind.RESOLVED)
    (message,) = bench.chat.messages
    assert message.startswith("OK HK: OVER")
    again.outbox.close()


def test_an_outbox_of_an_earlier_version_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "alert").mkdir()
    with sqlite3.connect(tmp_path / "alert" / "outbox.db") as conn:
        conn.executescript(
            "CREATE TABLE letters (number INTEGER PRIMARY KEY AUTOINCREMENT, target TEXT NOT NULL, kind TEXT NOT NULL,"
            " level TEXT NOT NULL, lines TEXT NOT NULL, created_ms INTEGER NOT NULL, due_ms INTEGER NOT NULL,"
            " tries INTEGER NOT NULL DEFAULT 0, reason TEXT, sent_ms INTEGER, given_up_ms INTEGER) STRICT;"
            "CREATE VIEW waiting AS SELECT * FROM letters WHERE sent_ms IS NULL AND given_up_ms IS NULL;"
            "INSERT INTO letters VALUES"
            f" (7, 'chat', 'event', 'warn', '[\"line\"]', {NOW_MS}, {NOW_MS}, 0, NULL, NULL, NULL)"
        )
    outbox = Outbox(tmp_path / "alert")
    letter = outbox.due("chat", NOW_MS)
    assert letter is not None
    outbox.sent(letter, NOW_MS, "5")
    outbox.close()


def test_a_letter_is_no_longer_than_its_target_takes(outbox: Outbox) -> None:
    for number in range(12):
        outbox.add("chat", Level.WARN, [f"{number:02d} " + "x" * 400], NOW_MS, room_chars=CHAT.room_chars)
    lines = []
    while (letter := outbox.due("chat", NOW_MS + GROUP_MS)) is not None:
        assert sum(len(line) + 1 for line in letter.lines) <= CHAT.room_chars
        lines += [line[:2] for line in letter.lines]
        outbox.sent(letter, NOW_MS + GROUP_MS)
    assert lines == [f"{number:02d}" for number in range(12)]

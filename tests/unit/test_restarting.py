"""A restart of the feed that somebody asked for: done once, seldom, and only when it was asked now."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from pathlib import Path

import pytest

from hk_tick_collector.app.restarting import RestartReader
from hk_tick_collector.core.progress import FeedProgress
from hk_tick_collector.store import restarts
from tests.clock import ManualClock

NOW_MS = 1_795_000_000_000


class Desk:
    """A reader with a clock that the test moves, and what it did."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.root = directory / "restarts", directory / "HK"
        self.clock, self.progress = ManualClock(NOW_MS), FeedProgress()
        self.done: list[str] = []
        self.reader = RestartReader(self.directory, self.root, self.progress, self.clock, self.done.append)

    def ask(self, by: str = "desk (abc)", root: Path | None = None) -> None:
        restarts.leave(self.directory, root or self.root, by, self.clock.now_ms())

    def look(self) -> int:
        """How many restarts there were by now."""
        asyncio.run(self.reader.check())
        return len(self.done)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_it_is_done_once_and_told_by_whom(desk: Desk) -> None:
    assert desk.look() == 0
    assert desk.progress.takes_restarts, "a directory that is not there yet may come"
    desk.clock.advance(5)
    desk.ask()
    assert [desk.look(), desk.look()] == [1, 1]
    assert desk.done == ["asked by desk (abc)"]
    assert (desk.progress.restarts, desk.progress.restarted_by) == (1, "desk (abc)")
    assert desk.progress.restarted_at_ms == NOW_MS + 5000


def test_not_more_often_than_once_a_minute_whatever_the_file_says(desk: Desk) -> None:
    for second in range(1, 121):
        desk.clock.advance(1)
        desk.ask(f"no {second}")
        desk.look()
    assert desk.done == ["asked by no 1", "asked by no 61"]


def test_what_was_asked_before_it_began_or_is_old_restarts_nothing(tmp_path: Path) -> None:
    early = Desk(tmp_path)
    early.ask()
    desk = Desk(tmp_path)
    assert desk.look() == 0
    desk.clock.advance(1)
    desk.ask()
    desk.clock.advance(61)  # nobody looked: the disk hung
    assert desk.look() == 0
    desk.clock.advance(1)
    desk.ask(root=tmp_path / "US")
    assert desk.look() == 0, "another recorder's"
    desk.ask()
    assert desk.look() == 1


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "[]", "null", '{"by": 1, "at_ms": 1}', '{"by": "x"}', '{"by": "x", "at_ms": "soon"}',
        '{"by": "x", "at_ms": true}', '{"by": "x", "at_ms": 1e300}', "[" * 3000, "x" * 100_000, "\ud800",
    ],
)  # fmt: skip
def test_what_is_no_request_is_none(desk: Desk, content: str) -> None:
    desk.directory.mkdir()
    path = restarts.request_file(desk.directory, desk.root)
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    assert desk.look() == 0
    path.unlink()
    os.mkfifo(path)
    assert desk.look() == 0, "a pipe is not waited for"


def test_a_name_is_cut_and_reaches_the_log_as_one_line(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.clock.advance(1)
    desk.directory.mkdir()
    text = json.dumps({"by": "a\nfeed_restart by=b\x1b[2J" + "c" * 500, "at_ms": desk.clock.now_ms()})
    restarts.request_file(desk.directory, desk.root).write_text(text)
    assert desk.look() == 1
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith('feed_restart by="a\\x0a')
    assert len(desk.progress.restarted_by) == restarts.MAX_BY_CHARS
    assert line.isprintable()


def test_a_directory_that_is_closed_is_said_and_nobody_is_told_that_it_listens(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.directory.write_text("no directory")
    assert desk.look() == 0
    assert not desk.progress.takes_restarts
    assert "restarts_unreadable" in caplog.text


def test_a_request_is_a_small_file_of_who_asks(desk: Desk) -> None:
    for _ in range(3):
        desk.ask()
    (path,) = desk.directory.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert stat.S_IMODE(desk.directory.stat().st_mode) == 0o750


def test_under_systemd_both_sides_know_the_place() -> None:
    place = Path("/var/lib/hk-tick-serve/restarts")
    for state in ("/var/lib/hk-tick-collector", "/var/lib/hk-tick-serve"):
        assert restarts.restarts_dir_of({"STATE_DIRECTORY": state}) == place
    assert restarts.restarts_dir_of({}) is None

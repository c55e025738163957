"""``hk-tickctl screen``: driven by Textual's own pilot, over files and over a server, wide, narrow and low."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import DataTable, Input, Static

from hk_tick_collector.cli.common import App
from hk_tick_collector.cli.screen_app import Screen
from hk_tick_collector.cli.screen_log import FileLog, ScreenLog
from hk_tick_collector.cli.screen_sources import LocalSource, RemoteSource, ScreenSource, arranged
from hk_tick_collector.core.errors import RecorderError
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.us import US
from hk_tick_collector.quality.snapshots import report_of
from hk_tick_collector.watch.snapshot_series import SeriesLooks
from tests import snapshots
from tests.harness import BIN, clean_env, ended
from tests.serving import ApiServer
from tests.tickctl import SYMBOLS, record_day, tickctl
from tests.ticks import DAY

DEADLINE_SEC = 60.0


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("screen") / "HK"
    record_day(root, DAY, lost=(7, 8))
    return root


def local(root: Path) -> LocalSource:
    return LocalSource(App(data_root_given=root))


def driven(
    source: ScreenSource, size: tuple[int, int], play: Callable[[Screen, Any], Any], log: ScreenLog | None = None
) -> None:
    async def run() -> None:
        screen = Screen(source, log)
        async with screen.run_test(size=size) as pilot:
            await play(screen, pilot)

    asyncio.run(run())


async def until(condition: Callable[[], bool], pilot: Any, awaited: str) -> None:
    async with asyncio.timeout(DEADLINE_SEC):
        while not condition():
            await pilot.pause(0.05)
    assert condition(), awaited


def cells(screen: Screen, name: str) -> list[list[str]]:
    table = screen.query_one(f"#{name}", DataTable)
    return [[str(cell) for cell in table.get_row_at(row)] for row in range(table.row_count)]


def test_files_and_server_give_the_same_picture(root: Path, tmp_path: Path) -> None:
    server = ApiServer(tmp_path, root, API_ANONYMOUS=1)
    with ended(server):
        here, there = local(root), RemoteSource(server.url, None)
        assert [row["symbol"] for row in there.symbols()] == [row["symbol"] for row in here.symbols()]
        assert [row["state"] for row in there.symbols()] == [row["state"] for row in here.symbols()]
        assert [gap["symbol"] for gap in there.gaps()] == [gap["symbol"] for gap in here.gaps()]
        for mine, theirs in zip(here.tape(SYMBOLS[1], 5), there.tape(SYMBOLS[1], 5), strict=True):
            assert (mine["ts_ms"], mine["price"]) == (theirs["ts_ms"], theirs["price"])
        assert there.status()["day"]["rows"] == here.status()["day"]["rows"]
    with pytest.raises(RecorderError, match="does not answer"):
        there.status()


def test_it_shows_sorts_filters_and_follows_the_cursor(root: Path) -> None:
    async def play(screen: Screen, pilot: Any) -> None:
        await until(lambda: len(cells(screen, "symbols")) == len(SYMBOLS), pilot, "symbols")
        assert "missing" in cells(screen, "symbols")[0][1]  # worst first
        await until(lambda: len(cells(screen, "tape")) > 0, pilot, "the tape")
        assert cells(screen, "gaps")
        await pilot.press("s", "s")
        assert [row[0] for row in cells(screen, "symbols")] == sorted(SYMBOLS)
        await pilot.press("slash", "9", "9")
        assert [row[0] for row in cells(screen, "symbols")] == ["HK.09988"]
        await pilot.press("escape")
        assert len(cells(screen, "symbols")) == len(SYMBOLS)
        assert screen.query_one("#filter", Input).value == ""
        assert "wrong" in str(screen.query_one("#verdict", Static).render())  # no recorder runs on a recorded root

    driven(local(root), (120, 40), play)


@pytest.mark.parametrize("size", [(80, 24), (40, 10)])
def test_it_fits_a_small_terminal(root: Path, size: tuple[int, int]) -> None:
    async def play(screen: Screen, pilot: Any) -> None:
        await until(lambda: len(cells(screen, "symbols")) == len(SYMBOLS), pilot, "symbols")
        table = screen.query_one("#symbols", DataTable)
        await until(lambda: table.size.height >= 3, pilot, "room for a symbol")
        assert table.region.right <= size[0]
        if size[0] < 80:
            return
        for name in ("symbols", "gaps"):  # up to the column of names nothing is cut off
            table = screen.query_one(f"#{name}", DataTable)
            await until(lambda table=table: table.row_count > 0, pilot, name)  # type: ignore[misc]
            needed = [column.get_render_width(table) for column in table.ordered_columns if str(column.label) != "name"]
            room = table.size.width - table.scrollbar_size_vertical * table.show_vertical_scrollbar
            assert sum(needed) <= room, (name, needed, room)

    driven(local(root), size, play)


def test_it_shows_the_newest_log_lines_and_hides_them_on_demand(root: Path, tmp_path: Path) -> None:
    log = tmp_path / "recorder.log"
    lines = [f"2026-11-20T01:30:{second:02}.123Z INFO health queue={second}" for second in range(20)]
    log.write_text("\n".join([*lines, "2026-11-20T01:31:00.000Z ERROR persist_error error=\x1b[2Jdisk"]) + "\n")

    async def play(screen: Screen, pilot: Any) -> None:
        pane = screen.query_one("#log", Static)
        await until(lambda: "persist_error" in str(pane.render()), pilot, "the newest line")
        shown = str(pane.render())
        assert "\x1b" not in shown
        assert "09:30:19 health queue=19" in shown
        assert "queue=1 " not in shown
        await pilot.press("l")
        assert not pane.display
        await pilot.press("l")
        assert pane.display

    driven(local(root), (100, 30), play, FileLog(log))


def test_a_log_that_cannot_be_read_is_said_in_its_place(root: Path, tmp_path: Path) -> None:
    async def play(screen: Screen, pilot: Any) -> None:
        pane = screen.query_one("#log", Static)
        await until(lambda: "cannot be read" in str(pane.render()), pilot, "why there is none")
        await until(lambda: len(cells(screen, "symbols")) == len(SYMBOLS), pilot, "symbols all the same")

    driven(local(root), (100, 30), play, FileLog(tmp_path / "none.log"))


def test_of_a_log_of_any_size_only_the_end_is_read(tmp_path: Path) -> None:
    log = tmp_path / "recorder.log"
    with log.open("w") as file:
        file.writelines(f"2026-11-20T01:30:00.123Z INFO health queue={number}\n" for number in range(100_000))
    newest = FileLog(log).newest(5)
    assert [record.fields["queue"] for record in newest] == list(range(99_995, 100_000))


class Failing:
    """A disk, or a server, that answers nothing."""

    name, zone = "nowhere", None

    def status(self) -> dict[str, Any]:
        raise RecorderError("it does\x1b[2J not answer")

    symbols = gaps = tape = status  # type: ignore[assignment]


def test_what_does_not_answer_is_said_and_nothing_reaches_the_terminal_raw() -> None:
    async def play(screen: Screen, pilot: Any) -> None:
        told = screen.query_one("#verdict", Static)
        await until(lambda: "not answer" in str(told.render()), pilot, "the failure")
        assert "\x1b" not in str(told.render())

    driven(Failing(), (80, 24), play)  # type: ignore[arg-type]


def test_two_thousand_symbols_are_arranged() -> None:
    rows = [{"symbol": f"HK.{number:05}", "state": "proven", "stored_ticks": number} for number in range(2000)]
    assert arranged(rows, "", 1)[0]["symbol"] == "HK.01999"
    assert len(arranged(rows, "0199", 2)) == 11


def test_without_a_terminal_it_says_what_to_use_instead(root: Path) -> None:
    done = tickctl("screen", data_root=root)
    assert done.returncode == 2
    assert "status --watch" in done.stderr


@contextlib.contextmanager
def on_a_terminal(root: Path, tmp_path: Path, **settings: object) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The command on a terminal of its own, and the terminal's other end."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [BIN / "hk-tickctl", "screen", "--data-root", root], stdin=follower, stdout=follower, stderr=follower,
        env=clean_env(tmp_path / "home", TERM="xterm-256color", COLUMNS=80, LINES=24, **settings),
        start_new_session=True,
    )  # fmt: skip
    os.close(follower)
    try:
        yield process, leader
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
        with contextlib.suppress(OSError):
            os.close(leader)


def drawn(leader: int) -> bytes:
    """All that is drawn until every symbol is there."""
    output = b""
    while b"HK.09988" not in output:
        output += os.read(leader, 65_536)
    return output


def test_the_command_draws_on_a_terminal_and_q_ends_it(root: Path, tmp_path: Path) -> None:
    with on_a_terminal(root, tmp_path, NO_COLOR=1) as (process, leader):
        picture = drawn(leader)
        assert not re.search(rb"\x1b\[[\d;]*38;2;(?!(\d+);\1;\1\b)", picture), "greys alone, with NO_COLOR"
        os.write(leader, b"q")
        with contextlib.suppress(OSError):  # the other end is closed
            while os.read(leader, 65_536):
                pass
        assert process.wait(DEADLINE_SEC) == 0


def test_a_terminal_that_is_closed_ends_it(root: Path, tmp_path: Path) -> None:
    with on_a_terminal(root, tmp_path) as (process, leader):
        drawn(leader)
        os.close(leader)
        process.wait(DEADLINE_SEC)


def test_files_and_server_give_the_same_series_of_snapshots(root: Path, tmp_path: Path) -> None:
    snapshot_root = snapshots.record(
        tmp_path / "US", [snapshots.snapshot(series, 9) for series in (snapshots.SPX, snapshots.NDX)]
    )
    with ended(server := ApiServer(tmp_path, snapshot_root, API_ANONYMOUS=1)):
        here, there = local(snapshot_root), RemoteSource(server.url, None)
        for _ in range(2):
            mine, theirs = here.snapshot_series(), there.snapshot_series()
            assert mine is not None
            assert theirs is not None
            names = ("symbol", "series", "name", "state", "stored_ticks", "held", "missed", "last_ts_ms")
            assert [[row[name] for name in names] for row in theirs] == [[row[name] for name in names] for row in mine]
            assert [row["held"] for row in theirs] == [len(theirs) - 1] * len(theirs)
            snapshots.record(
                snapshot_root,
                [snapshots.snapshot(series, 10) for series in (snapshots.SPX, snapshots.NDX, snapshots.FLOW)],
            )
            snapshots.record(snapshot_root, [snapshots.snapshot(snapshots.FLOW, 11)])
    with ended(server := ApiServer(tmp_path, root, API_ANONYMOUS=1)):
        source = RemoteSource(server.url, None)
        assert source.snapshot_series() is None, "it has ticks"
        source._client.base_url = f"{server.url}/of-before"
        assert source.snapshot_series() is None, "it does not know the question"
        with pytest.raises(RecorderError, match="refuses"):
            source.symbols()


def test_a_data_root_of_snapshots_shows_its_series_on_80_columns(tmp_path: Path) -> None:
    root = snapshots.record(
        tmp_path / "US",
        [
            snapshots.snapshot(series, second)
            for series, seconds in ((snapshots.SPX, range(100)), (snapshots.NDX, range(0, 100, 2)))
            for second in seconds
        ],
    )
    day = root / "snapshot" / f"{snapshots.DAY}.snapshot.db"
    report = report_of(day, snapshots.DAY, US, TradingCalendar(US).day_kind(snapshots.DAY), int(time.time() * 1000))
    wanted = {
        f"{one.package}/{one.category} {one.symbol}": (one.seen, one.expected - one.seen) for one in report.series
    }

    def shown(screen: Screen) -> dict[str, tuple[int, int]]:
        rows = cells(screen, "symbols")
        return {f"{row[1]} {row[0]}": (int(row[2].replace(",", "")), int(row[3].replace(",", ""))) for row in rows}

    async def play(screen: Screen, pilot: Any) -> None:
        await until(lambda: len(cells(screen, "symbols")) == 2, pilot, "both series")
        assert shown(screen) == wanted
        table = screen.query_one("#symbols", DataTable)
        assert [str(column.label) for column in table.columns.values()] == [
            "symbol", "series", "held", "missed", "last", "age",
        ]  # fmt: skip
        assert table.virtual_size.width <= 80
        assert not screen.query_one("#side").display
        assert cells(screen, "symbols")[0][4].startswith("09:31:3")
        assert all(row[5].endswith(" s") for row in cells(screen, "symbols"))
        snapshots.record(root, [snapshots.snapshot(snapshots.NDX, 1), snapshots.snapshot(snapshots.FLOW, 200)])
        await until(lambda: len(cells(screen, "symbols")) == 3, pilot, "what was stored meanwhile")
        assert shown(screen)["classic/gex_full US.NDX"][0] == wanted["classic/gex_full US.NDX"][0] + 1
        await pilot.press("slash", *"flow")
        await until(lambda: len(cells(screen, "symbols")) == 1, pilot, "what was asked for")

    driven(local(root), (80, 24), play)


def test_a_second_is_counted_once_however_many_snapshots_it_has(tmp_path: Path) -> None:
    """In one look, and in a later one; what is before or after the hours of trading is the newest, and not held."""
    some = [snapshots.snapshot(snapshots.SPX, second) for second in range(10)]
    root = snapshots.record(tmp_path / "US", [*some, snapshots.snapshot(snapshots.SPX, 4, says="other")])
    looks = SeriesLooks(root, TradingCalendar(US))
    at_ms = (snapshots.OPEN_SEC + 20) * 1000
    told: list[tuple[int, int]] = []
    for stored in ([], [(4, "third"), (9, "other")], [(10, ""), (10, "other"), (-5, "")], [(30_000, "late")]):
        if stored:
            snapshots.record(root, [snapshots.snapshot(snapshots.SPX, second, says=says) for second, says in stored])
        (state,) = looks.newest(at_ms)
        (anew,) = SeriesLooks(root, TradingCalendar(US)).newest(at_ms)
        assert state == anew
        told.append((state.held, (state.last_ts_ms or 0) // 1000 - snapshots.OPEN_SEC))
    assert told == [(10, 9), (10, 9), (11, 10), (11, 30_000)]


def test_looks_at_a_replaced_file_begin_anew(tmp_path: Path) -> None:
    root = snapshots.record(tmp_path / "US", [snapshots.snapshot(snapshots.SPX, second) for second in range(10)])
    looks = SeriesLooks(root, TradingCalendar(US))
    at_ms = (snapshots.OPEN_SEC + 20) * 1000
    assert [(one.held, one.missed) for one in looks.newest(at_ms)] == [(10, 10)]
    (root / "snapshot" / f"{snapshots.DAY}.snapshot.db").unlink()
    assert looks.newest(at_ms) == []
    snapshots.record(root, [snapshots.snapshot(snapshots.SPX, 3), snapshots.snapshot(snapshots.SPX, 3, says="other")])
    assert [(one.held, one.missed) for one in looks.newest(at_ms)] == [(1, 19)]
    assert SeriesLooks(tmp_path, TradingCalendar(US)).newest(at_ms) == []

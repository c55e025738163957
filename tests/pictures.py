"""The pictures in ``docs/images``, made of this tree. After a change of what a page or the screen looks like:

    python -m tests.pictures

Days are the simulator's market, written by the recorder's own writer; the terminal shows a recorder at work. It needs
Debian's ``chromium`` and takes about two minutes. Pictures of a live screen are never the same twice, so no test
compares them: ``tests/docs/test_pictures.py`` holds that each is shown in a document, and that each shown is made here.
"""

from __future__ import annotations

import asyncio
import contextlib
import runpy
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from playwright.sync_api import Browser, Page, expect

from hk_tick_collector.cli.common import App
from hk_tick_collector.cli.screen_app import Screen
from hk_tick_collector.cli.screen_log import FileLog
from hk_tick_collector.cli.screen_sources import LocalSource
from hk_tick_collector.core.clock import SystemClock
from hk_tick_collector.core.facts import GapFound, HeadProven, SymbolNoted, Verified
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hk import HK
from hk_tick_collector.market.hk.sessions import day_start_ms
from hk_tick_collector.opend_sim.exchange import Exchange, MarketConfig
from hk_tick_collector.opend_sim.instruments import default_symbols
from hk_tick_collector.opend_sim.market_feed import MarketFeed
from hk_tick_collector.opend_sim.simclock import SimClock, hk_time_ms
from hk_tick_collector.opend_sim.simtick import SimTick
from hk_tick_collector.records.tick import Tick
from hk_tick_collector.store.writer import DayFileWriter
from tests.books import record_books
from tests.browser import Seen, chromium, page_of
from tests.harness import BIN, Process, Simulator, clean_env, ended
from tests.tickctl import CONFIRMED_MS, tickctl

IMAGES = Path(__file__).parent.parent / "docs/images"
DAY, DAY_BEFORE = "20261120", "20261119"
SYMBOLS = default_symbols(12)
LOST = "HK.00005"
LOST_FROM, LOST_TO = "13:05:30", "13:20:00"
STEP_MS, WRITE_MS = 100, 6
DEMO = runpy.run_path(str(Path(__file__).parent.parent / "scripts/demo.py"))
DEMO_SEC = 24
DESK = (1200, 820)
TERMINAL = (110, 34)
NAMES = ("demo", "day-page", "day-page-phone", "dashboard-coverage", "dashboard-symbol")


def record_market_day(root: Path, day: str, *, lost: bool = False) -> None:
    """A whole day of the simulated market as a recorder leaves it; ``lost``: without some ticks of one symbol."""
    date = f"{day[:4]}-{day[4:6]}-{day[6:]}"
    begin_ms, end_ms = hk_time_ms(f"{date}T08:59:00"), hk_time_ms(f"{date}T16:12:00")
    config = MarketConfig(list(SYMBOLS), seed=8, history_ticks=0, activity=0.3)
    exchange = Exchange(config, begin_ms, TradingCalendar(HK))
    feed = MarketFeed(exchange, SimClock(begin_ms))
    away = hk_time_ms(f"{date}T{LOST_FROM}"), hk_time_ms(f"{date}T{LOST_TO}")
    clock = _DayClock(begin_ms)
    writer = DayFileWriter(root, clock=clock)
    counters: dict[str, list[int]] = {symbol: [] for symbol in SYMBOLS}
    missed: list[int] = []
    for now_ms in range(begin_ms, end_ms, STEP_MS):
        kept = []
        for tick in feed.step(now_ms):
            counters[tick.symbol].append(tick.seq & 0xFFFFFFFF)
            if lost and tick.symbol == LOST and away[0] <= tick.ts_ms < away[1]:
                missed.append(tick.seq & 0xFFFFFFFF)
            else:
                kept.append(_stored(tick, day))
        clock.at_ms = now_ms + WRITE_MS
        if kept:
            writer.write(kept)
    at_ms = day_start_ms(day) + CONFIRMED_MS
    facts: list[Any] = [SymbolNoted(symbol, day, begin_ms, feed.name_of(symbol)) for symbol in SYMBOLS]
    facts += [HeadProven(symbol, day, min(counters[symbol])) for symbol in SYMBOLS]
    facts += [Verified(symbol, day, max(counters[symbol]), at_ms) for symbol in SYMBOLS]
    if missed:
        facts.append(GapFound(LOST, day, min(missed), max(missed), at_ms, "OpenD no longer shows them"))
    writer.write([], facts)
    writer.close()


class _DayClock(SystemClock):
    """Says when the day was, for rows that say when they were written."""

    def __init__(self, at_ms: int) -> None:
        self.at_ms = at_ms

    def now_ms(self) -> int:
        return self.at_ms


def _stored(tick: SimTick, day: str) -> Tick:
    return Tick(
        tick.symbol, tick.ts_ms, tick.price, tick.volume, tick.turnover, tick.direction, tick.seq, tick.tick_type,
        "push", day, tick.recv_ts_ms + 3, "REALTIME", tick.recv_ts_ms, chr(tick.type_sign),
    )  # fmt: skip


@contextlib.contextmanager
def served(directory: Path, root: Path, **settings: object) -> Iterator[str]:
    """The address of a dashboard over the data root."""
    command = [BIN / "hk-tickctl", "serve", "--anonymous", "--data-root", root, "--port", "0"]
    server = Process([str(word) for word in command], clean_env(directory / "home", API_WORKERS=1, **settings))
    with ended(server):
        yield server.wait_for(r"listening on (http://\S+)").group(1)


def shown(page: Page, address: str) -> None:
    """Wait until a page of the dashboard shows all that it asked for."""
    page.goto(address)
    expect(page.locator("main h1").first).to_be_visible()
    expect(page.locator(".loading")).to_have_count(0)
    page.wait_for_load_state("networkidle")


def of_days(browser: Browser, root: Path, into: Path) -> None:
    """The certificate of a day, on a desk and on a phone."""
    done = tickctl("day", DAY, "--html", data_root=root)
    assert done.returncode == 1, done.stderr  # it misses ticks, and that is what the picture shows
    address = (root / "_reports" / f"{DAY}.html").as_uri()
    for name, width, height in (("day-page", 1000, 980), ("day-page-phone", 375, 812)):
        with page_of(browser, Seen(), width, height, color_scheme="light", locale="en-GB") as page:
            page.goto(address)
            expect(page.locator("#chart path.line")).to_be_visible()
            page.screenshot(path=into / f"{name}.png")


def of_dashboard(browser: Browser, directory: Path, root: Path, into: Path) -> None:
    """The coverage map and a symbol's page."""
    with (
        served(directory, root) as url,
        page_of(browser, Seen(), *DESK, color_scheme="dark", locale="en-GB") as page,
    ):
        shown(page, f"{url}/ui/#/coverage?day={DAY}")
        page.screenshot(path=into / "dashboard-coverage.png")
        page.emulate_media(color_scheme="light")
        page.evaluate("localStorage.setItem('hk-theme', 'light')")
        page.goto("about:blank")
        shown(page, f"{url}/ui/#/symbol/HK.00700")
        expect(page.locator(".chart canvas").first).to_be_visible()
        page.screenshot(path=into / "dashboard-symbol.png")


def of_demo(browser: Browser, directory: Path, into: Path) -> None:
    """What ``scripts/demo.sh`` shows after some seconds, on a terminal of 110 columns."""
    count, history = DEMO["SYMBOLS_COUNT"], DEMO["HISTORY_TICKS"]
    simulator = Simulator(directory, "--always-open", "--symbols-count", count, "--history", history)
    root = directory / "data"
    settings = {
        "FUTU_HOST": "127.0.0.1", "FUTU_PORT": simulator.port, "FUTU_SYMBOLS": ",".join(default_symbols(count)),
        "FUTU_POLL_TRADING_ONLY": 0, "DATA_ROOT": root, "HEALTH_INTERVAL_SEC": 1,
    }  # fmt: skip
    recorder = Process([BIN / "hk-tick-collector"], clean_env(directory / "home", **settings))
    log = directory / "recorder.log"
    with ended(recorder, simulator):
        recorder.wait_for("status=ok")
        # In a thread of its own: Playwright's loop runs in this one.
        with ThreadPoolExecutor(1) as other:
            svg = other.submit(lambda: asyncio.run(_screen(root, log, recorder))).result()
    with page_of(browser, Seen(), *DESK) as page:
        page.set_content(f"<style>body{{margin:0}}svg{{display:block;width:1200px}}</style>{svg}")
        page.locator("svg").screenshot(path=into / "demo.png")


async def _screen(root: Path, log: Path, recorder: Process) -> str:
    screen = Screen(LocalSource(App(data_root_given=root)), FileLog(log))
    async with screen.run_test(size=TERMINAL) as pilot:
        for second in range(DEMO_SEC + 1):
            screen.say(f"hk-tick-collector on a simulated market: {second} of 30 s (q ends it)")
            log.write_text(recorder.output)
            await pilot.pause(1)
        return screen.export_screenshot(title="bash scripts/demo.sh")


def main(into: Path = IMAGES) -> None:
    """All pictures."""
    with tempfile.TemporaryDirectory(prefix="hk-tick-demo.") as name, chromium() as browser:
        directory = Path(name)
        root = directory / "HK"
        record_market_day(root, DAY_BEFORE)
        record_market_day(root, DAY, lost=True)
        record_books(root, DAY, ("HK.00005", "HK.00700"))
        of_days(browser, root, into)
        of_dashboard(browser, directory, root, into)
        of_demo(browser, directory, into)
    print(f"made at {datetime.now(ZoneInfo('Asia/Hong_Kong')):%H:%M} HKT: {', '.join(NAMES)}")


if __name__ == "__main__":
    main()

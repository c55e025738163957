"""What the bot says to people who ask: short texts out of the files, by the functions that the commands use."""

from __future__ import annotations

from pathlib import Path

from hk_tick_collector.alert.outbox import Outbox
from hk_tick_collector.alert.rules import RULES, advice
from hk_tick_collector.alert.snapshots import SnapshotAnswers
from hk_tick_collector.alert.words import clock
from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.errors import RecorderError
from hk_tick_collector.core.text import counted
from hk_tick_collector.days.catalog import Catalog
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.market import Market
from hk_tick_collector.quality.certificate import make_certificate
from hk_tick_collector.quality.gap_list import gap_lines
from hk_tick_collector.records.tick import Tick
from hk_tick_collector.store import layout
from hk_tick_collector.watch.condition import look
from hk_tick_collector.watch.newest import newest_ticks
from hk_tick_collector.watch.when import symbol_list

HELP = "/status, /day, /gaps, /top, /symbol 700"
MUTE_MS = 3_600_000
SHOWN = 10


class Answers:
    """``answer(verb, argument)``: the text; of a question that cannot be answered, why."""

    def __init__(self, data_root: Path, archive_root: Path, alert_dir: Path, clock_: Clock) -> None:
        self._catalog = Catalog(data_root, archive_root)
        self._calendar = TradingCalendar(self._catalog.market)
        self._alert_dir, self._clock = alert_dir, clock_

    def answer(self, verb: str, argument: str) -> str:
        """One of status, day, gaps, top, symbol, details, mute; anything else says which there are."""
        ways = {"status": self._status, "day": self._day, "gaps": self._gaps, "top": self._top}
        try:
            if verb in ways:
                return ways[verb]()
            if verb == "symbol":
                return self._symbol(argument)
            if verb == "details" and argument in RULES:
                return f"{argument}: {advice(argument) or 'hk-tickctl status'}"
            if verb == "mute" and argument in RULES:
                return self._mute(argument)
        except (RecorderError, OSError, ValueError) as exc:
            return f"it cannot be answered: {exc}"
        return HELP

    def _status(self) -> str:
        condition = look(self._catalog.data_root, self._calendar, self._clock.now_ms())
        words = {"fine": "all is well", "problem": "something is wrong"}
        lines = [words.get(condition.verdict, "nothing is recorded here yet") + f" ({condition.phase})"]
        status = condition.status
        if condition.is_fresh and status is not None:
            lines.append(
                f"{status.rows_per_sec:,.0f} rows/s, {status.symbols_subscribed} of {status.symbols_wanted} symbols"
            )
        return "\n".join([*lines, *(complaint.sentence for complaint in condition.complaints[:SHOWN])])

    def _newest(self) -> str:
        today = self._catalog.market.trading_day(self._clock.now_ms())
        files = layout.recent_day_files(self._catalog.data_root, 1, today)
        day = layout.parse_day(files[0]) if files else None
        if day is None:
            raise RecorderError("nothing is recorded yet")
        return day

    def _snapshots(self) -> SnapshotAnswers | None:
        """Who answers for a data root of snapshots; None for one of ticks."""
        if not layout.holds_snapshots(self._catalog.data_root):
            return None
        return SnapshotAnswers(self._catalog.data_root, self._calendar, self._clock.now_ms())

    def _day(self) -> str:
        if (snapshots := self._snapshots()) is not None:
            return snapshots.day()
        day = self._newest()
        made = make_certificate(self._catalog.day(day), self._calendar, self._clock.now_ms(), read=False)
        return f"grade {made.grade}. {made.sentence}"

    def _gaps(self) -> str:
        if (snapshots := self._snapshots()) is not None:
            return snapshots.gaps()
        day, market = self._newest(), self._catalog.market
        gaps = [gap for gap in gap_lines(self._catalog.day(day)) if gap.state == "open"]
        lines = [
            f"{gap.symbol} {_clock(gap.start_ts_ms, market)} to {_clock(gap.end_ts_ms, market)}: "
            f"{'?' if gap.missing_ticks is None else gap.missing_ticks} ticks"
            for gap in gaps[:SHOWN]
        ]
        return "\n".join([f"{day}: {counted(len(gaps), 'open gap')}", *lines])

    def _top(self) -> str:
        if (snapshots := self._snapshots()) is not None:
            return snapshots.top()
        rows = sorted(self._catalog.day(self._newest()).rows_by_symbol().items(), key=lambda pair: -pair[1])
        return "\n".join(f"{symbol} {count:,} ticks" for symbol, count in rows[:SHOWN])

    def _symbol(self, text: str) -> str:
        market = self._catalog.market
        (symbol,) = symbol_list(market, [text])[:1] or [""]
        if (snapshots := self._snapshots()) is not None:
            return snapshots.symbol(symbol)
        newest = newest_ticks(layout.day_file(self._catalog.data_root, self._newest()), [symbol], SHOWN)
        lines = [f"{clock(tick.ts_ms, market)} {_amount(tick)}" for tick in newest.get(symbol, [])]
        return "\n".join([symbol, *lines]) if lines else f"{symbol} has no ticks in the newest day file"

    def _mute(self, code: str) -> str:
        outbox, until_ms = Outbox(self._alert_dir), self._clock.now_ms() + MUTE_MS
        try:
            outbox.mute(code, until_ms)
        finally:
            outbox.close()
        return f"{code} is silent until {clock(until_ms, self._catalog.market)}"


def _amount(tick: Tick) -> str:
    """Price and size. A part of a share has no volume, but a turnover that tells it; a file of an earlier recorder may
    lack either."""
    price = "?" if tick.price is None else f"{tick.price:g}"
    if tick.volume is not None:
        return f"{price} x {tick.volume:,}"
    return f"{price} x {tick.turnover / tick.price:.6g}" if tick.turnover and tick.price else f"{price} x ?"


def _clock(ts_ms: int | None, market: Market) -> str:
    return "?" if ts_ms is None else clock(ts_ms, market)

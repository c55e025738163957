"""Plots of a day as inline SVG, drawn by hand: no library, no script, nothing to load.

Colours are the page's CSS classes, so the plots follow it into the dark. The horizontal axis is the market's time, in
minutes since the trading day's clock began: at midnight, or in the evening before. Everything a file can contain
(symbols, reasons) is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from hk_tick_collector.quality.gap_list import GapLine

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 1000, 76, 10, 10, 22
GAP_SYMBOLS = 40
HEAT_SYMBOLS = 80
HEAT_LEVELS = 10
_MINUTES_A_DAY = 1440


@dataclass(frozen=True, slots=True)
class Span:
    """The minutes of the day that are drawn, and the breaks between sessions among them. ``begins_minute``: the time of
    day, in minutes, that the day's first minute has on the market's clock."""

    first: int
    last: int
    breaks: tuple[tuple[int, int], ...] = ()
    begins_minute: int = 0

    def x(self, minute: float) -> float:
        """Where a minute stands; outside the span: at its edge."""
        share = (min(max(minute, self.first), self.last) - self.first) / (self.last - self.first)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def clock(self, minute: int) -> str:
        """``09:30``; the end of a day that begins at midnight is ``24:00``."""
        minute += self.begins_minute
        if minute > _MINUTES_A_DAY or (minute == _MINUTES_A_DAY and self.begins_minute):
            minute -= _MINUTES_A_DAY
        return f"{minute // 60:02d}:{minute % 60:02d}"


def span_of(sessions: Sequence[tuple[int, int]], rows_a_minute: Sequence[int], begins_minute: int = 0) -> Span:
    """What to draw: the sessions (first and last minute), and every minute that has rows; whole half hours."""
    used = [minute for minute, rows in enumerate(rows_a_minute) if rows]
    edges = [*(edge for session in sessions for edge in session), *(used[:1] + used[-1:])] or [0, _MINUTES_A_DAY]
    breaks = tuple((before[1], after[0]) for before, after in pairwise(sessions) if before[1] < after[0])
    first, last = min(edges) // 30 * 30, -(-(max(edges) + 1) // 30) * 30
    return Span(first, min(last, _MINUTES_A_DAY), breaks, begins_minute)


def rows_plot(span: Span, rows_a_minute: Sequence[int]) -> str:
    """Bars, one a minute."""
    height = 200
    top = _nice(max(rows_a_minute, default=0))
    width = max(1.0, round(span.x(span.first + 1) - span.x(span.first) - 0.4, 1))
    bars = []
    for minute in range(span.first, span.last):
        rows = rows_a_minute[minute]
        if rows:
            tall = round(max(0.6, rows / top * height), 1)
            bars.append(
                f'<rect class="bar" x="{span.x(minute)}" y="{round(TOP + height - tall, 1)}" width="{width}" '
                f'height="{tall}"><title>{span.clock(minute)}: {rows:,} ticks</title></rect>'
            )
    grid = [(TOP + height - share * height, f"{round(top * share):,}") for share in (0, 0.5, 1)]
    return _svg("ticks a minute", height, span, grid, bars)


def lag_plot(span: Span, p50_ms: Sequence[float | None], p99_ms: Sequence[float | None]) -> str:
    """Two lines on a logarithmic scale."""
    height = 200
    known = [value for value in (*p50_ms, *p99_ms) if value is not None]
    if not known:
        return ""
    low, high = math.floor(math.log10(min(known))), max(1, math.ceil(math.log10(max(known)) - 1e-9))
    low = min(low, high - 1)

    def y(value: float) -> float:
        return round(TOP + height - (math.log10(value) - low) / (high - low) * height, 1)

    grid = [(y(10.0**power), _duration(10.0**power)) for power in range(low, high + 1)]
    parts = [
        f'<path class="line {name}" d="{_path(span, values, y)}"><title>{name}</title></path>'
        for name, values in (("p99", p99_ms), ("p50", p50_ms))
    ]
    return _svg("lag of pushed ticks", height, span, grid, parts)


def gaps_plot(span: Span, lines: Sequence[GapLine], begins_ms: int) -> str:
    """One line a symbol, those that miss most first; empty when there is no gap. A time on another day stands at that
    end of this one, whose clock began at ``begins_ms``."""
    by_symbol: dict[str, list[GapLine]] = {}
    for line in lines:
        by_symbol.setdefault(line.symbol, []).append(line)
    symbols = sorted(by_symbol, key=lambda symbol: (-_open_ticks(by_symbol[symbol]), symbol))[:GAP_SYMBOLS]
    if not symbols:
        return ""
    row = 16
    parts = []
    for n, symbol in enumerate(symbols):
        y = TOP + n * row
        parts.append(_row_label(y + row - 4, symbol))
        for line in by_symbol[symbol]:
            start = span.x((line.start_ts_ms - begins_ms) / 60_000)
            end = WIDTH - RIGHT if line.end_ts_ms is None else span.x((line.end_ts_ms - begins_ms) / 60_000)
            ticks = "an unknown number of" if line.missing_ticks is None else f"{line.missing_ticks:,}"
            missing = f"{ticks} ticks missing" if line.state == "open" else "filled"
            told = f"{symbol} counters {line.counters}: {missing} ({line.reason})"
            width = max(2.0, round(end - start, 1))
            parts.append(
                f'<rect class="gap {escape(line.state)}" x="{start}" y="{y + 3}" width="{width}" '
                f'height="{row - 6}" rx="2"><title>{escape(told)}</title></rect>'
            )
    return _svg("gaps", row * len(symbols), span, [], parts)


def heat_plot(span: Span, heat: Mapping[str, Sequence[int]], symbols: Sequence[str]) -> str:
    """Rows of each symbol in five minutes, the stronger the more (by the cube root, one scale for all)."""
    row, slot_minutes = 10, 5
    shown = [symbol for symbol in symbols if symbol in heat][:HEAT_SYMBOLS]
    top = max((max(heat[symbol]) for symbol in shown), default=0)
    cells: list[list[str]] = [[] for _ in range(HEAT_LEVELS + 1)]
    parts = []
    for n, symbol in enumerate(shown):
        y = TOP + n * row
        parts.append(_row_label(y + row - 2, symbol, small=True))
        for slot in range(span.first // slot_minutes, -(-span.last // slot_minutes)):
            rows = heat[symbol][slot]
            if rows:
                x = span.x(slot * slot_minutes)
                width = round(span.x((slot + 1) * slot_minutes) - x, 1)
                cells[math.ceil(HEAT_LEVELS * (rows / top) ** (1 / 3))].append(f"M{x} {y}h{width}v{row - 1}h-{width}z")
        total = sum(heat[symbol])
        parts.append(
            f'<rect class="hit" x="{LEFT}" y="{y}" width="{WIDTH - LEFT - RIGHT}" height="{row}">'
            f"<title>{escape(symbol)}: {total:,} ticks</title></rect>"
        )
    levels = [
        f'<path class="heat" fill-opacity="{level / HEAT_LEVELS:.3f}" d="{"".join(found)}"/>'
        for level, found in enumerate(cells)
        if found
    ]
    return _svg("ticks in five minutes by symbol", row * len(shown), span, [], [*levels, *parts])


def _svg(title: str, height: float, span: Span, grid: Iterable[tuple[float, str]], parts: Iterable[str]) -> str:
    bottom = TOP + height
    out = [f'<svg viewBox="0 0 {WIDTH} {bottom + BOTTOM}" role="img" aria-label="{escape(title)}">']
    for start, end in span.breaks:
        out.append(
            f'<rect class="break" x="{span.x(start)}" y="{TOP}" width="{round(span.x(end) - span.x(start), 1)}" '
            f'height="{height}"/>'
        )
    for y, label in grid:
        out.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{round(y, 1)}" y2="{round(y, 1)}"/>')
        out.append(f'<text class="tick" x="{LEFT - 6}" y="{round(y + 4, 1)}" text-anchor="end">{escape(label)}</text>')
    out += parts
    step = 30 if span.last - span.first <= 600 else 120
    for minute in range(span.first, span.last + 1, step):
        out.append(f'<text class="tick" x="{span.x(minute)}" y="{bottom + 15}" text-anchor="middle">')
        out.append(f"{span.clock(minute)}</text>")
    out.append("</svg>")
    return "".join(out)


def _row_label(y: float, symbol: str, *, small: bool = False) -> str:
    size = "tick small" if small else "tick"
    return f'<text class="{size}" x="{LEFT - 6}" y="{y}" text-anchor="end">{escape(symbol)}</text>'


def _path(span: Span, values: Sequence[float | None], y: object) -> str:
    """A line through the values, broken where there is none."""
    assert callable(y)
    words = []
    pen_down = False
    for minute in range(span.first, span.last):
        value = values[minute]
        if value is not None:
            words.append(f"{'L' if pen_down else 'M'}{span.x(minute + 0.5)} {y(value)}")
            if not pen_down:
                words.append("h1")  # a lone minute is seen too
        pen_down = value is not None
    return "".join(words)


def _open_ticks(lines: Iterable[GapLine]) -> float:
    return sum(
        0 if line.state != "open" else math.inf if line.missing_ticks is None else line.missing_ticks for line in lines
    )


def _nice(value: float) -> float:
    """A round number not below the value."""
    if value <= 1:
        return 1
    unit = 10.0 ** math.floor(math.log10(value))
    return next(unit * step for step in (1, 2, 2.5, 5, 10) if unit * step >= value)


def _duration(ms: float) -> str:
    return f"{ms:g} ms" if ms < 1000 else f"{ms / 1000:g} s"

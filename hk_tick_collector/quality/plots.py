"""Plots of a day as inline SVG, drawn by hand: no library, no script, nothing to load.

A drawing is as wide as the page lets it be, and 1,000 units wide in itself. Its labels are text beside it, not in it,
so they keep their size on a phone, where every label that would not fit is left out (``_time_labels``). Colours are the
page's CSS classes, so the plots follow it into the dark. The horizontal axis is the market's time, in minutes since the
trading day's clock began: at midnight, or in the evening before. Everything a file can contain (symbols, reasons) is
escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from hk_tick_collector.quality.gap_list import GapLine

WIDTH = 1000
GAP_SYMBOLS = 40
HEAT_SYMBOLS = 80
HEAT_LEVELS = 10
WIDE_LABELS, NARROW_LABELS = 16, 5  # as many times fit below a drawing of a desk's screen, and of a phone's
_LABEL_STEPS = (5, 10, 15, 30, 60, 120, 240, 480)  # minutes
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
        """Where a minute is; outside the span: at its edge."""
        share = (min(max(minute, self.first), self.last) - self.first) / (self.last - self.first)
        return round(share * WIDTH, 1)

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
    """Bars, one a minute, on a logarithmic scale: the opening's spike leaves the rest to be seen."""
    height = 200
    low, high = math.log10(0.6), max(1, math.ceil(math.log10(max(1, *rows_a_minute)) - 1e-9))
    width = max(0.6, round(span.x(span.first + 1) - span.x(span.first) - 0.3, 1))

    def y(rows: float) -> float:
        return round(height - (math.log10(rows) - low) / (high - low) * height, 1)

    bars = [
        f'<rect class="bar" x="{span.x(minute)}" y="{y(rows_a_minute[minute])}" width="{width}" '
        f'height="{round(height - y(rows_a_minute[minute]), 1)}">'
        f"<title>{span.clock(minute)}: {rows_a_minute[minute]:,} ticks</title></rect>"
        for minute in range(span.first, span.last)
        if rows_a_minute[minute]
    ]
    grid = [(y(10.0**power), f"{10**power:,}") for power in range(high + 1)]
    return _plot("ticks a minute, logarithmic scale", height, span, grid, bars)


def lag_plot(span: Span, p50_ms: Sequence[float | None], p99_ms: Sequence[float | None]) -> str:
    """Two lines on a logarithmic scale."""
    height = 200
    known = [value for value in (*p50_ms, *p99_ms) if value is not None]
    if not known:
        return ""
    low, high = math.floor(math.log10(min(known))), max(1, math.ceil(math.log10(max(known)) - 1e-9))
    low = min(low, high - 1)

    def y(value: float) -> float:
        return round(height - (math.log10(value) - low) / (high - low) * height, 1)

    grid = [(y(10.0**power), _duration(10.0**power)) for power in range(low, high + 1)]
    parts = [
        f'<path class="line {name}" d="{_path(span, values, y)}"><title>{name}</title></path>'
        for name, values in (("p99", p99_ms), ("p50", p50_ms))
    ]
    return _plot("lag of pushed ticks, logarithmic scale", height, span, grid, parts)


def gaps_plot(span: Span, lines: Sequence[GapLine], on_clock_ms: Callable[[int], int]) -> str:
    """One line a symbol, those that miss most first; empty when there is no gap. A time on another day stands at that
    end of this one; ``on_clock_ms``: where a moment stands on its clock."""
    by_symbol: dict[str, list[GapLine]] = {}
    for line in lines:
        by_symbol.setdefault(line.symbol, []).append(line)
    symbols = sorted(by_symbol, key=lambda symbol: (-_open_ticks(by_symbol[symbol]), symbol))[:GAP_SYMBOLS]
    if not symbols:
        return ""
    row = 16
    parts = []
    for n, symbol in enumerate(symbols):
        y = n * row
        for line in by_symbol[symbol]:
            start = span.x(on_clock_ms(line.start_ts_ms) / 60_000)
            end = WIDTH if line.end_ts_ms is None else span.x(on_clock_ms(line.end_ts_ms) / 60_000)
            ticks = "an unknown number of" if line.missing_ticks is None else f"{line.missing_ticks:,}"
            missing = f"{ticks} ticks {'' if line.is_loss else 'may be '}missing" if line.state == "open" else "filled"
            told = f"{symbol} counters {line.counters}: {missing} ({line.reason})"
            width = max(2.0, round(end - start, 1))
            parts.append(
                f'<rect class="gap {escape(line.state)}" x="{start}" y="{y + 3}" width="{width}" '
                f'height="{row - 6}"><title>{escape(told)}</title></rect>'
            )
    return _plot("gaps", row * len(symbols), span, _row_labels(symbols, row), parts)


def heat_plot(span: Span, heat: Mapping[str, Sequence[int]], symbols: Sequence[str]) -> str:
    """Rows of each symbol in five minutes, the stronger the more (by the cube root, one scale for all)."""
    row, slot_minutes = 13, 5
    shown = [symbol for symbol in symbols if symbol in heat][:HEAT_SYMBOLS]
    top = max((max(heat[symbol]) for symbol in shown), default=0)
    cells: list[list[str]] = [[] for _ in range(HEAT_LEVELS + 1)]
    parts = []
    for n, symbol in enumerate(shown):
        y = n * row
        for slot in range(span.first // slot_minutes, -(-span.last // slot_minutes)):
            rows = heat[symbol][slot]
            if rows:
                x = span.x(slot * slot_minutes)
                width = round(span.x((slot + 1) * slot_minutes) - x, 1)
                cells[math.ceil(HEAT_LEVELS * (rows / top) ** (1 / 3))].append(f"M{x} {y}h{width}v{row - 1}h-{width}z")
        total = sum(heat[symbol])
        parts.append(
            f'<rect class="hit" x="0" y="{y}" width="{WIDTH}" height="{row}">'
            f"<title>{escape(symbol)}: {total:,} ticks</title></rect>"
        )
    levels = [
        f'<path class="heat" fill-opacity="{level / HEAT_LEVELS:.3f}" d="{"".join(row)}"/>'
        for level, row in enumerate(cells)
        if row
    ]
    labels = _row_labels(shown, row)
    return _plot("ticks in five minutes by symbol", row * len(shown), span, labels, [*levels, *parts])


def _plot(title: str, height: float, span: Span, rows: Iterable[tuple[float, str]], parts: Iterable[str]) -> str:
    """A drawing and its labels. ``rows``: heights and what is written there; the marks of a scale get a line."""
    rows = list(rows)
    drawn = [
        f'<rect class="break" x="{span.x(start)}" y="0" width="{round(span.x(end) - span.x(start), 1)}" '
        f'height="{height}"/>'
        for start, end in span.breaks
    ]
    drawn += [f'<path class="grid" d="M0 {y}H{WIDTH}"/>' for y, label in rows if not label.startswith("<")]
    labels = "".join(f'<span class="y" style="top:{y}px">{label}</span>' for y, label in rows)
    return (
        f'<div class="plot"><svg viewBox="0 0 {WIDTH} {height}" preserveAspectRatio="none" height="{height}" '
        f'role="img" aria-label="{escape(title)}">{"".join(drawn)}{"".join(parts)}</svg>'
        f'<div aria-hidden="true">{labels}{_time_labels(span)}</div></div>'
    )


def _row_labels(symbols: Sequence[str], row: int) -> list[tuple[float, str]]:
    return [(n * row + row / 2, f"<b>{escape(symbol)}</b>") for n, symbol in enumerate(symbols)]


def _time_labels(span: Span) -> str:
    """Times of day below a drawing; ``wide`` and ``narrow`` say on which screens."""
    wide, narrow = (_label_minutes(span, most) for most in (WIDE_LABELS, NARROW_LABELS))
    labels = []
    for minute in sorted(wide | narrow):
        shown = " ".join(name for name, minutes in (("wide", wide), ("narrow", narrow)) if minute in minutes)
        left = round(span.x(minute) / WIDTH * 100, 2)
        labels.append(f'<span class="x {shown}" style="left:{left}%">{span.clock(minute)}</span>')
    return "".join(labels)


def _label_minutes(span: Span, most: int) -> set[int]:
    """Round times of day, ``most`` at most."""
    for step in _LABEL_STEPS:
        first = -(-(span.first + span.begins_minute) // step) * step - span.begins_minute
        minutes = set(range(first, span.last + 1, step))
        if len(minutes) <= most:
            return minutes
    return {span.first}


def _path(span: Span, values: Sequence[float | None], y: Callable[[float], float]) -> str:
    """A line through the values, broken where there is none."""
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


def _duration(ms: float) -> str:
    return f"{ms:g} ms" if ms < 1000 else f"{ms / 1000:g} s"

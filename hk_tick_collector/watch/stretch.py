"""A stretch of time over recorded days: what days and times as people type them mean together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from hk_tick_collector.core.errors import InputError, NoData
from hk_tick_collector.query.fetch import DayPart, explain_nothing
from hk_tick_collector.watch.when import Recorded, on_day_ms, one_day, readable_days, some_days, told


@dataclass(frozen=True, slots=True)
class Stretch:
    """Parts of recorded days, oldest first, and what a person should know of them."""

    parts: list[DayPart]
    left_out: list[str]  # trading days that cannot be read; the others can
    remarks: list[str]


def stretch_of(recorded: Recorded, days: str | None, start: str | None, end: str | None) -> Stretch:
    """The stretches meant by ``days`` (None: the newest), from ``start`` up to and without ``end`` (None: all of the
    day). Times of day hold for each of the days, an instant (``2026-11-20T09:30``) is one moment.

    InputError for an empty stretch or what is no day or time, NoData when no recorded day lies in it, StoreCorrupt when
    the only one cannot be read.
    """
    is_instant = any(text is not None and "-" in text for text in (start, end))
    names = some_days(recorded, days) if days is not None or is_instant else [one_day(recorded, None)]
    parts = []
    for name in names:
        start_ms = None if start is None else on_day_ms(start, name, recorded.market)
        end_ms = None if end is None else on_day_ms(end, name, recorded.market, is_end=True)
        if start_ms is not None and end_ms is not None and start_ms >= end_ms:
            raise InputError(f"nothing lies between {start} and {end}")
        first_ms, after_ms = recorded.market.day_bounds(name)
        if (start_ms is None or start_ms < after_ms) and (end_ms is None or end_ms > first_ms):
            parts.append(DayPart(recorded.catalog.day(name), start_ms, end_ms))
    if not parts:
        raise NoData(f"no recorded day lies {told(start, end)}; recorded are {names[0]} to {names[-1]}")
    readable = readable_days(recorded, [part.day.trading_day for part in parts])
    days_read = {day.trading_day: day for day in readable.days}
    parts = [replace(part, day=days_read[name]) for part in parts if (name := part.day.trading_day) in days_read]
    return Stretch(parts, readable.left_out, readable.remarks)


def explain_missing(
    recorded: Recorded, parts: Sequence[DayPart], symbols: Sequence[str], table: pa.Table, narrowing: str
) -> list[str]:
    """A sentence for each symbol that has no row in ``table``. NoData when it has no rows at all.

    ``narrowing``: what was asked for beside days and symbols, in words.
    """
    days = [part.day for part in parts]
    if not table.num_rows:
        raise NoData(explain_nothing(recorded.catalog, days, symbols, narrowing))
    if len(symbols) < 2:
        return []
    present = set(table.column("symbol").unique().to_pylist())
    return [explain_nothing(recorded.catalog, days, [symbol], narrowing) for symbol in symbols if symbol not in present]

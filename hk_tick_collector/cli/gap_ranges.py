"""``missing_ranges.json`` on command lines: written and held against days by ``gaps``, asked for by ``repair``."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hk_tick_collector.cli.common import EXIT_FINE, EXIT_PROBLEM, App, print_table, say
from hk_tick_collector.cli.stretch import days_to_read
from hk_tick_collector.cli.terminal import show_text
from hk_tick_collector.core.errors import NoData
from hk_tick_collector.core.text import counted
from hk_tick_collector.export.target import writing
from hk_tick_collector.watch.when import some_days

if TYPE_CHECKING:
    from hk_tick_collector.quality.gap_list import GapLine
    from hk_tick_collector.quality.missing_ranges import MissingRange

SHOWN = 50


def write_ranges(path: Path, lines: Sequence[GapLine], days: Sequence[str]) -> None:
    """The open gaps, whole or not at all."""
    from hk_tick_collector.quality.missing_ranges import document  # noqa: PLC0415 - not for --help

    with writing(path) as temporary:
        temporary.write_text(json.dumps(document(lines, days), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def ranges_in(app: App, path: Path) -> tuple[MissingRange, ...]:
    """What the file says; entries that mean nothing here are said. NoData when none is left."""
    from hk_tick_collector.quality.missing_ranges import read_ranges  # noqa: PLC0415

    file = read_ranges(path, app.market)
    for words in file.unread:
        say(f"{path}: {words}: left out")
    if file.unread_count > len(file.unread):
        say(f"{path}: and {file.unread_count - len(file.unread):,} more")
    if not file.ranges:
        raise NoData(f"{path} has no range of ticks" + (" that means anything here" if file.unread else ""))
    return file.ranges


def hold_against(app: App, path: Path, days: str | None, wanted: Sequence[str] | None) -> int:
    """What the recorded days say of each range of the file: 1 when one is still missing, or not known to be stored."""
    from hk_tick_collector.quality.gap_list import gap_lines, states_of  # noqa: PLC0415
    from hk_tick_collector.quality.missing_ranges import Now, now  # noqa: PLC0415

    ranges = [span for span in ranges_in(app, path) if wanted is None or span.symbol in wanted]
    recorded = set(some_days(app, days))
    if days is not None:
        ranges = [span for span in ranges if span.trading_day in recorded]
    if not ranges:
        raise NoData(f"{path} has no range of these days and symbols")
    names = sorted({span.trading_day for span in ranges} & recorded)
    known = {day.trading_day: (gap_lines(day), states_of(day)) for day in days_to_read(app, names)}
    rows: list[dict[str, Any]] = [
        {
            "trading_day": span.trading_day, "symbol": span.symbol,
            "start_ts_ms": span.start_ms, "end_ts_ms": span.end_ms,
            "now": now(span, *known.get(span.trading_day, ((), {}))).value,
        }
        for span in ranges
    ]  # fmt: skip
    counts = Counter(row["now"] for row in rows)
    app.emit({"ranges": rows, "counts": dict(counts)}, lambda: _show(app, rows, counts))
    return EXIT_FINE if set(counts) == {Now.STORED.value} else EXIT_PROBLEM


def _show(app: App, rows: Sequence[dict[str, Any]], counts: Counter[str]) -> None:
    zone, word = app.market.zone, app.market.time_word
    print_table(
        ("day", "symbol", f"from ({word})", f"to ({word})", "now"),
        [
            (
                row["trading_day"],
                row["symbol"],
                zone.clock_with_ms(row["start_ts_ms"]),
                None if row["end_ts_ms"] is None else zone.clock_with_ms(row["end_ts_ms"]),
                row["now"],
            )
            for row in rows[:SHOWN]
        ],
        numbers=(),
        text="now",
    )
    more = f" (the first {SHOWN} are shown)" if len(rows) > SHOWN else ""
    parts = ", ".join(f"{number:,} {name}" for name, number in counts.most_common())
    show_text(f"{counted(len(rows), 'range')}{more}: {parts}")

"""``hk-tickctl gaps``: what is missing of one day or many, and where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hk_tick_collector.cli.common import EXIT_FINE, EXIT_PROBLEM, App, print_table, progress, say, tickctl_command
from hk_tick_collector.cli.gap_ranges import hold_against, write_ranges
from hk_tick_collector.cli.options import days_option, symbols_option
from hk_tick_collector.cli.stretch import days_to_read
from hk_tick_collector.cli.terminal import show_text
from hk_tick_collector.core.evidence import WITHOUT_COUNTERS
from hk_tick_collector.core.text import counted
from hk_tick_collector.export.target import check_free
from hk_tick_collector.market.zone import Zone
from hk_tick_collector.store.gaps import CLOSED, OPEN
from hk_tick_collector.watch.when import some_days, symbol_list

if TYPE_CHECKING:
    from hk_tick_collector.quality.gap_list import GapLine

_HELP = """What is missing, and where: gaps that OpenD could no longer fill, and holes that have not been filled yet.

The times are those of the stored ticks before and after the gap, on the market's clock; counters are the symbol's own
numbering of the day's ticks (the low half of seq). A gap that was filled later is closed, and kept as history.

A period in which OpenD did not send a wanted symbol is also a gap, with OpenD's reason and of unknown size. So is the
beginning of a day that OpenD never showed: at most so many ticks came before the first one seen, perhaps none.

--output writes the open gaps as missing_ranges.json, with Shijim's fields. --against FILE reads such a list and says,
by time, what is stored here of each of its ranges.

Exits with 1 when there is an open gap in these days and symbols, whichever are shown, with 3 when there is no such day.
"""


@tickctl_command("gaps", several=True, help=_HELP, short_help="What is missing, and where.")
@days_option("Default: last; with --against those of the file.")
@symbols_option()
@click.option(
    "--state", type=click.Choice([OPEN, CLOSED, "all"]), default=OPEN, show_default=True, help="Which gaps to show."
)
@click.option("--output", "-o", type=click.Path(path_type=Path, dir_okay=False), help="Write the open gaps as JSON.")
@click.option(
    "--against",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Compare days with the ranges of this file.",
)
@click.option("--force", is_flag=True, help="Replace the file of --output.")
def command(
    app: App,
    days: str | None,
    symbols: Sequence[str],
    state: str,
    output: Path | None,
    against: Path | None,
    force: bool,
) -> int:
    """See ``--help``."""
    from hk_tick_collector.quality.gap_list import gap_lines, levels_of  # noqa: PLC0415 - not for --help

    wanted = symbol_list(app.market, symbols) if symbols else None
    if against is not None:
        if output is not None:
            raise click.UsageError("--output and --against do not go together: one writes ranges, the other reads them")
        return hold_against(app, against, days, wanted)
    if output is not None:
        check_free([output], force=force)
    chosen = some_days(app, days or "last")
    lines = []
    read: list[str] = []  # of a day that is left out nothing is said
    uncounted: Counter[str] = Counter()  # days of symbols without counters, by what they are judged by
    with progress("reading days", len(chosen)) as done:
        for day in days_to_read(app, chosen):
            read.append(day.trading_day)
            lines += gap_lines(day, wanted)
            levels = levels_of(day).items()
            uncounted.update(level for symbol, level in levels if wanted is None or symbol in wanted)
            done(1)
    if output is not None:
        write_ranges(output, lines, read)
    for level, words in WITHOUT_COUNTERS.items():
        if uncounted[level]:
            say(f"{uncounted[level]:,} symbol{'s' if uncounted[level] > 1 else ''} {words}")
    shown = [line for line in lines if state in (line.state, "all")]
    nothing = f"no {'' if state == 'all' else f'{state} '}gaps {_where(read, wanted)}"
    app.emit(
        [{**asdict(line), "seconds": line.seconds} for line in shown],
        lambda: _show(app, shown) if shown else print(nothing),
    )
    return EXIT_PROBLEM if any(line.state == OPEN for line in lines) else EXIT_FINE


def _show(app: App, lines: Sequence[GapLine]) -> None:
    """As a table, with its sum."""
    zone = app.market.zone
    start, end, found_at = (f"{name} ({app.market.time_word})" for name in ("from", "to", "found"))
    print_table(
        ("day", "symbol", start, end, "seconds", "missing", "counters", "state", found_at, "reason"),
        [
            (
                line.trading_day,
                line.symbol,
                _time(zone, line.start_ts_ms, line.trading_day),
                _time(zone, line.end_ts_ms, line.trading_day),
                line.seconds,
                "?" if line.missing_ticks is None else line.missing_ticks,
                line.counters,
                line.state,
                _time(zone, line.detected_at_ms, line.trading_day),
                line.reason,
            )
            for line in lines
        ],
        numbers=("seconds", "missing"),
        spare=(found_at, "counters", "state"),
        text="reason",
    )
    unknown = sum(line.missing_ticks is None for line in lines)
    total = sum(line.missing_ticks or 0 for line in lines)
    more = f", and {unknown:,} of unknown size" if unknown else ""
    show_text(f"{counted(len(lines), 'gap')} with {counted(total, 'missing tick')}{more}")


def _where(days: Sequence[str], symbols: Sequence[str] | None) -> str:
    when = f"on {days[0]}" if len(days) == 1 else f"on {len(days)} days from {days[0]} to {days[-1]}"
    return f"{when} in {', '.join(symbols)}" if symbols else when


def _time(zone: Zone, ts_ms: int | None, day: str) -> str | None:
    if ts_ms is None:
        return None
    date, clock = zone.date(ts_ms), zone.clock_with_ms(ts_ms)
    return clock if date == day else f"{date} {clock}"

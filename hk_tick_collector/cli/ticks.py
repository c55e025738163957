"""``hk-tickctl ticks``: the stored ticks of a symbol."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from hk_tick_collector.cli.common import App, tickctl_command
from hk_tick_collector.cli.results import Output, output_options
from hk_tick_collector.cli.stretch import check_rows, parts_of, stretch_options
from hk_tick_collector.market.trades import TradeTypes
from hk_tick_collector.watch.when import symbol_list, told

SPARE = ("seq", "turnover", "direction", "tick_type")  # of the table, where a terminal is narrow
SHOWN = ("symbol", "ts_ms", "price", "volume", "turnover", "direction", "tick_type", "seq")


@tickctl_command(
    "ticks",
    several=True,
    help="""The stored ticks of a symbol, live or archived, in the order of time and sequence.

    \b
    hk-tickctl ticks 700 --last 20
    hk-tickctl ticks 0700.HK --days 20261120 --from 09:30 --to 10:00
    hk-tickctl ticks 700 5 --days 20261101.. --output ticks.parquet

    A table shows the columns that matter most, every other format all of them unless --columns says otherwise. Odd
    lots and off-exchange trades are among the ticks, often at unusual prices: --price-only shows only the trades that
    make the price (AUTO_MATCH, INTER_AUTO_MATCH, AUCTION; none whose price or volume is 0).

    Exits with 3 when there is no such tick, and names the days or symbols that there are.""",
)
@stretch_options
@click.option(
    "--type", "types", multiple=True, metavar="TYPE", help="Only these tick types (AUTO_MATCH, ODD_LOT, ...)."
)
@click.option("--exclude-odd-lots", is_flag=True, help="Leave odd lots out.")
@click.option("--exclude-auctions", is_flag=True, help="Leave the auctions' trades out.")
@click.option("--price-only", is_flag=True, help="Only trades that make the price.")
@click.option("--last", type=click.IntRange(1), metavar="N", help="Only the latest N ticks of each symbol.")
@click.option("--columns", metavar="A,B", help="Only these columns, in this order; 'all' for all.")
@output_options
def command(
    app: App,
    symbols: tuple[str, ...],
    days: str | None,
    start: str | None,
    end: str | None,
    types: tuple[str, ...],
    exclude_odd_lots: bool,
    exclude_auctions: bool,
    price_only: bool,
    last: int | None,
    columns: str | None,
    **options: Any,
) -> None:
    wanted = symbol_list(app.market, symbols)
    keep, kinds = _keep(app.market.trade_types, types, exclude_odd_lots, exclude_auctions, price_only)
    output = Output.of(app, options)
    names = _columns(columns, is_table=output.format_name == "table")
    parts = parts_of(app, days, start, end)
    from hk_tick_collector.query.fetch import fetch_ticks, joined  # noqa: PLC0415 - Arrow takes its time

    needed = tuple(dict.fromkeys((*names, "symbol")))
    if last is None:
        table = fetch_ticks(parts, wanted, needed, keep_type=keep, trades_only=price_only)
    else:
        table = joined(
            [
                fetch_ticks(parts, [symbol], needed, keep_type=keep, trades_only=price_only, last_rows=last)
                for symbol in wanted
            ]
        )
    check_rows(app, parts, wanted, table, " ".join(text for text in (told(start, end), kinds) if text))
    table = table.select(list(names))
    output.write(table.schema, table.to_batches(), spare=() if columns else SPARE)


def _keep(
    types: TradeTypes, wanted: tuple[str, ...], exclude_odd_lots: bool, exclude_auctions: bool, price_only: bool
) -> tuple[Callable[[str | None], bool] | None, str]:
    """Which tick types stay (None: all), and that in words. UsageError names what is no type."""
    from hk_tick_collector.query.trade_types import TradeRule  # noqa: PLC0415
    from hk_tick_collector.sources.registry import TRADE_TYPES  # noqa: PLC0415 - only when asked

    known = set(TRADE_TYPES)
    only = {name.strip().upper() for text in wanted for name in text.split(",")}
    if not only <= known:
        raise click.UsageError(
            f"{', '.join(sorted(only - known))}: no such tick type; there are {', '.join(TRADE_TYPES)}"
        )
    without = frozenset[str]()
    without |= types.odd_lot if exclude_odd_lots else frozenset()
    without |= types.auction if exclude_auctions else frozenset()
    if not only and not without and not price_only:
        return None, ""

    def keep(tick_type: str | None) -> bool:
        return (
            (not only or tick_type in only)
            and tick_type not in without
            and (not price_only or TradeRule(types).prices(tick_type))
        )

    words = [f"of type {', '.join(sorted(only))}"] if only else []
    words += [f"without {', '.join(sorted(without))}"] if without else []
    return keep, " ".join([*words, "that make the price"] if price_only else words)


def _columns(text: str | None, *, is_table: bool) -> tuple[str, ...]:
    from hk_tick_collector.days.schema import COLUMNS  # noqa: PLC0415 - Arrow takes its time

    if text is None:
        return SHOWN if is_table else COLUMNS
    if text == "all":
        return COLUMNS
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    unknown = [name for name in names if name not in COLUMNS]
    if unknown:
        raise click.UsageError(f"no such column: {', '.join(unknown)}; there are {', '.join(COLUMNS)}")
    return names

"""``hk-tickctl bars``: bars out of stored ticks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from hk_tick_collector.cli.common import App, tickctl_command
from hk_tick_collector.cli.results import Output, output_options
from hk_tick_collector.cli.stretch import check_rows, parts_of, stretch_options
from hk_tick_collector.core.errors import NoData
from hk_tick_collector.watch.when import symbol_list, told

if TYPE_CHECKING:
    from hk_tick_collector.query.bars import Fill
    from hk_tick_collector.query.fetch import DayPart


# Of the table, where a terminal is narrow; the last ones stay the longest.
SPARE = (
    "neutral_volume", "sell_volume", "buy_volume", "trading_day", "tick_count", "turnover", "vwap", "volume", "open",
)  # fmt: skip


@tickctl_command(
    "bars",
    several=True,
    help="""Bars of a symbol out of its stored ticks: open, high, low, close, VWAP, volume, turnover, number of ticks,
    volume by direction.

    \b
    hk-tickctl bars 700 --interval 1m
    hk-tickctl bars 0700.HK --interval 5m --days 20261101.. --output bars.csv

    A bar is labelled with its start (start_ms) and aligned to the market's clock; its end is not part of it. Prices
    and VWAP come from the trades that make the price: AUTO_MATCH, INTER_AUTO_MATCH and AUCTION. Volume, turnover and
    ticks count the same trades; --include-odd-lots and --include-off-exchange add those trades to them, never to the
    prices. The opening auction is in the bar of 09:20, the closing auction in that of 16:08 (half day 12:08).

    Without a trade there is no bar, so there are none at lunch. --fill forward adds the missing bars of continuous
    trading at the last close. Exits with 3 when there is no tick to make a bar from.""",
)
@stretch_options
@click.option("--interval", default="1m", show_default=True, metavar="N[s|m|h]", help="Length of a bar, 24h at most.")
@click.option("--include-auctions/--exclude-auctions", "auctions", default=True, help="Default: included.")
@click.option("--include-odd-lots", "odd_lots", is_flag=True, help="Count odd lots in the volume.")
@click.option("--include-off-exchange", "off_exchange", is_flag=True, help="Count off-exchange trades in the volume.")
@click.option("--fill", type=click.Choice(["none", "forward"]), default="none", show_default=True)
@output_options
def command(
    app: App,
    symbols: tuple[str, ...],
    days: str | None,
    start: str | None,
    end: str | None,
    interval: str,
    auctions: bool,
    odd_lots: bool,
    off_exchange: bool,
    fill: str,
    **options: Any,
) -> None:
    from hk_tick_collector.query import bars  # noqa: PLC0415 - Arrow takes its time
    from hk_tick_collector.query.fetch import fetch_ticks  # noqa: PLC0415
    from hk_tick_collector.query.trade_types import TradeRule  # noqa: PLC0415

    try:
        interval_ms = bars.parse_interval_ms(interval)
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    wanted = symbol_list(app.market, symbols)
    output = Output.of(app, options)
    parts = parts_of(app, days, start, end)
    ticks = fetch_ticks(parts, wanted, bars.INPUT_COLUMNS)
    check_rows(app, parts, wanted, ticks, told(start, end))
    rule = TradeRule(app.market.trade_types, auctions, odd_lots, off_exchange)
    table = bars.make_bars(ticks, interval_ms, app.market, rule, _fill(app, parts) if fill == "forward" else None)
    if not table.num_rows:
        raise NoData(
            f"{', '.join(wanted)}: none of the {ticks.num_rows} ticks counts in a bar; see --include-odd-lots, "
            "--include-off-exchange and --include-auctions"
        )
    output.write(table.schema, table.to_batches(), spare=SPARE)


def _fill(app: App, parts: list[DayPart]) -> Fill:
    """Continuous trading of these days as far as it lies in the stretch asked for; nothing is carried into the
    future."""
    from hk_tick_collector.query.bars import Fill  # noqa: PLC0415

    windows = []
    for part in parts:
        name = part.day.trading_day
        for first_ms, last_ms in app.market.continuous_windows(name, app.calendar.day_kind(name)):
            end_ms = last_ms if part.end_ms is None else min(last_ms, part.end_ms)
            if first_ms < end_ms:
                windows.append((first_ms, end_ms))
    return Fill(windows, app.now_ms)

"""``hk-tickctl top``: the symbols that lead a list."""

from __future__ import annotations

from typing import Any

import click

from hk_tick_collector.cli.common import App, tickctl_command
from hk_tick_collector.cli.options import days_option, symbols_option
from hk_tick_collector.cli.query import engine_of, loading
from hk_tick_collector.cli.results import Output, output_options
from hk_tick_collector.core.errors import NoData


@tickctl_command(
    "top",
    several=True,
    help="""The symbols with the most turnover, ticks or volatility on stored days.

    \b
    hk-tickctl top
    hk-tickctl top --by volatility --days 20261101..20261130 -n 50

    Ticks, volume and turnover count every stored trade. Turnover is in the counter's own currency: HKD, CNY for 8xxxx,
    USD for the ETF counters at 9xxx; by turnover, each currency has its own list. Volatility is realised volatility
    a day in per cent, from the returns between the last prices of traded minutes, of trades that make the price.
    """,
)
@click.option("--by", type=click.Choice(["turnover", "ticks", "volatility"]), default="turnover", show_default=True)
@days_option()
@symbols_option()
@click.option(
    "-n", "rows", type=click.IntRange(1), default=20, show_default=True, help="How many; by turnover, per currency."
)
@output_options
def command(app: App, by: str, days: str | None, symbols: tuple[str, ...], rows: int, **options: Any) -> None:
    output = Output.of(app, options)
    from hk_tick_collector.query.top import top  # noqa: PLC0415 - DuckDB takes its time

    with engine_of(app, days or "last", symbols) as engine:
        with loading(engine) as loaded:
            result = top(engine, by, rows, loaded)
        batches = [batch for batch in result.batches if batch.num_rows]
        if not batches:
            raise NoData(f"no ticks{' of these symbols' if symbols else ''} on {days or 'the newest day'}")
        schema = result.schema
        if output.is_table and not any(batch.column("name").null_count < batch.num_rows for batch in batches):
            schema = schema.remove(schema.get_field_index("name"))  # nobody knows one
            batches = [batch.select(schema.names) for batch in batches]
        output.write(schema, batches, spare=("days", "volume", "volatility_pct", "ticks", "name"))

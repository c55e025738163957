"""The symbols that lead a list: by turnover, by ticks, by volatility, from stored days.

Ticks, volume and turnover count every stored trade. Volatility is realised volatility a day in per cent: the square
root of the summed squares of the log returns between the last prices of consecutive traded minutes, of the trades that
make the price (``trade_types``), the squares averaged over the days; no return spans two days.

Turnover is in the counter's own currency (``market.currency``). Turnovers of two currencies are never held against each
other: by turnover there is a list for each.
"""

from __future__ import annotations

from collections.abc import Callable

from hk_tick_collector.market.market import Market
from hk_tick_collector.query.engine import Engine, Result
from hk_tick_collector.query.trade_types import makes_price_sql

ORDERS = ("turnover", "ticks", "volatility")
MAX_ROWS = 100_000
_COLUMN = {"turnover": "turnover", "ticks": "ticks", "volatility": "volatility_pct"}


def _sql(market: Market) -> str:
    # Turnover is summed as a decimal with the digits of the smallest price step. Rounding hides in which order threads
    # add. What is no turnover (1e300, in a file of an earlier recorder) is NULL, and adds nothing.
    decimal = f"DECIMAL({15 + market.price_decimals}, {market.price_decimals})"
    return f"""
WITH minutes AS (
    SELECT symbol, trading_day, epoch_ms(ts_ms) // 60000 AS minute,
        count(*) AS ticks, sum(volume) AS volume, sum(TRY_CAST(turnover AS {decimal})) AS turnover,
        arg_max(price, (ts_ms, seq)) FILTER (WHERE {makes_price_sql(market.trade_types)}) AS last_price
    FROM ticks GROUP BY symbol, trading_day, minute
), steps AS (
    SELECT *, ln(last_price / lag(last_price) OVER (
        PARTITION BY symbol, trading_day, last_price IS NULL ORDER BY minute)) AS step
    FROM minutes
)
SELECT symbol, (SELECT arg_max(name, trading_day) FROM symbols AS told WHERE told.symbol = steps.symbol) AS name,
    CAST(sum(ticks) AS BIGINT) AS ticks, CAST(sum(volume) AS BIGINT) AS volume,
    CAST(sum(turnover) AS DOUBLE) AS turnover, {market.currency_sql()} AS currency, count(DISTINCT trading_day) AS days,
    round(100 * sqrt(sum(step * step) / count(DISTINCT trading_day)), 4) AS volatility_pct
FROM steps GROUP BY symbol
"""  # noqa: S608 - our own words


def top(engine: Engine, order: str, rows: int, loading: Callable[[int], None] | None = None) -> Result:
    """The first ``rows`` symbols by one of ``ORDERS``, by turnover of each currency (the market's own first): symbol,
    name (the newest that the source gave, NULL where it gave none), ticks, volume, turnover,
    currency (NULL where the code does not tell), days, volatility_pct (NULL with less than two traded minutes).
    Raises as ``Engine.run``."""
    ranked = f"{_COLUMN[order]} DESC NULLS LAST, symbol"
    if order == "turnover":
        known = ", ".join(f"'{name}'" for name in engine.market.currencies)
        place = f"coalesce(nullif(list_position([{known}], currency), 0), {len(engine.market.currencies) + 1})"
        limit = f"QUALIFY row_number() OVER (PARTITION BY currency ORDER BY {ranked}) <= {rows:d}"
        sql = f"SELECT * FROM ({_sql(engine.market)}) {limit} ORDER BY {place}, {ranked}"  # noqa: S608 - our own words
    else:
        sql = f"{_sql(engine.market)} ORDER BY {ranked} LIMIT {rows:d}"
    return engine.run(sql, loading)

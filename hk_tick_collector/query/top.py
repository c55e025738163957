"""The symbols that lead a list: by turnover, by ticks, by volatility, from stored days.

Ticks, volume and turnover count every stored trade. Volatility is realised volatility a day in per cent: the square
root of the summed squares of the log returns between the last prices of consecutive traded minutes, of the trades that
make the price (``trade_types``), the squares averaged over the days; no return spans two days.
"""

from __future__ import annotations

from collections.abc import Callable

from hk_tick_collector.query.engine import Engine, Result
from hk_tick_collector.query.trade_types import price_types_sql

ORDERS = ("turnover", "ticks", "volatility")
MAX_ROWS = 100_000
_COLUMN = {"turnover": "turnover", "ticks": "ticks", "volatility": "volatility_pct"}

# Turnover is summed as a decimal: HKEX's smallest price step is 0.001 HKD. Rounding hides in which order threads add.
_SQL = f"""
WITH minutes AS (
    SELECT symbol, trading_day, epoch_ms(ts_ms) // 60000 AS minute,
        count(*) AS ticks, sum(volume) AS volume, sum(CAST(turnover AS DECIMAL(18, 3))) AS turnover,
        arg_max(price, (ts_ms, seq)) FILTER (WHERE {price_types_sql()} AND price > 0) AS last_price
    FROM ticks GROUP BY symbol, trading_day, minute
), steps AS (
    SELECT *, ln(last_price / lag(last_price) OVER (
        PARTITION BY symbol, trading_day, last_price IS NULL ORDER BY minute)) AS step
    FROM minutes
)
SELECT symbol, CAST(sum(ticks) AS BIGINT) AS ticks, CAST(sum(volume) AS BIGINT) AS volume,
    CAST(sum(turnover) AS DOUBLE) AS turnover, count(DISTINCT trading_day) AS days,
    round(100 * sqrt(sum(step * step) / count(DISTINCT trading_day)), 4) AS volatility_pct
FROM steps GROUP BY symbol
"""  # noqa: S608 - our own words


def top(engine: Engine, order: str, rows: int, loading: Callable[[int], None] | None = None) -> Result:
    """The first ``rows`` symbols by one of ``ORDERS``: symbol, ticks, volume, turnover (HKD), days, volatility_pct
    (NULL with less than two traded minutes). Raises as ``Engine.run``."""
    return engine.run(f"{_SQL} ORDER BY {_COLUMN[order]} DESC NULLS LAST, symbol LIMIT {rows:d}", loading)

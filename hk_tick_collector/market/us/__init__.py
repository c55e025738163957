"""United States stocks: a trading day begins at 20:00 New York time of the day before."""

from hk_tick_collector.market.market import Market
from hk_tick_collector.market.table import CalendarTable
from hk_tick_collector.market.us import calendar_table
from hk_tick_collector.market.us.sessions import DAY_STARTS_MS, HOURS
from hk_tick_collector.market.us.symbols import SYMBOLS
from hk_tick_collector.market.us.trade_types import TRADE_TYPES
from hk_tick_collector.market.zone import Zone

US = Market(
    code="US",
    name="United States",
    where="in the United States",
    zone=Zone("America/New_York"),
    currency="USD",
    price_decimals=4,
    time_word="ET",
    hours=HOURS,
    table=CalendarTable.of(calendar_table),
    trade_types=TRADE_TYPES,
    symbols=SYMBOLS,
    day_starts_ms=DAY_STARTS_MS,
)

"""CME Group futures: a trading day begins at 17:00 Chicago time of the day before."""

from hk_tick_collector.market.cme import calendar_table
from hk_tick_collector.market.cme.sessions import DAY_STARTS_MS, HOURS
from hk_tick_collector.market.cme.symbols import SYMBOLS
from hk_tick_collector.market.cme.trade_types import TRADE_TYPES
from hk_tick_collector.market.market import Market
from hk_tick_collector.market.table import CalendarTable
from hk_tick_collector.market.zone import Zone

CME = Market(
    code="CME",
    name="CME Group",
    where="at CME Group",
    zone=Zone("America/Chicago"),
    currency="USD",
    price_decimals=9,  # a 32nd's quarter is 0.0078125
    time_word="CT",
    hours=HOURS,
    table=CalendarTable.of(calendar_table),
    trade_types=TRADE_TYPES,
    symbols=SYMBOLS,
    day_starts_ms=DAY_STARTS_MS,
    volume_unit=lambda _symbol: None,  # contracts of many multipliers
)

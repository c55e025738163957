"""Taiwan: stocks of TWSE and TPEx, futures and options of TAIFEX, whose night belongs to the session that follows."""

from hk_tick_collector.market.market import Market
from hk_tick_collector.market.table import CalendarTable
from hk_tick_collector.market.tw import calendar_table
from hk_tick_collector.market.tw.sessions import DAY_STARTS_MS, HOURS, NIGHT_ENDS_MS
from hk_tick_collector.market.tw.symbols import SYMBOLS, volume_unit
from hk_tick_collector.market.tw.trade_types import TRADE_TYPES
from hk_tick_collector.market.zone import Zone

TW = Market(
    code="TW",
    name="Taiwan",
    where="in Taiwan",
    zone=Zone("Asia/Taipei", fixed_offset_ms=8 * 3_600_000),
    currency="TWD",
    price_decimals=4,
    time_word="CST",
    hours=HOURS,
    table=CalendarTable.of(calendar_table),
    trade_types=TRADE_TYPES,
    symbols=SYMBOLS,
    day_starts_ms=DAY_STARTS_MS,
    night_ends_ms=NIGHT_ENDS_MS,
    volume_unit=volume_unit,
)

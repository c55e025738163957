"""Shanghai and Shenzhen stocks. China has had no daylight saving since 1991."""

from hk_tick_collector.market.cn import calendar_table
from hk_tick_collector.market.cn.sessions import HOURS
from hk_tick_collector.market.cn.symbols import SYMBOLS
from hk_tick_collector.market.cn.trade_types import TRADE_TYPES
from hk_tick_collector.market.hours import hm
from hk_tick_collector.market.market import Market
from hk_tick_collector.market.table import CalendarTable
from hk_tick_collector.market.zone import Zone

CN = Market(
    code="CN",
    name="Shanghai and Shenzhen",
    where="in Shanghai and Shenzhen",
    zone=Zone("Asia/Shanghai", fixed_offset_ms=hm(8)),
    currency="CNY",
    price_decimals=3,
    time_word="CST",
    hours=HOURS,
    table=CalendarTable.of(calendar_table),
    trade_types=TRADE_TYPES,
    symbols=SYMBOLS,
)

"""Hong Kong securities: ``HK`` is the market as an object."""

from hk_tick_collector.market.hk import calendar_table
from hk_tick_collector.market.hk.currency import CNY, HKD, USD, currency_of, currency_sql
from hk_tick_collector.market.hk.sessions import HOURS, ZONE
from hk_tick_collector.market.hk.symbols import HongKongSymbols
from hk_tick_collector.market.hk.trade_types import TRADE_TYPES
from hk_tick_collector.market.market import Market, OtherCurrencies
from hk_tick_collector.market.table import CalendarTable

HK = Market(
    code="HK",
    name="Hong Kong",
    where="in Hong Kong",
    zone=ZONE,
    currency=HKD,
    price_decimals=3,
    time_word="HKT",
    hours=HOURS,
    table=CalendarTable.of(calendar_table),
    trade_types=TRADE_TYPES,
    symbols=HongKongSymbols(),
    other_currencies=OtherCurrencies((CNY, USD), currency_of, currency_sql),
)

"""Runs a backtest with the real NautilusTrader on an exported catalog, in an environment of its own; JSON of it.

    python nautilus_program.py CATALOG INSTRUMENT_ID [BUY_AT_NS ...]

The strategy buys one lot at market at each of these moments, with the first quote or trade after it.
"""

import json
import sys

from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
from nautilus_trader.config import LoggingConfig, StrategyConfig
from nautilus_trader.model.data import QuoteTick, TradeTick
from nautilus_trader.model.enums import AccountType, AggressorSide, OmsType, OrderSide
from nautilus_trader.model.identifiers import TraderId
from nautilus_trader.model.objects import Money
from nautilus_trader.persistence.catalog import ParquetDataCatalog
from nautilus_trader.trading.strategy import Strategy


class Buyer(Strategy):
    def __init__(self, instrument, buy_at_ns):
        super().__init__(StrategyConfig())
        self.instrument, self.buy_at_ns = instrument, list(buy_at_ns)
        self.seen = {"trades": 0, "quotes": 0}
        self.fills, self.rejected, self.last_quote = [], [], None

    def on_start(self):
        self.subscribe_quote_ticks(self.instrument.id)
        self.subscribe_trade_ticks(self.instrument.id)

    def on_quote_tick(self, quote):
        self.seen["quotes"] += 1
        self.last_quote = [
            float(figure) for figure in (quote.bid_price, quote.bid_size, quote.ask_price, quote.ask_size)
        ]
        self.maybe_buy(quote.ts_init)

    def on_trade_tick(self, trade):
        self.seen["trades"] += 1
        self.maybe_buy(trade.ts_init)

    def maybe_buy(self, now_ns):
        while self.buy_at_ns and now_ns >= self.buy_at_ns[0]:
            self.buy_at_ns.pop(0)
            self.submit_order(self.order_factory.market(self.instrument.id, OrderSide.BUY, self.instrument.lot_size))

    def on_order_filled(self, event):
        self.fills.append([float(event.last_px), float(event.last_qty)])

    def on_order_rejected(self, event):
        self.rejected.append(event.reason)


def main(path, instrument_id, *buy_at_ns):
    catalog = ParquetDataCatalog(path)
    (instrument,) = catalog.instruments(instrument_ids=[instrument_id])
    trades = catalog.query(TradeTick, identifiers=[instrument_id])
    quotes = catalog.query(QuoteTick, identifiers=[instrument_id])
    engine = BacktestEngine(
        BacktestEngineConfig(trader_id=TraderId("TEST-1"), logging=LoggingConfig(bypass_logging=True))
    )
    currency = instrument.quote_currency
    engine.add_venue(instrument.venue, OmsType.NETTING, AccountType.CASH, [Money(10_000_000, currency)], currency)
    engine.add_instrument(instrument)
    for data in (trades, quotes):
        if data:
            engine.add_data(data)
    strategy = Buyer(instrument, map(int, buy_at_ns))
    engine.add_strategy(strategy)
    engine.run()
    return {
        "instrument": {
            "price_increment": float(instrument.price_increment), "lot_size": float(instrument.lot_size),
            "currency": currency.code, "info": instrument.info,
        },
        "trades": [[float(trade.price), float(trade.size), AggressorSide(trade.aggressor_side).name,
                    str(trade.trade_id), trade.ts_event, trade.ts_init] for trade in trades],
        "quotes": [[float(tick.bid_price), float(tick.bid_size), float(tick.ask_price), float(tick.ask_size),
                    tick.ts_event, tick.ts_init] for tick in quotes],
        "seen": strategy.seen, "last_quote": strategy.last_quote, "fills": strategy.fills,
        "rejected": strategy.rejected,
    }  # fmt: skip


print(json.dumps(main(*sys.argv[1:])))

"""Loads exported files with the real HftBacktest, in an environment of its own: one JSON line of what it made of each.

    python hftbacktest_program.py EVENTS LATENCY META BUY_AT [EVENTS LATENCY META BUY_AT ...]

The strategy is one limit order to buy at BUY_AT, sent after 100 ms, and a look at the book every second.
"""

import json
import sys
from pathlib import Path

import numpy as np
from hftbacktest import GTC, LIMIT, BacktestAsset, HashMapMarketDepthBacktest, event_dtype
from hftbacktest.data import validate_event_order


def main(events: str, latency: str, meta_file: str, buy_at: str) -> dict[str, object]:
    data = np.load(events)["data"]
    if data.dtype != event_dtype:
        raise ValueError(f"{data.dtype} is not {event_dtype}")
    validate_event_order(data)
    meta = json.loads(Path(meta_file).read_text(encoding="utf-8"))
    delays = np.load(latency)["data"]  # the library is given its address: it has to live as long as the backtest
    asset = (
        BacktestAsset()
        .data([events])
        .linear_asset(1.0)
        .intp_order_latency(delays)
        .risk_adverse_queue_model()
        .no_partial_fill_exchange()
        .trading_value_fee_model(0.0, 0.0)
        .tick_size(meta["tick_size"])
        .lot_size(meta["lot_size"])
    )
    backtest = HashMapMarketDepthBacktest([asset])
    steps = with_book = 0
    book = None
    backtest.elapse(100_000_000)
    backtest.submit_buy_order(0, 1, float(buy_at), meta["lot_size"], GTC, LIMIT, False)
    while backtest.elapse(1_000_000_000) == 0:
        steps += 1
        depth = backtest.depth(0)
        if depth.best_bid == depth.best_bid:
            with_book += 1
            book = [depth.best_bid, depth.bid_qty_at_tick(depth.best_bid_tick),
                    depth.best_ask, depth.ask_qty_at_tick(depth.best_ask_tick)]  # fmt: skip
    position = backtest.position(0)
    backtest.close()
    del delays
    return {"events": len(data), "steps": steps, "steps_with_book": with_book, "book": book, "position": position}


print(json.dumps([main(*sys.argv[n : n + 4]) for n in range(1, len(sys.argv), 4)]))

"""A strategy for futu-api. It knows nothing of recordings: the same file runs on a live OpenD and on recorded days.

    python futu_strategy.py 11111 HK.00700

When a minute is over that closed higher than the mean of the last five, it buys a board lot at the best ask of the
order book; when it closed lower, it sells that again at the best bid. At the close it says what that brought.
Not advice: an example of what a program sees.
"""

import sys
import time
from collections import deque

from futu import RET_OK, CurKlineHandlerBase, OpenQuoteContext, OrderBookHandlerBase, SubType


class Book(OrderBookHandlerBase):
    """Keeps the newest book."""

    bids = asks = ()

    def on_recv_rsp(self, rsp_pb):
        ret, book = super().on_recv_rsp(rsp_pb)
        if ret == RET_OK:
            self.bids, self.asks = book["Bid"], book["Ask"]
        return ret, book


class Strategy(CurKlineHandlerBase):
    """Acts on each minute that is over: the first line of the next one says so."""

    def __init__(self, book, shares):
        super().__init__()
        self.book, self.shares = book, shares
        self.closes = deque(maxlen=5)
        self.minute = None
        self.seen = 0
        self.bought_at = 0.0
        self.profit = 0.0

    def on_recv_rsp(self, rsp_pb):
        ret, lines = super().on_recv_rsp(rsp_pb)
        if ret == RET_OK:
            self.seen += 1
            for line in lines.to_dict("records"):
                if self.minute is not None and line["time_key"] > self.minute["time_key"]:
                    self.on_minute(self.minute)
                self.minute = line
        return ret, lines

    def on_minute(self, line):
        """A whole minute: its open, high, low, close, volume, turnover."""
        mean = sum(self.closes) / len(self.closes) if self.closes else line["close"]
        self.closes.append(line["close"])
        if line["close"] > mean and not self.bought_at and self.book.asks:
            self.bought_at = self.book.asks[0][0]
            print(f"{line['time_key']} buy {self.shares} at {self.bought_at}", flush=True)
        elif line["close"] < mean and self.bought_at and self.book.bids:
            sold_at = self.book.bids[0][0]
            self.profit += (sold_at - self.bought_at) * self.shares
            self.bought_at = 0.0
            print(f"{line['time_key']} sell {self.shares} at {sold_at}", flush=True)


def is_closed(quotes):
    ret, state = quotes.get_global_state()
    return ret == RET_OK and state["market_hk"] == "CLOSED"


def main(port, code):
    quotes = OpenQuoteContext("127.0.0.1", port)
    ret, snapshot = quotes.get_market_snapshot([code])
    if ret != RET_OK:
        sys.exit(snapshot)
    book = Book()
    strategy = Strategy(book, int(snapshot["lot_size"][0]))
    quotes.set_handler(book)
    quotes.set_handler(strategy)
    ret, problem = quotes.subscribe([code], [SubType.K_1M, SubType.ORDER_BOOK])
    if ret != RET_OK:
        sys.exit(problem)
    seen = -1
    while seen != strategy.seen or not is_closed(quotes):  # the SDK may still have pushes to hand out
        seen = strategy.seen
        time.sleep(2)
    quotes.close()
    print(f"closed, profit {strategy.profit:.2f}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])

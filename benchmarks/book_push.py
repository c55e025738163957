"""CPU of the recorder a push of an order book, by what it does: no process, no network, one thread.

    python -m benchmarks.book_push

The pushes are the simulator's, made with their prints: ten levels a side. They are cut into frames, checked and looked
at as the network thread does to know whose they are, read as the books' thread does, turned into rows, and written by
the recorder's writer in commits of 1,000. One that is passed over, since the queue is full, is only cut, looked at and
held. Each step is its own, on the same pushes; the best of the rounds, since what runs beside only adds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import rig
from benchmarks.book_files import LEVELS, PRINTS_PER_SEC, STEP_MS, SYMBOLS
from hk_tick_collector.core.progress import BookProgress
from hk_tick_collector.ingest.book_queue import BookQueue
from hk_tick_collector.market.hk import HK
from hk_tick_collector.opend_sim import encode_book, wire
from hk_tick_collector.opend_sim.depth_feed import DepthFeed
from hk_tick_collector.opend_sim.exchange import Exchange, MarketConfig
from hk_tick_collector.opend_sim.instruments import default_symbols
from hk_tick_collector.opend_sim.market_feed import MarketFeed
from hk_tick_collector.opend_sim.routes import UPDATE_ORDER_BOOK
from hk_tick_collector.opend_sim.simclock import SimClock
from hk_tick_collector.records.book import BookEvent, PushEntry, RawPush
from hk_tick_collector.records.book_codec import BookEncoder
from hk_tick_collector.sources.books import BookSink
from hk_tick_collector.sources.futu.books import BookHandler, read_book
from hk_tick_collector.sources.futu.frames_in import FrameCutter, WireStats
from hk_tick_collector.sources.futu.mapping import TickMapper
from hk_tick_collector.store.book_writer import BookWriter
from hk_tick_collector.store.connect import SqliteOptions
from tests.books import DAY, OPEN_US

PUSHES, SHORT_PUSHES = 20_000, 2_000
READ_BYTES = 64 * 1024
RATE = 20_000  # a second, of which the share of a core is told


def raw_pushes(count: int, symbols: Sequence[str], now_ms: int) -> list[RawPush]:
    """As they come from OpenD, of these symbols, from that moment on."""
    config = MarketConfig(symbols, rate_per_sec=PRINTS_PER_SEC, always_open=True, delay_ms=(35, 444))
    market = MarketFeed(Exchange(config, now_ms), SimClock(now_ms))
    feed, pushes = DepthFeed(market, seed=1), list[RawPush]()
    while len(pushes) < count:
        now_ms += STEP_MS
        states = feed.step(market.step(now_ms), now_ms, frozenset(symbols), LEVELS)
        pushes += [RawPush(state.symbol, now_ms * 1000, encode_book.book_body(state, "NAME")) for state in states]
    return pushes[:count]


def cpu_us(step: Callable[[], object], pushes: int) -> float:
    """A push."""
    begun_sec = time.thread_time()
    step()
    return (time.thread_time() - begun_sec) / pushes * 1e6


class Nowhere:
    """Takes pushes, and that is all."""

    def push(self, pushes: Sequence[RawPush]) -> None:
        """As of ``BookSink``."""

    def tell(self, events: Sequence[BookEvent]) -> None:
        """As of ``BookSink``."""


def _take(frames: bytes, symbols: frozenset[str], sink: BookSink) -> None:
    """What the network thread does with the bytes that it reads."""
    handler = BookHandler(sink, TickMapper())
    handler.wanted = symbols
    cutter = FrameCutter(0, lambda body: body, lambda _frame: None, WireStats(), (UPDATE_ORDER_BOOK,))
    for at in range(0, len(frames), READ_BYTES):
        cutter.cut(frames[at : at + READ_BYTES], [], encrypted=False)
        handler(cutter.kept.pop(UPDATE_ORDER_BOOK, []))
    assert handler.pushes, "these are pushes of books"


def measure(root: Path, raw: list[RawPush]) -> dict[str, float]:
    """By step, microseconds of CPU a push."""
    books = [read_book(push) for push in raw]
    ids = {push.symbol: number for number, push in enumerate(raw)}
    frames = b"".join(wire.encode_frame(UPDATE_ORDER_BOOK, n, push.message) for n, push in enumerate(raw))
    symbols = frozenset(ids)
    encoder = BookEncoder()
    writer = BookWriter(root, SqliteOptions(), HK.trading_day, lambda: OPEN_US // 1000)

    def write() -> None:
        for at in range(0, len(books), 1000):
            part = books[at : at + 1000]
            writer.write(DAY, [PushEntry(push) for push in part], len(part))

    steps: dict[str, Callable[[], object]] = {
        "cut, check, know whose it is": lambda: _take(frames, symbols, Nowhere()),
        "decode and read all levels": lambda: [read_book(push) for push in raw],
        "of the writer's: the row": lambda: [encoder.encode(ids[push.symbol], push) for push in books],
        "write: rows, SQLite, commits": write,
        "of one that is passed over: all": lambda: _take(frames, symbols, BookQueue(BookProgress(), max_pushes=1)),
    }
    took = {name: cpu_us(step, len(raw)) for name, step in steps.items()}
    writer.close()
    return took


def main(argv: list[str] | None = None) -> int:
    args = rig.parser(str(__doc__).splitlines()[0]).parse_args(argv)
    rig.print_machine()
    raw = raw_pushes(SHORT_PUSHES if args.short else PUSHES, default_symbols(SYMBOLS), OPEN_US // 1000)
    rounds = []
    with rig.workspace(args.keep) as root:
        for number in range(1 if args.short else args.rounds):
            (root / str(number)).mkdir()
            rounds.append(measure(root / str(number), raw))
    best = {name: min(took[name] for took in rounds) for name in rounds[0]}
    total_us = sum(took for name, took in best.items() if not name.startswith("of "))
    rows = [[name, took, took * RATE / 10_000] for name, took in [*best.items(), ("together", total_us)]]
    print(rig.table(("step", "CPU us a push", f"% of a core at {RATE:,}/s"), rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())

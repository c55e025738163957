"""The order book around a print: levels on the price grid, made so that the print executes at the touch.

Each print of the order book has two states: ``before`` it, where the side it takes from has the print's price as its
best and at least its volume, and ``after`` it, where that volume is gone, and in one of six the level with it. Orders
that come and go between prints are further states, ``quiet``. Every state is a function of the seed and the print
alone: whoever subscribes when, the same day has the same books. In an auction orders rest across: ``before`` its print
the book is crossed.

Limits: ``MAX_LEVELS`` a side. Nobody pays for a book who does not ask for it, and of a level that is as it was the same
object is given, so that whatever was made of it once (its bytes, its text) is found again. How much rests on a level is
invented; no book of a live OpenD was seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple
from zlib import crc32

from hk_tick_collector.opend_sim.instruments import Instrument
from hk_tick_collector.opend_sim.prints import AUCTION, ODD_LOT
from hk_tick_collector.opend_sim.simtick import SimTick
from hk_tick_collector.opend_sim.venue import MAX_PRICE_MILLI, MIN_PRICE_MILLI, venue_of

MAX_LEVELS = 40  # what the SF right shows
QUIET_STATES = 3

# Trades that no order of the book took part in.
_BESIDE_THE_BOOK = frozenset(
    {ODD_LOT, "INTER_NON_AUTO_MATCH", "NON_AUTO_MATCH", "LATE", "AVERAGE_PRICE", "OVERSEAS", "CROSS_MARKET", "UNKNOWN"}
)
_CROSSED_STEPS = 3
_EMPTIED_IN = 6
_BROKERS_A_SIDE = 40
_BROKERS_A_LEVEL = 4
_KEPT_LADDERS = 256
_KEPT_PRICES = 4096  # a side
_BROKERS = tuple((4001 + 37 * i, f"Simulated Broker {i + 1}") for i in range(24))

_MASK = 0xFFFFFFFFFFFFFFFF


class Level(NamedTuple):
    """One price of one side."""

    price: float  # in the market's currency
    volume: int  # shares
    orders: int


class Depth(NamedTuple):
    """A whole book; best price first on both sides."""

    bids: tuple[Level, ...]
    asks: tuple[Level, ...]


class Queued(NamedTuple):
    """A broker in the queue of one side."""

    broker_id: int
    name: str
    position: int  # of its price level: 1 is the best
    order_id: int
    volume: int


EMPTY = Depth((), ())
NO_LEVEL = Level(0.0, 0, 0)


@dataclass(slots=True)
class _Drawn:
    """What rests at a price of one side: drawn anew every ``rhythm`` states."""

    own: int
    offset: int
    rhythm: int
    age: int = -1
    level: Level = NO_LEVEL


def takes_from_book(tick: SimTick) -> bool:
    """Whether orders of the book took part in a trade."""
    return tick.tick_type not in _BESIDE_THE_BOOK


class DepthModel:
    """The books of one symbol, of at most ``levels`` a side."""

    __slots__ = ("_drawn", "_grid", "_key", "_ladders", "_lot", "levels")

    def __init__(self, instrument: Instrument, seed: int, levels: int = MAX_LEVELS) -> None:
        self.levels = levels
        self._grid = venue_of(instrument.code).grid
        self._lot = instrument.board_lot
        self._key = crc32(f"{seed}/{instrument.code}/book".encode()) << 20
        self._ladders: dict[int, tuple[tuple[int, ...], tuple[int, ...]]] = {}
        self._drawn: tuple[dict[int, _Drawn], dict[int, _Drawn]] = {}, {}  # by side and price

    def before(self, tick: SimTick) -> Depth:
        """The book that the print met."""
        if tick.tick_type == AUCTION:
            return self._crossed(tick)
        return self._around(tick, 0, tick.volume)

    def after(self, tick: SimTick, quiet: int = 0) -> Depth:
        """The book that the print left; ``quiet`` from 1 to ``QUIET_STATES``: with what came and went since."""
        return self._around(tick, quiet, 0)

    def stirred(self, depth: Depth, count: int) -> Depth:
        """The book with another volume at one or two of its levels, mostly near the best prices; for load, since it
        costs a tenth of a new one. ``count``: another one each time."""
        draw = self._draw(count, 3)
        for which in (draw, draw >> 24)[: 1 + (draw >> 60 & 1)]:
            side = which & 1
            levels = depth[side]
            if levels:
                slot = min(which >> 1 & 15, which >> 5 & 15, len(levels) - 1)
                lots = 1 + (which >> 9 & 63) * (1 + (which >> 15 & 3)) // 2
                level = Level(levels[slot].price, lots * self._lot, min((which >> 17 & 31) + 1, lots))
                levels = (*levels[:slot], level, *levels[slot + 1 :])
                depth = Depth(depth.bids, levels) if side else Depth(levels, depth.asks)
        return depth

    def quiet_gap_ms(self, tick: SimTick, quiet: int) -> int:
        """How long after the state before it a quiet state comes."""
        return 15 + self._draw(tick.seq, 77 + quiet) % 400

    def _around(self, tick: SimTick, quiet: int, taken: int) -> Depth:
        """The book with the touch at the print; ``taken`` shares more on the side that it took from."""
        draw = self._draw(tick.seq, 1)
        at_ask = tick.direction == "BUY" or (tick.direction != "SELL" and bool(draw & 1))
        below, above = self._ladder(self._grid.nearest(tick.price * 1000))
        resting = 0 if (draw >> 8) % _EMPTIED_IN == 0 else self._shares(draw >> 16)
        touch = taken + resting
        # One level more than shown: it comes into view where the touch is gone.
        more = self.levels + (touch == 0)
        bids = self._levels(below[1 : 1 + self.levels] if at_ask else below[:more], 0, tick.seq, quiet)
        asks = self._levels(above[:more] if at_ask else above[1 : 1 + self.levels], 1, tick.seq, quiet)
        side = asks if at_ask else bids
        if touch:
            side[0] = Level(side[0].price, touch, max(1, min((draw >> 40) % 30 + 1, touch // self._lot)))
        else:
            del side[0]
        return Depth(tuple(bids), tuple(asks))

    def _crossed(self, tick: SimTick) -> Depth:
        below, above = self._ladder(self._grid.nearest(tick.price * 1000))
        bids = (*reversed(above[:_CROSSED_STEPS]), *below[1:])[: self.levels]
        asks = (*reversed(below[:_CROSSED_STEPS]), *above[1:])[: self.levels]
        return Depth(tuple(self._levels(bids, 0, tick.seq, 0)), tuple(self._levels(asks, 1, tick.seq, 0)))

    def _levels(self, prices: Iterable[int], side: int, seq: int, quiet: int) -> list[Level]:
        """A level a price. Each is drawn anew once in a while, at its own rhythm."""
        levels = []
        count = (seq & 0xFFFFFFFF) * (QUIET_STATES + 1) + quiet
        of_side = self._drawn[side]
        for price_milli in prices:
            drawn = of_side.get(price_milli)
            if drawn is None:
                if len(of_side) >= _KEPT_PRICES:
                    of_side.clear()
                drawn = of_side[price_milli] = self._begin(price_milli, side)
            age = (count + drawn.offset) // drawn.rhythm
            if age != drawn.age:
                drawn.age, drawn.level = age, self._draw_level(drawn.own, age, price_milli)
            levels.append(drawn.level)
        return levels

    def _begin(self, price_milli: int, side: int) -> _Drawn:
        own = (self._key ^ price_milli << 1 ^ side) * 0x9E3779B97F4A7C15 & _MASK
        return _Drawn(own, own >> 50, 24 + (own >> 40 & 63))

    def _draw_level(self, own: int, age: int, price_milli: int) -> Level:
        draw = (own ^ age) * 0xBF58476D1CE4E5B9 & _MASK
        draw ^= draw >> 29
        lots = 1 + (draw & 63) * (1 + (draw >> 6 & 15)) // 4
        return Level(price_milli / 1000, lots * self._lot, min((draw >> 32) % 30 + 1, lots))

    def _shares(self, draw: int) -> int:
        """Whole lots, few of them mostly."""
        return (1 + (draw & 63) * (1 + (draw >> 6 & 15)) // 4) * self._lot

    def _draw(self, seq: int, salt: int) -> int:
        draw = (self._key ^ seq * 0x94D049BB133111EB ^ salt) * 0x9E3779B97F4A7C15 & _MASK
        return draw ^ draw >> 31

    def _ladder(self, price_milli: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The price and those below it, and those above it, on the grid; fewer where the prices end."""
        ladder = self._ladders.get(price_milli)
        if ladder is None:
            if len(self._ladders) >= _KEPT_LADDERS:
                self._ladders.clear()
            ladder = self._ladders[price_milli] = self._steps(price_milli, -1), self._steps(price_milli, 1)
        return ladder

    def _steps(self, price_milli: int, direction: int) -> tuple[int, ...]:
        prices: list[int] = []
        while MIN_PRICE_MILLI <= price_milli <= MAX_PRICE_MILLI and len(prices) <= MAX_LEVELS:
            prices.append(price_milli)
            spread = self._grid.spread(price_milli if direction > 0 else price_milli - 1)
            price_milli += direction * spread
        return tuple(prices)


def brokers_of(levels: tuple[Level, ...]) -> list[Queued]:
    """Who stands in the queue of one side, at most 40: the orders of a level belong to a few of them."""
    queue: list[Queued] = []
    for position, level in enumerate(levels, start=1):
        key = crc32(f"{level.price}/{level.volume}".encode())
        for order_id, volume in orders_of(level, key)[:_BROKERS_A_LEVEL]:
            broker_id, name = _BROKERS[(key ^ order_id) % len(_BROKERS)]
            queue.append(Queued(broker_id, name, position, order_id, volume))
            if len(queue) == _BROKERS_A_SIDE:
                return queue
    return queue


def orders_of(level: Level, key: int) -> list[tuple[int, int]]:
    """(order id, shares) of the single orders of a level; their shares are the level's."""
    order_volume = level.volume // level.orders
    orders = [(key * 1000 + i, order_volume) for i in range(level.orders)]
    orders[-1] = orders[-1][0], level.volume - order_volume * (level.orders - 1)
    return orders

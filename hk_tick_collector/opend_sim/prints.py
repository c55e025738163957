"""Turns "this symbol prints now" into a trade: price on the market's grid, volume in lots, type, side, sequence.

Each symbol has a best bid that walks on the price grid, one step up or down in about every eighth print, within 8 % of
the last close; buyers pay the ask, sellers get the bid. The mix of types is the ``Venue``'s; Hong Kong's, and that of
sides and times without milliseconds, is the one seen live on HK.00700 in 2026: AUTO_MATCH 82 %, INTER_AUTO_MATCH 10 %,
INTER_NON_AUTO_MATCH 7 %, ODD_LOT 1 %; BUY 54 %, SELL 26 %, NEUTRAL the rest; 0.4 % without milliseconds. Off-exchange
prints and odd lots carry odd prices. Hong Kong's trade type letters are those of HKEX's market data feed (OMD-C, trade
type): blank automatch, Y internalised automatch, X direct off-exchange, D odd lot, U auction.

The random numbers of a print are drawn in one go and looked up in tables: a print costs some 3 µs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from random import Random

from hk_tick_collector.opend_sim.instruments import Instrument
from hk_tick_collector.opend_sim.simtick import SimTick
from hk_tick_collector.opend_sim.venue import MAX_PRICE_MILLI, MIN_PRICE_MILLI, Kinds, Numbering, Venue, venue_of

AUCTION = "AUCTION"
ODD_LOT = "ODD_LOT"

_ODD_SIGN = ord("D")
_AUCTION_SIGN = ord("U")
_OFF_BOOK = frozenset({"INTER_NON_AUTO_MATCH", "AVERAGE_PRICE"})  # agreed between two parties
_PARTS_OF_A_SHARE = 1024

_TABLE = 4096
_DAY_LIMIT = 0.08


class _Quote:
    """One symbol's moving state; prices in thousandths of the currency."""

    __slots__ = (
        "band_high", "band_low", "bid", "ceiling", "code", "counter", "floor", "grid", "last_recv_ms", "lot",
        "numbering", "second", "spread",
    )  # fmt: skip

    def __init__(self, instrument: Instrument) -> None:
        self.code = instrument.code
        self.lot = instrument.board_lot
        venue = venue_of(instrument.code)
        self.grid = venue.grid
        self.numbering = venue.numbering
        self.bid = self.grid.nearest(instrument.last_price * 1000)
        self.counter = 0
        self.second = 0
        self.last_recv_ms = 0
        self.anchor(self.grid.nearest(instrument.prev_close * 1000))

    def anchor(self, close_milli: int) -> None:
        """The day's limits around the last close."""
        self.band_low, self.band_high, self.spread = self.grid.band(self.bid)
        room = max(int(close_milli * _DAY_LIMIT), 4 * self.spread)
        self.floor = self.grid.nearest(max(close_milli - room, MIN_PRICE_MILLI))
        self.ceiling = self.grid.nearest(min(close_milli + room, MAX_PRICE_MILLI - 2 * self.spread))

    def move(self, steps: int) -> None:
        bid = self.bid + steps * self.spread
        if not self.floor <= bid <= self.ceiling:
            bid = self.bid - steps * self.spread
        if not self.band_low <= bid < self.band_high:
            self.band_low, self.band_high, self.spread = self.grid.band(bid)
            bid = self.grid.nearest(bid)
        self.bid = bid

    def next_seq(self, second: int, draw: int) -> int:
        """The sequence of the symbol's next tick, which happens in ``second``."""
        if self.numbering is Numbering.DAY_COUNTER:
            self.counter += 1
        elif self.numbering is Numbering.SECOND_INDEX:
            self.counter = self.counter + 1 if second == self.second else 0
            self.second = second
        else:
            self.counter += 1 + (draw & 7)
            return self.counter
        return second << 32 | self.counter


class PrintMaker:
    """Makes the ticks of all symbols, in the order of their prints. ``instruments`` are ordered by rank."""

    def __init__(
        self, instruments: Sequence[Instrument], seed: int, no_ms_share: float, delay_ms: tuple[int, int], venue: Venue
    ) -> None:
        self._seed = seed
        self._rng = Random(f"{seed}/prints")
        self._quotes = [_Quote(instrument) for instrument in instruments]
        self._usual_kinds = _kind_table(venue.kinds, no_ms_share)
        self._extended_kinds = _kind_table(venue.extended_kinds, no_ms_share) if venue.extended else []
        self._parts = round(venue.part_share * _PARTS_OF_A_SHARE)
        self._venue = venue
        self._kinds = self._usual_kinds
        self._sides = _side_table()
        self._lots = _lot_table()
        self._delays = _delay_table(delay_ms)
        self._day = ""

    def begin_day(self, day: str) -> None:
        """Counters start again, at a value drawn from the seed; limits are set around the last price."""
        rng = Random(f"{self._seed}/{day}")
        for quote in self._quotes:
            drawn = rng.randrange(1, 4000) - 1
            if self._venue.numbering is Numbering.DAY_COUNTER:
                quote.counter = drawn
            elif self._venue.numbering is Numbering.SPARSE:
                quote.counter += drawn  # never as on another day
            if self._day:
                quote.anchor(quote.bid)
        self._day = day

    def enter(self, extended: bool) -> None:
        """What follows is traded in an extended phase of the day, or no more in one."""
        self._kinds = self._extended_kinds if extended else self._usual_kinds

    def trade(self, prints: Iterable[tuple[int, int]]) -> list[SimTick]:
        """Ticks of continuous trading for (ts_ms, rank) in order of time."""
        bits = self._rng.getrandbits
        quotes, kinds, sides, lots, delays = self._quotes, self._kinds, self._sides, self._lots, self._delays
        ticks: list[SimTick] = []
        for ts_ms, rank in prints:
            quote = quotes[rank]
            draw = bits(58)
            (tick_type, sign), has_ms = kinds[draw & 4095]
            direction, at_ask, move = sides[(draw >> 12) & 4095]
            if move:
                quote.move(move)
            if tick_type != ODD_LOT and tick_type not in _OFF_BOOK:
                price_milli = quote.bid + quote.spread if at_ask else quote.bid
                volume = lots[(draw >> 24) & 1023] * quote.lot
            else:
                direction = "NEUTRAL"
                price_milli, volume = _odd_print(quote, tick_type, draw >> 24)
            recv_ms = ts_ms + delays[(draw >> 50) & 255]
            recv_ms = max(recv_ms, quote.last_recv_ms)
            quote.last_recv_ms = recv_ms
            second = ts_ms // 1000
            part = 0.0
            if (draw >> 46) % _PARTS_OF_A_SHARE < self._parts:
                volume, part = 0, 0.25
            ticks.append(
                SimTick(
                    quote.code,
                    ts_ms if has_ms else second * 1000,
                    price_milli / 1000,
                    volume,
                    price_milli * (volume + part) / 1000 if part else price_milli * volume / 1000,
                    direction,
                    quote.next_seq(second, draw),
                    tick_type,
                    sign,
                    has_ms,
                    recv_ms,
                    part=part,
                )
            )
        return ticks

    def special(self, ts_ms: int, rank: int, tick_type: str) -> SimTick:
        """An auction's single print of a symbol, or an odd lot dealt outside continuous trading."""
        quote = self._quotes[rank]
        rng = self._rng
        if tick_type == AUCTION:
            quote.move(rng.choice((-2, -1, 0, 0, 1, 2)))
            busy = 400 / (1 + rank / 10)
            price_milli, sign = quote.bid, _AUCTION_SIGN
            volume = max(1, round(busy * math.exp(rng.gauss(0, 1)))) * quote.lot
        else:
            sign = _ODD_SIGN
            price_milli, volume = _odd_print(quote, ODD_LOT, rng.getrandbits(26))
        quote.last_recv_ms = max(quote.last_recv_ms, ts_ms + self._delays[rng.randrange(256)])
        return SimTick(
            quote.code,
            ts_ms,
            price_milli / 1000,
            volume,
            price_milli * volume / 1000,
            "NEUTRAL",
            quote.next_seq(ts_ms // 1000, ts_ms),
            tick_type,
            sign,
            True,
            quote.last_recv_ms,
        )


def _odd_print(quote: _Quote, tick_type: str, draw: int) -> tuple[int, int]:
    """(price in thousandths, shares) of a print that does not come from the order book."""
    if tick_type == ODD_LOT:
        price_milli = max(quote.bid - quote.spread * (1 + draw % 8), MIN_PRICE_MILLI)
        return quote.grid.nearest(price_milli), 1 + (draw >> 3) % max(quote.lot - 1, 1)
    # Agreed between two parties: an average price beside the grid, any number of shares.
    price_milli = quote.bid - 2 * quote.spread + draw % (5 * quote.spread)
    return max(price_milli, MIN_PRICE_MILLI), 1 + (draw >> 4) % (quote.lot * 60)


def _spread_out(parts: Sequence[tuple[object, float]], size: int) -> list[object]:
    """A table of ``size`` entries in which each value has its share; the first one takes what rounding leaves."""
    table: list[object] = []
    for value, share in parts[1:]:
        table += [value] * round(share * size)
    return [parts[0][0]] * (size - len(table)) + table


def _kind_table(kinds: Kinds, no_ms_share: float) -> list[tuple[tuple[str, int], bool]]:
    """(type and sign, has milliseconds) by 12 random bits."""
    shares = tuple(((name, sign), share) for name, sign, share in kinds)
    parts: list[tuple[object, float]] = [((kind, True), share * (1 - no_ms_share)) for kind, share in shares]
    parts += [((kind, False), share * no_ms_share) for kind, share in shares]
    return _spread_out(parts, _TABLE)  # type: ignore[return-value]


def _side_table() -> list[tuple[str, bool, int]]:
    """(direction, at the ask, steps the bid moves) by 12 random bits; prints off the book are NEUTRAL anyway."""
    sides = (("BUY", True, 0.587), ("SELL", False, 0.283), ("NEUTRAL", True, 0.065), ("NEUTRAL", False, 0.065))
    moves = ((0, 0.875), (1, 0.0625), (-1, 0.0625))
    parts: list[tuple[object, float]] = [
        ((direction, at_ask, steps), share * chance) for direction, at_ask, share in sides for steps, chance in moves
    ]
    return _spread_out(parts, _TABLE)  # type: ignore[return-value]


def _lot_table() -> list[int]:
    """Board lots of a print by 10 random bits: half are one lot, one in a thousand is above 200 (Pareto)."""
    return [min(int((1 - (i + 0.5) / 1024) ** -0.95), 400) for i in range(1024)]


def _delay_table(delay_ms: tuple[int, int]) -> list[int]:
    """Milliseconds until OpenD has a print, by 8 random bits: mostly near the low end."""
    low, high = delay_ms
    return [low + round((high - low) * (i / 255) ** 4) for i in range(256)]

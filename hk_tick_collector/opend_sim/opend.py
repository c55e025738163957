"""What one simulated OpenD is: its settings, its login, its market and subscriptions. Handlers read and change this.

Nothing here knows sockets. One owner: the server's event loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from hk_tick_collector.core.text import printable
from hk_tick_collector.market.hours import Phase
from hk_tick_collector.opend_sim import pb
from hk_tick_collector.opend_sim.depth import MAX_LEVELS
from hk_tick_collector.opend_sim.depth_feed import DepthFeed, DepthSource
from hk_tick_collector.opend_sim.encode import symbol_of
from hk_tick_collector.opend_sim.faults import FaultState
from hk_tick_collector.opend_sim.limits import RateLimiter
from hk_tick_collector.opend_sim.market_feed import MarketFeed
from hk_tick_collector.opend_sim.simtick import SimTick
from hk_tick_collector.opend_sim.subscriptions import MIN_HOLD_SEC, Key, NotAnswered, Refused, SubscriptionBook
from hk_tick_collector.opend_sim.venue import Venue

SERVER_VERSION = 1011
SERVER_BUILD = 7108
LOGIN_USER_ID = 10_000_001
KEEP_ALIVE_SEC = 10
HISTORY_KL_QUOTA = 100
DEFAULT_QUOTA = 1000
DEFAULT_MAX_BUFFER_BYTES = 16 * 1024 * 1024
MAX_SECURITIES = 5000

SUB_BASIC = int(pb.qot_common.SubType_Basic)
SUB_RT = int(pb.qot_common.SubType_RT)
SUB_TICKER = int(pb.qot_common.SubType_Ticker)
SUB_ORDER_BOOK = int(pb.qot_common.SubType_OrderBook)
SUB_BROKER = int(pb.qot_common.SubType_Broker)

_RIGHTS = {
    "sf": int(pb.qot_common.QotRight_SF),
    "level2": int(pb.qot_common.QotRight_Level2),
    "level1": int(pb.qot_common.QotRight_Level1),
    "bmp": int(pb.qot_common.QotRight_Bmp),
    "no": int(pb.qot_common.QotRight_No),
}

# Levels a side of an order book by right (get_order_book of futu-api; the bound of LV1 is not documented).
_BOOK_LEVELS = {_RIGHTS["sf"]: MAX_LEVELS, _RIGHTS["level2"]: 10, _RIGHTS["level1"]: 1}

# Calls in 30 seconds (Futu's documentation); protocols that OpenD serves from its cache are not limited.
RATE_LIMITS = {3103: 60, 3202: 10, 3203: 60, 3219: 30, 3223: 10}


@dataclass(frozen=True, slots=True)
class SimSettings:
    """How this OpenD is set up. ``ticks_per_push`` 0: all of a symbol's ticks of one step go into one push.
    ``book_merge_ms`` 0: every state of an order book is pushed."""

    host: str = "127.0.0.1"
    port: int = 0
    quota: int = DEFAULT_QUOTA
    min_hold_sec: float = MIN_HOLD_SEC
    rate_limits: bool = True
    ticks_per_push: int = 0
    max_buffer_bytes: int = DEFAULT_MAX_BUFFER_BYTES
    rsa_key: Path | None = None
    seed: int = 0
    right: str = "level2"  # one of ``faults.RIGHT_KINDS``
    book_merge_ms: int = 0


class Reach(IntEnum):
    """Which of a day's sessions a subscription collects ticks of, in a market that has several."""

    REGULAR = 0
    EXTENDED = 1  # before and after it, too
    ALL = 2  # and overnight


_NEEDED = {Phase.PRE_MARKET: Reach.EXTENDED, Phase.POST_MARKET: Reach.EXTENDED, Phase.REGULAR: Reach.REGULAR}


@dataclass(slots=True)
class Client:
    """One connection as handlers see it."""

    conn_id: int
    initialized: bool = False
    recv_notify: bool = False
    push_fmt: int = 0
    enc_algo: int = -1
    aes_key: str = ""
    aes_iv: str = ""
    first_push: list[Key] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Standing:
    """Everything about the login that a Notify push tells; compared to see what changed."""

    qot_logined: bool
    program_status: int
    right: int
    quota: int


class OpenD:
    """State and rules. ``faults`` is asked here wherever an answer depends on one."""

    def __init__(
        self, settings: SimSettings, market: MarketFeed, faults: FaultState, depth: DepthSource | None = None
    ) -> None:
        self.settings = settings
        self.market = market
        self.faults = faults
        self.book = SubscriptionBook(settings.min_hold_sec)
        self.limiter = RateLimiter(RATE_LIMITS if settings.rate_limits else {})
        self.reach: dict[int, dict[str, Reach]] = {}  # by connection: of its subscriptions for ticks
        self.depth = depth or DepthFeed(market, settings.seed, settings.book_merge_ms)
        self.detailed: dict[int, set[str]] = {}  # by connection: whose books it wants with their single orders

    @property
    def venue(self) -> Venue:
        """The market that is simulated."""
        return self.market.exchange.venue

    def standing(self) -> Standing:
        """What the faults leave of the login."""
        return Standing(self.qot_logined(), self.program_status(), self.right(), self.quota())

    def logged_out(self) -> bool:
        """Login lost or taken: requests are refused."""
        return self.faults.active("logout") is not None or self.faults.active("kick-out") is not None

    def qot_logined(self) -> bool:
        return not self.logged_out() and self.faults.active("lose-server") is None

    def program_status(self) -> int:
        """Common.ProgramStatusType."""
        if self.faults.active("kick-out") is not None:
            return int(pb.common.ProgramStatusType_ForceLogout)
        if self.faults.active("logout") is not None:
            return int(pb.common.ProgramStatusType_Loging)
        return int(pb.common.ProgramStatusType_Ready)

    def right(self) -> int:
        """Qot_Common.QotRight for the market that is simulated."""
        fault = self.faults.active("right")
        return _RIGHTS[fault.kind if fault is not None else self.settings.right]

    def may_subscribe(self) -> bool:
        """BMP and no right at all cannot subscribe (Futu's documentation)."""
        return self.right() not in (_RIGHTS["bmp"], _RIGHTS["no"])

    def has_sf_right(self) -> bool:
        """The right that shows single orders of a book."""
        return self.right() == _RIGHTS["sf"]

    def book_levels(self) -> int:
        """Levels a side that the right shows of an order book; without any right nothing is sent."""
        return _BOOK_LEVELS.get(self.right(), 1)

    def sees_orders(self, conn_id: int, symbol: str) -> bool:
        """Whether a connection gets the single orders of a symbol's book."""
        return symbol in self.detailed.get(conn_id, ()) and self.has_sf_right()

    def quota(self) -> int:
        fault = self.faults.active("quota")
        return fault.limit if fault is not None else self.settings.quota

    def known_symbols(self, securities: list[object], limit: int = MAX_SECURITIES) -> list[str]:
        """``HK.00700`` of each Qot_Common.Security. Refused when there is none, too many, or an unknown one."""
        symbols = self.own_symbols(securities, limit)
        unknown = [symbol for symbol in symbols if not self.market.knows(symbol)]
        if unknown:
            more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
            raise Refused(f"unknown stock {', '.join(map(printable, unknown[:5]))}{more}")
        return symbols

    def own_symbols(self, securities: list[object], limit: int = MAX_SECURITIES) -> list[str]:
        """The symbol of each Qot_Common.Security, known or not. Refused when there is none, or too many."""
        if not securities:
            raise Refused("no stock given")
        if len(securities) > limit:
            raise Refused(f"{len(securities)} stocks in one request, at most {limit} are allowed")
        return list(dict.fromkeys(symbol_of(security, self.venue) for security in securities))

    def drop_connection(self, conn_id: int) -> None:
        """The connection is gone, and all that it subscribed."""
        self.book.drop_connection(conn_id)
        self.reach.pop(conn_id, None)
        self.detailed.pop(conn_id, None)

    def collected(self, conn_id: int, symbol: str, ticks: Sequence[SimTick]) -> Sequence[SimTick]:
        """Of these ticks of a symbol those of the sessions that the connection asked for."""
        if not self.venue.extended:
            return ticks
        reach = self.reach.get(conn_id, {}).get(symbol, Reach.REGULAR)
        return ticks if reach is Reach.ALL else [tick for tick in ticks if self._needed(tick) <= reach]

    def _needed(self, tick: SimTick) -> Reach:
        calendar = self.market.exchange.calendar
        return _NEEDED.get(calendar.phase(tick.ts_ms), Reach.ALL)

    def require_subscribed(self, conn_id: int, symbol: str, sub_type: int, data_kind: str) -> None:
        """Refused unless this connection subscribed it, as OpenD does."""
        if not self.book.holds(conn_id, (symbol, sub_type)):
            raise Refused(f"{symbol}: subscribe to {data_kind} first")

    def may_answer(self, kind: str, symbols: Sequence[str] = ()) -> None:
        """NotAnswered when a fault wants silence over a request of this kind, or over one of its symbols."""
        fault = self.faults.active("keep-silent")
        if fault is None or fault.kind != kind or (fault.symbol and fault.symbol not in symbols):
            return
        if self.faults.hit("keep-silent") is not None:
            raise NotAnswered(f"{kind}: kept silent over")

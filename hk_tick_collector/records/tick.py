"""The one record that flows through the recorder: a trade print of one symbol, already in UTC."""

from __future__ import annotations

from typing import NamedTuple

from hk_tick_collector.core.errors import RejectCode

# What every tick of this recorder has in the columns ``market`` and ``provider``.
MARKET_HK = "HK"
PROVIDER_FUTU = "futu"

PUSH_TYPE_PUSH = "push"
PUSH_TYPE_POLL = "poll"
PUSH_TYPE_BACKFILL = "backfill"
PUSH_TYPE_REPAIR = "repair"

SEQ_COUNTER_BITS = 32
SEQ_COUNTER_MASK = (1 << SEQ_COUNTER_BITS) - 1
# How far the second in a sequence, or OpenD's timestamp, may lie from the tick's time: a sequence was 2 s behind in one
# of 18 documented rows. More is disagreement.
WITNESS_TOLERANCE_MS = 5_000


class Tick(NamedTuple):
    """One trade on HKEX, told by Futu. The fields have the names of the columns of ``ticks``; the columns ``market``,
    ``provider`` and ``inserted_at_ms`` are the store's.

    A plain tuple underneath: the writer hands it to SQLite as it is, and each value costs 0.08 us there.
    """

    symbol: str  # "HK.00700"
    ts_ms: int  # event time, UTC epoch milliseconds
    price: float | None
    volume: int | None  # shares
    turnover: float | None  # price x volume, in the counter's own currency (market/currency.py)
    direction: str | None  # BUY | SELL | NEUTRAL (Qot_Common.TickerDirection)
    seq: int | None  # Futu's sequence, int64; never through a float
    tick_type: str | None  # AUTO_MATCH, ODD_LOT, AUCTION, ... (Qot_Common.TickerType)
    push_type: str  # how we got it: push | poll | backfill | repair
    trading_day: str  # YYYYMMDD, Hong Kong date of ts_ms; names the day file
    recv_ts_ms: int  # our clock when the frame was read, UTC epoch milliseconds
    push_data_type: str | None  # REALTIME | BYDISCONN | CACHE, None for pulls
    opend_recv_ts_ms: int | None  # OpenD's clock when it got the tick; None for CACHE and pulls
    type_sign: str | None  # HKEX's trade-type letter (typeSign as a character)
    occurrence: int = 0  # without seq: 0, 1, 2 ... among ticks of equal content in one view (push frame, pull answer)


def seq_counter(seq: int) -> int:
    """Low 32 bits: for HK stocks the symbol's own tick counter of the day (observed, undocumented)."""
    return seq & SEQ_COUNTER_MASK


def seq_epoch_sec(seq: int) -> int:
    """High 32 bits: for HK stocks the epoch second of the tick (observed, undocumented)."""
    return seq >> SEQ_COUNTER_BITS


def same_moment(a_ms: int, b_ms: int) -> bool:
    """May two channels mean one moment by these times? Some tell a trade's time to the millisecond, others cut it to
    the second: equal, or of one second and one of them without milliseconds."""
    return a_ms == b_ms or (a_ms // 1000 == b_ms // 1000 and (a_ms % 1000 == 0 or b_ms % 1000 == 0))


class RejectedTick(NamedTuple):
    """A tick that could not be mapped or stored: kept in the quarantine file with the reason, long values cut."""

    symbol: str
    reason: str  # a sentence, with the value
    raw: dict[str, object]  # the fields as they came
    recv_ts_ms: int  # our clock when it was read, UTC epoch milliseconds
    code: RejectCode

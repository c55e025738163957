"""The one record that flows through the recorder: a trade print of one symbol, already in UTC."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple, cast

from hk_tick_collector.core.errors import RejectCode
from hk_tick_collector.records import columns

# What every tick of this recorder has in the columns ``market`` and ``provider``.
MARKET_HK = "HK"
PROVIDER_FUTU = "futu"
PROVIDERS_OF_TOTALS = frozenset({"shioaji"})

PUSH_TYPE_PUSH = "push"
PUSH_TYPE_POLL = "poll"
PUSH_TYPE_BACKFILL = "backfill"
PUSH_TYPE_REPAIR = "repair"

SEQ_COUNTER_BITS = 32
SEQ_COUNTER_MASK = (1 << SEQ_COUNTER_BITS) - 1
# How far the second in a sequence, or OpenD's timestamp, may lie from the tick's time: a sequence was 2 s behind in one
# of 18 documented rows. More is disagreement.
WITNESS_TOLERANCE_MS = 5_000
EARLIEST_WITNESS_SEC = 946_684_800  # 2000-01-01: a sequence that counts otherwise has a "second" long before


class Origin(NamedTuple):
    """What every tick of a data root has in the columns ``market`` and ``provider``."""

    market: str = MARKET_HK
    provider: str = PROVIDER_FUTU

    @property
    def counts(self) -> bool:
        """Do the sequences of its ticks count them? Observed in Hong Kong alone."""
        return self.market == MARKET_HK

    @property
    def totals(self) -> bool:
        """Are they the day's running total of volume (``records.totals``)?"""
        return self.provider in PROVIDERS_OF_TOTALS


FIRST_ORIGIN = Origin()


class Tick(NamedTuple):
    """One trade, with what every source tells of it. The fields have the names of the columns of ``ticks``; the columns
    ``market``, ``provider`` and ``inserted_at_ms`` are the store's. A source that tells more has a tick of its own
    kind: ``tick_with``.

    A plain tuple underneath: the writer hands it to SQLite as it is, and each value costs 0.08 us there.
    """

    symbol: str  # "HK.00700"
    ts_ms: int  # event time, UTC epoch milliseconds
    price: float | None
    volume: int | None  # whole shares; None where a trade was of a part of one
    turnover: float | None  # price x volume, in the counter's own currency (market/hk/currency.py)
    direction: str | None  # BUY | SELL | NEUTRAL (Qot_Common.TickerDirection)
    seq: int | None  # Futu's sequence, int64; never through a float
    tick_type: str | None  # AUTO_MATCH, ODD_LOT, AUCTION, ... (Qot_Common.TickerType)
    push_type: str  # how we got it: push | poll | backfill | repair
    trading_day: str  # YYYYMMDD, the market's trading day of ts_ms; names the day file
    recv_ts_ms: int  # our clock when the frame was read, UTC epoch milliseconds
    push_data_type: str | None  # REALTIME | BYDISCONN | CACHE, None for pulls
    opend_recv_ts_ms: int | None  # OpenD's clock when it got the tick; None for CACHE and pulls
    type_sign: str | None  # HKEX's trade-type letter (typeSign as a character)
    occurrence: int = 0  # without seq: 0, 1, 2 ... among ticks of equal content in one view (push frame, pull answer)


@cache
def tick_with(*names: str) -> type[Tick]:
    """The tick of a source that tells more: the fields of ``Tick``, then these columns, None unless given.

    Only what a source tells is carried, spilled and bound to the INSERT; a column that is left out costs nothing a tick
    and is NULL. ``names``: columns of ``records.columns.TICKS`` that ``Tick`` has not (``bid_price``, ``venue``, ...),
    ValueError for any other. Such a tick goes wherever a ``Tick`` goes, to the queue, the spill and the writer, and may
    share a batch with others::

        QuotedTick = tick_with("conditions", "bid_price", "ask_price")
        tick = QuotedTick._make((*plain, "", 5001.25, 5001.5))  # plain: a Tick
        DayFileWriter(data_root, origin=Origin("CME", "sierra")).write([tick])
    """
    for name in names:
        if name not in MORE_COLUMNS:
            raise ValueError(f"{name!r} is not a column that a source may add to a tick: {', '.join(MORE_COLUMNS)}")
    if not names:
        return Tick
    defaults = (*Tick._field_defaults.values(), *(None for _ in names))
    fields = namedtuple("fields", (*Tick._fields, *names), defaults=defaults)  # type: ignore[misc]
    return cast(type[Tick], type("TickWith", (fields, Tick), {"__slots__": ()}))


MORE_COLUMNS = tuple(name for name in columns.NAMES if name not in (*Tick._fields, columns.STAMP, *columns.CONSTANT))


def of_one_kind(ticks: Sequence[Tick]) -> Sequence[Tick]:
    """The same ticks, those of several kinds as the kind that has all their fields; an empty sequence as it is."""
    kinds: set[Any] = set(map(type, ticks))
    if len(kinds) <= 1:
        return ticks
    names = dict.fromkeys(name for kind in kinds for name in kind._fields[len(Tick._fields) :])
    kind = tick_with(*sorted(names, key=MORE_COLUMNS.index))
    return [kind(**tick._asdict()) for tick in ticks]


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

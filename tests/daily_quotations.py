"""The day that the page in ``tests/data/daily_quotations`` lists, as the recorder would have it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from hk_tick_collector.core.facts import HeadProven, Verified
from hk_tick_collector.market.hk.sessions import day_start_ms
from hk_tick_collector.records.tick import Tick
from hk_tick_collector.store.writer import DayFileWriter
from tests.ticks import DAY

PAGE = Path(__file__).parent / "data/daily_quotations/d261120e.htm"
# Hong Kong time, type, volume, price: in the order of the tape.
TRADES = {
    "HK.00005": (
        ("09:05:00", "LATE", 2000, 74.0), ("09:20:03", "AUCTION", 12000, 75.1),
        ("09:30:00", "AUTO_MATCH", 400, 75.1), ("09:30:01", "INTER_AUTO_MATCH", 1200, 75.05),
        ("10:00:00", "ODD_LOT", 37, 74.9), ("11:59:59", "AUTO_MATCH", 400, 75.1),
        ("13:00:00", "AUTO_MATCH", 800, 75.15), ("16:08:30", "AUCTION", 9600, 75.2),
    ),
    "HK.00700": (
        ("09:30:00", "AUTO_MATCH", 100, 600.2), ("09:30:00", "AUTO_MATCH", 100, 600.4),
        ("09:31:00", "AUTO_MATCH", 1000, 600.2), ("10:31:00", "NON_AUTO_MATCH", 500000, 598.8),
        ("12:05:00", "INTER_NON_AUTO_MATCH", 3000, 600.0), ("13:05:00", "AUTO_MATCH", 200, 600.6),
        ("13:05:00", "AUTO_MATCH", 200, 600.6), ("16:08:30", "AUCTION", 1300, 600.8),
    ),
    "HK.83199": (("14:00:00", "AUTO_MATCH", 1000, 101.75),),
}  # fmt: skip


def ticks_of(symbol: str, *, without: Collection[int] = ()) -> list[Tick]:
    """A symbol's ticks; ``without``: places in TRADES that are left out."""
    ticks = []
    for n, (clock, kind, volume, price) in enumerate(TRADES[symbol]):
        hours, minutes, seconds = map(int, clock.split(":"))
        ts_ms = day_start_ms(DAY) + ((hours * 60 + minutes) * 60 + seconds) * 1000
        ticks.append(
            Tick(symbol, ts_ms, price, volume, round(price * volume, 3), "BUY", (ts_ms // 1000) << 32 | (n + 1), kind,
                 "push", DAY, ts_ms + 60, "REALTIME", ts_ms + 40, " ")
        )  # fmt: skip
    return [tick for n, tick in enumerate(ticks) if n not in without]


def record(data_root: Path, more: Collection[Tick] = (), **without: Collection[int]) -> None:
    """The day file. ``without``: of a symbol (``HK_00005=...``) places that are left out."""
    writer = DayFileWriter(data_root)
    for symbol, trades in TRADES.items():
        ticks = ticks_of(symbol, without=without.get(symbol.replace(".", "_"), ()))
        last = len(trades)
        writer.write(
            ticks, [HeadProven(symbol, DAY, 1), Verified(symbol, DAY, last, day_start_ms(DAY) + 16 * 3_700_000)]
        )
    writer.write(list(more), [])
    writer.close()

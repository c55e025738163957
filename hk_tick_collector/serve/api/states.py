"""A day as a cursor keeps it: its name, and which state of it was read."""

from __future__ import annotations

import zlib

from hk_tick_collector.client.plan import DayRead
from hk_tick_collector.store.follow import place_at
from hk_tick_collector.store.position import Place


def name_of(read: DayRead) -> str:
    """A day of a data root, as a cursor names it."""
    return f"{read.day.trading_day}.{zlib.crc32(str(read.day.archive_root).encode()):08x}"


def state_of(read: DayRead) -> str:
    """What a cursor keeps of a day: how far its file was written, or which archive it is."""
    day = read.day
    if read.last_rowid is None or day.db is None:
        return f"={day.content_mark[-12:] or '0'}"
    return state_at(place_at(day.db, day.trading_day, read.last_rowid))


def state_at(place: Place) -> str:
    """How far a day file was read, and the row there."""
    return f"{place.rowid}.{place.check:08x}"

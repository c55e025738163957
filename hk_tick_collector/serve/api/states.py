"""A day as a cursor keeps it: its name, and which state of it was read."""

from __future__ import annotations

import zlib
from dataclasses import replace

from hk_tick_collector.client.plan import DayRead
from hk_tick_collector.days.catalog import Day
from hk_tick_collector.days.union import UnionDay
from hk_tick_collector.store.follow import place_at
from hk_tick_collector.store.position import Place

SEVERAL = "+"  # begins the state of a day in several data roots
_GONE = -1


def name_of(read: DayRead) -> str:
    """A day of a data root, as a cursor names it."""
    return f"{read.day.trading_day}.{zlib.crc32(str(read.day.archive_root).encode()):08x}"


def state_of(read: DayRead) -> str:
    """What a cursor keeps of a day: how far its file was written, or which archive it is; of several data roots of
    each."""
    day = read.day
    if isinstance(day, UnionDay):
        return SEVERAL + ",".join(_state_of(side.day, side.last_rowid) for side in day.sides)
    return _state_of(day, read.last_rowid)


def _state_of(day: Day, last_rowid: int | None) -> str:
    if last_rowid is None or day.db is None:
        return f"={day.content_mark[-12:] or '0'}"
    return state_at(place_at(day.db, day.trading_day, last_rowid))


def pinned(read: DayRead, kept: str | None) -> DayRead | None:
    """The day up to where a cursor keeps it; None when it is another file now."""
    if kept is None:
        return None
    if not isinstance(read.day, UnionDay):
        last_rowid = _kept_rowid(read.day, read.last_rowid, kept)
        return None if last_rowid == _GONE else replace(read, last_rowid=last_rowid)
    sides, states = read.day.sides, kept.removeprefix(SEVERAL).split(",")
    if not kept.startswith(SEVERAL) or len(states) != len(sides):
        return None
    last_rowids = [_kept_rowid(side.day, side.last_rowid, state) for side, state in zip(sides, states, strict=True)]
    return None if _GONE in last_rowids else replace(read, day=read.day.pinned(last_rowids))


def _kept_rowid(day: Day, last_rowid: int | None, kept: str) -> int | None:
    """Up to which row a day is read; _GONE when it is another file now."""
    is_archive = last_rowid is None or day.db is None
    if kept.startswith("=") or is_archive:
        return None if is_archive and kept == _state_of(day, last_rowid) else _GONE
    assert day.db is not None
    rowid, _, check = kept.partition(".")
    if not rowid.isdigit() or f"{place_at(day.db, day.trading_day, int(rowid)).check:08x}" != check:
        return _GONE
    return int(rowid)


def state_at(place: Place) -> str:
    """How far a day file was read, and the row there."""
    return f"{place.rowid}.{place.check:08x}"

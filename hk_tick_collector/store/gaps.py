"""Table ``gaps``: ticks that OpenD can no longer show, each with its exact extent, until something fills it.

A row's times are the event times of the stored ticks around the gap. Where none is stored on a side, the start is the
day's first instant (``Market.opening_ms``: 09:00 in Hong Kong, where HKEX's pre-opening auction begins), and the
end the moment the gap was found. Two gaps between the same two times are one row.

A *window* is a time in which OpenD did not send a wanted symbol's ticks. Nobody knows how many there were; it is closed
when OpenD, asked after it, had nothing that is not stored. Its times are those of the window. ``meta_json``:

    first_counter, last_counter   the extent of the gap when it was found
    found_ticks                   ticks missing in it then
    extents                       counters still missing, '501-502 900-910'
    at_most                       head gap only: the counter before the first tick we have; the day may have begun later
    closed_at_ms                  when the last of it was stored (UTC epoch ms)
    not_subscribed                a window only: true
    over                          a window only: false while it lasts; its end is then the last time it was seen

Every function here works on the writer's connection, inside its transaction.
"""

from __future__ import annotations

import json
import sqlite3
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from hk_tick_collector.core.facts import GapFound, NotSubscribed
from hk_tick_collector.core.ranges import CounterRanges
from hk_tick_collector.core.text import cut, printable
from hk_tick_collector.market.market import Market
from hk_tick_collector.records.tick import PUSH_TYPE_PUSH, SEQ_COUNTER_MASK, Tick, same_moment, seq_counter
from hk_tick_collector.store.extents import Extent, count, format_extents, parse_extents, subtract
from hk_tick_collector.store.neighbours import rows_in, stretches

OPEN, CLOSED = "open", "closed"
NOT_SUBSCRIBED = "not subscribed: "  # begins the reason of a window

_TS_OF_COUNTER = (
    "SELECT ts_ms FROM ticks WHERE symbol = ?1 AND seq IS NOT NULL AND (seq & ?3) = ?2 ORDER BY seq DESC LIMIT 1"
)
_PUSHED = (
    "SELECT seq FROM ticks WHERE symbol = ?1 AND seq IS NOT NULL AND (seq & ?3) = ?2 AND push_type = ?4 "
    "ORDER BY seq DESC LIMIT 1"
)
_WRITE = (
    "INSERT INTO gaps (trading_day, symbol, gap_start_ts_ms, gap_end_ts_ms, gap_sec, detected_at_ms, reason, "
    "meta_json, missing_ticks, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (symbol, gap_start_ts_ms, gap_end_ts_ms) DO UPDATE SET "
    "meta_json = excluded.meta_json, missing_ticks = excluded.missing_ticks, state = excluded.state"
)
_SELECT = "SELECT symbol, gap_start_ts_ms, gap_end_ts_ms, detected_at_ms, reason, meta_json FROM gaps "


@dataclass(slots=True)
class Gap:
    """One row of the table."""

    start_ts_ms: int
    end_ts_ms: int
    detected_at_ms: int
    reason: str
    extents: list[Extent]  # still missing
    at_most: int | None  # not None: the ticks up to this counter may be missing, as far as the day had them
    first_counter: int | None
    last_counter: int | None
    found_ticks: int
    is_window: bool = False  # a time without subscription
    over: bool = True  # a window that has ended
    filled: list[Extent] = field(default_factory=list)  # stored since, without the counters that they came with

    @property
    def missing_ticks(self) -> int | None:
        """Ticks still missing; None when that is not known."""
        return None if (self.at_most is not None or self.is_window) and not self.extents else count(self.extents)

    @property
    def key(self) -> tuple[int, int]:
        """What the row of a symbol is known by."""
        return self.start_ts_ms, self.end_ts_ms

    def absorb(self, other: Gap) -> None:
        """Take in a gap between the same two times."""
        self.extents = sorted([*self.extents, *other.extents])
        self.at_most = other.at_most if self.at_most is None else self.at_most
        self.found_ticks += other.found_ticks
        self.first_counter = _lowest(self.first_counter, other.first_counter)
        self.last_counter = _highest(self.last_counter, other.last_counter)


class Track(Protocol):
    """What a gap needs to know of its symbol's day: ``coverage.SymbolCoverage`` has it."""

    gaps: list[Gap]  # the open ones; changed here
    ranges: CounterRanges

    @property
    def symbol(self) -> str: ...

    @property
    def first_ts_ms(self) -> int: ...

    @property
    def counted(self) -> bool:
        """False when ``ranges`` were given up: they then claim more than is stored."""

    @property
    def head_proven(self) -> bool:
        """The lowest counter stored is the day's first one."""


def load_open(conn: sqlite3.Connection) -> dict[str, list[Gap]]:
    """The open gaps by symbol."""
    gaps_of: dict[str, list[Gap]] = {}
    for row in conn.execute(f"{_SELECT} WHERE state = '{OPEN}' ORDER BY gap_start_ts_ms"):
        gaps_of.setdefault(row[0], []).append(_gap_of(row))
    return gaps_of


def record(conn: sqlite3.Connection, day: str, opens_ms: int, track: Track, fact: GapFound) -> None:
    """Write what of the fact is neither stored nor in an open gap; nothing when nothing is left of it. ``opens_ms``:
    the day's first instant."""
    if fact.first is None:
        gap = _head_gap(opens_ms, track, fact)
    else:
        gap = _counted_gap(conn, opens_ms, track, fact, fact.first)
    if gap is None:
        return
    known = next((known_gap for known_gap in track.gaps if known_gap.key == gap.key and not known_gap.is_window), None)
    if known is None:
        stored = _stored(conn, track.symbol, gap)
        while stored is not None and stored.is_window:
            gap.end_ts_ms += 1
            stored = _stored(conn, track.symbol, gap)
        known = gap if stored is None else stored
        track.gaps.append(known)
    if known is not gap:
        known.absorb(gap)
    _write(conn, day, track.symbol, known, None)


def record_window(conn: sqlite3.Connection, day: str, track: Track, fact: NotSubscribed) -> None:
    """Write when the symbol was not subscribed; what was told of the same time before grows."""
    reason = f"{NOT_SUBSCRIBED}{printable(cut(fact.reason))}"
    known = next((gap for gap in track.gaps if gap.is_window and not gap.over), None)
    if known is None:
        start_ms, end_ms = fact.from_ms, max(fact.from_ms, fact.until_ms)
        known = Gap(start_ms, end_ms, fact.until_ms, reason, [], None, None, None, 0, is_window=True, over=False)
        track.gaps.append(known)
    known.reason = reason
    _end_window(conn, day, track.symbol, known, fact.until_ms, fact.over)


def end_windows(conn: sqlite3.Connection, day: str, track: Track, at_ms: int) -> None:
    """The symbol is subscribed: what lasted until now is over."""
    for gap in track.gaps:
        if gap.is_window and not gap.over:
            _end_window(conn, day, track.symbol, gap, at_ms, over=True)


def close(conn: sqlite3.Connection, day: str, symbol: str, gap: Gap, now_ms: int) -> None:
    """Nothing of it is missing any more."""
    _write(conn, day, symbol, gap, now_ms)


def _end_window(conn: sqlite3.Connection, day: str, symbol: str, gap: Gap, until_ms: int, over: bool) -> None:
    """The end is part of the row's key: the row goes and comes again."""
    stored = _stored(conn, symbol, gap)
    if stored is not None and stored.is_window:
        key = (symbol, *gap.key)
        conn.execute("DELETE FROM gaps WHERE symbol = ? AND gap_start_ts_ms = ? AND gap_end_ts_ms = ?", key)
    gap.end_ts_ms, gap.over = max(gap.end_ts_ms, until_ms), over
    while _stored(conn, symbol, gap) is not None:  # another gap between the same two times
        gap.end_ts_ms += 1
    _write(conn, day, symbol, gap, None)


def _stored(conn: sqlite3.Connection, symbol: str, gap: Gap) -> Gap | None:
    key = (symbol, *gap.key)
    row = conn.execute(f"{_SELECT} WHERE symbol = ? AND gap_start_ts_ms = ? AND gap_end_ts_ms = ?", key).fetchone()
    return None if row is None else _gap_of(row)


def shrink(conn: sqlite3.Connection, day: str, track: Track, now_ms: int) -> None:
    """Take out of the symbol's gaps what is stored by now; close those of which nothing is left.

    Ranges that were given up say nothing: the gaps of such a symbol stay.
    """
    if not track.counted:
        return
    for gap in list(track.gaps):
        extents = subtract(subtract(gap.extents, track.ranges.ranges), sorted(gap.filled))
        gap.filled.clear()
        at_most = gap.at_most
        if at_most is not None and track.ranges:
            at_most = min(at_most, track.ranges.first - 1)
            at_most = None if track.head_proven or at_most < 1 else at_most  # before counter 1 hardly anything comes
        if extents == gap.extents and at_most == gap.at_most:
            continue
        gap.extents, gap.at_most = extents, at_most
        closed = not extents and at_most is None
        if closed:
            track.gaps.remove(gap)
        _write(conn, day, track.symbol, gap, now_ms if closed else None)


def fill(conn: sqlite3.Connection, track: Track, rows: Sequence[Tick], market: Market) -> None:
    """Note which rows of a batch fill gaps, though they are about to be stored without their numbers, since pushes and
    answers number each for itself (``numbering``). To be called before they are stored.

    A number of a push that stands between those of two stored pushes is theirs, and was not stored. One of the content
    of another trade of its moment fills nothing: it may be taken for that one.

    Costs nothing but a comparison a row while all come behind the gaps, as they do but for those that are late.
    """
    counted = [gap for gap in track.gaps if gap.extents] if track.counted else []
    last = max((gap.extents[-1][1] for gap in counted), default=-1)
    late = [row for row in rows if _is_counted(row) and seq_counter(row.seq or 0) <= last]
    if not late:
        return
    alone = [(seq, seq_counter(seq)) for seq in _alone(conn, track.symbol, rows, late, market)]
    for gap in counted:
        inside = [(seq, counter) for seq, counter in alone if _holds(gap.extents, counter)]
        if inside:
            after, before = _between(conn, track, gap)
            gap.filled += [(counter, counter) for seq, counter in inside if after < seq < before]


def _is_counted(row: Tick) -> bool:
    return row.seq is not None and row.push_type == PUSH_TYPE_PUSH


def _holds(extents: Sequence[Extent], counter: int) -> bool:
    place = bisect_right(extents, counter, key=lambda extent: extent[0]) - 1
    return place >= 0 and counter <= extents[place][1]


def _between(conn: sqlite3.Connection, track: Track, gap: Gap) -> tuple[int, int]:
    """The sequences of the pushes around a gap; nothing is between them where the rows around it are not pushes."""
    low, high = gap.extents[0][0], gap.extents[-1][1]
    before = max((last for _, last in track.ranges.ranges if last < low), default=None)
    after = min((first for first, _ in track.ranges.ranges if first > high), default=None)
    seqs = [
        conn.execute(_PUSHED, (track.symbol, counter, SEQ_COUNTER_MASK, PUSH_TYPE_PUSH)).fetchone()
        for counter in (before, after)
        if counter is not None
    ]
    if len(seqs) != 2 or None in seqs:
        return 0, 0
    return int(seqs[0][0]), int(seqs[1][0])


def _alone(
    conn: sqlite3.Connection, symbol: str, rows: Iterable[Tick], late: Iterable[Tick], market: Market
) -> set[int]:
    """The sequences of the pushes that are of another content or moment than all before them, and all that was told on
    another way or is stored."""
    times: dict[tuple[object, ...], set[int]] = {}
    for first, last in stretches(row.ts_ms // 1000 for row in late):
        for _, ts_ms, _, _, *numbers, _, _ in rows_in(conn, symbol, first, last, market):
            times.setdefault((ts_ms // 1000, *numbers), set()).add(ts_ms)
    alone: set[int] = set()
    for row in sorted(rows, key=_is_counted):
        alike = times.setdefault((row.ts_ms // 1000, row.price, row.volume, row.turnover), set())
        if row.seq is not None and _is_counted(row) and not any(same_moment(row.ts_ms, ts_ms) for ts_ms in alike):
            alone.add(row.seq)
        alike.add(row.ts_ms)
    return alone


def _head_gap(opens_ms: int, track: Track, fact: GapFound) -> Gap | None:
    if track.head_proven or any(gap.at_most is not None for gap in track.gaps):
        return None
    at_most = min(fact.last, track.ranges.first - 1) if track.ranges and track.counted else fact.last
    if at_most < 1:
        return None
    end_ts_ms = track.first_ts_ms if track.ranges else fact.detected_at_ms
    return Gap(opens_ms, max(opens_ms, end_ts_ms), fact.detected_at_ms, fact.reason, [], at_most, None, None, 0)


def _counted_gap(conn: sqlite3.Connection, opens_ms: int, track: Track, fact: GapFound, first: int) -> Gap | None:
    ranges: Sequence[Sequence[int]] = track.ranges.ranges if track.counted else ()
    extents = subtract([(first, fact.last)], ranges)
    extents = subtract(extents, sorted(extent for gap in track.gaps for extent in gap.extents))
    if not extents:
        return None
    low, high = extents[0][0], extents[-1][1]
    before = max((last for _, last in ranges if last < low), default=None)
    after = min((first for first, _ in ranges if first > high), default=None)
    start_ts_ms = _ts_of(conn, track.symbol, before)
    end_ts_ms = _ts_of(conn, track.symbol, after)
    if start_ts_ms is None:
        start_ts_ms = opens_ms
    if end_ts_ms is None:
        end_ts_ms = fact.detected_at_ms
    found_ticks = count(extents)
    end_ts_ms = max(start_ts_ms, end_ts_ms)  # ticks may carry times that fall back a little
    return Gap(start_ts_ms, end_ts_ms, fact.detected_at_ms, fact.reason, extents, None, low, high, found_ticks)


def _ts_of(conn: sqlite3.Connection, symbol: str, counter: int | None) -> int | None:
    """Event time of the stored tick with this counter: read from the newest end, where gaps are."""
    if counter is None:
        return None
    row = conn.execute(_TS_OF_COUNTER, (symbol, counter, SEQ_COUNTER_MASK)).fetchone()
    return None if row is None else int(row[0])


def _gap_of(row: Sequence[Any]) -> Gap:
    _, start_ts_ms, end_ts_ms, detected_at_ms, reason, meta_json = row
    meta = read_meta(meta_json)
    try:
        extents = parse_extents(meta.get("extents"))
    except (ValueError, AttributeError):
        extents = []
    first, last, at_most, found_ticks = (
        value if isinstance(value, int) else None
        for value in map(meta.get, ("first_counter", "last_counter", "at_most", "found_ticks"))
    )
    gap = Gap(start_ts_ms, end_ts_ms, detected_at_ms, reason, extents, at_most, first, last, found_ticks or 0)
    gap.is_window, gap.over = bool(meta.get("not_subscribed")), meta.get("over") is not False
    return gap


def read_meta(meta_json: str | None) -> dict[str, Any]:
    """The column as a dict; empty when it is no JSON object (a gap of an earlier recorder)."""
    try:
        meta = json.loads(meta_json or "{}")
    except (ValueError, RecursionError):
        return {}
    return meta if isinstance(meta, dict) else {}


def _write(conn: sqlite3.Connection, day: str, symbol: str, gap: Gap, closed_at_ms: int | None) -> None:
    meta = {
        "first_counter": gap.first_counter,
        "last_counter": gap.last_counter,
        "found_ticks": gap.found_ticks or None,
        "extents": format_extents(gap.extents) or None,
        "at_most": gap.at_most,
        "closed_at_ms": closed_at_ms,
        "not_subscribed": gap.is_window or None,
        "over": gap.over if gap.is_window else None,
    }
    values = (
        day,
        symbol,
        gap.start_ts_ms,
        gap.end_ts_ms,
        (gap.end_ts_ms - gap.start_ts_ms) / 1000,
        gap.detected_at_ms,
        gap.reason,
        json.dumps({name: value for name, value in meta.items() if value is not None}),
        gap.missing_ticks,
        OPEN if closed_at_ms is None else CLOSED,
    )
    conn.execute(_WRITE, values)


def _lowest(first: int | None, second: int | None) -> int | None:
    return second if first is None else first if second is None else min(first, second)


def _highest(first: int | None, second: int | None) -> int | None:
    return second if first is None else first if second is None else max(first, second)

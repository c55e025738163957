"""Which ticks of each symbol we have seen today, so that a hole is found the moment the tick behind it arrives.

For HK stocks the low 32 bits of ``sequence`` count the symbol's ticks of the day (observed, not documented; see
``core.tick``). A step above one is a *suspected* hole. Per symbol and day this keeps the counters seen as a short list
of ranges: one range when nothing is missing, whatever the number of ticks. A symbol whose counters make more than
``MAX_RANGES`` ranges is not counting its ticks, and is no longer judged that day.

Called from the SDK's network thread (pushes) and from the loop (pulls): one lock, taken once a burst.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from hk_tick_collector.core.tick import SEQ_COUNTER_MASK, Tick

MAX_RANGES = 64


@dataclass(slots=True)
class _Track:
    """One symbol's day. ``ranges``: ascending, disjoint, never adjacent ``[first, last]`` counters."""

    day: str = ""
    last_seq: int = 0  # full sequence of the highest counter seen
    last_tick_monotonic: float = 0.0
    rows: int = 0
    ranges: list[list[int]] = field(default_factory=list)
    counting: bool = True  # False: the counters do not count; nothing is concluded from them

    def restart(self, day: str, seq: int) -> None:
        self.day = day
        self.last_seq = seq
        self.ranges = [[seq & SEQ_COUNTER_MASK] * 2]
        self.counting = True

    def missing(self) -> int:
        """Ticks between the ranges."""
        return sum(right[0] - left[1] - 1 for left, right in zip(self.ranges, self.ranges[1:], strict=False))


@dataclass(frozen=True, slots=True)
class Hole:
    """Counters ``first``..``last`` of ``symbol`` were not seen although later ones were."""

    symbol: str
    first: int
    last: int
    newest: int  # highest counter seen: how far back from the newest tick the hole begins

    @property
    def missing_rows(self) -> int:
        return self.last - self.first + 1

    @property
    def rows_back(self) -> int:
        """How many of the symbol's newest ticks a pull must fetch to cover the hole."""
        return self.newest - self.first + 1


class Continuity:
    """The tracks of all symbols."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tracks: dict[str, _Track] = {}
        self._holed: dict[str, None] = {}  # symbols with more than one range, in the order found

    def seed(self, last_seqs: dict[str, tuple[str, int]]) -> None:
        """Begin where the day files end: ``{symbol: (trading_day, highest sequence stored)}``."""
        with self._lock:
            for symbol, (day, seq) in last_seqs.items():
                self._track(symbol).restart(day, seq)

    def observe_push(self, ticks: Sequence[Tick], monotonic_sec: float) -> bool:
        """Note pushed ticks. True when a symbol has just got a hole (worth a look by the repairer)."""
        new_hole = False
        with self._lock:
            for tick in ticks:
                track = self._tracks.get(tick.symbol) or self._track(tick.symbol)
                track.last_tick_monotonic = monotonic_sec
                track.rows += 1
                seq = tick.seq
                if seq is None or not track.counting:
                    continue
                if track.ranges and tick.trading_day == track.day:
                    newest = track.ranges[-1]
                    counter = seq & SEQ_COUNTER_MASK
                    if counter == newest[1] + 1:
                        newest[1] = counter
                        track.last_seq = seq
                        continue
                new_hole |= self._observe_slow(tick.symbol, track, tick.trading_day, seq)
        return new_hole

    def new_of_pull(self, symbol: str, ticks: Sequence[Tick]) -> list[Tick]:
        """Note pulled ticks (one symbol, oldest first); return those not known to be ours already.

        A tick is skipped only if its counter was seen *and* the pull agrees with us on the newest tick we know, so
        renumbered sequences never hide a tick: then all are returned, and the store's unique index decides.
        """
        with self._lock:
            track = self._track(symbol)
            known_last = track.last_seq
            comparable = track.counting and any(tick.seq == known_last for tick in ticks)
            fresh: list[Tick] = []
            for tick in ticks:
                seq = tick.seq
                if comparable and seq is not None and tick.trading_day == track.day and _covers(track.ranges, seq):
                    continue
                fresh.append(tick)
            for tick in fresh:
                if tick.seq is not None and track.counting:
                    self._observe_slow(symbol, track, tick.trading_day, tick.seq)
            return fresh

    def touch(self, symbol: str, monotonic_sec: float) -> None:
        """A pull brought something new: the symbol is not quiet."""
        with self._lock:
            self._track(symbol).last_tick_monotonic = monotonic_sec

    def quiet_symbols(self, symbols: Iterable[str], since_monotonic: float) -> list[str]:
        """Those of ``symbols`` without a tick since then."""
        with self._lock:
            return [s for s in symbols if self._track(s).last_tick_monotonic < since_monotonic]

    def most_active_first(self, symbols: Iterable[str]) -> list[str]:
        """Those with the most ticks so far first: they have the most to lose; equal ones keep their order."""
        with self._lock:
            return sorted(symbols, key=lambda s: -self._track(s).rows)

    @property
    def has_holes(self) -> bool:
        """Is any symbol's count interrupted?"""
        return bool(self._holed)

    def holes(self) -> list[Hole]:
        """All holes known, oldest found symbol first."""
        with self._lock:
            return [
                Hole(symbol, left[1] + 1, right[0] - 1, track.ranges[-1][1])
                for symbol in self._holed
                for track in (self._tracks[symbol],)
                for left, right in zip(track.ranges, track.ranges[1:], strict=False)
            ]

    def give_up(self, hole: Hole) -> None:
        """OpenD cannot show this hole any more: it no longer counts as open."""
        with self._lock:
            track = self._track(hole.symbol)
            _add(track.ranges, hole.first, hole.last)
            self._note_holed(hole.symbol, track)

    def _track(self, symbol: str) -> _Track:
        track = self._tracks.get(symbol)
        if track is None:
            track = self._tracks[symbol] = _Track()
        return track

    def _observe_slow(self, symbol: str, track: _Track, day: str, seq: int) -> bool:
        """Anything but the next counter: first tick, new day, repeat, out of order, or a hole. True: a new hole."""
        if day < track.day:
            return False  # a late tick of an earlier day: stored, not judged
        if day > track.day or not track.ranges:
            track.restart(day, seq)
            self._holed.pop(symbol, None)
            return False
        counter = seq & SEQ_COUNTER_MASK
        ranges_before = len(track.ranges)
        if counter > track.ranges[-1][1]:
            track.last_seq = seq
        _add(track.ranges, counter, counter)
        if len(track.ranges) > MAX_RANGES:
            track.counting = False
            track.ranges = track.ranges[-1:]
        self._note_holed(symbol, track)
        return len(track.ranges) > ranges_before

    def _note_holed(self, symbol: str, track: _Track) -> None:
        if len(track.ranges) > 1:
            self._holed.setdefault(symbol)
        else:
            self._holed.pop(symbol, None)


def _covers(ranges: list[list[int]], seq: int) -> bool:
    counter = seq & SEQ_COUNTER_MASK
    return any(first <= counter <= last for first, last in ranges)


def _add(ranges: list[list[int]], first: int, last: int) -> None:
    """Put ``first``..``last`` into ascending disjoint ranges, joining what touches. Searches from the newest end."""
    at = len(ranges)
    while at and ranges[at - 1][0] > first:
        at -= 1
    if at and ranges[at - 1][1] >= first - 1:
        at -= 1
        ranges[at][1] = max(ranges[at][1], last)
    else:
        ranges.insert(at, [first, last])
    while at + 1 < len(ranges) and ranges[at + 1][0] <= ranges[at][1] + 1:
        ranges[at][1] = max(ranges[at][1], ranges.pop(at + 1)[1])

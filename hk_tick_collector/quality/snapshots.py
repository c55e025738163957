"""What can be said of a day's snapshots: of the seconds that a grid expects, which were seen.

The grid is a snapshot a second and series while the market trades. A second is *seen* when a snapshot of it is stored.
By itself a hole says nothing: the source leaves seconds out. The source's own file of the whole day tells them apart:
what it does not hold was *not offered*, what it holds and we do not is *absent*. Without that file every hole is
absent, and no day is proven.

A day is ``proven`` when every second of that file is stored and the file lacks none that was seen live. It then means:
equal to the source's own copy, not that the source computed no more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from hk_tick_collector.core.evidence import EvidenceLevel
from hk_tick_collector.core.text import counted
from hk_tick_collector.market.hours import DayKind
from hk_tick_collector.market.market import Market
from hk_tick_collector.records.snapshot import Series
from hk_tick_collector.store.snapshot_reader import SeriesFacts, facts
from hk_tick_collector.store.verdict import MISSING, PROVEN, UNPROVEN

RANGES_KEPT = 100
NO_COPY = "the source's own file of the day was not read"
NOT_OVER = "the day is not over"


@dataclass(frozen=True)
class SeriesGrid:
    """A series' day. All but ``rows`` and ``several`` count seconds of the grid."""

    symbol: str
    package: str
    category: str
    state: str  # proven | missing | unproven
    reason: str  # why it is not proven
    expected: int  # so far, while the day runs
    seen: int
    absent: int
    not_offered: int | None  # None: nobody can say, without the source's own file
    only_copy: int  # of the seen: filled by the source's file, not seen live
    outside: int  # seconds with a snapshot that the grid does not expect
    several: int  # seconds of which snapshots differ; all are kept
    rows: int
    absent_ranges: tuple[tuple[int, int], ...]  # first and last second, epoch; the first RANGES_KEPT
    sha256: str  # of the source's file; empty without one

    @property
    def share(self) -> float:
        """Of the expected, how many were seen; 1 where none is expected."""
        return self.seen / self.expected if self.expected else 1.0


@dataclass(frozen=True)
class SnapshotReport:
    """A day, series by series."""

    trading_day: str
    is_over: bool
    evidence: str
    series: tuple[SeriesGrid, ...]

    @property
    def state(self) -> str:
        """The worst of them; ``unproven`` without any."""
        states = {series.state for series in self.series}
        return next((state for state in (MISSING, UNPROVEN) if state in states), PROVEN if states else UNPROVEN)

    @property
    def sentence(self) -> str:
        """What it comes to."""
        expected, seen = (sum(getattr(series, name) for series in self.series) for name in ("expected", "seen"))
        absent = sum(series.absent for series in self.series)
        text = f"{counted(len(self.series), 'series', 'series')}, {seen:,} of {expected:,} seconds seen"
        offered = [series.not_offered for series in self.series]
        if None not in offered and self.series:
            text += f", {sum(filter(None, offered)):,} not offered, {absent:,} absent"
        reasons = dict.fromkeys(series.reason for series in self.series if series.reason)
        word = f"{self.state}: {'; '.join(list(reasons)[:3])}" if reasons else self.state
        return f"{text}; {word}"


def report_of(path: Path, trading_day: str, market: Market, kind: DayKind, now_ms: int) -> SnapshotReport:
    """As ``store.snapshot_file.reading`` raises."""
    windows = [(start // 1000, end // 1000) for start, end in market.continuous_windows(trading_day, kind)]
    now_sec = now_ms // 1000
    grid = {second for start, end in windows for second in range(start, min(end, now_sec))}
    is_over = bool(windows) and now_sec >= windows[-1][1]
    judged = tuple(_judge(told, grid, is_over=is_over) for told in facts(path))
    return SnapshotReport(trading_day, is_over or not windows, str(EvidenceLevel.REPLAY), judged)


def absent_ranges(report: SnapshotReport) -> Iterable[tuple[Series, int, int]]:
    """Those that are told, by series."""
    for series in report.series:
        for first, last in series.absent_ranges:
            yield Series(series.symbol, series.package, series.category), first, last


def _judge(of: SeriesFacts, grid: set[int], *, is_over: bool) -> SeriesGrid:
    copy = max(of.copies, key=lambda copy_told: (len(copy_told.seconds), copy_told.fetched_ms), default=None)
    seen = of.seconds & grid
    if copy is None:
        absent, lacking = grid - seen, set()
    else:
        absent, lacking = copy.seconds - of.seconds, (of.live_seconds & grid) - copy.seconds
    state, reason = UNPROVEN, NO_COPY
    if not is_over:
        reason = NOT_OVER
    elif copy is not None and absent:
        state, reason = MISSING, f"{counted(len(absent), 'second')} of the source's own file missing here"
    elif copy is not None and copy.unread:
        reason = f"{counted(copy.unread, 'record')} of the source's own file could not be read"
    elif copy is not None and lacking:
        reason = f"the source's own file lacks {counted(len(lacking), 'second')} seen live"
    elif copy is not None:
        state, reason = PROVEN, ""
    ranges = ranges_of(sorted(absent))
    return SeriesGrid(
        *of.series, state, reason, len(grid), len(seen), len(absent),
        None if copy is None else len(grid - copy.seconds - seen), len(seen - of.live_seconds),
        len(of.seconds - grid), of.several, of.rows, tuple(ranges[:RANGES_KEPT]), "" if copy is None else copy.sha256,
    )  # fmt: skip


def ranges_of(seconds: Sequence[int]) -> list[tuple[int, int]]:
    """Ascending seconds as stretches without a hole: first and last."""
    if not seconds:
        return []
    starts = [seconds[0], *(later for before, later in pairwise(seconds) if later != before + 1)]
    ends = [*(before for before, later in pairwise(seconds) if later != before + 1), seconds[-1]]
    return list(zip(starts, ends, strict=True))

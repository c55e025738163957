"""Recorded days for the tests of the Python API."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from hk_tick_collector.client.api import Recordings
from hk_tick_collector.client.local import LocalFiles
from hk_tick_collector.core.facts import Fact
from hk_tick_collector.market.hk.sessions import day_start_ms
from hk_tick_collector.records.tick import Origin, Tick
from hk_tick_collector.store.layout import archive_dir
from hk_tick_collector.store.writer import DayFileWriter
from tests.clock import ManualClock

ARCHIVED, HOLED, UNPROVEN = "20261120", "20261123", "20261124"
NOW_MS = day_start_ms("20261128") + 10 * 3_600_000


def recordings(*roots: Path, now_ms: int = NOW_MS) -> Recordings:
    """What is in these data roots, at a moment."""
    return Recordings(LocalFiles([(root, archive_dir(root)) for root in roots], ManualClock(now_ms)))


def store(
    root: Path,
    ticks: Iterable[Tick],
    facts: Sequence[Fact] = (),
    *,
    at_ms: int | None = None,
    origin: Origin | None = None,
) -> None:
    """Write ticks as the recorder does, and what it found out, ``at_ms`` by its clock."""
    clock = None if at_ms is None else ManualClock(at_ms)
    writer = DayFileWriter(root, clock=clock, origin=origin or Origin())
    writer.write(list(ticks), facts)
    writer.close()

"""What ``hk-tick-ship`` says of itself, in a file that anybody may read: ``SHIP_DIR/ship.status.json``."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from hk_tick_collector.core.complaint import Code, Complaint, Level
from hk_tick_collector.core.text import counted

DEFAULT_DIR = Path("/var/lib/hk-tick-ship")  # SHIP_DIR where nothing else is set
STATUS_FILE = "ship.status.json"
SILENT_SEC = 30.0  # it writes every two seconds
BEHIND_SEC = 300.0
_MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ShipStatus:
    """Moments are UTC epoch milliseconds, 0 when it has not happened."""

    written_ms: int
    pid: int
    is_stopped: bool  # in order, as it was asked to
    data_root: str
    sink: str
    recorder: str
    ticks: int  # sent since its start
    rows_behind: int  # stored and not sent, of the newest days
    oldest_waiting_ms: int  # when the oldest of them was stored
    last_put_ms: int
    lag_p99_ms: float | None  # from storing to arriving, of what was sent since the start
    waits_for: str  # why no rows are taken; empty: they are
    days_wait_for: str  # why no whole day, or that one, is compared or taken; empty: they are
    is_refused: bool  # either waits for somebody, and not for time alone
    verified_day: str  # the newest one; empty: none
    verified_days: int
    unequal: str  # the day whose copy cannot be made equal, and why

    @property
    def is_waiting(self) -> bool:
        """Is there anything that ClickHouse does not take?"""
        return bool(self.waits_for or self.days_wait_for)


def read_status(directory: Path) -> ShipStatus | None:
    """What the shipper said last; None without a shipper, or when this user may not look."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        with (directory / STATUS_FILE).open("rb") as file:
            told = json.loads(file.read(_MAX_BYTES))
        return ShipStatus(**{field.name: told[field.name] for field in fields(ShipStatus)})
    return None


def complaints(status: ShipStatus, now_ms: int) -> Iterator[Complaint]:
    """What is wrong with the copies in ClickHouse. The recording is none of it."""
    reason = f": {status.waits_for}" if status.waits_for else ""
    behind_sec = (now_ms - status.oldest_waiting_ms) / 1000 if status.oldest_waiting_ms else 0.0
    if not status.is_stopped and now_ms - status.written_ms > SILENT_SEC * 1000:
        text = f"hk-tick-ship says nothing any more (pid {status.pid})"
        yield Complaint(Code.COPY_BEHIND, Level.WARN, text, status.written_ms)
    elif status.is_refused and not status.is_stopped:
        text = f"ClickHouse takes no ticks{reason}"
        if not status.waits_for:
            text = f"ClickHouse lets no copy be proven: {status.days_wait_for}"
        yield Complaint(Code.COPY_BEHIND, Level.WARN, text, status.oldest_waiting_ms or None)
    elif behind_sec > BEHIND_SEC and not status.is_stopped:
        text = f"{counted(status.rows_behind, 'tick')} wait for ClickHouse, the oldest for {behind_sec:.0f} s{reason}"
        yield Complaint(Code.COPY_BEHIND, Level.WARN, text, status.oldest_waiting_ms)
    if status.unequal:
        text = f"the copy in ClickHouse cannot be made equal: {status.unequal}"
        yield Complaint(Code.COPY_UNEQUAL, Level.WARN, text)

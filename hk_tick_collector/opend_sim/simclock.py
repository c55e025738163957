"""Market time of the simulator: it starts where one likes and runs as fast as one likes.

Real time, a shifted day ("it is 2026-11-20 09:29:50 in Hong Kong"), a day in ten minutes and a week without its nights
are the same clock with other numbers. It is carried by the monotonic clock, so a step of the machine's wall clock never
moves the market.

``ClockFile`` tells other programs of the same machine what time the market has, so that they can live in it.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from hk_tick_collector.market.hk import HK
from hk_tick_collector.market.zone import Zone


def hk_time_ms(text: str) -> int:
    """A Hong Kong time (``2026-11-20T09:29:50``) in UTC epoch milliseconds. ValueError when it is none."""
    return time_ms(text, HK.zone)


def time_ms(text: str, zone: Zone) -> int:
    """A zone's local time (``2026-11-20T09:29:50``) in UTC epoch milliseconds. ValueError when it is none."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a time like 2026-11-20T09:29:50") from None
    return round(moment.replace(tzinfo=moment.tzinfo or zone.tzinfo).timestamp() * 1000)


_CLIENT, _COMMAND, _HOLD = "client", "command", "hold"  # what a clock may be stopped by


class Course(NamedTuple):
    """Market time as it goes from one moment on: ``from_ms`` at ``monotonic_sec``, then ``speed`` times real time."""

    from_ms: int
    monotonic_sec: float
    speed: float  # 0: it stands

    def at_ms(self, monotonic_sec: float) -> int:
        """UTC epoch milliseconds of the market at an instant of the machine's monotonic clock."""
        return self.from_ms + math.floor((monotonic_sec - self.monotonic_sec) * 1000 * self.speed)


class SimClock:
    """UTC epoch milliseconds that begin at ``start_ms`` (None: now) and run ``speed`` times real time.

    ``held``: time stands still until ``release``, so that whoever takes long to start misses nothing. Commands and
    ``hold`` stop it as well; it runs when nothing of these stops it any more.
    """

    def __init__(
        self,
        start_ms: int | None = None,
        speed: float = 1.0,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        held: bool = False,
    ) -> None:
        if not (math.isfinite(speed) and speed > 0):
            raise ValueError(f"clock speed {speed} is not a number above 0")
        self._monotonic = monotonic
        self._stopped_by = {_CLIENT} if held else set()
        self.speed = speed  # while it runs
        self.start_ms = time.time_ns() // 1_000_000 if start_ms is None else start_ms
        self._course = Course(self.start_ms, monotonic(), 0.0 if held else speed)
        self.on_change: Callable[[Course], None] = lambda _course: None

    @property
    def course(self) -> Course:
        """How it goes at present."""
        return self._course

    def now_ms(self) -> int:
        """Market time, UTC epoch milliseconds; never goes back."""
        return self._course.at_ms(self._monotonic())

    def real_sec_until(self, sim_ms: int) -> float:
        """Real seconds until market time is ``sim_ms`` at the clock's speed, as if it ran; 0 when it was reached."""
        return max(0.0, (sim_ms - self.now_ms()) / 1000 / self.speed)

    def release(self) -> None:
        """Let a clock that waits for a client run from now on; any other is not touched."""
        self._change(self._stopped_by - {_CLIENT})

    def stand(self) -> None:
        """Stand still until ``run``."""
        self._change(self._stopped_by - {_CLIENT} | {_COMMAND})

    def run(self) -> None:
        """Go on from the time it has."""
        self._change(self._stopped_by - {_CLIENT, _COMMAND})

    def hold(self, wanted: bool) -> None:
        """Stand as long as this is wanted, whatever else is: for who cannot keep up."""
        self._change(self._stopped_by | {_HOLD} if wanted else self._stopped_by - {_HOLD})

    def jump(self, to_ms: int) -> None:
        """Have ``to_ms`` at once, and stand or run as before. ValueError when that lies in the past."""
        if to_ms < self.now_ms():
            raise ValueError("market time never goes back")
        self._set(to_ms, self._course.speed)

    def _change(self, stopped_by: set[str]) -> None:
        if bool(stopped_by) != bool(self._stopped_by):
            self._set(self.now_ms(), 0.0 if stopped_by else self.speed)
        self._stopped_by = stopped_by

    def _set(self, from_ms: int, speed: float) -> None:
        self._course = Course(from_ms, self._monotonic(), speed)
        self.on_change(self._course)


class ClockFile:
    """One line ``from_ms monotonic_sec speed``, replaced at once whenever the market's clock is set.

    The monotonic clock is the machine's own (CLOCK_MONOTONIC since boot), which all its processes share.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, course: Course) -> None:
        """Replace the line. OSError as the disk says."""
        new = self.path.with_name(f"{self.path.name}.new")
        new.write_text(f"{course.from_ms} {course.monotonic_sec!r} {course.speed!r}\n", encoding="ascii")
        new.replace(self.path)

    def read(self) -> Course:
        """What the market's clock does at present. OSError when there is no file, ValueError when it is another's."""
        from_ms, monotonic_sec, speed = self.path.read_text(encoding="ascii").split()
        return Course(int(from_ms), float(monotonic_sec), float(speed))


class MarketTime:
    """The market's time in another process, by its clock file; asking costs 2 us."""

    def __init__(self, path: Path) -> None:
        self._file = ClockFile(path)
        self._seen: tuple[int, int] | None = None
        self._course = Course(0, 0.0, 0.0)

    @property
    def course(self) -> Course:
        """As the file says at this moment."""
        stat = os.stat(self._file.path)  # noqa: PTH116 - asked for every burst of ticks
        mark = stat.st_ino, stat.st_mtime_ns
        if mark != self._seen:
            self._course, self._seen = self._file.read(), mark
        return self._course

    def now_ms(self) -> int:
        """UTC epoch milliseconds of the market."""
        return self.course.at_ms(time.monotonic())

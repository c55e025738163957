"""The depth files of a live Sierra Chart: each is kept once its UTC day is over, on a thread of its own.

Packing a file takes seconds, so neither the thread that reads trades nor the loop waits for it. The thread runs as long
as its link; one that hangs in the file system is left to itself. A file that Sierra Chart changes later is kept again.

Limits: a look every ``LOOK_SEC``; files of the last ``BACK_DAYS`` days, ``MAX_FILES`` a look; a file that could not be
kept is tried again when it has changed.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Collection
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.errors import InputError, RecorderError
from hk_tick_collector.core.logline import RateLimitedLog, event
from hk_tick_collector.market.dates import DAY_MS, epoch_day
from hk_tick_collector.sources.sierra.depth import DIRECTORY, SUFFIX, parse_depth_name
from hk_tick_collector.sources.sierra.scid import ScidError

log = logging.getLogger(__name__)

LOOK_SEC = 60.0
OVER_MS = 10 * 60_000  # so long after its UTC day a file is taken for finished
BACK_DAYS = 7
MAX_FILES = 1000
NICE = 10


class Kept(Protocol):
    """What is said of a file that was kept."""

    @property
    def records(self) -> int: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def torn_bytes(self) -> int: ...


class DepthKeeper(Protocol):
    """Puts files beside their day, for instance ``imports.depth.DepthKeeper``."""

    def is_kept(self, path: Path) -> bool:
        """Is the file kept as it is now?"""

    def keep(self, path: Path, now_ms: int) -> Kept:
        """Keep it. OSError, RecorderError with a sentence."""


class _Failure(NamedTuple):
    size_bytes: int
    changed_ns: int


class DepthFiles:
    """``wanted``: the symbols whose files are kept."""

    def __init__(
        self, directory: Path, keeper: DepthKeeper, clock: Clock, wanted: Callable[[], Collection[str]]
    ) -> None:
        self.directory = directory / DIRECTORY
        self._keeper = keeper
        self._clock = clock
        self._wanted = wanted
        self._stop = threading.Event()
        self._failures: dict[str, _Failure] = {}
        self._log = RateLimitedLog(log, period_sec=3600)

    def start(self) -> None:
        """Look on a thread of its own, until ``stop``."""
        threading.Thread(target=self._run, name="sierra-depth", daemon=True).start()

    def stop(self) -> None:
        """At its next step."""
        self._stop.set()

    def _run(self) -> None:
        if hasattr(os, "setpriority"):  # of this thread alone, on Linux
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        while not self._stop.wait(LOOK_SEC):
            try:
                self.look()
            except Exception as exc:
                log.error(event("sierra_depth_failed", error=repr(exc), action="looking again"), exc_info=exc)

    def look(self) -> int:
        """Keep what is due; how many files that were."""
        kept_files = 0
        for path in self._due():
            if self._stop.is_set():
                break
            kept_files += self._keep(path)
        return kept_files

    def _due(self) -> list[Path]:
        """Files of wanted symbols whose day is over, oldest first. Not everybody records depth."""
        wanted, now_ms = self._wanted(), self._clock.now_ms()
        due: list[tuple[str, Path]] = []
        try:
            for path in self.directory.iterdir():
                if path.suffix != SUFFIX:
                    continue
                try:
                    name = parse_depth_name(path.name)
                except InputError:
                    continue  # of another exchange, or of another program
                age_ms = now_ms - (epoch_day(name.utc_day) + 1) * DAY_MS
                if name.symbol in wanted and OVER_MS <= age_ms < BACK_DAYS * DAY_MS:
                    due.append((name.utc_day, path))
        except FileNotFoundError:
            return []
        except OSError as exc:
            self._log.log(logging.WARNING, "sierra_depth_unread", dir=self.directory, error=exc.strerror or exc)
            return []
        return [path for _, path in islice(sorted(due), MAX_FILES)]

    def _keep(self, path: Path) -> bool:
        failure = None
        try:
            stat = path.stat()
            failure = _Failure(stat.st_size, stat.st_mtime_ns)
            if self._failures.get(path.name) == failure or self._keeper.is_kept(path):
                return False
            kept = self._keeper.keep(path, self._clock.now_ms())
        except (OSError, RecorderError) as exc:
            if failure is not None and isinstance(exc, (InputError, ScidError)):  # the file's own fault
                self._failures[path.name] = failure
            words = str(exc) if isinstance(exc, RecorderError) else exc.strerror or str(exc)
            action = "looked at again later; of what is wrong with the file itself, when it has changed"
            self._log.log(logging.WARNING, "sierra_depth_unkept", key=path.name, file=path, error=words, action=action)
            return False
        self._failures.pop(path.name, None)
        log.info(
            event(
                "sierra_depth_kept",
                file=path.name,
                records=kept.records,
                size_bytes=kept.size_bytes,
                torn_bytes=kept.torn_bytes,
            )
        )
        return True

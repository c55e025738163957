"""What was lost on our side and may still be shown by OpenD: seen, and asked for again once storing works.

Rows refused (neither queue nor spill took them), day files that were set aside, moved or removed, and files that could
not be read at the start: in each case what the feed holds for stored is no longer what the files hold. The files are
read aside. Until that of a day is known, the feed tells so with each symbol's first tick of it (``unknown_days``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from hk_tick_collector.core.aside import in_thread
from hk_tick_collector.core.facts import StoredTrack
from hk_tick_collector.core.logline import event
from hk_tick_collector.core.progress import IngestProgress
from hk_tick_collector.store.layout import parse_day

log = logging.getLogger(__name__)

MAX_PAUSE_CHECKS = 32  # a file that cannot be read is looked at less and less often

Tracks = dict[str, StoredTrack]


class LossWatch:
    """``read_tracks`` runs on a thread of its own and adds to its argument the files that it could not read now;
    ``resync`` and everything else belongs to the loop."""

    def __init__(
        self,
        progress: IngestProgress,
        spill_due: Callable[[], bool],
        read_tracks: Callable[[list[Path]], Tracks],
        resync: Callable[[Tracks], None],
        today: Callable[[], str],
    ) -> None:
        self._progress = progress
        self._spill_due = spill_due
        self._read_tracks = read_tracks
        self._resync = resync
        self._today = today
        self._seen = 0
        self._unread: list[Path] = []
        self._vain = self._pause_checks = 0

    @property
    def unknown_days(self) -> set[str]:
        """Days of today and later of which it is not known what their files hold."""
        return {day for path in self._unread if (day := parse_day(path) or "") >= self._today()}

    async def seed(self) -> Tracks:
        """What the files hold at the start; those that cannot be read now are read again by ``check``."""
        self._unread = []
        return await in_thread("seed", lambda: self._read_tracks(self._unread))

    async def seed_more(self) -> Tracks:
        """The same for a list of symbols that has grown."""
        unread: list[Path] = []
        known = await in_thread("seed", lambda: self._read_tracks(unread))
        self._unread += [path for path in unread if path not in self._unread]
        return known

    async def check(self) -> None:
        """If something was lost since the last look, and rows are stored again: read the files and ask for the rest."""
        progress = self._progress
        losses = progress.refused_rows + progress.files_set_aside + progress.files_replaced
        if not self._storing or (losses == self._seen and not self._may_be_read()):
            return
        unread_before = len(self._unread)
        refused_rows = progress.refused_rows
        known = await self.seed()
        if losses == self._seen and len(self._unread) >= unread_before:
            self._vain += 1
            self._pause_checks = min(2**self._vain, MAX_PAUSE_CHECKS)
            return  # the files that could not be read cannot be read yet
        self._vain = 0
        self._seen = losses
        progress.refused_rows_settled = refused_rows
        self._resync(known)
        log.warning(
            event(
                "resync",
                refused_rows=refused_rows,
                files_set_aside=progress.files_set_aside,
                files_replaced=progress.files_replaced,
            )
        )

    def _may_be_read(self) -> bool:
        """Is it time to look again at what could not be read? A day to come is read when it is there."""
        self._pause_checks -= 1
        return self._pause_checks < 0 and any((parse_day(path) or "") <= self._today() for path in self._unread)

    @property
    def _storing(self) -> bool:
        progress = self._progress
        trouble_monotonic = max(progress.last_error_monotonic, progress.last_refused_monotonic)
        return progress.last_commit_monotonic > trouble_monotonic and not self._spill_due()

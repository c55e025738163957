"""``hk-tickctl archive --to``: days into a bucket or another directory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hk_tick_collector.archive import copies, pack
from hk_tick_collector.archive.places import open_store
from hk_tick_collector.archive.stores import ArchiveStore
from hk_tick_collector.archive.verify import check_day
from hk_tick_collector.cli.archiving import day_file_of, none_of
from hk_tick_collector.cli.common import App, progress
from hk_tick_collector.core.errors import InputError, StoreCorrupt


@dataclass(frozen=True)
class Sending:
    """Days into a store. What the archive's directory has already is sent as it is."""

    store: ArchiveStore
    app: App
    kinds: Sequence[str]
    verify: bool
    sign: copies.Sign | None

    @classmethod
    def to(cls, place: str, app: App, kinds: Sequence[str], verify: bool, sign: copies.Sign | None) -> Sending:
        """InputError for a place that is none, or the archive itself."""
        store = open_store(place)
        if store.place == str(app.archive_root):
            raise InputError(f"{place} is the archive itself: archive without --to")
        return cls(store, app, kinds, verify, sign)

    def due_days(self) -> list[str]:
        """Those that are over and not in the store as they are. NoData when there is no day at all."""
        app = self.app
        with progress(f"asking {self.store.place}"):
            sent = set(copies.sent_days(self.store))
        live, now_ms = app.catalog.live_days(), app.now_ms
        archived = [day for day in app.catalog.archived_days() if day not in live]
        if not live and not archived:
            raise none_of(app, "there is no day to archive")
        over = [day for day in live if pack.is_over(day, app.calendar, now_ms)]
        return sorted(day for day in (*over, *archived) if day not in sent or (day in live and not self._is_sent(day)))

    def _is_sent(self, day: str) -> bool:
        db = day_file_of(self.app, day)
        with copies.staging() as there:
            return db is not None and copies.is_sent(self.store, day, db, there, is_signed=self.sign is not None)

    def work(self, day: str, on_rows: Any) -> pack.Outcome:
        """Send one day, inside ``archive_job``."""
        with copies.staging(self.app.archive_root) as there:
            root = self._archived(day, there, on_rows)
            return copies.send_day(root, day, self.store, there, read_back=self.verify, sign=self.sign)

    def _archived(self, day: str, there: Path, on_rows: Any) -> Path:
        """Where an archive of the day stands: the usual one where it is good, else made under ``there``."""
        app = self.app
        if day_file_of(app, day) is None:
            check = check_day(app.archive_root, day, None, on_rows) if self.verify else None
            if check is not None and not check.fine:
                raise StoreCorrupt(f"the archive of {day} is not sent: {'; '.join(check.problems)}")
            return app.archive_root
        pack.check_at_rest(app.data_root, day, app.calendar, app.now_ms)
        kinds = {*self.kinds, *copies.kinds_sent(self.store, day, there)}
        if pack.is_archived(app.data_root, app.archive_root, day, kinds) and (
            not self.verify or check_day(app.archive_root, day, day_file_of(app, day), on_rows).fine
        ):
            return app.archive_root
        made = there / "made"
        pack.archive_day(
            app.data_root, made, day, kinds, verify=self.verify, made_at_ms=app.now_ms, on_rows=on_rows
        )  # fmt: skip
        return made

"""The follower against a model: any order of commits, deaths, set-asides, salvages, exchanges, migrations and restarts.

The truth is the file itself: its rows in order of rowid. What was seen of a day must be the beginning of it, and all of
it once the follower says that nothing is behind; unless the follower said that the day must be read again.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import shutil
import sqlite3
import tempfile
from pathlib import Path

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from hk_tick_collector.core.errors import StoreBusy
from hk_tick_collector.records.tick import Tick
from hk_tick_collector.store import open_files
from hk_tick_collector.store import salvage as salvage_module
from hk_tick_collector.store import writer as writer_module
from hk_tick_collector.store.compact import compact
from hk_tick_collector.store.file_stream import LET_GO_SEC
from hk_tick_collector.store.follow import Follower
from hk_tick_collector.store.position import ROW, DayChanged, DayGone, Position
from hk_tick_collector.store.read_only import open_read_only, select_list
from hk_tick_collector.store.salvage import salvage
from hk_tick_collector.store.writer import DayFileWriter
from tests.nights import examples
from tests.unit.store_ticks import query, tick
from tests.unit.test_store_connect import LEGACY_ROW, make_legacy

DAYS = ("20261118", "20261119", "20261120")
OPEND_MS, RECV_MS = ROW.index("opend_recv_ts_ms"), ROW.index("recv_ts_ms")
SPREAD_MS = 1_000_000  # of the made-up times of change, so that no two look alike


def token(row: tuple[object, ...]) -> object:
    """What tells a stored row for ever: of ours OpenD's time, which the store neither changes nor compares."""
    return row[OPEND_MS] if row[OPEND_MS] is not None else ("legacy", row[RECV_MS])


QUIET = (salvage_module.__name__, writer_module.__name__, open_files.__name__)  # thousands of lines, all expected


class FollowMachine(RuleBasedStateMachine):
    """``seen``: for each day the rowid and the token of what the follower gave, in its order, since it last began."""

    def __init__(self) -> None:
        super().__init__()
        for name in QUIET:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self.root = Path(tempfile.mkdtemp())
        self.day = DAYS[0]
        self.numbers = itertools.count(1)
        self.backdated = itertools.count(1)
        self.loose: list[Tick] = []
        self.aside: list[Path] = []
        self.away: Path | None = None
        self.seen: dict[str, list[tuple[object, object]]] = {}
        self.position = Position()
        self.now_sec = 0.0
        self.writer = DayFileWriter(self.root)
        self.follower = self.new_follower()

    def new_follower(self) -> Follower:
        return Follower(self.root, days_look_sec=0, monotonic=lambda: self.now_sec)

    def teardown(self) -> None:
        for name in QUIET:
            logging.getLogger(name).setLevel(logging.NOTSET)
        self.writer.close()
        self.follower.close()
        shutil.rmtree(self.root)

    @property
    def db(self) -> Path:
        return self.root / f"{self.day}.db"

    @initialize(legacy_rows=st.integers(0, 3))
    def begin_with_a_file_of_an_earlier_recorder(self, legacy_rows: int) -> None:
        if not legacy_rows:
            return
        make_legacy(self.db)
        with contextlib.closing(sqlite3.connect(self.db)) as conn, conn:
            for n in range(legacy_rows):
                row = list(LEGACY_ROW)
                row[2], row[7], row[12] = row[2] + n, row[7] + n, n
                conn.execute(f"INSERT INTO ticks VALUES ({', '.join('?' * 14)})", row)

    def made(self, **changes: object) -> Tick:
        number = next(self.numbers)
        return tick(number, day=self.day, **changes)._replace(opend_recv_ts_ms=number)

    @rule(count=st.integers(1, 5), loose=st.integers(0, 2), twins=st.booleans())
    def commit(self, count: int, loose: int, twins: bool) -> None:
        rows = [self.made() for _ in range(count)]
        without = [self.made(seq=None) for _ in range(loose)]
        if twins and rows:
            rows = [row._replace(ts_ms=rows[0].ts_ms, recv_ts_ms=rows[0].recv_ts_ms) for row in rows]
        self.writer.write([*rows, *without])
        self.loose += without

    @precondition(lambda self: self.loose)
    @rule()
    def a_row_gets_its_sequence(self) -> None:
        row = self.loose.pop()
        self.writer.write([tick(row.ts_ms - tick(0).ts_ms, day=row.trading_day)])

    @rule()
    def late_rows_of_the_day_before(self) -> None:
        day = DAYS[max(0, DAYS.index(self.day) - 1)]
        self.writer.write([self.made()._replace(trading_day=day)])

    @rule()
    def the_writer_starts_again(self) -> None:
        self.writer.close()
        self.writer = DayFileWriter(self.root)

    @rule()
    def the_writer_closes_the_day(self) -> None:
        self.writer.close_day(self.day)

    @precondition(lambda self: self.day != DAYS[-1])
    @rule()
    def the_next_day(self) -> None:
        self.day = DAYS[DAYS.index(self.day) + 1]

    @rule()
    def set_aside(self) -> None:
        moved = self.writer.set_aside(self.day, "the model")
        if moved is not None:
            self.aside.append(moved)

    @precondition(lambda self: self.aside)
    @rule(lose=st.booleans())
    def salvage(self, lose: bool) -> None:
        source = self.aside.pop()
        if lose:
            with contextlib.closing(sqlite3.connect(source)) as conn, conn:
                conn.execute("DELETE FROM ticks WHERE rowid = (SELECT MIN(rowid) FROM ticks)")
        salvage(source, self.root / source.name.split(".corrupt")[0])

    @rule()
    def vacuum(self) -> None:
        self.writer.close()
        if self.db.exists():
            with contextlib.closing(sqlite3.connect(self.db)) as conn:
                conn.execute("VACUUM")

    @rule(which=st.integers(0, 10))
    def somebody_deletes_a_row(self, which: int) -> None:
        self.writer.close()
        if not self.db.exists():
            return
        with contextlib.closing(sqlite3.connect(self.db)) as conn, conn:
            conn.execute("DELETE FROM ticks WHERE rowid = ?", (which,))

    @rule()
    def compact(self) -> None:
        self.writer.close()
        if self.db.exists():
            with contextlib.suppress(StoreBusy):
                compact(self.db, lambda path: query(path, "SELECT rowid, * FROM ticks ORDER BY rowid"))

    @rule()
    def a_copy_takes_the_files_place(self) -> None:
        self.writer.close()
        if self.db.exists():
            shutil.copy(self.db, self.root / "copy")
            (self.root / "copy").replace(self.db)

    @rule(in_place=st.booleans(), lost=st.integers(1, 3), again=st.integers(0, 4))
    def commits_are_taken_back(self, in_place: bool, lost: int, again: int) -> None:
        """As by a power cut, or by whoever brings back a backup; some were read already, and others come instead."""
        self.writer.close()
        backup = self.db.read_bytes() if self.db.exists() else None
        self.commit(lost, 0, False)
        self.read_all()
        self.writer.close()
        self.follower.close()  # over an open database in place: what SQLite shows then is anybody's guess
        for name in ("-wal", "-shm"):
            self.db.with_name(self.db.name + name).unlink(missing_ok=True)
        if backup is None:
            self.db.unlink()
        elif in_place:
            self.db.write_bytes(backup)
        else:
            (self.root / "restored").write_bytes(backup)
            (self.root / "restored").replace(self.db)
        if again:
            self.commit(again, 0, False)

    @rule(before=st.integers(1, 2), behind=st.integers(0, 2), lose=st.booleans())
    def a_file_is_damaged_and_salvaged_in_the_middle(self, before: int, behind: int, lose: bool) -> None:
        """Of a file that begins anew: there rows that are stored first can take the place of the one that is lost."""
        self.set_aside()
        self.commit(before, 0, False)
        self.commit(0, 1, False)
        self.read_all()
        self.commit(behind, 0, False)
        self.set_aside()
        self.salvage(lose)
        self.read_all()

    @rule()
    def the_file_goes_away_or_comes_back(self) -> None:
        self.writer.close()
        if self.away is not None and not self.db.exists() and self.away.name.startswith(self.day):
            self.away.rename(self.db)
            self.away = None
        elif self.away is None and self.db.exists() and not self.db.with_name(f"{self.db.name}-wal").exists():
            self.away = self.db.with_name(f"{self.day}.away")
            self.db.rename(self.away)

    @rule()
    def time_passes(self) -> None:
        """Files look old from outside, and idle connections are let go."""
        self.now_sec += LET_GO_SEC + 1
        for path in self.root.iterdir():
            os.utime(path, ns=(0, next(self.backdated) * SPREAD_MS))

    @rule()
    def the_follower_starts_again(self) -> None:
        self.follower.close()
        self.follower = self.new_follower()
        self.position = Position.parse(str(self.position))

    @rule(back_rows=st.integers(0, 4))
    def it_begins_at_the_end(self, back_rows: int) -> None:
        """What was before counts as seen: none of it may be given, and none of what comes behind may be left out. A
        file that is away at that moment was not there: when it comes back, its rows are new."""
        self.position = Position.parse(str(self.follower.end(back_rows)))
        self.seen.clear()
        for place in self.position.places:
            self.seen[place.day] = [row for row in self.truth(place.day) if row[0] <= place.rowid]

    @rule(limit_rows=st.sampled_from([1, 2, 5, 1000]))
    def read_some(self, limit_rows: int) -> None:
        self.read(limit_rows)

    @rule()
    def read_all(self) -> None:
        while self.read(3):
            pass
        for place in self.position.places:
            if (self.root / f"{place.day}.db").exists():
                self.check(place.day, whole=True)

    def read(self, limit_rows: int) -> bool:
        """One call. False when nothing is behind the position."""
        try:
            batch = self.follower.read_behind(self.position, limit_rows)
        except DayChanged as exc:
            self.begin_again(exc)
            return True
        except DayGone as exc:
            self.give_up(exc)
            return True
        if batch is None:
            return False
        self.position = batch.position
        self.seen.setdefault(batch.day, []).extend((row[0], token(row)) for row in batch.rows)
        if (self.root / f"{batch.day}.db").exists():
            self.check(batch.day)
        return True

    def begin_again(self, changed: DayChanged) -> None:
        seen = self.seen[changed.day]
        read_all = all(place.unread == 0 for place in self.position.places if place.day == changed.day)
        assert not read_all or self.truth(changed.day)[: len(seen)] != seen, "said to be changed, and is not"
        self.seen[changed.day] = []
        self.position = changed.onward

    def give_up(self, gone: DayGone) -> None:
        assert not (self.root / f"{gone.day}.db").exists()
        self.position = gone.onward

    def truth(self, day: str) -> list[tuple[object, object]]:
        path = self.root / f"{day}.db"
        if not path.exists():
            return []
        with contextlib.closing(open_read_only(path)) as conn:
            rows = conn.execute(f"SELECT rowid, {select_list(conn, ROW[1:])} FROM ticks ORDER BY rowid").fetchall()
        return [(row[0], token(row)) for row in rows]

    def check(self, day: str, *, whole: bool = False) -> None:
        """What was seen and is still there is the beginning of the file, or all of it."""
        truth = self.truth(day)
        there = set(truth)
        seen = [row for row in self.seen.get(day, []) if row in there]
        assert seen == (truth if whole else truth[: len(seen)])
        assert len(self.seen.get(day, [])) == len(set(self.seen.get(day, [])))


TestFollowModel = FollowMachine.TestCase
TestFollowModel.settings = settings(
    max_examples=examples(60), stateful_step_count=40, deadline=None, phases=[Phase.generate]
)

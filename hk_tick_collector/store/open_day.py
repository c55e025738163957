"""A day file that the writer has open: the connection, and what the writer's own commits tell of the file.

One thread's, as the writer is; only ``conn`` may be interrupted from another. What is known here goes with the
connection: after an error that may lie in it both are dropped, and the next batch begins with what the file says.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from hk_tick_collector.store.companions import Mark, WalLook
from hk_tick_collector.store.coverage import DayCoverage


class OpenDay:
    """One open file. The writer fills in what it learns; None is what it does not know."""

    __slots__ = (
        "conn", "count_at_sec", "coverage", "data_version", "left_as", "opened_as", "path", "rows_before",
        "stored_rows", "wal_look",
    )  # fmt: skip

    def __init__(self, path: Path, conn: sqlite3.Connection, opened_as: Mark) -> None:
        self.path = path
        self.conn = conn
        self.opened_as = opened_as
        self.coverage: DayCoverage | None = None  # None: load it from the file
        self.data_version: int | None = None  # SQLite's mark of what others committed, as of our last commit
        self.left_as: Mark | None = None  # the file as our last commit left it
        self.count_at_sec: float | None = None  # others committed: to be counted, not before (monotonic)
        self.wal_look: WalLook | None = None
        self.stored_rows = 0  # as loaded, and what our commits added
        self.rows_before = 0  # the same when the connection before this one was left; fewer are not that file's

    def is_at(self, mark: Mark | None) -> bool:
        """Is it the file that is at the path, which has this mark now? None: there is none."""
        opened = self.opened_as
        return mark is not None and (mark.device, mark.inode) == (opened.device, opened.inode)

    def is_last_writer(self) -> bool:
        """Did nobody else commit through SQLite since our last commit?"""
        return bool(self.conn.execute("PRAGMA data_version").fetchone()[0] == self.data_version)

    def roll_back(self) -> bool:
        """Give up the transaction, if there is one; False when SQLite does not even do that."""
        with contextlib.suppress(sqlite3.Error):
            if self.conn.in_transaction:
                self.conn.execute("ROLLBACK")
            return True
        return False

    def drop(self) -> None:
        """Close a connection that may be broken; whatever it still complains about changes nothing."""
        self.roll_back()
        with contextlib.suppress(sqlite3.Error):
            self.conn.close()

    def checkpoint_and_close(self, journal_mode: str) -> None:
        """The WAL goes into the database, and away unless somebody else reads it. sqlite3.Error."""
        try:
            if journal_mode.upper() == "WAL":
                self.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            self.conn.close()

"""What has to be told, on the disk before it is sent: SQLite in a directory of the program's own.

A letter is for one target. Tellings that come within GROUP_MS of each other go into one letter. It is sent at least
once: its id is in it. What cannot be sent is tried again, later each time; after a day it is given up, which the next
letter to that target says. Events and mutes are here, too, so that a restart tells nothing twice.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hk_tick_collector.alert.events import Event
from hk_tick_collector.core.complaint import Level
from hk_tick_collector.store.connect import as_store_error
from hk_tick_collector.store.layout import FILE_MODE, make_dir

OUTBOX_FILE = "outbox.db"
GROUP_MS = 4_000  # a letter waits so long for more
RETRY_SEC = (1, 2, 5, 15, 60, 300)
GIVE_UP_MS = 24 * 3600 * 1000
KEEP_MS = 30 * 24 * 3600 * 1000
MAX_LINES = 40  # of a letter
MAX_WAITING = 500  # letters of a target; more than that is one that nobody reads
_SCHEMA = """
CREATE TABLE IF NOT EXISTS letters (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  target TEXT NOT NULL,
  kind TEXT NOT NULL,
  level TEXT NOT NULL,
  lines TEXT NOT NULL,
  created_ms INTEGER NOT NULL,
  due_ms INTEGER NOT NULL,
  tries INTEGER NOT NULL DEFAULT 0,
  reason TEXT,
  sent_ms INTEGER,
  given_up_ms INTEGER
) STRICT;
CREATE INDEX IF NOT EXISTS letters_waiting ON letters (target, due_ms) WHERE sent_ms IS NULL AND given_up_ms IS NULL;
CREATE VIEW IF NOT EXISTS waiting AS SELECT * FROM letters WHERE sent_ms IS NULL AND given_up_ms IS NULL;
CREATE TABLE IF NOT EXISTS events (key TEXT PRIMARY KEY, event TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS mutes (code TEXT PRIMARY KEY, until_ms INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS held (
  number INTEGER PRIMARY KEY AUTOINCREMENT, target TEXT NOT NULL, line TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS done (what TEXT PRIMARY KEY, at_ms INTEGER NOT NULL) STRICT;
"""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A letter that has to be sent."""

    number: int
    target: str
    kind: str  # event, digest, test
    level: Level
    lines: tuple[str, ...]
    created_ms: int
    tries: int


class Outbox:
    """The file. One program writes (it holds the directory's lock); ``hk-tickctl alert`` reads, and mutes.

    Not for several threads: each opens its own. StoreError when the disk does not let us.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / OUTBOX_FILE
        make_dir(directory)
        with self._own_errors():
            self._conn = sqlite3.connect(self.path, timeout=5, isolation_level=None)
            self.path.chmod(FILE_MODE)
            self._conn.executescript(_SCHEMA)

    def close(self) -> None:
        """Let it go."""
        self._conn.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or nothing."""
        with self._own_errors():
            self._conn.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._conn.execute("ROLLBACK")
                raise
            self._conn.execute("COMMIT")

    @contextmanager
    def _own_errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as exc:
            raise as_store_error(exc, self.path) from exc

    # Letters

    def begin(self, now_ms: int) -> None:
        """At a start everything that waits is due: what it waited for may have been said by another clock."""
        with self._own_errors():
            self._conn.execute(
                "UPDATE letters SET due_ms = min(due_ms, ?), created_ms = min(created_ms, ?)"
                " WHERE number IN (SELECT number FROM waiting)",
                (now_ms, now_ms),
            )

    def add(self, target: str, level: Level, lines: Sequence[str], now_ms: int, kind: str = "event") -> None:
        """Put lines into the letter that waits for more, else into a new one."""
        with self._own_errors():
            open_row = self._conn.execute(
                "SELECT number, lines, level FROM waiting WHERE target = ? AND kind = ? AND tries = 0 AND due_ms > ?"
                " ORDER BY number DESC LIMIT 1",
                (target, kind, now_ms),
            ).fetchone()
            if open_row is not None and kind == "event":
                number, text, known = open_row
                merged = [*json.loads(text), *lines]
                gravest = Level.ALERT if Level.ALERT in (level, known) else level
                self._conn.execute(
                    "UPDATE letters SET lines = ?, level = ? WHERE number = ?", (json.dumps(merged), gravest, number)
                )
                return
            due_ms = now_ms + (GROUP_MS if kind == "event" else 0)
            self._conn.execute(
                "INSERT INTO letters (target, kind, level, lines, created_ms, due_ms) VALUES (?, ?, ?, ?, ?, ?)",
                (target, kind, level, json.dumps(list(lines)), now_ms, due_ms),
            )

    def due(self, target: str, now_ms: int) -> Waiting | None:
        """The next letter of a target: alerts first, then the oldest."""
        with self._own_errors():
            row = self._conn.execute(
                "SELECT number, target, kind, level, lines, created_ms, tries FROM waiting"
                " WHERE target = ? AND due_ms <= ? ORDER BY level <> 'alert', kind = 'digest', number LIMIT 1",
                (target, now_ms),
            ).fetchone()
        if row is None:
            return None
        number, name, kind, level, lines, created_ms, tries = row
        return Waiting(number, name, kind, Level(level), tuple(json.loads(lines)), created_ms, tries)

    def sent(self, letter: Waiting, now_ms: int) -> None:
        """The other side has it."""
        with self._own_errors():
            self._conn.execute(
                "UPDATE letters SET sent_ms = ?, reason = NULL WHERE number = ?", (now_ms, letter.number)
            )

    def failed(self, letter: Waiting, reason: str, now_ms: int, retry_after_sec: float | None = None) -> bool:
        """Not taken: when it is tried again. True when it is given up now; the next letter says so."""
        with self._own_errors():
            if now_ms - letter.created_ms >= GIVE_UP_MS:
                self._conn.execute(
                    "UPDATE letters SET given_up_ms = ?, reason = ? WHERE number = ?", (now_ms, reason, letter.number)
                )
                return True
            wait_sec = max(RETRY_SEC[min(letter.tries, len(RETRY_SEC) - 1)], retry_after_sec or 0)
            # The target is away, not the letter: nothing else is sent to it meanwhile.
            self._conn.execute(
                "UPDATE letters SET tries = tries + (number = ?), due_ms = max(due_ms, ?), reason = ?"
                " WHERE number IN (SELECT number FROM waiting WHERE target = ?)",
                (letter.number, now_ms + int(wait_sec * 1000), reason, letter.target),
            )
            return False

    def given_up(self, target: str, after_ms: int) -> int:
        """How many letters to a target were given up since its last one arrived."""
        with self._own_errors():
            row = self._conn.execute(
                "SELECT count(*) FROM letters WHERE target = ? AND given_up_ms >"
                " max(?, (SELECT coalesce(max(sent_ms), 0) FROM letters WHERE target = ?))",
                (target, after_ms, target),
            ).fetchone()
        return int(row[0])

    def waiting(self, target: str) -> int:
        """How many letters of a target are not sent."""
        with self._own_errors():
            row = self._conn.execute("SELECT count(*) FROM waiting WHERE target = ?", (target,)).fetchone()
        return int(row[0])

    def recent(self, limit: int) -> list[dict[str, Any]]:
        """The newest letters, for ``hk-tickctl alert list``."""
        with self._own_errors():
            cursor = self._conn.execute("SELECT * FROM letters ORDER BY number DESC LIMIT ?", (limit,))
            names = [column[0] for column in cursor.description]
            rows = [dict(zip(names, row, strict=True)) for row in cursor]
        return [{**row, "lines": json.loads(row["lines"])} for row in rows]

    # What waits for the digest

    def hold(self, target: str, line: str) -> None:
        """A line for a target's next digest; the newest MAX_WAITING are kept."""
        with self._own_errors():
            self._conn.execute("INSERT INTO held (target, line) VALUES (?, ?)", (target, line))
            self._conn.execute(
                "DELETE FROM held WHERE target = ? AND number <= (SELECT max(number) FROM held) - ?",
                (target, MAX_WAITING),
            )

    def take_held(self, target: str) -> list[str]:
        """Those lines; they are gone with it."""
        with self._own_errors():
            rows = self._conn.execute("SELECT line FROM held WHERE target = ? ORDER BY number", (target,)).fetchall()
            self._conn.execute("DELETE FROM held WHERE target = ?", (target,))
        return [line for (line,) in rows]

    # Events, mutes, and what is done once

    def keep_events(self, events: Iterable[Event]) -> None:
        """All of them, instead of those before."""
        with self._own_errors():
            self._conn.execute("DELETE FROM events")
            self._conn.executemany(
                "INSERT INTO events VALUES (?, ?)", [(event.key, json.dumps(asdict(event))) for event in events]
            )

    def events(self) -> list[Event]:
        """As they were kept."""
        with self._own_errors():
            rows = self._conn.execute("SELECT event FROM events").fetchall()
        found = []
        for (text,) in rows:
            data = json.loads(text)
            data["level"], data["changes_ms"] = Level(data["level"]), tuple(data["changes_ms"])
            found.append(Event(**data))
        return found

    def mute(self, code: str, until_ms: int) -> None:
        """Nothing is told about a code until then; a time in the past ends it."""
        with self._own_errors():
            self._conn.execute("INSERT OR REPLACE INTO mutes VALUES (?, ?)", (code, until_ms))

    def mutes(self, now_ms: int) -> dict[str, int]:
        """Codes that are muted now, and until when."""
        with self._own_errors():
            return dict(self._conn.execute("SELECT code, until_ms FROM mutes WHERE until_ms > ?", (now_ms,)).fetchall())

    def first_time(self, what: str, now_ms: int) -> bool:
        """Is this the first time that somebody asks for it?"""
        with self._own_errors():
            return self._conn.execute("INSERT OR IGNORE INTO done VALUES (?, ?)", (what, now_ms)).rowcount == 1

    def tidy(self, now_ms: int) -> None:
        """Forget what is over for a month, and of a target that nobody reads the oldest letters."""
        with self._own_errors():
            old_ms = now_ms - KEEP_MS
            self._conn.execute("DELETE FROM letters WHERE coalesce(sent_ms, given_up_ms) < ?", (old_ms,))
            self._conn.execute("DELETE FROM done WHERE at_ms < ?", (old_ms,))
            self._conn.execute("DELETE FROM mutes WHERE until_ms < ?", (now_ms,))
            for (target,) in self._conn.execute("SELECT DISTINCT target FROM waiting").fetchall():
                self._conn.execute(
                    "UPDATE letters SET given_up_ms = ? WHERE number IN (SELECT number FROM waiting WHERE target = ?"
                    " ORDER BY number DESC LIMIT -1 OFFSET ?)",
                    (now_ms, target, MAX_WAITING),
                )

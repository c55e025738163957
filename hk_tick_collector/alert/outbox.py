"""What has to be told, on the disk before it is sent: SQLite in a directory of the program's own.

A letter is for one target. Tellings that come within GROUP_MS of each other go into one letter. It is sent at least
once: its id is in it. What cannot be sent is tried again, later each time; after a day it is given up, which the next
letter to that target says. Events and mutes are here, too, so that a restart tells nothing twice.

A letter that was sent, and whose target can change it, is edited when a state that it tells of goes on or ends: its
lines here are always what it shall show. What is told by such an edit alone, and cannot be, becomes a letter
of its own.
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
MAX_EDIT_TRIES = 12  # about half an hour: then it is told in a letter of its own
MAX_FAILURES = 200  # failed units that nobody read of
MAX_MUTE_SEC = 7 * 24 * 3600  # a longer one is a rule that is switched off, in the file
MERGED_KINDS = ("event", "signal")
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
CREATE TABLE IF NOT EXISTS told (
  target TEXT NOT NULL, key TEXT NOT NULL, number INTEGER NOT NULL, line INTEGER NOT NULL, PRIMARY KEY (target, key)
) STRICT;
CREATE TABLE IF NOT EXISTS failures (
  number INTEGER PRIMARY KEY AUTOINCREMENT, unit TEXT NOT NULL, reason TEXT NOT NULL, at_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS marks (what TEXT PRIMARY KEY, number INTEGER NOT NULL) STRICT;
"""
# Of letters, since they are edited: what names the message at the target, and when it is to be changed.
_ADDED = {
    "receipt": "TEXT",
    "edit_ms": "INTEGER",
    "edit_tries": "INTEGER NOT NULL DEFAULT 0",
    "edit_alone": "TEXT",  # lines that nothing but the edit tells
}


@dataclass(frozen=True, slots=True)
class Waiting:
    """A letter that has to be sent."""

    number: int
    target: str
    kind: str  # event, signal, digest, test
    level: Level
    lines: tuple[str, ...]
    created_ms: int
    tries: int


@dataclass(frozen=True, slots=True)
class Edit:
    """A letter that was sent and shall now read otherwise. ``receipt``: what the target calls it."""

    letter: Waiting
    receipt: str


@dataclass(frozen=True, slots=True)
class Failure:
    """A unit that the service manager saw fail."""

    number: int
    unit: str
    reason: str
    at_ms: int


class Outbox:
    """The file. One program writes (it holds the directory's lock); ``hk-tickctl alert`` and the API read, and mute.

    Not for several threads: each opens its own. StoreError when the disk does not let us.
    """

    def __init__(self, directory: Path, *, read_only: bool = False) -> None:
        """``read_only``: for somebody who may read the file and not write beside it; it must be there."""
        self.path = directory / OUTBOX_FILE
        with self._own_errors():
            if read_only:
                self._conn = sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", timeout=5, uri=True)
                self._conn.execute("SELECT 1 FROM letters LIMIT 1")
                return
            make_dir(directory)
            self._conn = sqlite3.connect(self.path, timeout=5, isolation_level=None)
            self.path.chmod(FILE_MODE)
            self._conn.executescript(_SCHEMA)
        with self.transaction():
            there = {row[1] for row in self._conn.execute("PRAGMA table_info(letters)")}
            for column, kind in _ADDED.items():
                if column not in there:
                    self._conn.execute(f"ALTER TABLE letters ADD COLUMN {column} {kind}")

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

    def add(
        self,
        target: str,
        level: Level,
        lines: Sequence[str],
        now_ms: int,
        kind: str = "event",
        *,
        room_chars: int = 100_000,
        key: str | None = None,
    ) -> None:
        """Put lines into the letter that waits for more, if they fit, else into a new one.

        ``key``: the event that the first line is about, so that ``change`` finds it.
        """
        with self._own_errors():
            waiting = self._open_letter(target, kind, now_ms)
            known = [] if waiting is None else json.loads(waiting[1])
            merged = [*known, *lines]
            if waiting is None or len(merged) > MAX_LINES or sum(len(line) + 1 for line in merged) > room_chars:
                known, due_ms = [], now_ms + (GROUP_MS if kind in MERGED_KINDS else 0)
                number = self._conn.execute(
                    "INSERT INTO letters (target, kind, level, lines, created_ms, due_ms) VALUES (?, ?, ?, ?, ?, ?)",
                    (target, kind, level, json.dumps(list(lines)), now_ms, due_ms),
                ).lastrowid
            else:
                number = waiting[0]
                gravest = Level.ALERT if Level.ALERT in (level, waiting[2]) else level
                self._conn.execute(
                    "UPDATE letters SET lines = ?, level = ? WHERE number = ?", (json.dumps(merged), gravest, number)
                )
            if key is not None:
                self._conn.execute("INSERT OR REPLACE INTO told VALUES (?, ?, ?, ?)", (target, key, number, len(known)))

    def _open_letter(self, target: str, kind: str, now_ms: int) -> tuple[int, str, str] | None:
        """Number, lines and level of the newest letter that still waits for more."""
        if kind not in MERGED_KINDS:
            return None
        row: tuple[int, str, str] | None = self._conn.execute(
            "SELECT number, lines, level FROM waiting WHERE target = ? AND kind = ? AND tries = 0 AND due_ms > ?"
            " ORDER BY number DESC LIMIT 1",
            (target, kind, now_ms),
        ).fetchone()
        return row

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

    def sent(self, letter: Waiting, now_ms: int, receipt: str | None = None) -> None:
        """The other side has it, and calls it so."""
        with self._own_errors():
            self._conn.execute(
                "UPDATE letters SET sent_ms = ?, reason = NULL, receipt = ? WHERE number = ?",
                (now_ms, receipt, letter.number),
            )

    def failed(self, letter: Waiting, reason: str, now_ms: int, retry_after_sec: float | None = None) -> bool:
        """Not taken: when it is tried again. True when it is given up now; the next letter says so."""
        with self._own_errors():
            if now_ms - letter.created_ms >= GIVE_UP_MS:
                self._conn.execute(
                    "UPDATE letters SET given_up_ms = ?, reason = ? WHERE number = ?", (now_ms, reason, letter.number)
                )
                return True
            self._conn.execute("UPDATE letters SET tries = tries + 1 WHERE number = ?", (letter.number,))
            self._wait(letter, reason, now_ms, retry_after_sec)
            return False

    def _wait(self, letter: Waiting, reason: str, now_ms: int, retry_after_sec: float | None) -> None:
        """The target is away, not the letter: nothing else is sent to it meanwhile."""
        wait_sec = max(RETRY_SEC[min(letter.tries, len(RETRY_SEC) - 1)], retry_after_sec or 0)
        until_ms = now_ms + int(wait_sec * 1000)
        self._conn.execute(
            "UPDATE letters SET due_ms = max(due_ms, ?), reason = ?"
            " WHERE number IN (SELECT number FROM waiting WHERE target = ?)",
            (until_ms, reason, letter.target),
        )
        self._conn.execute(
            "UPDATE letters SET edit_ms = max(edit_ms, ?) WHERE target = ? AND edit_ms IS NOT NULL",
            (until_ms, letter.target),
        )

    # Letters that were sent and are changed

    def change(self, target: str, key: str, line: str, now_ms: int, *, alone: bool) -> bool:
        """Have the message that told of an event say ``line`` of it instead; False when there is no such message, or
        it cannot be changed. ``alone``: nothing else will tell it."""
        with self._own_errors():
            row = self._conn.execute(
                "SELECT letters.number, lines, line, edit_alone FROM told JOIN letters USING (number)"
                " WHERE told.target = ? AND key = ? AND receipt IS NOT NULL",
                (target, key),
            ).fetchone()
            if row is None:
                return False
            number, text, at, alone_text = row
            lines = json.loads(text)
            lines[at] = line
            left = json.loads(alone_text) if alone_text else []
            if alone:
                left = [*left[-MAX_LINES + 1 :], line]
            self._conn.execute(
                "UPDATE letters SET lines = ?, edit_alone = ?, edit_ms = coalesce(edit_ms, ?) WHERE number = ?",
                (json.dumps(lines), json.dumps(left), now_ms + GROUP_MS, number),
            )
            return True

    def edit_due(self, target: str, now_ms: int) -> Edit | None:
        """The next message of a target that has to be changed."""
        with self._own_errors():
            row = self._conn.execute(
                "SELECT number, target, kind, level, lines, created_ms, edit_tries, receipt FROM letters"
                " WHERE target = ? AND edit_ms <= ? AND receipt IS NOT NULL ORDER BY edit_ms LIMIT 1",
                (target, now_ms),
            ).fetchone()
        if row is None:
            return None
        number, name, kind, level, lines, created_ms, tries, receipt = row
        return Edit(Waiting(number, name, kind, Level(level), tuple(json.loads(lines)), created_ms, tries), receipt)

    def edited(self, edit: Edit) -> None:
        """The message reads so. What was changed meanwhile stays to be done."""
        with self._own_errors():
            self._conn.execute(
                "UPDATE letters SET edit_ms = NULL, edit_tries = 0, edit_alone = NULL WHERE number = ? AND lines = ?",
                (edit.letter.number, json.dumps(list(edit.letter.lines))),
            )

    def edit_failed(self, edit: Edit, reason: str, now_ms: int, retry_after_sec: float | None, *, final: bool) -> bool:
        """Not changed: when it is tried again. True when it never will be; what it alone would have told is a letter
        now."""
        letter = edit.letter
        with self.transaction():
            if not final and letter.tries < MAX_EDIT_TRIES:
                self._conn.execute("UPDATE letters SET edit_tries = edit_tries + 1 WHERE number = ?", (letter.number,))
                self._wait(letter, reason, now_ms, retry_after_sec)
                return False
            (text,) = self._conn.execute("SELECT edit_alone FROM letters WHERE number = ?", (letter.number,)).fetchone()
            self._conn.execute("UPDATE letters SET edit_ms = NULL, receipt = NULL WHERE number = ?", (letter.number,))
            lines = json.loads(text) if text else []
            if lines:
                self.add(letter.target, letter.level, lines, now_ms)
            return True

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
        events = []
        for (text,) in rows:
            data = json.loads(text)
            data["level"], data["changes_ms"] = Level(data["level"]), tuple(data["changes_ms"])
            events.append(Event(**data))
        return events

    def mute(self, code: str, until_ms: int) -> None:
        """Nothing is told about a code until then; a time in the past ends it."""
        with self._own_errors():
            self._conn.execute("INSERT OR REPLACE INTO mutes VALUES (?, ?)", (code, until_ms))

    def mutes(self, now_ms: int) -> dict[str, int]:
        """Codes that are muted now, and until when."""
        with self._own_errors():
            return dict(self._conn.execute("SELECT code, until_ms FROM mutes WHERE until_ms > ?", (now_ms,)).fetchall())

    def is_done(self, task: str) -> bool:
        """Was it done already?"""
        with self._own_errors():
            return self._conn.execute("SELECT 1 FROM done WHERE what = ?", (task,)).fetchone() is not None

    def note_done(self, task: str, now_ms: int) -> None:
        """It is done: in the transaction that does it."""
        with self._own_errors():
            self._conn.execute("INSERT OR IGNORE INTO done VALUES (?, ?)", (task, now_ms))

    # What others hand over: units that failed, and how far it was read

    def fail_unit(self, unit: str, reason: str, at_ms: int) -> None:
        """The service manager saw a unit fail. The newest MAX_FAILURES are kept."""
        with self.transaction():
            self._conn.execute("INSERT INTO failures (unit, reason, at_ms) VALUES (?, ?, ?)", (unit, reason, at_ms))
            self._conn.execute(
                "DELETE FROM failures WHERE number <= (SELECT max(number) FROM failures) - ?", (MAX_FAILURES,)
            )

    def failures(self, after: int) -> list[Failure]:
        """Those that were noted after a number."""
        with self._own_errors():
            rows = self._conn.execute(
                "SELECT number, unit, reason, at_ms FROM failures WHERE number > ? ORDER BY number", (after,)
            ).fetchall()
        return [Failure(*row) for row in rows]

    def mark(self, source: str) -> int | None:
        """How far it was read; None: never."""
        with self._own_errors():
            row = self._conn.execute("SELECT number FROM marks WHERE what = ?", (source,)).fetchone()
        return None if row is None else int(row[0])

    def set_mark(self, source: str, number: int) -> None:
        """It was read so far: in the transaction that stores what comes of it."""
        with self._own_errors():
            self._conn.execute("INSERT OR REPLACE INTO marks VALUES (?, ?)", (source, number))

    def tidy(self, now_ms: int) -> None:
        """Forget what is over for a month, and of a target that nobody reads the oldest letters of each kind."""
        with self._own_errors():
            old_ms = now_ms - KEEP_MS
            self._conn.execute("DELETE FROM letters WHERE coalesce(sent_ms, given_up_ms) < ?", (old_ms,))
            self._conn.execute("DELETE FROM told WHERE number NOT IN (SELECT number FROM letters)")
            self._conn.execute("DELETE FROM done WHERE at_ms < ?", (old_ms,))
            self._conn.execute("DELETE FROM mutes WHERE until_ms < ?", (now_ms,))
            for target, kind in self._conn.execute("SELECT DISTINCT target, kind FROM waiting").fetchall():
                self._conn.execute(
                    "UPDATE letters SET given_up_ms = ? WHERE number IN (SELECT number FROM waiting WHERE target = ?"
                    " AND kind = ? ORDER BY number DESC LIMIT -1 OFFSET ?)",
                    (now_ms, target, kind, MAX_WAITING),
                )

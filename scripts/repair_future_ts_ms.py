"""Puts ticks right whose time lies hours in the future: Hong Kong time that an older recorder stored as UTC.

A row is taken for wrong when its ``ts_ms`` is more than ``--future-hours`` (2) ahead of the clock. It gets ``ts_ms``
less ``--shift-hours`` (8) and the Hong Kong date of that as its ``trading_day``; a row that belongs to another day then
moves to that day's file. A corrected row that is already stored (same symbol and sequence, or same content where there
is no sequence) is a repeat and goes. A row that is still ahead after the shift, by a day or more, has a wrong date: it
goes to the quarantine (``_quarantine/``), and a file that is empty then goes, too. One that is ahead by less is left
alone and reported.

Without ``--apply`` nothing is changed: the count and samples of before and after are printed. With it each file is
copied to ``NAME.before-repair-<utc>`` first. The recorder must be stopped, the data root's lock is held meanwhile; root
takes on the rights of the directory's owner. An interrupted run is finished by running it again.

Exit codes: 0 nothing to repair, or shown, or repaired; 1 failed, no such directory, or rows were left alone; 2 usage;
69 another Python than the recorder's; 75 a recorder holds the data root; 78 the settings are wrong.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

try:
    from hk_tick_collector.app.config import load_settings
except ModuleNotFoundError as exc:
    if exc.name != "hk_tick_collector":
        raise
    print(
        f"{Path(__file__).name}: {sys.executable} does not have the recorder's package: run it with "
        "/opt/futu_tick_downloader/venv/bin/python, or in a checkout with .venv/bin/python",
        file=sys.stderr,
    )
    sys.exit(69)
from hk_tick_collector.core.errors import ConfigError, RejectCode, StoreError
from hk_tick_collector.core.progress import IngestProgress
from hk_tick_collector.core.text import printable
from hk_tick_collector.ingest.quarantine import Quarantine
from hk_tick_collector.market.hk.sessions import hk_date
from hk_tick_collector.records.tick import RejectedTick, Tick
from hk_tick_collector.store import layout
from hk_tick_collector.store.connect import SqliteOptions, open_day_file
from hk_tick_collector.store.coverage import DayCoverage
from hk_tick_collector.store.owner import become_owner
from hk_tick_collector.store.read_only import open_read_only, select_list
from hk_tick_collector.store.writer import DayFileWriter

EXIT_FAILED = 1
EXIT_BUSY = 75
EXIT_CONFIG = 78
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
DEFAULT_ENV_FILE = Path("/opt/futu_tick_downloader/.env")
MOVE_ROWS = 1000  # rows of one transaction of the day file they move to
ALL_FILES = 1_000_000


@dataclass(frozen=True)
class Rule:
    """Which rows are wrong, and by how much. UTC epoch milliseconds and milliseconds."""

    now_ms: int
    future_ms: int
    shift_ms: int

    @property
    def limit_ms(self) -> int:
        """A ``ts_ms`` above this is wrong."""
        return self.now_ms + self.future_ms

    def corrected(self, tick: Tick) -> Tick:
        """The tick at the time and on the day it happened."""
        ts_ms = tick.ts_ms - self.shift_ms
        return tick._replace(ts_ms=ts_ms, trading_day=hk_date(ts_ms))


@dataclass
class Findings:
    """What is wrong in one day file: rowid and tick of each row that can be put right."""

    path: Path
    rows: list[tuple[int, Tick]] = field(default_factory=list)
    misdated: list[tuple[int, Tick]] = field(default_factory=list)  # of a day that no shift explains
    left_rows: int = 0  # still ahead after the shift


def find(path: Path, rule: Rule) -> Findings:
    """Look through one file; reads only."""
    damage = Findings(path)
    with closing(open_read_only(path)) as conn:
        sql = f"SELECT rowid, {select_list(conn)} FROM ticks WHERE ts_ms > ? ORDER BY rowid"
        for rowid, *values in conn.execute(sql, (rule.limit_ms,)):
            tick = Tick._make(values)
            ahead_ms = tick.ts_ms - rule.shift_ms - rule.now_ms
            if ahead_ms >= DAY_MS:
                damage.misdated.append((rowid, tick))
            elif ahead_ms > rule.future_ms:
                damage.left_rows += 1
            else:
                damage.rows.append((rowid, tick))
    return damage


def back_up(path: Path, now_ms: int) -> Path:
    """A complete copy beside the file, also of what is in its WAL."""
    target = path.with_name(f"{path.name}.before-repair-{layout.utc_stamp(now_ms)}")
    descriptor = os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, layout.FILE_MODE)
    os.close(descriptor)
    with closing(open_read_only(path)) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)
    return target


def repair(damage: Findings, rule: Rule, options: SqliteOptions) -> tuple[int, int, int]:
    """Put a file's rows right; returns how many stayed in it, moved to another day, and were repeats."""
    day = layout.parse_day(damage.path)
    assert day is not None, "only day files are looked at"
    staying = [(rowid, rule.corrected(tick)) for rowid, tick in damage.rows]
    moving = [(rowid, tick) for rowid, tick in staying if tick.trading_day != day]
    staying = [(rowid, tick) for rowid, tick in staying if tick.trading_day == day]
    # First into the other file, then out of this one: a crash between the two leaves a row twice, never not at all.
    moved_rows = move(damage.path.parent, [tick for _, tick in moving], options)
    repeats = len(moving) - moved_rows
    with closing(open_day_file(damage.path, options)) as conn:
        conn.execute("BEGIN IMMEDIATE")
        coverage = DayCoverage.load(conn, day)
        kept_rows = 0
        for rowid, tick in staying:
            changed = conn.execute(
                "UPDATE OR IGNORE ticks SET ts_ms = ?, trading_day = ? WHERE rowid = ?", (tick.ts_ms, day, rowid)
            ).rowcount
            kept_rows += changed
            if not changed:
                conn.execute("DELETE FROM ticks WHERE rowid = ?", (rowid,))
        gone = [*moving, *damage.misdated]
        conn.executemany("DELETE FROM ticks WHERE rowid = ?", [(rowid,) for rowid, _ in gone])
        coverage.recount(conn, {tick.symbol for _, tick in [*damage.rows, *damage.misdated]})
        coverage.save(conn, rule.now_ms)
        conn.execute("COMMIT")
        is_empty = conn.execute("SELECT 1 FROM ticks LIMIT 1").fetchone() is None
        if kept_rows < len(damage.rows) + len(damage.misdated):
            conn.execute("VACUUM")  # numbers the rows anew: the store counts them by the newest rowid
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    if is_empty and day > hk_date(rule.now_ms):
        for path in layout.sqlite_files(damage.path):  # its copy holds all of it
            path.unlink(missing_ok=True)
    return kept_rows, moved_rows, repeats + len(staying) - kept_rows


def put_aside(damage: Findings, rule: Rule) -> None:
    """Misdated rows into the quarantine, before they go from the day file. OSError when the disk refuses."""
    progress = IngestProgress()
    quarantine = Quarantine(damage.path.parent, progress, hk_date, day_bytes=sys.maxsize)
    reason = f"its time lies days after {utc(rule.now_ms)}, when it was found in {damage.path.name}"
    for at in range(0, len(damage.misdated), MOVE_ROWS):
        ticks = [tick for _, tick in damage.misdated[at : at + MOVE_ROWS]]
        quarantine.add(
            [RejectedTick(tick.symbol, reason, tick._asdict(), rule.now_ms, RejectCode.DAY) for tick in ticks]
        )
        quarantine.flush(sync=True)
        if quarantine.waiting_rows or progress.quarantine_dropped_rows:
            raise OSError(f"{layout.quarantine_dir(damage.path.parent)} cannot be written")


def move(data_root: Path, ticks: Sequence[Tick], options: SqliteOptions) -> int:
    """Store ticks in the files of their days; returns how many were not there already."""
    writer = DayFileWriter(data_root, options)
    moved_rows = 0
    try:
        for start in range(0, len(ticks), MOVE_ROWS):
            moved_rows += writer.write(ticks[start : start + MOVE_ROWS]).inserted_rows
    finally:
        writer.close()
    return moved_rows


def show(damage: Findings, rule: Rule, samples: int) -> None:
    """The file's count and a few rows before and after."""
    print(
        f"{damage.path}: {len(damage.rows)} rows to repair, {len(damage.misdated)} with a wrong date for the "
        f"quarantine, {damage.left_rows} left alone"
    )
    for _, tick in damage.misdated[:samples]:
        print(f"  aside  {printable(tick.symbol)} seq={tick.seq} ts_ms={tick.ts_ms} day={tick.trading_day}")
    for _, tick in damage.rows[:samples]:
        after = rule.corrected(tick)
        for word, row in (("before", tick), ("after ", after)):
            tick_label = f"{printable(row.symbol)} seq={row.seq}"
            print(f"  {word} {tick_label} {utc(row.ts_ms)} ts_ms={row.ts_ms} day={row.trading_day}")
        if after.trading_day != layout.parse_day(damage.path):
            print(f"         moves to {after.trading_day}.db")


def utc(ts_ms: int) -> str:
    """For people."""
    return datetime.fromtimestamp(ts_ms / 1000, tz=UTC).isoformat(timespec="milliseconds")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    args = parse(argv)
    try:
        data_root: Path = args.data_root or load_settings(args.env_file, {}).data_root
    except ConfigError as exc:
        print(exc, file=sys.stderr)
        return EXIT_CONFIG
    if not data_root.is_dir():
        print(f"{layout.no_directory(data_root)}: name the recorder's DATA_ROOT with --data-root", file=sys.stderr)
        return EXIT_FAILED
    now_ms = int(time.time() * 1000)
    rule = Rule(now_ms, round(args.future_hours * HOUR_MS), round(args.shift_hours * HOUR_MS))
    become_owner(data_root)
    try:
        if not args.apply:
            return survey(data_root, rule, args.samples)
        with layout.DataRootLock(data_root):
            return apply(data_root, rule, args.samples)
    except ConfigError as exc:
        print(f"{exc} (systemctl stop hk-tick-collector)", file=sys.stderr)
        return EXIT_BUSY
    except (StoreError, sqlite3.Error, OSError) as exc:
        print(f"failed: {exc}; the copies named .before-repair- hold the former state", file=sys.stderr)
        return EXIT_FAILED


def survey(data_root: Path, rule: Rule, samples: int) -> int:
    """Show what would be done."""
    findings = look(data_root, rule, samples)
    rows = sum(len(damage.rows) + len(damage.misdated) for damage in findings)
    print(f"repaired_rows=0 to_repair_rows={rows} left_rows={sum(damage.left_rows for damage in findings)}")
    if rows:
        print("nothing was changed; stop the recorder and run it again with --apply")
    return 0


def apply(data_root: Path, rule: Rule, samples: int) -> int:
    """Repair every file that needs it. The caller holds the lock."""
    options = SqliteOptions()
    repaired_rows = moved_rows = repeated_rows = quarantined_rows = 0
    findings = look(data_root, rule, samples)
    for damage in findings:
        if damage.rows or damage.misdated:
            print(f"{damage.path}: copied to {back_up(damage.path, rule.now_ms).name}")
            put_aside(damage, rule)
            quarantined_rows += len(damage.misdated)
            stayed, moved, repeated = repair(damage, rule, options)
            repaired_rows += stayed + moved
            moved_rows += moved
            repeated_rows += repeated
    left_rows = sum(damage.left_rows for damage in findings)
    print(
        f"repaired_rows={repaired_rows} moved_rows={moved_rows} repeated_rows={repeated_rows} "
        f"to_repair_rows={sum(len(again.rows) for again in quiet(data_root, rule))} left_rows={left_rows} "
        f"quarantined_rows={quarantined_rows}"
    )
    if left_rows:
        print(
            f"{left_rows} rows are still ahead of the clock after the shift: give another --shift-hours",
            file=sys.stderr,
        )
        return EXIT_FAILED
    return 0


def look(data_root: Path, rule: Rule, samples: int) -> list[Findings]:
    """The files in which something is wrong, shown as they are found."""
    findings = list(quiet(data_root, rule))
    for damage in findings:
        show(damage, rule, samples)
    return findings


def quiet(data_root: Path, rule: Rule) -> Iterable[Findings]:
    """The files in which something is wrong."""
    for path in reversed(layout.recent_day_files(data_root, ALL_FILES)):
        damage = find(path, rule)
        if damage.rows or damage.left_rows or damage.misdated:
            yield damage


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments."""
    parser = argparse.ArgumentParser(
        description="Repair ticks whose ts_ms lies hours in the future (Hong Kong time stored as UTC).",
        epilog="Exit codes: 0 done, 1 failed or rows left alone, 2 usage, 75 a recorder is running, 78 wrong settings.",
    )
    parser.add_argument("--apply", action="store_true", help="change the files; without, only show what would change")
    parser.add_argument(
        "--data-root", type=Path, metavar="DIR", help="folder of the day files (default: DATA_ROOT of --env-file)"
    )
    parser.add_argument(
        "--env-file", type=Path, default=DEFAULT_ENV_FILE, help="the service's settings (default: %(default)s)"
    )
    parser.add_argument(
        "--future-hours", type=positive, default=2.0, metavar="H", help="how far ahead is wrong (default: 2)"
    )
    parser.add_argument(
        "--shift-hours", type=positive, default=8.0, metavar="H", help="how far to set back (default: 8)"
    )
    parser.add_argument("--samples", type=int, default=3, metavar="N", help="rows to show of each file (default: 3)")
    return parser.parse_args(argv)


def positive(text: str) -> float:
    """A number of hours above zero."""
    value = float(text)
    if not 0 < value <= 24 * 365:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and a year")
    return value


if __name__ == "__main__":
    sys.exit(main())

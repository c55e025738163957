"""``hk-tickctl migrate``: day files of earlier versions brought up to date."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from hk_tick_collector.cli.common import EXIT_PROBLEM, App, be_gentle, print_table, progress, tickctl_command
from hk_tick_collector.cli.ending import clean_ending
from hk_tick_collector.cli.options import days_option
from hk_tick_collector.core.errors import NoData, StoreError
from hk_tick_collector.records.columns import SCHEMA_VERSION
from hk_tick_collector.store.compact import refuse_if_open
from hk_tick_collector.store.connect import SqliteOptions, identify, open_day_file
from hk_tick_collector.store.layout import day_file, parse_day, recent_day_files
from hk_tick_collector.store.read_only import open_read_only
from hk_tick_collector.store.salvage import recount
from hk_tick_collector.watch.when import nothing_recorded, some_days

ALL_DAYS = 1_000_000
CURRENT, MIGRATED, WOULD_MIGRATE, REFUSED = "up to date", "migrated", "would be migrated", "refused"


@dataclass(frozen=True, slots=True)
class Migration:
    """What was done to one file."""

    file: Path
    from_version: int | None  # None: it is not known
    to_version: int | None  # what it has now
    result: str
    reason: str | None = None


@tickctl_command(
    "migrate",
    help=f"""Bring day files of earlier versions up to schema version {SCHEMA_VERSION}.

    Rows stay as they are; missing columns, indexes and tables are added, and each symbol's rows are counted. A file
    is migrated completely or not at all. Files that another process has open, that a newer version made, or that
    belong to another program are left alone and named, and the exit code is 1.""",
)
@days_option("Default: all day files.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
def command(app: App, days: str | None, dry_run: bool) -> int | None:
    """Run it."""
    files = _files(app, days)
    be_gentle()
    done = []
    with clean_ending(), progress("migrate", len(files)) as advance:
        for db in files:
            done.append(_migrate(db, dry_run=dry_run))
            advance(1)
    app.emit([asdict(step) for step in done], lambda: _show(done))
    return EXIT_PROBLEM if any(step.result == REFUSED for step in done) else None


def _files(app: App, days: str | None) -> list[Path]:
    if days is None:
        files = sorted(recent_day_files(app.data_root, ALL_DAYS))
    else:
        chosen = [day_file(app.data_root, day) for day in some_days(app, days)]
        files = [db for db in chosen if db.exists()]  # an archived day alone needs no migration
    if not files:
        if days is None:
            raise nothing_recorded(app.data_root)
        raise NoData(f"there are no day files of {days} in {app.data_root}")
    return files


def _migrate(db: Path, *, dry_run: bool) -> Migration:
    version = None
    try:
        with closing(open_read_only(db)) as conn:
            version = identify(conn, db)
        if version == SCHEMA_VERSION:
            return Migration(db, version, version, CURRENT)
        refuse_if_open(db)
        if dry_run:
            return Migration(db, version, version, WOULD_MIGRATE)
        with closing(open_day_file(db, SqliteOptions())) as conn:
            recount(conn, db, parse_day(db) or "")
    except StoreError as exc:
        return Migration(db, version, version, REFUSED, str(exc))
    return Migration(db, version, SCHEMA_VERSION, MIGRATED)


def _show(done: Sequence[Migration]) -> None:
    rows = [(step.file.name, step.from_version, step.to_version, step.result, step.reason) for step in done]
    print_table(("file", "from", "to", "result", "why"), rows, numbers=("from", "to"), text="why")

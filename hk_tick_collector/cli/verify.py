"""``hk-tickctl verify``: is every tick still there, archived or in its day file?"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hk_tick_collector.cli.archiving import (
    day_file_of,
    for_each_day,
    from_option,
    gentle_job,
    none_of,
    print_results,
    reading_job,
    signers_of,
    signers_option,
    stored_rows,
)
from hk_tick_collector.cli.common import EXIT_FINE, EXIT_PROBLEM, App, progress, tickctl_command
from hk_tick_collector.cli.export_snapshots import SNAPSHOT, kind_meant
from hk_tick_collector.cli.options import day_argument
from hk_tick_collector.cli.snapshot_archive import kind_option, refuse_for_snapshots, verify_snapshots
from hk_tick_collector.core.errors import NoData
from hk_tick_collector.core.text import counted
from hk_tick_collector.watch.when import some_days

if TYPE_CHECKING:
    from hk_tick_collector.archive.signing import Signers
    from hk_tick_collector.archive.stores import ArchiveStore
    from hk_tick_collector.archive.verify import Check


@tickctl_command(
    "verify",
    several=True,
    help="""Read archives from end to end and compare every row count and hash.

    DAYS is a day or a range A..B; default: all archived days. Each symbol's rows are counted and hashed anew from the
    archive's bytes, and compared with the manifest and, where it still exists, with the day file. Files that were
    kept beside a day (Sierra Chart's depth) are unpacked and hashed as well. If a day that you name is not archived,
    its day file is read instead: it must be undamaged, and have as many rows of each symbol as it claims. Days that
    have only depth files or order books have no archive: these files are read where they are.

    With --from the copies in a bucket or another directory are read, each brought to TMPDIR first. With --signers each
    manifest must be signed by somebody whom that file allows; the signer is shown.

    Exit code 1 on any difference, and for a manifest that is unsigned or not signed by an allowed signer.
    """,
)
@day_argument("days")
@kind_option
@from_option
@signers_option
def command(app: App, days: str | None, kind: str | None, place: str | None, signers_file: Path | None) -> int:
    """See the help text."""
    if kind_meant(app, kind) == SNAPSHOT:
        refuse_for_snapshots(signers_file)
        return verify_snapshots(app, days, place)
    from hk_tick_collector.archive import places  # noqa: PLC0415 - Arrow takes its time

    signers = signers_of(signers_file)
    if place is not None:
        store = places.open_store(place)
        results = _checked(app, _copied(app, store, days), signers, store)
    else:
        results = _checked_here(app, days, signers)
    several = place is None and len(app.catalogs) > 1
    app.emit(results, lambda: print_results([_line(row, several=several) for row in results]))
    return EXIT_FINE if all(row["fine"] for row in results) else EXIT_PROBLEM


def _checked_here(app: App, days: str | None, signers: Signers | None) -> list[dict[str, Any]]:
    """Of the archive of each data root that is read. NoData when none has one of these days."""
    roots = app.each_root()
    if len(roots) == 1:
        return _checked(roots[0], _here(roots[0], days), signers)
    results: list[dict[str, Any]] = []
    nothing: NoData | None = None
    for root in roots:
        try:
            checked = _checked(root, _here(root, days), signers)
        except NoData as exc:
            nothing = exc
        else:
            results += [{**row, "data_root": str(root.data_root)} for row in checked]
    if nothing is not None and not results:
        raise nothing
    return sorted(results, key=lambda row: str(row["trading_day"]))


def _checked(
    app: App, chosen: list[str], signers: Signers | None, store: ArchiveStore | None = None
) -> list[dict[str, Any]]:
    """These days, of its archive or of the copies in a store."""
    from hk_tick_collector.archive import copies, verify  # noqa: PLC0415

    def work(day: str, on_rows: Any) -> Check:
        if store is not None:
            return copies.check_copy(store, day, _beside(app, day), on_rows, signers)
        if day in without_ticks:
            return verify.check_without_ticks(app.data_root, day)
        db = day_file_of(app, day)
        if db is not None and day not in archived:
            return verify.check_day_file(db, day, on_rows)
        check = verify.check_day(app.archive_root, day, db, on_rows)
        return check if signers is None else signers.judged(app.archive_root, check)

    without_ticks = _without_ticks(app) if store is None else []
    archived = app.catalog.archived_days() if store is None else []
    results: list[dict[str, Any]] = []
    with reading_job(app) if store is None else gentle_job():
        for day, outcome in for_each_day(chosen, "verify", lambda day: stored_rows(app, day), work):
            if isinstance(outcome, str):
                results.append({"trading_day": day, "fine": False, "problems": [outcome]})
            else:
                results.append(outcome.as_dict())
    return results


def _here(app: App, days: str | None) -> list[str]:
    """The days that are meant: without words the archived ones, and those that have no ticks."""
    alone = _without_ticks(app)
    if days is not None:
        return [days] if days in alone else some_days(app, days)
    archived = app.catalog.archived_days()
    if not archived and not alone:
        raise none_of(app, "no day is archived")
    return sorted({*archived, *alone})


def _without_ticks(app: App) -> list[str]:
    """Days of depth files, order books or broker queues alone."""
    return app.catalog.days_without_ticks()


def _copied(app: App, store: ArchiveStore, days: str | None) -> list[str]:
    from hk_tick_collector.archive.copies import sent_days  # noqa: PLC0415
    from hk_tick_collector.cli.copied import CopiedDays  # noqa: PLC0415

    with progress(f"asking {store.place}"):
        sent = sent_days(store)
    if not sent:
        raise NoData(f"there is no archived day in {store.place}; put one there with: hk-tickctl archive --to")
    return some_days(CopiedDays.of(app, store, sent), days)


def _beside(app: App, day: str) -> Path | None:
    """The day file, where this machine has recordings at all."""
    with suppress(NoData):
        return day_file_of(app, day)
    return None


def _line(row: dict[str, Any], *, several: bool) -> tuple[str, str, str]:
    where = f"{row['data_root']}: " if several else ""
    if not row["fine"]:
        return row["trading_day"], "WRONG", where + "; ".join(row["problems"])
    if not row["formats"]:
        if row["rows"]:
            contents = f"{counted(row['rows'], 'tick')} of {counted(row['symbols'], 'symbol')}"
            return row["trading_day"], "fine", f"{where}{contents} in its day file; not archived"
        kept = f"{counted(row['depth_files'], 'depth file')}" if row["depth_files"] else "order books or broker queues"
        return row["trading_day"], "fine", f"{where}{kept} and no tick; not archived"
    beside = "as its day file" if row["compared_with"] else "its day file is gone"
    kinds = " and ".join(row["formats"])
    depth = f" and {counted(row['depth_files'], 'depth file')}" if row["depth_files"] else ""
    contents = f"{counted(row['rows'], 'tick')} of {counted(row['symbols'], 'symbol')} ({kinds}){depth}, {beside}"
    signed = f"; signed by {row['signed_by']}" if row["signed_by"] else ""
    return row["trading_day"], "fine", where + contents + signed

"""``hk-tickctl verify``: is every archived tick still there?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hk_tick_collector.cli.archiving import day_file_of, for_each_day, none_of, print_results, reading_job, stored_rows
from hk_tick_collector.cli.common import EXIT_FINE, EXIT_PROBLEM, App, tickctl_command
from hk_tick_collector.cli.options import day_argument
from hk_tick_collector.core.errors import NoData
from hk_tick_collector.core.text import counted
from hk_tick_collector.watch.when import some_days

if TYPE_CHECKING:
    from hk_tick_collector.archive.verify import Check


@tickctl_command(
    "verify",
    help="""Read archives from end to end and compare every row count and hash.

    DAYS is a day or a range A..B; default: all archived days. Each symbol's rows are counted and hashed anew from the
    archive's bytes, and held against the manifest and, where it still exists, against the day file. Files that were
    kept beside a day (Sierra Chart's depth) are unpacked and hashed as well.

    Exit code 1 on any difference.
    """,
)
@day_argument("days")
def command(app: App, days: str | None) -> int:
    """See the help text."""
    from hk_tick_collector.archive import verify  # noqa: PLC0415 - Arrow takes its time

    archived = set(app.catalog.archived_days())
    if not archived:
        raise none_of(app, "no day is archived")
    chosen = sorted(archived) if days is None else [day for day in some_days(app, days) if day in archived]
    if not chosen:
        raise NoData(f"{days} is not archived; put it away with: hk-tickctl archive {days}")

    def work(day: str, on_rows: Any) -> Check:
        return verify.check_day(app.archive_root, day, day_file_of(app, day), on_rows)

    results: list[dict[str, Any]] = []
    with reading_job(app):
        for day, found in for_each_day(chosen, "verify", lambda day: stored_rows(app, day), work):
            if isinstance(found, str):
                results.append({"trading_day": day, "fine": False, "problems": [found]})
            else:
                results.append(found.as_dict())
    app.emit(results, lambda: print_results([_line(row) for row in results]))
    return EXIT_FINE if all(row["fine"] for row in results) else EXIT_PROBLEM


def _line(row: dict[str, Any]) -> tuple[str, str, str]:
    if not row["fine"]:
        return row["trading_day"], "WRONG", "; ".join(row["problems"])
    beside = "as its day file" if row["compared_with"] else "its day file is gone"
    kinds = " and ".join(row["formats"])
    depth = f" and {counted(row['depth_files'], 'depth file')}" if row["depth_files"] else ""
    what = f"{counted(row['rows'], 'tick')} of {counted(row['symbols'], 'symbol')} ({kinds}){depth}, {beside}"
    return row["trading_day"], "fine", what

"""``hk-tickctl archive``: put days away, verified."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from hk_tick_collector.cli.archiving import (
    archive_job,
    archived_text,
    day_file_of,
    for_each_day,
    format_option,
    kinds_of,
    none_of,
    print_results,
    stored_rows,
)
from hk_tick_collector.cli.common import EXIT_FINE, EXIT_PROBLEM, App, tickctl_command
from hk_tick_collector.cli.options import day_argument
from hk_tick_collector.cli.terminal import show_text
from hk_tick_collector.watch.when import some_days

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hk_tick_collector.archive.pack import Outcome


@tickctl_command(
    "archive",
    help="""Put days away, each with a manifest, and read the copy back before it counts.

    DAYS is a day or a range A..B. Without it: every day that is over and whose archive is absent or out of date.

    A day is archived when its recording is over and nothing of it waits in the spill; the recorder may run on. The day
    file stays: "hk-tickctl retain" deletes old ones. An archive is replaced only when the day file holds every tick of
    it; otherwise "hk-tickctl restore" joins the two.

    Exit code 1 when a day could not be archived; the other days are.
    """,
)
@day_argument("days")
@format_option
@click.option(
    "--verify/--no-verify",
    default=True,
    help="Read the copy back and compare row counts and hashes (default). A copy that replaces an archive always is.",
)
def command(app: App, days: str | None, format_: str | None, verify: bool) -> int:
    """See the help text."""
    from hk_tick_collector.archive import pack  # noqa: PLC0415 - Arrow takes its time

    kinds = kinds_of(app, format_)
    chosen = _chosen(app, days)

    def work(day: str, on_rows: Any) -> Outcome | str:
        if day_file_of(app, day) is None:
            return "already archived; its day file is gone"
        pack.check_at_rest(app.data_root, day, app.calendar, app.now_ms)
        return pack.archive_day(
            app.data_root, app.archive_root, day, kinds, verify=verify, made_at_ms=app.now_ms, on_rows=on_rows
        )

    with archive_job(app):
        results = [
            _result(app, day, result)
            for day, result in for_each_day(chosen, "archive", lambda day: stored_rows(app, day), work)
        ]

    def human() -> None:
        if results:
            print_results([(row["trading_day"], row["action"], row["details"]) for row in results])
        else:
            show_text("nothing to do: every day that is over is archived")

    app.emit(results, human)
    return EXIT_PROBLEM if any(row["action"] == "failed" for row in results) else EXIT_FINE


def _chosen(app: App, days: str | None) -> Sequence[str]:
    from hk_tick_collector.archive import pack  # noqa: PLC0415

    if days is not None:
        return some_days(app, days)
    live = app.catalog.live_days()
    if not live:
        raise none_of(app, "there is no day file to archive")
    now_ms = app.now_ms
    return [
        day
        for day in live
        if pack.is_over(day, app.calendar, now_ms) and not pack.is_archived(app.data_root, app.archive_root, day)
    ]


def _result(app: App, day: str, result: Outcome | str) -> dict[str, Any]:
    if not isinstance(result, str):
        return {**result.as_dict(), "details": archived_text(result)}
    is_gone = day_file_of(app, day) is None
    return {"trading_day": day, "action": "unchanged" if is_gone else "failed", "details": result}

"""``hk-tickctl archive``: put days away, verified."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
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
from hk_tick_collector.cli.export_snapshots import SNAPSHOT, kind_meant
from hk_tick_collector.cli.options import day_argument
from hk_tick_collector.cli.snapshot_archive import archive_snapshots, kind_option
from hk_tick_collector.cli.terminal import show_text
from hk_tick_collector.days.manifest import manifest_path, signature_path
from hk_tick_collector.watch.when import some_days

if TYPE_CHECKING:
    from hk_tick_collector.archive.copies import Sign
    from hk_tick_collector.archive.pack import Outcome
    from hk_tick_collector.cli.archive_to import Sending


@tickctl_command(
    "archive",
    help="""Archive days, each with a manifest; a copy counts only once it has been read back.

    DAYS is a day or a range A..B. Without it: every finished day whose archive is missing or out of date.

    A day is archived when its recording is over and none of its rows wait in the spill; the recorder may keep
    running. The day file stays: "hk-tickctl retain" deletes old ones. An archive is replaced only when the day file
    holds every tick of it; otherwise "hk-tickctl restore" joins the two.

    With --to the days go into a bucket or another directory instead; an interrupted upload continues. Credentials
    come from the same places as for AWS's own programs (AWS_ACCESS_KEY_ID, ~/.aws/credentials).

    Exit code 1 when a day could not be archived; the others are archived all the same.""",
)
@day_argument("days")
@format_option
@kind_option
@click.option(
    "--verify/--no-verify",
    default=True,
    help="Read the copy back and compare row counts and hashes (default). A copy that replaces an archive always is.",
)
@click.option("--to", "place", metavar="PLACE", help="Copy them to s3://BUCKET/PREFIX or another directory.")
@click.option(
    "--sign",
    "key",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="KEY",
    help="Sign each manifest with this SSH key (its file, or its public key where an agent holds it).",
)
def command(
    app: App,
    days: str | None,
    format_: str | None,
    kind: str | None,
    verify: bool,
    place: str | None,
    key: Path | None,
) -> int:
    """See the help text."""
    if kind_meant(app, kind) == SNAPSHOT:
        if format_ is not None or key is not None:
            raise click.UsageError("--format and --sign are for ticks: snapshots are packed as they are")
        return archive_snapshots(app, days, place)
    from hk_tick_collector.archive import signing  # noqa: PLC0415 - Arrow takes its time
    from hk_tick_collector.cli.archive_to import Sending  # noqa: PLC0415

    kinds = kinds_of(app, format_)
    if key is not None:
        signing.check_key(key)
    sign = None if key is None else partial(signing.sign, key=key)
    job: Putting | Sending
    job = Putting(app, kinds, verify, sign) if place is None else Sending.to(place, app, kinds, verify, sign)
    chosen = some_days(app, days) if days is not None else job.due_days()
    with archive_job(app):
        results = [
            _result(app, day, result)
            for day, result in for_each_day(chosen, "archive", lambda day: stored_rows(app, day), job.work)
        ]

    def human() -> None:
        if results:
            print_results([(row["trading_day"], row["action"], row["details"]) for row in results])
        else:
            show_text("nothing to do: every day that is over is archived")

    app.emit(results, human)
    return EXIT_PROBLEM if any(row["action"] == "failed" for row in results) else EXIT_FINE


@dataclass(frozen=True)
class Putting:
    """Days into the archive's own directory."""

    app: App
    kinds: Sequence[str]
    verify: bool
    sign: Sign | None

    def due_days(self) -> list[str]:
        """Those that are over and not archived as they are, or not signed where they are to be. NoData without any."""
        from hk_tick_collector.archive import pack  # noqa: PLC0415

        app = self.app
        live = app.catalog.live_days()
        if not live:
            raise none_of(app, "there is no day file to archive")
        now_ms = app.now_ms
        return [day for day in live if pack.is_over(day, app.calendar, now_ms) and not self._is_done(day)]

    def _is_done(self, day: str) -> bool:
        from hk_tick_collector.archive import pack  # noqa: PLC0415

        is_signed = self.sign is None or signature_path(self.app.archive_root, day).exists()
        return is_signed and pack.is_archived(self.app.data_root, self.app.archive_root, day)

    def work(self, day: str, on_rows: Any) -> Outcome | str:
        """Put one day away."""
        from hk_tick_collector.archive import pack  # noqa: PLC0415

        app = self.app
        if day_file_of(app, day) is None:
            return "already archived; its day file is gone"
        pack.check_at_rest(app.data_root, day, app.calendar, app.now_ms)
        done = pack.archive_day(
            app.data_root, app.archive_root, day, self.kinds, verify=self.verify, made_at_ms=app.now_ms, on_rows=on_rows
        )
        if self.sign is not None:
            self.sign(manifest_path(app.archive_root, day))
        return done


def _result(app: App, day: str, result: Outcome | str) -> dict[str, Any]:
    if not isinstance(result, str):
        return {**result.as_dict(), "details": archived_text(result)}
    is_gone = day_file_of(app, day) is None
    return {"trading_day": day, "action": "unchanged" if is_gone else "failed", "details": result}

"""``hk-tickctl restore``: bring a day back out of the archive."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hk_tick_collector.cli.archiving import (
    archive_job,
    from_option,
    restoring_job,
    signers_of,
    signers_option,
    stored_rows,
)
from hk_tick_collector.cli.common import EXIT_FINE, App, progress, tickctl_command
from hk_tick_collector.cli.export_snapshots import SNAPSHOT, kind_meant
from hk_tick_collector.cli.options import day_argument
from hk_tick_collector.cli.snapshot_archive import kind_option, refuse_for_snapshots, restore_snapshots
from hk_tick_collector.cli.terminal import show_text
from hk_tick_collector.core.text import counted
from hk_tick_collector.days.manifest import manifest_path
from hk_tick_collector.watch.when import one_day

if TYPE_CHECKING:
    from hk_tick_collector.archive.restore import Restored
    from hk_tick_collector.archive.signing import Signers


@tickctl_command(
    "restore",
    help="""Restore a day from the archive as a day file.

    All columns, coverage and gaps come back as they were recorded. When there is a day file already, the archive's
    ticks are joined to it: nothing is lost and nothing is there twice. A new file is read back and compared with the
    archive's manifest before it appears. The archive stays.

    With --from it comes from a copy in a bucket or another directory, also on a machine that has nothing else, with
    the files that were kept beside the day (Sierra Chart's depth). Anyone who can write there can forge a day with a
    matching manifest. With --signers the manifest, or the archive's, must be signed by somebody whom that file
    allows; otherwise nothing is restored.

    A day file that another process has open is refused. With RETAIN_DAYS set, the next end-of-day job deletes an old
    day's file again; restore into another directory to keep it.
    """,
)
@day_argument(is_required=True)
@kind_option
@click.option(
    "--into",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Directory for the day file instead of the data root; made when it does not exist.",
)
@from_option
@signers_option
def command(
    app: App, day: str, kind: str | None, into: Path | None, place: str | None, signers_file: Path | None
) -> int:
    """See the help text."""
    if kind_meant(app, kind) == SNAPSHOT:
        refuse_for_snapshots(signers_file)
        return restore_snapshots(app, day, into, place)
    signers = signers_of(signers_file)
    done = _from_archive(app, day, into, signers) if place is None else _from_copy(app, day, into, place, signers)
    app.emit(asdict(done), lambda: show_text(_sentence(done)))
    return EXIT_FINE


def _from_archive(app: App, day: str, into: Path | None, signers: Signers | None) -> Restored:
    from hk_tick_collector.archive import restore  # noqa: PLC0415 - Arrow takes its time

    trading_day = one_day(app, day)
    if not manifest_path(app.archive_root, trading_day).exists():  # one of another market is refused with its name
        app.catalog.day(trading_day)  # says which days there are when this one is not among them
    target = app.data_root if into is None else into.absolute()
    with (
        archive_job(app, restore_into=target, only_reads=True),
        progress(f"restore {trading_day}", stored_rows(app, trading_day)) as on_rows,
    ):
        if signers is not None:
            signers.signer_of(app.archive_root, trading_day)
        return restore.restore_day(app.archive_root, trading_day, target, now_ms=app.now_ms, on_rows=on_rows)


def _from_copy(app: App, day: str, into: Path | None, place: str, signers: Signers | None) -> Restored:
    """Also on a machine that has no recordings."""
    from hk_tick_collector.archive import copies, places, restore  # noqa: PLC0415
    from hk_tick_collector.cli.copied import CopiedDays  # noqa: PLC0415

    store = places.open_store(place)
    with progress(f"asking {place}"):
        there_are = CopiedDays.of(app, store, copies.sent_days(store))
    trading_day = there_are.catalog.day(one_day(there_are, day)).trading_day
    target = app.data_root if into is None else into.absolute()
    app.work_as_owner(target)
    with (
        restoring_job(target),
        progress(f"restore {trading_day}") as on_rows,
        copies.fetched(store, trading_day, target, signers) as there,
    ):
        done = restore.restore_day(there, trading_day, target, now_ms=app.now_ms, is_copy=True, on_rows=on_rows)
    return replace(done, source=done.source.replace(str(there), store.place))


def _sentence(done: Restored) -> str:
    if done.action == "unchanged":
        return f"{done.trading_day}: {done.path} holds all ticks of the archive already"
    if done.action == "joined":
        return (
            f"{done.trading_day}: {counted(done.added_rows, 'tick')} joined to {done.path}, {done.rows:,} are in it now"
        )
    return f"{done.trading_day}: {counted(done.rows, 'tick')} restored to {done.path}"

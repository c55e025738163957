"""``hk-tickctl retain``: delete old day files that are safely archived."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import click

from hk_tick_collector.cli.archiving import (
    archive_job,
    for_each_day,
    from_option,
    none_of,
    print_results,
    reading_job,
    signers_of,
    signers_option,
    stored_rows,
)
from hk_tick_collector.cli.common import EXIT_FINE, EXIT_PROBLEM, App, tickctl_command
from hk_tick_collector.cli.export_snapshots import SNAPSHOT, kind_meant
from hk_tick_collector.cli.snapshot_archive import kind_option, refuse_for_snapshots, retain_snapshots
from hk_tick_collector.cli.terminal import show_text
from hk_tick_collector.core.text import counted

if TYPE_CHECKING:
    from pathlib import Path

    from hk_tick_collector.archive.retain import Verdict
    from hk_tick_collector.archive.signing import Signers
    from hk_tick_collector.archive.stores import ArchiveStore


@tickctl_command(
    "retain",
    help="""Delete old day files that are safely archived. Try --dry-run first.

    A day file is deleted only when its archive, read back from its bytes at that moment, holds exactly the ticks,
    coverage and gaps of the file, no process has the file open, no rows of the day wait in the spill, and the day is
    older than the trading day before today. Otherwise it is kept, the reason is shown, and the exit code is 1.

    With --from the copy in a bucket or another directory is read and compared instead of the archive. Its rows are
    hashed with a key made for this comparison, so that forged ones are found. Anyone who can write there can still
    destroy the copy afterwards: turn on versioning or object lock. With --signers its manifest, or the archive's, must
    be signed by somebody whom that file allows.
    """,
)
@click.option(
    "--keep-days",
    type=click.IntRange(min=1),
    metavar="N",
    help="Keep the files of the newest N trading days that have one. Default: the setting RETAIN_DAYS.",
)
@kind_option
@click.option("--dry-run", is_flag=True, help="Check everything and say what would go; delete nothing.")
@from_option
@signers_option
def command(
    app: App, keep_days: int | None, kind: str | None, dry_run: bool, place: str | None, signers_file: Path | None
) -> int:
    """See the help text."""
    signers = signers_of(signers_file)
    keep = keep_days_of(app, keep_days)
    if not keep:
        raise click.UsageError("nothing says how many days to keep: give --keep-days N, or set RETAIN_DAYS")
    if kind_meant(app, kind) == SNAPSHOT:
        refuse_for_snapshots(signers_file)
        return retain_snapshots(app, keep, dry_run=dry_run, place=place)
    if not app.catalog.live_days():
        raise none_of(app, "there is no day file")
    store = None
    if place is not None:
        from hk_tick_collector.archive.places import open_store  # noqa: PLC0415 - Arrow takes its time

        store = open_store(place)
    with reading_job(app) if dry_run else archive_job(app):
        results = retained(app, keep, dry_run=dry_run, store=store, signers=signers)

    def human() -> None:
        if results:
            print_results([line(verdict) for verdict in results])
            freed_mb = sum(verdict.freed_bytes for verdict in results) / 1e6
            show_text(f"{'would free' if dry_run else 'freed'} {freed_mb:,.1f} MB")
        else:
            show_text(f"nothing to do: no day file is older than the newest {keep}")

    app.emit([asdict(verdict) for verdict in results], human)
    return EXIT_FINE if all(verdict.fine for verdict in results) else EXIT_PROBLEM


def keep_days_of(app: App, keep_days: int | None) -> int:
    """The days to keep: as given, else by the setting; 0 keeps all."""
    if keep_days is not None:
        return keep_days
    return 0 if app.data_root_given is not None else app.places.retain_days


def retained(
    app: App,
    keep_days: int,
    *,
    dry_run: bool = False,
    store: ArchiveStore | None = None,
    signers: Signers | None = None,
) -> list[Verdict]:
    """Delete what may go, inside ``archive_job``; a verdict for each day that is due. ``store``: its copies count, not
    the archive's. ``signers``: who may have signed what counts."""
    from hk_tick_collector.archive import copies, retain  # noqa: PLC0415 - Arrow takes its time

    def verdict(archive_root: Path, day: str, on_rows: Any) -> Verdict:
        return retain.retain_day(
            app.data_root,
            archive_root,
            day,
            app.calendar,
            app.now_ms,
            dry_run=dry_run,
            is_copy=store is not None,
            on_rows=on_rows,
        )

    def work(day: str, on_rows: Any) -> Verdict:
        if store is None:
            if signers is not None:
                signers.signer_of(app.archive_root, day)
            return verdict(app.archive_root, day, on_rows)
        with copies.fetched(store, day, signers=signers) as there:
            day_verdict = verdict(there, day, on_rows)
            return replace(
                day_verdict, reason=day_verdict.reason and day_verdict.reason.replace(str(there), store.place)
            )

    due = retain.due_days(app.catalog.live_days(), keep_days, app.calendar, app.now_ms)
    verdicts = for_each_day(due, "compare", lambda day: stored_rows(app, day), work)
    return [
        answer if not isinstance(answer, str) else retain.Verdict(day, "refused", answer, 0, 0)
        for day, answer in verdicts
    ]


def line(verdict: Verdict) -> tuple[str, str, str]:
    """A verdict for a table."""
    size = f"{counted(verdict.rows, 'tick')}, {verdict.freed_bytes / 1e6:,.1f} MB; the archive holds the same"
    return verdict.trading_day, verdict.action, verdict.reason or size

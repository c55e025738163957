"""``hk-tickctl eod``: what is to be done when a trading day is over. Made for a timer; may be run at any time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import click

from hk_tick_collector.cli.archiving import (
    archive_job,
    archived_text,
    for_each_day,
    format_option,
    kinds_of,
    none_of,
    problem_text,
    stored_rows,
)
from hk_tick_collector.cli.common import EXIT_FINE, EXIT_PROBLEM, App, progress, tickctl_command
from hk_tick_collector.cli.retain import keep_days_of, retained
from hk_tick_collector.cli.snapshot_archive import end_of_day as end_of_snapshots
from hk_tick_collector.cli.terminal import show_text
from hk_tick_collector.core.errors import RecorderError
from hk_tick_collector.store.layout import snapshot_days

if TYPE_CHECKING:
    from pathlib import Path

    from hk_tick_collector.archive.pack import Outcome
    from hk_tick_collector.archive.retain import Verdict
    from hk_tick_collector.quality.model import Certificate


@dataclass
class _DayDone:
    """What was done for a day."""

    trading_day: str
    grade: str | None = None
    certificate: str | None = None  # its sentence; None: it was there already
    page: str | None = None  # the file
    complete: bool = True  # nothing is known to be missing
    archive: str | None = None
    rows: int | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def fine(self) -> bool:
        return self.complete and not self.problems


@tickctl_command(
    "eod",
    help="""Do what is due after the end of a day, for every finished trading day: certificate, archive, retention.

    A day is due when it has no certificate or no archive, or when its file changed after they were made; the next run
    makes up for a missed one. Certificates (JSON and page) go to DATA_ROOT/_reports, archives to ARCHIVE_ROOT, where
    they are read back. With RETAIN_DAYS, or --keep-days, old day files are deleted last, each only when its archive
    holds exactly the same. The timer hk-tick-eod runs it after the close, in Hong Kong at 16:30; one at a time.

    Exit code 1 when ticks of a day are missing or something could not be done; other days are done all the same.""",
)
@format_option
@click.option(
    "--keep-days",
    type=click.IntRange(min=0),
    metavar="N",
    help="Keep the day files of the newest N trading days, delete older ones; 0: delete none. Default: RETAIN_DAYS.",
)
def command(app: App, format_: str | None, keep_days: int | None) -> int:
    """See the help text."""
    from hk_tick_collector.quality import end_of_day  # noqa: PLC0415 - Arrow takes its time

    kinds, keep = kinds_of(app, format_), keep_days_of(app, keep_days)
    if not app.catalog.days() and snapshot_days(app.data_root):
        return end_of_snapshots(app, keep)
    if not app.catalog.days():
        raise none_of(app, "there is no day file; is DATA_ROOT right? Nothing is")
    with end_of_day.only_one(app.data_root), archive_job(app, restore_into=app.data_root):
        days = [_done(app, day, kinds) for day in _due(app, kinds)]
        verdicts = retained(app, keep) if keep else []
    fine = all(day.fine for day in days) and all(verdict.fine for verdict in verdicts)
    result = {
        "days": [asdict(day) for day in days],
        "retention": [asdict(verdict) for verdict in verdicts],
        "fine": fine,
    }
    app.emit(result, lambda: _print(days, verdicts))
    return EXIT_FINE if fine else EXIT_PROBLEM


def _due(app: App, kinds: Sequence[str]) -> list[str]:
    """Days that are over and not done, oldest first."""
    from hk_tick_collector.archive import pack  # noqa: PLC0415
    from hk_tick_collector.quality import end_of_day  # noqa: PLC0415

    now_ms = app.now_ms
    due = set(end_of_day.due_days(app.data_root, app.calendar, now_ms))
    for day in app.catalog.live_days():
        if day in due or not pack.is_over(day, app.calendar, now_ms):
            continue
        try:
            is_archived = pack.is_archived(app.data_root, app.archive_root, day, kinds)
        except RecorderError:
            is_archived = False
        if not is_archived:
            due.add(day)
    return sorted(due)


def _done(app: App, day: str, kinds: Sequence[str]) -> _DayDone:
    """Certificate and archive of one day; a step that fails is told and does not stop the next."""
    done = _DayDone(day)
    try:
        certificate, page = _certified(app, day)
    except (RecorderError, OSError) as exc:
        done.problems.append(f"certificate: {problem_text(exc)}")
    else:
        done.grade, done.certificate, done.complete = certificate.grade, certificate.sentence, certificate.fine
        done.page = str(page) if page is not None else None
    ((_, archived),) = for_each_day([day], "archive", lambda name: stored_rows(app, name), _archiver(app, kinds))
    if isinstance(archived, str):
        done.problems.append(f"archive: {archived}")
    else:
        done.archive, done.rows = archived_text(archived), archived.rows
    return done


def _certified(app: App, day: str) -> tuple[Certificate, Path | None]:
    """The certificate, and the page where all rows could be read."""
    from hk_tick_collector.quality.certificate import check_judgeable, make_certificate  # noqa: PLC0415
    from hk_tick_collector.quality.gap_list import gap_lines  # noqa: PLC0415
    from hk_tick_collector.quality.index import write_index  # noqa: PLC0415
    from hk_tick_collector.quality.page import write_page  # noqa: PLC0415
    from hk_tick_collector.quality.recount import recount  # noqa: PLC0415
    from hk_tick_collector.quality.report_file import write_certificate  # noqa: PLC0415

    stored_day = app.catalog.day(day)
    check_judgeable(stored_day)
    certificate = make_certificate(stored_day, app.calendar, app.now_ms, read=False)
    page = None
    if certificate.error is None:
        with progress(f"recount {day}", certificate.stored_ticks) as on_rows:
            recounted = recount(stored_day, app.calendar.day_kind(day), on_rows=on_rows)
        certificate = make_certificate(stored_day, app.calendar, app.now_ms, recounted)
        page = write_page(app.data_root, certificate, recounted.plots, gap_lines(stored_day))
    write_certificate(app.data_root, certificate)
    write_index(app.data_root, app.catalog.days())
    return certificate, page


def _archiver(app: App, kinds: Sequence[str]) -> Any:
    from hk_tick_collector.archive import pack  # noqa: PLC0415

    def work(day: str, on_rows: Any) -> Outcome:
        pack.check_at_rest(app.data_root, day, app.calendar, app.now_ms)
        return pack.archive_day(app.data_root, app.archive_root, day, kinds, made_at_ms=app.now_ms, on_rows=on_rows)

    return work


def _print(days: Sequence[_DayDone], verdicts: Sequence[Verdict]) -> None:
    if not days:
        show_text("nothing is due: every day that is over has its certificate and its archive")
    for day in days:
        if day.certificate is not None:
            show_text(day.certificate)
        if day.page is not None:
            show_text(f"{day.trading_day}: page {day.page}")
        if day.archive is not None:
            show_text(f"{day.trading_day}: {day.archive}")
        for problem in day.problems:
            show_text(f"{day.trading_day}: NOT DONE: {problem}")
    for verdict in verdicts:
        reason = verdict.reason or f"{verdict.freed_bytes / 1e6:,.1f} MB; the archive holds all of it"
        show_text(f"{verdict.trading_day}: day file {verdict.action}: {reason}")

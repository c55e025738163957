"""What ``archive``, ``verify``, ``restore`` and ``retain`` with ``--kind snapshot``, and ``eod``, do with snapshots."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hk_tick_collector.cli.archiving import archive_job, print_results, problem_text
from hk_tick_collector.cli.common import EXIT_FINE, EXIT_PROBLEM, App
from hk_tick_collector.cli.export_snapshots import KINDS, snapshot_places
from hk_tick_collector.cli.terminal import show_text
from hk_tick_collector.core.errors import NoData, RecorderError
from hk_tick_collector.core.text import counted
from hk_tick_collector.store.layout import replace_file, reports_dir, snapshot_days, snapshot_file
from hk_tick_collector.watch.when import some_days

if TYPE_CHECKING:
    from hk_tick_collector.archive.stores import ArchiveStore

kind_option = click.option(
    "--kind", type=click.Choice(KINDS), help="tick, or snapshot: what SOURCE=gexbot records. Default: what is there."
)


def refuse_for_snapshots(signers_file: Path | None) -> None:
    """UsageError for what snapshots have not."""
    if signers_file is not None:
        raise click.UsageError("--signers is for ticks: archives of snapshots are not signed")


def archive_snapshots(app: App, days: str | None, place: str | None = None) -> int:
    """Put away the days named, or all that are over and not archived as they are; with ``place`` send them there."""
    if not snapshot_days(app.data_root) and place is None:
        raise NoData(f"no snapshots are recorded under {app.data_root}")
    store = None if place is None else _store_at(place)
    with archive_job(app):
        chosen = some_days(snapshot_places(app), days) if days is not None else None
        results = _archived(app, chosen)
        if store is not None:
            failed = [row for row in results if row["action"] == "failed"]
            results = failed + _sent(app, store, chosen, {row["trading_day"] for row in failed})
    return _emit(app, results, "nothing to do: every day that is over is archived")


def _store_at(place: str) -> ArchiveStore:
    from hk_tick_collector.archive.places import open_store  # noqa: PLC0415 - as above

    return open_store(place)


def _sent(app: App, store: ArchiveStore, days: Sequence[str] | None, failed: Collection[str]) -> list[dict[str, Any]]:
    """Those that are archived here; without ``days`` the ones that the store has not as they are."""
    from hk_tick_collector.archive import snapshot_copies, snapshots  # noqa: PLC0415 - as above

    results = []
    for day in snapshots.archived_days(app.archive_root) if days is None else days:
        if day in failed:
            continue
        try:
            entry, action = snapshot_copies.send(store, app.archive_root, day)
        except (RecorderError, OSError) as exc:
            results.append({"trading_day": day, "action": "failed", "details": problem_text(exc)})
            continue
        details = f"{counted(entry.records, 'snapshot')} in {entry.packed_bytes:,} bytes, read back from {store.place}"
        if action != "unchanged" or days is not None:
            results.append({"trading_day": day, "action": action, "details": details})
    return results


def verify_snapshots(app: App, days: str | None, place: str | None = None) -> int:
    """Read archives to their end, or the copies at ``place``."""
    from hk_tick_collector.archive import snapshots  # noqa: PLC0415 - as above

    if place is not None:
        return _verify_copies(app, days, _store_at(place))
    there = snapshots.archived_days(app.archive_root)
    chosen = there if days is None else [day for day in there if _is_within(day, days)]
    if not chosen:
        raise NoData(f"no snapshots of these days are archived under {app.archive_root}")

    def work(day: str) -> str:
        entry, problems = snapshots.check(app.data_root, app.archive_root, day)
        if problems or entry is None:
            raise NoData("; ".join(problems))
        return f"{counted(entry.records, 'snapshot')}, {entry.packed_bytes:,} bytes, as they were packed"

    with archive_job(app, only_reads=True):
        return _emit(app, _of_days(chosen, "fine", work), "")


def _verify_copies(app: App, days: str | None, store: ArchiveStore) -> int:
    from hk_tick_collector.archive import copies, snapshot_copies  # noqa: PLC0415 - as above

    there = snapshot_copies.sent_days(store)
    chosen = there if days is None else [day for day in there if _is_within(day, days)]
    if not chosen:
        raise NoData(f"no snapshots of these days are in {store.place}")

    def work(day: str) -> str:
        with copies.staging() as place:
            entry = snapshot_copies.fetch(store, day, place)
        return f"{counted(entry.records, 'snapshot')}, {entry.packed_bytes:,} bytes, as they were packed"

    return _emit(app, _of_days(chosen, "fine", work), "")


def restore_snapshots(app: App, day: str, into: Path | None, place: str | None = None) -> int:
    """Bring one day back, out of the archive or from ``place``."""
    from hk_tick_collector.archive import copies, snapshot_copies, snapshots  # noqa: PLC0415 - as above

    target = app.data_root if into is None else into.absolute()
    with archive_job(app, restore_into=target, only_reads=True), copies.staging() as there:
        archive_root = app.archive_root
        if place is not None:
            snapshot_copies.fetch(_store_at(place), _named(day), there)
            archive_root = there
        path = snapshots.bring_back(archive_root, _named(day), target)
    app.emit({"trading_day": day, "path": str(path)}, lambda: show_text(f"{day}: its snapshots are in {path}"))
    return EXIT_FINE


def retain_snapshots(app: App, keep_days: int, *, dry_run: bool, place: str | None = None) -> int:
    """Delete live files of all but the newest days, each only when the archive, or the copy at ``place``, holds its
    bytes."""
    if not snapshot_days(app.data_root):
        raise NoData(f"no snapshots are recorded under {app.data_root}")
    with archive_job(app):
        results = _retained(app, keep_days, dry_run=dry_run, store=None if place is None else _store_at(place))
    return _emit(app, results, f"nothing to do: no file is older than the newest {keep_days}")


def end_of_day(app: App, keep_days: int) -> int:
    """Report, archive and retention of a data root that has snapshots and no ticks."""
    from hk_tick_collector.archive import snapshots  # noqa: PLC0415 - as above

    with archive_job(app, restore_into=app.data_root):
        over = [day for day in snapshot_days(app.data_root) if snapshots.is_over(day, app.calendar, app.now_ms)]
        results = _of_days(over, "reported", lambda day: _report(app, day))
        results += _archived(app, None)
        results += _retained(app, keep_days, dry_run=False) if keep_days else []
    return _emit(app, results, "nothing to do: no day is over")


def _report(app: App, day: str) -> str:
    """A day's report as JSON beside the certificates of ticks; its sentence."""
    from hk_tick_collector.quality.snapshots import report_of  # noqa: PLC0415 - as above

    path = snapshot_file(app.data_root, day)
    report = report_of(path, day, app.market, app.calendar.day_kind(day), app.now_ms)
    plain = {"state": report.state, "sentence": report.sentence, **asdict(report)}
    directory = reports_dir(app.data_root)
    directory.mkdir(mode=0o750, exist_ok=True)
    replace_file(directory / f"{day}.snapshots.json", (json.dumps(plain, indent=1) + "\n").encode())
    return report.sentence


def _archived(app: App, days: Sequence[str] | None) -> list[dict[str, Any]]:
    from hk_tick_collector.archive import snapshots  # noqa: PLC0415 - as above

    if days is None:
        days = [
            day
            for day in snapshot_days(app.data_root)
            if snapshots.is_over(day, app.calendar, app.now_ms)
            and not snapshots.is_archived(app.data_root, app.archive_root, day)
        ]

    def work(day: str) -> str:
        entry = snapshots.put_away(app.data_root, app.archive_root, day, app.now_ms)
        return f"{counted(entry.records, 'snapshot')} in {entry.packed_bytes:,} bytes, read back"

    return _of_days(days, "archived", work)


def _retained(app: App, keep_days: int, *, dry_run: bool, store: ArchiveStore | None = None) -> list[dict[str, Any]]:
    from hk_tick_collector.archive import copies, snapshot_copies, snapshots  # noqa: PLC0415 - as above

    def work(day: str) -> str:
        with copies.staging() as there:
            if store is not None:
                snapshot_copies.fetch(store, day, there)
            archive_root = app.archive_root if store is None else there
            freed = snapshots.leave_to_archive(app.data_root, archive_root, day, dry_run=dry_run)
        return f"{freed:,} bytes"

    old = snapshot_days(app.data_root)[:-keep_days]
    return _of_days(old, "would go" if dry_run else "deleted", work)


def _of_days(days: Sequence[str], action: str, work: Callable[[str], str]) -> list[dict[str, Any]]:
    """One step of each day; one that fails is told and does not stop the next."""
    results = []
    for day in days:
        try:
            results.append({"trading_day": day, "action": action, "details": work(day)})
        except (RecorderError, OSError) as exc:
            results.append({"trading_day": day, "action": "failed", "details": problem_text(exc)})
    return results


def _emit(app: App, results: Sequence[dict[str, Any]], nothing: str) -> int:
    def human() -> None:
        if results:
            print_results([(row["trading_day"], row["action"], row["details"]) for row in results])
        else:
            show_text(nothing)

    app.emit(results, human)
    return EXIT_PROBLEM if any(row["action"] == "failed" for row in results) else EXIT_FINE


def _is_within(day: str, text: str) -> bool:
    """Is it of a day or a range A..B?"""
    first, dots, last = text.partition("..")
    if not dots:
        return day == text
    return (not first or day >= first) and (not last or day <= last)


def _named(day: str) -> str:
    if not (len(day) == 8 and day.isascii() and day.isdigit()):
        raise click.UsageError("name the day as YYYYMMDD")
    return day

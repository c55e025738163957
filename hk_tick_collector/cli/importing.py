"""``hk-tickctl import``: what other programs recorded, into day files."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hk_tick_collector.cli.common import (
    EXIT_NO_DATA,
    EXIT_PROBLEM,
    App,
    be_gentle,
    progress,
    tickctl_command,
)
from hk_tick_collector.cli.ending import clean_ending
from hk_tick_collector.cli.groups import Group
from hk_tick_collector.core.errors import StoreError
from hk_tick_collector.sources.sierra.depth import SUFFIX, parse_depth_name
from hk_tick_collector.sources.sierra.mapping import LocalTimes
from hk_tick_collector.sources.sierra.naming import MARKET, Instrument, instrument_of, parse_rule
from hk_tick_collector.sources.sierra.scid import FIELD_BYTES, unix_us
from hk_tick_collector.store.data_root import claim
from hk_tick_collector.store.layout import DataRootLock, make_dir

if TYPE_CHECKING:
    from hk_tick_collector.imports.depth import DepthImport
    from hk_tick_collector.imports.sierra import FileImport

DAYS_SHOWN = 20
LEFT = "what is stored stays, and the same command goes on with it"
GC_THRESHOLD_OBJECTS = 200_000


@tickctl_command(
    "sierra",
    short_help="Sierra Chart's intraday files (.scid).",
    help="""Import Sierra Chart's intraday files (.scid, "1 Tick" storage) of CME Group futures; keep its depth files.

    The symbol comes from the file's name: ESZ26_FUT_CME.scid is CME.ESZ26. Trades go into the day file of their
    trading day, which begins at 17:00 Chicago time of the day before. The command may be interrupted and run again:
    what is stored is not stored again. Files are only read. Days of bars are refused, and named.

    Depth files (ESZ26_FUT_CME.2026-11-20.depth) are kept beside their day as they are, compressed and hashed, and go
    into its archive; no book is made of them.

    Exits with 0 when every record is stored, 1 when some are not (refused days, records in the quarantine, a file that
    cannot be read), 2 for wrong usage, a data root of another market or one that a recorder writes to, 3 when there is
    no record.
    """,
)
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE..."
)
@click.option(
    "--multiplier",
    "multipliers",
    multiple=True,
    metavar="[SYMBOL=]M",
    help="Written price x M is the price: 0.01, or CME.6E*=0.0001 for some symbols. Default 1.",
)
@click.option(
    "--tick-size",
    "tick_sizes",
    multiple=True,
    metavar="[SYMBOL=]T",
    help="Prices are multiples of T; others go to the quarantine. Default: prices as they are written.",
)
@click.option(
    "--timestamp-tz", "zone", metavar="ZONE",
    help="Times in the files are local times of ZONE, as other programs write them. Sierra Chart writes UTC.",
)  # fmt: skip
def command_sierra(
    app: App, files: Sequence[Path], multipliers: Sequence[str], tick_sizes: Sequence[str], zone: str | None
) -> int | None:
    """Run it."""
    from hk_tick_collector.imports.depth import import_depth  # noqa: PLC0415
    from hk_tick_collector.imports.sierra import SierraImport, new_writer  # noqa: PLC0415

    multiplier_rules = [parse_rule("--multiplier", text) for text in multipliers]
    tick_size_rules = [parse_rule("--tick-size", text) for text in tick_sizes]
    instruments: list[tuple[Path, Instrument]] = [
        (path, instrument_of(path.name, multiplier_rules, tick_size_rules)) for path in files if not is_depth(path)
    ]
    depth_files = [path for path in files if is_depth(path)]
    for path in depth_files:
        parse_depth_name(path.name)
    to_unix_us = unix_us if zone is None else LocalTimes(zone)
    records = sum(path.stat().st_size // FIELD_BYTES for path, _ in instruments)
    data_root = _data_root(app)
    be_gentle()
    _calm_gc()
    done = []
    kept: list[DepthImport] = []
    with DataRootLock(data_root), clean_ending(LEFT), progress("import", 2 * records) as advance:
        claim(data_root, MARKET)
        # Closing only tidies up: on a disk that is full it fails, and what is committed is safe.
        with suppress(StoreError), closing(new_writer(data_root)) as writer:
            for path, instrument in instruments:
                job = SierraImport(path, instrument, writer, app.now_ms, to_unix_us, advance)
                done.append(job.result)
                try:
                    job.run()
                except StoreError as exc:  # what the files before it brought is told all the same
                    job.result.error = f"{exc}; {LEFT}"
                    break
        kept.extend(import_depth(path, data_root, app.now_ms) for path in depth_files)
    results: list[FileImport | DepthImport] = [*done, *kept]
    app.emit([{**asdict(imported), "clean": imported.clean} for imported in results], lambda: _show_all(done, kept))
    if not all(imported.clean for imported in results):
        return EXIT_PROBLEM
    return None if kept or any(imported.records for imported in done) else EXIT_NO_DATA


def _data_root(app: App) -> Path:
    """Made when it is named and does not exist: a first import needs no recorder."""
    if app.data_root_given is not None and not app.data_root_given.exists():
        make_dir(app.data_root_given.absolute())
    return app.data_root


def _calm_gc() -> None:
    """Ticks make no cycles; looking for some costs a tenth of the time."""
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD_OBJECTS, 20, 20)


def is_depth(path: Path) -> bool:
    """By its name."""
    return path.suffix.lower() == SUFFIX


def _show_all(done: Sequence[FileImport], kept: Sequence[DepthImport]) -> None:
    _show(done)
    if done and kept:
        print()
    for depth in kept:
        if depth.kept is None:
            print(f"{depth.file.name}: not kept: {depth.error}")
            continue
        ratio = f"{depth.kept.size_bytes:,} bytes, {depth.kept.packed_bytes:,} packed"
        how = "already there" if depth.already_there else "kept"
        print(f"{depth.file.name}: {how} beside {depth.trading_day}: {depth.kept.records:,} records, {ratio}")
        if depth.kept.torn_bytes:
            print(
                f"  it ends with {depth.kept.torn_bytes} bytes of a record that is not written wholly: import it again "
                "when Sierra Chart has"
            )


def _show(done: Sequence[FileImport]) -> None:
    for number, imported in enumerate(done):
        if number:
            print()
        print(f"{imported.file.name}: {imported.symbol}")
        if imported.error is not None:
            print(f"  not imported: {imported.error}")
            if not imported.stored:
                continue
        print(f"  read: {imported.records:,} records of {_days(imported)}")
        print(f"  stored: {imported.stored:,}")
        print(f"  already there: {imported.already_there:,}{_renumbered(imported)}")
        if imported.days:
            again = f", {imported.unchanged_days} read before and unchanged since" if imported.unchanged_days else ""
            print(f"  equal to the file: {imported.equal_days} of {imported.days} days{again}")
        if imported.quarantined:
            codes = ", ".join(f"{code} {rows:,}" for code, rows in sorted(imported.quarantined.items()))
            total = sum(imported.quarantined.values())
            kept = f"{total - imported.not_kept:,} of {total:,} refused" if imported.not_kept else f"{total:,}"
            print(f"  in the quarantine: {kept} ({codes})")
        for day, reason in list(imported.refused.items())[:DAYS_SHOWN]:
            print(f"  refused {day}: {reason}")
        if len(imported.refused) > DAYS_SHOWN:
            print(f"  refused {len(imported.refused) - DAYS_SHOWN} days more")
        if imported.torn_bytes:
            print(f"  not read: {imported.torn_bytes} bytes of a record that is not written wholly")


def _days(imported: FileImport) -> str:
    if imported.days < 2:
        return f"trading day {imported.first_day}" if imported.days else "no trading day"
    return f"{imported.days} trading days, {imported.first_day} to {imported.last_day}"


def _renumbered(imported: FileImport) -> str:
    return f" ({imported.renumbered:,} with other microseconds)" if imported.renumbered else ""


@click.group("import", cls=Group)
def command() -> None:
    """Bring in what other programs recorded."""


command.add_command(command_sierra)

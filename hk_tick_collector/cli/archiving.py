"""What the commands around the archive share: the job's frame, the formats, one day's failure that stops no other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hk_tick_collector.cli.common import App, be_gentle, print_table, progress
from hk_tick_collector.cli.ending import clean_ending
from hk_tick_collector.core.disk import told
from hk_tick_collector.core.errors import NoData, RecorderError
from hk_tick_collector.core.text import counted, days_there
from hk_tick_collector.store import layout
from hk_tick_collector.store.layout import holds_snapshots
from hk_tick_collector.watch.when import nothing_recorded

if TYPE_CHECKING:
    from hk_tick_collector.archive.pack import Outcome
    from hk_tick_collector.archive.signing import Signers
    from hk_tick_collector.store.reader import CoverageRow

FORMATS = {"parquet": ("parquet",), "sqlite": ("sqlite",), "both": ("parquet", "sqlite")}

T = TypeVar("T")

format_option = click.option(
    "--format",
    "format_",
    type=click.Choice(list(FORMATS)),
    help="parquet for research, sqlite for the day file itself (compressed), or both. An archive keeps the formats "
    "that it has. Default: the setting ARCHIVE_FORMAT, else parquet.",
)


from_option = click.option(
    "--from",
    "place",
    metavar="PLACE",
    help="Use copies in s3://BUCKET/PREFIX or a directory instead of the archive.",
)


signers_option = click.option(
    "--signers",
    "signers_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Allowed signers, in the format of ssh-keygen(1) (ALLOWED SIGNERS).",
)


def signers_of(signers_file: Path | None) -> Signers | None:
    """Those whom the file allows, None without one. ConfigError when there is no such file."""
    from hk_tick_collector.archive.signing import Signers  # noqa: PLC0415 - Arrow takes its time

    return None if signers_file is None else Signers.of(signers_file)


def kinds_of(app: App, format_: str | None) -> tuple[str, ...]:
    """The kinds of files that a format stands for; the setting's when none was named."""
    if format_ is None:
        format_ = "parquet" if app.data_root_given is not None else app.places.archive_format
    return FORMATS[format_]


@contextmanager
def reading_job(app: App) -> Iterator[None]:
    """Gently, and not while another job changes the archive. ``Busy`` when one does."""
    from hk_tick_collector.archive import atomic  # noqa: PLC0415 - Arrow takes its time

    be_gentle()
    with clean_ending(), atomic.beside_readers(app.archive_root):
        yield


@contextmanager
def archive_job(app: App, *, restore_into: Path | None = None, only_reads: bool = False) -> Iterator[None]:
    """Alone on the archive, gently, with what an earlier job left half done set right. ``Busy`` when it is taken.

    ``only_reads``: an archive that this user may not write to is read all the same, beside other readers."""
    from hk_tick_collector.archive import atomic, copies, pack, restore  # noqa: PLC0415 - Arrow takes its time

    be_gentle()
    with ExitStack() as stack:
        stack.enter_context(clean_ending())
        if only_reads and not os.access(app.archive_root, os.W_OK):
            stack.enter_context(atomic.beside_readers(app.archive_root))
        else:
            stack.enter_context(atomic.only_job(app.archive_root))
            pack.tidy(app.archive_root)
            copies.tidy(app.archive_root)
        if restore_into is not None:
            stack.enter_context(atomic.only_job(restore_into, restore.LOCK_FILE))
            restore.tidy(restore_into)
        yield


@contextmanager
def gentle_job() -> Iterator[None]:
    """For what reads a copy elsewhere: nobody can be in its way."""
    be_gentle()
    with clean_ending():
        yield


@contextmanager
def restoring_job(directory: Path) -> Iterator[None]:
    """Alone on the directory that a day is brought back into, from a copy elsewhere."""
    from hk_tick_collector.archive import atomic, copies, restore  # noqa: PLC0415 - Arrow takes its time

    be_gentle()
    with clean_ending(), atomic.only_job(directory, restore.LOCK_FILE):
        restore.tidy(directory)
        copies.tidy(directory)
        yield


def for_each_day(
    days: Iterable[str], text: str, expected_rows: Callable[[str], int | None], work: Callable[[str, Any], T]
) -> Iterator[tuple[str, T | str]]:
    """``work(day, on_rows)`` day by day with a progress bar; its result, or what went wrong. The other days go on."""
    for day in days:
        with progress(f"{text} {day}", expected_rows(day)) as on_rows:
            try:
                yield day, work(day, on_rows)
            except (RecorderError, OSError) as exc:
                yield day, problem_text(exc)


def problem_text(exc: RecorderError | OSError) -> str:
    """An error as one sentence."""
    if isinstance(exc, RecorderError):
        return str(exc)
    return told(exc)


def day_file_of(app: App, day: str) -> Path | None:
    """The day's file, when there is one."""
    path = layout.day_file(app.data_root, day)
    return path if path.exists() else None


def stored_rows(app: App, day: str) -> int | None:
    """About how many ticks a day has, for a progress bar; None when nothing says."""
    try:
        stored_day = app.catalog.day(day)
        rows: list[CoverageRow] = stored_day.coverage()
    except (RecorderError, OSError):
        return None
    return sum(row.stored_ticks for row in rows) or None


def archived_text(outcome: Outcome) -> str:
    """What became of a day, in one line."""
    size_mb = sum(file.size_bytes for file in outcome.files) / 1e6
    verb = {"archived": "archived", "replaced": "archived anew", "unchanged": "already archived"}[outcome.action]
    proof = "verified" if outcome.verified else "not verified"
    kinds = " and ".join(file.kind for file in outcome.files)
    stored = f"{counted(outcome.rows, 'tick')} of {counted(outcome.symbols, 'symbol')}"
    return f"{verb}, {proof}: {stored}, {size_mb:,.1f} MB ({kinds})"


def print_results(results: Iterable[tuple[str, str, str]]) -> None:
    """A table of day, what became of it, and the details."""
    print_table(("day", "result", "details"), results, text="details")


def none_of(app: App, absence: str) -> NoData:
    """There is nothing of this kind at all."""
    if holds_snapshots(app.data_root):
        return nothing_recorded(app.data_root)
    days = app.catalog.days()
    known = days_there(days)
    return NoData(f"{absence} under {app.data_root} or {app.archive_root}; {known}")

"""``hk-tickctl logs``: the recorder's lines from the journal, a file or standard input, filtered by what they say."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import click

from hk_tick_collector.cli.common import App, tickctl_command
from hk_tick_collector.cli.loglines import (
    LEVELS,
    Filter,
    LogRecord,
    from_journal,
    from_text,
)
from hk_tick_collector.cli.options import named_option, symbols_option, unit_option
from hk_tick_collector.cli.terminal import KEPT, RED, YELLOW, coloured, json_text, show_lines
from hk_tick_collector.core.errors import NoData, RecorderError
from hk_tick_collector.core.regular import open_named
from hk_tick_collector.core.text import printable

DEFAULT_LINES = 100
_COLOURS = {"WARNING": YELLOW, "ERROR": RED, "CRITICAL": RED}
FOLLOW_INTERVAL_SEC = 0.3
CHUNK_BYTES = 65_536
_AGO = re.compile(r"(\d+)\s*(s|sec|m|min|h|hours?|d|days?)(?:\s+ago)?")
_AGO_SEC = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@tickctl_command(
    "logs",
    help="""The recorder's log lines, filtered.

    From the journal of the service, or with --file from a file or standard input (Docker: docker logs NAME 2>&1 |
    hk-tickctl logs --file -). A line is a word and key=value pairs: --word health, --word WATCHDOG, --word "WATCHDOG
    stall". A line must match all filters; --word and --symbols may be given several times, and one of each must
    match.

    TIME is 10m, 2h or 3d (ago), 09:30 or 09:30:15 (today in Hong Kong), or a date and time such as 2026-11-20T09:30
    (Hong Kong time unless it names a zone). Lines without a time count as having the time of the line before.

    Times shown are the market's on a terminal (2026-11-20 09:30:00.123 HKT), and UTC as the recorder writes them into
    a pipe, unless --times says otherwise.

    With --json each line is an object on a line of its own (at_ms, level, word, fields, text), so that it can be
    followed. Exits with 3 when no line matches.""",
)
@click.option("--since", metavar="TIME", help="Only lines from this time on.")
@click.option("--until", metavar="TIME", help="Only lines up to this time.")
@click.option("--level", type=click.Choice(LEVELS, case_sensitive=False), help="This level or a more severe one.")
@click.option("--word", "words", multiple=True, metavar="WORD", help="The event: health, futu_connected, WATCHDOG, ...")
@symbols_option("Lines that name one of these symbols.")
@click.option(
    "-n", "--lines", type=click.IntRange(0), metavar="N", help="The newest N (default: 100; with --since all)."
)
@click.option("-f", "--follow", is_flag=True, help="Keep printing new lines until Ctrl-C.")
@click.option(
    "--file", "path", type=click.Path(path_type=Path, allow_dash=True), help="Read this file; - is standard input."
)
@named_option(
    "--times",
    "time_as",
    earlier=["--time"],
    type=click.Choice(["utc", "market"]),
    help="The clock on which times are shown.",
)
@unit_option
def command(
    app: App,
    since: str | None,
    until: str | None,
    level: str | None,
    words: tuple[str, ...],
    symbols: tuple[str, ...],
    lines: int | None,
    follow: bool,
    path: Path | None,
    time_as: str | None,
    unit: str,
) -> None:
    wanted = Filter(
        since_ms=_moment_ms(app, since),
        until_ms=_moment_ms(app, until),
        level=level.upper() if level else None,
        words=frozenset(words),
        symbols=_codes(symbols),
    )
    limit = lines if lines is not None else None if since else DEFAULT_LINES
    time_as = time_as or ("market" if sys.stdout.isatty() else "utc")
    show = _show_json if app.as_json else _show_at_market if time_as == "market" else _show_text
    advice = "leave out a filter, or look further back with --since"
    if path is None:
        advice += f". {_whose(unit)}"
        shown = _from_journal(unit, wanted, limit, follow=follow, show=show)
    elif str(path) == "-":
        shown = _from_stream(sys.stdin.buffer, wanted, limit, follow=follow, show=show)
    elif path.is_fifo():
        with path.open("rb") as stream:  # whoever names a pipe waits for what is written into it
            shown = _from_stream(stream, wanted, limit, follow=follow, show=show)
    else:
        shown = _from_file(path, wanted, limit, follow=follow, show=show)
    if not shown and not follow:
        raise NoData(f"no line fits; {advice}")


def _whose(unit: str) -> str:
    if os.geteuid() == 0:
        return f"The journal was read for the unit {unit}: name another one with --unit, or the log with --file"
    return (
        f"Lines of {unit} are for root and the group systemd-journal to see; without systemd name the log with --file"
    )


_Shower = Callable[[LogRecord], None]


def _show_at_market(record: LogRecord) -> None:
    from hk_tick_collector.market.registry import DEFAULT_MARKET  # noqa: PLC0415 - there is no data root

    zone, at_ms = DEFAULT_MARKET.zone, record.at_ms
    stamp = "" if at_ms is None else f"{zone.date_and_clock(at_ms)}.{at_ms % 1000:03d} {DEFAULT_MARKET.time_word}"
    _show(stamp, record)


def _show_text(record: LogRecord) -> None:
    _show(record.parts[0], record)


def _show(before: str, record: LogRecord) -> None:
    _, level, text = record.parts
    parts = (printable(before, KEPT), coloured(printable(level), _COLOURS.get(level, "")), printable(text, KEPT))
    show_lines([" ".join(part for part in parts if part)])
    sys.stdout.flush()


def _show_json(record: LogRecord) -> None:
    print(json_text(record.as_json()), flush=True)


def _moment_ms(app: App, text: str | None) -> int | None:
    if text is None:
        return None
    ago = _AGO.fullmatch(text.strip())
    if ago:
        return app.now_ms - int(ago[1]) * _AGO_SEC[ago[2][0]] * 1000
    from hk_tick_collector.market.registry import DEFAULT_MARKET  # noqa: PLC0415 - there is no data root
    from hk_tick_collector.watch.when import instant_ms  # noqa: PLC0415

    zone = DEFAULT_MARKET.zone
    return instant_ms(text.strip(), zone.date(app.now_ms), zone)


def _codes(symbols: tuple[str, ...]) -> frozenset[str]:
    if not symbols:
        return frozenset()
    from hk_tick_collector.market.registry import DEFAULT_MARKET  # noqa: PLC0415 - there is no data root
    from hk_tick_collector.watch.when import symbol_list  # noqa: PLC0415

    return frozenset(symbol_list(DEFAULT_MARKET, symbols))


def _newest(records: Iterable[LogRecord], limit: int | None) -> Iterable[LogRecord]:
    return records if limit is None else deque(records, maxlen=limit)


def _show_all(records: Iterable[LogRecord], show: _Shower) -> int:
    shown = 0
    for record in records:
        show(record)
        shown += 1
    return shown


def _from_stream(stream: BinaryIO, wanted: Filter, limit: int | None, *, follow: bool, show: _Shower) -> int:
    """Standard input ends by itself; followed, its lines are shown as they come."""
    if follow:
        return _show_all(wanted.of(from_text(_arriving(stream))), show)
    return _show_all(_newest(wanted.of(from_text(_decoded(stream))), limit), show)


def _from_file(path: Path, wanted: Filter, limit: int | None, *, follow: bool, show: _Shower) -> int:
    with open_named(path) as file:
        shown = _show_all(_newest(wanted.of(from_text(_decoded(file))), limit), show)
        end = file.tell()
    if follow:
        _show_all(wanted.of(from_text(_growing(path, end))), show)
    return shown


def _decoded(lines: Iterable[bytes]) -> Iterator[str]:
    return (line.decode("utf-8", "replace").rstrip("\r\n") for line in lines)


def _arriving(stream: BinaryIO) -> Iterator[str | None]:
    """Whole lines of a pipe; None when it pauses."""
    rest = b""
    while True:
        if not select.select([stream], [], [], FOLLOW_INTERVAL_SEC)[0]:
            yield None
            continue
        chunk = os.read(stream.fileno(), CHUNK_BYTES)
        if not chunk:
            break
        *whole, rest = (rest + chunk).split(b"\n")
        yield from _decoded(whole)
    if rest:
        yield from _decoded([rest])


def _growing(path: Path, start: int) -> Iterator[str | None]:
    """Whole lines as they are appended behind ``start``; None when nothing comes. A file that was cut or replaced
    (logrotate) is read from its beginning."""
    while True:
        with open_named(path) as file:
            inode = os.fstat(file.fileno()).st_ino
            file.seek(start)
            rest = b""
            while True:
                chunk = file.read(CHUNK_BYTES)
                *whole, rest = (rest + chunk).split(b"\n")
                yield from _decoded(whole)
                if chunk:
                    continue
                yield None
                time.sleep(FOLLOW_INTERVAL_SEC)
                if _was_replaced(path, inode, file.tell()):
                    break
        start = 0


def _was_replaced(path: Path, inode: int, read_bytes: int) -> bool:
    try:
        now = path.stat()
    except FileNotFoundError:
        return False  # between the renaming and the new file
    return now.st_ino != inode or now.st_size < read_bytes


def _from_journal(unit: str, wanted: Filter, limit: int | None, *, follow: bool, show: _Shower) -> int:
    journalctl = shutil.which("journalctl")
    if journalctl is None:
        raise RecorderError(
            "there is no journal on this machine (no journalctl): name the log with --file, - is standard input"
        )
    base = [journalctl, "--no-pager", "--output=json", f"--unit={unit}", *_journal_times(wanted)]
    # Newest first, so that a few lines of a long journal come at once.
    matching: list[LogRecord] = []
    cursor: str | None = None
    complaint = ""
    with _Journal([*base, "--reverse"]) as journal:
        for entry in journal:
            cursor = cursor or entry.get("__CURSOR")
            record = from_journal(entry)
            if record is not None and wanted.fits(record):
                if limit is not None and len(matching) >= limit:
                    break
                matching.append(record)
        else:
            complaint = journal.complaint()
    if cursor is None and complaint:
        raise RecorderError(f"the journal cannot be read: {complaint.rstrip('.')}. {_whose(unit)}")
    shown = _show_all(reversed(matching), show)
    if follow:
        newer = [f"--after-cursor={cursor}"] if cursor else []
        with _Journal([*base, "--follow", "--no-tail", *newer]) as journal:
            shown += _show_all(wanted.of(record for entry in journal if (record := from_journal(entry))), show)
    return shown


def _journal_times(wanted: Filter) -> list[str]:
    times = []
    if wanted.since_ms is not None:
        times.append(f"--since=@{wanted.since_ms // 1000}")
    if wanted.until_ms is not None:
        times.append(f"--until=@{wanted.until_ms // 1000 + 1}")
    return times


class _Journal:
    """A running ``journalctl`` and its entries; ended with the block."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # noqa: S603 - ours

    def __enter__(self) -> _Journal:
        return self

    def __iter__(self) -> Iterator[dict[str, Any]]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict):
                yield entry

    def complaint(self) -> str:
        """What it says when it fails, after its last entry."""
        assert self._process.stderr is not None
        text = self._process.stderr.read().decode("utf-8", "replace").strip()
        return " ".join(text.split()) if self._process.wait() or text else ""

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

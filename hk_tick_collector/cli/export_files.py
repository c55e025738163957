"""What an export wrote, as ``hk-tickctl export`` shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from hk_tick_collector.cli.common import App, print_table, say
from hk_tick_collector.core.text import counted
from hk_tick_collector.store.verdict import MISSING, PROVEN

if TYPE_CHECKING:
    from hk_tick_collector.export.backtest import Proof
    from hk_tick_collector.export.job import Exported
    from hk_tick_collector.export.rows import DayPart

FILES_SHOWN = 50
DAYS_TOLD = 5


def emit_files(app: App, format_: str, done: Sequence[Exported], rows: str = "tick") -> None:
    """The files, as a table or as JSON. ``rows``: what one row in them is."""
    app.emit(_as_json(format_, done), lambda: _show(done, rows))


def say_incomplete(parts: Sequence[DayPart]) -> None:
    """Of which days it is not proven that they are whole, as far as that is known by now."""
    from hk_tick_collector.cli.export_backtest import proofs_of  # noqa: PLC0415 - it shows files, too

    told = [text for text in (_incomplete(part, proofs_of(part.day)) for part in parts) if text]
    for text in told[:DAYS_TOLD]:
        say(text)
    if len(told) > DAYS_TOLD:
        say(f"... and {len(told) - DAYS_TOLD:,} more days of which that is so")


def _incomplete(part: DayPart, proofs: Mapping[str, Proof]) -> str:
    wanted = part.symbols()
    rows = [proofs[symbol] for symbol in wanted if symbol in proofs]
    missing_ticks = sum(row.missing_ticks for row in rows if row.state == MISSING)
    proven = sum(row.state == PROVEN for row in rows)
    if proven == len(wanted) or (part.so_far and not missing_ticks):
        return ""
    lost = f", {counted(missing_ticks, 'tick')} known to be missing" if missing_ticks else ""
    unproven = f"{len(wanted) - proven} of {counted(len(wanted), 'symbol')} not proven complete"
    return f"{part.day.trading_day}: {unproven}{lost} (hk-tickctl gaps)"


def _as_json(format_: str, done: Sequence[Exported]) -> dict[str, object]:
    return {"format": format_, "rows": sum(file.rows for file in done), "files": [asdict(file) for file in done]}


def _show(done: Sequence[Exported], row: str) -> None:
    rows = [
        (" ".join(file.trading_days) + (" so far" if file.so_far else ""), file.rows, file.size_bytes, file.path)
        for file in done[:FILES_SHOWN]
    ]
    noun = f"{row}s"
    print_table(("day", noun, "bytes", "file"), rows, numbers=(noun, "bytes"), spare=("bytes",), text="file")
    if len(done) > FILES_SHOWN:
        print(f"and {len(done) - FILES_SHOWN:,} more")
    rows_in_all, bytes_in_all = sum(file.rows for file in done), sum(file.size_bytes for file in done)
    print(f"{counted(rows_in_all, row)} in {counted(len(done), 'file')}, {bytes_in_all:,} bytes")

"""What an export wrote, as ``hk-tickctl export`` shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from hk_tick_collector.cli.common import App, print_table
from hk_tick_collector.core.text import counted

if TYPE_CHECKING:
    from hk_tick_collector.export.job import Exported

FILES_SHOWN = 50


def emit_files(app: App, format_: str, done: Sequence[Exported], rows: str = "tick") -> None:
    """The files, as a table or as JSON. ``rows``: what one row in them is."""
    app.emit(_as_json(format_, done), lambda: _show(done, rows))


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

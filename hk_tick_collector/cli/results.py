"""Where the rows of ``query``, ``ticks``, ``bars`` and ``top`` go: the options that these commands share.

On a terminal a table ends after a screenful or two and says so; into a pipe or a file everything goes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from hk_tick_collector.cli.common import App, say, say_left_out
from hk_tick_collector.cli.ending import clean_ending
from hk_tick_collector.cli.options import named_option
from hk_tick_collector.cli.terminal import guarded_bytes, width
from hk_tick_collector.core.text import counted
from hk_tick_collector.store.layout import no_directory

if TYPE_CHECKING:
    import pyarrow as pa

    from hk_tick_collector.query.cells import TimeAs

TERMINAL_ROWS = 100
_FORMATS = ("table", "csv", "json", "jsonl", "parquet", "arrow")


@dataclass(frozen=True)
class Output:
    """What was asked for."""

    format_name: str
    path: Path | None
    replace: bool
    time_as: TimeAs
    show_all: bool
    big_as_text: bool

    @classmethod
    def of(cls, app: App, options: dict[str, Any]) -> Output:
        """From the options of ``output_options``. UsageError for what does not fit together, before any work."""
        from hk_tick_collector.query import output  # noqa: PLC0415 - Arrow takes its time

        path: Path | None = options["output"]
        asked: str | None = options["format_name"]
        if app.as_json and asked not in (None, output.JSON):
            raise click.UsageError(f"--json and --format {asked} exclude each other")
        name = output.JSON if app.as_json else asked
        if name is None:
            name = output.TABLE if path is None else output.SUFFIXES.get(path.suffix.lower(), "")
        if path is not None:
            _check_target(path, name, options["force"])
        elif name in output.BINARY_FORMATS and sys.stdout.isatty():
            raise click.UsageError(f"{name} is binary: write it with --output FILE or into a pipe")
        time_as = _time_as(app, options["time_as"] or ("market" if name == output.TABLE else "utc"))
        return cls(name, path, options["force"], time_as, options["show_all"], options["big_ints"] == "string")

    @property
    def is_table(self) -> bool:
        """For people, who miss no column that says nothing."""
        return self.format_name == "table"

    def write(self, schema: pa.Schema, batches: Iterable[pa.RecordBatch], *, spare: Sequence[str] = ()) -> int:
        """Write the rows; how many. ``spare``: columns of a table that may be left out where a terminal has no room,
        the first ones first. BrokenPipeError when the reader of a pipe went away."""
        from hk_tick_collector.query import output  # noqa: PLC0415

        if self.path is not None:
            with clean_ending(), output.new_file(self.path, replace=self.replace) as file:
                rows = output.write_rows(
                    schema, batches, self.format_name, file, time_as=self.time_as, big_as_text=self.big_as_text,
                    is_file=True,
                )  # fmt: skip
            say(f"{counted(rows, 'row')} -> {self.path}")
            return rows
        stream: BinaryIO = guarded_bytes(sys.stdout.buffer) if sys.stdout.isatty() else sys.stdout.buffer
        if self.format_name == output.TABLE and sys.stdout.isatty():
            first = _First(batches, sys.maxsize if self.show_all else TERMINAL_ROWS)
            fit = output.Fit(width(), spare)
            rows = output.write_rows(schema, first, self.format_name, stream, time_as=self.time_as, fit=fit)
            say_left_out(fit.left_out)
            if first.there_is_more:
                say(f"the first {rows} rows; --all shows all, --output FILE keeps them")
            return rows
        return output.write_rows(
            schema, batches, self.format_name, stream, time_as=self.time_as, big_as_text=self.big_as_text
        )


def _time_as(app: App, word: str) -> TimeAs:
    """The clock that times are shown on."""
    from hk_tick_collector.market.registry import market_of  # noqa: PLC0415
    from hk_tick_collector.query.cells import LocalTime  # noqa: PLC0415

    if word not in ("market", "hk"):
        return word
    shown = app.market if word == "market" else market_of("HK")
    return LocalTime(shown.zone, shown.time_word)


class _First:
    """The first rows of some batches."""

    def __init__(self, batches: Iterable[pa.RecordBatch], rows: int) -> None:
        self._batches, self._rows = batches, rows
        self.there_is_more = False

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        left = self._rows
        for batch in self._batches:
            if batch.num_rows > left:
                self.there_is_more = True
                if left:
                    yield batch.slice(0, left)
                return
            left -= batch.num_rows
            yield batch


def output_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options, in the order in which --help shows them; ``Output.of`` takes them."""
    options: list[Callable[[Callable[..., Any]], Callable[..., Any]]] = [
        click.option(
            "--format", "format_name", type=click.Choice(_FORMATS), help="Default: by the file's ending, else table."
        ),
        click.option(
            "--output", "-o", type=click.Path(path_type=Path, dir_okay=False), help="Write to this new file."
        ),
        click.option("--force", is_flag=True, help="Replace the output file when there is one."),
        named_option(
            "--times", "time_as", earlier=["--time"], type=click.Choice(["utc", "market", "hk", "ms"]),
            help="Times as UTC, on the market's clock, as Hong Kong time, or as UTC epoch milliseconds. "
            "Default: market in tables, else utc.",
        ),
        click.option(
            "--big-ints", type=click.Choice(["number", "string"]), default="number", show_default=True,
            help="json, jsonl: whole numbers that a double cannot hold (seq). For jq before 1.7, JavaScript.",
        ),
        click.option("--all", "show_all", is_flag=True, help=f"More than {TERMINAL_ROWS} rows on a terminal, too."),
    ]  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


def _check_target(path: Path, format_name: str, force: bool) -> None:
    if not format_name:
        raise click.UsageError(f"{path}: its ending names no format: add --format, one of {', '.join(_FORMATS)}")
    if not path.absolute().parent.is_dir():
        raise click.UsageError(f"{no_directory(path.absolute().parent)}: make it first")
    if path.exists() and not force:
        raise click.UsageError(f"{path} exists: choose another name, or replace it with --force")

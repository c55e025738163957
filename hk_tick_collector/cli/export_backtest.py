"""``hk-tickctl export hftbacktest`` and ``nautilus``: the options, and running it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hk_tick_collector.cli.common import App, progress, say
from hk_tick_collector.cli.ending import clean_ending
from hk_tick_collector.cli.export_files import emit_files
from hk_tick_collector.cli.export_proofs import proofs_of

if TYPE_CHECKING:
    from hk_tick_collector.export.backtest import Options
    from hk_tick_collector.export.hft_events import Latency
    from hk_tick_collector.export.job import Exported
    from hk_tick_collector.export.rows import Advance, DayPart

HFTBACKTEST, NAUTILUS = BACKTEST_FORMATS = ("hftbacktest", "nautilus")
_Function = TypeVar("_Function", bound=Callable[..., Any])
_OF_NAUTILUS = "--python"
_OF_HFTBACKTEST = "--processes"
_FORMAT_OF = {_OF_NAUTILUS: NAUTILUS, _OF_HFTBACKTEST: HFTBACKTEST}  # of what one format has alone
_OPTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    (
        "--trades-only",
        {"is_flag": True, "help": "Trades without books: fills are then too optimistic, and the meta says so."},
    ),
    (
        "--strict",
        {"is_flag": True, "help": "Refuse days and symbols that are not proven complete, or blind for a while."},
    ),
    (
        "--latency",
        {"metavar": "MODEL", "help": "measured (default), constant:MS or lognormal:MEAN:SD in milliseconds."},
    ),
    ("--seed", {"type": click.IntRange(0), "help": "Seed of the random latencies. [default: 0]"}),
    ("--auctions", {"is_flag": True, "help": "Include the trades of the auctions, which are otherwise left out."}),
    ("--neutral", {"type": click.Choice(["none", "tick-rule"]), "help": "Side of NEUTRAL trades. [default: none]"}),
    (
        "--tick-size",
        {"type": click.FloatRange(0, min_open=True), "help": "Instead of what OpenD or the day's prices say."},
    ),
    (
        "--lot-size",
        {"type": click.FloatRange(0, min_open=True), "help": "Instead of what OpenD or the day's volumes say."},
    ),
    (
        _OF_HFTBACKTEST,
        {"type": click.IntRange(1, 64),
         "help": "How many read a large day's books side by side. [default: one a core, at most 4]"},
    ),
    (
        _OF_NAUTILUS,
        {"type": click.Path(path_type=Path, exists=True, dir_okay=False),
         "help": "A Python that has NautilusTrader. [default: this one]"},
    ),
)  # fmt: skip


def backtest_options(function: _Function) -> _Function:
    """The options that only files for backtesters have."""
    for name, attributes in reversed(_OPTIONS):
        of = _FORMAT_OF.get(name, "backtesters")
        shown = {**attributes, "help": f"{of}: {attributes['help'][0].lower()}{attributes['help'][1:]}"}
        function = click.option(name, **shown)(function)
    return function


def check_backtest_options(format_: str, given: Mapping[str, Any]) -> None:
    """UsageError for one that this format does not have."""
    for name, _ in _OPTIONS:
        formats = (_FORMAT_OF[name],) if name in _FORMAT_OF else BACKTEST_FORMATS
        if given[name.lstrip("-").replace("-", "_")] and format_ not in formats:
            raise click.UsageError(f"{name} is for {' and '.join(formats)}, not for {format_}")


def export_backtest(
    app: App, format_: str, parts: Sequence[DayPart], output: str, given: Mapping[str, Any], *, force: bool
) -> None:
    """Run it."""
    from hk_tick_collector.export.backtest import Options  # noqa: PLC0415 - Arrow takes its time

    options = Options(
        given["trades_only"],
        given["auctions"],
        given["neutral"] == "tick-rule",
        given["strict"],
        _latency(given["latency"] or "measured", given["seed"] or 0),
        given["tick_size"],
        given["lot_size"],
    )
    if Path(output).suffix in (".npz", ".parquet"):
        raise click.UsageError("there are several files for each day and symbol: name a directory")
    if options.trades_only:
        say("trades alone: a backtest without books fills orders at once, which no market does; the meta says so")
    with clean_ending(), progress(f"export {format_}", sum(part.rows_at_most() for part in parts)) as advance:
        done = list(_EXPORTS[format_](parts, Path(output), options, given, force=force, advance=advance))
    emit_files(app, format_, done, "event")


def _hftbacktest(
    parts: Sequence[DayPart], root: Path, options: Options, given: Mapping[str, Any], *, force: bool, advance: Advance
) -> Iterator[Exported]:
    from hk_tick_collector.export.hftbacktest import export_hftbacktest  # noqa: PLC0415
    from hk_tick_collector.export.shares import default_processes  # noqa: PLC0415

    processes = given["processes"] or default_processes()
    return export_hftbacktest(parts, root, options, proofs_of, say, force=force, processes=processes, advance=advance)


def _nautilus(
    parts: Sequence[DayPart], root: Path, options: Options, given: Mapping[str, Any], *, force: bool, advance: Advance
) -> Iterator[Exported]:
    from hk_tick_collector.export.nautilus import export_nautilus  # noqa: PLC0415

    python = (given["python"] or Path(sys.executable)).absolute()
    return export_nautilus(parts, root, options, proofs_of, say, python=python, force=force, advance=advance)


_EXPORTS = {HFTBACKTEST: _hftbacktest, NAUTILUS: _nautilus}


def _latency(text: str, seed: int) -> Latency:
    from hk_tick_collector.export.hft_events import Latency, LatencyMode  # noqa: PLC0415

    mode, *numbers = text.split(":")
    wanted = {LatencyMode.MEASURED: 0, LatencyMode.CONSTANT: 1, LatencyMode.LOGNORMAL: 2}
    try:
        values = [float(number) for number in numbers]
        if wanted[LatencyMode(mode)] != len(values) or not all(0 < value < 1e6 for value in values):
            raise ValueError
    except ValueError:
        raise click.UsageError(
            f"{text!r} is not a latency: measured, constant:MS or lognormal:MEAN:SD, in milliseconds above 0"
        ) from None
    mean_ms, sd_ms = [*values, 0.0, 0.0][:2]
    return Latency(LatencyMode(mode), mean_ms, sd_ms, seed)

"""An export from end to end: which files there will be, whether they may be written, and writing one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pyarrow as pa

from hk_tick_collector.core.errors import NoData
from hk_tick_collector.days.tree import hive_path
from hk_tick_collector.export.rows import Advance, DayPart, by_symbol
from hk_tick_collector.export.target import BadPattern, Pattern, check_free, writing

# Writes tables to the first path and returns the rows. The second path is the name the file will have.
Write = Callable[[Path, Iterator[pa.Table], Path], int]


@dataclass(frozen=True, slots=True)
class Exported:
    """One file that was written."""

    path: Path
    trading_days: tuple[str, ...]
    rows: int
    size_bytes: int
    so_far: bool  # a day in it is still being recorded


def export_tree(
    parts: Sequence[DayPart], root: Path, write: Write, *, force: bool, advance: Advance
) -> Iterator[Exported]:
    """A file a day in Hive's layout. Days without a tick that is wanted are left out.

    As of all exports here: TargetExists before any work, NoData when there is not one tick in all.
    """
    plan = [(hive_path(root, part.day.trading_day, part.day.market.code), [part]) for part in parts]
    return _export(plan, write, force, advance)


def export_files(
    parts: Sequence[DayPart], pattern: Pattern, write: Write, *, force: bool, advance: Advance, one_day_a_file: bool
) -> Iterator[Exported]:
    """A file a day, or one for all days when the name has no ``{day}``. BadPattern when one file takes one day only."""
    plan: dict[Path, list[DayPart]] = {}
    for part in parts:
        plan.setdefault(pattern.path(part.day.trading_day), []).append(part)
    if one_day_a_file and any(len(days) > 1 for days in plan.values()):
        raise BadPattern(f"{pattern.text!r} is one name for {len(parts)} days: put {{day}} into it or name a directory")
    return _export(list(plan.items()), write, force, advance)


def export_symbols(
    parts: Sequence[DayPart], pattern: Pattern, write: Write, *, force: bool, advance: Advance
) -> Iterator[Exported]:
    """A file a day and symbol."""
    if len(parts) > 1 and not pattern.has_day:
        raise BadPattern(f"{pattern.text!r} is one name for {len(parts)} days: put {{day}} into it or name a directory")
    check_free((pattern.path(part.day.trading_day, name) for part in parts for name in part.symbols()), force=force)
    return _some(_each_symbol(parts, pattern, write, advance))


def _each_symbol(parts: Sequence[DayPart], pattern: Pattern, write: Write, advance: Advance) -> Iterator[Exported]:
    for part in parts:
        day = part.day.trading_day
        for symbol, tables in by_symbol(part.tables(advance)):
            path = pattern.path(day, symbol)
            with writing(path) as temporary:
                rows = write(temporary, tables, path)
            yield Exported(path, (day,), rows, path.stat().st_size, part.so_far)


def _export(
    plan: Sequence[tuple[Path, list[DayPart]]], write: Write, force: bool, advance: Advance
) -> Iterator[Exported]:
    check_free((path for path, _ in plan), force=force)
    return _some(_each_file(plan, write, advance))


def _each_file(plan: Sequence[tuple[Path, list[DayPart]]], write: Write, advance: Advance) -> Iterator[Exported]:
    for path, parts in plan:
        tables = chain.from_iterable(part.tables(advance) for part in parts)
        first = next(tables, None)
        if first is None:
            continue
        with writing(path) as temporary:
            rows = write(temporary, chain((first,), tables), path)
        days = tuple(part.day.trading_day for part in parts)
        yield Exported(path, days, rows, path.stat().st_size, any(part.so_far for part in parts))


def _some(files: Iterator[Exported]) -> Iterator[Exported]:
    """The same, and NoData when there is none."""
    is_empty = True
    for file in files:
        is_empty = False
        yield file
    if is_empty:
        raise NoData("no tick of these days is of these symbols and types: nothing was written")

"""The ticks of a few symbols over days, live and archived alike, without DuckDB: by an index or by row groups.

Costs what the symbols' own rows cost (about 2 µs a row from a day file), whatever else a day holds. What is not there
is explained: which days the symbols have, or which symbols the days have.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hk_tick_collector.core.errors import StoreError
from hk_tick_collector.days.catalog import Catalog, Day
from hk_tick_collector.days.schema import COLUMNS, empty_table
from hk_tick_collector.query.trade_types import is_trade

EXPLAIN_DAYS = 60  # the newest days that are searched for a symbol that is not where it was looked for
LISTED = 8


@dataclass(frozen=True, slots=True)
class DayPart:
    """A stretch of a day: event times in UTC epoch ms, end exclusive, None for open."""

    day: Day
    start_ms: int | None = None
    end_ms: int | None = None


def fetch_ticks(
    parts: Sequence[DayPart],
    symbols: Sequence[str],
    columns: Sequence[str] = COLUMNS,
    *,
    keep_type: Callable[[str | None], bool] | None = None,
    trades_only: bool = False,
    last_rows: int | None = None,
) -> pa.Table:
    """Ticks by day, symbol, time, sequence (those without a sequence last).

    ``keep_type``: which tick types. ``trades_only``: none whose price or volume is 0. ``last_rows``: only so many, the
    latest in that order; days before them are not read. Raises as ``Day.ticks`` does.
    """
    narrowing = (("tick_type",) if keep_type is not None else ()) + (("price", "volume") if trades_only else ())
    needed = tuple(dict.fromkeys((*columns, *narrowing)))
    tables: list[pa.Table] = []
    rows = 0
    for part in reversed(parts) if last_rows is not None else parts:
        table = part.day.ticks(symbols, needed, start_ms=part.start_ms, end_ms=part.end_ms)
        if keep_type is not None:
            table = table.filter(pa.array(type_mask(table, keep_type)))
        if trades_only:
            table = table.filter(is_trade(table))
        tables.append(table.select(list(columns)))
        rows += table.num_rows
        if last_rows is not None and rows >= last_rows:
            break
    if last_rows is not None:
        tables.reverse()
    whole = joined(tables) if tables else empty_table(tuple(columns))
    return whole if last_rows is None else whole.slice(max(0, whole.num_rows - last_rows))


def joined(tables: Sequence[pa.Table]) -> pa.Table:
    """The rows of several tables of one schema, one after the other, with one dictionary a column."""
    return pa.concat_tables(tables).unify_dictionaries()


def type_mask(table: pa.Table, keep: Callable[[str | None], bool]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """For which rows ``keep`` holds of the tick type (None for NULL)."""
    column = table.column("tick_type").combine_chunks() if table.num_rows else pa.array([], table["tick_type"].type)
    if isinstance(column, pa.ChunkedArray):
        column = column.unify_dictionaries().chunk(0)
    answers = np.array([keep(text) for text in column.dictionary.to_pylist()] + [keep(None)], np.bool_)
    mask: np.ndarray[tuple[int], np.dtype[np.bool_]] = answers[
        pc.fill_null(column.indices, len(answers) - 1).to_numpy(zero_copy_only=False)
    ]
    return mask


def explain_nothing(catalog: Catalog, days: Sequence[Day], symbols: Sequence[str], narrowing: str) -> str:
    """Why there are no ticks: one sentence for a person.

    ``narrowing``: what else was asked beside days and symbols ("from 09:30 to 10:00"), empty when there is none.
    """
    named = ", ".join(symbols)
    on = _few([day.trading_day for day in days])
    here = _symbols_of(days)
    if any(symbol in here for symbol in symbols):
        return f"{named} has ticks on {on}, but none {narrowing or 'that can be read'}"
    others = [catalog.day(name) for name in catalog.days()[-EXPLAIN_DAYS:]]
    elsewhere = [day.trading_day for day in others if _symbols_of([day]).intersection(symbols)]
    if elsewhere:
        return f"{named} has no ticks on {on}; it has some on {_few(elsewhere)}"
    known = here or _symbols_of(others)
    near = difflib.get_close_matches(symbols[0], sorted(known), n=3, cutoff=0.7)
    hint = f"; near to it are {', '.join(near)}" if near else ""
    return f"{named} has no ticks on {on}{hint}; recorded are {_few(sorted(known))}"


def _symbols_of(days: Iterable[Day]) -> set[str]:
    symbols: set[str] = set()
    for day in days:
        try:
            symbols.update(day.symbols())
        except StoreError:
            continue  # an explanation: what cannot be read explains nothing
    return symbols


def _few(names: Sequence[str]) -> str:
    if len(names) <= LISTED:
        return ", ".join(names) or "nothing"
    return f"{', '.join(names[: LISTED - 2])} ... {names[-1]} ({len(names)} in all)"

"""Bars that are made once: those whose first pages went out, and those of archived days.

The next page of the same state is cut from the same table.
A page's cursor fixes the question and, for every day, the state of its file, and both are looked at anew for every page
(``plan.reading_of``), so a table that is kept for them is what would be made again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import replace

import pyarrow as pa

from hk_tick_collector.client.plan import DayRead
from hk_tick_collector.client.question import BarQuestion, Stretch
from hk_tick_collector.serve.api.states import name_of, state_of

KEPT_TABLES = 4
ROWS_OF_A_TABLE = 100  # what the smallest costs
KEPT_ROWS = 200_000  # of all tables: about 25 MB


class BarPages:
    """Of one reading process. ``page``: what makes two answers pages of the same bars (``plan.Page``)."""

    def __init__(self) -> None:
        self._tables: OrderedDict[Hashable, pa.Table] = OrderedDict()

    def get(self, page: Hashable) -> pa.Table | None:
        """The bars of these pages, if they are kept."""
        return self._tables.get(page)

    def keep(self, page: Hashable, bars: pa.Table, limit: int) -> None:
        """Keep what does not fit into one page; the oldest goes."""
        self._tables.pop(page, None)
        if limit < bars.num_rows <= KEPT_ROWS:
            self._tables[page] = bars
        while len(self._tables) > KEPT_TABLES or sum(table.num_rows for table in self._tables.values()) > KEPT_ROWS:
            self._tables.popitem(last=False)


class DayBars:
    """Bars of archived days, of one reading process: what an archive holds is known by its hash."""

    def __init__(self) -> None:
        self._tables: OrderedDict[Hashable, pa.Table] = OrderedDict()

    def of(self, read: DayRead, question: BarQuestion, make: Callable[[], pa.Table]) -> pa.Table:
        """The bars of a day's part. What is not of an archive alone, or of a moment in the past, is made each time."""
        if read.last_rowid is not None or read.day.db is not None or question.stretch.as_of_ms is not None:
            return make()
        part = name_of(read), state_of(read), read.symbols, read.start_ms, read.end_ms
        kind = part, replace(question, stretch=Stretch(()))
        kept = self._tables.pop(kind, None)
        made = make() if kept is None else kept
        if made.num_rows <= KEPT_ROWS:
            self._tables[kind] = made
        while sum(max(table.num_rows, ROWS_OF_A_TABLE) for table in self._tables.values()) > KEPT_ROWS:
            self._tables.popitem(last=False)
        return made

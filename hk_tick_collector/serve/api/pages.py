"""Bars whose first pages went out: the next page of the same state is cut from the same table.

A page's cursor fixes the question and, for every day, the state of its file, and both are looked at anew for every page
(``plan.reading_of``), so a table that is kept for them is what would be made again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

import pyarrow as pa

KEPT_TABLES = 4
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
        while len(self._tables) > KEPT_TABLES or sum(one.num_rows for one in self._tables.values()) > KEPT_ROWS:
            self._tables.popitem(last=False)

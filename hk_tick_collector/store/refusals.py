"""A batch in which some rows cannot be stored: all others are, and those are named.

A batch is halved until each refused row stands alone: n of them cost n times log2(rows) writes, and none of the rest.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from typing import Protocol

from hk_tick_collector.core.errors import RowRefused, StoreError, StoreFault
from hk_tick_collector.core.facts import CAUTIONS, IN_QUARANTINE, DayFact, Fact, Unproven
from hk_tick_collector.core.logline import event
from hk_tick_collector.records.tick import Tick
from hk_tick_collector.store.write_result import WriteResult

FAULT_PROBE_ROWS = 20  # tried one by one before a fault of our own is laid at the door of single rows

_log = logging.getLogger(__name__)
_Errors = tuple[type[StoreError], ...]
_Refused = list[tuple[Tick, str]]


class Writer(Protocol):
    """As ``writer.DayFileWriter``."""

    def write(self, ticks: Sequence[Tick], facts: Sequence[Fact | DayFact] = (), /) -> WriteResult:
        """Store a batch, or raise."""

    @property
    def missing_ticks(self) -> int:
        """Ticks known to be missing in the days that are open now."""


def isolate(
    writer: Writer, ticks: Sequence[Tick], facts: Sequence[Fact | DayFact] = (), of_the_row: _Errors = (RowRefused,)
) -> tuple[WriteResult, _Refused]:
    """Store a batch in which SQLite refuses some rows: halve it until each of them stands alone.

    Returns what was stored, and the refused ticks with the reason, in the order of the batch. Cautions go first, the
    other facts last, when the days of the refused ticks are marked as unproven; apart, so that none of them costs a
    tick. What is not ``of_the_row`` is raised; the whole call may then be repeated.
    """
    result = _learn_apart(writer, [fact for fact in facts if isinstance(fact, CAUTIONS)], of_the_row)
    refused: _Refused = []
    parts = [ticks]
    while parts:
        part = parts.pop()
        try:
            result = result.merged(writer.write(part))
        except of_the_row as exc:
            if len(part) == 1:
                refused.append((part[0], str(exc)))
            else:
                middle = len(part) // 2
                parts += [part[middle:], part[:middle]]
    result = result.merged(_mark_refused(writer, [tick for tick, _ in refused]))
    rest = [fact for fact in facts if not isinstance(fact, CAUTIONS)]
    return result.merged(_learn_apart(writer, rest, of_the_row)), refused


def isolate_fault(
    writer: Writer, ticks: Sequence[Tick], facts: Sequence[Fact | DayFact]
) -> tuple[WriteResult, _Refused]:
    """As ``isolate``, for a batch that met a fault of the recorder's own code again and again.

    A fault that no row of an even sample escapes is not the rows' own: StoreFault then, and nothing is refused.
    """
    first = _first_stored(writer, ticks)
    result, refused = isolate(writer, ticks, facts, (RowRefused, StoreFault))
    # The row that was stored first is met again, and ignored: it counts once.
    inserted_rows, ignored_rows = result.inserted_rows + first, result.ignored_rows - first
    return result._replace(inserted_rows=inserted_rows, ignored_rows=ignored_rows), refused


def _learn_apart(writer: Writer, facts: Sequence[Fact | DayFact], of_the_fact: _Errors) -> WriteResult:
    try:
        return writer.write((), facts)
    except of_the_fact as exc:
        _log.error(event("facts_refused", facts=len(facts), error=exc, todo="their days stay unproven"))
        return WriteResult(missing_ticks=writer.missing_ticks)


def _mark_refused(writer: Writer, refused: Sequence[Tick]) -> WriteResult:
    """What is in the quarantine is not in the file: no certificate may call the symbol's day proven."""
    result = WriteResult()
    names = dict.fromkeys((tick.symbol, tick.trading_day) for tick in refused if isinstance(tick.symbol, str))
    for symbol, day in names:
        with contextlib.suppress(RowRefused, StoreFault):  # a name that is none has no day to be proven
            result = result.merged(writer.write((), [Unproven(symbol, day, IN_QUARANTINE)]))
    return result


def _first_stored(writer: Writer, ticks: Sequence[Tick]) -> int:
    """Store one row, the first of an even sample that can be. 1 if it was new, 0 if it was stored already."""
    for tick in ticks[:: -(-len(ticks) // FAULT_PROBE_ROWS)] if ticks else ():
        with contextlib.suppress(StoreFault, RowRefused):
            return writer.write([tick]).inserted_rows
    raise StoreFault("no row of the batch can be stored, so the fault is not of single rows")

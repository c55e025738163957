"""How much of the volume a conflated source's rows hold, by the running total that it tells with each of them.

Such a source shows the last trade now and then; what was traded unseen in between is in the total alone
(``facts.CONFLATED``). A row is seen for as much as its total has grown since the row before, at most its own volume:
the other way round a correction would count twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from hk_tick_collector.core.facts import CONFLATED, reasons_of
from hk_tick_collector.store.reader import CoverageRow

if TYPE_CHECKING:
    from hk_tick_collector.days.catalog import Day


class Observed(NamedTuple):
    """Of one symbol or more, in units of volume, since the total began to count the day."""

    seen: int = 0  # that the rows hold
    told: int = 0  # that the source says was traded, by the last row


def observed(day: Day, coverage: Iterable[CoverageRow]) -> dict[str, Observed]:
    """By symbol, of those whose day is conflated and that have a total. StoreError when the rows cannot be read."""
    conflated = [row.symbol for row in coverage if CONFLATED in reasons_of(row.distrust)]
    observed = ((symbol, _of_rows(day, symbol)) for symbol in conflated)
    return {symbol: volume for symbol, volume in observed if volume.told > 0}


def _of_rows(day: Day, symbol: str) -> Observed:
    import numpy as np  # noqa: PLC0415 - a certificate without it is made where there is no numpy

    table = day.ticks([symbol], ("ts_ms", "volume", "total_volume"))
    table = table.filter(table["total_volume"].is_valid())
    ts_ms, volume, total = (
        table[name].cast("int64").fill_null(0).to_numpy() for name in ("ts_ms", "volume", "total_volume")
    )
    order = np.lexsort((total, ts_ms))
    volume, total = volume[order], total[order]
    before = np.concatenate(([0], total[:-1])) if len(total) else total
    began_anew = total < before // 2  # else a smaller one is a correction
    grown = np.where(began_anew, total, total - before)
    return Observed(int(np.minimum(volume, np.maximum(grown, 0)).sum()), int(grown.sum()))


def note_of(observed: Iterable[Observed]) -> list[str]:
    """What a certificate says of it."""
    seen, told = (sum(numbers) for numbers in zip(Observed(), *observed, strict=True))
    if told <= 0:
        return []
    percent = 100.0 if seen >= told else min(100 * seen / told, 99.9)  # never rounded up to all of it
    return [f"the source conflates its trades: the rows hold {percent:.1f} % of the volume that it told of"]

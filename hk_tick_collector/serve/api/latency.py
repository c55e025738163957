"""How late the ticks of a day were: the source's clock to ours, and ours to the file. Every pushed row is read once."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from hk_tick_collector.days.catalog import Day
from hk_tick_collector.quality.lags import Lags
from hk_tick_collector.records.tick import PUSH_TYPE_PUSH

SLOT_MS = 300_000
_COLUMNS = ("ts_ms", "recv_ts_ms", "inserted_at_ms", "push_type")
_SLOTS = 86_400_000 // SLOT_MS


def latency_of(day: Day) -> list[dict[str, Any]]:
    """Five minutes a line, those without a pushed tick left out. ``source``: from the event time to our receipt;
    ``file``: from there to the row's storing. Milliseconds, to 6.5 %. StoreError when the day cannot be read."""
    begins_ms = day.market.begins_ms(day.trading_day)
    source, file = Lags(_SLOTS), Lags(_SLOTS)
    for batch in day.batches(_COLUMNS, workers=1):
        pushed = batch.filter(pc.fill_null(pc.equal(batch.column(3), PUSH_TYPE_PUSH), False))
        ts_ms, recv_ms, stored_ms = (_ints(pushed.column(n)) for n in range(3))
        slots = np.clip((ts_ms - begins_ms) // SLOT_MS, 0, _SLOTS - 1)
        source.add(slots, recv_ms - ts_ms)
        file.add(slots, stored_ms - recv_ms)
    ticks = source.ticks
    lags: dict[str, list[float | None]] = {
        "source_p50_ms": source.quantile_ms(0.5),
        "source_p99_ms": source.quantile_ms(0.99),
        "file_p50_ms": file.quantile_ms(0.5),
        "file_p99_ms": file.quantile_ms(0.99),
    }
    return [
        {"start_ms": begins_ms + n * SLOT_MS, "ticks": ticks[n], **{name: values[n] for name, values in lags.items()}}
        for n in range(_SLOTS)
        if ticks[n]
    ]


def _ints(column: pa.Array) -> npt.NDArray[np.int64]:
    values: npt.NDArray[np.int64] = pc.fill_null(column.view(pa.int64()), 0).to_numpy(zero_copy_only=False)
    return values

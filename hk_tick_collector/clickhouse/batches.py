"""Rows of ClickHouse as Arrow, while they come."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import pyarrow as pa

from hk_tick_collector.clickhouse.connection import ClickHouse
from hk_tick_collector.core.pieces import Pieces


def batches_of(engine: ClickHouse, sql: str, **settings: str | int) -> Iterator[pa.RecordBatch]:
    """The record batches of a query, without its FORMAT. EngineAway, EngineRefused."""
    with engine.stream(f"{sql} FORMAT ArrowStream", **settings) as parts:
        head = next(parts, b"")
        if not head:
            return
        with pa.ipc.open_stream(pa.PythonFile(Pieces(chain((head,), parts)), "r")) as rows:
            yield from rows

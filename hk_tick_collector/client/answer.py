"""What a ``Backend`` answers (``client.api``): rows as they are read. Arrow itself is loaded by whoever reads some."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hk_tick_collector.client.coverage import Coverage

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Answer:
    """Rows as they are read, once, and how complete they are.

    ``coverage`` and the rows are of one state: what is recorded while they are read is in neither.
    ``batches`` raises what reading raises; an answer that ends without an error is whole.
    """

    schema: pa.Schema  # of ``days.schema.ticks_schema``, ``days.books.schema_of`` or ``query.bars.BARS``; times in UTC
    coverage: Coverage
    batches: Iterator[pa.RecordBatch]

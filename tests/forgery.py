"""Rows that are not those of a day and have its sums: what somebody can do who knows how ``days.content`` counts."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa

from hk_tick_collector.days import content, parquet
from hk_tick_collector.days.manifest import manifest_path, parquet_path

_HIGHEST = 2**63


def forge_price(archive_root: Path, day: str) -> None:
    """Give the first tick of an archived day another price, and a volume with which its row counts as before; the
    manifest's checksum is made to fit."""
    path = parquet_path(archive_root, day)
    table = pa.Table.from_batches(parquet.read_batches(path)).unify_dictionaries()
    row = table.slice(0, 1).combine_chunks().to_batches()[0]
    forged = _with(row, "price", row.column("price")[0].as_py() + 100.0)
    before, after = (_state_behind_price(batch) for batch in (row, forged))
    volume = (row.column("volume")[0].as_py() + before - after) % 2**64
    forged = _with(forged, "volume", volume - 2**64 if volume >= _HIGHEST else volume)
    parquet.write_sorted(path, [pa.concat_tables([pa.table(forged), table.slice(1)]).unify_dictionaries()])
    claim = json.loads(manifest_path(archive_root, day).read_text())
    claim["files"][0] |= {
        "size_bytes": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    manifest_path(archive_root, day).write_text(json.dumps(claim))


def _with(row: pa.RecordBatch, name: str, value: float) -> pa.RecordBatch:
    place = row.schema.get_field_index(name)
    return row.set_column(place, name, pa.array([value], row.schema.field(name).type))


def _state_behind_price(row: pa.RecordBatch) -> int:
    counted, state = content.DayContent(), np.zeros(1, np.uint64)
    for name in ("market", "symbol", "ts_ms", "price"):
        state = content.mixed(state + content._STEP + counted._values(row.column(row.schema.get_field_index(name))))
    return int(state[0])

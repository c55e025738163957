"""Ticks as CSV: the columns of the table ``ticks`` by name, strings in quotes, NULL as nothing between two commas.

Numbers are written so that reading them gives the same bits. The ending of the name says how it is compressed:
``.csv``, ``.csv.gz``, ``.csv.zst``.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv

from hk_tick_collector.days.schema import empty_table
from hk_tick_collector.export.texts import TimeForm, epoch_ms, iso_utc, plain_columns

SUFFIXES = (".csv", ".csv.gz", ".csv.zst")
TIME_FORMS: dict[str, TimeForm] = {"ms": epoch_ms, "iso": iso_utc}
_CODECS = {".gz": "gzip", ".zst": "zstd"}


def write_csv(path: Path, tables: Iterable[pa.Table], *, like: Path, times: str = "ms") -> int:
    """Write a file; rows written. ``like``: the name that says how to compress; ``times``: a key of TIME_FORMS."""
    form = TIME_FORMS[times]
    codec = _CODECS.get(like.suffix)
    schema = plain_columns(empty_table(), form).schema
    rows = 0
    with pa.OSFile(str(path), "wb") as file:
        sink = pa.CompressedOutputStream(file, codec) if codec else file
        with sink, pa_csv.CSVWriter(sink, schema) as writer:
            for table in tables:
                writer.write(plain_columns(table, form))
                rows += table.num_rows
    return rows

"""A day as a zip with one CSV a symbol, in the columns of Futu's ticker: code, name, time, price, volume, turnover,
ticker_direction, sequence, type.

``time`` is the market's own time as Futu writes it. The recorder does not store names: they come from the caller, and
are empty otherwise. Files carry no date of their own, so the zip of the same ticks is the same, byte for byte.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv

from hk_tick_collector.export.rows import by_symbol
from hk_tick_collector.export.texts import local_time, plain_columns
from hk_tick_collector.market.symbols import file_name
from hk_tick_collector.market.zone import Zone

SUFFIXES = (".zip",)
FUTU_COLUMNS = ("code", "name", "time", "price", "volume", "turnover", "ticker_direction", "sequence", "type")
_FROM = ("symbol", "ts_ms", "price", "volume", "turnover", "direction", "seq", "tick_type")
_DEFLATE_LEVEL = 2  # level 6 takes three times as long for 12 % less


def write_zip(path: Path, tables: Iterable[pa.Table], names: Mapping[str, str], zone: Zone) -> int:
    """Write a zip; rows written. ``names``: symbol to name; ``zone``: the market's clock."""
    rows = 0
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=_DEFLATE_LEVEL) as archive:
        for symbol, parts in by_symbol(tables):
            entry = zipfile.ZipInfo(f"{file_name(symbol)}.csv")
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            with archive.open(entry, "w", force_zip64=True) as file:
                writer: pa_csv.CSVWriter | None = None
                for part in parts:
                    columns = _futu_columns(part, names.get(symbol, ""), zone)
                    writer = writer or pa_csv.CSVWriter(file, columns.schema)
                    writer.write(columns)
                    rows += part.num_rows
                if writer is not None:
                    writer.close()
    return rows


def _futu_columns(table: pa.Table, name: str, zone: Zone) -> pa.RecordBatch:
    plain = plain_columns(table.select(list(_FROM)), local_time(zone))
    symbol, *others = plain.columns
    name_column = pa.repeat(pa.scalar(name, pa.string()), table.num_rows)
    return pa.RecordBatch.from_arrays([symbol, name_column, *others], names=list(FUTU_COLUMNS))

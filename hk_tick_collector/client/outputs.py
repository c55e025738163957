"""An answer as what was asked for: Arrow, polars, pandas, DuckDB. Each library is loaded when it is asked for."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from hk_tick_collector.client.answer import Answer
from hk_tick_collector.client.coverage import KEY
from hk_tick_collector.client.errors import RecordingsError


def converted(answer: Answer, to: str, zone: str) -> Any:
    """All rows, read now."""
    schema = in_zone(answer.schema, zone).with_metadata({KEY: answer.coverage.to_json().encode()})
    table = pa.Table.from_batches(list(answer.batches), answer.schema).unify_dictionaries().cast(schema)
    return table if to == "arrow" else _CONVERTERS[to](table)


def batches_in_zone(answer: Answer, zone: str) -> Iterator[pa.RecordBatch]:
    """The rows as they are read."""
    schema = in_zone(answer.schema, zone).with_metadata({KEY: answer.coverage.to_json().encode()})
    for batch in answer.batches:
        yield pa.RecordBatch.from_arrays(
            [column.cast(field.type) for column, field in zip(batch.columns, schema, strict=True)], schema=schema
        )


def in_zone(schema: pa.Schema, zone: str) -> pa.Schema:
    """The schema with its moments on another clock; they stay the same moments."""
    fields = [
        field.with_type(pa.timestamp(field.type.unit, tz=zone)) if pa.types.is_timestamp(field.type) else field
        for field in schema
    ]
    return pa.schema(fields)


def _polars(table: pa.Table) -> Any:
    return _library("polars").from_arrow(table)


def _pandas(table: pa.Table) -> Any:
    """Whole numbers with Arrow's type, so that a column with an absent value stays one of integers; the rest with
    pandas' own types, since ``resample``, ``between_time`` and slices by day refuse Arrow's."""
    dtype = _library("pandas").ArrowDtype
    frame = table.to_pandas(types_mapper=lambda kind: dtype(kind) if pa.types.is_integer(kind) else None)
    frame.attrs["coverage"] = _coverage(table)
    return frame


def _duckdb(table: pa.Table) -> Any:
    """A relation with a connection of its own."""
    return _library("duckdb").connect().from_arrow(table)


_CONVERTERS: dict[str, Callable[[pa.Table], Any]] = {"polars": _polars, "pandas": _pandas, "duckdb": _duckdb}


def _coverage(table: pa.Table) -> Any:

    return json.loads(table.schema.metadata[KEY])


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as exc:
        raise RecordingsError(f"the package {name} is missing", f"pip install {name}") from exc

"""The formats of an answer, written by the one who reads: rows through ``query.output``, and what stands around them.

JSON is one document: ``data``, ``next``, ``as_of``, ``coverage``, ``warnings``. The other formats are rows alone, so
the same facts are headers, and in Arrow and Parquet also metadata of the schema. ``seq`` is text in JSON: it is beyond
what JavaScript and others take for a whole number.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from hk_tick_collector.client.coverage import KEY, Coverage
from hk_tick_collector.export.texts import iso_utc, local_time
from hk_tick_collector.market.zone import Zone
from hk_tick_collector.query import cells, output
from hk_tick_collector.serve.api.out import Out

METADATA_PREFIX = "hk_ticks."
TEXT_IN_JSON = "seq"
EXACT_TIMES = {"recv_ts": "recv_ts_us", "bid_ts": "bid_ts_ms", "ask_ts": "ask_ts_ms", "side_ts": "side_ts_ms"}
PRICES = ("price", "turnover", "open", "high", "low", "close", "vwap", "bid_price", "ask_price")
_MEDIA = {
    "json": ("application/json", output.JSON),
    "ndjson": ("application/x-ndjson", output.JSONL),
    "csv": ("text/csv; charset=utf-8", output.CSV),
    "arrow": ("application/vnd.apache.arrow.stream", output.ARROW),
    "parquet": ("application/vnd.apache.parquet", output.PARQUET),
}
FORMATS = tuple(_MEDIA)


@dataclass
class Facts:
    """What is said of the rows."""

    as_of: dict[str, Any]
    coverage: dict[str, Any]
    warnings: list[str] = field(default_factory=list)
    next: str | None = None

    def headers(self) -> dict[str, str]:
        """For formats that are rows alone. Lists are left out: headers are short."""
        short = {name: value for name, value in self.coverage.items() if name != "not_proven"}
        summary = {
            "hk-as-of": json.dumps(self.as_of, separators=(",", ":")),
            "hk-coverage": json.dumps(short, separators=(",", ":")),
            "hk-warnings": str(len(self.warnings)),
        }
        return {**summary, "hk-next": self.next} if self.next else summary

    def metadata(self) -> dict[str, str]:
        """For a schema."""
        values = {"as_of": self.as_of, "coverage": self.coverage, "warnings": self.warnings}
        return {METADATA_PREFIX + name: json.dumps(value, ensure_ascii=False) for name, value in values.items()}


@dataclass(frozen=True)
class Look:
    """How values are shown, in formats that are text. ``time``: ``ms``, or with a text column beside: ``iso``, ``hk``
    (the market's clock)."""

    format: str
    time: str = "ms"
    prices: str = "number"


def media_type(format_name: str) -> str:
    """What the header Content-Type says."""
    return _MEDIA[format_name][0]


def written_format(format_name: str) -> str:
    """The format as ``query.output`` calls it."""
    return _MEDIA[format_name][1]


def send(
    out: Out, schema: pa.Schema, tables: Iterable[pa.Table], coverage: Coverage, facts: Facts, look: Look, zone: Zone
) -> int:
    """Head and body; how many rows. What formats without room for it do not say of the rows, the head does."""
    headers = {"content-type": media_type(look.format), "cache-control": "no-store"}
    if look.format != "json":
        headers.update(facts.headers())
    out.head(200, headers)
    return write_answer(out.body, schema, tables, coverage, facts, look, zone)


def write_answer(
    stream: BinaryIO,
    schema: pa.Schema,
    tables: Iterable[pa.Table],
    coverage: Coverage,
    facts: Facts,
    look: Look,
    zone: Zone,
) -> int:
    """The body; how many rows. ``coverage``, by symbol and day, stands in the schema of Arrow and Parquet, under the
    key that the Python API gives to its tables."""
    if look.format in ("arrow", "parquet"):
        metadata = {KEY.decode(): coverage.to_json(), **facts.metadata()}
        schema = schema.with_metadata(metadata)
        batches = (batch for table in tables for batch in table.replace_schema_metadata(None).to_batches())
        return output.write_rows(schema, batches, _MEDIA[look.format][1], stream, arrow_compression="zstd")
    shown = (as_text(table, look, zone) for table in tables)
    text_schema = as_text(schema.empty_table(), look, zone).schema
    batches = (batch for table in shown for batch in table.to_batches())
    if look.format != "json":
        return output.write_rows(text_schema, batches, _MEDIA[look.format][1], stream, time_as=cells.TIME_MS)
    rows = _write_json_rows(stream, batches)
    rest = {"next": facts.next, "as_of": facts.as_of, "coverage": facts.coverage, "warnings": facts.warnings}
    stream.write(b", " + json.dumps(rest, ensure_ascii=False).encode("utf-8", "backslashreplace")[1:])
    return rows


def _write_json_rows(stream: BinaryIO, batches: Iterable[pa.RecordBatch]) -> int:
    """The rows as JSON objects, a line each; how many. The numbers are those of ``query.cells``, in a fifth of the
    time: a column is written at once, and rows are put together from what lies between its commas."""
    rows = 0
    stream.write(b'{"data": [')
    for batch in batches:
        names = (json.dumps(name).replace("%", "%%") for name in batch.schema.names)
        row = ("{" + ", ".join(f"{name}: %s" for name in names) + "}").encode()
        for start in range(0, batch.num_rows, output.CHUNK_ROWS):
            part = batch.slice(start, output.CHUNK_ROWS)
            columns = [_literals(column) for column in part.columns]
            lines = b",\n".join([row % values for values in zip(*columns, strict=True)])
            stream.write((b",\n" if rows else b"\n") + lines)
            rows += part.num_rows
    stream.write(b"\n]")
    return rows


def _literals(column: pa.Array) -> list[bytes]:
    """A column's values, at least one, as JSON has them: times in UTC epoch milliseconds."""
    if pa.types.is_dictionary(column.type):
        texts = [*map(orjson.dumps, column.dictionary.to_pylist()), b"null"]
        return [texts[code] for code in pc.fill_null(column.indices, len(texts) - 1).to_numpy().tolist()]
    if pa.types.is_string(column.type):
        return [orjson.dumps(value) for value in column.to_pylist()]
    if pa.types.is_timestamp(column.type):
        column = column.view(pa.int64())
    if pa.types.is_floating(column.type) or not column.null_count:  # NULL is not-a-number, which JSON has as null
        values: Any = np.ascontiguousarray(column.to_numpy(zero_copy_only=False))
    else:
        values = column.to_pylist()
    literals: bytes = orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)
    return literals[1:-1].split(b",")


def as_text(table: pa.Table, look: Look, zone: Zone) -> pa.Table:
    """The table as its text formats show it."""
    for name in table.column_names:
        place, column = table.column_names.index(name), table.column(name)
        if name in EXACT_TIMES:  # of order books: numbers in the unit that their name says
            table = table.set_column(place, EXACT_TIMES[name], column.cast(pa.int64()))
        elif name == TEXT_IN_JSON and look.format in ("json", "ndjson"):
            table = table.set_column(place, name, column.cast(pa.string()))
        elif look.prices == "text" and name in PRICES:
            values = [None if value is None else repr(value) for value in column.to_pylist()]
            table = table.set_column(place, name, pa.array(values, pa.string()))
        elif look.time != "ms" and name in ("ts_ms", "start_ms"):
            form = iso_utc if look.time == "iso" else local_time(zone)
            texts = [form(chunk) for chunk in column.chunks]
            table = table.add_column(place, "time", pa.chunked_array(texts, pa.string()))
    return table

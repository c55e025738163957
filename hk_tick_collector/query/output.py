"""Rows on their way out: as a table, CSV, JSON, JSON lines, Parquet or Arrow, to standard output or to a file.

Batches are written as they come; nothing is gathered, whatever the number of rows. A file appears under its name only
when it is complete (temporary name beside it, fsync, rename), and takes the place of another only when asked to. No
column passes through a float that is not one.

Parquet holds zstd pages. Arrow is the IPC file format in a file and the IPC stream format in a pipe. Times with a zone
are labelled UTC in both, which changes no value.
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from hk_tick_collector.core.disk import unwritable
from hk_tick_collector.core.errors import RecorderError
from hk_tick_collector.core.tables import Column, Layout, aligned, cells_of, layout_of
from hk_tick_collector.query import cells
from hk_tick_collector.store.atomic import new_temporary, sync_file

TABLE, CSV, JSON, JSONL, PARQUET, ARROW = "table", "csv", "json", "jsonl", "parquet", "arrow"
FORMATS = (TABLE, CSV, JSON, JSONL, PARQUET, ARROW)
BINARY_FORMATS = (PARQUET, ARROW)
SUFFIXES = {".csv": CSV, ".json": JSON, ".jsonl": JSONL, ".ndjson": JSONL, ".parquet": PARQUET, ".arrow": ARROW}
CHUNK_ROWS = 20_000  # rows that become text at a time


@dataclass
class Fit:
    """How a table is made to fit a terminal (``core.tables``). ``width``: its cells in a line, None for a pipe;
    ``spare``: columns that may be left out, the first ones first; ``left_out``: those that were."""

    width: int | None = None
    spare: Sequence[str] = ()
    left_out: list[str] = field(default_factory=list)


class OutputExists(RecorderError):
    """The output file exists."""


def write_rows(
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    format_name: str,
    stream: BinaryIO,
    *,
    time_as: cells.TimeAs = cells.TIME_UTC,
    big_as_text: bool = False,
    is_file: bool = False,
    arrow_compression: str | None = None,
    fit: Fit | None = None,
) -> int:
    """Write all rows to ``stream``; how many. ``time_as``, ``big_as_text``: how text shows times, and JSON large
    whole numbers (``cells``). ``is_file``: can a reader of the stream seek? ``arrow_compression``: ``zstd`` packs
    Arrow's buffers. ``fit``: a table's terminal. Errors of the batches and of the stream are passed on."""
    writer = _writer(format_name, schema, stream, time_as, is_file)
    writer.big_as_text = big_as_text
    writer.fit = fit or writer.fit
    writer.arrow_compression = arrow_compression
    rows = 0
    writer.begin()
    for batch in batches:
        if batch.num_rows:
            writer.write(batch)
            rows += batch.num_rows
    writer.end()
    stream.flush()
    return rows


@contextmanager
def new_file(path: Path, *, replace: bool = False) -> Iterator[BinaryIO]:
    """A binary file that stands under ``path``, complete and synced, when the block ends well, and nowhere when not.

    OutputExists when there is such a file already and it may not be replaced; StoreUnavailable for what the disk says.
    """
    if not replace and path.exists():
        raise OutputExists(f"{path} exists: choose another name, or replace it with --force")
    try:
        with new_temporary(path) as temporary:
            with temporary.open("wb") as file:
                yield file
            sync_file(temporary)
            if replace:
                temporary.replace(path)
            else:
                _claim(temporary, path)
    except OSError as exc:
        raise unwritable(path, exc) from exc


def _claim(temporary: Path, path: Path) -> None:
    """Give the file its name unless somebody took it meanwhile."""
    try:
        path.hardlink_to(temporary)
    except FileExistsError as exc:
        raise OutputExists(f"{path} appeared meanwhile: choose another name, or replace it with --force") from exc
    except OSError:  # a file system without hard links
        temporary.replace(path)


class _Writer(ABC):
    """One format. What stands before the first row, also when none follows; rows; what stands behind the last."""

    big_as_text = False
    arrow_compression: str | None = None
    fit = Fit()

    def __init__(self, schema: pa.Schema, stream: BinaryIO, time_as: cells.TimeAs) -> None:
        self.schema, self.stream, self.time_as = schema, stream, time_as

    def begin(self) -> None:  # noqa: B027 - not every format has a head
        """Called once, first."""

    @abstractmethod
    def write(self, batch: pa.RecordBatch) -> None:
        """Some rows, at least one."""

    def end(self) -> None:  # noqa: B027 - nor a tail
        """Called once, last; not when an error ended the rows."""

    def parts(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        for start in range(0, batch.num_rows, CHUNK_ROWS):
            yield batch.slice(start, CHUNK_ROWS)


class _Table(_Writer):
    """Columns as wide as their widest value so far, numbers to the right and by their decimal points; times say in the
    head whose clock they are on. Whether all fits a terminal is settled by the first rows."""

    def begin(self) -> None:
        names = [f"{field.name}{self._clock(field.type)}" for field in self.schema]
        self.widths = [cells_of(name) for name in names]
        self.columns = [
            Column(name, cells.is_number(field.type), self._spare(field.name))
            for name, field in zip(names, self.schema, strict=True)
        ]
        self.layout: Layout | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        for part in self.parts(batch):
            shown = [self._cells(field, array) for field, array in zip(self.schema, part.columns, strict=True)]
            for n, column in enumerate(shown):
                self.widths[n] = max(self.widths[n], *map(cells_of, column))
            lines = self._head()
            lines += [line for row in zip(*shown, strict=True) for line in self._layout().row(row)]
            self.stream.write("".join([f"{line}\n" for line in lines]).encode())

    def end(self) -> None:
        self.stream.write("".join([f"{line}\n" for line in self._head()]).encode())

    def _head(self) -> list[str]:
        """Once, before the first row."""
        if self.layout is not None:
            return []
        self.layout = self._layout()
        self.fit.left_out[:] = self.layout.left_out
        return list(self.layout.head())

    def _layout(self) -> Layout:
        """As it was settled, with the widths of now."""
        if self.layout is None:
            return layout_of(self.columns, self.widths, self.fit.width)
        return replace(self.layout, widths=tuple(self.widths))

    def _cells(self, field: pa.Field, array: pa.Array) -> list[str]:
        texts = cells.table_column(array, self.time_as, is_count=cells.is_count(field.name))
        return aligned(texts) if cells.is_number(field.type) else texts

    def _clock(self, kind: pa.DataType) -> str:
        return f" ({cells.clock_word(self.time_as)})" if cells.has_clock(kind, self.time_as) else ""

    def _spare(self, name: str) -> int:
        return len(self.fit.spare) - self.fit.spare.index(name) if name in self.fit.spare else 0


class _Csv(_Writer):
    def begin(self) -> None:
        self.stream.write((",".join(_csv_name(name) for name in self.schema.names) + "\n").encode())

    def write(self, batch: pa.RecordBatch) -> None:
        import pyarrow.csv as pa_csv  # noqa: PLC0415 - only for this format

        for part in self.parts(batch):
            columns = [cells.csv_column(array, self.time_as) for array in part.columns]
            style = "needed" if any(map(_needs_quotes, columns)) else "none"
            options = pa_csv.WriteOptions(include_header=False, quoting_style=style)
            text = io.BytesIO()
            pa_csv.write_csv(pa.Table.from_arrays(columns, names=self.schema.names), text, options)
            self.stream.write(text.getvalue())


class _JsonLines(_Writer):
    between, first_between = "\n", ""

    def begin(self) -> None:
        names = [cells.json_column(pa.array([name]), self.time_as)[0].replace("%", "%%") for name in self.schema.names]
        self.pattern = "{" + ", ".join(f"{name}: %s" for name in names) + "}"
        self.is_begun = False

    def write(self, batch: pa.RecordBatch) -> None:
        for part in self.parts(batch):
            columns = [cells.json_column(column, self.time_as, big_as_text=self.big_as_text) for column in part.columns]
            text = self.between.join([self.pattern % row for row in zip(*columns, strict=True)])
            self.stream.write(f"{self.between if self.is_begun else self.first_between}{text}".encode())
            self.is_begun = True

    def end(self) -> None:
        if self.is_begun:
            self.stream.write(b"\n")


class _Json(_JsonLines):
    between, first_between = ",\n", "[\n"

    def end(self) -> None:
        self.stream.write(b"\n]\n" if self.is_begun else b"[]\n")


class _Parquet(_Writer):
    def begin(self) -> None:
        import pyarrow.parquet as pq  # noqa: PLC0415 - only for this format

        self.utc = _in_utc(self.schema)
        self.file = pq.ParquetWriter(_Counted(self.stream), self.utc, compression="zstd")

    def write(self, batch: pa.RecordBatch) -> None:
        self.file.write_batch(batch.cast(self.utc))

    def end(self) -> None:
        self.file.close()


class _Arrow(_Writer):
    is_file = False

    def begin(self) -> None:
        self.utc = _in_utc(self.schema)
        # One dictionary a column for the whole file: a file cannot replace one, as a stream can.
        plain = pa.schema([_plain(field) for field in self.utc], metadata=self.utc.metadata)
        self.plain = plain if self.is_file else self.utc
        make = pa.ipc.new_file if self.is_file else pa.ipc.new_stream
        options = pa.ipc.IpcWriteOptions(compression=self.arrow_compression)
        self.file = make(_Counted(self.stream), self.plain, options=options)

    def write(self, batch: pa.RecordBatch) -> None:
        self.file.write_batch(batch.cast(self.plain))

    def end(self) -> None:
        self.file.close()


class _ArrowFile(_Arrow):
    is_file = True


class _Counted:
    """A stream as pyarrow wants it: it asks for the position, which a pipe does not know."""

    closed = False

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._bytes = 0

    def write(self, data: Any) -> int:
        written = self._stream.write(data)
        self._bytes += written
        return written

    def tell(self) -> int:
        return self._bytes

    def flush(self) -> None:
        self._stream.flush()

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def close(self) -> None:
        """The stream stays open: it is not ours."""


_WRITERS: dict[str, type[_Writer]] = {
    TABLE: _Table,
    CSV: _Csv,
    JSON: _Json,
    JSONL: _JsonLines,
    PARQUET: _Parquet,
    ARROW: _Arrow,
}


def _writer(name: str, schema: pa.Schema, stream: BinaryIO, time_as: cells.TimeAs, is_file: bool) -> _Writer:
    kind = _ArrowFile if name == ARROW and is_file else _WRITERS[name]
    return kind(schema, stream, time_as)


def _in_utc(schema: pa.Schema) -> pa.Schema:
    fields = []
    for column in schema:
        kind = column.type
        if pa.types.is_timestamp(kind) and kind.tz is not None:
            fields.append(column.with_type(pa.timestamp(kind.unit, tz="UTC")))
        else:
            fields.append(column)
    return pa.schema(fields, metadata=schema.metadata)


def _plain(field: pa.Field) -> pa.Field:
    return field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field


def _needs_quotes(array: pa.Array) -> bool:
    """Is there a text that CSV cannot hold bare? An empty one is quoted too, to differ from NULL."""
    if not (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
        return False
    return bool(pc.any(pc.match_substring_regex(array, r'[",\r\n]|^$')).as_py())


def _csv_name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if any(char in name for char in ',"\r\n') else name

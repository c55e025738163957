"""Kinds of record: what a lane (``ingest.lane``) has to know of the rows that it carries, and no more.

Ticks are one kind, ``TICKS``. Another one, for a depth of the book say, needs a NamedTuple with the fields of
``Record``, a ``RecordKind`` and a writer; then it has a lane of its own, with a spill and a quarantine of its own, and
no line that carries ticks is touched::

    class Quote(NamedTuple):
        symbol: str
        ts_ms: int
        bid_price: float
        trading_day: str
        recv_ts_ms: int

    QUOTES = RecordKind("quotes", "quote", Quote)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from hk_tick_collector.records.tick import MORE_COLUMNS, PUSH_TYPE_PUSH, Tick, of_one_kind, tick_with

TICK = "tick"


class Record(Protocol):
    """What every record has. Times are UTC epoch milliseconds."""

    @property
    def symbol(self) -> str: ...

    @property
    def ts_ms(self) -> int:
        """When it happened."""

    @property
    def recv_ts_ms(self) -> int:
        """When we read it."""

    @property
    def trading_day(self) -> str:
        """YYYYMMDD; names the file it goes to."""

    def _asdict(self) -> dict[str, Any]: ...


RecordT = TypeVar("RecordT", bound=Record)


def _always(_: Any) -> bool:
    return True


def _as_they_are(rows: Sequence[Any]) -> Sequence[Any]:
    return rows


@dataclass(frozen=True, slots=True)
class RecordKind(Generic[RecordT]):
    """One kind of record.

    ``name``: a word for logs, and the directory of its spill and quarantine below those of the data root.
    ``noun``: what people call one of them, wherever rows are counted or missed.
    ``row``: its NamedTuple class. The fields are those of the spill's frames, and hold what JSON can (int, float, str,
    None); fields that a spilled row lacks come back by their default.
    ``is_live``: was the record sent as it happened? Only of these the age says how fast the recorder is.
    ``alike``, ``row_with``: for a kind whose rows may have more fields than ``row``: rows as ones of equal fields, and
    the class for these fields.
    """

    name: str
    noun: str
    row: type[RecordT]
    is_live: Callable[[RecordT], bool] = _always
    alike: Callable[[Sequence[RecordT]], Sequence[RecordT]] = _as_they_are
    row_with: Callable[[Sequence[str]], type[RecordT]] | None = None

    def fields_of(self, rows: Sequence[RecordT]) -> tuple[str, ...]:
        """The names of the values of rows that are alike, in order."""
        return type(rows[0])._fields if rows else self.row._fields  # type: ignore[attr-defined, no-any-return]

    def rows_of(self, fields: Sequence[str], rows: Sequence[Sequence[object]]) -> list[RecordT]:
        """Rows of values whose fields have these names; fields that are not ours are passed over. ValueError when their
        numbers differ."""
        row = self.row if self.row_with is None else self.row_with(fields)
        ours: tuple[str, ...] = row._fields  # type: ignore[attr-defined]
        make = row._make  # type: ignore[attr-defined]
        if tuple(fields) == ours:
            return [make(values) for values in rows]
        default = row._field_defaults  # type: ignore[attr-defined]
        named = [dict(zip(fields, values, strict=True)) for values in rows]
        return [make(values.get(name, default.get(name)) for name in ours) for values in named]


def _is_pushed(tick: Tick) -> bool:
    return tick.push_type == PUSH_TYPE_PUSH


def _tick_with(fields: Sequence[str]) -> type[Tick]:
    return tick_with(*(name for name in fields if name in MORE_COLUMNS))


TICKS: RecordKind[Tick] = RecordKind("ticks", TICK, Tick, _is_pushed, of_one_kind, _tick_with)

"""How complete an answer is, by symbol and day. Plain values: JSON in a table's metadata and over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, overload

from hk_tick_collector.client.errors import BadQuestion
from hk_tick_collector.quality.model import WATCHED

PROVEN, MISSING, UNPROVEN = "proven", "missing", "unproven"
NOT_RECORDED = "not_recorded"  # a trading day without any file
KEY = b"hk_tick_collector.coverage"  # of a table's metadata
NAMED = 5  # symbols and days in a sentence
WHOLE_DAY = "*"  # the symbol of a day that is not recorded, when all symbols are asked for


@dataclass(frozen=True, slots=True)
class SymbolCoverage:
    """One symbol's day. Counts are of the whole day, whatever part of it was asked for; times are UTC epoch ms.

    With ``as_of`` they are of what was stored by then: ``missing_ticks`` had happened and were stored later.
    """

    trading_day: str
    symbol: str
    state: str  # proven | missing | unproven | not_recorded; of order books watched | blind | not_recorded
    reason: str | None  # why it is not proven; of books when they were not watched
    stored_ticks: int  # of books: pushes
    missing_ticks: int  # known to be missing; of books: pushes passed over because the disk was behind
    missing_at_most: int | None  # not None: besides, up to so many that nothing counts, as before the first one seen
    expected_ticks: int | None  # None: not known
    first_ts_ms: int | None
    last_ts_ms: int | None
    verified_until_ms: int | None  # when the source last had nothing that is not stored; of books: watched until then

    @property
    def is_proven(self) -> bool:
        """Is it proven that no tick is missing?"""
        return self.state == PROVEN


@dataclass(frozen=True, slots=True)
class DayInfo:
    """A recorded day; one of order books or depth files alone has no tick, and no symbol of any."""

    trading_day: str
    market: str
    where: str  # live | archived | both
    state: str  # the worst of its symbols: proven | unproven | missing
    stored_ticks: int
    missing_ticks: int
    symbols: int
    proven_symbols: int
    book_rows: int = 0  # of order books; they are witnessed, never proven
    error: str | None = None  # it cannot be read; the counts are then 0
    depth_files: int = 0  # of a source, kept beside the day as they are

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> DayInfo:
        """From JSON, of this version or another one with more or fewer of the fields that have a default."""
        return cls(**{field.name: row[field.name] for field in fields(cls) if field.name in row})


class Coverage(Sequence[SymbolCoverage]):
    """The coverage of an answer, by day and symbol."""

    def __init__(self, rows: Iterable[SymbolCoverage] = ()) -> None:
        self._rows = tuple(rows)

    @overload
    def __getitem__(self, place: int) -> SymbolCoverage: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[SymbolCoverage]: ...
    def __getitem__(self, place: int | slice) -> SymbolCoverage | Sequence[SymbolCoverage]:
        return self._rows[place]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[SymbolCoverage]:
        return iter(self._rows)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Coverage) and self._rows == other._rows

    def __hash__(self) -> int:
        return hash(self._rows)

    def __repr__(self) -> str:
        return f"<Coverage of {len(self)}: {self.sentence()}>"

    @property
    def is_proven(self) -> bool:
        """Is it proven of every symbol and day that no tick is missing?"""
        return all(row.is_proven for row in self._rows)

    @property
    def is_watched(self) -> bool:
        """Of order books: was each symbol watched through all of continuous trading so far?"""
        return all(row.state == WATCHED for row in self._rows)

    def blind_sentence(self) -> str:
        """Of order books, in words: which were not watched, and when."""
        rows = [row for row in self._rows if row.state != WATCHED]
        named = [f"{row.symbol} {row.trading_day}: {row.reason or 'not recorded'}" for row in rows[:NAMED]]
        more = f" and {len(rows) - NAMED} more" if len(rows) > NAMED else ""
        return f"{'; '.join(named)}{more}" if rows else "watched through all of continuous trading"

    @property
    def missing_ticks(self) -> int:
        """How many are known to be missing."""
        return sum(row.missing_ticks for row in self._rows)

    def not_proven(self) -> list[SymbolCoverage]:
        """Those that are not proven, the most missing first."""
        open_rows = [row for row in self._rows if not row.is_proven]
        return sorted(open_rows, key=lambda row: (-row.missing_ticks, row.trading_day, row.symbol))

    def sentence(self) -> str:
        """In words: what is not proven, by symbol and day, with counts."""
        rows = self.not_proven()
        if not rows:
            return "nothing is missing"
        named = [f"{row.symbol} {row.trading_day}: {_told(row)}" for row in rows[:NAMED]]
        more = f" and {len(rows) - NAMED} more" if len(rows) > NAMED else ""
        return f"{'; '.join(named)}{more}"

    def to_dicts(self) -> list[dict[str, Any]]:
        """For JSON."""
        return [asdict(row) for row in self._rows]

    def to_json(self) -> str:
        """As it stands in a table's metadata under ``KEY``."""
        return json.dumps(self.to_dicts(), separators=(",", ":"))

    @classmethod
    def from_dicts(cls, rows: Iterable[Mapping[str, Any]]) -> Coverage:
        """From JSON, of this version or a later one with more fields. KeyError when one is missing."""
        names = [field.name for field in fields(SymbolCoverage)]
        return cls(SymbolCoverage(**{name: row[name] for name in names}) for row in rows)

    @classmethod
    def of(cls, table: Any) -> Coverage:
        """Of an Arrow table or batch, or of a pandas DataFrame, that ``load``, ``iter_batches`` or ``bars`` gave.
        BadQuestion for anything else: polars and DuckDB keep no such notes."""
        noted = getattr(table, "attrs", {}).get("coverage")
        if noted is None:
            noted = json.loads((getattr(getattr(table, "schema", None), "metadata", None) or {}).get(KEY, b"null"))
        if noted is None:
            raise BadQuestion(f"this {type(table).__name__} carries no coverage", "hk.coverage(DAY, SYMBOLS) has it")
        return cls.from_dicts(noted)


def _told(row: SymbolCoverage) -> str:
    words = "not recorded" if row.state == NOT_RECORDED else "not proven"
    if row.missing_ticks:
        words = f"{row.missing_ticks:,} tick{'' if row.missing_ticks == 1 else 's'} missing"
    return f"{words} ({row.reason})" if row.reason else words

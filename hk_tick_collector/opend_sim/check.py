"""Compares what the simulated market made with what a recorder stored: missing, extra, wrong and doubled rows.

Both sides are walked in the order of symbol and sequence, a day at a time; the truth file is first sorted into a
temporary database of SQLite's, so memory stays small for any number of rows (some 9 s a million rows). Day files are
only read; each is seen as it was at one instant, so a check may run beside the recorder.

A stored row without its counterpart is looked up by content (symbol, time, price, volume): a made tick that is stored
under another sequence or in another day's file is *wrong*, not missing; the second copy of a stored tick is
*duplicate*; what was never made is *extra*.

Limits: day files have a table ``ticks`` with symbol, ts_ms, price, volume, turnover, direction, seq and tick_type.
At most MAX_LOOKED_UP_ROWS rows are looked up by content, the others count as extra.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections.abc import Collection, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hk_tick_collector.core.errors import StoreError
from hk_tick_collector.opend_sim.check_report import CheckReport, SymbolDiff, market_time
from hk_tick_collector.opend_sim.truth import read_truth_flagged
from hk_tick_collector.opend_sim.venue import venue_of
from hk_tick_collector.sims.tail import Tail
from hk_tick_collector.store.layout import parse_day, recent_day_files
from hk_tick_collector.store.read_only import open_read_only

__all__ = ["CheckReport", "SymbolDiff", "check"]

MAX_LOOKED_UP_ROWS = 1_000_000
_MAX_DAYS = 100_000
_FIELDS = ("symbol", "seq", "ts_ms", "price", "volume", "turnover", "direction", "tick_type")
_SYMBOL, _SEQ, _TS, _PRICE, _VOLUME = range(5)

Row = tuple[Any, ...]


@dataclass(slots=True)
class _Absent:
    """Consecutive made ticks of one symbol that are not stored under their sequence."""

    first_seq: int
    last_seq: int
    required: bool
    rows: int
    first_ts_ms: int
    last_ts_ms: int


def check(
    truth_path: Path | str,
    data_root: Path | str,
    *,
    allow_tail_ms: int = 0,
    since_ms: int | None = None,
    symbols: Collection[str] | None = None,
) -> CheckReport:
    """Compare a truth file with the day files of a data root.

    Ticks from before the simulation began, before ``since_ms`` (event time, UTC epoch milliseconds) and in the newest
    ``allow_tail_ms`` of the truth need not be stored. With ``symbols`` only those are compared. Raises TruthError for
    a damaged truth file, StoreError for a day file that cannot be read, OSError when the truth cannot be opened.
    """
    report = CheckReport(str(truth_path), str(data_root))
    symbols = None if symbols is None else frozenset(symbols)
    with closing(sqlite3.connect("", isolation_level=None)) as sorted_truth:
        _sort_truth(sorted_truth, truth_path, symbols, report)
        newest_ms: int | None = sorted_truth.execute("SELECT max(ts_ms) FROM truth").fetchone()[0]
        tail = Tail.of(() if newest_ms is None else (newest_ms,), allow_tail_ms)
        comparison = _Comparison(sorted_truth, report, tail, since_ms)
        files = {parse_day(path): path for path in recent_day_files(Path(data_root), _MAX_DAYS)}
        report.day_files = sorted(path.name for path in files.values())
        days = {row[0] for row in sorted_truth.execute("SELECT DISTINCT day FROM truth")}
        for day in sorted(days | {day for day in files if day is not None}):
            comparison.compare_day(day, files.get(day), symbols)
        comparison.settle()
    return report


def _sort_truth(
    database: sqlite3.Connection, path: Path | str, symbols: Collection[str] | None, report: CheckReport
) -> None:
    """Fill the table ``truth``."""
    database.execute("PRAGMA journal_mode = OFF")
    database.execute("PRAGMA synchronous = OFF")
    database.execute("PRAGMA cache_size = -65536")
    database.execute(
        "CREATE TABLE truth (day TEXT, symbol TEXT, seq INTEGER, ts_ms INTEGER, price REAL, volume INTEGER, "
        "turnover REAL, direction TEXT, tick_type TEXT, history INTEGER)"
    )

    def rows() -> Iterator[Row]:
        for t, history in read_truth_flagged(path):
            if symbols is None or t.symbol in symbols:
                report.made_rows += 1
                day = venue_of(t.symbol).market.trading_day(t.ts_ms)
                # A part of a share has no whole number: it is stored without a volume.
                volume = None if t.part else t.volume
                yield day, t.symbol, t.seq, t.ts_ms, t.price, volume, t.turnover, t.direction, t.tick_type, history

    database.execute("BEGIN")
    database.executemany(f"INSERT INTO truth VALUES ({','.join('?' * 10)})", rows())  # noqa: S608
    database.execute("COMMIT")


class _Comparison:
    """State of one check: what was found absent and what was found without counterpart."""

    def __init__(self, truth: sqlite3.Connection, report: CheckReport, tail: Tail, since_ms: int | None) -> None:
        self._truth = truth
        self._report = report
        self._tail = tail
        self._since_ms = since_ms
        self._absent: dict[str, list[_Absent]] = {}
        self._lonely: list[tuple[str, Row]] = []

    def compare_day(self, day: str, path: Path | None, symbols: Collection[str] | None) -> None:
        """Walk the made and the stored ticks of a day side by side."""
        made = self._made_rows(day)
        stored = _stored_rows(path, symbols) if path is not None else iter(())
        want, have = next(made, None), next(stored, None)
        last_absent: _Absent | None = None
        while want is not None or have is not None:
            if want is not None and (have is None or want[:2] < have[:2]):
                last_absent = self._note_absent(want, last_absent)
                want = next(made, None)
                continue
            assert have is not None
            self._report.stored_rows += 1
            if want is None or have[:2] < want[:2]:
                self._note_lonely(day, have)
                have = next(stored, None)
                continue
            last_absent = None
            self._match(want, have)
            want, have = next(made, None), next(stored, None)
        if path is not None:
            for row in _stored_rows(path, symbols, sequenced=False):
                self._report.stored_rows += 1
                self._note_lonely(day, row)

    def _made_rows(self, day: str) -> Iterator[Row]:
        """The made ticks of a day in the order of symbol and sequence; of a repeated sequence the first."""
        last: Row = ()
        for row in self._truth.execute(
            "SELECT symbol, seq, ts_ms, price, volume, turnover, direction, tick_type, history "
            "FROM truth WHERE day = ? ORDER BY symbol, seq, rowid",
            (day,),
        ):
            if row[:2] == last:
                self._report.repeated_truth_rows += 1
                continue
            last = row[:2]
            yield row

    def settle(self) -> None:
        """Pair stored rows without counterpart with made ticks of the same content; count what is left."""
        settled: set[tuple[str, int]] = set()
        if self._lonely:
            self._truth.execute("CREATE INDEX by_content ON truth (symbol, ts_ms)")
        for day, row in self._lonely:
            self._settle_lonely(day, row, settled)
        for symbol, stretches in self._absent.items():
            for stretch in stretches:
                self._count_absent(symbol, stretch)

    def _match(self, want: Row, have: Row) -> None:
        if self._is_required(want):
            self._report.required_rows += 1
        if want[: len(_FIELDS)] == have:
            self._report.matched_rows += 1
            return
        differing = [i for i in range(2, len(_FIELDS)) if want[i] != have[i]]
        for i in differing:
            self._report.wrong_fields[_FIELDS[i]] += 1
        self._report.of(want[_SYMBOL]).wrong += 1
        values = ", ".join(f"{_FIELDS[i]} {have[i]} instead of {want[i]}" for i in differing)
        self._report.example("wrong", f"{_tell(want)}: {values}")

    def _note_absent(self, want: Row, last: _Absent | None) -> _Absent:
        required = self._is_required(want)
        if required:
            self._report.required_rows += 1
        symbol, seq, ts_ms = want[:3]
        stretches = self._absent.setdefault(symbol, [])
        if last is not None and stretches and stretches[-1] is last and last.required == required:
            last.last_seq, last.last_ts_ms = seq, ts_ms
            last.rows += 1
            return last
        stretches.append(_Absent(seq, seq, required, 1, ts_ms, ts_ms))
        return stretches[-1]

    def _note_lonely(self, day: str, have: Row) -> None:
        if len(self._lonely) < MAX_LOOKED_UP_ROWS:
            self._lonely.append((day, have))
        else:
            self._report.of(str(have[_SYMBOL])).extra += 1

    def _settle_lonely(self, day: str, row: Row, settled: set[tuple[str, int]]) -> None:
        symbol = str(row[_SYMBOL])
        candidates = self._truth.execute(
            "SELECT seq, day FROM truth WHERE symbol = ? AND ts_ms = ? AND price IS ? AND volume IS ? ORDER BY seq",
            (row[_SYMBOL], row[_TS], row[_PRICE], row[_VOLUME]),
        ).fetchall()
        for seq, made_day in candidates:
            stretch = self._stretch_of(symbol, seq)
            if stretch is not None and (symbol, seq) not in settled:
                settled.add((symbol, seq))
                stretch.rows -= 1
                wrong_field = "seq" if seq != row[_SEQ] else "day_file"
                self._report.wrong_fields[wrong_field] += 1
                self._report.of(symbol).wrong += 1
                meant = f"seq {seq}" if wrong_field == "seq" else f"day file {made_day}"
                self._report.example("wrong", f"{_tell(row)} in {day}: {meant} was made")
                return
        if candidates:
            self._report.of(symbol).duplicate += 1
            self._report.example("duplicate", f"{_tell(row)} in {day} is stored as seq {candidates[0][0]} too")
        elif self._tail.holds(row[_TS]):
            self._report.unsettled_rows += 1
        else:
            self._report.of(symbol).extra += 1
            self._report.example("extra", f"{_tell(row)} in {day} was never made")

    def _count_absent(self, symbol: str, stretch: _Absent) -> None:
        rows = stretch.rows
        if not stretch.required:
            self._report.excused_rows += rows
        elif rows:
            self._report.of(symbol).missing += rows
            self._report.example(
                "missing",
                f"{symbol} {rows} rows from {market_time(symbol, stretch.first_ts_ms)} "
                f"to {market_time(symbol, stretch.last_ts_ms)} {venue_of(symbol).market.time_word}, "
                f"seq {stretch.first_seq} to {stretch.last_seq}",
            )

    def _stretch_of(self, symbol: str, seq: int) -> _Absent | None:
        stretches = self._absent.get(symbol, [])
        index = bisect_right(stretches, seq, key=lambda stretch: stretch.first_seq) - 1
        return stretches[index] if index >= 0 and seq <= stretches[index].last_seq else None

    def _is_required(self, want: Row) -> bool:
        ts_ms = want[_TS]
        if want[-1] or (self._since_ms is not None and ts_ms < self._since_ms):
            return False
        return not self._tail.holds(ts_ms)


def _stored_rows(path: Path, symbols: Collection[str] | None, *, sequenced: bool = True) -> Iterator[Row]:
    """Rows of a day file in the order of symbol and sequence; without sequence in no order."""
    condition = "seq IS NOT NULL ORDER BY symbol, seq" if sequenced else "seq IS NULL"
    with closing(open_read_only(path)) as connection:
        try:
            for row in connection.execute(f"SELECT {', '.join(_FIELDS)} FROM ticks WHERE {condition}"):  # noqa: S608
                if symbols is None or row[_SYMBOL] in symbols:
                    yield row
        except sqlite3.Error as error:
            raise StoreError(f"{path} cannot be read: {error}") from error


def _tell(row: Row) -> str:
    symbol = str(row[_SYMBOL])
    return f"{symbol} seq {row[_SEQ]} {market_time(symbol, row[_TS])} {venue_of(symbol).market.time_word}"

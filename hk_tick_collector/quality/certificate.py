"""Is a day complete? The certificate: what is stored, what must have been, what is missing, and what is proven.

From ``coverage`` and ``gaps`` alone it costs O(symbols), whatever the number of rows; the parts that only the rows tell
are then None. With a ``recount.Recount`` they are there, and coverage is held against the rows.

A symbol's verdict is worked out anew from its row (judging.verdict_of); a column that contradicts it is a problem.
Where nothing can be known nothing is claimed: "proven" wants a proof, "missing" wants evidence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from hk_tick_collector import __version__
from hk_tick_collector.core.errors import StoreCorrupt, StoreError
from hk_tick_collector.core.evidence import EQUAL_TO_COPY, EvidenceLevel
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hours import DayKind
from hk_tick_collector.market.market import Session
from hk_tick_collector.quality import crosscheck
from hk_tick_collector.quality.book_certificate import books_of, with_part_of_books
from hk_tick_collector.quality.grade import graded
from hk_tick_collector.quality.model import (
    FORMAT_VERSION,
    Certificate,
    RowFacts,
    SessionCertificate,
    SymbolCertificate,
    counted_reasons,
)
from hk_tick_collector.quality.observed import Observed, note_of
from hk_tick_collector.quality.report_file import changed_ns
from hk_tick_collector.quality.witness import witness_notes
from hk_tick_collector.records.tick import Origin
from hk_tick_collector.store import layout, reader
from hk_tick_collector.store.book_file import BROKER_KIND
from hk_tick_collector.store.doubles import likely_doubles
from hk_tick_collector.store.judging import as_judged, verdict_of
from hk_tick_collector.store.kept import kept_files
from hk_tick_collector.store.read_only import open_read_only
from hk_tick_collector.store.reader import CoverageRow, GapRow, Notes, Reading
from hk_tick_collector.store.reading import reading_of
from hk_tick_collector.store.verdict import MISSING, PROVEN, UNPROVEN, Verdict

if TYPE_CHECKING:
    from hk_tick_collector.days.catalog import Day
    from hk_tick_collector.quality.recount import Recount

REASONS_SHOWN = 20
_STATE_ORDER = {MISSING: 0, UNPROVEN: 1, PROVEN: 2}
_UNREADABLE = Verdict(UNPROVEN, "its coverage cannot be read", 0, None, None, [], 0)


def make_certificate(
    day: Day, calendar: TradingCalendar, now_ms: int, recounted: Recount | None = None, *, read: bool = True
) -> Certificate:
    """The certificate of a day as of ``now_ms`` (UTC epoch ms). A file that cannot be read makes one that says so.

    A day file that is over is read from end to end, unless somebody did so since it was last written to, or ``read`` is
    False; of a live one the rows are counted.
    """
    kind = calendar.day_kind(day.trading_day)
    noted = _Noted(day.market.sessions(day.trading_day, kind))
    blank = _blank(day, kind, now_ms)
    try:
        changed = recounted.source_changed_ns if recounted is not None else changed_ns(day.source)
        source, notes = ", ".join(str(part.source) for part in day.parts), [*_notes(day, kind)]
        noted.take(day, recounted, count_rows=blank.so_far and read)
        reading = noted.read_again(day, now_ms, recounted, so_far=blank.so_far, read=read)
        stored_ticks = _stored_ticks(day, noted, now_ms, notes)
        notes += _likely_doubles(day) if recounted is not None else []
        if day.data_root is not None and len(day.parts) == 1:
            notes += witness_notes(day.data_root, day.trading_day, stored_ticks)
        notes += day.contradictions
    except StoreError as exc:
        return graded(replace(blank, error=str(exc)))
    if recounted is not None:
        noted.observed = recounted.observed
        notes += note_of(noted.observed.values())
        noted.problems += crosscheck.compare(recounted, noted.rows.values())
    symbols = sorted(
        (noted.symbol(name, recounted.facts(name) if recounted is not None else None) for name in noted.names()),
        key=lambda verdict: (
            _STATE_ORDER[verdict.state],
            -verdict.missing_ticks,
            -verdict.stored_ticks,
            verdict.symbol,
        ),
    )
    replayed = sum(map(_is_replayed, symbols))
    if replayed:
        notes.append(f"{replayed:,} symbol{'' if replayed == 1 else 's'} proven by replay: {EQUAL_TO_COPY}")
    total = recounted.total if recounted is not None else None
    if total is None:
        notes.append("the rows were not compared with the recorder's notes: --recount does that")
    certificate = replace(
        blank,
        source=source,
        recounted=total is not None,
        source_changed_ns=changed,
        stored_ticks=stored_ticks,
        rows=total,
        rows_read_at_ms=reading.read_at_ms if reading is not None else None,
        rows_read=reading.rows if reading is not None else None,
        notes=tuple(notes),
        problems=tuple(noted.problems),
        open_gaps=tuple(gap for gaps in noted.gaps.values() for gap in gaps),
        sessions=_session_certificates(noted.sessions, symbols, total),
        books=books_of(day, kind, now_ms, read_pushes=recounted is not None),
        brokers=books_of(day, kind, now_ms, BROKER_KIND, read_pushes=recounted is not None),
    )
    return graded(_summed(certificate, symbols))


def check_judgeable(day: Day) -> None:
    """StoreUnavailable for a day file of a newer recorder, or one that the disk does not give now: its certificate of
    before is not replaced by one that knows nothing. A damaged one passes: that is a judgement."""
    for part in day.parts:
        if part.db is not None:
            with suppress(StoreCorrupt), closing(open_read_only(part.db)):
                pass


def part_of(certificate: Certificate, keep: Callable[[str], bool]) -> Certificate:
    """The certificate of some symbols alone, by their names: its sums and its grade are theirs. What is said of the
    whole file (notes, its rows, when it was read) is left out."""
    if certificate.error is not None:
        return certificate
    symbols = [verdict for verdict in certificate.symbols if keep(verdict.symbol)]
    sessions = (
        replace(session, confirmed_symbols=sum(verdict.confirmed_sessions[n] for verdict in symbols), rows=None)
        for n, session in enumerate(certificate.sessions)
    )
    part = replace(
        certificate,
        stored_ticks=sum(verdict.stored_ticks for verdict in symbols),
        sessions=tuple(sessions),
        open_gaps=tuple(gap for gap in certificate.open_gaps if keep(gap.symbol)),
        problems=tuple(text for text in certificate.problems if keep(text.partition(":")[0])),
        notes=(), recounted=False, rows=None, rows_read=None, rows_read_at_ms=None,
    )  # fmt: skip
    return graded(_summed(with_part_of_books(part, keep), symbols))


def _blank(day: Day, kind: DayKind, now_ms: int) -> Certificate:
    so_far = now_ms < day.market.no_more_ticks_ms(day.trading_day, kind)
    source = day.db or (day.archived_file if len(day.parts) == 1 else day.source)
    return Certificate(
        format_version=FORMAT_VERSION,
        trading_day=day.trading_day,
        so_far=so_far,
        recounted=False,
        source_changed_ns=changed_ns(source),
        grade="",
        sentence="",
        made_at_ms=now_ms,
        version=__version__,
        day_kind=str(kind),
        source=str(source),
        market=day.market.code,
    )


@dataclass
class _Noted:
    """What a day's tables say, and what is wrong with it."""

    sessions: tuple[Session, ...]
    rows: dict[str, CoverageRow] = field(default_factory=dict)
    gaps: dict[str, list[GapRow]] = field(default_factory=dict)  # open ones
    problems: list[str] = field(default_factory=list)
    notes: Notes = field(default_factory=lambda: Notes([], []))
    observed: dict[str, Observed] = field(default_factory=dict)
    stock_names: dict[str, str] = field(default_factory=dict)

    def take(self, day: Day, recounted: Recount | None, *, count_rows: bool) -> None:
        """Read the tables. StoreError when they cannot be read."""
        notes = self.notes = day.notes(count_rows=recounted is None and count_rows)
        self.rows, self.gaps = {row.symbol: row for row in notes.coverage}, notes.open_gaps()
        self.stock_names = day.stock_names()
        if recounted is None:
            return
        has_coverage = bool(self.rows)
        for symbol, rows in recounted.symbols.items():
            if symbol not in self.rows:
                if has_coverage:
                    self.problems.append(f"{symbol}: {rows.facts.ticks} rows, and nothing about them in coverage")
                self.rows[symbol] = rows.as_coverage(symbol, counts=Origin(day.market.code).counts)

    def read_again(
        self, day: Day, now_ms: int, recounted: Recount | None, *, so_far: bool, read: bool
    ) -> Reading | None:
        """When the rows were last read, and how many there were. StoreError when they cannot be read."""
        if recounted is not None:
            return Reading(now_ms, recounted.total.ticks)
        if len(day.parts) > 1:
            readings = [
                self._read_part(part, part.notes(count_rows=so_far and read), now_ms, f"{part.source}: ", so_far, read)
                for part in day.parts
            ]
            known = [reading for reading in readings if reading is not None]
            if len(known) < len(readings):
                return None
            return Reading(min(reading.read_at_ms for reading in known), sum(reading.rows for reading in known))
        return self._read_part(day, self.notes, now_ms, "", so_far, read)

    def _read_part(self, day: Day, notes: Notes, now_ms: int, where: str, so_far: bool, read: bool) -> Reading | None:
        """The same of what is in one data root, whose notes are held against its rows."""
        if day.is_archived_only or day.db is None:
            return None
        reading = None
        if not so_far and read:
            reading = reading_of(reader.notes(day.db), day.db, now_ms)
        rows = notes.rows if reading is None else reading.rows
        if rows is not None and notes.coverage and not day.is_joined:
            before, after = (sum(row.stored_ticks for row in rows) for rows in (notes.coverage, day.coverage()))
            if not before <= rows <= after:  # a late tick may have come meanwhile
                self.problems.append(f"{where}coverage counts {before:,} ticks, there are {rows:,} rows")
        return reading

    def names(self) -> list[str]:
        return sorted({*self.rows, *self.gaps})

    def symbol(self, name: str, facts: RowFacts | None) -> SymbolCertificate:
        """One symbol's certificate; what cannot be read of it is a problem and proves nothing."""
        row, gaps = self.rows.get(name), self.gaps.get(name, [])
        until_ms: int | None = None
        try:
            verdict = verdict_of(row, gaps)
        except (ValueError, TypeError) as exc:
            self.problems.append(f"{name}: its coverage cannot be read: {exc}")
            row, verdict = None, _UNREADABLE
        else:
            if row is not None:
                until_ms = verified_until_ms(row, verdict)
                self._hold_against(row, verdict)
                verdict = _graver(verdict, as_judged(row, gaps))
        return SymbolCertificate(
            name,
            verdict.state,
            verdict.reason,
            row.stored_ticks if row is not None else 0,
            verdict.expected_ticks,
            verdict.missing_ticks,
            verdict.missing_at_most,
            row.first_ts_ms if row is not None else None,
            row.last_ts_ms if row is not None else None,
            until_ms,
            tuple(until_ms is not None and until_ms >= session.confirmable_ms for session in self.sessions),
            len(gaps),
            facts,
            any(gap.is_window for gap in gaps),
            verdict.level.value,
            self.stock_names.get(name),
            *self.observed.get(name, ()),
        )

    def _hold_against(self, row: CoverageRow, verdict: Verdict) -> None:
        """What the row says of its symbol against what its numbers say. A file of an earlier version may call missing
        what is unproven now, and the other way round; that a day is proven, both say of the same numbers."""
        states = {row.state, verdict.state}
        if len(states) > 1 and (PROVEN in states or not states.issubset(_STATE_ORDER)):
            contradiction = f"coverage says {row.state}, its numbers say {verdict.state}"
            self.problems.append(f"{row.symbol}: {contradiction} ({verdict.reason or 'no doubt'})")


def _graver(verdict: Verdict, row: CoverageRow) -> Verdict:
    """What the file once knew to be lost is lost, though no row of ``gaps`` says any more where."""
    if verdict.state != UNPROVEN or row.state != MISSING:
        return verdict
    return verdict._replace(state=MISSING, reason=row.reason, missing_ticks=row.missing_ticks, expected_ticks=None)


def verified_until_ms(row: CoverageRow, verdict: Verdict) -> int | None:
    """When the source, or the copy that proves the day, last had nothing that is not stored."""
    return row.replay.last_at_ms if row.replay is not None and _is_replayed(verdict) else row.verified_until_ms


def _is_replayed(judged: Verdict | SymbolCertificate) -> bool:
    level = judged.level if isinstance(judged, Verdict) else judged.evidence
    return judged.state == PROVEN and level == EvidenceLevel.REPLAY


def _session_certificates(
    sessions: Sequence[Session], symbols: Sequence[SymbolCertificate], rows: RowFacts | None
) -> tuple[SessionCertificate, ...]:
    return tuple(
        SessionCertificate(
            session.name,
            session.start_ms,
            session.end_ms,
            sum(verdict.confirmed_sessions[n] for verdict in symbols),
            None if rows is None else rows.sessions[n],
        )
        for n, session in enumerate(sessions)
    )


def _stored_ticks(day: Day, noted: _Noted, now_ms: int, notes: list[str]) -> int:
    if not noted.rows and day.db is not None and not day.is_archived_only:
        rows = reader.freshness(day.db, now_ms).rows
        if rows:
            notes.append("an earlier recorder wrote this file: it notes nothing about its completeness")
        return rows
    return sum(row.stored_ticks for row in noted.rows.values())


def _kept_notes(day: Day) -> list[str]:
    """What is kept beside a day says nothing of its ticks, and a list of it that is broken costs them nothing."""
    roots = [part.db.parent for part in day.parts if part.db is not None]
    try:
        kept = sum(len(kept_files(root, day.trading_day)) for root in roots)
    except StoreError as exc:
        return [str(exc)]
    are = "is" if kept == 1 else "are"
    text = f"{kept:,} depth file{'' if kept == 1 else 's'} {are} kept beside the day, as the source wrote them"
    return [text] if kept else []


def _notes(day: Day, kind: DayKind) -> list[str]:
    notes = [day.conflict] if day.conflict else []
    if kind is DayKind.CLOSED:
        notes.append("the calendar says that the market is closed on this day")
    notes += _kept_notes(day)
    amended = len(day.amendments())
    if amended:
        notes.append(
            f"the source corrected or cancelled {amended:,} trade{'' if amended == 1 else 's'} later: the rows are as "
            "they were told first, the table amendments says what is right"
        )
    live = [part.db.parent for part in day.parts if part.db is not None]
    if any(any(layout.spill_dir(root).glob("*.spill")) for root in live):
        notes.append("rows wait in the spill and are not in the file yet: is the recorder running?")
    return notes


def _likely_doubles(day: Day) -> list[str]:
    doubles = sum(likely_doubles(part.db) for part in day.parts if part.db is not None and part.source == part.db)
    return [f"{doubles:,} rows are likely doubles that an earlier recorder stored"] if doubles else []


def _sum_of_known(numbers: Iterable[int | None]) -> int | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if known else None


def _summed(certificate: Certificate, symbols: Sequence[SymbolCertificate]) -> Certificate:
    states = Counter(verdict.state for verdict in symbols)
    reasons = counted_reasons(verdict.reason for verdict in symbols)
    confirmed = [
        verdict.verified_until_ms
        for verdict in symbols
        if verdict.state == PROVEN and verdict.verified_until_ms is not None
    ]
    return replace(
        certificate,
        symbols=tuple(symbols),
        expected_ticks=sum(verdict.expected_ticks or 0 for verdict in symbols),
        missing_ticks=sum(verdict.missing_ticks for verdict in symbols),
        proven_symbols=states[PROVEN],
        replayed_symbols=sum(map(_is_replayed, symbols)),
        missing_symbols=states[MISSING],
        unproven_symbols=states[UNPROVEN],
        seen_volume=_sum_of_known(verdict.seen_volume for verdict in symbols),
        told_volume=_sum_of_known(verdict.told_volume for verdict in symbols),
        not_subscribed_symbols=sum(verdict.not_subscribed for verdict in symbols),
        uncounted_symbols=sum(verdict.expected_ticks is None for verdict in symbols),
        end_confirmed_symbols=certificate.sessions[-1].confirmed_symbols if certificate.sessions else 0,
        confirmed_until_ms=min(confirmed, default=None),
        first_ts_ms=min((verdict.first_ts_ms for verdict in symbols if verdict.first_ts_ms is not None), default=None),
        last_ts_ms=max((verdict.last_ts_ms for verdict in symbols if verdict.last_ts_ms is not None), default=None),
        reasons=dict(reasons.most_common(REASONS_SHOWN)),
    )

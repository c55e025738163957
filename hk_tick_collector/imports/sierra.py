"""A ``.scid`` file into day files: read whole, parted into trading days, stored day by day.

Promises: the file is only read. Each day's batches are transactions of the one writer, so a death at any moment costs
the last batch at most, and the same import goes on behind it. What is stored is not stored again. A record that cannot
be believed is in the quarantine of its trading day, once. A day of bars is refused whole, the others are stored.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hk_tick_collector.core.errors import RecorderError, RejectCode
from hk_tick_collector.core.evidence import EvidenceLevel
from hk_tick_collector.core.facts import IN_QUARANTINE, NOT_COMPARED, Replayed, SymbolNoted, Unproven
from hk_tick_collector.core.progress import IngestProgress
from hk_tick_collector.imports.stored import stored_rows
from hk_tick_collector.ingest.quarantine import Quarantine
from hk_tick_collector.market.cme import CME
from hk_tick_collector.records.tick import Origin, RejectedTick, Tick
from hk_tick_collector.sources.details import noted
from hk_tick_collector.sources.sierra.against import AgainstStored, OtherPrices
from hk_tick_collector.sources.sierra.filedays import NO_DAY, FileDay, FileDays, read_days, records_of
from hk_tick_collector.sources.sierra.mapping import ToUnixUs, TradeMapper, reject
from hk_tick_collector.sources.sierra.naming import Instrument, described
from hk_tick_collector.sources.sierra.scid import unix_us
from hk_tick_collector.sources.sierra.spec import PROVIDER
from hk_tick_collector.store.layout import day_file, quarantine_file
from hk_tick_collector.store.reader import coverage, replays
from hk_tick_collector.store.writer import DayFileWriter

BATCH_ROWS = 20_000
QUARANTINE_ROWS = 2_000  # handed over at a time
MAX_REJECTED_ROWS = 200_000  # of a day of a file: with more of them it is not this file's records that are wrong

OnRecords = Callable[[int], None]


@dataclass(slots=True)
class FileImport:
    """What became of a file's records."""

    file: Path
    symbol: str
    records: int = 0
    first_day: str | None = None
    last_day: str | None = None
    days: int = 0
    stored: int = 0
    already_there: int = 0
    renumbered: int = 0  # of already_there: stored with other microseconds
    quarantined: dict[str, int] = field(default_factory=dict)  # by code
    not_kept: int = 0  # of quarantined: more than the quarantine takes of one file's day
    refused: dict[str, str] = field(default_factory=dict)  # day: why none of it is stored
    equal_days: int = 0  # every record of the file's day is stored, and nothing else
    unchanged_days: int = 0  # of equal_days: the file's part was read before, and is the same
    torn_bytes: int = 0  # behind the last whole record
    error: str | None = None  # why the file could not be read

    @property
    def clean(self) -> bool:
        """Is every record of the file stored?"""
        return not (self.quarantined or self.refused or self.error)

    def note_quarantined(self, rejected: Sequence[RejectedTick]) -> None:
        """Count them by code."""
        for code, rows in Counter(tick.code.value for tick in rejected).items():
            self.quarantined[code] = self.quarantined.get(code, 0) + rows


def new_writer(data_root: Path) -> DayFileWriter:
    """The writer of a data root that holds what Sierra Chart recorded."""
    return DayFileWriter(data_root, origin=Origin(CME.code, PROVIDER), evidence=EvidenceLevel.REPLAY)


class SierraImport:
    """Imports one file. The caller holds the data root's lock, and closes the writer."""

    def __init__(
        self,
        path: Path,
        instrument: Instrument,
        writer: DayFileWriter,
        now_ms: int,
        to_unix_us: ToUnixUs = unix_us,
        on_records: OnRecords = lambda _records: None,
    ) -> None:
        self._path = path
        self._instrument = instrument
        self._writer = writer
        self._data_root = writer.data_root
        self._now_ms = now_ms
        self._to_unix_us = to_unix_us
        self._on_records = on_records
        self.result = FileImport(path, instrument.symbol)

    def run(self) -> FileImport:
        """All of it. StoreError when a day cannot be written; what is wrong with the file is in the result."""
        result = self.result
        try:
            whole = read_days(self._path, CME, self._now_ms, self._to_unix_us, self._on_records)
        except (RecorderError, OSError) as exc:
            result.error = str(exc) if isinstance(exc, RecorderError) else exc.strerror or str(exc)
            return result
        days = sorted(name for name in whole.days if name != NO_DAY)
        result.records, result.torn_bytes, result.days = whole.records, whole.rest_bytes, len(days)
        result.first_day, result.last_day = (days[0], days[-1]) if days else (None, None)
        for name in days:
            self._import_day(whole, whole.days[name])
        if NO_DAY in whole.days:
            self._reject_undated(whole, whole.days[NO_DAY], days[0] if days else CME.trading_day(self._now_ms))
        return result

    def _import_day(self, whole: FileDays, day: FileDay) -> None:
        reason = day.refusal
        if reason is None:
            try:
                reason = self._store_day(whole, day)
            except OtherPrices as exc:
                reason = str(exc)
            except OSError as exc:  # of the file; the store has errors of its own
                reason = f"the file cannot be read: {exc.strerror or exc}"
        if reason is not None:
            self.result.refused[day.day] = reason
            self._withdraw_replay(day)

    def _store_day(self, whole: FileDays, day: FileDay) -> str | None:
        """Store what is not stored; why the day cannot be trusted, if so."""
        result, rejected, digest = self.result, list[RejectedTick](), hashlib.sha256()
        mapper = TradeMapper(self._instrument, day.day, self._now_ms, to_unix_us=self._to_unix_us)

        def ticks() -> Iterator[Tick]:
            for data in records_of(whole, day):
                digest.update(data)
                mapped = mapper.map(whole.layout.records.iter_unpack(data))
                self._keep(rejected, mapped.rejected)
                yield from mapped.ticks
                self._on_records(len(data) // whole.layout.record_bytes)

        in_time = ticks() if day.in_order else iter(sorted(ticks(), key=lambda tick: (tick.ts_ms, tick.seq)))
        against = AgainstStored(stored_rows(day_file(self._data_root, day.day), self._instrument.symbol))
        for batch in _batches(against.new(in_time)):
            stored = self._writer.write(batch)
            result.stored += stored.inserted_rows
            result.already_there += stored.ignored_rows
        result.already_there += against.already
        result.renumbered += against.renumbered
        if rejected:
            self._quarantine(day.day, rejected)
            self._writer.write((), [self._noted(day), Unproven(self._instrument.symbol, day.day, IN_QUARANTINE)])
        if digest.hexdigest() != day.digest:
            return "the file was changed while it was read: import it again"
        if not rejected:
            self._note_replay(day)
        return None

    def _note_replay(self, day: FileDay) -> None:
        """The file is its own second copy: the day file notes that both are equal, as far as they are."""
        symbol = self._instrument.symbol
        replayed = Replayed(symbol, day.day, self._path.name, day.records, day.digest, self._now_ms)
        self._writer.write((), [self._noted(day), replayed])
        replay = replays(day_file(self._data_root, day.day)).get(symbol)
        if replay is not None and replay.digest == day.digest:
            self.result.equal_days += 1
            self.result.unchanged_days += replay.confirmed

    def _noted(self, day: FileDay) -> SymbolNoted:
        return noted(described(self._instrument), day.day, self._now_ms)

    def _withdraw_replay(self, day: FileDay) -> None:
        """A day that is no longer what was compared: what was stored of it before is not proven by it any more."""
        db, symbol = day_file(self._data_root, day.day), self._instrument.symbol
        if db.exists() and any(row.symbol == symbol and row.replay is not None for row in coverage(db)):
            fact = Replayed(symbol, day.day, self._path.name, NOT_COMPARED, day.digest, self._now_ms)
            self._writer.write((), [fact])

    def _reject_undated(self, whole: FileDays, day: FileDay, of_day: str) -> None:
        """Records whose time is none: they are kept beside those of the file's first day."""
        reason = "its time is none that a trade of this file can have"
        rejected: list[RejectedTick] = []
        for data in records_of(whole, day):
            records = whole.layout.records.iter_unpack(data)
            self._keep(
                rejected,
                [reject(self._instrument.symbol, record, RejectCode.TIME, reason, self._now_ms) for record in records],
            )
        self._quarantine(of_day, rejected)

    def _keep(self, kept: list[RejectedTick], rejected: Sequence[RejectedTick]) -> None:
        """Count them all, and keep as many as one day may bring."""
        self.result.note_quarantined(rejected)
        taken = rejected[: MAX_REJECTED_ROWS - len(kept)]
        self.result.not_kept += len(rejected) - len(taken)
        kept.extend(taken)

    def _quarantine(self, day: str, rejected: Sequence[RejectedTick]) -> None:
        """Those that are not there already."""
        known = _known_rejects(quarantine_file(self._data_root, day), self._instrument.symbol)
        new = [tick for tick in rejected if _key(tick.raw) not in known]
        quarantine = Quarantine(self._data_root, IngestProgress(), lambda _recv_ts_ms: day)
        for begin in range(0, len(new), QUARANTINE_ROWS):
            quarantine.add(new[begin : begin + QUARANTINE_ROWS])
            quarantine.flush()
        quarantine.flush(sync=True)
        quarantine.close()


def _batches(ticks: Iterator[Tick]) -> Iterator[list[Tick]]:
    batch: list[Tick] = []
    for tick in ticks:
        batch.append(tick)
        if len(batch) >= BATCH_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def _known_rejects(path: Path, symbol: str) -> set[str]:
    """What of a symbol is in a quarantine file. One that cannot be read has nothing: a line twice is no loss."""
    known: set[str] = set()
    try:
        with path.open(encoding="ascii", errors="replace") as lines:
            for line in lines:
                try:
                    entry = json.loads(line)
                    if entry["symbol"] == symbol:
                        known.add(_key(entry["raw"]))
                except (ValueError, KeyError, TypeError):
                    continue
    except OSError:
        pass
    return known


def _key(raw: object) -> str:
    return json.dumps(raw, sort_keys=True, default=ascii)

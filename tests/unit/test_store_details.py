"""What a source tells of symbols and of trades it took back: kept in the day's file, once, and through an archive."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hk_tick_collector.archive.pack import archive_day
from hk_tick_collector.archive.restore import restore_day
from hk_tick_collector.archive.verify import check_day
from hk_tick_collector.core.facts import CANCEL, CORRECTION, Amended, Subscribed, SymbolNoted
from hk_tick_collector.days.catalog import Catalog
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hk import HK
from hk_tick_collector.quality.certificate import make_certificate
from hk_tick_collector.store import reader
from hk_tick_collector.store.reader import SymbolRow
from hk_tick_collector.store.writer import DayFileWriter
from tests.ticks import DAY, make_ticks

TENCENT = "HK.00700"


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[DayFileWriter]:
    writer = DayFileWriter(tmp_path)
    yield writer
    writer.close()


def symbols(root: Path) -> list[SymbolRow]:
    return reader.symbol_rows(root / f"{DAY}.db")


def test_it_waits_for_the_days_first_row_and_makes_no_file(tmp_path: Path, writer: DayFileWriter) -> None:
    writer.write((), [Subscribed(DAY, (TENCENT,), 1), SymbolNoted(TENCENT, DAY, 1, name="OLD", lot_size=100)])
    writer.write((), [SymbolNoted(TENCENT, DAY, 2, name="TENCENT"), SymbolNoted("HK.00005", DAY, 2, currency="HKD")])
    writer.write((), [SymbolNoted(TENCENT, "20261119", 2, name="YESTERDAY")])
    assert not list(tmp_path.glob("*.db"))
    writer.write(make_ticks(1, 2))
    assert [(row.symbol, row.name, row.currency) for row in symbols(tmp_path)] == [
        ("HK.00005", None, "HKD"), (TENCENT, "TENCENT", None),
    ]  # fmt: skip
    assert [row.symbol for row in reader.coverage(tmp_path / f"{DAY}.db")] == [TENCENT]


def test_the_last_word_holds_and_what_it_leaves_open_stays(tmp_path: Path, writer: DayFileWriter) -> None:
    writer.write(make_ticks(1, 2), [SymbolNoted(TENCENT, DAY, 1, name="TENCENT", lot_size=100, currency="HKD")])
    writer.write((), [SymbolNoted(TENCENT, DAY, 2, lot_size=100)])
    assert symbols(tmp_path) == [SymbolRow(TENCENT, "TENCENT", 100, None, None, "HKD", None, 1)], "no news"
    writer.write((), [SymbolNoted(TENCENT, DAY, 3, lot_size=200, unit="shares", multiplier=1.0, tick_size=0.2)])
    assert symbols(tmp_path) == [SymbolRow(TENCENT, "TENCENT", 200, "shares", 1.0, "HKD", 0.2, 3)]


def test_an_amendment_is_stored_once_and_rewrites_no_tick(tmp_path: Path, writer: DayFileWriter) -> None:
    (tick,) = make_ticks(1, 1)
    cancelled = Amended(TENCENT, DAY, CANCEL, 5, tick.ts_ms, tick.seq, source_text="busted")
    corrected = Amended(TENCENT, DAY, CORRECTION, 5, tick.ts_ms, tick.seq, price=2.5, volume=100, ts_ms=4)
    writer.write((), [cancelled])
    db = tmp_path / f"{DAY}.db"
    assert db.exists(), "what a source took back is kept, also of a day without a tick"
    writer.write([tick], [corrected, cancelled._replace(recv_ts_ms=9)])
    assert [(row.kind, row.recv_ts_ms, row.price) for row in reader.amendments(db)] == [
        (CANCEL, 5, None), (CORRECTION, 5, 2.5),
    ]  # fmt: skip
    certificate = make_certificate(Catalog(tmp_path, tmp_path / "none").day(DAY), TradingCalendar(HK), 0)
    assert any("corrected or cancelled 2 trades" in note for note in certificate.notes)
    (coverage,) = reader.coverage(db)
    assert (coverage.stored_ticks, coverage.last_ts_ms) == (1, tick.ts_ms)


@pytest.mark.parametrize("kind", ["parquet", "sqlite"])
def test_both_go_through_an_archive(tmp_path: Path, kind: str) -> None:
    data_root, archive_root = tmp_path / "data", tmp_path / "archive"
    data_root.mkdir()
    writer = DayFileWriter(data_root)
    told = [SymbolNoted(TENCENT, DAY, 1, name="騰訊", lot_size=100), Amended(TENCENT, DAY, CANCEL, 5, 1, 2)]
    writer.write(make_ticks(1, 50), told)
    writer.close()
    db = data_root / f"{DAY}.db"
    before = symbols(data_root), reader.amendments(db)
    archive_day(data_root, archive_root, DAY, (kind,), made_at_ms=1)
    assert check_day(archive_root, DAY, db).problems == ()
    db.unlink()
    archived = Catalog(data_root, archive_root).day(DAY)
    assert (archived.symbol_rows(), archived.amendments()) == before
    restore_day(archive_root, DAY, data_root, now_ms=1)
    assert (symbols(data_root), reader.amendments(db)) == before
    writer = DayFileWriter(data_root)
    writer.write((), [SymbolNoted(TENCENT, DAY, 2, lot_size=200)])
    writer.close()
    assert any("symbols" in problem for problem in check_day(archive_root, DAY, db).problems)

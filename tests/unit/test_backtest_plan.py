"""What exports for backtesters read once a day, however many symbols it has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hk_tick_collector.days.book_days import BookDay
from hk_tick_collector.days.catalog import Catalog, Day
from hk_tick_collector.export import backtest
from hk_tick_collector.export.backtest import Options, Proof
from hk_tick_collector.export.hftbacktest import export_hftbacktest
from hk_tick_collector.export.rows import DayPart, Selection
from tests.books import DAY, record_books
from tests.tickctl import record_day

SYMBOLS = tuple(f"HK.{code:05d}" for code in range(1, 18))


def test_a_day_is_judged_and_its_books_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record_day(tmp_path, symbols=SYMBOLS, count=3)
    record_books(tmp_path, symbols=SYMBOLS, pushes=300)
    opened, judged = [], []
    really_opened = BookDay.opened

    @contextmanager
    def counted(self: BookDay) -> Iterator[Path]:
        opened.append(self.trading_day)
        with really_opened(self) as path:
            yield path

    def proofs_of(day: Day) -> dict[str, Proof]:
        judged.append(day.trading_day)
        return {}

    monkeypatch.setattr(backtest, "PUSHES_AT_ONCE", 50)
    monkeypatch.setattr(BookDay, "opened", counted)
    part = DayPart(Catalog(tmp_path, tmp_path / "archive").day(DAY), Selection())
    done = export_hftbacktest(
        [part], tmp_path / "out", Options(), proofs_of, print, force=False, advance=lambda _rows: None
    )
    assert len(list(done)) == len(SYMBOLS)
    assert judged == [DAY]
    assert opened == [DAY] * 2, "for the symbols that it has, and for their rows"

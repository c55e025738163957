"""Which records are of which day, whether they are trades, and a digest that says whether they changed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from hk_tick_collector.sources.sierra import filedays
from hk_tick_collector.sources.sierra.filedays import NO_DAY, FileDay, read_days, records_of
from hk_tick_collector.sources.sierra.scid import ScidError
from tests.scid_files import Trade, append, bar, run_of, scid_bytes, write_scid

DAY_US = 86_400_000_000
FRIDAY_US = 1_795_132_800_000_000  # 2026-11-20 00:00 UTC
NOW_MS = FRIDAY_US // 1000 + 10 * 86_400_000


class Dates:
    """A market whose days are UTC dates."""

    def trading_day(self, ts_ms: int) -> str:
        if ts_ms > 4_000_000_000_000:
            raise OverflowError("no date")
        return f"{ts_ms // 86_400_000:08d}"

    def day_bounds(self, day: str) -> tuple[int, int]:
        return int(day) * 86_400_000, (int(day) + 1) * 86_400_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ESZ26_FUT_CME.scid"


def days_of(path: Path) -> list[FileDay]:
    return list(read_days(path, Dates(), NOW_MS).days.values())


def test_a_file_is_parted_into_days(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filedays.look, "__defaults__", (filedays.START, 7))  # parts end in the middle of days
    first_day, two = run_of(FRIDAY_US + 5, 40), run_of(FRIDAY_US + DAY_US, 25)
    write_scid(path, [*first_day, *two])
    whole = read_days(path, Dates(), NOW_MS)
    assert (whole.records, whole.rest_bytes) == (65, 0)
    first, second = whole.days.values()
    assert (first.records, second.records) == (40, 25)
    assert first.spans == [(0, 40)]
    assert second.spans == [(40, 25)]
    assert first.digest == hashlib.sha256(scid_bytes(first_day)[56:]).hexdigest()
    assert first.in_order
    assert first.refusal is None
    assert b"".join(records_of(whole, second)) == scid_bytes(two)[56:]


def test_a_digest_tells_a_changed_record_and_no_other_day(path: Path) -> None:
    first_day, two = run_of(FRIDAY_US, 10), run_of(FRIDAY_US + DAY_US, 10)
    write_scid(path, [*first_day, *two])
    before = [day.digest for day in days_of(path)]
    append(path, run_of(FRIDAY_US + 2 * DAY_US, 3))
    assert [day.digest for day in days_of(path)][:2] == before
    write_scid(path, [*first_day[:4], Trade(first_day[4].us, price=1.0), *first_day[5:], *two])
    after = [day.digest for day in days_of(path)]
    assert after[0] != before[0]
    assert after[1] == before[1]


def test_bars_are_told_by_the_day(path: Path) -> None:
    write_scid(path, [*[bar(FRIDAY_US + 60_000_000 * n) for n in range(5)], *run_of(FRIDAY_US + DAY_US, 10)])
    bars, trades = days_of(path)
    assert bars.refusal is not None
    assert "5 of 5 records are bars" in bars.refusal
    assert "1 Tick" in bars.refusal
    assert trades.refusal is None


def test_an_index_has_no_trades(path: Path) -> None:
    write_scid(path, [Trade(FRIDAY_US + n, price=17.5, open=17.5, bid=17.5, ask=17.5, volume=0) for n in range(3)])
    (index,) = days_of(path)
    assert index.refusal is not None
    assert "an index has no trades" in index.refusal


def test_times_that_are_none_are_of_no_day(path: Path) -> None:
    odd = [Trade(-5), Trade(0), Trade(FRIDAY_US + 400 * DAY_US), Trade(1 << 62)]
    write_scid(path, [*run_of(FRIDAY_US, 3), *odd, *run_of(FRIDAY_US + 1_000_000, 3)])
    days = read_days(path, Dates(), NOW_MS).days
    assert {name: day.records for name, day in days.items()} == {"00020777": 6, NO_DAY: 4}


def test_days_in_no_order_are_told(path: Path) -> None:
    first_day, two = run_of(FRIDAY_US, 5), run_of(FRIDAY_US + DAY_US, 5)
    write_scid(path, [*first_day[:3], *two, *first_day[3:]])
    whole = read_days(path, Dates(), NOW_MS)
    first, second = whole.days.values()
    assert (first.spans, first.in_order) == ([(0, 3), (8, 2)], False)
    assert second.in_order
    assert b"".join(records_of(whole, first)) == scid_bytes(first_day)[56:]
    write_scid(path, [first_day[1], first_day[0]])
    assert [day.in_order for day in days_of(path)] == [False]


def test_a_torn_record_is_named(path: Path) -> None:
    path.write_bytes(scid_bytes(run_of(FRIDAY_US, 3))[:-11])
    whole = read_days(path, Dates(), NOW_MS)
    assert (whole.records, whole.rest_bytes) == (2, 29)


def test_a_file_without_trades_has_no_days(path: Path) -> None:
    write_scid(path, [])
    assert days_of(path) == []
    path.write_bytes(b"SCI")
    with pytest.raises(ScidError, match="header is not written yet"):
        days_of(path)


def test_a_file_that_jumps_between_days_without_end_is_damaged(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filedays, "MAX_SPANS", 50)
    write_scid(path, [Trade(FRIDAY_US + n + DAY_US * (n % 2)) for n in range(200)])
    with pytest.raises(ScidError, match="jump between days"):
        days_of(path)


def test_a_file_made_anew_while_it_is_read_is_read_again(path: Path) -> None:
    write_scid(path, run_of(FRIDAY_US, 9))
    seen: list[int] = []

    def make_anew(records: int) -> None:
        seen.append(records)
        if len(seen) == 1:
            write_scid(path, run_of(FRIDAY_US + 5, 30))

    filedays_look = filedays.look

    def small(file: Path, position: filedays.Look, **_: object) -> filedays.Look:
        return filedays_look(file, position, 5)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(filedays, "look", small)
        whole = read_days(path, Dates(), NOW_MS, on_records=make_anew)
    assert whole.records == 30
    assert next(iter(whole.days.values())).digest == hashlib.sha256(path.read_bytes()[56:]).hexdigest()

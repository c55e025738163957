"""Truth file and check: every kind of difference between made and stored is found, counted and told."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hk_tick_collector.core.errors import StoreError
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hk import HK
from hk_tick_collector.market.hk.sessions import HK_TZ, hk_date
from hk_tick_collector.opend_sim.check import CheckReport, check
from hk_tick_collector.opend_sim.exchange import Exchange, MarketConfig, SimTick
from hk_tick_collector.opend_sim.instruments import default_symbols
from hk_tick_collector.opend_sim.truth import HEADER, TruthError, TruthWriter, read_truth, read_truth_flagged
from tests.nights import examples

# The day file as the interface promises it, made here by hand: a check must work on any recorder's files.
SCHEMA = """
CREATE TABLE ticks (
  market TEXT NOT NULL, symbol TEXT NOT NULL, ts_ms INTEGER NOT NULL, price REAL, volume INTEGER, turnover REAL,
  direction TEXT, seq INTEGER, tick_type TEXT, push_type TEXT, provider TEXT, trading_day TEXT NOT NULL,
  recv_ts_ms INTEGER NOT NULL, inserted_at_ms INTEGER NOT NULL,
  push_data_type TEXT, opend_recv_ts_ms INTEGER, type_sign TEXT
)
"""
INDEXES = """
CREATE UNIQUE INDEX uniq_ticks_symbol_seq ON ticks (symbol, seq) WHERE seq IS NOT NULL;
CREATE UNIQUE INDEX uniq_ticks_symbol_ts_price_vol_turnover
  ON ticks (symbol, ts_ms, price, volume, turnover) WHERE seq IS NULL;
"""


def hk(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=HK_TZ).timestamp() * 1000)


def store(
    root: Path, ticks: Iterable[SimTick], *, day: str | None = None, seq: Any = "own", indexes: bool = True
) -> None:
    """Write ticks into day files as a recorder would, in the order given."""
    groups: dict[str, list[SimTick]] = {}
    for tick in ticks:
        groups.setdefault(day or hk_date(tick.ts_ms), []).append(tick)
    for name, own in groups.items():
        path = root / f"{name}.db"
        new = not path.exists()
        with closing(sqlite3.connect(path)) as database, database:
            if new:
                database.execute("PRAGMA journal_mode = WAL")
                database.executescript(SCHEMA + (";" + INDEXES if indexes else ""))
            database.executemany(
                f"INSERT INTO ticks VALUES ({','.join('?' * 17)})",
                [
                    ("HK", t.symbol, t.ts_ms, t.price, t.volume, t.turnover, t.direction,
                     t.seq if seq == "own" else seq, t.tick_type, "push", "futu", name, t.recv_ts_ms,
                     t.recv_ts_ms, "REALTIME", t.recv_ts_ms, chr(t.type_sign))
                    for t in own
                ],
            )  # fmt: skip


@pytest.fixture(scope="module")
def made() -> list[SimTick]:
    """Some 3,000 ticks of ten symbols over the end of a Hong Kong day."""
    config = MarketConfig(default_symbols(10), seed=5, rate_per_sec=300.0, always_open=True, history_ticks=0)
    start_ms = hk("2026-11-20 23:59:55")
    return Exchange(config, start_ms, TradingCalendar(HK)).advance(start_ms + 10_000)


@pytest.fixture
def truth(tmp_path: Path, made: list[SimTick]) -> Path:
    return write_truth(tmp_path / "truth.csv", made)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    directory = tmp_path / "data # with%20odd name"
    directory.mkdir()
    return directory


def write_truth(path: Path, ticks: Iterable[SimTick], history: Iterable[SimTick] = ()) -> Path:
    writer = TruthWriter(path)
    writer.write(history, history=True)
    writer.write(ticks)
    writer.close()
    return path


def differences(report: CheckReport) -> tuple[int, int, int, int]:
    total = report.total()
    return total.missing, total.extra, total.wrong, total.duplicate


# Truth file


sim_ticks = st.builds(
    SimTick,
    symbol=st.from_regex(r"HK\.[0-9]{5}", fullmatch=True),
    ts_ms=st.integers(0, 1 << 41),
    price=st.floats(min_value=0.001, max_value=1e7),
    volume=st.integers(0, 1 << 62),
    turnover=st.floats(min_value=0, allow_infinity=False),
    direction=st.sampled_from(["BUY", "SELL", "NEUTRAL"]),
    seq=st.integers(1, (1 << 63) - 1),
    tick_type=st.sampled_from(["AUTO_MATCH", "AUCTION"]),
    type_sign=st.integers(32, 126),
    has_ms=st.booleans(),
    recv_ts_ms=st.integers(0, 1 << 41),
)


@settings(max_examples=examples(50))
@given(ticks=st.lists(sim_ticks, max_size=20), past=st.lists(sim_ticks, max_size=5))
def test_what_is_written_reads_back_the_same(
    tmp_path_factory: pytest.TempPathFactory, ticks: list[SimTick], past: list[SimTick]
) -> None:
    path = write_truth(tmp_path_factory.mktemp("truth") / "truth.csv", ticks, past)
    assert list(read_truth(path)) == past + ticks
    assert [history for _, history in read_truth_flagged(path)] == [True] * len(past) + [False] * len(ticks)


def test_a_reader_beside_the_writer_sees_every_finished_write(tmp_path: Path, made: list[SimTick]) -> None:
    writer = TruthWriter(tmp_path / "truth.csv")
    assert list(read_truth(tmp_path / "truth.csv")) == []
    writer.write(made[:3])
    assert list(read_truth(tmp_path / "truth.csv")) == made[:3]
    writer.write(made[3:4])
    writer.write([])
    assert list(read_truth(tmp_path / "truth.csv")) == made[:4]
    assert writer.written_rows == 4
    writer.close()
    writer.close()


def test_append_goes_on_and_default_replaces(tmp_path: Path, made: list[SimTick]) -> None:
    path = write_truth(tmp_path / "truth.csv", made[:2])
    again = TruthWriter(path, append=True)
    again.write(made[2:3])
    again.close()
    assert list(read_truth(path)) == made[:3]
    assert path.read_text().count("#") == 1
    write_truth(path, made[:1])
    assert list(read_truth(path)) == made[:1]


def test_an_unfinished_last_line_is_not_there_yet(truth: Path, made: list[SimTick]) -> None:
    content = truth.read_text()
    for cut in (1, 20, 40):
        truth.write_text(content[:-cut])
        assert list(read_truth(truth)) == made[:-1]


@pytest.mark.parametrize("line", ["HK.00700,1,2", "HK.00700,x,1,1,1,1,BUY,AUTO_MATCH,32,1,1,0", ""])
def test_a_damaged_line_is_named(truth: Path, line: str) -> None:
    lines = truth.read_text().splitlines()
    truth.write_text("\n".join([*lines[:5], line, *lines[5:]]) + "\n")
    with pytest.raises(TruthError, match="line 6"):
        list(read_truth(truth))


@pytest.mark.parametrize("content", [b"symbol,seq\n", b"SQLite format 3\0\n", b"\xff\xfe\n"])
def test_another_kind_of_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(TruthError, match="not a truth file"):
        list(read_truth(tmp_path / "other"))


# Check


def test_everything_stored_is_clean(truth: Path, root: Path, made: list[SimTick]) -> None:
    shuffled = made[:]
    Random(1).shuffle(shuffled)
    store(root, shuffled)
    report = check(truth, root)
    assert report.clean
    assert report.exit_code == 0
    assert report.day_files == ["20261120.db", "20261121.db"]
    assert report.made_rows == report.required_rows == report.stored_rows == report.matched_rows == len(made)
    assert report.text().startswith("OK")


def test_files_without_indexes_can_be_checked(truth: Path, root: Path, made: list[SimTick]) -> None:
    store(root, reversed(made), indexes=False)
    assert check(truth, root).clean


def test_a_live_file_is_read_without_stopping_its_writer(truth: Path, root: Path, made: list[SimTick]) -> None:
    store(root, made[:-1])
    last = made[-1]
    with closing(sqlite3.connect(root / f"{hk_date(last.ts_ms)}.db", isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("DELETE FROM ticks")
        assert differences(check(truth, root)) == (1, 0, 0, 0)
        writer.execute("ROLLBACK")


def test_missing_rows_are_counted_by_symbol_with_their_extent(truth: Path, root: Path, made: list[SimTick]) -> None:
    own = [tick for tick in made if tick.symbol == "HK.00700"]
    gone = own[10:25] + own[40:41]
    store(root, [tick for tick in made if tick not in gone])
    report = check(truth, root)
    assert differences(report) == (16, 0, 0, 0)
    assert {name: diff.missing for name, diff in report.symbols.items() if diff.missing} == {"HK.00700": 16}
    assert report.exit_code == 1
    told = [line for line in report.examples if line.startswith("missing")]
    assert len(told) == 2
    assert "15 rows from 2026-11-20 23:59:5" in told[0]
    assert f"seq {gone[0].seq} to {gone[14].seq}" in told[0]
    assert "HK.00700" in report.text()
    assert report.text().startswith("DIFFERENCES")


def test_a_whole_missing_day_file_is_missing_rows(truth: Path, root: Path, made: list[SimTick]) -> None:
    store(root, [tick for tick in made if hk_date(tick.ts_ms) == "20261120"])
    lost = sum(hk_date(tick.ts_ms) == "20261121" for tick in made)
    assert differences(check(truth, root)) == (lost, 0, 0, 0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ts_ms", -28_800_000),
        ("ts_ms", 1),
        ("price", 0.001),
        ("volume", 1),
        ("turnover", 0.5),
        ("direction", "SELL?"),
        ("tick_type", "LATE"),
    ],
)
def test_a_wrong_value_is_found_in_every_column(
    truth: Path, root: Path, made: list[SimTick], field: str, value: Any
) -> None:
    index = len(made) // 3
    old = getattr(made[index], field)
    changed = replace(made[index], **{field: value if isinstance(value, str) else old + value})
    store(root, [*made[:index], changed, *made[index + 1 :]], day=None)
    report = check(truth, root)
    assert differences(report) == (0, 0, 1, 0)
    assert report.wrong_fields == {field: 1}
    assert report.symbols[changed.symbol].wrong == 1
    assert f"seq {changed.seq}" in report.examples[0]
    assert f"{field} {getattr(changed, field)} instead of {old}" in report.examples[0]


def test_sequence_through_a_float_is_wrong_not_missing(truth: Path, root: Path, made: list[SimTick]) -> None:
    index = next(i for i, tick in enumerate(made) if int(float(tick.seq)) != tick.seq)
    store(root, [*made[:index], replace(made[index], seq=int(float(made[index].seq))), *made[index + 1 :]])
    report = check(truth, root)
    assert differences(report) == (0, 0, 1, 0)
    assert report.wrong_fields == {"seq": 1}


def test_a_tick_stored_without_its_sequence_is_wrong_not_missing(truth: Path, root: Path, made: list[SimTick]) -> None:
    store(root, made[1:])
    store(root, made[:1], seq=None)
    report = check(truth, root)
    assert differences(report) == (0, 0, 1, 0)
    assert report.wrong_fields == {"seq": 1}
    assert report.stored_rows == len(made)


def test_a_tick_in_another_days_file_is_wrong(truth: Path, root: Path, made: list[SimTick]) -> None:
    store(root, made[1:])
    store(root, made[:1], day="20261121")
    report = check(truth, root)
    assert differences(report) == (0, 0, 1, 0)
    assert report.wrong_fields == {"day_file": 1}
    assert "20261121" in report.examples[0]


def test_stored_twice_under_another_sequence_or_without_or_in_another_file(
    truth: Path, root: Path, made: list[SimTick]
) -> None:
    store(root, made)
    store(root, [replace(made[0], seq=made[0].seq + 999)])
    store(root, made[1:2], seq=None)
    store(root, made[2:3], day="20261121")
    report = check(truth, root)
    assert differences(report) == (0, 0, 0, 3)
    assert report.examples[0].startswith("duplicate")


def test_two_made_ticks_of_the_same_content_are_two(tmp_path: Path, root: Path, made: list[SimTick]) -> None:
    twin = replace(made[0], seq=made[0].seq + 1)
    path = write_truth(tmp_path / "twins.csv", [made[0], twin])
    store(root, [made[0]])
    assert differences(check(path, root)) == (1, 0, 0, 0)
    store(root, [twin], seq=None)
    assert differences(check(path, root)) == (0, 0, 1, 0)
    store(root, [twin])
    assert differences(check(path, root)) == (0, 0, 0, 1)


def test_what_was_never_made_is_extra(truth: Path, root: Path, made: list[SimTick]) -> None:
    store(root, made)
    store(root, [replace(made[5], seq=1, price=1.0), replace(made[5], symbol="HK.09999", seq=2)])
    store(root, [replace(made[5], seq=3, ts_ms=hk("2026-12-01 10:00"))])
    report = check(truth, root)
    assert differences(report) == (0, 3, 0, 0)
    assert report.symbols["HK.09999"].extra == 1


def test_history_may_be_stored_or_not(tmp_path: Path, root: Path, made: list[SimTick]) -> None:
    path = write_truth(tmp_path / "truth.csv", made[200:], made[:200])
    store(root, made[150:])
    report = check(path, root)
    assert report.clean
    assert report.excused_rows == 150
    assert report.required_rows == len(made) - 200
    assert report.matched_rows == len(made) - 150


def test_history_that_is_stored_must_be_right(tmp_path: Path, root: Path, made: list[SimTick]) -> None:
    path = write_truth(tmp_path / "truth.csv", made[200:], made[:200])
    store(root, [*made[200:], replace(made[0], price=made[0].price + 1)])
    assert differences(check(path, root)) == (0, 0, 1, 0)


def test_since_excuses_what_was_made_earlier(truth: Path, root: Path, made: list[SimTick]) -> None:
    since_ms = made[100].ts_ms
    store(root, [tick for tick in made if tick.ts_ms >= since_ms])
    assert not check(truth, root).clean
    assert check(truth, root, since_ms=since_ms).clean
    assert not check(truth, root, since_ms=made[50].ts_ms).clean


def test_tail_excuses_what_is_still_on_its_way_in_both_directions(
    tmp_path: Path, root: Path, made: list[SimTick]
) -> None:
    newest_ms = max(tick.ts_ms for tick in made)
    path = write_truth(tmp_path / "truth.csv", made)
    store(root, [tick for tick in made if tick.ts_ms <= newest_ms - 500])
    store(root, [replace(made[-1], seq=made[-1].seq + 1, ts_ms=newest_ms + 20)])
    assert differences(check(path, root))[0] > 0
    report = check(path, root, allow_tail_ms=500)
    assert report.clean
    assert report.unsettled_rows == 1
    assert report.excused_rows > 0
    assert not check(path, root, allow_tail_ms=100).clean


def test_symbols_narrow_both_sides(truth: Path, root: Path, made: list[SimTick]) -> None:
    store(root, [tick for tick in made if tick.symbol == "HK.00700"])
    store(root, [replace(made[0], symbol="HK.09999")])
    report = check(truth, root, symbols=["HK.00700"])
    assert report.clean
    assert report.made_rows == sum(tick.symbol == "HK.00700" for tick in made)


def test_no_data_is_its_own_answer(truth: Path, root: Path, tmp_path: Path, made: list[SimTick]) -> None:
    report = check(truth, root)
    assert report.exit_code == 3
    assert "no day file" in report.text()
    assert check(truth, tmp_path / "missing").exit_code == 3
    store(root, made)
    empty = write_truth(tmp_path / "empty.csv", [])
    report = check(empty, root)
    assert report.exit_code == 3
    assert "no tick in" in report.text()
    (tmp_path / "blank.csv").write_text(HEADER + "\n")
    assert check(tmp_path / "blank.csv", root).exit_code == 3


def test_files_set_aside_are_not_day_files(truth: Path, root: Path, made: list[SimTick]) -> None:
    store(root, made)
    (root / "20261120.db.corrupt-20261120T100000Z").write_bytes(b"rubbish")
    (root / "notes.db").write_bytes(b"rubbish")
    assert check(truth, root).clean


def test_a_damaged_day_file_is_an_error_not_a_difference(truth: Path, root: Path, made: list[SimTick]) -> None:
    store(root, made)
    (root / "20261120.db").write_bytes(b"rubbish" * 1000)
    with pytest.raises(StoreError, match=r"20261120\.db"):
        check(truth, root)


def test_json_says_the_same(truth: Path, root: Path, made: list[SimTick]) -> None:
    store(root, made[3:])
    content = json.loads(check(truth, root).to_json())
    assert content["missing"] == 3
    assert content["extra"] == content["wrong"] == content["duplicate"] == 0
    assert content["clean"] is False
    assert content["exit_code"] == 1
    assert sum(diff["missing"] for diff in content["symbols"].values()) == 3


def test_repeats_in_the_truth_are_told(tmp_path: Path, root: Path, made: list[SimTick]) -> None:
    path = write_truth(tmp_path / "truth.csv", [*made[:10], made[3]])
    store(root, made[:10])
    report = check(path, root)
    assert report.repeated_truth_rows == 1
    assert "repeats 1" in report.text()


@settings(max_examples=examples(25))
@given(data=st.data())
def test_any_damage_is_counted_exactly(
    tmp_path_factory: pytest.TempPathFactory, made: list[SimTick], data: st.DataObject
) -> None:
    ticks = made[:60]
    count = len(ticks)
    fates = data.draw(st.lists(st.sampled_from(["ok", "gone", "price", "twice"]), min_size=count, max_size=count))
    strangers = data.draw(st.integers(0, 5))
    directory = tmp_path_factory.mktemp("any")
    stored: list[SimTick] = []
    for i, (tick, fate) in enumerate(zip(ticks, fates, strict=True)):
        if fate != "gone":
            stored.append(replace(tick, price=tick.price + 0.001) if fate == "price" else tick)
        if fate == "twice":
            stored.append(replace(tick, seq=tick.seq + (1000 + i)))
    stored += [replace(ticks[0], seq=7 + i, price=0.5) for i in range(strangers)]
    store(directory, [*stored, made[-1]])
    report = check(write_truth(directory / "truth.csv", [*ticks, made[-1]]), directory)
    # One rule of pairing: a second copy counts as the missing twin when a twin of equal content is missing.
    contents = {(t.symbol, t.ts_ms, t.price, t.volume) for t in ticks}
    if len(contents) == count:
        expected = (fates.count("gone"), strangers, fates.count("price"), fates.count("twice"))
        assert differences(report) == expected
    assert report.matched_rows == 1 + fates.count("ok") + fates.count("twice")

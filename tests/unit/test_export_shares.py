"""Files for HftBacktest made by several processes: the same as by one, and nothing is left when one fails."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hk_tick_collector.core.errors import RecorderError, StoreCorrupt
from hk_tick_collector.days.catalog import Catalog
from hk_tick_collector.export import backtest, shares
from hk_tick_collector.export.backtest import Options, by_memory
from hk_tick_collector.export.hft_events import Latency, LatencyMode
from hk_tick_collector.export.hftbacktest import export_hftbacktest
from hk_tick_collector.export.job import Exported
from hk_tick_collector.export.rows import Advance, DayPart, Selection
from hk_tick_collector.export.shares import ShareEnded, default_processes, exported, shares_of
from hk_tick_collector.market.registry import MARKETS
from hk_tick_collector.store import book_reader
from hk_tick_collector.store.layout import book_file
from tests.books import DAY, record_books
from tests.nights import by_day
from tests.tickctl import record_day
from tests.unit.share_work import Failing, TypedMeanwhile

SYMBOLS = tuple(f"HK.{number:05}" for number in (1, 2, 5, 388, 700, 941, 9988))


@pytest.fixture
def day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DayPart:
    """With books of every symbol, few enough for a test and many enough to be shared out."""
    record_day(tmp_path, symbols=SYMBOLS, count=20)
    record_books(tmp_path, symbols=SYMBOLS, pushes=400)
    monkeypatch.setattr(shares, "PUSHES_A_PROCESS", 50)
    return DayPart(Catalog(tmp_path, tmp_path / "archive").day(DAY), Selection())


def _book_path(day: DayPart) -> Path:
    assert day.day.db is not None
    return book_file(day.day.db.parent, DAY)


def _files(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(root.iterdir())}


@pytest.mark.parametrize("processes", by_day([2, 3], lambda processes: processes == 3))
def test_files_are_the_same_byte_for_byte_and_come_in_the_same_order(
    day: DayPart, tmp_path: Path, processes: int
) -> None:
    options = Options(latency=Latency(LatencyMode.LOGNORMAL, 5.0, 2.0, 7))
    told: dict[int, list[tuple[str, int, int]]] = {}
    ticks = dict.fromkeys((1, processes), 0.0)
    for count in (1, processes):
        root = tmp_path / f"by {count}"

        def advance(rows: float, count: int = count) -> None:
            ticks[count] += rows

        done = export_hftbacktest(
            [day], root, options, lambda _: {}, print, force=False, advance=advance, processes=count
        )
        told[count] = [(file.path.name, file.rows, file.size_bytes) for file in done]
    assert told[1] == told[processes]
    assert [name for name, _, _ in told[1]] == [f"{symbol}_{DAY}.npz" for symbol in SYMBOLS]
    assert ticks == {1: 20 * len(SYMBOLS), processes: 20 * len(SYMBOLS)}
    assert _files(tmp_path / "by 1") == _files(tmp_path / f"by {processes}")


@given(st.integers(1, 9))
def test_each_symbol_is_of_one_share(count: int) -> None:
    weights = {f"S{number}": weight for number, weight in enumerate((0.5, 0.0, 0.1, 0.1, 0.2, 0.05, 0.05))}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shares, "sampled_shares", lambda _: weights)
        parts = shares_of(Path("a file"), sorted(weights, reverse=True), count)
    assert [symbol for share in parts for symbol in share] == list(weights), "in the order of the file"
    assert 1 <= len(parts) <= count
    heaviest = max(sum(weights[symbol] for symbol in share) for share in parts)
    assert heaviest <= 1 / count + max(weights.values())


def test_the_rows_of_symbols_are_estimated_from_a_look_at_some_places(
    day: DayPart, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _book_path(day)
    counts = {symbol: told.pushes for symbol, told in book_reader.counts(path).items()}
    monkeypatch.setattr(book_reader, "SAMPLE_ROWS", 5)
    estimated = book_reader.sampled_shares(path)
    assert estimated.keys() == counts.keys()
    assert sum(estimated.values()) == pytest.approx(1.0)
    for symbol, pushes in counts.items():
        assert estimated[symbol] == pytest.approx(pushes / sum(counts.values()), abs=0.1)


def test_processes_share_the_memory_of_one(day: DayPart, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backtest, "PUSHES_AT_ONCE", 200)
    path = _book_path(day)
    together, by_two = (len(list(by_memory(SYMBOLS, path, parts))) for parts in (1, 2))
    assert 1 < together < by_two


@pytest.mark.parametrize(
    ("how", "error", "said"),
    [
        ("raises", StoreCorrupt, "the file is damaged"),
        ("strange", RecorderError, "_Strange: 1 and 2"),
        ("killed", ShareEnded, r"exit code -9.*--processes 1"),
    ],
)
def test_a_process_that_fails_ends_the_others_and_leaves_nothing_half_done(
    day: DayPart, tmp_path: Path, how: str, error: type[Exception], said: str
) -> None:
    root = tmp_path / "out"
    root.mkdir()
    ordered = [symbol for share in shares_of(_book_path(day), SYMBOLS, 2) for symbol in share]
    with pytest.raises(error, match=said):
        exported(Failing(root, how, ordered[0]), _book_path(day), SYMBOLS, 2, lambda _: None)
    left = [path.name for path in root.iterdir()]
    assert left == [] if how != "killed" else len(left) <= 1, "who is killed cleans up nothing; the others do"
    assert not multiprocessing.active_children()


def test_being_told_to_stop_ends_the_processes(day: DayPart, tmp_path: Path) -> None:
    root = tmp_path / "out"
    root.mkdir()

    def stop(_rows: float) -> None:
        raise SystemExit(143)

    with pytest.raises(SystemExit):
        exported(Failing(root, "never", "never"), _book_path(day), SYMBOLS, 2, stop)
    assert list(root.iterdir()) == []
    assert not multiprocessing.active_children()


def test_ctrl_c_while_processes_start_is_for_who_started_them(
    day: DayPart, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made = exported(TypedMeanwhile(tmp_path), _book_path(day), SYMBOLS, 2, lambda _: None)
    assert sorted(file.path.name for file in made) == sorted(SYMBOLS)
    assert "Traceback" not in capfd.readouterr().err
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_a_small_day_is_left_to_one_process(day: DayPart, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "PUSHES_A_PROCESS", 100_000)

    class Here:
        def export(self, symbols: Sequence[str], parts: int, advance: Advance) -> Iterator[Exported]:
            assert parts == 1
            advance(os.getpid())
            return iter(())

    told: list[float] = []
    exported(Here(), _book_path(day), SYMBOLS, 8, told.append)
    exported(Here(), None, SYMBOLS, 8, told.append)
    assert told == [os.getpid()] * 2
    assert 1 <= default_processes() <= 4


def test_a_market_goes_to_another_process_by_its_code() -> None:
    for market in MARKETS.values():
        assert pickle.loads(pickle.dumps(market)) is market

"""One scenario: a simulator and recorders under one directory, and the verdict over what was recorded.

The verdict has two witnesses that know nothing of each other: the simulator's truth file says what was made, the day
file's own ``coverage`` and ``gaps`` say what it claims to hold. The first must be matched, the second must be true.

A test that is marked ``in_hk_and_us`` plays in both markets. The sequences of US stocks count nothing: what is judged
there is that nothing stored is wrong, that nothing OpenD could still show is absent, and that no day is called proven.
Where the fault lies outside of what the market tells (a disk, a process, a connection), the second market is for the
nights: ``in_hk_and_at_night_in_us``.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hk_tick_collector.market.hk import HK
from hk_tick_collector.market.market import Market
from hk_tick_collector.market.us import US
from hk_tick_collector.opend_sim.check import check
from hk_tick_collector.opend_sim.instruments import default_symbols
from hk_tick_collector.opend_sim.truth import read_truth
from hk_tick_collector.opend_sim.venue import Numbering, venue_of
from hk_tick_collector.records.tick import seq_counter
from tests.harness import DEADLINE_SEC, Process, Recorder, Simulator, wait_until
from tests.nights import by_day

SYMBOLS = "HK.00700,HK.00005,HK.09988"
DAY = "20261120"
OPENING = "2026-11-20T09:30:00"  # the day's first ticks can be seen from here, so its head can be proven
BEFORE_OPENING = "2026-11-20T09:29:56"  # of a busy symbol a slow start would miss the first ticks for good

Row = dict[str, Any]


@dataclass(frozen=True)
class Stage:
    """The market that a scenario plays in, and its day."""

    market: Market
    symbols: str
    opening: str  # the day's first ticks can be seen from here
    counts: bool  # its sequences count the ticks of a day


IN_HK = Stage(HK, SYMBOLS, OPENING, counts=True)
IN_US = Stage(US, "US.AAPL,US.BRK.B,US..DJI", "2026-11-19T20:00:00", counts=False)  # the evening before the same day
in_hk_and_us = pytest.mark.parametrize("lab", [IN_HK, IN_US], ids=["HK", "US"], indirect=True)
in_hk_and_at_night_in_us = pytest.mark.parametrize(
    "lab", by_day([IN_HK, IN_US], lambda stage: stage is IN_HK), ids=["HK", "US"], indirect=True
)


def each_in_hk_and_us(name: str, values: Sequence[Any]) -> pytest.MarkDecorator:
    """Another parameter beside the market: a check takes every value in Hong Kong, and the first one in the US."""
    return _each(name, values, values[:1])


def each_in_hk_and_at_night_in_us(name: str, values: Sequence[Any]) -> pytest.MarkDecorator:
    """A check takes every value in Hong Kong, and none in the US."""
    return _each(name, values, [])


def _each(name: str, values: Sequence[Any], by_day_in_us: Sequence[Any]) -> pytest.MarkDecorator:
    pairs = [(stage, value) for stage in (IN_HK, IN_US) for value in values]
    short = by_day(pairs, lambda pair: pair[0] is IN_HK or pair[1] in by_day_in_us)
    return pytest.mark.parametrize(("lab", name), short, ids=_stage_id, indirect=["lab"])


def _stage_id(value: object) -> str | None:
    return value.market.code if isinstance(value, Stage) else None


in_us = pytest.mark.parametrize("lab", [IN_US], ids=["US"], indirect=True)


class Lab:
    """Starts the processes of one scenario; ``end`` leaves none behind."""

    def __init__(self, directory: Path, stage: Stage = IN_HK) -> None:
        self.directory = directory
        self.data_root = directory / "data"
        self.stage = stage
        self._processes: list[Process] = []
        self._speed = 1.0

    @property
    def day_file(self) -> Path:
        """The file of the day that most scenarios play on."""
        return self.data_root / f"{DAY}.db"

    def symbol(self, place: int) -> str:
        """One of the three: 0, 1 or 2."""
        return self.stage.symbols.split(",")[place]

    def market(self, *flags: str, port: int = 0, **options: object) -> Simulator:
        """A simulator of three symbols from the opening on; ``options`` are those of its command line, None: not.

        A market of its own time waits for the recorder's first subscription, so that a slow start on a busy machine
        misses nothing; one in real time (``start=None``) does not.
        """
        self._speed = float(str(options.get("speed", 1)))
        stage = self.stage
        named = {"market": stage.market.code, "symbols": stage.symbols, "start": stage.opening, "rate": 300, **options}
        words: list[object] = [*flags] if named["start"] is None else ["--wait-for-client", *flags]
        for name, value in named.items():
            if value is not None:
                words += [f"--{name.replace('_', '-')}", value]
        simulator = Simulator(self.directory / f"sim{len(self._processes)}", *words, port=port)
        self._processes.append(simulator)
        return simulator

    def recorder(self, simulator: Simulator, symbols: str = "", **settings: object) -> Recorder:
        """A recorder on this lab's data root, connected or not."""
        quick: dict[str, Any] = {"PERSIST_RETRY_BACKOFF_MAX_SEC": 0.5, "SQLITE_BUSY_TIMEOUT_MS": 500, **settings}
        market = {} if self.stage is IN_HK else {"MARKET": self.stage.market.code}
        recorder = Recorder(self.data_root, simulator.port, symbols or self.stage.symbols, **market, **quick)
        self._processes.append(recorder)
        return recorder

    def recording(self, simulator: Simulator, rows: int = 600, symbols: str = "", **settings: object) -> Recorder:
        """A recorder that has backfilled and stored so many rows."""
        recorder = self.recorder(simulator, symbols, **settings)
        recorder.wait_for("backfill_done")
        recorded(recorder, rows)
        return recorder

    def end(self) -> None:
        for process in reversed(self._processes):
            process.end()

    def finish(self, simulator: Simulator, recorder: Recorder, *, exit_code: int = 0) -> Verdict:
        """Stop the recorder, then the market; compare. Ticks made after the stop was asked need not be there."""
        if not self.stage.counts:
            self.last_look(simulator, recorder)
        asked_ms = market_time_ms(simulator)
        code = recorder.stop()
        assert code == exit_code, f"exit code {code}\n{recorder.output}"
        return self.verdict(simulator, recorder, asked_ms)

    def assert_complete_at_rest(self, simulator: Simulator, recorder: Recorder) -> None:
        """The market stands, what it made is stored, the recorder stops: every tick is there.

        For tests of something else than a stop. In ``finish`` a busy machine would be judged as well: by what it had
        not read yet of a market that went on.
        """
        simulator.ctl("stand")
        if not self.stage.counts:
            self.last_look(simulator, recorder)
        newest = {tick.symbol: tick.seq for tick in read_truth(simulator.truth)}

        def not_stored() -> list[str]:
            return [symbol for symbol, seq in newest.items() if not self._is_stored(symbol, seq)]

        wait_until(
            lambda: not not_stored() or recorder.proc.poll() is not None,
            f"the newest ticks are stored\n{recorder.output}",
        )
        asked_ms = market_time_ms(simulator)
        assert recorder.stop() == 0, recorder.output
        self.verdict(simulator, recorder, asked_ms).assert_complete()

    def _is_stored(self, symbol: str, seq: int | None) -> bool:
        sql = "SELECT 1 FROM ticks WHERE symbol = ? AND seq IS ? LIMIT 1"
        return any(select(path, sql, symbol, seq) for path in self.data_root.glob("????????.db"))

    def last_look(self, simulator: Simulator, recorder: Recorder) -> None:
        """Without a counter nothing tells of a tick that is missing: everything is asked for once more."""
        backfills = count_lines(recorder, "backfill_done")
        simulator.ctl("drop")
        one_more_line(recorder, "backfill_done", backfills)

    def verdict(self, simulator: Simulator, recorder: Recorder, asked_ms: int) -> Verdict:
        """As ``finish``, of a recorder that was asked to stop at this market time.

        Half a second is allowed for what was under way. The market's own clock tells what came later: by the machine's,
        a market that stands or a simulator that ends slowly would excuse what was recorded.
        """
        simulator.stop()
        newest_ms = max((tick.ts_ms for tick in read_truth(simulator.truth)), default=asked_ms)
        tail_ms = max(0, newest_ms - asked_ms) + round(500 * self._speed)
        report = check(simulator.truth, self.data_root, allow_tail_ms=tail_ms)
        return Verdict(json.loads(report.to_json()), day_claims(simulator.truth, self.data_root), recorder.output)


@dataclass(frozen=True)
class Claim:
    """What a day file says of one symbol, beside what is so."""

    day: str
    symbol: str
    coverage: Row
    gaps: list[Row]
    stored: list[int]  # counters in the file, sorted, one for each row with a sequence
    unsequenced_rows: int
    made: set[int]  # counters of the day in the truth file, those from before the simulation too
    counts: bool = True  # the lower half of a sequence is a counter

    @property
    def missing(self) -> list[int]:
        """Counters made between the first and the last one stored, and not stored."""
        return sorted(c for c in self.made.difference(self.stored) if self.stored[0] < c < self.stored[-1])

    @property
    def open_gap_ticks(self) -> int:
        return sum(gap["missing_ticks"] or 0 for gap in self.gaps if gap["state"] == "open")


@dataclass(frozen=True)
class Verdict:
    """What ``hk-opend-sim check`` found, and what the day files claim."""

    report: Row
    claims: list[Claim]
    log: str

    def assert_complete(self, days: Iterable[str] = (DAY,)) -> None:
        """Every tick once and right, and the files say so: no hole, no gap but an unknown beginning."""
        self._assert_report(missing=0)
        self.assert_true_claims()
        for claim in self.claims:
            if claim.day in days:
                assert claim.coverage["missing_ticks"] == 0, claim
                assert claim.open_gap_ticks == 0, claim.gaps

    def assert_missing_in_gaps(self) -> int:
        """What is lost is all in ``gaps`` with its number, nothing else is wrong. The number of lost ticks."""
        missing = sum(len(claim.missing) for claim in self.claims if claim.day == DAY)
        self._assert_report(missing)
        self.assert_true_claims()
        in_gaps = {claim.symbol: claim.open_gap_ticks for claim in self.claims if claim.open_gap_ticks}
        assert in_gaps == {claim.symbol: len(claim.missing) for claim in self.claims if claim.missing}, self.log
        return missing

    def assert_unproven(self, reason: str) -> None:
        """Nothing is missing or stored twice, and no symbol of the day with such sequences is called proven."""
        assert (self.report["missing"], self.report["duplicate"], self.report["extra"]) == (0, 0, 0), self._words()
        states = {c.symbol: (c.coverage["state"], c.coverage["reason"]) for c in self.claims if c.day == DAY}
        assert states, self.log
        for symbol, (state, why) in states.items():
            assert state == "unproven", f"{symbol} is called {state}\n{self.log}"
            assert reason in why, f"{symbol}: {why}"

    def assert_true_claims(self) -> None:
        """Whatever the files say about counters that count is so, complete or not."""
        for claim in self.claims:
            where = f"{claim.day} {claim.symbol}: {claim.coverage}\n{self.log}"
            assert claim.coverage["stored_ticks"] == len(claim.stored) + claim.unsequenced_rows, where
            if not claim.counts:
                assert claim.coverage["state"] == "unproven", where
                assert "no counter in this market" in claim.coverage["reason"], where
                assert claim.coverage["missing_ticks"] == 0, where
                continue
            coverage, stored, missing = claim.coverage, claim.stored, claim.missing
            assert coverage["first_counter"] == stored[0], where
            assert coverage["last_counter"] == stored[-1], where
            assert coverage["missing_ticks"] == len(missing), f"{len(missing)} missing, {where}"
            assert _extents(coverage["holes"]) == missing, where
            if coverage["state"] == "proven":
                assert not missing, where
                assert min(claim.made) == stored[0], f"{min(claim.made)} was the day's first, {where}"
                assert coverage["reason"] is None, where
            else:
                assert coverage["reason"], where
            assert (coverage["state"] == "missing") >= bool(missing), where

    def of_day(self, day: str = DAY) -> list[Claim]:
        return [claim for claim in self.claims if claim.day == day]

    def _assert_report(self, missing: int) -> None:
        counts = {name: self.report[name] for name in ("missing", "extra", "wrong", "duplicate")}
        assert counts == {"missing": missing, "extra": 0, "wrong": 0, "duplicate": 0}, self._words()
        assert self.report["required_rows"] > 0

    def _words(self) -> str:
        words = {key: value for key, value in self.report.items() if key not in ("day_files", "truth_path")}
        return f"{json.dumps(words, indent=1)}\n{self.log}"


def market_time_ms(simulator: Simulator) -> int:
    """What the market's clock shows."""
    shown: int = simulator.ctl("status")["market_time_ms"]
    return shown


def codes(count: int) -> str:
    """The most traded symbols, as FUTU_SYMBOLS wants them."""
    return ",".join(default_symbols(count))


def recorded(recorder: Recorder, rows: int, timeout_sec: float = DEADLINE_SEC) -> None:
    """Wait until so many rows are stored."""
    wait_until(
        lambda: recorder.rows() >= rows or recorder.proc.poll() is not None,
        f"{rows} rows, there are {recorder.rows()}\n{recorder.output}",
        timeout_sec,
    )
    assert recorder.rows() >= rows, f"it ended with {recorder.proc.poll()}\n{recorder.output}"


def more_recorded(recorder: Recorder, rows: int, timeout_sec: float = DEADLINE_SEC) -> None:
    """Wait until so many rows more are stored."""
    recorded(recorder, recorder.rows() + rows, timeout_sec)


def healed(recorder: Recorder) -> None:
    """Wait for a health line, from now on, of a recorder that is connected and knows of no hole or backlog."""
    seen = len(recorder.lines)
    words = (" health connected=True ", " open_holes=0 ", " missing_ticks=0", " queue=", " spill=0 ")
    wait_until(
        lambda: any(all(word in f"{line} " for word in words) for line in recorder.lines[seen:]),
        f"a clean health line\n{recorder.output}",
    )


def count_lines(recorder: Recorder, text: str) -> int:
    return sum(text in line for line in recorder.lines[:])


def one_more_line(recorder: Recorder, text: str, seen: int, timeout_sec: float = DEADLINE_SEC) -> None:
    """Wait until ``text`` was logged more than ``seen`` times."""
    wait_until(lambda: count_lines(recorder, text) > seen, f"one more {text!r}\n{recorder.output}", timeout_sec)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program holds the write lock of this database."""
    with contextlib.closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as conn:
        conn.execute("BEGIN IMMEDIATE")
        yield
        conn.execute("ROLLBACK")


def kill_9(recorder: Recorder) -> None:
    recorder.signal(signal.SIGKILL)
    assert recorder.wait() == -signal.SIGKILL


def select(path: Path, sql: str, *values: object) -> list[Row]:
    """Rows of a day file by column name."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as conn:
        conn.row_factory = sqlite3.Row
        return [dict(row) for row in conn.execute(sql, values)]


def _extents(text: str | None) -> list[int]:
    counters: list[int] = []
    for extent in (text or "").split():
        first, _, last = extent.partition("-")
        counters += range(int(first), int(last or first) + 1)
    return counters


def day_claims(truth: Path, data_root: Path) -> list[Claim]:
    """What every day file says of every symbol that it has ticks of."""
    made: dict[tuple[str, str], set[int]] = defaultdict(set)
    for tick in read_truth(truth):
        market = venue_of(tick.symbol).market
        made[market.trading_day(tick.ts_ms), tick.symbol].add(seq_counter(tick.seq))
    claims = []
    for path in sorted(data_root.glob("????????.db")):
        day = path.stem
        gaps = select(path, "SELECT * FROM gaps ORDER BY symbol, gap_start_ts_ms")
        stored: dict[str, list[int]] = defaultdict(list)
        unsequenced: dict[str, int] = defaultdict(int)
        for row in select(path, "SELECT symbol, seq FROM ticks"):
            if row["seq"] is None:
                unsequenced[row["symbol"]] += 1
            else:
                stored[row["symbol"]].append(seq_counter(row["seq"]))
        covered = {row["symbol"]: row for row in select(path, "SELECT * FROM coverage")}
        assert set(covered) >= {*stored, *unsequenced}, f"{path.name} has ticks of symbols without coverage"
        claims += [
            Claim(
                day,
                symbol,
                row,
                [gap for gap in gaps if gap["symbol"] == symbol],
                sorted(stored[symbol]),
                unsequenced[symbol],
                made[day, symbol],
                venue_of(symbol).numbering is Numbering.DAY_COUNTER,
            )
            for symbol, row in covered.items()
            if stored[symbol] or unsequenced[symbol]
        ]
    return claims
